"""Where networks run, and how reproducibly."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import torch

from spheremap.base.choices import Precision
from spheremap.base.errors import InputError


def fast_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices faster in bfloat16 than in float32.

    Intel's processors do so with AMX alone, which virtual machines may hide: without it, a ViT-S took half as
    long again as in float32 (docs/performance.md). Without any of these instructions PyTorch crawls.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    if able.get("amx_bf16") or able.get("bf16"):
        return True
    return bool(able.get("avx512_bf16")) and not str(able.get("cpu_name", "")).startswith("Intel")


def settle_precision(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """What `auto` means on a device: bfloat16 where it multiplies matrices faster in it, else float32."""
    if precision != "auto":
        return precision
    return "bfloat16" if fast_bfloat16(device) else "float32"


def choose_device(name: str, process: int | None = None) -> torch.device:
    """The device of that name; "auto" is a GPU if there is one, else the CPU.

    Args:
        name: auto, cpu, cuda or cuda:N.
        process: number of one among those that may run side by side, counted from 0. Where the name leaves
            open which GPU, they take turns; without a number it is the first.

    Raises:
        InputError: if the name is none or the device cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and process is not None:
        name = f"cuda:{process % max(torch.cuda.device_count(), 1)}"
    try:
        device = torch.device(name)
        if device.type == "mps":
            raise RuntimeError("Apple's GPUs are not supported")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} cannot be used",
            expected="auto, cpu, cuda or cuda:N",
            found=str(error).splitlines()[0],
            fix="correct --device, or `device` in params.yaml",
        ) from error
    return device


def exact_convolutions() -> AbstractContextManager[None]:
    """Convolutions in float32 that are computed in float32, which GPUs do not by default, and repeatably."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


@contextmanager
def deterministic() -> Iterator[None]:
    """Only deterministic algorithms inside the block."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the GPU is first used
    before = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]

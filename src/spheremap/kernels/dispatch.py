"""Which implementation of a kernel runs: its definition in plain PyTorch, or the Triton programs."""

import importlib.util
import os
from typing import Literal

import torch
from torch import Tensor

from spheremap.base.errors import InputError

Backend = Literal["auto", "reference", "triton"]
BACKENDS: tuple[Backend, ...] = ("auto", "reference", "triton")
FLOATS = (torch.float16, torch.bfloat16, torch.float32)  # what the Triton programs read

# Triton has no wheels for macOS and Windows; looking for it does not load it
_TRITON_INSTALLED = importlib.util.find_spec("triton") is not None


def use_triton(backend: Backend, *tensors: Tensor) -> bool:
    """Decide how a kernel runs on some tensors, all on one device.

    `auto` takes the Triton programs on CUDA devices and the reference elsewhere, also where Triton is not
    installed or the precision is none of theirs (float64). `reference` always works. `triton` on a CPU means
    Triton's interpreter, which is for tests: it must have been asked for before Triton was loaded.

    Raises:
        InputError: if the backend is unknown, or `triton` cannot run on these tensors.
    """
    if backend not in BACKENDS:
        raise InputError("unknown backend", expected=" or ".join(BACKENDS), found=str(backend))
    if backend == "reference":
        return False
    on_cuda = all(tensor.device.type == "cuda" for tensor in tensors)
    readable = all(tensor.dtype in FLOATS for tensor in tensors if tensor.dtype.is_floating_point)
    if backend == "auto":
        return on_cuda and readable and _TRITON_INSTALLED
    if not _TRITON_INSTALLED:
        raise InputError(
            "backend 'triton' needs the package triton, which is not installed",
            fix="choose backend 'auto' or 'reference'",
        )
    if not readable:
        found = ", ".join(sorted({str(tensor.dtype) for tensor in tensors}))
        raise InputError(
            "backend 'triton' cannot read this precision",
            expected="float16, bfloat16 or float32",
            found=found,
            fix="convert the tensors, or choose backend 'auto' or 'reference'",
        )
    if not on_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        found = ", ".join(sorted({tensor.device.type for tensor in tensors}))
        raise InputError(
            "backend 'triton' needs a CUDA device",
            expected="tensors on cuda",
            found=f"tensors on {found}",
            fix="choose backend 'auto' or 'reference'; TRITON_INTERPRET=1 runs the kernels slowly on the CPU",
        )
    return True

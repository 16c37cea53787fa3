"""Which implementation of an operator runs, plain PyTorch or Triton programs, and how these are launched.

Numbers that change from call to call are not to be specialised on (`do_not_specialize`): a program would be
compiled anew when one happens to be a multiple of 16, perhaps within the capture of a graph.
"""

import contextlib
import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from spheremap.base.choices import Backend
from spheremap.base.errors import InputError

FLOATS = (torch.float16, torch.bfloat16, torch.float32)  # what the Triton programs read


class _Absent:
    """Stands for Triton where it is not installed: its programs can be defined there, and nothing else."""

    def __getattr__(self, _: str) -> "_Absent":
        return self

    def __call__(self, *_: Any, **__: Any) -> "_Absent":
        return self


# Triton has no wheels for macOS and Windows
_TRITON_INSTALLED = importlib.util.find_spec("triton") is not None
triton: Any = importlib.import_module("triton") if _TRITON_INSTALLED else _Absent()
tl: Any = importlib.import_module("triton.language") if _TRITON_INSTALLED else _Absent()


def use_triton(backend: Backend, *tensors: Tensor) -> bool:
    """Decide how an operator runs on some tensors, all on one device.

    `auto` takes the Triton programs on CUDA devices and the reference elsewhere, also where Triton is not
    installed or the precision is none of theirs (float64). `reference` always works. `triton` on a CPU means
    Triton's interpreter, which is for tests: it must have been asked for before Triton was loaded.

    Raises:
        InputError: if the backend is unknown, or `triton` cannot run on these tensors.
    """
    if backend not in get_args(Backend):
        raise InputError("unknown backend", expected=" or ".join(get_args(Backend)), found=str(backend))
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


def require_compiler() -> None:
    """Raise an InputError where Triton cannot build the C module that starts its programs on a GPU."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    header = Path(sysconfig.get_path("include"), "Python.h")
    missing = [] if compiler else ["a C compiler (gcc or clang)"]
    if not header.is_file():
        missing.append(f"Python's headers ({header})")
    if missing:
        raise InputError(
            "training on a GPU needs " + " and ".join(missing),
            fix="install them (on Debian and Ubuntu gcc and python3-dev), or set train.backend: reference",
        )


def storage_type(like: Tensor) -> torch.dtype:
    """The type in which a program writes results that shall have the type of `like`.

    Triton's interpreter, which is what runs on a CPU, cuts float32 to bfloat16 instead of rounding it.
    """
    return torch.float32 if like.dtype == torch.bfloat16 and not like.is_cuda else like.dtype


def launch(program: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Run `program` once per point of `grid` on the device of its first argument.

    Args:
        program: a function decorated with `triton.jit`.
        grid: number of programs in each of up to three dimensions; nothing runs if one is 0.
        arguments: the program's arguments, the first a tensor; tensors are made contiguous.
        options: its `constexpr` arguments and Triton's own, such as `num_warps`.
    """
    if 0 in grid:
        return
    first: Tensor = arguments[0]
    # Triton launches on the current device, whatever device the tensors are on
    with torch.cuda.device(first.device) if first.is_cuda else contextlib.nullcontext():
        program[grid](*(a.contiguous() if isinstance(a, Tensor) else a for a in arguments), **options)


@triton.jit(do_not_specialize=["programs"])
def mean_of_partials(
    partials: tl.tensor,
    means: tl.tensor,
    counts: tl.tensor,
    programs: tl.tensor,
    MEANS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per mean; `partials` `(programs, MEANS, 2)` holds sums and counts."""
    which = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float32)
    count = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, programs, BLOCK):
        program = start + tl.arange(0, BLOCK)
        at = partials + (program * MEANS + which) * 2
        total += tl.load(at, mask=program < programs, other=0.0)
        count += tl.load(at + 1, mask=program < programs, other=0.0)
    number = tl.sum(count)
    tl.store(means + which, tl.sum(total) * (1.0 / tl.maximum(number, 1.0)))
    tl.store(counts + which, number)


def reduce_partials(partials: Tensor) -> tuple[Tensor, Tensor]:
    """Means (0 where nothing counts) and counts, both `(C,)` float32, of `partials` `(P, C, 2)`.

    `partials` holds what many programs summed and counted; these are added in a fixed order, so that a run
    repeats bit by bit.
    """
    programs, count, _ = partials.shape
    means, counts = (torch.empty(count, dtype=torch.float32, device=partials.device) for _ in range(2))
    launch(
        mean_of_partials, (count,), partials, means, counts, programs,
        MEANS=count, BLOCK=1024, num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    return means, counts

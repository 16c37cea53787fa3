"""The one place where Triton programs are launched.

Numbers that change from call to call are not to be specialised on (`do_not_specialize`): a program would be
compiled anew when one happens to be a multiple of 16, perhaps within the capture of a graph.
"""

import contextlib
from typing import Any

import torch
from torch import Tensor


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
        arguments: the program's arguments, the first a tensor.
        options: its `constexpr` arguments and Triton's own, such as `num_warps`.
    """
    if 0 in grid:
        return
    first: Tensor = arguments[0]
    # Triton launches on the current device, whatever device the tensors are on
    with torch.cuda.device(first.device) if first.is_cuda else contextlib.nullcontext():
        program[grid](*arguments, **options)

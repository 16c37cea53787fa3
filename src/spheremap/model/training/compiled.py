"""How losses are computed on a device, and in which shapes: on GPUs compiled and replayed as CUDA graphs."""

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from spheremap.kernels import use_triton
from spheremap.model.head import Head
from spheremap.model.training.batches import Batch
from spheremap.model.training.config import TrainConfig
from spheremap.model.training.group import ALONE, Group
from spheremap.model.training.step import compute_losses, compute_parts, compute_share

_TOKENS, _QUERIES = 64, 4  # sizes of the packed foreground, and of the widest image, that are told apart

LossFunction = Callable[[Head, Batch, Tensor, TrainConfig, Tensor], Tensor]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def choose_losses(
    config: TrainConfig, device: torch.device, batch: int, patches: int, group: Group = ALONE
) -> tuple[LossFunction, tuple[int, int]]:
    """The function for the losses, and the `grain` to pack batches of `batch` views of `patches` patches in.

    In a group, `batch` is the size of this process's share. What the processes exchange is never compiled.

    A GPU gets the compiled function, unless the backend is `reference`; to compile takes what Triton takes.
    New shapes cost: a GPU records a graph of each, a CPU's oneDNN generates code for each, which took half of
    a step. `grain` leaves few of them, for 1 / 128 of all tokens, on average, that are computed in vain.
    """
    tokens = max(1, batch * patches // _TOKENS)
    by_graphs = device.type == "cuda" and use_triton(config.backend, torch.empty(0, device=device))
    grain = (tokens, max(1, patches // _QUERIES) if by_graphs else 1)
    if group.size > 1:
        return partial(compute_share, in_graphs(compute_parts) if by_graphs else compute_parts, group), grain
    return in_graphs(compute_losses) if by_graphs else compute_losses, grain


def in_graphs(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A function of losses, compiled together with its gradient; the next call overwrites the result."""
    return torch.compile(function, fullgraph=True, mode="reduce-overhead")

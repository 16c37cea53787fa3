"""How losses are computed on a device, and in which shapes: on GPUs compiled and replayed as CUDA graphs."""

from collections.abc import Callable

import torch
from torch import Tensor

from spheremap.head import Head
from spheremap.kernels import use_triton
from spheremap.training.batches import Batch
from spheremap.training.config import TrainConfig
from spheremap.training.step import compute_losses

_TOKENS, _QUERIES = 64, 4  # sizes of the packed foreground, and of the widest image, that are told apart

LossFunction = Callable[[Head, Batch, Tensor, TrainConfig, Tensor], Tensor]


def choose_losses(
    config: TrainConfig, device: torch.device, batch: int, patches: int
) -> tuple[LossFunction, tuple[int, int]]:
    """The function for the losses, and the `grain` to pack batches of `batch` views of `patches` patches in.

    A GPU gets the compiled function, unless the backend is `reference`; to compile takes what Triton takes.
    New shapes cost: a GPU records a graph of each, a CPU's oneDNN generates code for each, which took half of
    a step. `grain` leaves few of them, for 1 / 128 of all tokens, on average, that are computed in vain.
    """
    tokens = max(1, batch * patches // _TOKENS)
    if device.type == "cuda" and use_triton(config.backend, torch.empty(0, device=device)):
        return compile_losses(), (tokens, max(1, patches // _QUERIES))
    return compute_losses, (tokens, 1)


def compile_losses() -> LossFunction:
    """`compute_losses`, compiled together with its gradient; the next call overwrites the result."""
    return torch.compile(compute_losses, fullgraph=True, mode="reduce-overhead")

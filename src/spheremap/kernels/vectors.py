"""Vector helpers whose gradients stay finite where geometry degenerates."""

import torch
from torch import Tensor

EPSILON = 1e-6  # below this a difference of float32 unit vectors is rounding noise


def unit(x: Tensor) -> Tensor:
    """Scale vectors `(..., d)` to length one; those of (almost) no length become zero, with zero gradient."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    usable = ~(length <= EPSILON)  # true for NaN, which must show
    # the inner `where` keeps the division, the outer the result, free of 0 / 0 in both directions
    return torch.where(usable, x / torch.where(usable, length, 1.0), 0.0)


def masked_mean(x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the entries of `x` where `keep` is true, 0 where none is, and their number; without waiting."""
    count = keep.sum()
    return torch.where(keep, x, 0.0).sum() / count.clamp_min(1), count

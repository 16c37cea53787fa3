"""Descriptors of patches: vectors whose dot product says how similar two patches are."""

from collections.abc import Iterable

import torch
from torch import Tensor


def unit(vectors: Tensor) -> Tensor:
    """Vectors `(..., D)` of any precision at unit length in float32; zero vectors stay zero."""
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def at_unit_length(descriptors: Tensor) -> Tensor:
    """Descriptors `(..., D)` ready to be compared: those of float16 at unit length, others as they are."""
    return unit(descriptors) if descriptors.dtype == torch.float16 else descriptors


def interpolate(descriptors: Tensor, share: Tensor) -> Tensor:
    """Descriptors `(R, D)` of points between patches, at unit length.

    Args:
        descriptors: `(R, C, D)` of the patches about each point, mixed as they are.
        share: `(R, C)` of each in the mixture.
    """
    if descriptors.shape[1] == 1:
        return at_unit_length(descriptors[:, 0])
    return unit((descriptors.float() * share.unsqueeze(2)).sum(dim=1))


def weighted_sum(terms: Iterable[tuple[float, Tensor]]) -> Tensor:
    """Sum of one tensor or more by weight: dot products of the concatenation `[√w a, √v b, …]`."""
    weighed = [tensor if weight == 1 else weight * tensor for weight, tensor in terms if weight != 0]
    total = weighed[0]
    for term in weighed[1:]:
        total = total + term
    return total

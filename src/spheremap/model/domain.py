"""Whether an image is like those that a head was trained on, told without mask or category."""

from typing import Self

import torch
from torch import Tensor, nn

from spheremap.kernels.vectors import unit


def token_deviation(tokens: Tensor, inside: Tensor) -> Tensor:
    """How the tokens of each image vary over its patches: `(B, D)`.

    The standard deviation of each channel of the tokens at unit length, which tells drawings from photographs
    better than their mean does (docs/in-domain.md).

    Args:
        tokens: `(B, N, D)`.
        inside: `(B, N)` bool, patches of the picture itself; padding does not count.
    """
    return torch.stack([unit(of[keep].float()).std(dim=0) for of, keep in zip(tokens, inside, strict=True)])


class Domain(nn.Module):
    """The domain of a head: a subspace of summaries, and how far from it images may lie.

    Summaries of training views span a few directions; what of an image's summary lies outside them is its
    distance. Up to `limits[0]` an image is in the domain, from `limits[1]` on it is not, and between them its
    share falls from 1 to 0.

    Args:
        dim: D, width of the tokens.
        components: K, directions of the subspace.
    """

    mean: Tensor  # (D,)
    directions: Tensor  # (K, D), orthonormal, or zero
    limits: Tensor  # (2,)

    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("directions", torch.zeros(components, dim))
        self.register_buffer("limits", torch.tensor([torch.inf, torch.inf]))

    @classmethod
    def fit(cls, training: Tensor, own: Tensor, components: int) -> Self:
        """Fit to summaries.

        Args:
            training: `(n, D)` of training views. No more directions are used than an eighth of them.
            own: `(m, D)` of whole images of the same data set that were not trained on: 95 % of them are in
                the domain; what is further out by half of the way from their median to that limit is not.
            components: K.
        """
        domain = cls(training.shape[1], components)
        domain.mean = training.mean(dim=0)
        _, _, directions = torch.linalg.svd(training - domain.mean, full_matrices=False)
        used = min(components, len(training) // 8)
        domain.directions[:used] = directions[:used]
        median, inner = domain.distance(own).quantile(torch.tensor([0.5, 0.95]))
        domain.limits = torch.stack([inner, inner + (inner - median) / 2])
        return domain

    def distance(self, summaries: Tensor) -> Tensor:
        """Length `(B,)` of what lies outside the subspace."""
        offset = summaries - self.mean
        return (offset - offset @ self.directions.T @ self.directions).norm(dim=1)

    def share(self, summaries: Tensor) -> Tensor:
        """How far images belong to the domain: `(B,)`, from 0 to 1."""
        inner, outer = self.limits
        beyond = (self.distance(summaries) - inner).clamp_min(0)
        return torch.where(beyond == 0, 1.0, (1 - beyond / (outer - inner)).clamp_min(0))

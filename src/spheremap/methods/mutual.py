"""Which patches of a target look back at a keypoint: mutual nearest neighbours of dense matches, relaxed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spheremap.base.errors import InputError
from spheremap.features.geometry import Grid
from spheremap.methods.descriptors import mix
from spheremap.methods.readout import best_patch

BLOCK = 512  # target patches compared at a time with all of the source


@dataclass(frozen=True)
class Mutual:
    """Lower the similarity of patches that match some other part of the source better.

    All patches of the target are matched to the source. A patch is a candidate for a keypoint if its own best
    source patch lies within `radius` of the keypoint's patch (with radius 0 they are mutual nearest
    neighbours). All others lose `penalty`, so that a keypoint without candidates keeps its order of patches,
    at lower similarities.

    Attributes:
        radius: in patches, between centres.
        penalty: similarities lie in [-1, 1]; 2 or more puts every candidate first.
    """

    radius: float
    penalty: float

    def __post_init__(self) -> None:
        for name in ("radius", "penalty"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(
                    f"bad {name} of the mutual filter", expected="0 or more", found=str(getattr(self, name))
                )

    def lower(self, similarity: Tensor, patch: Tensor, back: Tensor, grid: Grid) -> Tensor:
        """Similarities `(K, N)` of source patches `(K,)`, less where a target patch is no candidate.

        Args:
            back: `(N,)` best source patch of each target patch, see `best_sources`.
        """
        columns = grid[1]
        rows_apart = (back // columns) - (patch // columns).unsqueeze(1)
        columns_apart = (back % columns) - (patch % columns).unsqueeze(1)
        candidate = rows_apart**2 + columns_apart**2 <= self.radius**2  # (K, N)
        return torch.where(candidate, similarity, similarity - self.penalty)


def best_sources(
    source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], weights: tuple[float, float]
) -> Tensor:
    """Most similar source patch `(N,)` of each target patch, the first of equals.

    Takes `2 N² D` operations, and memory for a block of similarities alone.

    Args:
        source, target: unit features `(N, D)` and sphere points `(N, 3)` of all patches.
        weights: of the features' and of the sphere's cosine.
    """
    features, points = source
    parts = zip(target[0].split(BLOCK), target[1].split(BLOCK), strict=True)
    return torch.cat([best_patch(mix(own @ features.T, places @ points.T, weights)) for own, places in parts])

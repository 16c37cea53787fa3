"""Which patches of a target look back at a keypoint: mutual nearest neighbours of dense matches, relaxed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spheremap.base.errors import InputError
from spheremap.features.geometry import Grid
from spheremap.methods.engine.comparison import Block, Pair
from spheremap.methods.engine.descriptors import weighted_sum
from spheremap.methods.engine.method import Method, Variant
from spheremap.methods.engine.readout import best_patch

BLOCK = 512  # target patches compared at a time with all of the source


@dataclass(frozen=True)
class Mutual(Variant):
    """Another method, with lower similarities of patches that match some other part of the source better.

    All patches of the target are matched to the source. A patch is a candidate for a keypoint if its own best
    source patch lies within `radius` of the keypoint's patch (with radius 0 they are mutual nearest
    neighbours). All others lose `penalty`, so that a keypoint without candidates keeps its order of patches,
    at lower similarities.

    Attributes:
        of: the other method.
        radius: in patches, between centres.
        penalty: similarities lie in [-1, 1]; 2 or more puts every candidate first.
    """

    of: Method
    radius: float
    penalty: float

    whole_sources = True

    def __post_init__(self) -> None:
        for name in ("radius", "penalty"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(
                    f"bad {name} of the mutual filter", expected="0 or more", found=str(getattr(self, name))
                )

    def compare(self, block: Block) -> Tensor:
        """The other method's similarities, lowered where a patch of the target is no candidate."""
        similarity = self.of.compare(block)

        def compare(pair: Pair) -> Tensor:
            back = self.best_sources(block, pair)
            return self.lower(similarity[pair.rows], block.patch[pair.rows], back, block.grid)

        return block.by_pair(compare)

    def lower(self, similarity: Tensor, patch: Tensor, back: Tensor, grid: Grid) -> Tensor:
        """Similarities `(K, N)` of source patches `(K,)`, less where a target patch is no candidate.

        Args:
            back: `(N,)` best source patch of each target patch.
        """
        columns = grid[1]
        rows_apart = (back // columns) - (patch // columns).unsqueeze(1)
        columns_apart = (back % columns) - (patch % columns).unsqueeze(1)
        candidate = rows_apart**2 + columns_apart**2 <= self.radius**2  # (K, N)
        return torch.where(candidate, similarity, similarity - self.penalty)

    def best_sources(self, block: Block, pair: Pair) -> Tensor:
        """Most similar source patch `(N,)` of each target patch by descriptors, the first of equals.

        Takes `2 N² D` operations, and memory for a block of similarities alone.
        """
        weights = [weight for weight in self.parts().values() if weight]
        parts = [part for part, weight in self.parts().items() if weight]
        sources = [block.whole(pair.source, part) for part in parts]
        blocks = zip(*(block.whole(pair.target, part).split(BLOCK) for part in parts), strict=True)
        return torch.cat(
            [
                best_patch(
                    weighted_sum(
                        (weight, own @ source.T)
                        for weight, own, source in zip(weights, targets, sources, strict=True)
                    )
                )
                for targets in blocks
            ]
        )

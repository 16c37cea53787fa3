"""Which patches of a target look back at a keypoint: mutual nearest neighbours of dense matches, relaxed."""

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from spheremap.config.fields import NotNegative
from spheremap.features.geometry import Grid
from spheremap.methods.engine.comparison import Block, Pair
from spheremap.methods.engine.method import PARAMETERS, Method, Variant
from spheremap.methods.engine.readout import best_patch
from spheremap.methods.engine.samples import whole

BLOCK = 512  # target patches compared at a time with all of the source


@dataclass(frozen=True, config=PARAMETERS)
class Mutual(Variant):
    """Another method, with lower similarities of patches that match some other part of the source better.

    All patches of the target are matched to the source. A patch is a candidate for a keypoint if its own best
    source patch lies within `radius` of the keypoint's patch (with radius 0 they are mutual nearest
    neighbours). All others lose `penalty`, so that a keypoint without candidates keeps its order of patches,
    at lower similarities.
    """

    of: Method = Field(description="The other method.")
    radius: NotNegative = Field(description="In patches, between centres.")
    penalty: NotNegative = Field(
        description="Off the similarity, which lies in [-1, 1]; 2 or more puts every candidate first."
    )

    whole_sources = True

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
        source, target = (whole(block, image, self.parts()) for image in (pair.source, pair.target))
        return torch.cat([best_patch(own @ source.T) for own in target.split(BLOCK)])

"""What guessing scores."""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from spheremap.config.fields import Seed
from spheremap.methods.engine.comparison import Block, Pair
from spheremap.methods.engine.method import PARAMETERS, Method


@dataclass(frozen=True, config=PARAMETERS)
class Chance(Method):
    """Random similarities, uniform in [0, 1).

    They depend on the seed and on the two image ids alone, not on the other pairs nor on their order.
    """

    seed: Seed = Field(description="Of the draw.")

    def parts(self) -> Mapping[Method, float]:
        """None."""
        return {}

    def compare(self, block: Block) -> Tensor:
        """Drawn for each pair."""

        def compare(pair: Pair) -> Tensor:
            shape = pair.rows.stop - pair.rows.start, block.grid[0] * block.grid[1]
            return self.draw(pair.source_id, pair.target_id, shape)

        return block.by_pair(compare)

    def draw(self, source: str, target: str, shape: tuple[int, int]) -> Tensor:
        """Similarities `(K, N)` of a pair of images."""
        key = hashlib.sha256("\0".join((str(self.seed), source, target)).encode()).digest()
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(key, "little")))
        return torch.from_numpy(generator.random(shape, dtype=np.float32))

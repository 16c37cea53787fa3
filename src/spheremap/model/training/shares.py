"""A process's share of a batch, and how much its mean losses weigh in those of the whole batch.

What a loss is divided by depends on masks, seed and step alone, and every process knows all masks: each
counts the terms of the whole batch by itself. The weighted means of all processes then add up to the means of
one process that has the whole batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spheremap.kernels import draw_key, draw_triplets
from spheremap.kernels.sphere_geometry import STREAMS
from spheremap.model.head.foreground import Foreground
from spheremap.model.losses import patch_coordinates
from spheremap.model.losses.orientation import image_turn
from spheremap.model.training.config import TrainConfig


@dataclass(frozen=True)
class Share:
    """Which views of every batch are this process's.

    Attributes:
        part: their places in the batch.
        grid: rows and columns of patches.
        config: seed, number of triplets and threshold are read.
    """

    part: slice
    grid: tuple[int, int]
    config: TrainConfig

    def weight(self, masks: NDArray[np.bool_], step: int) -> NDArray[np.float64]:
        """The share's part of the terms of each mean loss, `(3,)` in the order of `step.LOSSES`.

        Args:
            masks: `(B, N)`, of the whole batch.
            step: counted from 1; triplets depend on it.
        """
        terms = self._terms(masks, step)  # (3, B)
        return terms[:, self.part].sum(1) / np.maximum(terms.sum(1), 1)

    def _terms(self, masks: NDArray[np.bool_], step: int) -> NDArray[np.int64]:
        """By view: foreground tokens, triplets of the distance and of the orientation loss, `(3, B)`."""
        foreground = Foreground.from_masks(masks)
        key = draw_key(self.config.seed, step)
        triplets, valid = draw_triplets(
            foreground.offsets, foreground.counts, self.config.triplets, key, STREAMS.index("orientation")
        )
        turning = torch.zeros_like(valid)
        if len(foreground.patch):
            turn = image_turn(patch_coordinates(self.grid)[foreground.patch], triplets)
            turning = valid & (turn.abs() > self.config.orientation_threshold)
        by_view = [marks.view(len(masks), -1).sum(1).numpy() for marks in (valid, turning)]
        return np.stack([masks.sum(1), *by_view])

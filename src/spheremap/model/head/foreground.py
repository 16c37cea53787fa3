"""Which tokens of a batch lie on an object: the packed layout that mapper, prototypes and losses share."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Foreground:
    """Index of the M foreground tokens of a batch `(B, N, D)`, image after image.

    Built on the host, where the masks are, so that nothing on the device has to wait for a count. Where new
    shapes are costly, M is padded by entries at the end that stand for no token.

    Attributes:
        rows: `(M,)` int64, row of each foreground token in the batch flattened to `(B * N, D)`, ascending;
            -1 for padding.
        image: `(M,)` int64, the image that each belongs to; B for padding.
        patch: `(M,)` int64, its row-major patch index in that image; 0 for padding.
        counts: `(B,)` int64, foreground tokens per image; 0 where an image has none.
        offsets: `(B,)` int64, position of each image's first token among the M.
        slots: `(M,)` int64, row of each in a batch padded to `(B, width)` tokens; for padding, one that no
            token has.
        width: the largest count, or more.
    """

    rows: Tensor
    image: Tensor
    patch: Tensor
    counts: Tensor
    offsets: Tensor
    slots: Tensor
    width: int

    @classmethod
    def from_masks(cls, masks: NDArray[np.bool_], pad_to: tuple[int, int] | None = None) -> "Foreground":
        """Index the true entries of patch masks `(B, N)`, with M and width multiples of `pad_to` if given."""
        masks = np.asarray(masks, dtype=bool)
        image, patch = np.nonzero(masks)
        counts = masks.sum(axis=1)
        offsets = np.cumsum(counts) - counts
        width = int(counts.max(initial=0))
        padding = 0
        if pad_to is not None:
            padding = -len(image) % pad_to[0]
            width += pad_to[1] - width % pad_to[1]  # at least one more, so that every image has a free slot
        slots = image * width + np.arange(len(image)) - offsets[image]

        def padded(array: NDArray[np.int64], filling: int) -> Tensor:
            return torch.from_numpy(np.pad(array, (0, padding), constant_values=filling))

        return cls(
            rows=padded(image * masks.shape[1] + patch, -1),
            image=padded(image, len(masks)),
            patch=padded(patch, 0),
            counts=torch.from_numpy(counts),
            offsets=torch.from_numpy(offsets),
            slots=padded(slots, width - 1),
            width=width,
        )

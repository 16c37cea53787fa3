"""Some patches of each image, for what is estimated from a picture as a whole."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spheremap.methods.engine.comparison import Block, Images
from spheremap.methods.engine.descriptors import at_unit_length
from spheremap.methods.engine.method import Method


def evenly(among: NDArray[np.bool_], most: int) -> Tensor:
    """Patches that are true in `among` `(N,)`, or `most` of them, evenly spread over their list."""
    patches = np.flatnonzero(among)
    if len(patches) > most:
        patches = patches[((np.arange(most) + 0.5) * len(patches) / most).astype(np.int64)]
    return torch.from_numpy(patches)


def concatenated(images: Images, image: int, patches: Tensor, parts: Mapping[Method, float]) -> Tensor:
    """`[√w d, …]` of some patches `(S, D')` of one of the images, on the CPU."""
    described = (
        w**0.5 * at_unit_length(images.described(part)[image][patches]) for part, w in parts.items() if w
    )
    return torch.cat(list(described), dim=1)


def of_target(block: Block, parts: Mapping[Method, float]) -> Tensor:
    """The same of all patches of a block's target `(N, D')`, on the device."""
    return torch.cat([w**0.5 * block.whole(block.target, part) for part, w in parts.items() if w], dim=1)

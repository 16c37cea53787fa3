"""Some patches of each image, for what is estimated from a picture as a whole."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spheremap.base.errors import InputError
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
    """`[√w d, …]` of some patches `(S, D')` of one of the images, on the CPU.

    Raises:
        InputError: if there are no parts.
    """
    return _side_by_side(
        w**0.5 * at_unit_length(images.described(part)[image][patches]) for part, w in parts.items() if w
    )


def whole(block: Block, image: int, parts: Mapping[Method, float]) -> Tensor:
    """The same of all patches of an image `(N, D')` that `Block.whole` knows, on the device."""
    return _side_by_side(w**0.5 * block.whole(image, part) for part, w in parts.items() if w)


def _side_by_side(descriptors: Iterable[Tensor]) -> Tensor:
    found = list(descriptors)
    if not found:
        raise InputError(
            "a method compares the descriptors of another one, which has none",
            fix="name a method with descriptors in `of`, not one that guesses",
        )
    return torch.cat(found, dim=1)

"""The heads, a file each: `build` in NAME.py makes the head NAME that `train.head` of params.yaml chooses.

It takes the width D of the features and the number C of categories, and returns two modules:

- the mapper, from tokens `(B, N, D)` of any float type to unit vectors `(B, N, 3)`; with a `Foreground` as
  second argument, to those of its tokens alone, `(M, 3)`;
- the prototypes, from unit vectors `(M, 3)` and their categories `(M,)` int64 to features `(M, D)`.

All that they learn must be parameters (no buffers), each of which takes part. Losses, checkpoint, bundle and
methods work with any head; its name stands in the files.
"""

import importlib
from collections.abc import Callable

from torch import nn

PAPERS = "spherical_map"  # also what files hold that name no head


def find_head(name: str) -> Callable[[int, int], tuple[nn.Module, nn.Module]]:
    """The function that builds a head, with random weights."""
    return importlib.import_module(f"{__name__}.{name}").build

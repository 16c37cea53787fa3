"""What another method says of the mirror image."""

from dataclasses import dataclass

from torch import Tensor

from spheremap.methods.engine.comparison import Images
from spheremap.methods.engine.method import Method


@dataclass(frozen=True)
class Mirrored(Method):
    """Descriptors of the mirror image, laid over the image itself.

    Patch (row, column) has those of (row, columns - 1 - column) of the mirror image, which shows the same: a
    keypoint keeps its patch and, where it lies between patches, its shares of them.
    """

    of: Method

    def describe(self, images: Images) -> Tensor:
        """The other method's, mirrored back `(B, N, D)`."""
        return images.mirrored.described(self.of).unflatten(1, images.grid).flip(2).flatten(1, 2)

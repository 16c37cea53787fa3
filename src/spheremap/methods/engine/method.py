"""What a method is: how patches are described, and how descriptors are compared and places read from them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from torch import Tensor, nn

from spheremap.base.errors import InputError
from spheremap.config.fields import STRICT
from spheremap.features.geometry import Grid
from spheremap.methods.engine.readout import Readout

if TYPE_CHECKING:
    from spheremap.methods.engine.comparison import Block, Images
    from spheremap.methods.engine.fitting import Fitted, Fitting

PARAMETERS = STRICT | ConfigDict(arbitrary_types_allowed=True)  # of pydantic dataclasses that hold methods


class Method:
    """A way to find a keypoint of one image in another: a line of the results table.

    Each is a file of `spheremap.methods` with one subclass, a frozen pydantic dataclass: its fields are the
    parameters of an entry in `methods` of params.yaml, whose `kind` is the name of the file, and are
    described as those of other sections are, by typing, pydantic and `spheremap.config`. A field `of` holds
    the method, or the tuple of methods, that it is made of. A subclass overrides what it does in another way:
    `describe` for new descriptors; `parts` for a concatenation of others'; `compare` for another similarity;
    `read` for another way from similarities to a place; `untrained` and `fit` if it learns; `load` if others
    have trained it.

    Attributes:
        whole_sources: whether `compare` looks at all patches of the source, not at those of keypoints alone.
        needs: kinds of feature caches that it needs beside that of whole images: "mirrored", "blank". They
            are made if an entry of such a kind is scored, and read as `Images.mirrored` and `Images.blank`.
    """

    whole_sources: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    def untrained(self, dim: int) -> nn.Module:
        """What `fit` trains, as it is before; with other tensors it is read back from a file.

        Args:
            dim: D, width of the tokens.
        """
        raise InputError("a method does not learn", found=type(self).__name__)

    def fit(self, fitting: "Fitting") -> "Fitted":
        """Learn from training views; `describe` then finds the network in `Images.fitted`.

        Each entry of a kind that defines this is fitted by `spheremap fit`, before pairs are matched. Equal
        parameters and inputs give equal bytes; a run that was killed goes on from `fitting.state`.
        """
        raise InputError("a method does not learn", found=type(self).__name__)

    def load(self, dim: int) -> nn.Module:
        """A network that others have trained; `describe` then finds it in `Images.fitted`.

        Args:
            dim: D, width of the tokens.

        Raises:
            InputError: if it cannot be had, or takes tokens of another width.
        """
        raise InputError("a method loads no network", found=type(self).__name__)

    def describe(self, images: "Images") -> Tensor:
        """Descriptors `(B, N, D)` of all patches, on the CPU, whose dot product is the similarity.

        In float16 they may have any length and are brought to unit length when they are used, for half the
        memory; in float32 they are of unit length.
        """
        raise InputError("a method has no descriptors of its own", found=type(self).__name__)

    def parts(self) -> Mapping["Method", float]:
        """The methods d whose descriptors are concatenated, with weights w: `[√w d, …]`.

        Similarities then are sums `Σ w <d, d'>`, of which each part is computed once for all methods.
        """
        return {self: 1.0}

    def further_parts(self) -> Iterable["Method"]:
        """Other methods whose descriptors of keypoints `compare` asks a block for, beside `parts`."""
        return ()

    def summarise(self, images: "Images") -> Iterable[Tensor] | None:
        """What `compare` needs to know of each of B images as a whole, on the CPU; see `Block.summary`."""
        return None

    def compare(self, block: "Block") -> Tensor:
        """Similarity `(R, N)` of each keypoint of a block to all patches of the target."""
        return block.similarity(self.parts())

    def read(self, similarity: Tensor, best: Tensor, grid: Grid, readout: Readout) -> NDArray[np.float64]:
        """Predicted (row, column) `(R, 2)` in patches, 0 being the centre of the first one.

        Args:
            similarity: `(R, N)`, row-major over the grid.
            best: `(R,)` the most similar patch, the first of equals.
            grid: rows and columns of patches.
            readout: the protocol's way.
        """
        return readout(similarity, best, grid)

    def made_of(self) -> Iterator["Method"]:
        """All methods that it is made of, and itself."""
        of = getattr(self, "of", ())
        for method in of if isinstance(of, tuple) else (of,):
            yield from method.made_of()
        yield self


class Variant(Method):
    """A method that does one thing in another way than the method in its field `of`."""

    of: Method

    def parts(self) -> Mapping[Method, float]:
        """Those of the other method."""
        return self.of.parts()

    def compare(self, block: "Block") -> Tensor:
        """As the other method."""
        return self.of.compare(block)

    def read(self, similarity: Tensor, best: Tensor, grid: Grid, readout: Readout) -> NDArray[np.float64]:
        """As the other method."""
        return self.of.read(similarity, best, grid, readout)

"""Answers about photographs, and their forms: tables, JSON, arrays and pictures."""

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from spheremap.api.drawing import draw_points, side_by_side
from spheremap.base.errors import InputError
from spheremap.base.files import atomic_path
from spheremap.data.images import FORMATS, Photograph
from spheremap.features.cache.views import make_view
from spheremap.features.geometry import patch_of
from spheremap.report.sphere_colours import colours, interpolate, tint

PICTURE = 768  # px, longer side of a drawn photograph
_CELL = 16  # px, side of a patch in the picture of a warp
_WRITTEN = {*FORMATS, "PDF"}  # Pillow lists more, some without colour or only with another program


class Drawn(ABC):
    """An answer that notebooks show as its picture."""

    @abstractmethod
    def picture(self) -> Image.Image:
        """The answer as a picture."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.picture().save(stream, "PNG")
        return stream.getvalue()


@dataclass(frozen=True, repr=False)
class Matches(Drawn):
    """K points of the source found in the target.

    Attributes:
        source, target: the photographs.
        source_xy: `(K, 2)` the points, as (x, y) in pixels of the source.
        target_xy: method (`features`, `sphere`, `fused`) to `(K, 2)` in pixels of the target.
        similarity: method to `(K,)`, of the point and its most similar patch, in [-1, 1].
        returns: method to `(K,)`, distance in patches between the point and the place in the source that the
            most similar patch leads back to, by the same similarity: the farther, the less to be trusted.
    """

    source: Photograph
    target: Photograph
    source_xy: NDArray[np.float64]
    target_xy: Mapping[str, NDArray[np.float64]]
    similarity: Mapping[str, NDArray[np.float32]]
    returns: Mapping[str, NDArray[np.float64]]

    def __repr__(self) -> str:
        return f"<Matches of {len(self.source_xy)} points, {self.source!r} to {self.target!r}>"

    @property
    def xy(self) -> NDArray[np.float64]:
        """`(K, 2)` the answer of features and sphere fused."""
        return self.target_xy["fused"]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers under the keys source_size, target_size and points.

        A point has x and y in the source and, for each method, x and y in the target, similarity and returns.
        """
        return {
            "source_size": list(self.source.size),
            "target_size": list(self.target.size),
            "points": [
                {
                    "x": float(x),
                    "y": float(y),
                    **{
                        method: {
                            "x": float(found[k, 0]),
                            "y": float(found[k, 1]),
                            "similarity": float(self.similarity[method][k]),
                            "returns": float(self.returns[method][k]),
                        }
                        for method, found in self.target_xy.items()
                    },
                }
                for k, (x, y) in enumerate(self.source_xy)
            ],
        }

    def to_frame(self) -> pd.DataFrame:
        """One line per method and point.

        The columns: method, point (from 1), source_x, source_y, x, y, similarity, returns.
        """
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "method": method,
                        "point": np.arange(1, len(found) + 1),
                        "source_x": self.source_xy[:, 0],
                        "source_y": self.source_xy[:, 1],
                        "x": found[:, 0],
                        "y": found[:, 1],
                        "similarity": self.similarity[method],
                        "returns": self.returns[method],
                    }
                )
                for method, found in self.target_xy.items()
            ],
            ignore_index=True,
        )

    def picture(self, method: str = "fused", side: int = PICTURE) -> Image.Image:
        """Source and target side by side with numbered points, each `side` px on its longer side.

        Raises:
            InputError: if there is no such method.
        """
        if method not in self.target_xy:
            expected = ", ".join(self.target_xy)
            raise InputError("no such method", expected=expected, found=repr(method))
        source, target = (shrink(photograph, side) for photograph in (self.source, self.target))
        return side_by_side(
            draw_points(source, self.source_xy * (source.width / self.source.size[0])),
            draw_points(target, self.target_xy[method] * (target.width / self.target.size[0])),
        )


@dataclass(frozen=True, repr=False)
class Warp(Drawn):
    """A match for each of the R × C patches of the source, by features and sphere fused.

    Attributes:
        source, target: the photographs.
        source_box, target_box: `(4,)` the regions that the patches cover, each in its photograph's pixels.
        source_xy: `(R, C, 2)` centres of the source's patches; those of the padding lie outside it.
        target_xy: `(R, C, 2)` their matches, in pixels of the target.
        similarity: `(R, C)`, of the patch and the most similar one.
        mutual: `(R, C)` whether that one's own best match in the source is this patch.
        inside: `(R, C)` whether the patch's centre lies in the photograph, not in the padding.
    """

    source: Photograph
    target: Photograph
    source_box: NDArray[np.float64]
    target_box: NDArray[np.float64]
    source_xy: NDArray[np.float64]
    target_xy: NDArray[np.float64]
    similarity: NDArray[np.float32]
    mutual: NDArray[np.bool_]
    inside: NDArray[np.bool_]

    def __repr__(self) -> str:
        return f"<Warp of {self.inside.sum()} patches, {self.source!r} to {self.target!r}>"

    def save(self, path: Path) -> None:
        """Write the arrays as NPZ, under the names of the attributes, with both sizes."""
        arrays = {
            name: getattr(self, name) for name in ("source_xy", "target_xy", "similarity", "mutual", "inside")
        }
        sizes = {"source_size": np.array(self.source.size), "target_size": np.array(self.target.size)}
        # through a stream: by name, NumPy would add .npz to .NPZ
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays, **sizes)

    def picture(self, side: int = PICTURE) -> Image.Image:
        """The source and, beside it, the source laid out anew from matching patches of the target."""
        rows, columns = self.inside.shape
        size = rows * _CELL
        pixels = self.target.pixels
        height, width = pixels.shape[:2]
        unmasked = np.zeros((height, width), dtype=bool)
        view = make_view(
            pixels, unmasked, self.target.in_pixels(self.target_box), size, (rows, columns)
        ).pixels
        cells = view.reshape(rows, _CELL, columns, _CELL, 3).swapaxes(1, 2)
        patch = patch_of(self.target_xy.reshape(-1, 2), self.target_box, (rows, columns)).reshape(
            rows, columns
        )
        warped = cells[patch // columns, patch % columns].swapaxes(1, 2).reshape(size, size, 3)
        # from the square input back to the photograph
        source = shrink(self.source, side)
        (x0, y0, x1, y1), (width, height) = self.source_box, self.source.size
        left, right = ((x - x0) / (x1 - x0) * size for x in (0, width))
        top, bottom = ((y - y0) / (y1 - y0) * size for y in (0, height))
        laid_out = Image.fromarray(warped).resize(
            source.size, Image.Resampling.BICUBIC, box=(left, top, right, bottom)
        )
        return side_by_side(source, laid_out)


@dataclass(frozen=True, repr=False)
class SphereMap(Drawn):
    """A photograph's patches on the sphere.

    Attributes:
        photograph: the photograph.
        box: `(4,)` the region that the patches cover, in its pixels.
        points: `(R, C, 3)` unit vectors.
    """

    photograph: Photograph
    box: NDArray[np.float64]
    points: NDArray[np.float32]

    def __repr__(self) -> str:
        return f"<SphereMap of {self.points.shape[0]}×{self.points.shape[1]} patches, {self.photograph!r}>"

    def picture(self, mask: NDArray[np.bool_ | np.number] | None = None, side: int = PICTURE) -> Image.Image:
        """The photograph in the colours of the sphere: x, y, z are red, green, blue, as in the report.

        Args:
            mask: `(height, width)` of the photograph in full, to darken what is not the object (0 or False);
                None colours everything.
            side: longer side in pixels.

        Raises:
            InputError: if the mask has another size.
        """
        photograph = shrink(self.photograph, side)
        width, height = self.photograph.size
        x = (np.arange(photograph.width) + 0.5) * (width / photograph.width)
        y = (np.arange(photograph.height) + 0.5) * (height / photograph.height)
        xy = np.stack(np.meshgrid(x, y), axis=-1)
        grid = (self.points.shape[0], self.points.shape[1])
        colour = colours(interpolate(self.points.reshape(-1, 3), grid, self.box, xy))
        if mask is None:
            return tint(photograph, colour)
        mask = np.asarray(mask) > 0
        if mask.shape != (height, width):
            raise InputError(
                "the mask is not of its photograph's size",
                expected=f"an array ({height}, {width})",
                found=str(mask.shape),
            )
        on = Image.fromarray(mask.astype(np.uint8) * 255)
        return tint(photograph, colour, on.resize(photograph.size, Image.Resampling.BOX))


def shrink(photograph: Photograph, side: int) -> Image.Image:
    """The photograph with its longer side at `side` pixels."""
    width, height = photograph.size
    scale = side / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(photograph.pixels).resize(size, Image.Resampling.LANCZOS)


def check_picture(path: Path, expected: str = "a name in .png or .jpg") -> None:
    """Check that the suffix of a path is that of a format in which pictures are written.

    Raises:
        InputError: if it is none; it says what was `expected`.
    """
    if Image.registered_extensions().get(path.suffix.lower()) not in _WRITTEN & set(Image.SAVE):
        raise InputError("cannot write this kind of picture", where=path, expected=expected)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format of the path's suffix.

    Raises:
        InputError: if no such format can be written.
    """
    check_picture(path)
    with atomic_path(path) as temporary:
        picture.save(temporary)

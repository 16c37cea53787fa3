"""Square cut-outs of photographs, and their encoding for the page."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

PADDING = (128, 128, 128)  # beyond the photograph
JPEG_QUALITY = 85


@dataclass(frozen=True)
class Crop:
    """A square region of a photograph, in whole original pixels; it may reach beyond the photograph."""

    x0: int
    y0: int
    side: int

    @classmethod
    def around(cls, points: NDArray[np.float64], size: tuple[int, int], margin: float) -> "Crop":
        """The square around points `(K, 2)`, widened on each side by a share of it.

        It stays inside the photograph of `size` (width, height) as far as it fits and the points allow.
        """
        low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
        bare = (high - low).max()
        side = max(int(min(np.ceil(bare * (1 + 2 * margin)), max(*size, bare))), 1)
        x0, y0 = (_place(a, b, side, extent) for a, b, extent in zip(low, high, size, strict=True))
        return cls(x0, y0, side)

    def cut(self, image: Image.Image, size: int) -> Image.Image:
        """The region as a picture of `size` × `size`."""
        grey = PADDING if image.mode == "RGB" else 0
        canvas = Image.new(image.mode, (self.side, self.side), grey)
        canvas.paste(image, (-self.x0, -self.y0))
        return canvas.resize((size, size), Image.Resampling.LANCZOS)

    def place(self, xy: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """Where points `(K, 2)` of the photograph lie in the cut-out."""
        return (xy - (self.x0, self.y0)) * (size / self.side)

    def grid(self, size: int) -> NDArray[np.float64]:
        """Where the pixel centres of the cut-out lie in the photograph: `(size, size, 2)` as (x, y)."""
        steps = (np.arange(size) + 0.5) * (self.side / size)
        x, y = np.meshgrid(self.x0 + steps, self.y0 + steps)
        return np.stack([x, y], axis=-1)


def _place(low: float, high: float, side: int, extent: int) -> int:
    """Where a side starts that holds `[low, high]`, centred on it, inside `[0, extent]` if it can be."""
    centred, last = (low + high - side) / 2, extent - side
    start = last / 2 if last <= 0 else min(max(centred, 0), last)
    return round(min(max(start, high - side), low))


def box_corners(box: ArrayLike) -> NDArray[np.float64]:
    """The corners `(2, 2)` of a box (x1, y1, x2, y2)."""
    return np.asarray(box, dtype=np.float64).reshape(2, 2)


def data_uri(image: Image.Image) -> str:
    """A picture as a `data:` address: JPEG, or PNG where it is transparent."""
    buffer = io.BytesIO()
    if image.mode == "RGBA":
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"

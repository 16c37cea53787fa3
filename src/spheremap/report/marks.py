"""Numbered marks on photographs."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SMOOTH = 2  # pictures are marked at this multiple of their size, then reduced
Colour = tuple[int, int, int]


class Canvas:
    """Marks on a picture, in sizes relative to it.

    Attributes:
        step: between marks that just do not overlap, in pixels.
    """

    def __init__(self, picture: Image.Image, radius: float) -> None:
        """Draw on a picture, with marks of `radius` as a share of its longer side."""
        self._picture = picture
        self._draw = ImageDraw.Draw(picture)
        self._radius = max(picture.size) * radius
        self._line = max(round(self._radius / 10), 1)
        self._font = ImageFont.load_default(self._radius * 1.4)
        self.step = 2.1 * self._radius

    def disc(self, xy: NDArray[np.float64], colour: Colour, text: str) -> None:
        """A numbered disc; near the border it is moved inside."""
        xy = self._inside(xy)
        self._draw.ellipse(self._around(xy, 1.0), fill=colour, outline="white", width=self._line)
        self._draw.text((xy[0], xy[1]), text, fill="white", font=self._font, anchor="mm")

    def square(self, xy: NDArray[np.float64], colour: Colour, text: str) -> None:
        """A numbered square; near the border it is moved inside."""
        xy = self._inside(xy)
        self._draw.rectangle(self._around(xy, 0.9), fill=colour, outline="white", width=self._line)
        self._draw.text((xy[0], xy[1]), text, fill="white", font=self._font, anchor="mm")

    def arrow(self, start: NDArray[np.float64], end: NDArray[np.float64], colour: Colour) -> None:
        """A line that ends in a ring."""
        line = (*start, *end)
        self._draw.line(line, fill="white", width=3 * self._line)
        self._draw.line(line, fill=colour, width=2 * self._line)
        self._draw.ellipse(self._around(end, 0.62), outline="white", width=3 * self._line)
        self._draw.ellipse(self._around(end, 0.55), outline=colour, width=2 * self._line)

    def reduced(self) -> Image.Image:
        """The picture at its final size."""
        size = self._picture.width // SMOOTH, self._picture.height // SMOOTH
        return self._picture.resize(size, Image.Resampling.LANCZOS)

    def _inside(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        room = self._radius + self._line
        return np.clip(xy, room, np.maximum(room, np.subtract(self._picture.size, room)))

    def _around(self, xy: NDArray[np.float64], scale: float) -> tuple[float, float, float, float]:
        radius = self._radius * scale
        return xy[0] - radius, xy[1] - radius, xy[0] + radius, xy[1] + radius


def apart(xy: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Places `(K, 2)`, with those that coincide moved apart to a row of that step."""
    _, group = np.unique(xy.round(3), axis=0, return_inverse=True)
    moved = xy.copy()
    for number in range(len(xy)):
        members = np.flatnonzero(group.reshape(-1) == number)
        moved[members, 0] += (np.arange(len(members)) - (len(members) - 1) / 2) * step
    return moved

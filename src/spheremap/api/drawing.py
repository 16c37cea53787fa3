"""Photographs with numbered points."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spheremap.report.marks import SMOOTH, Canvas, apart

# Okabe and Ito's colours, which people of any colour vision can tell apart, without yellow and black
_COLOURS = [(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233)]
_RADIUS = 0.016  # of a mark, as a share of the longer side


def draw_points(picture: Image.Image, xy: NDArray[np.float64]) -> Image.Image:
    """A picture with points `(K, 2)` numbered from 1.

    One outside is drawn at the border, and those that coincide stand side by side.
    """
    enlarged = picture.resize((picture.width * SMOOTH, picture.height * SMOOTH), Image.Resampling.BICUBIC)
    canvas = Canvas(enlarged, _RADIUS)
    for number, place in enumerate(apart(xy * SMOOTH, canvas.step)):
        canvas.disc(place, _COLOURS[number % len(_COLOURS)], str(number + 1))
    return canvas.reduced()


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures with a gap, top to top."""
    gap = max(left.width, right.width) // 60 + 1
    both = Image.new("RGB", (left.width + gap + right.width, max(left.height, right.height)), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + gap, 0))
    return both

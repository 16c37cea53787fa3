"""Photographs with numbered points."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's colours, which people of any colour vision can tell apart, without yellow and black
_COLOURS = [(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233)]
_SMOOTH = 2  # drawn larger, then reduced


def draw_points(picture: Image.Image, xy: NDArray[np.float64]) -> Image.Image:
    """A picture with points `(K, 2)` numbered from 1.

    One outside is drawn at the border, and those that coincide stand side by side.
    """
    size = picture.size
    canvas = picture.resize((size[0] * _SMOOTH, size[1] * _SMOOTH), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    radius = max(canvas.size) * 0.016
    font = ImageFont.load_default(radius * 1.4)
    low = np.full(2, radius)
    for number, place in enumerate(_beside(np.asarray(xy) * _SMOOTH, 2.1 * radius)):
        x, y = np.clip(place, low, np.maximum(low, np.subtract(canvas.size, radius)))
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius),
            fill=_COLOURS[number % len(_COLOURS)],
            outline="white",
            width=_SMOOTH,
        )
        draw.text((x, y), str(number + 1), fill="white", font=font, anchor="mm")
    return canvas.resize(size, Image.Resampling.LANCZOS)


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures with a gap, top to top."""
    gap = max(left.width, right.width) // 60 + 1
    both = Image.new("RGB", (left.width + gap + right.width, max(left.height, right.height)), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + gap, 0))
    return both


def _beside(xy: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Places `(K, 2)`, those that coincide moved apart to a row of that step."""
    _, group = np.unique(xy.round(3), axis=0, return_inverse=True)
    moved = xy.copy()
    for members in (np.flatnonzero(group.reshape(-1) == g) for g in range(int(group.max()) + 1)):
        moved[members, 0] += (np.arange(len(members)) - (len(members) - 1) / 2) * step
    return moved

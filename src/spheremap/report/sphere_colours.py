"""Positions on the sphere as colours, so that the same colour means the same part."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from spheremap.features.geometry import Grid
from spheremap.report.pictures import Crop

_OVERLAY = 0.85  # share of the colour on the object; the rest is the photograph, in grey
_BACKGROUND = 0.30  # share of the photograph off the object
_BACKDROP = 0.20  # grey level that it fades to in the report


def colours(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Unit vectors `(..., 3)` to sRGB `(..., 3)` in [0, 1]: x, y and z are red, green and blue.

    Neighbours get similar colours and opposite points complementary ones.
    """
    return (np.asarray(points, dtype=np.float64) + 1) / 2


def interpolate(
    points: NDArray[np.floating], grid: Grid, box: NDArray[np.float64], xy: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sphere points at any place of a photograph, smooth between patch centres.

    Args:
        points: `(N, 3)` unit vectors of the patches.
        grid: rows and columns of patches.
        box: the region of the photograph that the patches cover.
        xy: `(H, W, 2)` places in original pixels; outside the box the nearest patch counts.

    Returns:
        `(H, W, 3)` unit vectors; zeros where neighbours cancel out.
    """
    volume = torch.from_numpy(np.asarray(points, dtype=np.float64)).T.reshape(1, 3, *grid)
    low, high = box[:2], box[2:]
    where = torch.from_numpy((np.asarray(xy) - low) / (high - low) * 2 - 1)[None]
    found = torch.nn.functional.grid_sample(
        volume, where, mode="bicubic", padding_mode="border", align_corners=False
    )
    return torch.nn.functional.normalize(found[0], dim=0).permute(1, 2, 0).numpy()


def draw_map(
    photograph: Image.Image,
    mask: NDArray[np.bool_] | None,
    points: NDArray[np.floating],
    grid: Grid,
    box: NDArray[np.float64],
    crop: Crop,
    size: int,
) -> Image.Image:
    """A photograph coloured by position on the sphere.

    Args:
        photograph: RGB.
        mask: `(height, width)` of the object, to fade the background; None colours everything.
        points: `(N, 3)` of all patches, as the mapper gives them: no mask has touched them.
        grid: rows and columns of patches.
        box: the region that they cover.
        crop: the region to draw.
        size: side of the drawing in pixels.
    """
    colour = colours(interpolate(points, grid, box, crop.grid(size)))
    cut = None if mask is None else crop.cut(Image.fromarray(mask.astype(np.uint8) * 255), size)
    return tint(crop.cut(photograph, size), colour, cut, _BACKDROP)


def tint(
    photograph: Image.Image,
    colour: NDArray[np.float64],
    mask: Image.Image | None = None,
    backdrop: float = 0.0,
) -> Image.Image:
    """A photograph in given colours `(H, W, 3)`; off the mask (grey, 255 on the object) it fades.

    `backdrop` is the grey level in [0, 1] that it fades to.
    """
    grey = np.asarray(photograph.convert("L"), dtype=np.float64)[..., None] / 255
    drawn = _OVERLAY * colour + (1 - _OVERLAY) * grey
    if mask is not None:
        share = np.asarray(mask)[..., None] / 255
        drawn = share * drawn + (1 - share) * (_BACKGROUND * grey + (1 - _BACKGROUND) * backdrop)
    return Image.fromarray((drawn * 255).round().clip(0, 255).astype(np.uint8))


def draw_legend(size: int) -> Image.Image:
    """The sphere in its colours, as seen from +z and from -z, side by side; transparent around."""
    smooth = 3  # drawn larger, then reduced
    steps = (np.arange(size * smooth) + 0.5) / (size * smooth) * 2 - 1
    x, y = np.meshgrid(steps * 1.02, -steps * 1.02)
    height = np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))
    inside = (x**2 + y**2 <= 1).astype(np.float64)[..., None]
    halves = [
        np.concatenate([colours(np.stack([sign * x, y, sign * height], axis=-1)), inside], axis=-1)
        for sign in (1, -1)
    ]
    gap = np.zeros((size * smooth, size * smooth // 8, 4))
    both = np.concatenate([halves[0], gap, halves[1]], axis=1)
    image = Image.fromarray((both * 255).round().astype(np.uint8), "RGBA")
    return image.resize((image.width // smooth, size), Image.Resampling.BOX)

"""The one place that knows how pixels and patches relate.

Every record of a feature cache carries a `box` (x0, y0, x1, y1) in original pixels: the region that was
resized onto the whole network input. Padding makes the box larger than the image, so that x0 and y0 may be
negative; of a mirrored view x0 is the right edge, and x1 the left one. Pixel coordinates are continuous: the
image spans [0, width] × [0, height].
"""

import numpy as np
from numpy.typing import NDArray

Grid = tuple[int, int]  # rows, columns of patches


def square_box(width: int, height: int) -> NDArray[np.float64]:
    """The smallest square around an image, centred on it, as a box `(4,)`."""
    side = max(width, height)
    x0, y0 = (width - side) / 2, (height - side) / 2
    return np.array([x0, y0, x0 + side, y0 + side], dtype=np.float64)


def pixel_box(width: int, height: int, side: int) -> NDArray[np.float64]:
    """A square of `side` pixels around an image, as a box `(4,)` of whole numbers.

    It is centred on the image, to half a pixel up and left where the middle lies between two.
    """
    x0, y0 = (width - side) // 2, (height - side) // 2
    return np.array([x0, y0, x0 + side, y0 + side], dtype=np.float64)


def patch_of(xy: NDArray[np.floating], box: NDArray[np.floating], grid: Grid) -> NDArray[np.int64]:
    """Row-major index `(K,)` of the patch that each point `(K, 2)` falls in, clamped to the grid."""
    rows, columns = grid
    x0, y0, x1, y1 = np.asarray(box, dtype=np.float64)
    xy = np.asarray(xy, dtype=np.float64)
    column = np.clip(np.floor((xy[:, 0] - x0) / (x1 - x0) * columns), 0, columns - 1).astype(np.int64)
    row = np.clip(np.floor((xy[:, 1] - y0) / (y1 - y0) * rows), 0, rows - 1).astype(np.int64)
    return row * columns + column


def patch_centres(box: NDArray[np.floating], grid: Grid) -> NDArray[np.float64]:
    """Centres `(rows * columns, 2)` of all patches as (x, y) in original pixels, row-major."""
    rows, columns = grid
    x0, y0, x1, y1 = np.asarray(box, dtype=np.float64)
    x = x0 + (np.arange(columns) + 0.5) / columns * (x1 - x0)
    y = y0 + (np.arange(rows) + 0.5) / rows * (y1 - y0)
    return np.stack([np.tile(x, rows), np.repeat(y, columns)], axis=1)


def patches_of_picture(
    box: NDArray[np.floating], grid: Grid, size: tuple[float, float] | NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Patches `(rows * columns,)` that show a picture of this (width, height) rather than padding.

    Those whose centres lie in it; the nearest ones where it is so narrow that none does.
    """
    centres = patch_centres(box, grid)
    beyond = np.maximum(-centres, centres - np.asarray(size)).max(axis=1).clip(min=0)
    return np.asarray(beyond <= beyond.min())

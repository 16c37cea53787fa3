"""Which tokens describe a keypoint of the source: its patch's, or a bilinear mixture of the nearest four."""

import numpy as np
from numpy.typing import NDArray

from spheremap.config.scoring import Sampling
from spheremap.features.geometry import Grid, patch_of


def sample_patches(
    xy: NDArray[np.floating], box: NDArray[np.floating], grid: Grid, sampling: Sampling
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Patches `(K, C)` and their shares `(K, C)` in the descriptor of each point `(K, 2)`; C is 1 or 4.

    "patch" takes the patch that the point falls in. "bilinear" weights the four patches whose centres
    surround the point, as if the map of tokens were upsampled bilinearly and read there; beyond the outermost
    centres the map goes on unchanged (`align_corners=False` in PyTorch).

    Args:
        box: region `(x0, y0, x1, y1)` that the grid covers, in the unit of the points.
    """
    if sampling == "patch":
        return patch_of(xy, box, grid)[:, None], np.ones((len(xy), 1), dtype=np.float32)
    x0, y0, x1, y1 = np.asarray(box, dtype=np.float64)
    rows, columns = grid
    xy = np.asarray(xy, dtype=np.float64)
    left, right, of_right = _between((xy[:, 0] - x0) / (x1 - x0) * columns - 0.5, columns)
    upper, lower, of_lower = _between((xy[:, 1] - y0) / (y1 - y0) * rows - 0.5, rows)
    patches = np.stack([row * columns + column for row in (upper, lower) for column in (left, right)], axis=1)
    shares = [v * h for v in (1 - of_lower, of_lower) for h in (1 - of_right, of_right)]
    return patches, np.stack(shares, axis=1).astype(np.float32)


def _between(
    position: NDArray[np.float64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The two neighbours of positions on a line of `count` places, and the share of the second."""
    position = np.clip(position, 0, count - 1)
    first = np.floor(position).astype(np.int64)
    return first, np.minimum(first + 1, count - 1), position - first

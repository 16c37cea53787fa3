"""Where matching goes wrong: by difference of viewpoint, and by confusing parts of the same object."""

import numpy as np
from numpy.typing import NDArray

from spheremap.data.viewpoint_bins import UNKNOWN


def azimuth_gap(source: NDArray[np.int64], target: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """Circular distance in bins, 0 to bins // 2; `UNKNOWN` if either bin is."""
    step = np.abs(source - target)
    gap = np.minimum(step, bins - step)
    return np.where((source == UNKNOWN) | (target == UNKNOWN), UNKNOWN, gap)


def lands_on_another(
    predicted: NDArray[np.float64],
    landmarks: NDArray[np.float64],
    radius: NDArray[np.float64],
    right: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Repeated-part confusion: a wrong prediction that would be right for another keypoint of the target.

    A prediction is confused if it is not within the radius of its own keypoint but strictly within the radius
    of some other keypoint visible in the target, whether or not that one is visible in the source.

    Args:
        predicted: `(Q, 2)`.
        landmarks: `(Q, L, 2)` all keypoints visible in the target, NaN as padding; a query's own among them.
        radius: `(Q, A)`.
        right: `(Q, A)` whether the prediction is within the radius of its own keypoint.

    Returns:
        `(Q, A)`.
    """
    distance = np.sqrt(((predicted[:, None] - landmarks) ** 2).sum(axis=2))  # (Q, L)
    nearest = np.where(np.isnan(distance), np.inf, distance).min(axis=1, initial=np.inf)
    return ~right & (nearest[:, None] < radius)

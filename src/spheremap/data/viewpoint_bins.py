"""Coarse viewpoints: the one place that knows which bin an azimuth falls in."""

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1


def azimuth_bin(azimuth: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Viewpoint bin `(n,)` of azimuths in degrees, bin 0 centred on 0°; `UNKNOWN` for NaN.

    An azimuth midway between two centres belongs to the next one.
    """
    known = ~np.isnan(azimuth)
    result = np.full(azimuth.shape, UNKNOWN, dtype=np.int64)
    result[known] = np.floor(azimuth[known] * bins / 360 + 0.5).astype(np.int64) % bins
    return result


def bin_centre(azimuth: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """The coarse viewpoint label `(n,)`: centre in radians of the bin of azimuths in degrees; NaN for NaN."""
    centre = np.radians(azimuth_bin(azimuth, bins) * (360 / bins))
    return np.where(np.isnan(azimuth), np.nan, centre)


def azimuth_gap(source: NDArray[np.int64], target: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """Circular distance of two bins, 0 to bins // 2; `UNKNOWN` if either bin is."""
    step = np.abs(source - target)
    gap = np.minimum(step, bins - step)
    return np.where((source == UNKNOWN) | (target == UNKNOWN), UNKNOWN, gap)

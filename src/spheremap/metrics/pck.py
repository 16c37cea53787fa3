"""Percentage of correct keypoints (PCK): closer to the truth than α · max(width, height) of the target box.

Only keypoints visible in both images count. Three averages are in use in the literature and differ by points,
so each has its own function here: per point (pooled), per image (pair) and per category.
"""

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.generic]


def distances(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distances `(Q,)` between points `(Q, 2)`, in pixels."""
    difference = predicted - truth
    return np.sqrt((difference**2).sum(axis=-1))


def radii(box_side: NDArray[np.float64], alphas: tuple[float, ...]) -> NDArray[np.float64]:
    """Radii `(Q, A)` around the truth, from the longer side `(Q,)` of each target box."""
    return box_side[:, None] * np.array(alphas)


def correct(distance: NDArray[np.float64], radius: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points `(Q, A)` are right: strictly closer than the radius `(Q, A)`; `distance` is `(Q,)`."""
    return distance[:, None] < radius


def pck_point(right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Percent `(A,)` of all points `(Q, A)`, pooled over pairs and categories; NaN without points."""
    return percent(right.sum(axis=0), len(right))


def pck_image(right: NDArray[np.bool_], pair: Labels) -> NDArray[np.float64]:
    """Mean over image pairs of the pair's percentage; `pair` `(Q,)` labels the points."""
    return _macro(right, pair)


def pck_category(right: NDArray[np.bool_], category: Labels) -> NDArray[np.float64]:
    """Mean over categories of the category's percentage of points (pooled within it)."""
    return _macro(right, category)


def _macro(right: NDArray[np.bool_], label: Labels) -> NDArray[np.float64]:
    if len(right) == 0:
        return np.full(right.shape[1], np.nan)
    _, group = np.unique(label, return_inverse=True)
    shares = np.zeros((group.max() + 1, right.shape[1]))
    np.add.at(shares, group, right)
    shares /= np.bincount(group)[:, None]
    return 100 * shares.mean(axis=0)


def percent(count: NDArray[np.integer], total: int) -> NDArray[np.float64]:
    """`100 * count / total`, NaN where the total is zero."""
    return 100 * count / total if total else np.full(np.shape(count), np.nan)

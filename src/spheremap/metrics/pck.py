"""Percentage of correct keypoints (PCK): closer to the truth than α · max(width, height) of the target box.

Only keypoints visible in both images count. Three averages are in use in the literature and differ by points,
so each has its own function here: per point (pooled), per image (pair) and per category. They take, for P
pairs, how many points are right `(P, A)` at A thresholds, how many there are `(P,)`, and weights `(b, P)`.
"""

import numpy as np
from numpy.typing import NDArray

from spheremap.metrics.answers import Answers, Floats, Statistic, macro, percent


def statistic(answers: Answers) -> Statistic:
    """PCK in percent in its three averages."""
    right, points = answers.per_pair(answers.right), answers.points

    def values(weights: Floats) -> dict[str, Floats]:
        return {
            "pck_point": per_point(right, points, weights),
            "pck_image": per_image(right, points, weights),
            "pck_category": per_category(right, points, answers.pairs_by_category, weights),
        }

    return values


def per_point(right: Floats, points: Floats, weights: Floats) -> Floats:
    """Percent `(b, A)` of all points, pooled over pairs and categories."""
    return percent(weights @ right, weights @ points)


def per_image(right: Floats, points: Floats, weights: Floats) -> Floats:
    """Mean over image pairs of the pair's percentage; pairs without points do not count."""
    share = np.divide(right, points[:, None], out=np.zeros_like(right), where=points[:, None] > 0)
    return percent(weights @ share, weights @ (points > 0).astype(np.float64))


def per_category(right: Floats, points: Floats, members: list[NDArray[np.bool_]], weights: Floats) -> Floats:
    """Mean over categories of the percentage of points of their pairs, `members` `(P,)`."""
    return macro([per_point(right[own], points[own], weights[:, own]) for own in members])


def distances(predicted: Floats, truth: Floats) -> Floats:
    """Euclidean distances `(Q,)` between points `(Q, 2)`, in pixels."""
    difference = predicted - truth
    return np.sqrt((difference**2).sum(axis=-1))


def radii(box_side: Floats, alphas: tuple[float, ...]) -> Floats:
    """Radii `(Q, A)` around the truth, from the longer side `(Q,)` of each target box."""
    return box_side[:, None] * np.array(alphas)


def correct(distance: Floats, radius: Floats) -> NDArray[np.bool_]:
    """Which points `(Q, A)` are right: strictly closer than the radius `(Q, A)`; `distance` is `(Q,)`."""
    return distance[:, None] < radius

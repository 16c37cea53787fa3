"""Keypoint average precision (KAP), the protocol of Mariotti et al. 2024.

PCK looks only at keypoints visible in both images and only at the best patch. KAP also asks whether the
similarity tells a true correspondence from a false one: a keypoint hidden in the target must score low
everywhere, and the left wheel must not score as high as the right one.

For every keypoint visible in the source, take its similarities to all target patches, min-max normalised over
all such rows of the image pair. Visible in the target: the highest similarity inside the radius is one
positive, the highest outside one negative. Not visible: the highest of all is one negative. Per category, KAP
is the average precision of the pooled scores.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NONE = -np.inf  # the score that does not exist: nothing inside, or nothing outside


def inside_radius(
    xy: NDArray[np.float64], points: NDArray[np.float64], radius: tuple[float, ...]
) -> NDArray[np.bool_]:
    """Which patches count as showing a keypoint.

    Args:
        xy: keypoints `(K, 2)` in the target; NaN where not visible.
        points: the places `(N, 2)` where patches are taken to be.
        radius: A radii in the same unit.

    Returns:
        `(A, K, N)`: closer than the radius, and always the nearest patch (the first one of a tie). Nothing
        for a keypoint that is not visible.
    """
    difference = xy[:, None] - points  # (K, N, 2)
    distance = np.sqrt((difference**2).sum(axis=2))
    inside = distance < np.array(radius)[:, None, None]
    visible = np.flatnonzero(~np.isnan(xy[:, 0]))
    inside[:, visible, distance[visible].argmin(axis=1)] = True
    return inside


def extremes(similarity: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Highest similarity inside and outside, `(A, R)` each, of `(R, N)` by masks `(A, R, N)`; or NONE."""
    positive = [torch.where(mask, similarity, NONE).amax(dim=1) for mask in inside]
    negative = [torch.where(mask, NONE, similarity).amax(dim=1) for mask in inside]
    return torch.stack(positive), torch.stack(negative)


def normalise(
    score: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    first: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Min-max normalise scores per pair, as if all its similarities had been normalised before.

    Args:
        score: `(..., Q)`; NONE stays NONE.
        low: `(Q,)` lowest similarity of each row, `high` the highest.
        first: `(P + 1,)` rows of pair p: first[p] to first[p + 1], none empty.

    Returns:
        Scores in [0, 1]; 0 throughout a pair whose similarities are all equal.
    """
    counts = np.diff(first)
    lowest = np.repeat(np.minimum.reduceat(low, first[:-1]), counts)
    span = np.repeat(np.maximum.reduceat(high, first[:-1]), counts) - lowest
    return np.where(
        np.isneginf(score), NONE, np.where(span > 0, (score - lowest) / np.where(span > 0, span, 1), 0)
    )


def average_precision(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Area under the precision-recall steps: `Σ (R_n − R_{n−1}) P_n`, distinct thresholds, highest first.

    Equal scores enter together. NaN if nothing is positive.
    """
    if not positive.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    score, positive = score[order], positive[order]
    last_of_tie = np.append(score[1:] != score[:-1], True)
    found = np.cumsum(positive)[last_of_tie]
    retrieved = np.flatnonzero(last_of_tie) + 1
    recall_gain = np.diff(found, prepend=0) / found[-1]
    return float((recall_gain * found / retrieved).sum())


@dataclass(frozen=True)
class Kap:
    """KAP in percent: by category, and its two means over the categories where it is defined."""

    by_category: dict[str, float]  # NaN where no keypoint is visible in both images of a pair
    macro: float  # every category counts the same
    pair: float  # every category counts by its number of pairs


def kap(
    positive: NDArray[np.float64],
    negative: NDArray[np.float64],
    category: NDArray[np.object_],
    pair: NDArray[np.int64],
) -> Kap:
    """KAP of normalised scores.

    Args:
        positive: `(Q,)` score of each query's positive, NONE without one; `negative` likewise.
        category: `(Q,)`.
        pair: `(Q,)` label of the image pair.
    """
    values: dict[str, float] = {}
    pairs: dict[str, int] = {}
    for name in sorted(set(category.tolist())):
        here = category == name
        scores = np.concatenate([positive[here], negative[here]])
        labels = np.repeat([True, False], here.sum())
        exists = ~np.isneginf(scores)
        values[name] = 100 * average_precision(scores[exists], labels[exists])
        pairs[name] = len(np.unique(pair[here]))
    defined = [name for name, value in values.items() if not np.isnan(value)]
    if not defined:
        return Kap(values, float("nan"), float("nan"))
    macro = float(np.mean([values[name] for name in defined]))
    weighted = float(
        np.average([values[name] for name in defined], weights=[pairs[name] for name in defined])
    )
    return Kap(values, macro, weighted)

"""What metrics are computed from, and the form that each has."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

DECIMALS = 6  # of published percentages and pixels
Floats = NDArray[np.float64]
# weights (b, P) of the pairs (how often each was drawn, or 1 and 0 for whether it is of a category) to values
# (b, A) by the metrics' names, NaN where they are undefined
Statistic = Callable[[Floats], dict[str, Floats]]


@dataclass(frozen=True)
class Answers:
    """What a method answered to Q queries in P pairs; C of them ask for points visible in both images.

    Attributes:
        category: `(P,)` of each pair.
        pair: `(Q,)` pair of each query.
        common: `(Q,)` which are visible in both images.
        right: `(C, A)` whether a prediction is right at each of A thresholds.
        confused: `(C, A)` whether it lies on another keypoint.
        nearer_to_mirror: `(C,)` whether a prediction is nearer to the mirror keypoint.
        mirror_visible: `(C,)` whether the target shows that one.
        counted: `(C,)` which points are scored.
        positive: `(A, Q)` normalised score of the best patch inside the radius, -inf where there is none;
            None where similarities are not known.
        negative: `(A, Q)` that of the best patch outside.
    """

    category: NDArray[np.object_]
    pair: NDArray[np.int64]
    common: NDArray[np.bool_]
    right: NDArray[np.bool_]
    confused: NDArray[np.bool_]
    nearer_to_mirror: NDArray[np.bool_]
    mirror_visible: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    positive: Floats | None
    negative: Floats | None

    def per_pair(self, of_points: NDArray[np.generic]) -> Floats:
        """Sums `(P, …)` over each pair of what its counted points `(C, …)` have."""
        result = np.zeros((len(self.category), *of_points.shape[1:]))
        np.add.at(result, self.pair[self.common][self.counted], of_points[self.counted].astype(np.float64))
        return result

    def of_pairs(self, pairs: NDArray[np.bool_]) -> "Answers":
        """Those of some pairs `(P,)`."""
        own = pairs[self.pair]
        points = own[self.common]
        by_point = ("right", "confused", "nearer_to_mirror", "mirror_visible", "counted")
        return Answers(
            category=self.category[pairs],
            pair=(np.cumsum(pairs) - 1)[self.pair[own]],
            common=self.common[own],
            positive=None if self.positive is None else self.positive[:, own],
            negative=None if self.negative is None else self.negative[:, own],
            **{name: getattr(self, name)[points] for name in by_point},
        )

    def of_points(self, points: NDArray[np.bool_]) -> "Answers":
        """Those of which some points `(C,)` alone are counted."""
        return replace(self, counted=self.counted & points)

    @cached_property
    def points(self) -> Floats:
        """Common points `(P,)` of each pair."""
        return self.per_pair(np.ones(len(self.right)))

    @cached_property
    def pairs_by_category(self) -> list[NDArray[np.bool_]]:
        """The pairs `(P,)` of each category."""
        return [self.category == name for name in sorted(set(self.category.tolist()))]


def macro(values: list[Floats], weights: list[Floats] | None = None) -> Floats:
    """Mean over groups of `(b, A)` values where they are defined, by weights `(b,)` if given; else NaN."""
    stacked = np.stack(values)
    by = np.ones_like(stacked)
    if weights is not None:
        by = np.broadcast_to(np.stack(weights)[..., None], stacked.shape)
    by = np.where(np.isnan(stacked), 0.0, by)
    total = by.sum(axis=0)
    summed = (np.nan_to_num(stacked) * by).sum(axis=0)
    return np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0)


def percent(part: Floats, whole: Floats) -> Floats:
    """`100 part / whole`, `(b, A)` of `(b,)`; NaN where the whole is zero."""
    whole = np.broadcast_to(whole[:, None], part.shape)
    return 100 * np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)

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

from spheremap.metrics.answers import Answers, Floats, Statistic, macro

MISSING = -np.inf  # the score that does not exist: nothing inside, or nothing outside


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


@dataclass(frozen=True)
class Inside:
    """The patches inside any of A radii about R keypoints, M at most: a sparse form of `inside_radius`.

    Attributes:
        patches: `(R, M)` int64; rows with fewer patches repeat their first one, rows without any hold 0.
        within: `(A, R, M)` which of them lie inside each radius; false where a row has none.
        visible: `(R,)` whether the row has any patch, as keypoints visible in the target have.
    """

    patches: Tensor
    within: Tensor
    visible: Tensor

    @classmethod
    def of(cls, inside: NDArray[np.bool_]) -> "Inside":
        """Gather masks `(A, R, N)`."""
        union: NDArray[np.bool_] = np.any(inside, axis=0)
        counts = union.sum(axis=1)
        row, patch = np.nonzero(union)
        start = np.cumsum(counts) - counts
        column = np.arange(len(row)) - start[row]
        patches = np.zeros((len(union), max(int(counts.max(initial=0)), 1)), dtype=np.int64)
        visible = counts > 0
        patches[visible] = patch[start[visible], None]
        patches[row, column] = patch
        within = np.stack([np.take_along_axis(mask, patches, axis=1) for mask in inside])
        return cls(*map(torch.from_numpy, (patches, within, visible)))

    def rows(self, index: Tensor, device: torch.device | str) -> "Inside":
        """Those of other rows, on a device."""
        return Inside(
            self.patches[index].to(device), self.within[:, index].to(device), self.visible[index].to(device)
        )


def extremes(similarity: Tensor, high: Tensor, inside: Inside) -> tuple[Tensor, Tensor]:
    """Highest similarity inside and outside of each radius, `(A, R)` each; MISSING where there is no patch.

    The similarities `(R, N)` are read once, whatever the number of radii.

    Args:
        high: `(R,)` highest similarity of each row.
    """
    near = similarity.gather(1, inside.patches)  # (R, M)
    far = similarity.scatter(1, inside.patches, MISSING).amax(dim=1)  # outside all radii
    far = torch.where(inside.visible, far, high)
    positive = torch.where(inside.within, near, MISSING).amax(dim=2)
    between = torch.where(inside.within | ~inside.visible[:, None], MISSING, near).amax(dim=2)
    return positive, torch.maximum(between, far)


def normalise(
    score: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], first: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Min-max normalise scores per pair, as if all its similarities had been normalised before.

    Args:
        score: `(..., Q)`; MISSING stays MISSING.
        low: `(Q,)` lowest similarity of each row, `high` the highest.
        first: `(P + 1,)` rows of pair p: first[p] to first[p + 1], none empty.

    Returns:
        Scores in [0, 1]; 0 throughout a pair whose similarities are all equal.
    """
    counts = np.diff(first)
    lowest = np.repeat(np.minimum.reduceat(low, first[:-1]), counts)
    span = np.repeat(np.maximum.reduceat(high, first[:-1]), counts) - lowest
    return np.where(
        np.isneginf(score), MISSING, np.where(span > 0, (score - lowest) / np.where(span > 0, span, 1), 0)
    )


class RankedScores:
    """Pooled scores in order, for average precision under any multiplicity of the pairs they come from."""

    def __init__(
        self, score: NDArray[np.float64], positive: NDArray[np.bool_], pair: NDArray[np.int64]
    ) -> None:
        """Rank `(n,)` scores with their labels and the columns of their pairs."""
        order = np.argsort(-score, kind="stable")
        score, positive, self._pair = score[order], positive[order], pair[order]
        last_of_tie = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: len(score)])
        found = np.flatnonzero(positive)
        # equal scores enter together: a positive counts with all down to the last of its tie
        self._last = last_of_tie[np.searchsorted(last_of_tie, found)]
        self._last_found = np.searchsorted(found, self._last, side="right") - 1
        self._pair_found = self._pair[found]

    def average_precision(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Area `(b,)` under the precision-recall steps, `Σ (R_n − R_{n−1}) P_n`, from the highest score down.

        Equal scores enter together. Weights `(b, pairs)` count each score as often as its pair was drawn. NaN
        where no positive was.
        """
        if not len(self._last):
            return np.full(len(times), np.nan)
        exact_in_single = times.max(initial=0) * len(self._pair) < 2**24
        times = times.astype(np.float32 if exact_in_single else np.float64)
        retrieved = np.cumsum(np.take(times, self._pair, axis=1), axis=1)
        weight = np.take(times, self._pair_found, axis=1)
        found = np.cumsum(weight, axis=1)
        total = found[:, -1].astype(np.float64)
        precision = np.take(found, self._last_found, axis=1).astype(np.float64)
        precision /= np.maximum(np.take(retrieved, self._last, axis=1), 1)
        area = np.einsum("bi,bi->b", weight.astype(np.float64), precision)
        return np.divide(area, total, out=np.full(len(times), np.nan), where=total > 0)


def statistic(answers: Answers) -> Statistic:
    """KAP in percent: its mean over the categories that have one, and that mean by their pairs.

    Nothing where similarities are not known.
    """
    if answers.positive is None:
        return lambda weights: {}
    ranked = [_by_alpha(answers, own) for own in answers.pairs_by_category]

    def values(weights: Floats) -> dict[str, Floats]:
        by_category = [
            100 * np.stack([scores.average_precision(weights[:, own]) for scores in by_alpha], axis=1)
            for own, by_alpha in zip(answers.pairs_by_category, ranked, strict=True)
        ]
        pairs = [weights[:, own].sum(axis=1) for own in answers.pairs_by_category]
        return {"kap": macro(by_category), "kap_pair": macro(by_category, pairs)}

    return values


def _by_alpha(answers: Answers, pairs: NDArray[np.bool_]) -> list[RankedScores]:
    """Scores of some pairs `(P,)` at each threshold."""
    own, column = pairs[answers.pair], (np.cumsum(pairs) - 1)[answers.pair]
    labels, columns = np.repeat([True, False], own.sum()), np.tile(column[own], 2)
    result = []
    assert answers.positive is not None
    assert answers.negative is not None
    for positive, negative in zip(answers.positive, answers.negative, strict=True):
        score = np.concatenate([positive[own], negative[own]])
        exists = ~np.isneginf(score)
        result.append(RankedScores(score[exists], labels[exists], columns[exists]))
    return result

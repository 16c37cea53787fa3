"""What to show: methods, pictures and pairs by rule and seed, or openly the best and the worst pairs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

FEW = 5  # methods that a page of many shows until the reader chooses


def choose_methods(methods: Sequence[str], compared: Sequence[str], baseline: str) -> list[str]:
    """Those shown at first: the compared ones and the baseline, and the first of the others up to `FEW`."""
    chosen = list(dict.fromkeys((*compared, baseline, *methods)))[:FEW]
    return [method for method in methods if method in chosen]


def choose_views(images: pd.DataFrame, count: int, seed: int) -> list[str]:
    """Pictures of one category seen from all sides.

    The k-th picture is the one whose azimuth is nearest to `k * 360° / count`; among equals a seeded draw
    decides. Pictures of unknown azimuth come last. None is shown twice.

    Args:
        images: rows of the canonical table, columns image_id and azimuth.
        count: how many, fewer if there are not so many.
        seed: of the draw.

    Returns:
        Image ids in order of azimuth.
    """
    images = images.sort_values("image_id")
    images = images.iloc[np.random.default_rng(seed).permutation(len(images))]
    azimuth = images["azimuth"].to_numpy(dtype=np.float64)
    free = np.ones(len(images), dtype=bool)
    chosen: list[int] = []
    for k in range(min(count, len(images))):
        distance = np.abs((azimuth - k * 360 / count + 180) % 360 - 180)
        distance = np.where(np.isnan(distance), 360.0, distance)
        best = int(np.where(free, distance, np.inf).argmin())
        free[best] = False
        chosen.append(best)
    return [str(name) for name in images.iloc[chosen].sort_values("azimuth", kind="stable")["image_id"]]


def choose_pairs(pairs: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Pairs spread evenly over the azimuth gaps and, within them, over the categories.

    The gaps that occur are visited in ascending order at equal steps. For each visit the category shown least
    often so far gives a pair of that gap, by seeded draw.

    Args:
        pairs: columns source, target, category and gap (in bins, -1 = unknown).
        count: how many, fewer if there are not so many.
        seed: of the draw.

    Returns:
        The chosen rows in order of gap.
    """
    pairs = pairs.sort_values(["source", "target"], ignore_index=True)
    pairs = pairs.iloc[np.random.default_rng(seed).permutation(len(pairs))].reset_index(drop=True)
    count = min(count, len(pairs))
    gaps = np.sort(pairs["gap"].unique())
    visits = np.linspace(0, len(gaps) - 1, count).round().astype(int)
    shown = dict.fromkeys(sorted(pairs["category"].unique()), 0)
    free = np.ones(len(pairs), dtype=bool)
    chosen: list[int] = []
    for visit in visits:
        # a gap may have run out of pairs: then the nearest one that has not
        distance = np.abs(pairs["gap"].to_numpy() - gaps[visit])
        rank = distance * len(pairs) + pairs["category"].map(shown).to_numpy()
        best = int(np.where(free, rank, np.iinfo(np.int64).max).argmin())
        free[best] = False
        shown[pairs["category"].iloc[best]] += 1
        chosen.append(best)
    return pairs.iloc[chosen].sort_values("gap", kind="stable", ignore_index=True)


def choose_extremes(predictions: pd.DataFrame, count: int, alpha: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pairs of the most and of the fewest right predictions.

    Pairs are ordered by the share of their points that are right; the mean error, cut at 1, decides among
    equals, then the image ids. No picture is shown twice among the best, nor among the worst. Pairs of less
    than half as many points as the average pair are left out: a single point is right or wrong by luck.

    Args:
        predictions: of one method: source, target and error of each point.
        count: how many of each, fewer if there are not so many; no pair is both.
        alpha: a point is right if its error is below.

    Returns:
        Best and worst pairs, columns source and target, the most extreme first.
    """
    points = predictions.assign(right=predictions["error"] < alpha, error=predictions["error"].clip(upper=1))
    pairs = points.groupby(["source", "target"], sort=True).agg(
        right=("right", "mean"), error=("error", "mean"), points=("error", "size")
    )
    pairs = pairs[pairs["points"] >= pairs["points"].mean() / 2].reset_index()
    pairs = pairs.sort_values(["right", "error"], ascending=[False, True], kind="stable", ignore_index=True)
    half = len(pairs) // 2  # the middle one of an odd number is neither
    best = _distinct(pairs.iloc[:half], count)
    worst = _distinct(pairs.iloc[len(pairs) - half :].iloc[::-1], count)
    return best, worst


def _distinct(pairs: pd.DataFrame, count: int) -> pd.DataFrame:
    """The first pairs that share no picture."""
    shown: set[str] = set()
    chosen: list[int] = []
    for i, (source, target) in enumerate(pairs[["source", "target"]].itertuples(index=False)):
        if len(chosen) == count:
            break
        if not {source, target} & shown:
            shown |= {source, target}
            chosen.append(i)
    return pairs.iloc[chosen][["source", "target"]].reset_index(drop=True)

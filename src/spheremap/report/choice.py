"""Which pictures and pairs to show: by rule and seed, never by how well they came out."""

import numpy as np
import pandas as pd


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

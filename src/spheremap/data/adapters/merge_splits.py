"""Splits of another data set: to test where one cannot train, or to train where one cannot test.

AP-10K has no viewpoints to learn from; Freiburg Cars has no keypoints to score. Together with splits of
SPair-71k each makes a whole data set, which everything downstream treats as any other.
"""

from collections.abc import Sequence

import pandas as pd

from spheremap.base.errors import InputError
from spheremap.data.tables import SPLITS, Tables


def merge_splits(
    own: Tables, other: Tables, splits: Sequence[str], categories: Sequence[str] | None = None, *, where: str
) -> Tables:
    """Add splits of another data set to one that does not have them.

    Args:
        own: tables of the data set.
        other: tables of the other data set.
        splits: the splits to take.
        categories: only pairs between images of these; None for all.
        where: name of the entry in params.yaml, for errors.

    Raises:
        InputError: if a split is there already, nothing is found to take, or both know an image by one name.
    """
    there = sorted(set(own.pairs["split"]) & set(splits), key=SPLITS.index)
    if there:
        raise InputError(
            "the data set has these splits itself",
            where=where,
            expected="splits without pairs",
            found=", ".join(there),
            fix="take them out of borrow.splits",
        )
    pairs = other.pairs[other.pairs["split"].isin(splits)]
    if categories is not None:
        category = other.images.set_index("image_id")["category"]
        for end in ("source", "target"):
            pairs = pairs[pairs[end].map(category).isin(categories)]
    missing = [split for split in splits if split not in set(pairs["split"])]
    if missing:
        raise InputError(
            "the other data set has no such pairs",
            where=where,
            expected="pairs of the split " + " and of ".join(missing),
            found="none" if categories is None else f"none of {', '.join(categories)}",
            fix="correct borrow.splits or borrow.categories",
        )
    named = set(pairs["source"]) | set(pairs["target"])
    clash = sorted(named & set(own.images["image_id"]))
    if clash:
        raise InputError(
            "two data sets know an image by the same name",
            where=where,
            expected="different image ids",
            found=f"{clash[0]}, {len(clash)} in all",
        )
    images = other.images[other.images["image_id"].isin(named)].copy()
    images["split"] = [
        "+".join(split for split in text.split("+") if split in splits) for text in images["split"]
    ]
    keypoints = other.keypoints[other.keypoints["image_id"].isin(named)]
    return Tables(
        images=pd.concat([own.images, images], ignore_index=True),
        keypoints=pd.concat([own.keypoints, keypoints], ignore_index=True),
        pairs=pd.concat([own.pairs, pairs], ignore_index=True),
    )

"""Splits of another data set: to test where one cannot train, or to train where one cannot test.

AP-10K has no viewpoints to learn from; Freiburg Cars has no keypoints to score. Together with splits of
SPair-71k each makes a whole data set, which everything downstream treats as any other.
"""

from collections.abc import Sequence

import pandas as pd

from spheremap.data.adapter_tools import refusal
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
        InputError: if a split is there already, a category is not, nothing is found to take, or both know an
            image by one name.
    """
    there = sorted(set(own.pairs["split"]) & set(splits), key=SPLITS.index)
    if there:
        problem, fix = "the data set has these splits itself", "take them out of borrow.splits"
        raise refusal(problem, where, "splits without pairs", ", ".join(there), fix)
    pairs = other.pairs[other.pairs["split"].isin(splits)]
    if categories is not None:
        if unknown := sorted(set(categories) - set(other.categories)):
            problem, fix = "the other data set has no such category", "correct borrow.categories"
            raise refusal(problem, where, f"of {', '.join(other.categories)}", ", ".join(unknown), fix)
        category = other.images.set_index("image_id")["category"]
        for end in ("source", "target"):
            pairs = pairs[pairs[end].map(category).isin(categories)]
    missing = [split for split in splits if split not in set(pairs["split"])]
    if missing:
        expected = "pairs of the split " + " and of ".join(missing)
        found = "none" if categories is None else f"none of {', '.join(categories)}"
        fix = "correct borrow.splits or borrow.categories"
        raise refusal("the other data set has no such pairs", where, expected, found, fix)
    named = set(pairs["source"]) | set(pairs["target"])
    clash = sorted(named & set(own.images["image_id"]))
    if clash:
        problem, found = "two data sets know an image by the same name", f"{clash[0]}, {len(clash)} in all"
        raise refusal(problem, where, "different image ids", found, "rename the images of one of them")
    images = other.images[other.images["image_id"].isin(named)].copy()
    images["split"] = ["+".join(s for s in text.split("+") if s in splits) for text in images["split"]]
    keypoints = other.keypoints[other.keypoints["image_id"].isin(named)]
    both = ((own.images, images), (own.keypoints, keypoints), (own.pairs, pairs))
    all_images, all_keypoints, all_pairs = (pd.concat(frames, ignore_index=True) for frames in both)
    return Tables(all_images, all_keypoints, all_pairs)

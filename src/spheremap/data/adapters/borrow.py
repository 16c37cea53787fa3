"""Splits taken from another data set: to test where one cannot train, or to train where one cannot test.

AP-10K has no viewpoints to learn from; Freiburg Cars has no keypoints to score. Together with splits of
SPair-71k each makes a whole data set, which everything downstream treats as any other.
"""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from spheremap.base.errors import InputError
from spheremap.data.tables import SPLITS, Tables

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Loan:
    """What to take.

    Attributes:
        splits: the splits taken; the borrower must not have them itself.
        categories: only pairs between images of these; None for all.
    """

    splits: list[Split]
    categories: list[str] | None = None


def borrow(own: Tables, lender: Tables, loan: Loan, where: str) -> Tables:
    """Join a data set with splits of another one.

    Args:
        own: tables of the data set that borrows.
        lender: tables of the one that lends.
        loan: what to take.
        where: name of the entry, for messages.

    Raises:
        InputError: if a split is there already, nothing is found to take, or both know an image by one name.
    """
    there = sorted(set(own.pairs["split"]) & set(loan.splits), key=SPLITS.index)
    if there:
        raise InputError(
            "the data set has these splits itself",
            where=where,
            expected="splits without pairs to borrow",
            found=", ".join(there),
            fix="take them out of borrow.splits",
        )
    category = lender.images.set_index("image_id")["category"]
    pairs = lender.pairs[lender.pairs["split"].isin(loan.splits)]
    if loan.categories is not None:
        wanted = [pairs[end].map(category).isin(loan.categories) for end in ("source", "target")]
        pairs = pairs[wanted[0] & wanted[1]]
    missing = [split for split in loan.splits if split not in set(pairs["split"])]
    if missing:
        raise InputError(
            "there is nothing to borrow",
            where=where,
            expected="pairs of the split " + " and of ".join(missing),
            found="none" if loan.categories is None else f"none of {', '.join(loan.categories)}",
        )
    named = set(pairs["source"]) | set(pairs["target"])
    images = lender.images[lender.images["image_id"].isin(named)].copy()
    images["split"] = [
        "+".join(split for split in text.split("+") if split in loan.splits) for text in images["split"]
    ]
    clash = sorted(named & set(own.images["image_id"]))
    if clash:
        raise InputError(
            "two data sets know an image by the same name",
            where=where,
            expected="different image ids",
            found=", ".join(clash[:4]) + (f" and {len(clash) - 4} more" if len(clash) > 4 else ""),
        )
    keypoints = lender.keypoints[lender.keypoints["image_id"].isin(named)]
    return Tables(
        images=pd.concat([own.images, images], ignore_index=True),
        keypoints=pd.concat([own.keypoints, keypoints], ignore_index=True),
        pairs=pd.concat([own.pairs, pairs], ignore_index=True),
    )

"""Splits taken from another data set."""

import pandas as pd
import pytest
from world import image_row, keypoint_row

from spheremap.base.errors import InputError
from spheremap.data.adapters.borrow import Loan, borrow
from spheremap.data.tables import Tables, validate


def tables(prefix: str, splits: list[str], categories: tuple[str, ...] = ("car", "cow")) -> Tables:
    """Two images for each category and split, a pair of each two, a keypoint on each."""
    images, keypoints, pairs = [], [], []
    for split in splits:
        for category in categories:
            names = [f"{category}/{prefix}-{split}-{i}" for i in range(2)]
            images += [{**image_row(name, 20, 10, (1, 1, 9, 9)), "split": split} for name in names]
            keypoints += [keypoint_row(name, "0", (5.0, 5.0)) for name in names]
            pairs.append({"split": split, "source": names[0], "target": names[1]})
    return Tables(pd.DataFrame(images), pd.DataFrame(keypoints), pd.DataFrame(pairs))


def test_splits_are_joined(tmp_path) -> None:
    own, lender = tables("own", ["test"]), tables("lent", ["train", "val", "test"])
    joined = borrow(own, lender, Loan(["train", "val"]), "here")
    validate(joined, tmp_path)
    assert joined.pairs["split"].value_counts().to_dict() == {"test": 2, "train": 2, "val": 2}
    of_split = joined.pairs.groupby("split")["source"].agg(list)
    assert all("own" in name for name in of_split["test"])
    assert all("lent" in name for name in of_split["train"] + of_split["val"])
    assert len(joined.images) == len(joined.keypoints) == 12
    assert set(joined.keypoints["image_id"]) == set(joined.images["image_id"])


def test_categories_can_be_chosen(tmp_path) -> None:
    joined = borrow(tables("own", ["train"]), tables("lent", ["test"]), Loan(["test"], ["car"]), "here")
    validate(joined, tmp_path)
    lent = joined.images[joined.images["image_id"].str.contains("lent")]
    assert set(lent["category"]) == {"car"}
    assert len(lent) == 2


def test_a_pair_is_borrowed_if_both_its_images_are_of_the_categories(tmp_path) -> None:
    lender = tables("lent", ["test"])
    lender.pairs.loc[len(lender.pairs)] = ["test", "car/lent-test-0", "cow/lent-test-0"]
    joined = borrow(tables("own", ["train"]), lender, Loan(["test"], ["car"]), "here")
    validate(joined, tmp_path)
    lent = joined.pairs[joined.pairs["split"] == "test"]
    assert lent[["source", "target"]].to_numpy().tolist() == [["car/lent-test-0", "car/lent-test-1"]]


def test_an_image_of_several_splits_is_lent_for_those_asked_for() -> None:
    lender = tables("lent", ["train"])
    lender.images["split"] = "train+test"
    joined = borrow(tables("own", ["test"]), lender, Loan(["train"]), "here")
    assert set(joined.images["split"]) == {"train", "test"}


def test_what_cannot_be_borrowed() -> None:
    own, lender = tables("own", ["train", "test"]), tables("lent", ["train", "val"])
    with pytest.raises(InputError, match=r"has these splits itself[\s\S]*found: train"):
        borrow(own, lender, Loan(["train", "val"]), "here")
    with pytest.raises(InputError, match=r"nothing to borrow[\s\S]*none of dog"):
        borrow(own, lender, Loan(["val"], ["dog"]), "here")
    with pytest.raises(InputError, match=r"nothing to borrow[\s\S]*split test"):
        borrow(tables("own", ["val"]), lender, Loan(["test"]), "here")
    same = tables("same", ["val"])
    with pytest.raises(InputError, match=r"same name[\s\S]*car/same-val-0"):
        borrow(Tables(same.images, same.keypoints, own.pairs), same, Loan(["val"]), "here")

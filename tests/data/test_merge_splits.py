"""Splits of two data sets in one."""

import pandas as pd
import pytest
from world import image_row, keypoint_row

from spheremap.base.errors import InputError
from spheremap.data.adapters.merge_splits import merge_splits
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
    own, other = tables("own", ["test"]), tables("other", ["train", "val", "test"])
    joined = merge_splits(own, other, ["train", "val"], where="here")
    validate(joined, tmp_path)
    assert joined.pairs["split"].value_counts().to_dict() == {"test": 2, "train": 2, "val": 2}
    of_split = joined.pairs.groupby("split")["source"].agg(list)
    assert all("own" in name for name in of_split["test"])
    assert all("other" in name for name in of_split["train"] + of_split["val"])
    assert len(joined.images) == len(joined.keypoints) == 12
    assert set(joined.keypoints["image_id"]) == set(joined.images["image_id"])


def test_categories_can_be_chosen(tmp_path) -> None:
    joined = merge_splits(
        tables("own", ["train"]), tables("other", ["test"]), ["test"], ["car"], where="here"
    )
    validate(joined, tmp_path)
    other = joined.images[joined.images["image_id"].str.contains("other")]
    assert set(other["category"]) == {"car"}
    assert len(other) == 2


def test_a_pair_is_taken_if_both_its_images_are_of_the_categories(tmp_path) -> None:
    other = tables("other", ["test"])
    other.pairs.loc[len(other.pairs)] = ["test", "car/other-test-0", "cow/other-test-0"]
    joined = merge_splits(tables("own", ["train"]), other, ["test"], ["car"], where="here")
    validate(joined, tmp_path)
    other = joined.pairs[joined.pairs["split"] == "test"]
    assert other[["source", "target"]].to_numpy().tolist() == [["car/other-test-0", "car/other-test-1"]]


def test_an_image_of_several_splits_is_taken_for_those_asked_for() -> None:
    other = tables("other", ["train"])
    other.images["split"] = "train+test"
    joined = merge_splits(tables("own", ["test"]), other, ["train"], where="here")
    assert set(joined.images["split"]) == {"train", "test"}


def test_what_cannot_be_merged() -> None:
    own, other = tables("own", ["train", "test"]), tables("other", ["train", "val"])
    with pytest.raises(InputError, match=r"has these splits itself[\s\S]*found: train"):
        merge_splits(own, other, ["train", "val"], where="here")
    with pytest.raises(InputError, match=r"no such pairs[\s\S]*none of dog"):
        merge_splits(own, other, ["val"], ["dog"], where="here")
    with pytest.raises(InputError, match=r"no such pairs[\s\S]*split test"):
        merge_splits(tables("own", ["val"]), other, ["test"], where="here")
    same = tables("same", ["val"])
    with pytest.raises(InputError, match=r"same name[\s\S]*car/same-val-0"):
        merge_splits(Tables(same.images, same.keypoints, own.pairs), same, ["val"], where="here")

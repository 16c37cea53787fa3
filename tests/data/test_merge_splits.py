"""Splits of two data sets in one."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from data_checks import refusal
from world import image_row, keypoint_row

from spheremap.data.merge_splits import merge_splits
from spheremap.data.tables import Tables, validate


def tables(prefix: str, *splits: str) -> Tables:
    """Two cars and two cows for each split, a pair of each two, a keypoint on each."""
    images, keypoints, pairs = [], [], []
    for split in splits:
        for category in ("car", "cow"):
            names = [f"{category}/{prefix}-{split}-{i}" for i in range(2)]
            images += [{**image_row(name, 20, 10, (1, 1, 9, 9)), "split": split} for name in names]
            keypoints += [keypoint_row(name, "0", (5.0, 5.0)) for name in names]
            pairs.append({"split": split, "source": names[0], "target": names[1]})
    return Tables(pd.DataFrame(images), pd.DataFrame(keypoints), pd.DataFrame(pairs))


def merge(own: Tables, other: Tables, *options: Any) -> Tables:
    merged = merge_splits(own, other, *options, where="here")
    validate(merged, Path())
    return merged


def test_splits_are_joined() -> None:
    joined = merge(tables("own", "test"), tables("other", "train", "val", "test"), ["train", "val"])
    assert joined.pairs["split"].value_counts().to_dict() == {"test": 2, "train": 2, "val": 2}
    of_split = joined.pairs.groupby("split")["source"].agg(list)
    assert all("own" in name for name in of_split["test"])
    assert all("other" in name for name in of_split["train"] + of_split["val"])
    assert len(joined.images) == len(joined.keypoints) == 12
    assert set(joined.keypoints["image_id"]) == set(joined.images["image_id"])


def test_a_pair_is_taken_if_both_its_images_are_of_the_categories() -> None:
    other = tables("other", "test")
    other.pairs.loc[len(other.pairs)] = ["test", "car/other-test-0", "cow/other-test-0"]
    joined = merge(tables("own", "train"), other, ["test"], ["car"])
    cars = ["car/other-test-0", "car/other-test-1"]
    assert joined.pairs_of("test")[["source", "target"]].to_numpy().tolist() == [cars]
    assert joined.images.query("split == 'test'")["image_id"].tolist() == cars


def test_an_image_of_several_splits_is_taken_for_those_asked_for() -> None:
    other = tables("other", "train")
    other.images["split"] = "train+test"
    assert set(merge(tables("own", "test"), other, ["train"]).images["split"]) == {"train", "test"}


@pytest.mark.parametrize(
    ("own", "options", "parts"),
    [
        (tables("own", "train", "test"), [["train", "val"]], ["has these splits itself", "found: train"]),
        (tables("own", "train", "test"), [["val"], ["car", "dog"]], ["no such category", "found: dog"]),
        (tables("own", "val"), [["test"]], ["no such pairs", "split test"]),
    ],
)
def test_what_cannot_be_merged(own: Tables, options: list[Any], parts: list[str]) -> None:
    with refusal(*parts):
        merge(own, tables("other", "train", "val"), *options)


def test_two_images_of_the_same_name() -> None:
    same = tables("same", "val")
    own = Tables(same.images, same.keypoints, tables("own", "train").pairs)
    with refusal("same name", "car/same-val-0"):
        merge(own, same, ["val"])

"""The adapter for AwA-Pose, and its reader of pickles."""

import math
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_checks import assert_same, refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts_awa_pose import ANNOTATIONS, ENTRY, IMAGES, MISSING, write_annotation, write_awa_pose
from small_sets import DataSet

from spheremap.data.adapters.awa_pose import ANIMALS, KEYPOINT_NAMES
from spheremap.data.pickles import MAX_PICKLE_BYTES, read_pickle

NAME = "antelope/antelope_10001"


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Two animals with four pictures each, the fourth of which shows two of them."""
    write_awa_pose(tmp_path / "set")
    return DataSet(tmp_path / "set", {**ENTRY, "root": str(tmp_path / "set")})


def annotation(data: DataSet) -> Path:
    """The first one."""
    return data.folder / ANNOTATIONS / f"{NAME}.pickle"


def edit(data: DataSet, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the first annotation."""
    record = pickle.loads(annotation(data).read_bytes())
    change(record)
    write_annotation(data.folder, NAME, record)


# --- reading ------------------------------------------------------------------------------------------------


def test_reads_every_column(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    tables = data.read()
    names = [f"{a}/{a}_1000{i}" for a in ("antelope", "german+shepherd") for i in (1, 2, 3)]
    rows = tables.images
    assert rows["image_id"].tolist() == rows["instance"].tolist() == names
    assert rows["path"].tolist() == [f"{data.folder}/{IMAGES}/{name}.jpg" for name in names]
    assert rows["category"].tolist() == ["antelope"] * 3 + ["german+shepherd"] * 3
    assert set(rows["split"]) == {"test"}
    assert set(rows["mask_path"]) == {""}
    assert rows["azimuth"].isna().all()
    assert rows["width"].tolist() == [80, 84, 88] * 2
    record = pickle.loads(annotation(data).read_bytes())["a1"]
    assert rows.loc[0, ["x1", "y1", "x2", "y2"]].tolist() == record["bbox"]
    points = tables.keypoints[tables.keypoints["image_id"] == NAME].set_index("name")
    for name in KEYPOINT_NAMES:
        if record[name] != MISSING:
            assert points.loc[name, ["x", "y"]].tolist() == record[name]
            assert points.loc[name, "keypoint_id"] == str(KEYPOINT_NAMES.index(name))
    assert points["visible"].sum() == sum(record[name] != MISSING for name in KEYPOINT_NAMES)
    # antlers are annotated in no picture of this data set, so no image has rows of them
    assert "left_antler_end" not in points.index
    assert "2 pictures with several animals left out" in capsys.readouterr().err


def test_names_are_those_of_the_repository() -> None:
    assert len(KEYPOINT_NAMES) == len(set(KEYPOINT_NAMES)) == 39
    assert len(ANIMALS) == len(set(ANIMALS)) == 35
    assert KEYPOINT_NAMES[0] == "nose"
    assert KEYPOINT_NAMES[-1] == "body_middle_left"
    # the order of class_names.txt, where paw stands before knee on one side only
    assert KEYPOINT_NAMES.index("front_right_paw") < KEYPOINT_NAMES.index("front_right_knee")
    assert KEYPOINT_NAMES.index("front_left_knee") < KEYPOINT_NAMES.index("front_left_paw")


def test_pairs_within_and_across_animals(data: DataSet) -> None:
    tables = data.read()
    category = tables.images.set_index("image_id")["category"]

    def same(pairs: Any) -> set[bool]:
        return set((pairs["source"].map(category) == pairs["target"].map(category)).tolist())

    assert len(tables.pairs) == 12
    assert same(tables.pairs) == {True}
    across = data.read(pairs="across").pairs
    assert len(across) == 18
    assert same(across) == {False}
    few = data.read(max_pairs=4)
    assert len(few.pairs) == 4
    assert data.read(max_pairs=4).pairs.equals(few.pairs)
    # only images in pairs are kept
    assert set(few.images["image_id"]) == set(few.pairs["source"]) | set(few.pairs["target"])
    data.refused("no two pictures form a pair", "min_shared_keypoints", min_shared_keypoints=39)


def test_categories_are_chosen(data: DataSet) -> None:
    assert set(data.read(categories=["antelope"]).images["category"]) == {"antelope"}
    data.refused("an animal has no annotations", "bobcat", "`categories`", categories=None)


def test_boxes_that_cannot_be_used_as_they_are(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    def box() -> list[float]:
        rows = data.read().images.set_index("image_id")
        return [float(v) for v in rows.loc[NAME, ["x1", "y1", "x2", "y2"]]]

    about = box()  # the fixture draws it about the keypoints
    edit(data, lambda r: r["a1"].update(bbox=[-5.5, 3, 900, 59.5]))
    assert box() == [0, 3, 80, 59.5]
    assert "about the keypoints" not in capsys.readouterr().err
    for bad in ([-1, -1, -1, -1], [10, 10, -1, 20], [40, 10, 20, 30], [200, 5, 300, 30], [5, 5, 5, 9]):
        edit(data, lambda r, bad=bad: r["a1"].update(bbox=bad))
        assert box() == about
        assert "1 boxes that are missing or empty" in capsys.readouterr().err
    edit(data, lambda r: r["a1"].pop("bbox"))
    assert box() == about

    # a single keypoint, in the corner: a box of one pixel that stays in the picture
    only = dict.fromkeys(KEYPOINT_NAMES, MISSING) | {"nose": [80, 60]}
    edit(data, lambda r: r.update(a1=only))
    assert box() == [79, 59, 80, 60]


def test_pictures_without_keypoints_are_left_out(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    edit(data, lambda r: r.update(a1={"bbox": [1, 2, 3, 4], "nose": [5, -1]}))
    assert NAME not in set(data.read().images["image_id"])
    assert "1 pictures without a keypoint" in capsys.readouterr().err


def test_keypoints_outside_the_picture(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    edit(data, lambda r: r["a1"].update(nose=[81, 5]))
    data.refused(f"{NAME}.pickle", "'nose'", "x <= 80", "outside: hide")
    points = data.read(outside="hide").keypoints.set_index(["image_id", "name"])
    assert points.loc[(NAME, "nose"), "visible"] == 0
    assert math.isnan(points.loc[(NAME, "nose"), "x"])
    assert "1 keypoints outside their pictures hidden" in capsys.readouterr().err


def test_entries_that_are_not_animals(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    edit(data, lambda r: r.update(image="antelope_10001.jpg"))
    assert NAME in set(data.read().images["image_id"])
    assert "1 entries that are not animals" in capsys.readouterr().err


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "parts"),
    [
        ([], ["a pickled dictionary"]),
        ({"a1": []}, ["'a1'"]),
        ({}, ["no animal"]),
        ({"image": "antelope_10001.jpg"}, ["no animal in it", "['image']"]),
        ({1: 2}, ["[1]"]),
        ({"a1": {"nose": [1]}}, ["'nose'", "expected: [x, y]", "found: [1]"]),
        ({"a1": {"nose": [math.nan, 1]}}, ["'nose'", "nan"]),
        ({"a1": {"nose": [True, 1]}}, ["'nose'"]),
        ({"a1": {"nose": [10**5000, 1]}}, ["'nose'"]),
        ({"a1": {"nosse": [1, 2]}}, ["'nosse'", "class_names.txt"]),
        ({"a1": {"nose": [5, 5], "bbox": [1, 2, 3]}}, ["'bbox'", "[x1, y1, x2, y2]"]),
        ({"a1": {"nose": [5, 5], "bbox": [1, 2, 3, math.nan]}}, ["'bbox'"]),
    ],
)
def test_malformed_annotations(data: DataSet, record: Any, parts: list[str]) -> None:
    write_annotation(data.folder, NAME, record)
    data.refused(f"{NAME}.pickle", *parts)


# --- pickles ------------------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=4,
)


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(st.text(), PLAIN), st.integers(3, 5))
def test_plain_data_come_back(value: Any, protocol: int) -> None:
    assert read_pickle(pickle.dumps(value, protocol), Path("x")) == value


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float64(1.5), 1.5),
        ([np.int64(-3), np.float32(0.25), np.uint8(7)], [-3, 0.25, 7]),
        (np.array([1, 2, 3]), [1, 2, 3]),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), [[1.0, 2.0], [3.0, 4.0]]),
        (np.arange(3, dtype=">i4"), [0, 1, 2]),
    ],
)
def test_numpy_values_become_plain(protocol: int, value: Any, plain: Any) -> None:
    found = read_pickle(pickle.dumps({"a": value}, protocol), Path("x"))
    assert repr(found) == repr({"a": plain})  # of the same types


def test_an_array_of_nothing_has_no_sides() -> None:
    assert read_pickle(pickle.dumps({"a": np.zeros((10**12, 0))}, 4), Path("x")) == {"a": []}


def test_annotations_with_numpy_values_read_the_same(data: DataSet) -> None:
    before = data.read()
    edit(data, lambda r: r["a1"].update({k: np.array(v) for k, v in r["a1"].items()}))
    assert_same(data.read(), before)


class Harmful:
    """Its pickle runs a command when it is loaded."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_run(data: DataSet, tmp_path: Path, protocol: int) -> None:
    harm = tmp_path / "harm"
    for call, arguments, name in (
        (os.mkdir, (str(harm),), "mkdir"),
        (eval, (f"open({str(harm)!r}, 'w')",), "eval"),
    ):
        write_annotation(data.folder, NAME, {"a1": Harmful(call, *arguments)}, protocol)
        data.refused(f"{NAME}.pickle", "it asks for", name)
        assert not harm.exists()
    # the file does what it says when it is loaded
    pickle.loads(annotation(data).read_bytes())["a1"].close()
    assert harm.exists()


ARRAYS = (np.array(["text"]), np.array([None]), np.array([1], "M8[s]"), np.zeros(99))


@pytest.mark.parametrize("value", [OrderedDict(a=1), 1j, Path("x"), *ARRAYS])
def test_other_objects_are_refused(value: Any) -> None:
    with refusal("cannot be read"):
        read_pickle(pickle.dumps({"a": value}, 4), Path("x"))


def test_what_a_pickle_does_to_a_name_stays_in_it() -> None:
    """BUILD sets attributes: of the stand-in that this pickle got, and of no other."""
    read_pickle(b"\x80\x04}\x8c\x01acnumpy\ndtype\nN}\x8c\x04name\x8c\x01xs\x86bs.", Path("x"))
    assert read_pickle(pickle.dumps({"a": np.arange(3)}, 4), Path("x")) == {"a": [0, 1, 2]}


def test_endless_and_huge_pickles_are_refused_quickly(data: DataSet) -> None:
    endless: list[Any] = []
    endless.append(endless)
    huge: Any = [0]
    for _ in range(60):  # 2^60 entries when written out
        huge = [huge, huge]
    for value in (endless, huge, {"a1": {"nose": huge}}, {"a1": {"bbox": endless, "nose": [1, 1]}}):
        write_annotation(data.folder, NAME, value)
        data.refused(f"{NAME}.pickle")
    far = b"\x80\x04}r" + struct.pack("<I", 2**32 - 1) + b"."  # kept as the 4,294,967,295th value
    long = b"\x80\x04\x96" + struct.pack("<Q", 2**40) + b"."  # bytes that are not there
    for content in (bytes(MAX_PICKLE_BYTES + 1), far, long, b""):
        annotation(data).write_bytes(content)
        data.refused(f"{NAME}.pickle", "cannot be read")

"""The adapter for AwA-Pose, and its reader of pickles."""

import codecs
import io
import math
import os
import pickle
import random
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts_awa_pose import ANNOTATIONS, IMAGES, MISSING, write_annotation, write_awa_pose
from PIL import Image

from spheremap.base.errors import InputError
from spheremap.config.slices import parse
from spheremap.data.adapters.awa_pose import (
    ANIMALS,
    KEYPOINT_NAMES,
    MAX_PICKLE_BYTES,
    AwaPoseParams,
    read_awa_pose,
    read_pickle,
)
from spheremap.data.tables import IMAGES as IMAGE_COLUMNS
from spheremap.data.tables import KEYPOINTS, Tables, read_tables, write_tables

ENTRY = {
    "layout": "awa_pose",
    "images": IMAGES,
    "annotations": ANNOTATIONS,
    "categories": ["antelope", "german+shepherd"],
    "outside": "error",
    "pairs": "within",
    "max_pairs": 1000,
    "min_shared_keypoints": 1,
    "seed": 0,
}
NAME = "antelope/antelope_10001"


def read(root: Path, **changes: Any) -> Tables:
    entry = {**ENTRY, "root": str(root), **changes}
    return read_awa_pose(parse(entry, AwaPoseParams, where="test")).tables


def refused(root: Path, *parts: str, **changes: Any) -> str:
    """The one error that reading ends with, which must hold all `parts`."""
    with pytest.raises(InputError) as caught:
        read(root, **changes)
    message = str(caught.value)
    for part in parts:
        assert part in message
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two animals with four pictures each, the fourth of which shows two of them."""
    root = tmp_path / "awa"
    write_awa_pose(root)
    return root


def annotation(root: Path, name: str = NAME) -> Path:
    return root / ANNOTATIONS / f"{name}.pickle"


def edit(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the first annotation."""
    record = pickle.loads(annotation(root).read_bytes())
    change(record)
    write_annotation(root, *NAME.split("/"), record)


# --- reading ------------------------------------------------------------------------------------------------


def test_reads_every_column(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = read(folder)
    names = [f"{a}/{a}_1000{i}" for a in ("antelope", "german+shepherd") for i in (1, 2, 3)]
    rows = tables.images
    assert rows["image_id"].tolist() == names
    assert rows["path"].tolist() == [f"{folder}/{IMAGES}/{name}.jpg" for name in names]
    assert rows["category"].tolist() == ["antelope"] * 3 + ["german+shepherd"] * 3
    assert set(rows["split"]) == {"test"}
    assert set(rows["mask_path"]) == {""}
    assert rows["azimuth"].isna().all()
    assert rows["instance"].tolist() == names
    assert rows["width"].tolist() == [80, 84, 88] * 2
    assert dict(rows.dtypes.astype(str)) == IMAGE_COLUMNS
    assert dict(tables.keypoints.dtypes.astype(str)) == KEYPOINTS
    record = pickle.loads(annotation(folder).read_bytes())["a1"]
    assert rows.loc[0, ["x1", "y1", "x2", "y2"]].tolist() == record["bbox"]
    points = tables.keypoints[tables.keypoints["image_id"] == NAME].set_index("name")
    for name in KEYPOINT_NAMES:
        if record[name] != MISSING:
            assert points.loc[name, ["x", "y"]].tolist() == record[name]
            assert points.loc[name, "keypoint_id"] == str(KEYPOINT_NAMES.index(name))
    assert points["visible"].sum() == sum(record[name] != MISSING for name in KEYPOINT_NAMES)
    # antlers are annotated in no picture of this fixture, so no image has rows of them
    assert "left_antler_end" not in points.index
    assert "pictures with several animals left out: 2" in capsys.readouterr().err
    write_tables(tmp_path / "out", tables, {})
    assert len(read_tables(tmp_path / "out").images) == 6


def test_names_are_those_of_the_repository() -> None:
    assert len(KEYPOINT_NAMES) == len(set(KEYPOINT_NAMES)) == 39
    assert len(ANIMALS) == len(set(ANIMALS)) == 35
    assert KEYPOINT_NAMES[0] == "nose"
    assert KEYPOINT_NAMES[-1] == "body_middle_left"
    # the order of class_names.txt, where paw stands before knee on one side only
    assert KEYPOINT_NAMES.index("front_right_paw") < KEYPOINT_NAMES.index("front_right_knee")
    assert KEYPOINT_NAMES.index("front_left_knee") < KEYPOINT_NAMES.index("front_left_paw")


def test_pairs_within_and_across_animals(folder: Path) -> None:
    tables = read(folder)
    category = tables.images.set_index("image_id")["category"]

    def same(pairs: Any) -> set[bool]:
        return set((pairs["source"].map(category) == pairs["target"].map(category)).tolist())

    assert len(tables.pairs) == 12
    assert same(tables.pairs) == {True}
    across = read(folder, pairs="across").pairs
    assert len(across) == 18
    assert same(across) == {False}
    few = read(folder, max_pairs=4)
    assert len(few.pairs) == 4
    assert read(folder, max_pairs=4).pairs.equals(few.pairs)
    # only images in pairs are kept
    assert set(few.images["image_id"]) == set(few.pairs["source"]) | set(few.pairs["target"])
    refused(folder, "no two pictures form a pair", "min_shared_keypoints", min_shared_keypoints=39)


def test_shared_keypoints_are_those_visible_in_both(folder: Path) -> None:
    for minimum in (8, 12, 16):
        tables = read(folder, min_shared_keypoints=1)
        shown = tables.keypoints[tables.keypoints["visible"] == 1].groupby("image_id")["name"].agg(set)
        expected = {(s, t) for _, s, t in tables.pairs.to_numpy() if len(shown[s] & shown[t]) >= minimum}
        if expected:
            found = read(folder, min_shared_keypoints=minimum).pairs
            assert set(map(tuple, found[["source", "target"]].to_numpy())) == expected
        else:
            refused(folder, "no two pictures", min_shared_keypoints=minimum)


def test_categories_are_chosen(folder: Path) -> None:
    assert set(read(folder, categories=["antelope"]).images["category"]) == {"antelope"}
    refused(folder, "an animal has no annotations", "bobcat", "`categories`", categories=None)
    refused(folder, "no such animal", "'rat'", categories=["rat"])
    refused(folder, "no animals chosen", categories=[])


def test_boxes_that_cannot_be_used_as_they_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def box() -> list[float]:
        rows = read(folder).images.set_index("image_id")
        return [float(v) for v in rows.loc[NAME, ["x1", "y1", "x2", "y2"]]]

    about = box()  # the fixture draws it about the keypoints
    edit(folder, lambda r: r["a1"].update(bbox=[-5.5, 3, 900, 59.5]))
    assert box() == [0, 3, 80, 59.5]
    assert "about the keypoints" not in capsys.readouterr().err
    for bad in ([-1, -1, -1, -1], [10, 10, -1, 20], [40, 10, 20, 30], [200, 5, 300, 30], [5, 5, 5, 9]):
        edit(folder, lambda r, bad=bad: r["a1"].update(bbox=bad))
        assert box() == about
        assert "taken about the keypoints: 1" in capsys.readouterr().err
    edit(folder, lambda r: r["a1"].pop("bbox"))
    assert box() == about

    # a single keypoint, in the corner: a box of one pixel that stays in the picture
    only = dict.fromkeys(KEYPOINT_NAMES, MISSING) | {"nose": [80, 60]}
    edit(folder, lambda r: r.update(a1=only))
    assert box() == [79, 59, 80, 60]


def test_pictures_without_keypoints_are_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, lambda r: r.update(a1={"bbox": [1, 2, 3, 4], "nose": [5, -1]}))
    assert NAME not in set(read(folder).images["image_id"])
    assert "without a keypoint left out: 1" in capsys.readouterr().err


def test_keypoints_outside_the_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, lambda r: r["a1"].update(nose=[81, 5]))
    refused(folder, f"{NAME}.pickle", "'nose'", "x <= 80", "outside: hide")
    points = read(folder, outside="hide").keypoints.set_index(["image_id", "name"])
    assert points.loc[(NAME, "nose"), "visible"] == 0
    assert math.isnan(points.loc[(NAME, "nose"), "x"])
    assert "outside their pictures hidden: 1" in capsys.readouterr().err


def test_entries_that_are_not_animals(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, lambda r: r.update(image="antelope_10001.jpg"))
    assert NAME in set(read(folder).images["image_id"])
    assert "not animals ignored: 1" in capsys.readouterr().err
    edit(folder, lambda r: r.pop("a1"))
    refused(folder, f"{NAME}.pickle", "no animal in it", "['image']")


def test_digests_follow_content_not_place(folder: Path, tmp_path: Path) -> None:
    def inputs(root: Path) -> dict[str, str]:
        return read_awa_pose(parse({**ENTRY, "root": str(root)}, AwaPoseParams, where="test")).inputs

    before = inputs(folder)
    assert set(before) == {"annotations", "images"}
    folder = folder.rename(tmp_path / "moved")
    assert inputs(folder) == before
    edit(folder, lambda r: r["a1"].update(nose=[7, 7]))
    assert {kind for kind, digest in inputs(folder).items() if digest != before[kind]} == {"annotations"}


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"nose": [1]}, ["'nose'", "[x, y]", "found: [1]"]),
        ({"nose": [1, 2, 3]}, ["'nose'"]),
        ({"nose": None}, ["'nose'", "None"]),
        ({"nose": "12"}, ["'nose'"]),
        ({"nose": [math.nan, 1]}, ["'nose'", "nan"]),
        ({"nose": [True, 1]}, ["'nose'"]),
        ({"nose": [[1], [2]]}, ["'nose'", "a list of 2 entries"]),
        ({"nose": {"x": 1}}, ["'nose'", "a dictionary"]),
        ({"nose": [10**5000, 1]}, ["'nose'"]),
        ({"nose": [1, math.inf]}, ["'nose'"]),
        ({"nosse": [1, 2]}, ["unknown keypoint", "'nosse'"]),
        ({"bbox": [1, 2, 3]}, ["'bbox'", "[x1, y1, x2, y2]"]),
        ({"bbox": "all"}, ["'bbox'"]),
        ({"bbox": [1, 2, 3, math.nan]}, ["'bbox'"]),
    ],
)
def test_malformed_entries(folder: Path, change: dict[str, Any], parts: list[str]) -> None:
    edit(folder, lambda r: r["a1"].update(change))
    refused(folder, f"{NAME}.pickle", "expected", "found", *parts)


def test_malformed_annotations(folder: Path) -> None:
    for record, part in (([], "a dictionary"), ({"a1": []}, "entry 'a1'"), ({}, "no animal")):
        write_annotation(folder, *NAME.split("/"), record)
        refused(folder, f"{NAME}.pickle", part)
    annotation(folder).write_bytes(b"")
    refused(folder, f"{NAME}.pickle", "cannot be read")


def test_missing_parts(folder: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "AwA-Pose", IMAGES)
    refused(folder, "elsewhere", annotations="elsewhere")
    (folder / IMAGES / f"{NAME}.jpg").rename(tmp_path / "aside")
    refused(folder, f"{NAME}.jpg", f"image named in {annotation(folder)}")
    (folder / IMAGES / f"{NAME}.jpg").write_bytes(b"text")
    refused(folder, f"{NAME}.jpg", "unreadable image")


@pytest.mark.parametrize(("name", "value"), [("max_pairs", 0), ("min_shared_keypoints", 0), ("seed", -1)])
def test_wrong_parameters(folder: Path, name: str, value: int) -> None:
    refused(folder, repr(name), str(value), **{name: value})


# --- pickles ------------------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner)
        | st.tuples(inner, inner, inner, inner)
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(PLAIN, st.integers(3, 5))
def test_plain_data_come_back(value: Any, protocol: int) -> None:
    assert read_pickle(pickle.dumps(value, protocol), Path("x")) == value


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), st.lists(st.integers() | st.floats(allow_nan=False))))
def test_plain_data_come_back_from_text_pickles(value: Any) -> None:
    assert read_pickle(pickle.dumps(value, 0), Path("x")) == value


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_numpy_values_become_plain(protocol: int) -> None:
    value = {
        "a": np.float64(1.5),
        "b": [np.int64(-3), np.float32(0.25), np.uint8(7)],
        "c": np.array([1, 2, 3]),
        "d": np.array([[1.0, 2.0], [3.0, 4.0]]),
        "e": np.arange(3, dtype=">i4"),
    }
    found = read_pickle(pickle.dumps(value, protocol), Path("x"))
    assert found == {
        "a": 1.5,
        "b": [-3, 0.25, 7],
        "c": [1, 2, 3],
        "d": [[1, 2], [3, 4]],
        "e": [0, 1, 2],
    }
    assert type(found["a"]) is float
    assert type(found["b"][0]) is int


def test_annotations_with_numpy_values_read_the_same(folder: Path) -> None:
    before = read(folder)
    edit(folder, lambda r: r["a1"].update({k: np.array(v) for k, v in r["a1"].items()}))
    after = read(folder)
    assert after.images.equals(before.images)
    assert after.keypoints.equals(before.keypoints)


class Harmful:
    """Its pickle runs a command when it is loaded."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.arguments


def test_nothing_is_run(folder: Path, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    for protocol in range(6):
        for call, arguments, name in (
            (os.mkdir, (str(harm),), "mkdir"),
            (eval, (f"open({str(harm)!r}, 'w')",), "eval"),
        ):
            write_annotation(folder, *NAME.split("/"), {"a1": Harmful(call, *arguments)}, protocol)
            message = refused(folder, f"{NAME}.pickle", "it asks for", "nothing else")
            assert name in message
            assert not harm.exists()
    # the file does what it says when it is loaded
    pickle.loads(annotation(folder).read_bytes())["a1"].close()
    assert harm.exists()


@pytest.mark.parametrize(
    "value",
    [OrderedDict(a=1), {1: 2}, {"a": {3}}, 1j, Path("x"), np.array(["text"]), np.array([None]), np.float64],
)
def test_other_objects_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_pickle(pickle.dumps(value, 4), Path("x"))


def test_endless_and_huge_pickles_are_refused_quickly(folder: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    huge: Any = [0]
    for _ in range(60):  # 2^60 entries when written out
        huge = [huge, huge]
    for value in (endless, huge, {"a1": {"nose": huge}}, {"a1": {"bbox": endless}}):
        write_annotation(folder, *NAME.split("/"), value)
        refused(folder, f"{NAME}.pickle", "malformed annotation")
    with pytest.raises(InputError, match="too large"):
        read_pickle(bytes(MAX_PICKLE_BYTES + 1), Path("x"))


# --- damaged files ------------------------------------------------------------------------------------------

_ODD = (
    None,
    True,
    math.nan,
    math.inf,
    -1,
    10**30,
    "é",
    "",
    [],
    {},
    [1, 2],
    (3, 4),
    [1, 2, 3, 4],
    b"\xff",
    7.5,
)


def changed(record: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The record after one change of its structure."""
    record = {key: dict(value) for key, value in record.items()}
    animal = record["a1"]
    key = rng.choice(list(animal))
    kind = rng.randrange(6)
    if kind == 0:
        animal[key] = rng.choice(_ODD)
    elif kind == 1:
        animal[key] = [*animal[key][:-1], rng.choice(_ODD)]
    elif kind == 2:
        del animal[key]
    elif kind == 3:
        animal[rng.choice(["bbox", "nosse", "", "a1", *KEYPOINT_NAMES])] = animal.pop(key)
    elif kind == 4:
        record[rng.choice(["a1", "a2", "b", "a01"])] = rng.choice([*_ODD, {}, animal])
    else:
        animal[key] = [v + rng.choice([-1, 1]) * 10.0 ** rng.randrange(12) for v in animal[key]]
    return record


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The bytes of a pickle after one accident."""
    at = rng.randrange(len(content))
    return (
        content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :],
        content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :],
        content[:at] + content[at + rng.randrange(1, 9) :],
        content[:at],
        content[:at] + content[rng.randrange(len(content)) :],
        content.decode("latin-1").encode("utf-16"),
    )[rng.randrange(6)]


class NoImports(pickle.Unpickler):
    """The standard library's reader without access to any function, but for bytes in protocol 2."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return codecs.encode
        raise pickle.UnpicklingError(f"{module}.{name}")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def check_against_record(tables: Tables, record: dict[str, Any]) -> None:
    """The first picture's rows are what its record says, after the documented rules."""
    animals = [value for key, value in record.items() if key[:1] == "a" and key[1:].isdigit()]
    assert animals
    points = {}
    if len(animals) == 1:
        entry = animals[0]
        assert set(entry) <= {"bbox", *KEYPOINT_NAMES}
        for name, value in entry.items():
            assert all(map(is_number, value))
            if name != "bbox" and -1 not in value:
                x, y = value
                if 0 <= x <= 80 and 0 <= y <= 60:
                    points[name] = (x, y)
    shown = tables.keypoints[(tables.keypoints["image_id"] == NAME) & (tables.keypoints["visible"] == 1)]
    assert {row.name: (row.x, row.y) for row in shown.itertuples(index=False)} == points
    rows = tables.images[tables.images["image_id"] == NAME]
    assert len(rows) == bool(points)
    if points:
        x1, y1, x2, y2 = (float(rows[side].iloc[0]) for side in ("x1", "y1", "x2", "y2"))
        assert 0 <= x1 < x2 <= 80
        assert 0 <= y1 < y2 <= 60
        box = entry.get("bbox")
        if box is not None and -1 not in box:
            given = (max(box[0], 0), max(box[1], 0), min(box[2], 80), min(box[3], 60))
            if given[0] < given[2] and given[1] < given[3]:
                assert (x1, y1, x2, y2) == given


def test_damaged_annotations_are_read_rightly_or_refused(tmp_path: Path) -> None:
    write_awa_pose(tmp_path, ("antelope",), 4)
    good = pickle.loads(annotation(tmp_path).read_bytes())
    rng = random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    for number in range(2000):
        protocol = rng.choice((2, 3, 4))
        if number % 2:
            record = changed(good, rng)
            content = pickle.dumps(record, protocol)
        else:
            content = damaged(pickle.dumps(good, protocol), rng)
        annotation(tmp_path).write_bytes(content)
        try:
            tables = read(tmp_path, categories=["antelope"], outside="hide")
        except InputError as error:
            outcomes["refused"] += 1
            message = str(error)
            assert f"in: {annotation(tmp_path)}\n" in message, message
        else:
            outcomes["read"] += 1
            if protocol == 4 and number % 2 == 0:
                # the length of a frame is not checked here, but by the standard library
                content = pickle.dumps(read_pickle(content, tmp_path), 3)
            check_against_record(tables, NoImports(io.BytesIO(content)).load())
    assert min(outcomes.values()) > 300


def test_damaged_pictures_are_refused(folder: Path) -> None:
    path = folder / IMAGES / f"{NAME}.jpg"
    good = path.read_bytes()
    for content in (b"", good[:20], b"\x00" * 100, good[2:]):
        path.write_bytes(content)
        refused(folder, f"{NAME}.jpg", "unreadable image")
    Image.new("RGB", (8, 8)).save(path)  # another picture: the keypoints are outside
    refused(folder, f"{NAME}.pickle", "outside the image")

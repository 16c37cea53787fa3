"""The canonical tables: written, read back, and refused when malformed."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.data.tables import (
    FILES,
    IMAGES,
    KEYPOINTS,
    PAIRS,
    Tables,
    fill_tables,
    read_provenance,
    read_tables,
    tables_digest,
    write_tables,
)

NAN = math.nan


def make() -> Tables:
    """Two cars and a dog."""
    images = [
        ["car/a", "p/a.jpg", "p/a.png", 7, "car", 90.0, 0.0, 1.5, 40.0, 30.0, 40, 30, "train", "taxi"],
        ["car/b", "p/b.jpg", "", 7, "car", NAN, 1.0, 2.0, 3.0, 4.0, 40, 30, "train+test", "taxi"],
        ["dog/a", 'p/,"d".jpg', "", 12, "dog", 0.1 + 0.2, 5.0, 5.0, 6.0, 6.0, 20, 50, "test", "nan"],
    ]
    keypoints = [
        ["car/a", "0", "wheel_front_left", 40.0, 30.0, 1],
        ["car/a", "10", "NA", NAN, NAN, 0],
        ["dog/a", "0", "nose", 1 / 3, 49.999999999999, 1],
    ]
    pairs = [["train", "car/b", "car/a"], ["train", "car/a", "car/b"], ["test", "dog/a", "dog/a"]]
    frames = (
        pd.DataFrame(rows, columns=list(schema)).astype(schema)
        for rows, schema in ((images, IMAGES), (keypoints, KEYPOINTS), (pairs, PAIRS))
    )
    return Tables(*frames)


def assert_same(left: Tables, right: Tables) -> None:
    for name in ("images", "keypoints", "pairs"):
        pd.testing.assert_frame_equal(getattr(left, name), getattr(right, name), check_exact=True)


def test_there_and_back(tmp_path: Path) -> None:
    full = make()
    bare = Tables(full.images, full.keypoints.iloc[:0], full.pairs.iloc[:0])
    for tables in (bare, full):
        write_tables(tmp_path / "tables", tables, {"step": "test"})
        assert_same(read_tables(tmp_path / "tables"), tables)
    assert read_provenance(tmp_path / "tables") == {"step": "test"}
    names = {path.name for path in (tmp_path / "tables").iterdir()}
    assert names == {"images.csv", "keypoints.csv", "pairs.csv", "pictures.csv", "provenance.json"}


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_tables(tmp_path / name, make(), {"step": "test"})
    assert tables_digest(tmp_path / "one") == tables_digest(tmp_path / "two")
    changed = make()
    changed.images.loc[0, "azimuth"] = 91.0
    write_tables(tmp_path / "two", changed, {"step": "test"})
    one, two = tables_digest(tmp_path / "one"), tables_digest(tmp_path / "two")
    assert {name for name in one if one[name] != two[name]} == {"images.csv"}


def test_categories_and_pairs_of() -> None:
    tables = make()
    assert tables.categories == ["car", "dog"]
    train = tables.pairs_of("train")
    assert train[["source", "target"]].to_numpy().tolist() == [["car/b", "car/a"], ["car/a", "car/b"]]
    assert list(train.index) == [0, 1]
    assert list(tables.pairs_of("test").index) == [0]
    assert tables.pairs_of("val").empty


BAD = [
    ("images", 1, {"image_id": "car/a"}, "'image_id', row 2"),
    ("images", 0, {"width": 0}, "'width', row 1"),
    ("images", 2, {"azimuth": 360.0}, "'azimuth', row 3"),
    ("images", 2, {"azimuth": math.inf}, "'azimuth', row 3"),
    ("images", 0, {"split": "trn"}, "'split', row 1"),
    ("images", 0, {"split": "train+"}, "'split', row 1"),
    ("images", 0, {"x2": 40.5}, "'x2', row 1"),
    ("images", 1, {"y1": 4.0}, "row 2"),
    ("images", 1, {"x1": NAN}, "row 2"),
    ("keypoints", 2, {"image_id": "dog/b"}, "'image_id', row 3"),
    ("keypoints", 1, {"keypoint_id": "0"}, "'keypoint_id', row 2"),
    ("keypoints", 0, {"visible": 2}, "'visible', row 1"),
    ("keypoints", 0, {"x": 40.001}, "row 1 of keypoints.csv"),
    ("keypoints", 2, {"y": -0.001}, "row 3 of keypoints.csv"),
    ("keypoints", 1, {"visible": 1}, "row 2 of keypoints.csv"),  # visible, but without a place
    ("pairs", 2, {"source": "dog/b"}, "'source', row 3"),
    ("pairs", 0, {"target": ""}, "'target', row 1"),
    ("pairs", 1, {"split": "train+test"}, "'split', row 2"),
]


@pytest.mark.parametrize(("name", "row", "change", "part"), BAD)
def test_bad_values_are_refused_when_written_and_read(
    tmp_path: Path, name: str, row: int, change: dict[str, Any], part: str
) -> None:
    tables = make()
    for column, value in change.items():
        getattr(tables, name).loc[row, column] = value
    with pytest.raises(InputError) as caught:
        write_tables(tmp_path / "tables", tables, {})
    assert part in str(caught.value)
    assert f"{name}.csv" in str(caught.value)
    assert list(tmp_path.iterdir()) == []

    write_tables(tmp_path / "tables", make(), {})
    getattr(tables, name).to_csv(tmp_path / "tables" / f"{name}.csv", index=False)
    with pytest.raises(InputError) as caught:
        read_tables(tmp_path / "tables")
    for text in (part, f"{name}.csv", str(tmp_path / "tables"), "expected", "found"):
        assert text in str(caught.value)


def _replace(before: str, after: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert before in text
        return text.replace(before, after, 1)

    return change


@pytest.mark.parametrize(
    ("name", "change", "parts"),
    [
        ("images", lambda _: "", ["not a CSV table"]),
        ("images", _replace("azimuth", "azimut"), ["wrong columns", "azimut,"]),
        ("images", _replace(",instance", ""), ["images.csv"]),
        ("images", _replace("90.0", "north"), ["'azimuth', row 1", "a number", "'north'"]),
        ("images", _replace(",12,dog", ",12.5,dog"), ["'mask_value', row 3", "a whole number", "'12.5'"]),
        ("images", _replace(",12,dog", f",{10**20},dog"), ["'mask_value', row 3", "a whole number"]),
        ("images", _replace(",12,dog", ",,dog"), ["'mask_value', row 3", "a whole number"]),
        ("images", _replace(",7,car", ",7,car,car"), ["images.csv"]),
        ("images", _replace(",40,30,", ",4c0,30,"), ["'width'", "4c0", "to do: delete the folder"]),
        ("keypoints", _replace("nose,", "nose,,"), ["keypoints.csv"]),
        ("keypoints", lambda text: text[: text.rindex(",")], ["keypoints.csv", "'visible', row 3"]),
        ("pairs", _replace("car/b", '"car/b'), ["pairs.csv"]),
        ("pairs", lambda text: text + "test,dog/a\n", ["'target', row 4"]),
    ],
)
def test_malformed_files_are_named(
    tmp_path: Path, name: str, change: Callable[[str], str], parts: list[str]
) -> None:
    write_tables(tmp_path / "tables", make(), {})
    path = tmp_path / "tables" / f"{name}.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError) as caught:
        read_tables(tmp_path / "tables")
    for part in [str(tmp_path / "tables"), f"{name}.csv", *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", [*FILES, "provenance.json"])
def test_a_changed_table_is_refused(tmp_path: Path, name: str) -> None:
    """Also where the change makes sense: another digit, another pair."""
    (tmp_path / "p").mkdir()
    picture = tmp_path / "p" / "a.jpg"
    picture.write_bytes(b"picture")
    tables = make()
    tables.images.loc[0, "path"] = str(picture)
    write_tables(tmp_path / "tables", tables, {"step": "test"})
    assert read_tables(tmp_path / "tables").pictures[str(picture)] == hashlib.sha256(b"picture").hexdigest()
    path = tmp_path / "tables" / name
    old, new = {
        **{
            "images.csv": ("90.0", "91.0"),
            "keypoints.csv": ("40.0", "39.0"),
            "pairs.csv": ("car/a", "car/b"),
        },
        **{"pictures.csv": (",\n", ",0\n"), "provenance.json": ("test", "best")},
    }[name]
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ProvenanceError, match=rf"(?s)(not as it was written|changed after).*{name}.*to do"):
        read_tables(tmp_path / "tables")


def test_digests_that_are_known_are_kept(tmp_path: Path) -> None:
    tables = make()
    known = Tables(tables.images, tables.keypoints, tables.pairs, {"p/a.jpg": "0123"})
    write_tables(tmp_path, known, {})
    assert read_tables(tmp_path).pictures == {
        "p/a.jpg": "0123",
        "p/a.png": "",
        "p/b.jpg": "",
        'p/,"d".jpg': "",
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("written") / "tables"
    write_tables(directory, make(), {})
    return directory


@settings(max_examples=100)
@given(st.data())
def test_damaged_files_are_read_or_refused(written: Path, data: st.DataObject) -> None:
    """Whatever stands in a table, reading ends with tables that pass the checks or with one InputError."""
    path = written / data.draw(st.sampled_from(["images.csv", "keypoints.csv", "pairs.csv"]))
    before = path.read_bytes()
    start = data.draw(st.integers(0, len(before)))
    stop = min(len(before), start + data.draw(st.integers(0, 8)))
    junk = data.draw(
        st.text(st.sampled_from(',\n"0+-.e9a/\r'), max_size=5).map(str.encode) | st.binary(max_size=3)
    )
    path.write_bytes(before[:start] + junk + before[stop:])
    try:
        tables = read_tables(written)
    except (InputError, ProvenanceError) as error:
        message = str(error)
    else:
        message = f"{written} is well"
        fill_tables(written.parent, tables, {})
    finally:
        path.write_bytes(before)
    assert str(written) in message

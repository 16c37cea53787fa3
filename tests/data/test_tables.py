"""The canonical tables: written, read back, and refused when malformed."""

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest
from data_checks import assert_same, refusal, tables_of
from hypothesis import given, settings
from hypothesis import strategies as st

import spheremap.data.tables
from spheremap.base.errors import InputError, ProvenanceError
from spheremap.data.tables import (
    FILES,
    PROVENANCE,
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
    return tables_of(
        [
            ["car/a", "p/a.jpg", "p/a.png", 7, "car", 90.0, 0.0, 1.5, 40.0, 30.0, 40, 30, "train", "taxi"],
            ["car/b", "p/b.jpg", "", 7, "car", NAN, 1.0, 2.0, 3.0, 4.0, 40, 30, "train+test", "taxi"],
            ["dog/a", 'p/,"d".jpg', "", 12, "dog", 0.1 + 0.2, 5.0, 5.0, 6.0, 6.0, 20, 50, "test", "nan"],
        ],
        [
            ["car/a", "0", "wheel_front_left", 40.0, 30.0, 1],
            ["car/a", "10", "NA", NAN, NAN, 0],
            ["dog/a", "0", "nose", 1 / 3, 49.999999999999, 1],
        ],
        [["train", "car/b", "car/a"], ["train", "car/a", "car/b"], ["test", "dog/a", "dog/a"]],
    )


def test_there_and_back(tmp_path: Path) -> None:
    full = make()
    bare = Tables(full.images, full.keypoints.iloc[:0], full.pairs.iloc[:0])
    for tables in (bare, full):
        write_tables(tmp_path / "tables", tables, {"step": "test"})
        assert_same(read_tables(tmp_path / "tables"), tables)
    assert read_provenance(tmp_path / "tables") == {"step": "test"}
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {*FILES, PROVENANCE}


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    digests = []
    for azimuth in (90.0, 90.0, 91.0):
        tables = make()
        tables.images.loc[0, "azimuth"] = azimuth
        write_tables(tmp_path / "tables", tables, {"step": "test"})
        digests.append(tables_digest(tmp_path / "tables"))
    one, two, other = digests
    assert one == two
    assert {name for name in one if one[name] != other[name]} == {"images.csv"}


def test_categories_and_pairs_of() -> None:
    tables = make()
    assert tables.categories == ["car", "dog"]
    train = tables.pairs_of("train")
    assert train[["source", "target"]].to_numpy().tolist() == [["car/b", "car/a"], ["car/a", "car/b"]]
    assert list(tables.pairs_of("test").index) == [0]
    assert tables.pairs_of("val").empty


@pytest.mark.parametrize(
    ("name", "row", "column", "value", "part"),
    [
        ("images", 1, "image_id", "car/a", "'image_id', row 2"),
        ("images", 0, "width", 0, "'width', row 1"),
        ("images", 2, "azimuth", 360.0, "'azimuth', row 3"),
        ("images", 2, "azimuth", math.inf, "'azimuth', row 3"),
        ("images", 0, "split", "trn", "'split', row 1"),
        ("images", 0, "split", "train+", "'split', row 1"),
        ("images", 0, "x2", 40.5, "'x2', row 1"),
        ("images", 1, "y1", 4.0, "row 2"),
        ("images", 1, "x1", NAN, "row 2"),
        ("keypoints", 2, "image_id", "dog/b", "'image_id', row 3"),
        ("keypoints", 1, "keypoint_id", "0", "'keypoint_id', row 2"),
        ("keypoints", 0, "visible", 2, "'visible', row 1"),
        ("keypoints", 0, "x", 40.001, "row 1 of keypoints.csv"),
        ("keypoints", 2, "y", -0.001, "row 3 of keypoints.csv"),
        ("keypoints", 1, "visible", 1, "row 2 of keypoints.csv"),  # visible, but without a place
        ("pairs", 2, "source", "dog/b", "'source', row 3"),
        ("pairs", 0, "target", "", "'target', row 1"),
        ("pairs", 1, "split", "train+test", "'split', row 2"),
    ],
)
def test_bad_values_are_refused_when_written_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, row: int, column: str, value: Any, part: str
) -> None:
    tables = make()
    getattr(tables, name).loc[row, column] = value
    with refusal(part, f"{name}.csv"):
        write_tables(tmp_path / "tables", tables, {})
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as forger:  # whose digests fit
        forger.setattr(spheremap.data.tables, "validate", lambda *_: None)
        forger.setattr(spheremap.data.tables, "sort_tables", lambda unsorted: unsorted)
        write_tables(tmp_path / "tables", tables, {})
    with refusal(part, f"{name}.csv", tmp_path / "tables", "expected", "found"):
        read_tables(tmp_path / "tables")


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("images.csv", "90.0", "91.0"),
        ("keypoints.csv", "40.0", "39.0"),
        ("pairs.csv", "car/a", "car/b"),
        ("pairs.csv", "test,dog/a,dog/a", "test,dog/a"),
        ("pictures.csv", ",\n", ",0\n"),
        (PROVENANCE, "test", "best"),
    ],
)
def test_a_changed_table_is_refused(tmp_path: Path, name: str, old: str, new: str) -> None:
    """Also where the change makes sense: another digit, another pair."""
    write_tables(tmp_path / "tables", make(), {"step": "test"})
    change(tmp_path / "tables" / name, old, new)
    with pytest.raises(ProvenanceError, match=rf"(?s)(not as it was written|changed after).*{name}.*to do"):
        read_tables(tmp_path / "tables")


def test_digests_of_pictures(tmp_path: Path) -> None:
    """Those that are known are kept, others worked out, and empty where there is no file."""
    tables = make()
    picture = tmp_path / "b.jpg"
    picture.write_bytes(b"picture")
    tables.images.loc[1, "path"] = str(picture)
    known = Tables(tables.images, tables.keypoints, tables.pairs, {"p/a.jpg": "0123"})
    write_tables(tmp_path / "tables", known, {})
    digest = hashlib.sha256(b"picture").hexdigest()
    expected = {"p/a.jpg": "0123", "p/a.png": "", str(picture): digest, 'p/,"d".jpg': ""}
    assert read_tables(tmp_path / "tables").pictures == expected


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
    text = st.text(st.sampled_from(',\n"0+-.e9a/\r'), max_size=5).map(str.encode)
    path.write_bytes(before[:start] + data.draw(text | st.binary(max_size=3)) + before[stop:])
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

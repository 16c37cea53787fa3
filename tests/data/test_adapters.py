"""What holds for the adapter of every layout: valid tables, digests, missing and damaged files."""

import contextlib
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import mutant
from diffs import diff_of, new_file
from PIL import Image
from small_sets import SMALL, DataSet, Small

from spheremap.base.errors import InputError
from spheremap.data import adapters
from spheremap.data.adapter_tools import FileDigest, read_annotation, short
from spheremap.data.tables import SCHEMAS, read_tables, validate, write_tables


@pytest.fixture(params=SMALL)
def small(request: pytest.FixtureRequest) -> Small:
    return SMALL[request.param]


@pytest.fixture
def data(small: Small, tmp_path: Path) -> DataSet:
    return small.make(tmp_path / "set")


def test_every_layout_is_tested_here() -> None:
    assert adapters.layouts() == sorted(SMALL)


def test_tables_are_valid_and_of_the_schema_s_types(data: DataSet, tmp_path: Path) -> None:
    tables = data.read()
    for name, schema in SCHEMAS.items():
        assert dict(getattr(tables, name).dtypes.astype(str)) == schema
    write_tables(tmp_path / "tables", tables, {})
    assert len(read_tables(tmp_path / "tables").images) == len(tables.images) > 3
    assert tables.pairs.equals(data.read().pairs)


def test_digests_follow_content_not_place(small: Small, data: DataSet, tmp_path: Path) -> None:
    before = data.ingest().inputs
    folder = data.folder.rename(tmp_path / "moved")
    moved = DataSet(folder, small.entry(folder))
    assert moved.ingest().inputs == before
    picture = min(folder.glob(small.pictures))
    picture.write_bytes(picture.read_bytes() + b"\0")
    after = moved.ingest().inputs
    assert {kind.removeprefix("spair_71k_") for kind in before if after[kind] != before[kind]} == {"images"}


def test_missing_files_are_named(small: Small, data: DataSet) -> None:
    data.refused("nowhere", root="nowhere")
    picture = min(data.folder.glob(small.pictures))
    content = picture.read_bytes()
    for damage in (b"", content[:20], b"\x00" * 100):
        picture.write_bytes(damage)
        data.refused("the image", picture)
    picture.unlink()
    data.refused(picture.stem)


# --- damaged annotations ------------------------------------------------------------------------------------


def test_damaged_annotations_are_read_or_refused(small: Small, data: DataSet, tmp_path: Path) -> None:
    """Nothing but an error that names a file of the data set, or tables that are valid."""
    paths = sorted(path for pattern in small.annotations for path in data.folder.glob(pattern))
    assert len(paths) > 1
    rng = random.Random(1)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(60):
        path = rng.choice(paths)
        content = path.read_bytes()
        path.write_bytes(mutant(path, content, rng))
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                tables = data.read()
        except InputError as error:
            outcomes["refused"] += 1
            message = str(error)
            assert f"in: {data.folder}" in message
            assert "\n  expected: " in message or "\n  found: " in message
        else:
            outcomes["read"] += 1
            validate(tables, tmp_path)
        path.write_bytes(content)
    assert min(outcomes.values()) >= 5, outcomes


def test_values_are_told_in_a_few_characters() -> None:
    deep: Any = [0]
    for _ in range(60):
        deep = [deep, deep]
    for value in (10**5000, deep, "x" * 10**6, {"a": np.zeros(10**6)}, "\x1b[2J", "é"):
        text = short(value)
        assert text.removesuffix("…").isascii()
        assert text.isprintable()
        assert 2 < len(text) <= 201


def test_a_repeated_key_is_named_alone(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"kps": 1, "bndbox": 2, "kps": 3}')
    with pytest.raises(InputError, match=r"(?s)^(?!.*bndbox).*'kps'"):
        read_annotation(tmp_path / "a.json", FileDigest())


# --- a new layout -------------------------------------------------------------------------------------------


def test_the_adapter_of_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module in docs/contributing.md is found by its name and reads a data set."""
    (tmp_path / "example.py").write_text(new_file(diff_of("data set")))
    monkeypatch.setattr(adapters, "__path__", [*adapters.__path__, str(tmp_path)])
    entry = {"category": "cat", "split": "test", "box": [1, 2, 30, 20], "points": [1, 2, 3, 4, 5, 6]}
    entries = [{"file": f"{name}.png", **entry} for name in "ab"]
    for name in "ab":
        Image.new("RGB", (40, 30)).save(tmp_path / f"{name}.png")
    (tmp_path / "annotations.json").write_text(json.dumps({"images": entries}))
    data = DataSet(tmp_path, {"layout": "example", "root": str(tmp_path)})
    tables = data.read()
    validate(tables, tmp_path)
    assert tables.pairs.to_numpy().tolist() == [["test", "cat/a", "cat/b"], ["test", "cat/b", "cat/a"]]
    assert tables.keypoints[["x", "y"]].to_numpy().tolist() == [[1, 2], [3, 4], [5, 6]] * 2
    data.edit("annotations.json", lambda v: v["images"][1].update(points=[1, None]))
    data.refused("annotations.json", "no. 2 of 'images'", "'points'", "[1, None]")
    data.edit("annotations.json", lambda v: v["images"][1].update(split="dev"))
    data.refused("annotations.json", "no. 2 of 'images'", "'split'", "train, val or test")

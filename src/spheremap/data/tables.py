"""Canonical tables: the one form in which every data set reaches the rest of spheremap.

A directory holds `images.csv`, `keypoints.csv`, `pairs.csv`, `pictures.csv` (SHA-256 of every image and mask
named) and `provenance.json`, which holds the SHA-256 of the tables and of itself: what was changed or damaged
afterwards is refused. Coordinates are (x, y) in original pixels, the image spanning [0, width] × [0, height].
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.files import atomic_path, read_json, sha256_file, write_csv, write_json
from spheremap.base.provenance import seal, unseal

# column -> pandas dtype
IMAGES = {
    "image_id": "str",  # "<category>/<name>"
    "path": "str",
    "mask_path": "str",  # empty: no mask, the whole box counts as the object
    "mask_value": "int64",  # the object is the mask's pixels equal to this (-1: see `images.foreground`)
    "category": "str",
    "azimuth": "float64",  # degrees in [0, 360), NaN if unknown; 0 frontal, 90 facing image-left
    "x1": "float64",  # bounding box of the object
    "y1": "float64",
    "x2": "float64",
    "y2": "float64",
    "width": "int64",
    "height": "int64",
    "split": "str",  # train, val or test; several joined by "+"
    "instance": "str",
}
KEYPOINTS = {
    "image_id": "str",
    "keypoint_id": "str",
    "name": "str",
    "x": "float64",  # NaN when not visible
    "y": "float64",
    "visible": "int64",  # 0 or 1
}
PAIRS = {"split": "str", "source": "str", "target": "str"}
SCHEMAS = {"images": IMAGES, "keypoints": KEYPOINTS, "pairs": PAIRS}
PICTURES = {"path": "str", "sha256": "str"}  # sha256 empty: there was no such file
FILES = (*(f"{name}.csv" for name in SCHEMAS), "pictures.csv")
SPLITS = ("train", "val", "test")
PROVENANCE = "provenance.json"
WRITERS = ("ingest", "masks", "render")  # steps that write tables


@dataclass(frozen=True)
class Tables:
    """The three canonical tables of a data set; see the module's schemas for the columns.

    `pictures` holds the SHA-256 of images and masks by path, as far as known: those of tables that were read
    are complete.
    """

    images: pd.DataFrame
    keypoints: pd.DataFrame
    pairs: pd.DataFrame
    pictures: Mapping[str, str] = field(default_factory=dict)

    @property
    def categories(self) -> list[str]:
        """All categories in alphabetical order: the order of the head's prototypes."""
        return sorted(self.images["category"].unique())

    def pairs_of(self, split: str) -> pd.DataFrame:
        """The pairs of one split, in the order listed."""
        return self.pairs[self.pairs["split"] == split].reset_index(drop=True)


def in_split(images: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of images.csv that belong to a split."""
    return images[images["split"].map(lambda splits: split in splits.split("+"))]


def sort_tables(tables: Tables) -> Tables:
    """The rows in the order of storage: images and keypoints by id, pairs by split and then as listed."""

    def number(column: pd.Series) -> pd.Series:
        return column.str.zfill(8) if column.name == "keypoint_id" else column

    return Tables(
        images=tables.images.sort_values("image_id", ignore_index=True),
        keypoints=tables.keypoints.sort_values(["image_id", "keypoint_id"], key=number, ignore_index=True),
        pairs=tables.pairs.sort_values(
            "split", key=lambda split: split.map(SPLITS.index), kind="stable", ignore_index=True
        ),
        pictures=tables.pictures,
    )


def fill_tables(directory: Path, tables: Tables, provenance: Mapping[str, Any]) -> None:
    """Write the tables into a directory that the caller publishes as a whole.

    Pictures whose SHA-256 the tables do not know are read for it.

    Raises:
        InputError: if the tables break their schema.
    """
    validate(tables, directory)
    tables = sort_tables(tables)  # equal tables are equal bytes, whatever order they were collected in
    for name, schema in SCHEMAS.items():
        write_csv(directory / f"{name}.csv", getattr(tables, name)[list(schema)])
    write_csv(directory / "pictures.csv", _pictures(tables))
    write_json(directory / PROVENANCE, seal({**provenance, _SEALED: tables_digest(directory)}))


def write_tables(directory: Path, tables: Tables, provenance: Mapping[str, Any]) -> None:
    """Write a directory that holds nothing but the tables; it appears complete or not at all."""
    with atomic_path(directory) as temporary:
        temporary.mkdir()
        fill_tables(temporary, tables, provenance)


def read_tables(directory: Path) -> Tables:
    """Read and check canonical tables.

    Raises:
        InputError: if a file is missing or malformed, naming file, column and row.
        ProvenanceError: if one is not as it was written.
    """
    directory = Path(directory)
    written = _record(directory)[_SEALED]
    for name, digest in tables_digest(directory).items():
        if written.get(name) != digest:
            expected = f"SHA-256 {str(written.get(name))[:12]}…, as in {PROVENANCE}"
            found, problem = f"SHA-256 {digest[:12]}…", "a canonical table is not as it was written"
            where = directory / name
            raise ProvenanceError(problem, where=where, expected=expected, found=found, fix=_REBUILD)
    images, keypoints, pairs = (_read_csv(directory / f"{name}.csv", of) for name, of in SCHEMAS.items())
    pictures = _read_csv(directory / "pictures.csv", PICTURES)
    tables = Tables(images, keypoints, pairs, dict(zip(pictures["path"], pictures["sha256"], strict=True)))
    validate(tables, directory)  # a remote may bring tables that no adapter made
    return tables


def tables_digest(directory: Path) -> dict[str, str]:
    """SHA-256 of each table: the identity that later artifacts record."""
    try:
        return {name: sha256_file(Path(directory) / name) for name in FILES}
    except OSError as error:
        problem, found = "canonical table missing or unreadable", error.strerror or str(error)
        fix = "run `snakemake --cores all` to build it"
        raise InputError(problem, where=error.filename, found=found, fix=fix) from error


def made_by(folder: Path, *steps: str) -> bool:
    """Whether one of these steps wrote a folder, as its provenance says."""
    record = read_json(folder / PROVENANCE) if (folder / PROVENANCE).is_file() else None
    return isinstance(record, dict) and record.get("step") in steps


def read_provenance(directory: Path) -> dict[str, Any]:
    """How the tables in a directory were made.

    Raises:
        ProvenanceError: if the record was changed.
    """
    return {key: value for key, value in _record(Path(directory)).items() if key != _SEALED}


_SEALED = "files"
_REBUILD = "delete the folder and run `snakemake --cores all` to build the tables again"


def _record(directory: Path) -> dict[str, Any]:
    path = directory / PROVENANCE
    if not path.is_file():
        raise InputError("the tables have no provenance", where=path, fix=_REBUILD)
    found = unseal(read_json(path, fix=_REBUILD), where=path, fix=_REBUILD)
    if not isinstance(found.get(_SEALED), dict):
        problem, expected = "not the provenance of canonical tables", f"an entry {_SEALED!r}"
        raise ProvenanceError(problem, where=path, expected=expected, fix=_REBUILD)
    return found


def _pictures(tables: Tables) -> pd.DataFrame:
    paths = sorted({*tables.images["path"], *tables.images["mask_path"]} - {""})
    digests = dict(tables.pictures)
    for path in paths:
        if path not in digests:
            digests[path] = sha256_file(Path(path)) if Path(path).is_file() else ""
    return pd.DataFrame({"path": paths, "sha256": [digests[path] for path in paths]})


def _read_csv(path: Path, schema: Mapping[str, str]) -> pd.DataFrame:
    """A table as it was written: an empty field means NaN in a number and "" in a text."""
    frame = pd.read_csv(path, dtype="str", keep_default_na=False)
    floats = [name for name, dtype in schema.items() if dtype == "float64"]
    return frame.replace({name: {"": "nan"} for name in floats}).astype(dict(schema))


def validate(tables: Tables, where: Path) -> None:
    """Check the tables against each other.

    Raises:
        InputError: for the first offending row.
    """
    images, keypoints, pairs = tables.images, tables.keypoints, tables.pairs
    for name, schema in SCHEMAS.items():
        missing = [column for column in schema if column not in getattr(tables, name).columns]
        if missing:
            raise InputError(f"table {name!r} lacks columns", where=where, found="no " + ", ".join(missing))
    if images.empty:
        raise InputError("the data set has no images", where=where, expected="one row or more in images.csv")

    # masks and exports are written to files of these names
    safe = images["image_id"].map(is_safe_id)
    azimuth, known = images["azimuth"], set(images["image_id"])
    in_splits = images["split"].map(lambda text: set(text.split("+")) <= set(SPLITS))
    wrong = [
        ("images", ~safe, "image_id", "<category>/<name> without '..' and '\\'"),
        ("images", images["image_id"].duplicated(), "image_id", "each image once"),
        ("images", ~((images["width"] > 0) & (images["height"] > 0)), "width", "a positive width and height"),
        ("images", azimuth.notna() & ~azimuth.between(0, 360, "left"), "azimuth", "degrees in [0, 360)"),
        ("images", ~in_splits, "split", "train, val or test (several joined by '+')"),
    ]
    for low, high, side in (("x1", "x2", "width"), ("y1", "y2", "height")):
        inside = (images[low] >= 0) & (images[low] < images[high]) & (images[high] <= images[side])
        wrong.append(("images", ~inside, high, f"a box with 0 <= {low} < {high} <= {side}"))
    _refuse(tables, wrong, where)  # from here on, ids are known to be unique

    size = images.set_index("image_id")[["width", "height"]].reindex(keypoints["image_id"]).to_numpy()
    xy = keypoints[["x", "y"]].to_numpy(dtype=np.float64)
    within = ((xy >= 0) & (xy <= size)).all(axis=1)
    outside = (keypoints["visible"] == 1) & pd.Series(~within, index=keypoints.index)
    repeated = keypoints.duplicated(["image_id", "keypoint_id"])
    there = "an image of images.csv"
    wrong = [
        ("keypoints", ~keypoints["image_id"].isin(known), "image_id", there),
        ("keypoints", repeated, "keypoint_id", "each keypoint once per image"),
        ("keypoints", ~keypoints["visible"].isin((0, 1)), "visible", "0 or 1"),
        ("keypoints", outside, "x", "a visible keypoint inside its image"),
        ("pairs", ~pairs["source"].isin(known), "source", there),
        ("pairs", ~pairs["target"].isin(known), "target", there),
        ("pairs", ~pairs["split"].isin(SPLITS), "split", "train, val or test"),
    ]
    _refuse(tables, wrong, where)


def is_safe_id(text: str) -> bool:
    """Whether an image id, used as the name of a file, stays in its folder."""
    return text.isprintable() and "\\" not in text and not set(text.split("/")) & {"", ".", ".."}


def _refuse(tables: Tables, wrong: list[tuple[str, pd.Series, str, str]], where: Path) -> None:
    """Raise an error for the first row marked in `wrong`: table, marks, column, what would be right."""
    for name, marked, column, expected in wrong:
        if marked.any():
            row = int(np.flatnonzero(marked.to_numpy())[0])
            found = ", ".join(f"{key}={value}" for key, value in getattr(tables, name).iloc[row].items())
            problem = f"bad value in column {column!r}, row {row + 1} of {name}.csv"
            raise InputError(problem, where=where, expected=expected, found=found)

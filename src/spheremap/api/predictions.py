"""Files of predictions from any program: CSV, NPZ, JSON, or pickled by GeoAware-SC (docs/score.md)."""

import lzma
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spheremap.base.errors import InputError, short
from spheremap.base.files import read_json
from spheremap.data.pickles import read_pickle
from spheremap.data.tables import Tables
from spheremap.metrics.given import Given

TEXTS = ("source", "target", "keypoint_id")
NUMBERS = ("x", "y")
OTHERS = ("method", "width", "height")  # that may stand there
ENDINGS = (".csv", ".csv.gz", ".csv.xz", ".npz", ".json", ".pkl", ".pickle")
PLAIN = "[A-Za-z0-9._-]"  # characters of methods' names
PICKLE_BYTES = 1 << 29  # 12,234 pairs take some 30 MB
ARRAY_BYTES = 1 << 12  # 30 keypoints in float64 take 720 bytes


def ending(path: Path) -> str:
    """What the name of a file of predictions ends in.

    Raises:
        InputError: if there is no such file, or it is of another kind.
    """
    if not path.is_file():
        raise InputError("cannot read the file", where=path, expected="predictions", found="no such file")
    for suffix in ENDINGS:
        if path.name.lower().endswith(suffix):
            return suffix
    raise InputError("cannot read this kind of file", where=path, expected=f"a name in {', '.join(ENDINGS)}")


def name_of(path: Path) -> str:
    """The file's name as that of a method and a folder: without ending, other characters as hyphens."""
    name = path.name[: -len(ending(path))]
    return "-".join(re.findall(f"{PLAIN}+", name)).strip("-._") or "predictions"


def read_predictions(path: Path, tables: Tables, seed: int | None = None) -> dict[str, Given]:
    """Read predictions by method: those of a column `method`, else one with the file's name.

    Args:
        path: the file.
        tables: of the data set.
        seed: whose lines are read, where a column `seed` has several.

    Raises:
        InputError: if the file cannot be read, lacks a column, or has several seeds and none is chosen.
    """
    try:
        frame, similarity = _read(path, tables)
    except OSError as error:
        raise InputError("cannot read the file", where=path, found=error.strerror or str(error)) from error
    if not {*TEXTS, *NUMBERS} <= set(frame.columns):
        raise InputError(
            "columns are missing",
            where=path,
            expected=", ".join((*TEXTS, *NUMBERS)),
            found=", ".join(map(str, frame.columns)),
        )
    frame = _of_seed(frame, seed, path)
    frame = frame[[name for name in (*TEXTS, *NUMBERS, *OTHERS) if name in frame.columns]].copy()
    if frame.empty:
        raise InputError("there are no predictions", where=path)
    known = set(tables.images["image_id"])
    for name in ("source", "target"):
        ids = {text: _image_id(text, known) for text in frame[name].astype(str).unique()}
        frame[name] = frame[name].astype(str).map(ids)
    frame["keypoint_id"] = frame["keypoint_id"].astype(str)
    for name in (*NUMBERS, "width", "height"):
        if name in frame.columns:
            frame[name] = _numbers(frame[name], path)
    if "method" not in frame.columns:
        frame["method"] = name_of(path)
    frame["method"] = frame["method"].fillna("").astype(str)
    # as `config.fields.Name`: a part of file names
    wrong = [name for name in frame["method"].unique() if not re.fullmatch(f"[A-Za-z0-9]{PLAIN}*", name)]
    if wrong:
        raise InputError(
            "bad value in column 'method'",
            where=path,
            expected="a name of letters, digits, '.', '_' and '-' that begins with a letter or digit",
            found=", ".join(map(short, wrong[:3])),
        )
    result = {}
    for method, own in frame.groupby("method", sort=False):
        maps = None if similarity is None else similarity[own.index.to_numpy()]
        columns = own.drop(columns="method").reset_index(drop=True)
        result[str(method)] = Given(columns, maps, str(path))
    return result


def _of_seed(frame: pd.DataFrame, seed: int | None, path: Path) -> pd.DataFrame:
    seeds = frame["seed"].astype(str) if "seed" in frame.columns else pd.Series("", frame.index)
    known = sorted(seeds.unique())
    chosen = known if seed is None else [str(seed)]
    if len(chosen) > 1 or not set(chosen) <= set(known):
        raise InputError(
            "predictions of several seeds" if seed is None else f"no predictions of seed {seed}",
            where=path,
            expected="those of one training seed, by the column `seed`",
            found=", ".join(filter(None, known)) or "no seeds",
            fix="choose one with --seed",
        )
    return frame[seeds.isin(chosen)]


def _read(path: Path, tables: Tables) -> tuple[pd.DataFrame, Any]:
    suffix = ending(path)
    if suffix == ".npz":
        return _from_npz(path)
    if suffix == ".json":
        records = read_json(path)
        if not (isinstance(records, list) and all(isinstance(record, dict) for record in records)):
            raise InputError("not a list of predictions", where=path, expected="[{…}, {…}]")
        return pd.DataFrame(records), None
    if suffix in (".pkl", ".pickle"):
        return _from_geoaware(path, tables), None
    try:
        # places as texts at first, since not all of pandas' ways to read numbers are exact
        return pd.read_csv(path, dtype=dict.fromkeys((*TEXTS, *NUMBERS, "method", "seed"), str)), None
    except (ValueError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError("not a CSV table", where=path, found=str(error)) from error


def _from_npz(path: Path) -> tuple[pd.DataFrame, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError("not a file of arrays", where=path, found=str(error)) from error
    similarity = arrays.pop("similarity", None)
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    flat = all(array.ndim == 1 for array in arrays.values()) and len(set(lengths.values())) == 1
    fits = similarity is None or (similarity.ndim == 3 and [len(similarity)] == [*set(lengths.values())])
    if not (flat and fits):
        shapes = {**arrays, **({} if similarity is None else {"similarity": similarity})}
        raise InputError(
            "the arrays do not fit together",
            where=path,
            expected="arrays (M,), and similarity (M, rows, columns) if it is there",
            found=", ".join(f"{name} {array.shape}" for name, array in shapes.items()),
        )
    if similarity is not None:
        similarity = np.ascontiguousarray(similarity, dtype=np.float32)
        if not np.isfinite(similarity).all():
            raise InputError("similarities are not numbers", where=path, expected="finite numbers")
    return pd.DataFrame(arrays), similarity


def _from_geoaware(path: Path, tables: Tables) -> pd.DataFrame:
    """GeoAware-SC's saved results: a list of dicts, a line of `src_kpts_pred` for each keypoint id.

    Places are (x, y) in a square of `resize_resolution` pixels, the picture in its middle, shifted by whole
    pixels (Zhang et al. 2024, pck_train.py and utils/utils_dataset.py).
    """
    records = read_pickle(path.read_bytes(), path, kind=list, most=PICKLE_BYTES, array=ARRAY_BYTES)
    known = set(tables.images["image_id"])
    names, widths, heights = (tables.images[name].tolist() for name in ("image_id", "width", "height"))
    sizes = dict(zip(names, zip(widths, heights, strict=True), strict=True))
    visible = tables.keypoints[tables.keypoints["visible"] == 1]
    ids = visible.groupby("image_id")["keypoint_id"].agg(set).to_dict()
    lines = []
    for number, record in enumerate(records):
        source, target, places, side = _geoaware_record(record, f"{path}, entry {number}")
        source, target = (_image_id(name, known) for name in (source, target))
        # where the images are not known, that is said later
        width, height = sizes.get(target, (side, side))
        scale = side / max(width, height)
        left, top = (int((side - int(np.around(scale * length))) / 2) for length in (width, height))
        asked = ids.get(source, set()) & ids.get(target, set())
        for keypoint, (x, y, *_) in enumerate(places):
            if str(keypoint) in asked or source not in known or target not in known:
                lines.append((source, target, str(keypoint), (x - left) / scale, (y - top) / scale))
    return pd.DataFrame(lines, columns=[*TEXTS, *NUMBERS])


def _geoaware_record(record: Any, where: str) -> tuple[str, str, list[list[float]], float]:
    if isinstance(record, Mapping):
        values = [record.get(key) for key in ("src_fn", "trg_fn", "src_kpts_pred", "resize_resolution")]
        source, target, places, side = values
        rows = isinstance(places, list) and all(isinstance(row, list) and len(row) >= 2 for row in places)
        if (
            isinstance(source, str)
            and isinstance(target, str)
            and rows
            and isinstance(side, int | float)
            and side > 0
        ):
            return source, target, places, float(side)  # type: ignore[return-value]
    raise InputError(
        "not a result of GeoAware-SC",
        where=where,
        expected="a dict with src_fn, trg_fn, src_kpts_pred (K, 2) and resize_resolution",
        found=", ".join(map(str, record)) if isinstance(record, Mapping) else type(record).__name__,
    )


def _image_id(text: str, known: Iterable[str]) -> str:
    """An id as it is, or of a path that ends in <category>/<name>.jpg; else the text."""
    if text in known:
        return text
    short = "/".join(re.sub(r"\.(jpe?g|png)$", "", text, flags=re.IGNORECASE).split("/")[-2:])
    return short if short in known else text


def _numbers(column: "pd.Series[Any]", path: Path) -> "pd.Series[float]":
    try:
        return column.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"bad value in column {column.name!r}", where=path, expected="numbers", found=str(error)
        ) from error

"""Adapter for PF-PASCAL (Ham et al. 2017, *Proposal Flow*, arXiv 1703.07144) with the usual lists of
pairs.

As unpacked from PF-dataset-PASCAL.zip, `root` being its folder PF-dataset-PASCAL:

    Annotations/<category>/<image>.mat    kps (K, 2): x and y, NaN where not visible
                                          bbox (1, 4): x1, y1, x2, y2
    JPEGImages/<image>.jpg

The archive holds no split. Published results use lists of pairs that were handed on separately, here in the
folder `pairs`, under one of the names that they have:

    trn_pairs.csv, train_pairs.csv or train_pairs_pf_pascal.csv
    val_pairs.csv or val_pairs_pf_pascal.csv
    test_pairs.csv or test_pairs_pf_pascal.csv

with the columns source_image, target_image (paths whose last part counts), class (1 aeroplane … 20
tvmonitor) and, for training, flip. All this is what the loaders of weakalign (Rocco et al. 2018), HPF (Min
et al. 2019), CATs (Cho et al. 2021) and GeoAware-SC (Zhang et al. 2024) read. Like most of them, this one
takes keypoints from the .mat files, row k of `kps` being keypoint k of the category; the columns of points
that some lists have (XA, YA, XB, YB) repeat these and are not read.

Rules:

- Pairs with flip = 1 are mirrored copies. A mirrored image is augmentation, not data: these pairs are left
  out, and counted on standard error. One without its original among the pairs becomes the original.
- Only images that a pair names belong to a split; other annotations are left out, and counted.
- Coordinates are kept as they are, as most loaders do. MATLAB counts pixels from 1, so that a picture spans
  [0.5, width + 0.5] and a point may lie half a pixel outside of what others call the picture. Points and
  boxes at most one pixel outside are moved onto the border, and counted; farther out is an error.
- There is neither azimuth nor mask.
- Published PCK on PF-PASCAL is relative to the longer side of the *picture*. With `box: image` every box is
  the whole picture, and PCK as computed here is the same; with `box: object` it is the annotated box, as on
  SPair-71k.
"""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spheremap.base.errors import InputError
from spheremap.base.progress import progress
from spheremap.data.adapters.common import (
    FileDigest,
    Ingested,
    frame,
    is_file_name,
    picture_size,
    read_bytes,
    read_text,
    require_folders,
    short,
    tell_left_out,
)
from spheremap.data.adapters.matfile import read_arrays
from spheremap.data.adapters.voc import VOC_CLASS_IDS
from spheremap.data.tables import IMAGES, KEYPOINTS, PAIRS, SPLITS, Tables

LIST_NAMES = {
    "train": ("trn_pairs.csv", "train_pairs.csv", "train_pairs_pf_pascal.csv"),
    "val": ("val_pairs.csv", "val_pairs_pf_pascal.csv"),
    "test": ("test_pairs.csv", "test_pairs_pf_pascal.csv"),
}
COLUMNS = ("source_image", "target_image", "class")
CATEGORIES = {number: name for name, number in VOC_CLASS_IDS.items()}
OVERHANG = 1.0  # px by which a coordinate may lie outside its picture


@dataclass(frozen=True)
class PFPascalParams:
    """Entry of params.yaml's `datasets`: the two folders, and what counts as an image's box."""

    layout: Literal["pf_pascal"]
    root: str
    pairs: str
    box: Literal["object", "image"]


@dataclass(frozen=True)
class _Pair:
    """One line of a list."""

    split: str
    category: str
    source: str  # name without suffix
    target: str
    where: str  # file and line


def read_pf_pascal(params: PFPascalParams) -> Ingested:
    """Read PF-PASCAL into the canonical tables.

    Images come sorted by image_id, keypoints likewise and by number, pairs as listed (train, val, test).

    Raises:
        InputError: naming the file (and line) that is missing or malformed.
    """
    root = Path(params.root)
    require_folders(root, ("Annotations", "JPEGImages"), "PF-PASCAL")
    digests = {kind: FileDigest() for kind in ("pairs", "annotations", "images")}
    pairs: list[_Pair] = []
    mirrored = 0
    for split in SPLITS:
        kept, left_out = _read_list(_find_list(Path(params.pairs), split), split, digests["pairs"])
        pairs += kept
        mirrored += left_out
    if not pairs:
        raise InputError("the lists of pairs are empty", where=params.pairs, expected="one pair or more")

    splits: dict[str, set[str]] = {}
    named_at: dict[str, str] = {}
    for pair in pairs:
        for name in (pair.source, pair.target):
            image_id = f"{pair.category}/{name}"
            splits.setdefault(image_id, set()).add(pair.split)
            named_at.setdefault(image_id, pair.where)

    rows: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    moved = 0
    for image_id in progress(sorted(splits), total=len(splits), desc="ingest", unit="images"):
        category, name = image_id.split("/")
        mat = root / "Annotations" / category / f"{name}.mat"
        content = read_bytes(mat, f"annotation of the image named in {named_at[image_id]}", fix="restore it")
        digests["annotations"].add(f"{category}/{name}", content)
        arrays = read_arrays(content, ("kps", "bbox"), mat)
        picture = root / "JPEGImages" / f"{name}.jpg"
        width, height = picture_size(picture, "image", digests["images"], named_in=named_at[image_id])
        kps, moved_points = _points(arrays["kps"], width, height, mat)
        box, moved_sides = _box(arrays["bbox"], width, height, mat)
        moved += moved_points + moved_sides
        x1, y1, x2, y2 = box if params.box == "object" else (0.0, 0.0, float(width), float(height))
        rows.append(
            {
                "image_id": image_id,
                "path": picture.as_posix(),
                "mask_path": "",
                "mask_value": VOC_CLASS_IDS[category],
                "category": category,
                "azimuth": math.nan,
                "x1": x1,
                "y1": y1,
                "x2": x2,
                "y2": y2,
                "width": width,
                "height": height,
                "split": "+".join(split for split in SPLITS if split in splits[image_id]),
                "instance": image_id,
            }
        )
        for number, (x, y) in enumerate(kps):
            visible = not math.isnan(x)
            points.append(
                {
                    "image_id": image_id,
                    "keypoint_id": str(number),
                    "name": str(number),
                    "x": x,
                    "y": y,
                    "visible": int(visible),
                }
            )
    tell_left_out(mirrored, "left out as mirrored copies of training pairs (flip = 1)")
    annotated = sum(1 for path in (root / "Annotations").glob("*/*.mat") if path.name[0] != ".")
    tell_left_out(annotated - len(rows), "left out as images that no pair names")
    tell_left_out(moved, "points and boxes up to a pixel outside their picture, moved onto its border")
    tables = Tables(
        images=frame(rows, IMAGES),
        keypoints=frame(points, KEYPOINTS),
        pairs=frame(
            [
                {
                    "split": pair.split,
                    "source": f"{pair.category}/{pair.source}",
                    "target": f"{pair.category}/{pair.target}",
                }
                for pair in pairs
            ],
            PAIRS,
        ),
    )
    return Ingested(tables, {kind: digest.hexdigest() for kind, digest in digests.items()})


# --- lists of pairs -----------------------------------------------------------------------------------------


def _find_list(folder: Path, split: str) -> Path:
    found = [name for name in LIST_NAMES[split] if (folder / name).is_file()]
    if len(found) != 1:
        raise InputError(
            f"no list of {split} pairs" if not found else f"several lists of {split} pairs",
            where=folder,
            expected="exactly one of " + ", ".join(LIST_NAMES[split]),
            found=", ".join(found) or "none of them",
            fix="put the list there" if not found else "remove all but one",
        )
    return folder / found[0]


def _read_list(path: Path, split: str, digest: FileDigest) -> tuple[list[_Pair], int]:
    """The pairs of a list, and how many mirrored copies of them it also has."""
    fix = "restore the list of pairs"
    text = read_text(path, "list of pairs", digest, fix=fix)
    # universal newlines only between lines: a quoted field over several lines is not part of this format
    lines = text.replace("\r\n", "\n").split("\n")
    pairs: list[_Pair] = []
    mirrored: list[_Pair] = []
    header: list[str] | None = None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            fields = [field.strip() for field in next(csv.reader(io.StringIO(line), strict=True))]
        except (csv.Error, StopIteration) as error:
            raise InputError("malformed line", where=where, found=short(line), fix=fix) from error
        if header is None:
            header = fields
            _check_header(header, where)
            continue
        if len(fields) != len(header):
            raise InputError(
                "malformed line",
                where=where,
                expected=f"{len(header)} fields as in the header",
                found=f"{len(fields)} fields",
                fix=fix,
            )
        record = dict(zip(header, fields, strict=True))
        category = CATEGORIES[_whole(record["class"], 1, len(CATEGORIES), "class", where)]
        flip = _whole(record["flip"], 0, 1, "flip", where) if "flip" in record else 0
        source, target = (_image_name(record[column], column, where) for column in COLUMNS[:2])
        (mirrored if flip else pairs).append(_Pair(split, category, source, target, where))
    if header is None:
        raise InputError(
            "the list of pairs has no header", where=path, expected=", ".join(COLUMNS), found="an empty file"
        )
    listed = {(pair.category, pair.source, pair.target) for pair in pairs}
    copies = 0
    for pair in mirrored:
        key = (pair.category, pair.source, pair.target)
        if key in listed:
            copies += 1
        else:  # no image may get lost with its mirrored copy
            listed.add(key)
            pairs.append(pair)
    return pairs, copies


def _check_header(header: list[str], where: str) -> None:
    if len(set(header)) < len(header) or not set(COLUMNS) <= set(header):
        raise InputError(
            "wrong header in the list of pairs",
            where=where,
            expected="a column each of " + ", ".join(COLUMNS),
            found=short(", ".join(header)),
            fix="restore the list of pairs",
        )


def _whole(text: str, low: int, high: int, column: str, where: str) -> int:
    """A whole number, which some of the lists write as 3.0."""
    digits = text.removesuffix(".0")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 4 and low <= int(digits) <= high):
        raise InputError(
            f"wrong value in column {column!r}",
            where=where,
            expected=f"a whole number from {low} to {high}",
            found=short(text),
        )
    return int(digits)


def _image_name(text: str, column: str, where: str) -> str:
    name = PurePosixPath(text).name
    if not is_file_name(name) or not name.endswith(".jpg") or name == ".jpg":
        raise InputError(
            f"wrong value in column {column!r}",
            where=where,
            expected="the path of a .jpg file of the folder JPEGImages",
            found=short(text),
        )
    return name.removesuffix(".jpg")


# --- annotations --------------------------------------------------------------------------------------------


def _points(
    kps: NDArray[np.float64], width: int, height: int, path: Path
) -> tuple[list[tuple[float, float]], int]:
    """Keypoints as (x, y), both NaN where not visible, and how many were moved onto the border."""
    if kps.ndim != 2 or (kps.shape[1] != 2 and kps.size) or len(kps) > 1000:
        raise InputError(
            "malformed annotation: variable 'kps'",
            where=path,
            expected="one row of x and y per keypoint",
            found=f"an array of shape {kps.shape}",
        )
    points: list[tuple[float, float]] = []
    moved = 0
    for number, (x, y) in enumerate(kps.tolist() if kps.size else []):
        if math.isnan(x) and math.isnan(y):
            points.append((x, y))
        elif -OVERHANG <= x <= width + OVERHANG and -OVERHANG <= y <= height + OVERHANG:
            inside = (min(max(x, 0.0), float(width)), min(max(y, 0.0), float(height)))
            moved += inside != (x, y)
            points.append(inside)
        else:
            raise InputError(
                f"keypoint outside the image: row {number + 1} of 'kps'",
                where=path,
                expected=f"0 <= x <= {width} and 0 <= y <= {height}, or NaN twice",
                found=f"{x}, {y}",
                fix="correct the point, or set it to NaN if it cannot be seen",
            )
    return points, moved


def _box(
    bbox: NDArray[np.float64], width: int, height: int, path: Path
) -> tuple[tuple[float, float, float, float], int]:
    """The object's box, and whether it was moved onto the border (0 or 1)."""
    if bbox.size == 4:
        x1, y1, x2, y2 = values = bbox.ravel().tolist()
        limits = (width, height, width, height)
        near = all(-OVERHANG <= v <= limit + OVERHANG for v, limit in zip(values, limits, strict=True))
        inside = [min(max(v, 0.0), float(limit)) for v, limit in zip(values, limits, strict=True)]
        if near and inside[0] < inside[2] and inside[1] < inside[3]:
            x1, y1, x2, y2 = inside
            return (x1, y1, x2, y2), int(inside != values)
    raise InputError(
        "malformed annotation: variable 'bbox'",
        where=path,
        expected=f"x1, y1, x2, y2 with 0 <= x1 < x2 <= {width} and 0 <= y1 < y2 <= {height}",
        found=short(bbox.ravel().tolist()),
        fix="correct the box",
    )

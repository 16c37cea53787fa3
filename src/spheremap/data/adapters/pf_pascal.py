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
import math
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheremap.base.errors import short
from spheremap.config.data_sets import PFPascal as Params
from spheremap.data.adapter_tools import (
    Box,
    Fields,
    FileDigest,
    Ingested,
    Point,
    image_row,
    ingested,
    ingesting,
    is_file_name,
    keypoint_row,
    numbered_lines,
    outside_error,
    picture_size,
    read_bytes,
    read_text,
    refusal,
    require_folders,
    tell_left_out,
)
from spheremap.data.tables import SPLITS
from spheremap.data.voc import VOC_CLASS_IDS

LIST_NAMES = {
    "train": ("trn_pairs.csv", "train_pairs.csv", "train_pairs_pf_pascal.csv"),
    "val": ("val_pairs.csv", "val_pairs_pf_pascal.csv"),
    "test": ("test_pairs.csv", "test_pairs_pf_pascal.csv"),
}
COLUMNS = ("source_image", "target_image", "class")
CATEGORIES = {number: name for name, number in VOC_CLASS_IDS.items()}
OVERHANG = 1.0  # px by which a coordinate may lie outside its picture


@dataclass(frozen=True)
class _Pair:
    """One line of a list."""

    split: str
    source: str  # image_id
    target: str
    where: str  # file and line


def read(params: Params) -> Ingested:
    """Read PF-PASCAL into the canonical tables.

    Images come sorted by image_id, keypoints likewise and by number, pairs as listed (train, val, test).

    Raises:
        InputError: naming the file (and line) that is missing or malformed.
    """
    root = Path(params.root)
    require_folders(root, ("Annotations", "JPEGImages"), "PF-PASCAL")
    digests = {kind: FileDigest() for kind in ("pairs", "annotations", "images")}
    pairs = [
        pair
        for split in SPLITS
        for pair in _read_list(_find_list(Path(params.pairs), split), split, digests["pairs"])
    ]
    if not pairs:
        raise refusal("the lists of pairs are empty", params.pairs, "one pair or more", "none")
    named_in: dict[str, list[_Pair]] = {}
    for pair in pairs:
        for image_id in (pair.source, pair.target):
            named_in.setdefault(image_id, []).append(pair)

    rows: list[dict[str, Any]] = []
    keypoints: list[dict[str, Any]] = []
    moved = 0
    for image_id in ingesting(sorted(named_in)):
        first = named_in[image_id][0].where
        category, name = image_id.split("/")
        mat = root / "Annotations" / category / f"{name}.mat"
        content = read_bytes(mat, f"annotation of the image named in {first}")
        digests["annotations"].add(image_id, content)
        kps, bbox = read_arrays(content, ("kps", "bbox"), mat)
        picture = root / "JPEGImages" / f"{name}.jpg"
        size = picture_size(picture, "image", digests["images"], named_in=first)
        points, moved_points = _points(kps, size, mat)
        box, moved_box = _box(bbox, size, mat)
        moved += moved_points + moved_box
        if params.box == "image":
            box = (0.0, 0.0, float(size[0]), float(size[1]))
        splits = {pair.split for pair in named_in[image_id]}
        rows.append(image_row(image_id, picture, size, box, splits, mask_value=VOC_CLASS_IDS[category]))
        keypoints += [keypoint_row(image_id, str(k), str(k), point) for k, point in enumerate(points)]
    annotated = sum(1 for path in (root / "Annotations").glob("*/*.mat") if path.name[0] != ".")
    tell_left_out(annotated - len(rows), "images left out that no pair names")
    tell_left_out(moved, "points and boxes up to a pixel outside their picture, moved onto its border")
    return ingested(rows, keypoints, [(pair.split, pair.source, pair.target) for pair in pairs], digests)


# --- lists of pairs -----------------------------------------------------------------------------------------


def _find_list(folder: Path, split: str) -> Path:
    found = [name for name in LIST_NAMES[split] if (folder / name).is_file()]
    if len(found) != 1:
        problem, fix = ("several lists", "remove all but one") if found else ("no list", "put the list there")
        expected = "exactly one of " + ", ".join(LIST_NAMES[split])
        names = ", ".join(found) or "none of them"
        raise refusal(f"{problem} of {split} pairs", folder, expected, names, fix)
    return folder / found[0]


def _read_list(path: Path, split: str, digest: FileDigest) -> list[_Pair]:
    """The pairs of a list, without mirrored copies of others."""
    # line by line: a quoted field over several lines is not part of this format
    lines = numbered_lines(path, read_text(path, "list of pairs", digest))
    header = _split_line(*lines[0]) if lines else []
    if len(set(header)) < len(header) or not set(COLUMNS) <= set(header):
        expected = "a column each of " + ", ".join(COLUMNS)
        raise refusal("wrong header in the list of pairs", path, expected, short(", ".join(header)))
    pairs: list[_Pair] = []
    mirrored: list[_Pair] = []
    for where, line in lines[1:]:
        values = _split_line(where, line)
        if len(values) != len(header):
            expected = f"{len(header)} fields as in the header"
            raise refusal("malformed line", where, expected, f"{len(values)} fields")
        fields = Fields(dict(zip(header, values, strict=True)), where, "pair")
        category = CATEGORIES[_whole(fields, "class", 1, len(CATEGORIES))]
        source, target = (f"{category}/{_image_name(fields, column)}" for column in COLUMNS[:2])
        is_mirrored = "flip" in header and _whole(fields, "flip", 0, 1)
        (mirrored if is_mirrored else pairs).append(_Pair(split, source, target, where))
    listed = {(pair.source, pair.target) for pair in pairs}
    for pair in mirrored:
        if (pair.source, pair.target) not in listed:  # no image may get lost with its mirrored copy
            listed.add((pair.source, pair.target))
            pairs.append(pair)
    copies = len(lines) - 1 - len(pairs)
    tell_left_out(copies, f"mirrored copies of {split} pairs left out (flip = 1)")
    return pairs


def _split_line(where: str, line: str) -> list[str]:
    try:
        return [value.strip() for value in next(csv.reader([line.strip()], strict=True))]
    except csv.Error as error:
        raise refusal("malformed line", where, "fields between commas", short(line)) from error


def _whole(fields: Fields, column: str, low: int, high: int) -> int:
    """A whole number, which some of the lists write as 3.0."""

    def is_whole(text: str) -> bool:
        return re.fullmatch(r"[0-9]{1,3}(\.0)?", text) is not None and low <= float(text) <= high

    return int(float(fields.get(column, is_whole, f"a whole number from {low} to {high}")))


def _image_name(fields: Fields, column: str) -> str:
    def is_image(text: str) -> bool:
        name = PurePosixPath(text).name
        return is_file_name(name) and name.endswith(".jpg")

    expected = "the path of a .jpg file of the folder JPEGImages"
    return PurePosixPath(fields.get(column, is_image, expected)).stem


# --- annotations --------------------------------------------------------------------------------------------


def _points(kps: NDArray[np.float64], size: tuple[int, int], path: Path) -> tuple[list[Point | None], int]:
    """Keypoints as (x, y), None where not visible, and how many were moved onto the border."""
    if kps.ndim != 2 or (kps.shape[1] != 2 and kps.size) or len(kps) > 1000:
        found = f"an array of shape {kps.shape}"
        raise refusal("malformed annotation: variable 'kps'", path, "one row of x and y per keypoint", found)
    points: list[Point | None] = []
    moved = 0
    for number, (x, y) in enumerate(kps.tolist() if kps.size else [], start=1):
        if math.isnan(x) and math.isnan(y):
            points.append(None)
            continue
        inside = _onto(x, size[0]), _onto(y, size[1])
        if not (abs(x - inside[0]) <= OVERHANG and abs(y - inside[1]) <= OVERHANG):
            fix = "correct the point, or set it to NaN twice if it cannot be seen"
            raise outside_error(f"row {number} of 'kps'", (x, y), size, path, fix)
        moved += inside != (x, y)
        points.append(inside)
    return points, moved


def _box(bbox: NDArray[np.float64], size: tuple[int, int], path: Path) -> tuple[Box, bool]:
    """The object's box, and whether it was moved onto the border."""
    given = bbox.ravel().tolist()
    if len(given) == 4:
        x1, y1, x2, y2 = inside = [_onto(value, size[i % 2]) for i, value in enumerate(given)]
        near = all(abs(a - b) <= OVERHANG for a, b in zip(given, inside, strict=True))
        if near and x1 < x2 and y1 < y2:
            return (x1, y1, x2, y2), inside != given
    expected = f"x1, y1, x2, y2 with 0 <= x1 < x2 <= {size[0]} and 0 <= y1 < y2 <= {size[1]}"
    raise refusal("malformed annotation: variable 'bbox'", path, expected, short(given))


def _onto(value: float, limit: int) -> float:
    """The nearest coordinate from 0 to `limit`; NaN stays NaN."""
    return min(max(value, 0.0), float(limit))


# --- MATLAB files -------------------------------------------------------------------------------------------
#
# Level 5 (MathWorks, "MAT-File Format"): a header of 128 bytes, then elements, each a type, a size and data
# padded to eight bytes. A variable is an element made of elements: flags with its class, dimensions, name,
# numbers. SciPy's reader is not used because it crashes, instead of raising an error, where the type of the
# numbers is damaged (an index that it does not check).

MI_MATRIX, MI_COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMERIC_CLASSES = range(6, 16)  # double, single, int8 … uint64
MAX_BYTES = 1 << 20  # of one decompressed variable; annotations hold a few hundred


def read_arrays(content: bytes, names: Sequence[str], path: Path) -> list[NDArray[np.float64]]:
    """Variables of a MATLAB file, in the shapes that MATLAB gives them; others are passed over.

    Raises:
        InputError: if the file is damaged, or one of `names` is missing, there twice or not an array of real
            numbers.
    """
    arrays: dict[str, NDArray[np.float64]] = {}
    try:
        order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
        if order is None:
            raise ValueError("no header of level 5")
        for kind, data in _elements(content[128:], order):
            if kind == MI_COMPRESSED:
                [(kind, data)] = _elements(_decompress(data), order)
            if kind != MI_MATRIX:
                raise ValueError(f"type {kind} instead of a variable")
            (_, flags), (_, dimensions), (_, label), *numbers = _elements(data, order)
            name = label.decode("latin-1")
            if name in arrays:
                raise ValueError(f"variable {name!r} twice")
            if name in names:
                arrays[name] = _array(flags, dimensions, numbers, order)
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ValueError(f"no variable {missing[0]!r}")
    except (ValueError, struct.error, zlib.error) as error:
        expected = "level 5, with the arrays of real numbers " + ", ".join(names)
        raise refusal("not a usable MATLAB file", path, expected, short(str(error))) from error
    return [arrays[name] for name in names]


def _elements(data: bytes, order: str) -> list[tuple[int, bytes]]:
    """The elements of a file or variable as (type, data)."""
    elements = []
    at = 0
    while at < len(data):
        kind, size = struct.unpack(f"{order}II", data[at : at + 8])
        start = at + 8
        if kind >> 16:  # up to four bytes of data stand in place of the size
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            if size > 4:
                raise ValueError(f"{size} bytes where four have room")
        elements.append((kind, data[start : start + size]))
        if start + size > len(data):
            raise ValueError(f"an element of {size} bytes where {len(data) - start} are left")
        at = start + size if kind == MI_COMPRESSED else start + size + -(start + size - at) % 8
    return elements


def _decompress(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    result = stream.decompress(data, MAX_BYTES)
    if not stream.eof:
        raise ValueError(f"a compressed variable that breaks off, or of more than {MAX_BYTES} bytes")
    return result


def _array(
    flags: bytes, dimensions: bytes, numbers: list[tuple[int, bytes]], order: str
) -> NDArray[np.float64]:
    [(kind, data)] = numbers  # complex numbers would be two elements
    if struct.unpack(f"{order}I", flags[:4])[0] & 0xFF not in NUMERIC_CLASSES or kind not in NUMBERS:
        raise ValueError("a variable that is not an array of numbers")
    values = np.frombuffer(data, order + NUMBERS[kind]).astype(np.float64)
    return values.reshape(np.frombuffer(dimensions, f"{order}u4").tolist(), order="F")

"""Adapter for one's own photographs: a folder with pictures anywhere in it, and up to three CSV tables.

    images.csv      image, category; if wanted azimuth or azimuth_bin, split, instance, mask, x1, y1, x2, y2
    keypoints.csv   image, keypoint, x, y; if wanted visible      only where matches are to be measured
    pairs.csv       split, source, target                         only where the pairs are not to be drawn

The layout is this project's own; docs/datasets/folder.md leads through it with examples. `image`, `mask`,
`source` and `target` are paths relative to the folder. Coordinates are (x, y) in pixels from the upper left
corner of the picture. What a field or table that is absent means:

    azimuth, azimuth_bin    unknown: the image sits out the viewpoint loss. Degrees may be given from -360 to
                            360; bin b of `bins` is b * 360 / bins degrees. 0 frontal, 90 facing image-left
    split                   instances are divided by `shares`, seeded, category by category; without keypoints
                            all images are for training, and with pairs.csv the pairs decide
    instance                each image shows an object of its own
    mask                    the whole box counts as the object
    x1, y1, x2, y2          the box about the mask, else the whole picture
    keypoints.csv           nothing can be measured: no pairs are drawn for val and test
    pairs.csv               up to `max_pairs` ordered pairs of a category in val and in test, drawn by `seed`

A mask is any picture of the image's size: where it is transparent anywhere, the object is what is not wholly
transparent, else the pixels with a value above 0. An EXIF orientation is not applied anywhere in this
package, so a picture that carries one is refused here: annotations made on the turned picture would go wrong.
"""

import csv
import io
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheremap.base.errors import InputError, did_you_mean, short
from spheremap.config.data_sets import Folder as Params
from spheremap.config.data_sets import Shares
from spheremap.data.adapter_tools import (
    Box,
    FileDigest,
    Ingested,
    Point,
    image_row,
    ingested,
    ingesting,
    is_text,
    keypoint_row,
    read_bytes,
    read_text,
    refusal,
    tell_left_out,
)
from spheremap.data.draw_pairs import sample_pairs
from spheremap.data.images import ANY_VALUE, extent, foreground, open_picture, orientation_of, reading
from spheremap.data.tables import SPLITS

CATEGORY = r"\w[\w+.-]*"  # becomes part of image ids
CATEGORY_EXPECTED = "a name of letters and digits, then also '_', '+', '.', '-'; no spaces"
BOX = ("x1", "y1", "x2", "y2")
IMAGE_COLUMNS = ("azimuth", "azimuth_bin", "split", "instance", "mask", *BOX)
MASK_MODES = ("1", "L", "P", "I", "I;16", "RGB", "LA", "PA", "RGBA")


@dataclass
class LabelledImage:
    """One row of images.csv, checked; `split` is filled in once all rows are known."""

    line: "Row"  # as it is written
    image_id: str
    category: str
    instance: str
    size: tuple[int, int]
    row: dict[str, Any]  # of the canonical table, but for the split
    split: set[str]
    points: dict[str, Point | None] = field(default_factory=dict)  # None: not visible


def read(params: Params) -> Ingested:
    """Read a folder of one's own into the canonical tables.

    Every row of images.csv becomes an image, `<category>/<path without suffix>` with `__` for `/`. An image
    has rows for all keypoints that its category has in keypoints.csv. A train image that is the source of no
    train pair is paired with itself, since the sources of the train pairs are what is trained on.

    Raises:
        InputError: naming the file, and the line of a table, that is missing or malformed.
    """
    root = Path(params.root)
    digests = {kind: FileDigest() for kind in ("tables", "images", "masks")}
    images = read_images(root, params.bins, digests)
    measured = read_keypoints(root / "keypoints.csv", images, digests["tables"])
    split_known = any("split" in image.line.values for image in images.values())
    pairs = _read_pairs(root / "pairs.csv", images, split_known, digests["tables"])
    if pairs is None:
        if not split_known:
            _divide(list(images.values()), params.shares if measured else Shares(1.0, 0.0, 0.0), params.seed)
        pairs = _draw_pairs(images, params) if measured else []
        if not measured:
            unpaired = sum(1 for image in images.values() if image.split & {"val", "test"})
            tell_left_out(unpaired, "val and test images without pairs, for want of keypoints")
    sources = {source for split, source, _ in pairs if split == "train"}
    pairs += [
        ("train", image.image_id, image.image_id)
        for image in images.values()
        if "train" in image.split and image.image_id not in sources
    ]
    rows = [{**i.row, "split": "+".join(s for s in SPLITS if s in i.split)} for i in images.values()]
    return ingested(rows, _keypoint_rows(images), pairs, digests)


def _check_names(root: Path) -> None:
    """Refuse a table whose name is written otherwise: it would be passed over."""
    tables = ("images.csv", "keypoints.csv", "pairs.csv")
    for found in (path.name for path in root.iterdir()) if root.is_dir() else ():
        if found not in tables and found.lower() in tables:
            problem = "the name of a table is written otherwise"
            raise refusal(problem, root, found.lower(), found, "rename or remove the file")


# --- images.csv ---------------------------------------------------------------------------------------------


def read_images(
    root: Path, bins: int | None, digests: Mapping[str, FileDigest], columns: tuple[str, ...] = IMAGE_COLUMNS
) -> dict[str, LabelledImage]:
    """The rows of images.csv by the pictures' paths as written.

    `columns` are those that may stand beside image and category.

    Raises:
        InputError: as `read`.
    """
    _check_names(root)
    table = Table(root / "images.csv", ("image", "category"), columns, digests["tables"])
    images: dict[str, LabelledImage] = {}
    names: dict[str, str] = {}  # image_id -> path as written
    for row in ingesting(table.rows):
        name = row.path("image")
        if name in images:
            raise row.wrong("image", f"each image once (first in {images[name].line.where})")
        image = _read_image(row, root, name, bins, digests)
        if image.image_id in names:
            expected = f"a path that differs from {names[image.image_id]!r} in more than '/' and the ending"
            raise row.wrong("image", f"{expected}: both would be named {image.image_id!r}")
        images[name], names[image.image_id] = image, name
    if not images:
        raise refusal("the data set has no images", table.path, "one row or more", "a header alone")
    return images


def _read_image(
    row: "Row", root: Path, name: str, bins: int | None, digests: Mapping[str, FileDigest]
) -> LabelledImage:
    category, instance = row.values["category"], row.values.get("instance", "")
    if re.fullmatch(CATEGORY, category) is None:
        raise row.wrong("category", CATEGORY_EXPECTED)
    if instance and not is_text(instance):
        raise row.wrong("instance", "a text of printable characters, or nothing")
    size = _picture_size(root / name, row, digests["images"])
    mask, value, inside = "", 1, None
    if row.values.get("mask"):
        path = root / row.path("mask")
        value, inside = _read_mask(path, size, row, digests["masks"])
        mask = path.as_posix()
    image_id = f"{category}/{PurePosixPath(name).with_suffix('').as_posix().replace('/', '__')}"
    others = {"mask_path": mask, "mask_value": value, "instance": instance or image_id}
    box, azimuth = _box(row, size, inside), _azimuth(row, bins)
    canonical = image_row(image_id, root / name, size, box, "", azimuth=azimuth, **others)
    return LabelledImage(row, image_id, category, instance or image_id, size, canonical, _splits(row))


def _azimuth(row: "Row", bins: int | None) -> float:
    if row.values.get("azimuth_bin"):
        if bins is None:
            problem = "images.csv has azimuth bins, but their number is not known"
            fix = "set it to the number of bins in the full circle"
            raise refusal(problem, row.where, "`bins` in the data set's entry in params.yaml", "null", fix)
        text = row.values["azimuth_bin"]
        if re.fullmatch(r"[0-9]{1,9}", text) is None or int(text) >= bins:
            raise row.wrong("azimuth_bin", f"a whole number from 0 to {bins - 1}, or nothing")
        return int(text) * 360.0 / bins
    if row.values.get("azimuth"):
        degrees = row.number("azimuth", -360, 360, "degrees from -360 to 360, or nothing") % 360.0
        return 0.0 if degrees == 360.0 else degrees  # a tiny negative number is rounded up to 360
    return math.nan


def _splits(row: "Row") -> set[str]:
    if "split" not in row.values:
        return set()
    splits = row.values["split"].split("+")
    if not set(splits) <= set(SPLITS) or len(set(splits)) < len(splits):
        raise row.wrong("split", "train, val or test (several joined by '+')")
    return set(splits)


def _box(row: "Row", size: tuple[int, int], inside: NDArray[np.bool_] | None) -> Box:
    width, height = size
    if any(row.values.get(side) for side in BOX):
        expected = f"0 <= x1 < x2 <= {width} and 0 <= y1 < y2 <= {height}, or nothing in all four"
        limits = zip(BOX, (*size, *size), strict=True)
        x1, y1, x2, y2 = (row.number(side, 0, limit, expected) for side, limit in limits)
        if not (x1 < x2 and y1 < y2):
            raise row.wrong("x2" if x1 >= x2 else "y2", expected)
        return x1, y1, x2, y2
    if inside is not None:
        return extent(inside)
    return 0.0, 0.0, float(width), float(height)


def _divide(images: list[LabelledImage], shares: Shares, seed: int) -> None:
    """Give each image its split: instances are shuffled per category and cut into test, val and train.

    A share above 0 gets one instance at least, as long as there are enough of them for train, test and val in
    this order.
    """
    generator = np.random.default_rng(seed)
    by_category: dict[str, set[str]] = {}
    for image in images:
        by_category.setdefault(image.category, set()).add(image.instance)
    for category in sorted(by_category):
        instances = [str(name) for name in generator.permutation(sorted(by_category[category]))]
        free = len(instances) - (shares.train > 0)
        test = min(free, max(round(len(instances) * shares.test), int(shares.test > 0)))
        free -= test
        val = min(free, max(round(len(instances) * shares.val), int(shares.val > 0)))
        if shares.train == 0:  # nothing is left over for train
            val, test = (val, len(instances) - val) if shares.test > 0 else (len(instances), 0)
        split_of = {
            name: "test" if i < test else "val" if i < test + val else "train"
            for i, name in enumerate(instances)
        }
        for image in images:
            if image.category == category:
                image.split = {split_of[image.instance]}


# --- pictures -----------------------------------------------------------------------------------------------


def _picture_size(path: Path, row: "Row", digest: FileDigest) -> tuple[int, int]:
    """(width, height) as stored; only the header is read."""
    content = read_bytes(path, f"image named in {row.where}", fix="correct the path, or remove the line")
    digest.add(row.values["image"], content)
    turn = "turn the stored pixels (`spheremap label --upright`, docs/datasets/folder.md), or remove the tag"
    return upright_size(path, content, f"replace the file, or remove it from {row.where}", turn)


def upright_size(path: Path, content: bytes, replace: str, turn: str) -> tuple[int, int]:
    """(width, height) of a picture that is stored upright.

    Args:
        path: where it lies, for messages.
        content: its bytes, of which the header is decoded.
        replace: what to do about a file that is no picture.
        turn: what to do about one that is stored turned.

    Raises:
        InputError: for either.
    """
    with reading(path, "image", replace):
        picture = open_picture(io.BytesIO(content))
    if (orientation := orientation_of(picture)) > 1:
        problem = "the picture is stored turned: its EXIF orientation is not 1"
        expected = "pixels stored upright, as coordinates and viewpoints refer to them"
        raise refusal(problem, path, expected, f"EXIF orientation {orientation}", turn)
    return picture.size


def _read_mask(
    path: Path, size: tuple[int, int], row: "Row", digest: FileDigest
) -> tuple[int, NDArray[np.bool_]]:
    """The value of the object's pixels, or `ANY_VALUE` if there are several, and where they are, `(H, W)`."""
    content = read_bytes(path, f"mask named in {row.where}", fix="correct the path, or leave the field empty")
    digest.add(row.values["mask"], content)
    with reading(path, "mask", "replace the file, or leave the field `mask` empty"):
        picture = open_picture(io.BytesIO(content))
        if picture.size != size:  # such a one is not decoded, however large it says it is
            expected = f"{size[0]} x {size[1]} pixels as {row.values['image']}"
            found, fix = "{} x {} pixels".format(*picture.size), f"draw it anew, or correct {row.where}"
            raise refusal("mask of another size than its image", path, expected, found, fix)
        picture.load()
    if picture.mode not in MASK_MODES:
        expected = "a PNG in grey, colour or with transparency"
        raise refusal("mask of an unknown kind", path, expected, f"mode {picture.mode}", "save it as such")
    inside = foreground(picture)
    if not inside.any():
        fix = "draw the object, or leave the field `mask` empty: the whole box then counts"
        raise refusal("the mask is empty", path, "pixels above 0 where the object is", "none", fix)
    values = np.asarray(picture)
    if values.ndim == 2 and np.array_equal(values > 0, inside):
        distinct = np.unique(values[inside])
        if len(distinct) == 1:
            return int(distinct[0]), inside
    return ANY_VALUE, inside


# --- keypoints.csv and pairs.csv ----------------------------------------------------------------------------


def read_keypoints(path: Path, images: Mapping[str, LabelledImage], digest: FileDigest) -> bool:
    """Put the keypoints into the images; whether there are any."""
    if not path.exists():
        return False
    rows = Table(path, ("image", "keypoint", "x", "y"), ("visible",), digest).rows
    if not rows:
        fix = "write them, or remove the file: without it all pictures are for training"
        raise refusal("the table of keypoints has no rows", path, "one row or more", "a header alone", fix)
    for row in rows:
        image = row.image("image", images)
        name, visible = row.values["keypoint"], row.values.get("visible", "")
        if not is_text(name):
            raise row.wrong("keypoint", "a name of printable characters")
        if name in image.points:
            raise row.wrong("keypoint", "each keypoint once per image")
        if visible not in ("", "0", "1"):
            raise row.wrong("visible", "0, 1 or nothing")
        image.points[name] = None
        if row.values["x"] or row.values["y"]:
            x, y = (
                row.number(axis, 0, limit, f"a number from 0 to {limit}, the picture's {side}")
                for axis, limit, side in zip("xy", image.size, ("width", "height"), strict=True)
            )
            image.points[name] = None if visible == "0" else (x, y)
        elif visible == "1":
            raise row.wrong("x", "a place, since the keypoint is said to be visible")
    return any(point is not None for image in images.values() for point in image.points.values())


def _keypoint_rows(images: Mapping[str, LabelledImage]) -> list[dict[str, Any]]:
    """Rows of all keypoints that an image's category has; one name is one number in all categories."""
    names = sorted({name for image in images.values() for name in image.points})
    numbers = {name: str(i) for i, name in enumerate(names)}
    of_category: dict[str, set[str]] = {}
    for image in images.values():
        of_category.setdefault(image.category, set()).update(image.points)
    rows = []
    for image in images.values():
        for name in sorted(of_category[image.category]):
            rows.append(keypoint_row(image.image_id, numbers[name], name, image.points.get(name)))
    return rows


def _read_pairs(
    path: Path, images: Mapping[str, LabelledImage], split_known: bool, digest: FileDigest
) -> list[tuple[str, str, str]] | None:
    """The listed pairs (split, source, target), or None if there is no list.

    If images.csv does not say the images' splits, they are those of the pairs, and train for the others.
    """
    if not path.exists():
        return None
    pairs: dict[tuple[str, str, str], str] = {}  # and the line
    for row in Table(path, ("split", "source", "target"), (), digest).rows:
        split = row.values["split"]
        if split not in SPLITS:
            raise row.wrong("split", "train, val or test")
        source, target = row.image("source", images), row.image("target", images)
        if source is target:
            raise row.wrong("target", "another image than the source")
        for column, image in (("source", source), ("target", target)):
            if split_known and split not in image.split:
                raise row.wrong(column, f"an image of split {split} ({image.line.where} says otherwise)")
            if not split_known:
                image.split.add(split)
        pair = (split, source.image_id, target.image_id)
        if pair in pairs:
            raise row.wrong("target", f"each pair once (first in {pairs[pair]})")
        pairs[pair] = row.where
    for image in images.values():
        image.split = image.split or {"train"}
    return list(pairs)


def _draw_pairs(images: Mapping[str, LabelledImage], params: Params) -> list[tuple[str, str, str]]:
    names = sorted({name for image in images.values() for name in image.points})
    categories = sorted({image.category for image in images.values()})
    pairs = []
    for split, without in (
        ("val", "the last head will be kept"),
        ("test", "there will be nothing to evaluate"),
    ):
        members = [image for image in images.values() if split in image.split]
        visible = np.array([[im.points.get(name) is not None for name in names] for im in members], np.bool_)
        group = np.array([categories.index(image.category) for image in members], np.int64)
        visible, share = visible.reshape(len(members), len(names)), params.min_shared_keypoints
        drawn = sample_pairs(visible, group, count=params.max_pairs, min_shared=share, seed=params.seed)
        pairs += [(split, members[i].image_id, members[j].image_id) for i, j in drawn]
        if not len(drawn):
            told = f"no pairs of the split {split!r}: {without}, unless others are merged in. It has"
            told += f" {len(members)} images, and a pair shares {share} keypoints (min_shared_keypoints)"
            print(f"ingest: {told}", file=sys.stderr)
    return pairs


# --- CSV ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of a table: field by column name, stripped."""

    where: str  # file and line
    values: dict[str, str]

    def wrong(self, column: str, expected: str) -> InputError:
        """The error for a field that is not as expected."""
        return refusal(f"bad value in column {column!r}", self.where, expected, short(self.values[column]))

    def number(self, column: str, low: float, high: float, expected: str) -> float:
        text = self.values[column]
        # `float` would also take "nan", "1_0" and digits of other scripts
        if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text) is None:
            raise self.wrong(column, expected)
        value = float(text)
        if not low <= value <= high:
            raise self.wrong(column, expected)
        return value + 0.0  # no negative zero

    def path(self, column: str) -> str:
        """A path that stays in the folder; `./a//b.jpg` is `a/b.jpg`."""
        text = self.values[column]
        path = PurePosixPath(text)
        if not is_text(text) or "\\" in text or path.is_absolute() or ".." in path.parts or not path.name:
            raise self.wrong(column, "a path relative to the data set's folder, with '/' and without '..'")
        return path.as_posix()

    def image(self, column: str, images: Mapping[str, LabelledImage]) -> LabelledImage:
        name = self.path(column)
        if name not in images:
            raise self.wrong(column, "an image of images.csv, written in the same way")
        return images[name]


class Table:
    """A CSV table with a header, in UTF-8."""

    def __init__(
        self, path: Path, required: tuple[str, ...], optional: tuple[str, ...], digest: FileDigest
    ) -> None:
        self.path = path
        way = "rename the folder, and write the table in its place" if path.is_dir() else "write it"
        text = read_text(path, "table", digest, fix=f"{way}; docs/datasets/folder.md shows how")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines: list[tuple[str, list[str]]] = []
        try:
            for fields in reader:
                if any(value.strip() for value in fields):
                    lines.append((f"{path}, line {reader.line_num}", [value.strip() for value in fields]))
        except csv.Error as error:
            where = f"{path}, line {reader.line_num}"
            expected = "fields separated by commas, those with a comma or quote in double quotes"
            raise refusal("not a CSV table", where, expected, short(str(error))) from error
        self.columns = lines[0][1] if lines else []
        self._check_header(required, optional)
        self.rows: list[Row] = []
        for where, fields in lines[1:]:
            if len(fields) != len(self.columns):
                expected = f"{len(self.columns)} fields: " + ", ".join(self.columns)
                found, problem = f"{len(fields)} fields", "line of another length than the header"
                raise refusal(problem, where, expected, found)
            self.rows.append(Row(where, dict(zip(self.columns, fields, strict=True))))

    def _check_header(self, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
        columns, known = set(self.columns), (*required, *optional)
        unknown = [column for column in self.columns if column not in known]
        missing = [column for column in required if column not in columns]
        problem = None
        if unknown:
            problem = f"unknown column {short(unknown[0])}"
        elif missing:
            problem = f"column {missing[0]!r} is missing"
        elif len(columns) < len(self.columns):
            problem = "a column occurs twice"
        elif {"azimuth", "azimuth_bin"} <= columns:
            problem = "columns 'azimuth' and 'azimuth_bin' at once"
        elif 0 < len(columns & set(BOX)) < len(BOX):
            problem = "a box needs all of x1, y1, x2, y2"
        if problem is not None:
            expected = f"columns {', '.join(required)}"
            expected += f" and any of {', '.join(optional)}" if optional else ""
            found = short(", ".join(self.columns)) if self.columns else "an empty file"
            fix = "correct the header; commas separate the fields"
            if unknown and not any(set(column) & set(";\t") for column in columns):
                fix = did_you_mean(unknown[0], known, fix)
            if unknown[:1] == ["azimuth_bin"]:  # the page for labels knows degrees only
                fix = "write a column azimuth in degrees: azimuth_bin · 360 / number of bins"
            raise refusal(problem, f"{self.path}, line 1", expected, found, fix)

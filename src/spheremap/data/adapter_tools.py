"""What the adapters share: careful reading of files, checks of values, and rows of the canonical tables.

Every function that reads raises `InputError` with the file's name, whatever the file holds.
"""

import hashlib
import io
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from spheremap.base.errors import InputError, short
from spheremap.base.progress import progress
from spheremap.data.images import open_picture, reading
from spheremap.data.tables import IMAGES, KEYPOINTS, PAIRS, SPLITS, Tables

T = TypeVar("T")

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # x1, y1, x2, y2

HIDE = "set `outside: hide` in the data set's entry in params.yaml to count it as not visible"


@dataclass(frozen=True)
class Ingested:
    """A data set as an adapter read it: the canonical tables, and SHA-256 digests of its files by kind."""

    tables: Tables
    inputs: dict[str, str]


class FileDigest:
    """SHA-256 over names and contents of files, independent of where their folder lies."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, name: str, content: bytes) -> None:
        """Include one file; the order of the calls counts."""
        self._hash.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())

    def hexdigest(self) -> str:
        """The digest of all files so far."""
        return self._hash.hexdigest()


# --- files --------------------------------------------------------------------------------------------------

RESTORE = "restore or correct the file"


def refusal(problem: str, where: Path | str, expected: str, found: str, fix: str = RESTORE) -> InputError:
    """The error for what stands in a data set and cannot be used."""
    return InputError(problem, where=where, expected=expected, found=found, fix=fix)


def require_folders(root: Path, folders: tuple[str, ...], layout: str) -> None:
    """Check that a data set lies where its entry says.

    Raises:
        InputError: naming the first of `folders` that is not in `root`.
    """
    for folder in folders:
        if not (root / folder).is_dir():
            problem = f"the data set is missing or not in the layout of {layout}"
            fix = "unpack the data set there or correct its entry in params.yaml"
            raise refusal(problem, root, f"a folder {folder} in it", f"none in {root.resolve()}", fix)


def ingesting(items: Sequence[T], unit: str = "images") -> Iterable[T]:
    """The items, with a progress bar."""
    return progress(items, total=len(items), desc="ingest", unit=unit)


def read_bytes(path: Path, what: str, *, fix: str = "restore it") -> bytes:
    """The content of a file that the data set needs; `what` and `fix` word the error."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        found = (error.strerror if isinstance(error, OSError) else None) or short(str(error))
        raise refusal(f"cannot read the {what}", short_path(path), "a file", found, fix) from error


def read_text(path: Path, what: str, digest: FileDigest, *, fix: str = "restore it") -> str:
    """The content of a text file in UTF-8, included in `digest`; a byte order mark is not part of it."""
    content = read_bytes(path, what, fix=fix)
    digest.add(path.name, content)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        save = 'restore it, or save it as UTF-8; spreadsheet programs call it "CSV UTF-8"'
        raise refusal(f"the {what} is not a text file", path, "UTF-8", str(error), save) from error


def numbered_lines(path: Path, text: str) -> list[tuple[str, str]]:
    """The lines of a text that are not blank, each after its place, "<path>, line <number>"."""
    return [(f"{path}, line {i}", line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]


def read_annotation(
    path: Path, digest: FileDigest, name: str | None = None, what: str = "annotation"
) -> "Fields":
    """A JSON file that holds an object, included in `digest` as `name` (default: the file's name).

    A repeated key, of which a lenient parser would silently drop all but the last, is an error. `what` names
    the file in the error if it cannot be read.
    """

    def unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if twice := [key for key, count in Counter(key for key, _ in items).items() if count > 1]:
            raise ValueError("a key occurs twice: " + ", ".join(map(short, twice)))
        return dict(items)

    content = read_bytes(path, what)
    digest.add(path.name if name is None else name, content)
    try:
        values = json.loads(content.decode("utf-8"), object_pairs_hook=unique)
        if not isinstance(values, dict):
            raise ValueError(short(values))
    except (ValueError, RecursionError) as error:
        raise refusal("malformed annotation", path, "a JSON object in UTF-8", short(str(error))) from error
    return Fields(values, path)


def picture_size(
    path: Path,
    what: str,
    digest: FileDigest,
    *,
    named_in: Path | str,
    expected: tuple[int, int] | None = None,
    modes: tuple[str, ...] | None = None,
) -> tuple[int, int]:
    """(width, height) as the header of a picture says; nothing is decoded.

    Args:
        what: the picture's part in the data set, for the error.
        digest: includes the file under the names of its folder and itself.
        named_in: the file that says the picture exists, for the error.
        expected: the size that this file gives; None if it gives none.
        modes: Pillow's modes of the pixels that are allowed; None for all.
    """
    fix = f"restore the {what}"
    content = read_bytes(path, f"{what} named in {named_in}", fix=fix)
    digest.add("/".join(path.parts[-2:]), content)
    with reading(path, what, fix), open_picture(io.BytesIO(content)) as picture:
        size, mode = picture.size, picture.mode
    if expected not in (None, size):
        wanted = "{} x {} pixels as in {}".format(*expected, named_in)
        problem = f"{what} of another size than its annotation says"
        found = "{} x {} pixels".format(*size)
        raise refusal(problem, path, wanted, found, f"{fix}, or correct the annotation")
    if modes is not None and mode not in modes:
        wanted = "one channel (palette or grey) whose values are class ids"
        raise refusal(f"{what} with several channels", path, wanted, f"mode {mode}", fix)
    return size


def tell_left_out(count: int, what: str) -> None:
    """Say on standard error how much a documented rule left out or changed; nothing if `count` is 0."""
    if count:
        print(f"ingest: {count} {what}", file=sys.stderr)


# --- values -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fields:
    """Checked access to one object of an annotation file: every error names file, object, field and value.

    Attributes:
        values: the object as it was parsed.
        where: the file, perhaps with the line.
        what: the object's name in errors, such as "image no. 3".
    """

    values: Mapping[Any, Any]
    where: Path | str
    what: str = "annotation"

    def wrong(self, key: str, expected: str) -> InputError:
        """The error for a field that is absent or not as expected."""
        found = short(self.values[key]) if key in self.values else "no such field"
        return refusal(f"malformed {self.what}: field {short(key)}", self.where, expected, found)

    def get(self, key: str, is_right: Callable[[Any], bool], expected: str) -> Any:
        """A field for which `is_right` must hold; None if it is absent and that is right."""
        value = self.values.get(key)
        if not is_right(value):
            raise self.wrong(key, expected)
        return value

    def whole(self, key: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        expected = f"a whole number from {low} to {high}"
        return int(self.get(key, lambda v: isinstance(v, int) and is_number(v, low, high), expected))

    def text(self, key: str, expected: str = "a text of printable characters") -> str:
        """A text that is not empty."""
        return str(self.get(key, is_text, expected))

    def numbers(self, key: str, count: int, expected: str) -> list[float]:
        """A list of `count` numbers; no coordinate is 1e9, and sums of smaller ones stay finite."""

        def are_numbers(v: Any) -> bool:
            return isinstance(v, list | tuple) and len(v) == count and all(is_number(x, -1e9, 1e9) for x in v)

        return [float(v) for v in self.get(key, are_numbers, expected)]

    def objects(self, key: str) -> "list[Fields]":
        """The objects of a list."""

        def are_objects(v: Any) -> bool:
            return isinstance(v, list) and all(isinstance(x, dict) for x in v)

        listed = self.get(key, are_objects, "a list of objects")
        return [Fields(v, self.where, f"entry no. {i} of {key!r}") for i, v in enumerate(listed, start=1)]


def is_number(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether a value of a JSON file is a number from `low` to `high`; NaN and booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def is_text(value: Any) -> bool:
    """Whether a value is a text that can stand in a table and a message."""
    return isinstance(value, str) and value.isprintable() and value.strip() == value != ""


def is_file_name(text: Any) -> bool:
    """Whether a value can name a file: a printable text, one component of a path, and not hidden."""
    return is_text(text) and not set(text) & set("/\\") and text[0] != "."


def is_inside(point: Sequence[float], size: tuple[int, int]) -> bool:
    """Whether a point (x, y) lies in a picture of `size` (width, height)."""
    return 0 <= point[0] <= size[0] and 0 <= point[1] <= size[1]


def outside_error(
    name: str, point: Sequence[float], size: tuple[int, int], where: Path | str, fix: str = HIDE
) -> InputError:
    """The error for a keypoint outside its picture of `size` (width, height)."""
    expected = f"[x, y] with 0 <= x <= {size[0]}, 0 <= y <= {size[1]}"
    return refusal(f"keypoint outside the image: {name}", where, expected, short(list(point)), fix)


def short_path(path: Path) -> str:
    """A path as text for a message; one that came out of a damaged file may be anything."""
    text = str(path)
    return text if text.isprintable() else short(text)


# --- rows of the canonical tables ---------------------------------------------------------------------------


def image_row(
    image_id: str,
    path: Path,
    size: tuple[int, int],
    box: Sequence[float],
    splits: Collection[str],
    **others: Any,
) -> dict[str, Any]:
    """A row of images.csv.

    Args:
        image_id: "<category>/<name>".
        path: of the picture.
        size: (width, height) in pixels.
        box: x1, y1, x2, y2 of the object.
        splits: the one that it belongs to, or a set of several.
        others: further columns; by default there is no mask and no azimuth, and each image is an instance.
    """
    return {
        "image_id": image_id,
        "path": path.as_posix(),
        "mask_path": "",
        "mask_value": 1,
        "category": image_id.split("/")[0],
        "azimuth": math.nan,
        **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
        "width": size[0],
        "height": size[1],
        "split": "+".join(split for split in SPLITS if split in splits),
        "instance": image_id,
        **others,
    }


def keypoint_row(image_id: str, keypoint_id: str, name: str, point: Point | None) -> dict[str, Any]:
    """A row of keypoints.csv; `point` is None where the keypoint is not visible."""
    x, y = (math.nan, math.nan) if point is None else point
    row = (image_id, keypoint_id, name, x, y, int(point is not None))
    return dict(zip(KEYPOINTS, row, strict=True))


def keypoint_rows(
    visible: Mapping[str, Mapping[int, Point]], names: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Rows for all keypoints of each image that any image of its category shows.

    Args:
        visible: image_id → number of the keypoint → point.
        names: of the keypoints; None: their numbers.
    """
    shown: dict[str, set[int]] = {}
    for image_id, points in visible.items():
        shown.setdefault(image_id.split("/")[0], set()).update(points)
    return [
        keypoint_row(image_id, str(k), str(k) if names is None else names[k], points.get(k))
        for image_id, points in visible.items()
        for k in sorted(shown[image_id.split("/")[0]])
    ]


def ingested(
    images: list[dict[str, Any]],
    keypoints: list[dict[str, Any]],
    pairs: Sequence[tuple[str, str, str]],
    digests: Mapping[str, FileDigest],
) -> Ingested:
    """What an adapter returns, of rows of images and keypoints, pairs (split, source, target) and digests."""
    tables = Tables(
        images=frame(images, IMAGES),
        keypoints=frame(keypoints, KEYPOINTS),
        pairs=frame([dict(zip(PAIRS, pair, strict=True)) for pair in pairs], PAIRS),
    )
    return Ingested(tables, {kind: digest.hexdigest() for kind, digest in digests.items()})


def frame(rows: list[dict[str, Any]], schema: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a canonical table with the columns and types of `schema`."""
    return pd.DataFrame(rows, columns=list(schema)).astype(dict(schema))

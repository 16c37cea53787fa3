"""Labels made by hand: the tables of a folder of one's own, written after every step.

The tables are those of `spheremap.data.adapters.folder`; a photograph without a label has no row. Beside
them, keypoint_names.json holds each category's names in the order shown, those that are not in use yet
included. Pairs are drawn when the data set is read, and without masks the box counts as the object: neither
is written.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from PIL import Image
from PIL.ExifTags import IFD, Base
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from spheremap.base.errors import InputError, short
from spheremap.base.files import atomic_path, write_csv, write_json
from spheremap.config.fields import STRICT, Distinct, need
from spheremap.config.slices import parse, read_slice
from spheremap.data.adapter_tools import FileDigest, is_text, read_bytes
from spheremap.data.adapters.folder import (
    BOX,
    CATEGORY,
    CATEGORY_EXPECTED,
    LabelledImage,
    read_images,
    read_keypoints,
    upright_size,
)
from spheremap.data.images import as_shown, open_picture, orientation_of, reading

NAMES = "keypoint_names.json"
COLUMNS = ("image", "category", "azimuth", "split", "instance", "mask", *BOX)
SUFFIXES = (".avif", ".bmp", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
LEFT_OUT = (".gif", ".heic", ".heif")
SPLITS_IN_TURN = ("train", "val", "train", "test")  # of a category's objects, in the order they are labelled
_DESCRIBING = (
    Base.ImageDescription,
    Base.Make,
    Base.Model,
    Base.Software,
    Base.DateTime,
    Base.Artist,
    Base.Copyright,
)
_SENT = "what the page sent"
_REPLACE = "replace the file, or take it out of the folder"


def _text(value: str) -> str:
    need(is_text(value), "expected printable characters, without spaces at either end")
    return value


def _category(value: str) -> str:
    need(re.fullmatch(CATEGORY, value) is not None, CATEGORY_EXPECTED)
    return value


Text = Annotated[str, AfterValidator(_text)]
Category = Annotated[str, AfterValidator(_category)]
KeypointNames = dict[Category, Distinct[Text]]  # of each category


@dataclass(frozen=True, config=STRICT)
class Label:
    """What is known of one photograph; coordinates in px from the upper left corner.

    Attributes:
        category: the kind of object.
        instance: which object it is, where several photographs show the same one; empty: one of its own.
        azimuth: degrees, 0 frontal, 90 facing image-left; None: unknown.
        split: train, val or test (several joined by +); None: not chosen, see `Labels.save`.
        box: (x1, y1, x2, y2) about the object; None: that about its mask, else the whole picture.
        points: (x, y) of keypoints by name, None if not visible; the others are not labelled yet.
    """

    category: Category
    instance: Text | Literal[""]
    azimuth: Annotated[float, Field(ge=-360, le=360)] | None
    split: Annotated[str, Field(pattern=r"^(train|val|test)(\+(train|val|test))*$(?!\n)")] | None
    box: tuple[float, float, float, float] | None
    points: dict[Text, tuple[float, float] | None]


@dataclass(frozen=True, config=STRICT)
class Step:
    """What the page sends: a photograph's label (None: it has none any more), and all keypoint names."""

    image: str
    label: Label | None
    names: KeypointNames


class Labels:
    """The labels of a folder.

    Attributes:
        sizes: (width, height) of every photograph, by its path in the folder.
        labels: of those that have one, by the same path.
        names: of the keypoints of each category.
    """

    def __init__(self, root: Path) -> None:
        """Read the tables, if there are any, and find the other photographs.

        Raises:
            InputError: naming the photograph or the line of a table that cannot be used.
        """
        self.root = root
        found = _pictures(root)
        images = _read_tables(root)
        self._masks = {path: image.line.values.get("mask") or None for path, image in images.items()}
        self.sizes = {
            path: images[path].size if path in images else _size(root, path)
            for path in sorted({*found, *images} - set(self._masks.values()))
        }
        if not self.sizes:
            expected = f"files {', '.join(SUFFIXES)}"
            raise InputError("the folder has no photographs", where=root, expected=expected)
        _check_distinct(root, self.sizes)
        stored = root / NAMES
        names: KeypointNames = read_slice(stored, KeypointNames) if stored.exists() else {}
        self.labels: dict[str, Label] = {}
        for path, image in images.items():
            label = _label_of(image)
            known = names.get(label.category, ())
            names[label.category] = (*known, *(name for name in label.points if name not in known))
            self.labels[path] = replace(label, split=label.split or _split_of(label, self.labels))
        self.names = names

    def save(self, sent: object) -> Label | None:
        """Take one step over, and write it.

        A label without a split gets that of its object's other photographs, else its object is the next of
        `SPLITS_IN_TURN`.

        Args:
            sent: a `Step` as JSON knows it.

        Returns:
            The photograph's label.

        Raises:
            InputError: if it cannot be; nothing is changed then.
        """
        step: Step = parse(sent, Step, where=_SENT)
        others = {path: label for path, label in self.labels.items() if path != step.image}
        self._check(step, others)
        label, labels = None, others
        if step.label is not None:
            label = replace(step.label, split=step.label.split or _split_of(step.label, others))
            labels = {**others, step.image: label}
        labels = {path: labels[path] for path in self.sizes if path in labels}
        write_json(self.root / NAMES, step.names)
        tables = [
            ("images.csv", self._image_rows(labels)),
            ("keypoints.csv", _keypoint_rows(labels, step.names)),
        ]
        # wherever it is killed, keypoints.csv names no photograph that images.csv lacks
        for name, table in tables if label else reversed(tables):
            if table.empty:  # the adapter refuses a header alone
                (self.root / name).unlink(missing_ok=True)
            else:
                write_csv(self.root / name, table)
        self.labels, self.names = labels, step.names
        return label

    def _check(self, step: Step, others: dict[str, Label]) -> None:
        """Refuse a step that does not fit the photographs or the labels of the others.

        Raises:
            InputError: saying what does not fit.
        """
        if step.image not in self.sizes:
            raise _refusal("no photograph of this folder", f"one of the {len(self.sizes)}", step.image)
        labels = others if step.label is None else {**others, step.image: step.label}
        for path, label in labels.items():
            if not label.points.keys() <= set(step.names.get(label.category, ())):
                expected = f"the category and the keypoints of {path}"
                raise _refusal("names are missing that photographs have", expected, step.names)
        if step.label is None:
            return
        width, height = self.sizes[step.image]
        for point in step.label.points.values():
            if point is not None and not (0 <= point[0] <= width and 0 <= point[1] <= height):
                raise _refusal("a keypoint lies outside the photograph", f"{width} × {height} px", point)
        if step.label.box is not None:
            x1, y1, x2, y2 = step.label.box
            if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
                expected = f"x1 < x2 and y1 < y2 in {width} × {height} px"
                raise _refusal("no box in the photograph", expected, step.label.box)

    def _image_rows(self, labels: Mapping[str, Label]) -> pd.DataFrame:
        rows = [
            {
                "image": path,
                "category": label.category,
                "azimuth": label.azimuth,
                "split": label.split,
                "instance": label.instance or None,
                "mask": self._masks.get(path),
                **dict(zip(BOX, label.box or (), strict=False)),
            }
            for path, label in labels.items()
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS)).dropna(axis=1, how="all")


def _keypoint_rows(labels: Mapping[str, Label], names: KeypointNames) -> pd.DataFrame:
    rows = [
        (path, name, *(label.points[name] or (None, None)))
        for path, label in labels.items()
        for name in names.get(label.category, ())
        if name in label.points
    ]
    return pd.DataFrame(rows, columns=["image", "keypoint", "x", "y"])


def _split_of(label: Label, others: Mapping[str, Label]) -> str:
    """The split of a photograph for which none was chosen."""
    of_object = {
        own.instance or f"/{other}": own.split
        for other, own in others.items()
        if own.category == label.category
    }
    return of_object.get(label.instance) or SPLITS_IN_TURN[len(of_object) % len(SPLITS_IN_TURN)]


def _refusal(problem: str, expected: str, found: object) -> InputError:
    return InputError(problem, where=_SENT, expected=expected, found=short(found), fix="load the page again")


# --- reading ------------------------------------------------------------------------------------------------


def _read_tables(root: Path) -> dict[str, LabelledImage]:
    """The rows of images.csv with their keypoints, as the adapter reads them; none without a table.

    Raises:
        InputError: for what the adapter refuses, and for tables that the page cannot keep.
    """
    if (root / "pairs.csv").exists():
        problem, fix = "the folder has a table of pairs", "rename or remove it"
        expected = "none: pairs are drawn within the splits that are chosen on the page"
        raise InputError(problem, where=root / "pairs.csv", expected=expected, fix=fix)
    digests = {kind: FileDigest() for kind in ("tables", "images", "masks")}
    listed = (root / "images.csv").exists()
    images = read_images(root, None, digests, COLUMNS[2:]) if listed else {}
    read_keypoints(root / "keypoints.csv", images, digests["tables"])
    return images


def _label_of(image: LabelledImage) -> Label:
    row, written = image.row, image.line.values
    return Label(
        category=image.category,
        instance=written.get("instance", ""),
        azimuth=None if math.isnan(row["azimuth"]) else row["azimuth"],
        split=written.get("split"),
        box=(row["x1"], row["y1"], row["x2"], row["y2"]) if written.get("x1") else None,
        points=dict(image.points),
    )


def _pictures(root: Path, suffixes: Collection[str] = SUFFIXES) -> list[str]:
    """Paths in the folder of all pictures but hidden ones and what lies in a folder `masks`.

    Raises:
        InputError: if there is no such folder.
    """
    if not root.is_dir():
        raise InputError("no such folder", where=root, expected="a folder with photographs")
    paths = [path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in suffixes]
    return sorted(
        path.as_posix()
        for path in paths
        if "masks" not in path.parts and not any(part.startswith(".") for part in path.parts)
    )


def _size(root: Path, path: str) -> tuple[int, int]:
    """(width, height) of a photograph that no table names yet.

    Raises:
        InputError: if it could not be named in one, cannot be read, or is stored turned.
    """
    where = root / path
    if not is_text(path) or "\\" in path:
        expected = "printable characters, no backslash, no spaces at either end"
        raise InputError("no name for a photograph", where=root, expected=expected, found=short(path))
    turn = "give --upright, which turns the stored pixels"
    return upright_size(where, read_bytes(where, "photograph"), _REPLACE, turn)


def _check_distinct(root: Path, paths: Iterable[str]) -> None:
    """Refuse photographs that the adapter would name alike.

    Raises:
        InputError: naming two.
    """
    first: dict[str, str] = {}
    for path in paths:
        other = first.setdefault(path.rpartition(".")[0].replace("/", "__"), path)
        if other != path:
            raise InputError(
                "two photographs would be named alike",
                where=root,
                expected="paths that differ in more than '/' and the ending",
                found=f"{other} and {path}",
                fix="rename one, or take it out of the folder",
            )


def left_out(root: Path) -> list[str]:
    """Pictures in the folder that the page cannot show, since the data set could not have them."""
    return _pictures(root, LEFT_OUT)


def turn_upright(root: Path) -> int:
    """Turn the stored pixels of pictures whose EXIF orientation says so; how many there were.

    Colour profile and the other EXIF data stay.

    Raises:
        InputError: if one cannot be read.
    """
    turned = 0
    for name in _pictures(root):
        path = root / name
        with reading(path, "image", _REPLACE), open_picture(path) as picture:
            if orientation_of(picture) == 1:
                continue
            upright, form = as_shown(picture), picture.format
            kept = {"exif": _exif_of(picture), "icc_profile": picture.info.get("icc_profile")}
        with atomic_path(path) as temporary:
            upright.save(temporary, format=form, quality=95, subsampling="4:4:4", **kept)
        turned += 1
    return turned


def _exif_of(picture: Image.Image) -> bytes:
    """What EXIF data say of the photograph, but for how it is stored; nothing, where it cannot be written."""
    try:
        before, exif = picture.getexif(), Image.Exif()
        exif.update({tag: before[tag] for tag in _DESCRIBING if tag in before})
        for part in (IFD.Exif, IFD.GPSInfo):
            if content := before.get_ifd(part):
                exif[part] = content
        return exif.tobytes()
    except Exception:  # damaged data, of which Pillow may raise anything
        return b""

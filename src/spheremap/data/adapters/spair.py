"""Adapter for folders in the layout of SPair-71k (Min et al. 2019, arXiv 1908.10543).

    Layout/large/{trn,val,test}.txt             pairs, one per line: 000001-<source>-<target>:<category>
    ImageAnnotation/<category>/<image>.json     size, bndbox, kps (id -> a point or null), azimuth_id 0..7
    JPEGImages/<category>/<image>.jpg
    Segmentation/<category>/<image>.png         the object is the pixels equal to the category's class id

The data set is the images that its pairs name; an annotation that no pair names belongs to no split and is
left out. PairAnnotation is not read, since it only repeats the other files. If the folder Segmentation is
absent, no image has a mask. A split without pairs needs no layout file, but one of the three must be there.

SPair-71k gives every image the 30 keypoints "0".."29". Other folders may have any number of them; an id is a
number of up to 8 digits. The images of a category need not list the same ids: each has the keypoints that are
set in any image of its category, and one that its own file does not list counts as not visible.

Beyond SPair-71k, these are understood (`spair_export` writes them where needed):

    annotation "azimuth"            degrees in [0, 360), finer than azimuth_id, which may then be null
    annotation "azimuth_id": null   azimuth unknown
    annotation "instance"           the object shown, where several images show the same one
    annotation "keypoint_names"     {"0": "wheel_front_left", …}: exactly the keypoints the image can have
    Layout/large/unpaired.txt       images of a split without a pair, one per line: <split>:<category>/<image>
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spheremap.base.errors import InputError
from spheremap.data.adapters.common import (
    Box,
    Fields,
    FileDigest,
    Ingested,
    Point,
    image_row,
    ingested,
    ingesting,
    is_file_name,
    is_inside,
    is_number,
    is_text,
    keypoint_row,
    outside_error,
    picture_size,
    read_annotation,
    read_text,
    require_folders,
)
from spheremap.data.adapters.voc import VOC_CLASS_IDS

AZIMUTH_BINS = 8
KEYPOINT_ID = re.compile(r"[0-9]{1,8}")  # tables sort ids as numbers of 8 digits
LAYOUT_FILES = {"train": "trn", "val": "val", "test": "test"}  # split -> file name
UNPAIRED_FILE = "unpaired.txt"
MASK_MODES = ("1", "L", "P", "I", "I;16")  # one channel, so that a pixel can equal a class id


@dataclass(frozen=True)
class Params:
    """Entry of params.yaml's `datasets`: the folder, and class ids beyond those of PASCAL VOC."""

    root: str
    class_ids: dict[str, int]


@dataclass(frozen=True)
class _Layout:
    """What the layout files say."""

    pairs: list[tuple[str, str, str]]  # split, source, target
    splits: dict[str, set[str]]  # image_id -> the splits it belongs to
    named_at: dict[str, str]  # image_id -> file and line that first names it, for messages


@dataclass(frozen=True)
class _Annotation:
    """One checked annotation file."""

    path: Path
    filename: str
    size: tuple[int, int]
    azimuth: float  # degrees, NaN if unknown
    box: Box
    points: dict[str, Point]  # the visible keypoints
    names: dict[str, str] | None  # of all keypoints that the image can have; None if the file does not say
    instance: str | None


def read(params: Params) -> Ingested:
    """Read a folder in SPair-71k layout into the canonical tables.

    Images come sorted by image_id, keypoints likewise and by number, pairs as listed (train, val, test). A
    keypoint number is kept for a category if it is set in any of its images or named in "keypoint_names".

    Raises:
        InputError: naming the file (and line) that is missing or malformed.
    """
    root = Path(params.root)
    class_ids = _class_ids(params.class_ids)
    require_folders(root, ("Layout/large", "ImageAnnotation", "JPEGImages"), "SPair-71k")
    digests = {kind: FileDigest() for kind in ("layout", "annotations", "images", "masks")}
    layout = _read_layout(root, digests["layout"])
    masked = (root / "Segmentation").is_dir()

    annotations: dict[str, _Annotation] = {}
    rows: list[dict[str, Any]] = []
    for image_id in ingesting(sorted(layout.splits)):
        category, name = image_id.split("/")
        if category not in class_ids:
            raise InputError(
                f"category {category!r} has no class id",
                where=layout.named_at[image_id],
                expected="one of " + ", ".join(class_ids),
                found=category,
                fix=f"add {category}: <its mask value> to the data set's class_ids in params.yaml",
            )
        annotation = _read_annotation(root, image_id, layout.named_at[image_id], digests["annotations"])
        named_in, size = annotation.path, annotation.size
        path = root / "JPEGImages" / category / annotation.filename
        picture_size(path, "image", digests["images"], named_in=named_in, expected=size)
        mask = root / "Segmentation" / category / f"{name}.png"
        if masked:
            picture_size(mask, "mask", digests["masks"], named_in=named_in, expected=size, modes=MASK_MODES)
        annotations[image_id] = annotation
        row = image_row(
            image_id,
            path,
            size,
            annotation.box,
            "+".join(split for split in LAYOUT_FILES if split in layout.splits[image_id]),
            mask_path=mask.as_posix() if masked else "",
            mask_value=class_ids[category],
            azimuth=annotation.azimuth,
            instance=image_id if annotation.instance is None else annotation.instance,
        )
        rows.append(row)
    return ingested(rows, _keypoint_rows(annotations), layout.pairs, digests)


def split_pair(stems: str, known: Mapping[str, Any] | set[str]) -> list[tuple[str, str]]:
    """All readings of `<source>-<target>`; names may hold "-" themselves, and then `known` names decide."""
    parts = stems.split("-")
    readings = [("-".join(parts[:i]), "-".join(parts[i:])) for i in range(1, len(parts))]
    if len(readings) > 1:
        readings = [(source, target) for source, target in readings if source in known and target in known]
    return readings


def by_number(keypoint_id: str) -> tuple[int, str]:
    """Where an id stands in the order of keypoints; "07" and "7" are two."""
    return int(keypoint_id), keypoint_id


def _class_ids(extra: Mapping[str, int]) -> dict[str, int]:
    for category, value in extra.items():
        if not 1 <= value <= 255:
            raise InputError(
                f"wrong class id for {category!r}",
                where="class_ids of the data set in params.yaml",
                expected="a whole number from 1 to 255 (0 is the background)",
                found=str(value),
            )
    return {**VOC_CLASS_IDS, **extra}


# --- layout files -------------------------------------------------------------------------------------------


def _read_layout(root: Path, digest: FileDigest) -> _Layout:
    layout = _Layout([], {}, {})
    folder = root / "Layout" / "large"
    present = {path.name for path in folder.iterdir()}  # also a link whose file is gone, which is an error
    names = {split: f"{stem}.txt" for split, stem in LAYOUT_FILES.items()}
    if not present & set(names.values()):
        raise InputError(
            "the data set has no layout file",
            where=folder,
            expected="one or more of " + ", ".join(names.values()),
            found=", ".join(sorted(present)) or "an empty folder",
            fix="write the pairs of a split into its file; a split without pairs needs none",
        )
    known: dict[str, set[str]] = {}  # category -> its annotated images; listed on demand
    for split, name in names.items():
        if name not in present:
            continue
        path = folder / name
        for number, line in _lines(path, digest):
            category, source, target = _parse_pair(line, f"{path}, line {number}", root, known)
            pair = (f"{category}/{source}", f"{category}/{target}")
            layout.pairs.append((split, *pair))
            for image_id in pair:
                layout.splits.setdefault(image_id, set()).add(split)
                layout.named_at.setdefault(image_id, f"{path}, line {number}")
    unpaired = folder / UNPAIRED_FILE
    if unpaired.name in present:
        for number, line in _lines(unpaired, digest):
            split, image_id = _parse_unpaired(line, f"{unpaired}, line {number}")
            layout.splits.setdefault(image_id, set()).add(split)
            layout.named_at.setdefault(image_id, f"{unpaired}, line {number}")
    if not layout.splits:
        raise InputError(
            "the data set has no pairs",
            where=folder,
            expected="one pair or more in trn.txt, val.txt or test.txt",
            found="empty files",
        )
    return layout


def _lines(path: Path, digest: FileDigest) -> list[tuple[int, str]]:
    """The numbered lines of a layout file that are not blank."""
    text = read_text(path, "layout file", digest, fix="restore it, or delete it if its split has no pairs")
    return [(i, line.strip()) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _parse_pair(line: str, where: str, root: Path, known: dict[str, set[str]]) -> tuple[str, str, str]:
    match = re.fullmatch(r"[0-9]+-(.+):([^:]+)", line)
    if match is None or not is_file_name(match[2]):
        raise InputError(
            "malformed pair",
            where=where,
            expected="<number>-<source>-<target>:<category>",
            found=repr(line),
            fix="correct the line; image and category names may not hold '/'",
        )
    stems, category = match[1], match[2]
    if stems.count("-") > 1 and category not in known:
        folder = root / "ImageAnnotation" / category
        known[category] = {path.stem for path in folder.glob("*.json")}
    readings = split_pair(stems, known.get(category, set()))
    if len(readings) != 1:
        raise InputError(
            "ambiguous pair" if readings else "pair of unknown images",
            where=where,
            expected=f"one way to read it as <source>-<target>, both annotated in ImageAnnotation/{category}",
            found=f"{line!r}, " + (" or ".join(map(str, readings)) or "which no annotated images match"),
            fix="rename the images so that their names hold no '-'" if readings else "correct the line",
        )
    source, target = readings[0]
    if not (is_file_name(source) and is_file_name(target)):
        raise InputError(
            "malformed image name in a pair",
            where=where,
            expected="two names of files in JPEGImages/<category>, without folder and suffix",
            found=repr(line),
        )
    return category, source, target


def _parse_unpaired(line: str, where: str) -> tuple[str, str]:
    split, _, image_id = line.partition(":")
    category, _, name = image_id.partition("/")
    if split not in LAYOUT_FILES or not is_file_name(category) or ":" in category or not is_file_name(name):
        raise InputError(
            "malformed line",
            where=where,
            expected="<split>:<category>/<image> with split one of " + ", ".join(LAYOUT_FILES),
            found=repr(line),
        )
    return split, image_id


# --- annotations --------------------------------------------------------------------------------------------


def _read_annotation(root: Path, image_id: str, named_at: str, digest: FileDigest) -> _Annotation:
    category, name = image_id.split("/")
    path = root / "ImageAnnotation" / f"{image_id}.json"
    fields = read_annotation(path, digest, image_id, f"annotation of the image named in {named_at}")
    filename = fields.text("filename")
    if not is_file_name(filename) or Path(filename).stem != name or not Path(filename).suffix:
        raise fields.wrong("filename", f"{name!r} with a suffix such as .jpg")
    fields.get("category", lambda v: v == category, f"{category!r} as its folder says")
    size = (fields.whole("image_width", 1, 10**6), fields.whole("image_height", 1, 10**6))
    points = _points(fields, size)
    return _Annotation(
        path=path,
        filename=filename,
        size=size,
        azimuth=_azimuth(fields),
        box=_box(fields, size),
        points=points,
        names=_names(fields, points),
        instance=fields.text("instance") if "instance" in fields.values else None,
    )


def _azimuth(fields: Fields) -> float:
    coarse = math.nan
    if fields.values.get("azimuth_id", 0) is not None:
        coarse = 360.0 / AZIMUTH_BINS * fields.whole("azimuth_id", 0, AZIMUTH_BINS - 1)
    if "azimuth" not in fields.values:
        return coarse
    expected = "a number of degrees in [0, 360)"
    return float(fields.get("azimuth", lambda v: is_number(v, 0, 360) and v < 360, expected))


def _box(fields: Fields, size: tuple[int, int]) -> Box:
    expected = f"[x1, y1, x2, y2], 0 <= x1 < x2 <= {size[0]}, 0 <= y1 < y2 <= {size[1]}"
    x1, y1, x2, y2 = fields.numbers("bndbox", 4, expected)
    if not (0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1]):
        raise fields.wrong("bndbox", expected)
    return x1, y1, x2, y2


def _points(fields: Fields, size: tuple[int, int]) -> dict[str, Point]:
    expected = 'an object with numbers as keys ("0", "1", …), each with a point or null'
    kps = fields.get("kps", lambda v: isinstance(v, dict) and all(map(KEYPOINT_ID.fullmatch, v)), expected)
    of_kps = Fields(kps, fields.where, "keypoints 'kps'")
    points: dict[str, Point] = {}
    for keypoint_id in sorted(kps, key=by_number):
        if kps[keypoint_id] is not None:
            x, y = of_kps.numbers(keypoint_id, 2, "[x, y] or null")
            if not is_inside((x, y), size):
                fix = "correct the point, or set it to null if it cannot be seen"
                raise outside_error(repr(keypoint_id), (x, y), size, fields.where, fix)
            points[keypoint_id] = (x, y)
    return points


def _names(fields: Fields, points: Mapping[str, Any]) -> dict[str, str] | None:
    if "keypoint_names" not in fields.values:
        return None
    names = fields.values["keypoint_names"]
    if (
        not isinstance(names, dict)
        or not all(map(KEYPOINT_ID.fullmatch, names))
        or not all(map(is_text, names.values()))
    ):
        raise fields.wrong("keypoint_names", 'an object with numbers as keys ("0", "1", …), each with a name')
    if not set(points) <= set(names):
        raise fields.wrong("keypoint_names", "a name for each point that is set in 'kps'")
    return dict(names)


def _keypoint_rows(annotations: Mapping[str, _Annotation]) -> list[dict[str, Any]]:
    """Rows of all keypoints that an image can have, set or not."""
    names: dict[str, dict[str, str]] = {}  # category -> id -> name
    said_by: dict[tuple[str, str], Path] = {}
    kept: dict[str, set[str]] = {}  # category -> ids
    for image_id, annotation in annotations.items():
        category = image_id.split("/")[0]
        kept.setdefault(category, set()).update(annotation.points, annotation.names or ())
        for keypoint_id, name in (annotation.names or {}).items():
            known = names.setdefault(category, {}).setdefault(keypoint_id, name)
            first = said_by.setdefault((category, keypoint_id), annotation.path)
            if known != name:
                raise InputError(
                    f"keypoint {keypoint_id!r} has two names in category {category!r}",
                    where=annotation.path,
                    expected=f"{known!r} as in {first}",
                    found=repr(name),
                    fix="give a keypoint one name in all images of a category",
                )
    rows = []
    for image_id, annotation in annotations.items():
        category = image_id.split("/")[0]
        ids = kept[category] if annotation.names is None else set(annotation.names)
        for keypoint_id in sorted(ids, key=by_number):
            name = names.get(category, {}).get(keypoint_id, keypoint_id)
            rows.append(keypoint_row(image_id, keypoint_id, name, annotation.points.get(keypoint_id)))
    return rows

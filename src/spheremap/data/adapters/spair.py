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

from spheremap.config.data_sets import SPair as Params
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
    is_inside,
    is_number,
    is_text,
    keypoint_row,
    numbered_lines,
    outside_error,
    picture_size,
    read_annotation,
    read_text,
    refusal,
    require_folders,
)
from spheremap.data.voc import VOC_CLASS_IDS

AZIMUTH_BINS = 8
KEYPOINT_ID = re.compile(r"[0-9]{1,8}")  # tables sort ids as numbers of 8 digits
LAYOUT_FILES = {"train": "trn", "val": "val", "test": "test"}  # split -> file name
UNPAIRED_FILE = "unpaired.txt"
MASK_MODES = ("1", "L", "P", "I", "I;16")  # one channel, so that a pixel can equal a class id


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
    """Read the data set of an entry in params.yaml; see `read_folder`."""
    return read_folder(Path(params.root), params.class_ids)


def read_folder(root: Path, extra_class_ids: Mapping[str, int]) -> Ingested:
    """Read a folder in SPair-71k layout into the canonical tables.

    Images come sorted by image_id, keypoints likewise and by number, pairs as listed (train, val, test). A
    keypoint number is kept for a category if it is set in any of its images or named in "keypoint_names".

    Raises:
        InputError: naming the file (and line) that is missing or malformed.
    """
    class_ids = {**VOC_CLASS_IDS, **extra_class_ids}
    require_folders(root, ("Layout/large", "ImageAnnotation", "JPEGImages"), "SPair-71k")
    digests = {kind: FileDigest() for kind in ("layout", "annotations", "images", "masks")}
    layout = _read_layout(root, digests["layout"])
    masked = (root / "Segmentation").is_dir()

    annotations: dict[str, _Annotation] = {}
    rows: list[dict[str, Any]] = []
    for image_id in ingesting(sorted(layout.splits)):
        category, name = image_id.split("/")
        if category not in class_ids:
            problem, expected = f"category {category!r} has no class id", "one of " + ", ".join(class_ids)
            fix = f"add {category}: <its mask value> to the data set's class_ids in params.yaml"
            raise refusal(problem, layout.named_at[image_id], expected, category, fix)
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
            layout.splits[image_id],
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


# --- layout files -------------------------------------------------------------------------------------------


def _read_layout(root: Path, digest: FileDigest) -> _Layout:
    layout = _Layout([], {}, {})
    folder = root / "Layout" / "large"
    present = {path.name for path in folder.iterdir()}  # also a link whose file is gone, which is an error
    names = {split: f"{stem}.txt" for split, stem in LAYOUT_FILES.items()}
    if not present & set(names.values()):
        found = ", ".join(sorted(present)) or "an empty folder"
        fix = "write the pairs of a split into its file; a split without pairs needs none"
        expected = "one or more of " + ", ".join(names.values())
        raise refusal("the data set has no layout file", folder, expected, found, fix)

    def place(image_id: str, split: str, where: str) -> None:
        layout.splits.setdefault(image_id, set()).add(split)
        layout.named_at.setdefault(image_id, where)

    def lines(name: str) -> list[tuple[str, str]]:
        path, fix = folder / name, "restore it, or delete it if its split has no pairs"
        if name not in present:
            return []
        return numbered_lines(path, read_text(path, "layout file", digest, fix=fix))

    known: dict[str, set[str]] = {}  # category -> its annotated images; listed on demand
    for split, name in names.items():
        for where, line in lines(name):
            category, source, target = _parse_pair(line.strip(), where, root, known)
            pair = (f"{category}/{source}", f"{category}/{target}")
            layout.pairs.append((split, *pair))
            for image_id in pair:
                place(image_id, split, where)
    for where, line in lines(UNPAIRED_FILE):
        split, image_id = _parse_unpaired(line.strip(), where)
        place(image_id, split, where)
    if not layout.splits:
        raise refusal("the data set has no pairs", folder, "one pair or more in its files", "empty files")
    return layout


def _parse_pair(line: str, where: str, root: Path, known: dict[str, set[str]]) -> tuple[str, str, str]:
    match = re.fullmatch(r"[0-9]+-(.+):([^:]+)", line)
    expected = "<number>-<source>-<target>:<category>, names without '/'"
    if match is None or not is_file_name(match[2]):
        raise refusal("malformed pair", where, expected, repr(line))
    stems, category = match[1], match[2]
    if stems.count("-") > 1 and category not in known:
        folder = root / "ImageAnnotation" / category
        known[category] = {path.stem for path in folder.glob("*.json")}
    readings = split_pair(stems, known.get(category, set()))
    if len(readings) != 1:
        problem = "ambiguous pair" if readings else "pair of unknown images"
        one = f"one way to read it as <source>-<target>, both annotated in ImageAnnotation/{category}"
        found = f"{line!r}, " + (" or ".join(map(str, readings)) or "which no annotated images match")
        raise refusal(problem, where, one, found, "name the images without '-', or correct the line")
    source, target = readings[0]
    if not (is_file_name(source) and is_file_name(target)):
        raise refusal("malformed image name in a pair", where, expected, repr(line))
    return category, source, target


def _parse_unpaired(line: str, where: str) -> tuple[str, str]:
    split, _, image_id = line.partition(":")
    category, _, name = image_id.partition("/")
    if split not in LAYOUT_FILES or not is_file_name(category) or ":" in category or not is_file_name(name):
        expected = "<split>:<category>/<image> with split one of " + ", ".join(LAYOUT_FILES)
        raise refusal("malformed line", where, expected, repr(line))
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
    points = read_points(fields, size, KEYPOINT_ID)
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


def read_points(fields: Fields, size: tuple[int, int], keypoint_id: re.Pattern[str]) -> dict[str, Point]:
    """The visible keypoints of an annotation's `kps`, by ids of a form."""
    expected = 'an object with numbers as keys ("0", "1", …), each with a point or null'
    kps = fields.get("kps", lambda v: isinstance(v, dict) and all(map(keypoint_id.fullmatch, v)), expected)
    of_kps = Fields(kps, fields.where, "keypoints 'kps'")
    points: dict[str, Point] = {}
    for number in sorted(kps, key=by_number):
        if kps[number] is not None:
            x, y = of_kps.numbers(number, 2, "[x, y] or null")
            if not is_inside((x, y), size):
                fix = "correct the point, or set it to null if it cannot be seen"
                raise outside_error(repr(number), (x, y), size, fields.where, fix)
            points[number] = (x, y)
    return points


def _names(fields: Fields, points: Mapping[str, Any]) -> dict[str, str] | None:
    def are_names(v: Any) -> bool:
        return isinstance(v, dict) and all(map(KEYPOINT_ID.fullmatch, v)) and all(map(is_text, v.values()))

    if "keypoint_names" not in fields.values:
        return None
    expected = 'an object with numbers as keys ("0", "1", …), each with a name'
    fields.get("keypoint_names", are_names, expected)
    expected = "a name for each point that is set in 'kps'"
    return dict(fields.get("keypoint_names", lambda names: set(points) <= set(names), expected))


def _keypoint_rows(annotations: Mapping[str, _Annotation]) -> list[dict[str, Any]]:
    """Rows of all keypoints that an image can have, set or not."""
    names: dict[tuple[str, str], tuple[str, Path]] = {}  # category, id -> name, and the file that says so
    kept: dict[str, set[str]] = {}  # category -> ids
    for image_id, annotation in annotations.items():
        category = image_id.split("/")[0]
        kept.setdefault(category, set()).update(annotation.points, annotation.names or ())
        for keypoint_id, name in (annotation.names or {}).items():
            known, first = names.setdefault((category, keypoint_id), (name, annotation.path))
            if known != name:
                problem = f"keypoint {keypoint_id!r} has two names in category {category!r}"
                raise refusal(problem, annotation.path, f"{known!r} as in {first}", repr(name))
    rows = []
    for image_id, annotation in annotations.items():
        category = image_id.split("/")[0]
        ids = kept[category] if annotation.names is None else set(annotation.names)
        for keypoint_id in sorted(ids, key=by_number):
            name, _ = names.get((category, keypoint_id), (keypoint_id, None))
            rows.append(keypoint_row(image_id, keypoint_id, name, annotation.points.get(keypoint_id)))
    return rows

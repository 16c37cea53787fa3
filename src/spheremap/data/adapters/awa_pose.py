"""Adapter for AwA-Pose (Banik, Li, Dong 2021, arXiv 2108.13958): keypoints on AwA2's pictures of quadrupeds.

    <images>/<animal>/<animal>_10001.jpg            AwA2, Animals_with_Attributes2/JPEGImages (Xian et al.)
    <annotations>/<animal>/<animal>_10001.pickle    Annotations of the repository prinik/AwA-Pose

An annotation is the pickle of a dictionary with one entry per animal in the picture, "a1", "a2", …, each

    {"bbox": [x1, y1, x2, y2], "nose": [x, y], "upper_jaw": [-1, -1], …}

with the 39 keypoints of Annotations/class_names.txt; a keypoint with a -1 is not annotated. The layout is
known from that repository's list of files, README, class_names.txt, Animal_Class.txt and loader, and from
public code that reads the pickles (a PyTorch data set for evaluating correspondence, a converter to YOLO's
format); the pickles themselves were not at hand.

A pickle is a program that calls what it names. Here it can name nothing but stand-ins of our own for
NumPy's numbers and arrays of numbers; lists, dictionaries, texts and numbers need no names.

Rules; what each of them touches is counted on standard error:

    pictures with several animals are left out, since it is open which of them is meant; by Animal_Class.txt,
        10,064 of 35 animals remain. The folders "rat" (13 pictures) and "sample" (copies) are no part
    a box that reaches beyond the picture is cut off at its border, as the authors' loader does; one that is
        absent, holds a -1 or has no area in the picture becomes the box about the keypoints
    a picture without any keypoint is left out
    a keypoint outside the picture is an error, or hidden, as `outside` says
    pictures in no pair are left out
    entries of an annotation that are not animals are ignored

There are no official pairs; the evaluation code that was at hand takes 10,000 from lists that were not. Here
they are drawn: between pictures of one animal (`pairs: within`) or of different animals (`across`), all of
split test. AwA-Pose has neither viewpoints nor masks.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spheremap.base.errors import short
from spheremap.config.data_sets import AwaPose as Params
from spheremap.data.adapter_tools import (
    Box,
    Fields,
    FileDigest,
    Ingested,
    Point,
    image_row,
    ingested,
    ingesting,
    is_inside,
    keypoint_rows,
    outside_error,
    picture_size,
    read_bytes,
    refusal,
    require_folders,
    tell_left_out,
)
from spheremap.data.draw_pairs import sample_pairs
from spheremap.data.pickles import read_pickle

ANIMALS = (
    *("antelope", "bobcat", "buffalo", "chihuahua", "collie", "cow", "dalmatian", "deer", "elephant", "fox"),
    *("german+shepherd", "giant+panda", "giraffe", "grizzly+bear", "hippopotamus", "horse", "leopard"),
    *("lion",),
    *("moose", "otter", "ox", "persian+cat", "pig", "polar+bear", "rabbit", "raccoon", "rhinoceros", "sheep"),
    *("siamese+cat", "skunk", "squirrel", "tiger", "weasel", "wolf", "zebra"),
)
# in the order of class_names.txt, spelling included
KEYPOINT_NAMES = (
    *("nose", "upper_jaw", "lower_jaw", "mouth_end_right", "mouth_end_left"),
    *("right_eye", "right_earbase", "right_earend", "right_antler_base", "right_antler_end"),
    *("left_eye", "left_earbase", "left_earend", "left_antler_base", "left_antler_end"),
    *("neck_base", "neck_end", "throat_base", "throat_end", "back_base", "back_end", "back_middle"),
    *("tail_base", "tail_end", "front_left_thai", "front_left_knee", "front_left_paw"),
    *("front_right_thai", "front_right_paw", "front_right_knee"),
    *("back_left_knee", "back_left_paw", "back_left_thai"),
    *("back_right_thai", "back_right_paw", "back_right_knee"),
    *("belly_bottom", "body_middle_right", "body_middle_left"),
)


@dataclass(frozen=True)
class _Animal:
    """One picture with its only animal, checked."""

    path: Path
    size: tuple[int, int]
    box: Box
    points: dict[int, Point]  # the visible keypoints


def read(params: Params) -> Ingested:
    """Read AwA-Pose into the canonical tables.

    Images are `<animal>/<animal>_<number>`; a picture has rows for all keypoints that are visible in any
    picture of its animal.

    Raises:
        InputError: naming the file that is missing or malformed.
    """
    root = Path(params.root)
    require_folders(root, (params.images, params.annotations), "AwA-Pose on AwA2")
    digests = {kind: FileDigest() for kind in ("annotations", "images")}
    left_out: Counter[str] = Counter()
    folders = [root / params.annotations / name for name in sorted(set(params.categories or ANIMALS))]
    animals: dict[str, _Animal] = {}
    for path in ingesting([path for folder in folders for path in _annotation_paths(folder)]):
        image_id = f"{path.parent.name}/{path.stem}"
        content = read_bytes(path, "annotation")
        digests["annotations"].add(image_id, content)
        record = _only_animal(content, path, left_out)
        if record is None:
            continue
        picture = root / params.images / f"{image_id}.jpg"
        size = picture_size(picture, "image", digests["images"], named_in=path)
        points = _points(record, size, params.outside, left_out)
        if not points:
            left_out["pictures without a keypoint left out"] += 1
            continue
        box = _box(record, size)
        if box is None:
            left_out["boxes that are missing or empty taken about the keypoints"] += 1
            box = _box_about(points, size)
        animals[image_id] = _Animal(picture, size, box, points)
    pairs = _pairs(animals, params)
    used = {image_id for pair in pairs for image_id in pair}
    left_out["pictures in no pair left out"] = len(animals) - len(used)
    for what, count in left_out.items():
        tell_left_out(count, what)
    animals = {image_id: animal for image_id, animal in animals.items() if image_id in used}
    return ingested(
        [image_row(image_id, a.path, a.size, a.box, "test") for image_id, a in animals.items()],
        keypoint_rows({image_id: a.points for image_id, a in animals.items()}, KEYPOINT_NAMES),
        [("test", source, target) for source, target in pairs],
        digests,
    )


def _annotation_paths(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("*.pickle"))
    if not paths:
        expected = f"files such as {folder.name}_10001.pickle"
        fix = "restore the folder, or list animals that are there in the data set's `categories`"
        raise refusal("an animal has no annotations", folder, expected, "none", fix)
    return paths


# --- one annotation -----------------------------------------------------------------------------------------


def _only_animal(content: bytes, path: Path, left_out: Counter[str]) -> Fields | None:
    """The entry of the picture's animal; None if there are several."""
    values = read_pickle(content, path)
    names = [key for key in values if isinstance(key, str) and re.fullmatch("a[0-9]+", key)]
    left_out["entries that are not animals ignored"] += len(values) - len(names)
    if not names:
        expected = 'entries "a1", "a2", …, one per animal'
        raise refusal("malformed annotation: no animal in it", path, expected, short(list(values)))
    if len(names) > 1:
        left_out["pictures with several animals left out"] += 1
        return None
    return Fields(Fields(values, path).get(names[0], lambda v: isinstance(v, dict), "a dictionary"), path)


def _points(record: Fields, size: tuple[int, int], outside: str, left_out: Counter[str]) -> dict[int, Point]:
    """The visible keypoints by number."""
    points: dict[int, Point] = {}
    for name in record.values:
        if name == "bbox":
            continue
        if name not in KEYPOINT_NAMES:
            raise record.wrong(name, "'bbox', or a keypoint of AwA-Pose's class_names.txt")
        x, y = record.numbers(name, 2, "[x, y], with -1 where it is not annotated")
        if x == -1 or y == -1:
            continue
        if is_inside((x, y), size):
            points[KEYPOINT_NAMES.index(name)] = (x, y)
        elif outside == "hide":
            left_out["keypoints outside their pictures hidden"] += 1
        else:
            raise outside_error(repr(name), (x, y), size, record.where)
    return points


def _box(record: Fields, size: tuple[int, int]) -> Box | None:
    """The box within the picture; None if there is none."""
    if "bbox" not in record.values:
        return None
    given = record.numbers("bbox", 4, "[x1, y1, x2, y2]")
    x1, y1, x2, y2 = (min(max(v, 0.0), float(size[i % 2])) for i, v in enumerate(given))
    return (x1, y1, x2, y2) if -1 not in given and x1 < x2 and y1 < y2 else None


def _box_about(points: Mapping[int, Point], size: tuple[int, int]) -> Box:
    """The smallest box about points, a pixel at least on each side."""
    sides = []
    for values, limit in zip(zip(*points.values(), strict=True), size, strict=True):
        low, high = min(values), max(values)
        if high - low < 1:
            low = min(max((low + high - 1) / 2, 0.0), limit - 1.0)
            high = low + 1
        sides.append((low, high))
    (x1, x2), (y1, y2) = sides
    return x1, y1, x2, y2


def _pairs(animals: Mapping[str, _Animal], params: Params) -> list[tuple[str, str]]:
    names = list(animals)
    category = [name.split("/")[0] for name in names]
    categories = sorted(set(category))
    visible = np.zeros((len(names), len(KEYPOINT_NAMES)), np.bool_)
    for i, animal in enumerate(animals.values()):
        visible[i, list(animal.points)] = True
    drawn = sample_pairs(
        visible,
        np.array([categories.index(name) for name in category], np.int64),
        count=params.max_pairs,
        min_shared=params.min_shared_keypoints,
        seed=params.seed,
        across=params.pairs == "across",
    )
    if not drawn:
        expected = f"pictures that share {params.min_shared_keypoints} visible keypoints or more"
        found = f"{len(names)} pictures of {len(categories)} animals, pairs: {params.pairs}"
        fix = "lower `min_shared_keypoints`, or choose more `categories`, in the data set's entry"
        raise refusal("no two pictures form a pair", params.root, expected, found, fix)
    return [(names[i], names[j]) for i, j in drawn]

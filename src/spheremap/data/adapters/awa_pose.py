"""Adapter for AwA-Pose (Banik, Li, Dong 2021, arXiv 2108.13958): keypoints on AwA2's pictures of quadrupeds.

    <images>/<animal>/<animal>_10001.jpg            AwA2, Animals_with_Attributes2/JPEGImages (Xian et al.)
    <annotations>/<animal>/<animal>_10001.pickle    Annotations of the repository prinik/AwA-Pose

An annotation is the pickle of a dictionary with one entry per animal in the picture, "a1", "a2", …, each

    {"bbox": [x1, y1, x2, y2], "nose": [x, y], "upper_jaw": [-1, -1], …}

with the 39 keypoints of Annotations/class_names.txt; a keypoint with a -1 is not annotated. The layout is
known from that repository's list of files, README, class_names.txt, Animal_Class.txt and loader, and from
public code that reads the pickles (a PyTorch data set for evaluating correspondence, a converter to YOLO's
format); the pickles themselves were not at hand.

A pickle is a program. None is run here: `read_pickle` follows the few instructions that build lists,
dictionaries, texts and numbers (also NumPy's), and refuses every other.

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

import math
import pickletools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from spheremap.base.errors import InputError
from spheremap.base.progress import progress
from spheremap.data.adapters.common import (
    FileDigest,
    Ingested,
    frame,
    is_number,
    picture_size,
    read_bytes,
    require_folders,
    short,
    tell_left_out,
)
from spheremap.data.adapters.pairs import sample_pairs
from spheremap.data.tables import IMAGES, KEYPOINTS, PAIRS, Tables

ANIMALS = (
    *("antelope", "bobcat", "buffalo", "chihuahua", "collie", "cow", "dalmatian", "deer", "elephant", "fox"),
    *(
        "german+shepherd",
        "giant+panda",
        "giraffe",
        "grizzly+bear",
        "hippopotamus",
        "horse",
        "leopard",
        "lion",
    ),
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
MAX_PICKLE_BYTES = 1 << 20  # real ones have a few thousand


@dataclass(frozen=True)
class AwaPoseParams:
    """Entry of params.yaml's `datasets`; `images` and `annotations` are folders in `root`."""

    layout: Literal["awa_pose"]
    root: str
    images: str
    annotations: str
    categories: list[str] | None  # of ANIMALS; null: all of them
    outside: Literal["error", "hide"]  # what a keypoint outside its picture is
    pairs: Literal["within", "across"]  # of one animal, or of two different ones
    max_pairs: int
    min_shared_keypoints: int  # visible in both pictures of a pair
    seed: int


@dataclass(frozen=True)
class _Animal:
    """One picture with its only animal, checked."""

    path: Path
    category: str
    width: int
    height: int
    box: tuple[float, float, float, float]
    points: dict[str, tuple[float, float]]  # the visible keypoints


def read_awa_pose(params: AwaPoseParams) -> Ingested:
    """Read AwA-Pose into the canonical tables.

    Images are `<animal>/<animal>_<number>`; a picture has rows for all keypoints that are visible in any
    picture of its animal.

    Raises:
        InputError: naming the file that is missing or malformed.
    """
    root = Path(params.root)
    require_folders(root, (params.images, params.annotations), "AwA-Pose on AwA2")
    categories = _categories(params)
    digests = {kind: FileDigest() for kind in ("annotations", "images")}
    left_out: Counter[str] = Counter()
    paths = [
        path for category in categories for path in _annotation_paths(root / params.annotations / category)
    ]
    animals: dict[str, _Animal] = {}
    for path in progress(paths, total=len(paths), desc="ingest", unit="images"):
        content = read_bytes(path, "annotation", fix="restore it")
        image_id = f"{path.parent.name}/{path.stem}"
        digests["annotations"].add(image_id, content)
        record = _only_animal(content, path, left_out)
        if record is None:
            left_out["pictures with several animals left out"] += 1
            continue
        picture = root / params.images / path.parent.name / f"{path.stem}.jpg"
        size = picture_size(picture, "image", digests["images"], named_in=path)
        animal = _read_animal(record, path, picture, size, params.outside, left_out)
        if animal is not None:
            animals[image_id] = animal
    pairs = _pairs(animals, params)
    used = {image_id for pair in pairs for image_id in pair}
    left_out["pictures in no pair left out"] = len(animals) - len(used)
    for what, count in left_out.items():
        tell_left_out(count, what)
    animals = {image_id: animal for image_id, animal in animals.items() if image_id in used}
    tables = Tables(
        images=frame([_image_row(image_id, animal) for image_id, animal in animals.items()], IMAGES),
        keypoints=frame(_keypoint_rows(animals), KEYPOINTS),
        pairs=frame([{"split": "test", "source": s, "target": t} for s, t in pairs], PAIRS),
    )
    return Ingested(tables, {kind: digest.hexdigest() for kind, digest in digests.items()})


def _categories(params: AwaPoseParams) -> list[str]:
    for name, value in (
        ("max_pairs", params.max_pairs),
        ("min_shared_keypoints", params.min_shared_keypoints),
    ):
        if value < 1:
            raise InputError(f"wrong value for {name!r}", where="the data set's entry in params.yaml",
                             expected="a whole number from 1", found=str(value))  # fmt: skip
    if params.seed < 0:
        raise InputError("wrong value for 'seed'", where="the data set's entry in params.yaml",
                         expected="a whole number from 0", found=str(params.seed))  # fmt: skip
    unknown = [name for name in params.categories or () if name not in ANIMALS]
    if unknown or params.categories == []:
        raise InputError(
            "no such animal in AwA-Pose" if unknown else "no animals chosen",
            where="categories of the data set in params.yaml",
            expected="null for all, or some of " + ", ".join(ANIMALS),
            found=short(unknown[0]) if unknown else "an empty list",
        )
    return sorted(set(params.categories or ANIMALS))


def _annotation_paths(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("*.pickle"))
    if not paths:
        raise InputError(
            "an animal has no annotations",
            where=folder,
            expected=f"files such as {folder.name}_10001.pickle",
            found="none" if folder.is_dir() else "no such folder",
            fix="restore the folder, or list the animals that are there in the data set's `categories`",
        )
    return paths


# --- one annotation -----------------------------------------------------------------------------------------


def _only_animal(content: bytes, path: Path, left_out: Counter[str]) -> dict[str, Any] | None:
    """The entry of the picture's animal; None if there are several."""
    values = read_pickle(content, path)
    if not isinstance(values, dict):
        raise _malformed(path, "annotation", "a dictionary", values)
    animals = {key: value for key, value in values.items() if re.fullmatch("a[0-9]+", key)}
    left_out["entries that are not animals ignored"] += len(values) - len(animals)
    if not animals:
        raise InputError(
            "malformed annotation: no animal in it",
            where=path,
            expected='entries "a1", "a2", …, one per animal',
            found=short(list(values)),
        )
    for key, value in animals.items():
        if not isinstance(value, dict):
            raise _malformed(path, f"entry {key!r}", "a dictionary", value)
    return dict(next(iter(animals.values()))) if len(animals) == 1 else None


def _read_animal(
    record: Mapping[str, Any],
    path: Path,
    picture: Path,
    size: tuple[int, int],
    outside: Literal["error", "hide"],
    left_out: Counter[str],
) -> _Animal | None:
    width, height = size
    points: dict[str, tuple[float, float]] = {}
    for name, value in record.items():
        if name == "bbox":
            continue
        if name not in KEYPOINT_NAMES:
            raise InputError(
                "malformed annotation: unknown keypoint",
                where=path,
                expected="names from AwA-Pose's class_names.txt, or 'bbox'",
                found=short(name),
            )
        x, y = _numbers(value, 2, path, name, "[x, y], with -1 where it is not annotated")
        if x == -1 or y == -1:
            continue
        if 0 <= x <= width and 0 <= y <= height:
            points[name] = (x, y)
        elif outside == "hide":
            left_out["keypoints outside their pictures hidden"] += 1
        else:
            raise InputError(
                f"keypoint outside the image: {name!r}",
                where=path,
                expected=f"[x, y] with 0 <= x <= {width}, 0 <= y <= {height}, as {picture} is large",
                found=f"[{x:g}, {y:g}]",
                fix="set `outside: hide` in the data set's entry in params.yaml to count it as not visible",
            )
    box = _box(record, path, size)
    if not points:
        left_out["pictures without a keypoint left out"] += 1
        return None
    if box is None:
        left_out["boxes that are missing or empty taken about the keypoints"] += 1
        box = _box_about(points, size)
    return _Animal(picture, path.parent.name, width, height, box, points)


def _numbers(value: Any, count: int, path: Path, name: str, expected: str) -> list[float]:
    if not isinstance(value, list | tuple) or len(value) != count or not all(map(is_number, value)):
        raise _malformed(path, f"{name!r}", expected, value)
    # a number may be too large for a float; any bound far beyond pictures is as good
    return [float(min(max(v, -1e300), 1e300)) for v in value]


def _box(
    record: Mapping[str, Any], path: Path, size: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """The box within the picture; None if there is none."""
    if "bbox" not in record:
        return None
    given = _numbers(record["bbox"], 4, path, "bbox", "[x1, y1, x2, y2]")
    if -1 in given:
        return None
    x1, y1, x2, y2 = (min(max(v, 0.0), float(size[i % 2])) for i, v in enumerate(given))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _box_about(
    points: Mapping[str, tuple[float, float]], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The smallest box about points, a pixel at least on each side."""
    low, high = [], []
    for axis in range(2):
        values = [point[axis] for point in points.values()]
        a, b = min(values), max(values)
        if b - a < 1:
            a = min(max((a + b - 1) / 2, 0.0), size[axis] - 1.0)
            b = a + 1
        low.append(a)
        high.append(b)
    return low[0], low[1], high[0], high[1]


def _malformed(path: Path, what: str, expected: str, found: Any) -> InputError:
    return InputError(f"malformed annotation: {what}", where=path, expected=expected, found=_describe(found))


def _describe(value: Any) -> str:
    """A value in a few words; a container that comes out of a pickle may be endless when printed."""
    if isinstance(value, list | tuple | dict):
        if len(value) <= 8 and not any(isinstance(item, list | tuple | dict | set) for item in value):
            return short(value) if not isinstance(value, dict) else f"a dictionary with {short(list(value))}"
        return f"a {type(value).__name__} of {len(value)} entries"
    return short(value)


# --- pairs and rows -----------------------------------------------------------------------------------------


def _pairs(animals: Mapping[str, _Animal], params: AwaPoseParams) -> list[tuple[str, str]]:
    names = list(animals)
    categories = sorted({animal.category for animal in animals.values()})
    visible = [[name in animal.points for name in KEYPOINT_NAMES] for animal in animals.values()]
    drawn = sample_pairs(
        np.array(visible, np.bool_).reshape(len(names), len(KEYPOINT_NAMES)),
        np.array([categories.index(animal.category) for animal in animals.values()], np.int64),
        count=params.max_pairs,
        min_shared=params.min_shared_keypoints,
        seed=params.seed,
        across=params.pairs == "across",
    )
    if not drawn:
        raise InputError(
            "no two pictures form a pair",
            where=Path(params.root) / params.annotations,
            expected=f"pictures that share {params.min_shared_keypoints} visible keypoints or more",
            found=f"{len(names)} pictures of {len(categories)} animals, pairs: {params.pairs}",
            fix="lower `min_shared_keypoints`, or choose more `categories`, in the data set's entry",
        )
    return [(names[i], names[j]) for i, j in drawn]


def _image_row(image_id: str, animal: _Animal) -> dict[str, Any]:
    x1, y1, x2, y2 = animal.box
    return {
        "image_id": image_id,
        "path": animal.path.as_posix(),
        "mask_path": "",
        "mask_value": 1,
        "category": animal.category,
        "azimuth": math.nan,
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "width": animal.width,
        "height": animal.height,
        "split": "test",
        "instance": image_id,
    }


def _keypoint_rows(animals: Mapping[str, _Animal]) -> list[dict[str, Any]]:
    of_category: dict[str, set[str]] = {}
    for animal in animals.values():
        of_category.setdefault(animal.category, set()).update(animal.points)
    rows = []
    for image_id, animal in animals.items():
        for number, name in enumerate(KEYPOINT_NAMES):
            if name in of_category[animal.category]:
                x, y = animal.points.get(name, (math.nan, math.nan))
                rows.append(
                    {
                        "image_id": image_id,
                        "keypoint_id": str(number),
                        "name": name,
                        "x": x,
                        "y": y,
                        "visible": int(name in animal.points),
                    }
                )
    return rows


# --- pickles ------------------------------------------------------------------------------------------------


def read_pickle(content: bytes, path: Path) -> Any:
    """The plain data that a pickle holds, without running it.

    Understood are None, booleans, numbers, texts, bytes, lists, tuples, dictionaries with texts as keys, and
    NumPy's numbers and arrays of numbers, which become numbers and lists. Parts may be shared.

    Raises:
        InputError: if the file is damaged or asks for anything else, naming what.
    """
    if len(content) > MAX_PICKLE_BYTES:
        raise InputError(
            "the annotation is too large",
            where=path,
            expected=f"a pickle of at most {MAX_PICKLE_BYTES} bytes",
            found=f"{len(content)} bytes",
        )
    try:
        return _PickleReader().read(content)
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(
            "the annotation cannot be read",
            where=path,
            expected="a pickle of lists, dictionaries, texts and numbers, and of nothing else",
            found=short(str(error)) if not isinstance(error, IndexError) else "a damaged file",
            fix="restore the file",
        ) from error


@dataclass(frozen=True)
class _Name:
    """What a pickle wants imported; it is only ever compared."""

    text: str


class _Array(list[Any]):
    """A NumPy array that the pickle has announced but not filled."""


class _DType(list[str]):
    """A NumPy type: its code, and once told its byte order."""


_RECONSTRUCT = {_Name(f"numpy.{core}.multiarray _reconstruct") for core in ("core", "_core")}
_SCALAR = {_Name(f"numpy.{core}.multiarray scalar") for core in ("core", "_core")}
_DTYPE, _NDARRAY, _ENCODE = _Name("numpy dtype"), _Name("numpy ndarray"), _Name("_codecs encode")
_NAMES = {*_RECONSTRUCT, *_SCALAR, _DTYPE, _NDARRAY, _ENCODE}

_VALUES = {  # instructions whose argument is the value
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class _PickleReader:
    """A stack machine for the harmless instructions (their meanings: the standard library's pickletools)."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each mark
        self.memo: dict[int, Any] = {}

    def read(self, content: bytes) -> Any:
        for code, argument, position in pickletools.genops(content):
            if code.name == "STOP":
                if position is None or position + 1 != len(content):
                    raise ValueError("bytes after the end")
                if self.below or len(self.stack) != 1:
                    raise ValueError("not one value at the end")
                return self._plain(self.stack[0])
            self._step(code.name, argument)
        raise ValueError("no end")

    def _step(self, code: str, argument: Any) -> None:
        stack = self.stack
        if code in _VALUES:
            if code.endswith("STRING") and not argument.isascii():
                raise ValueError("a text that is not ASCII in a pickle of Python 2")
            stack.append(argument)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code == "PROTO":
            if argument > 5:
                raise ValueError(f"protocol {argument}")
        elif code == "FRAME":
            pass  # a hint for reading ahead
        elif code == "MARK":
            self.below.append(stack)
            self.stack = []
        elif code in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"):
            stack.append({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}[code]())
        elif code in ("LIST", "TUPLE", "DICT"):
            items = self._since_mark()
            if code == "DICT":
                self.stack.append({})
                self._set_items(items)
            else:
                self.stack.append(items if code == "LIST" else tuple(items))
        elif code in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(code[-1])
            if len(stack) < count:
                raise ValueError("a tuple of what is not there")
            stack[-count:] = [tuple(stack[-count:])]
        elif code in ("APPEND", "APPENDS"):
            items = [stack.pop()] if code == "APPEND" else self._since_mark()
            if type(self.stack[-1]) is not list:
                raise ValueError("an entry for what is no list")
            self.stack[-1].extend(items)
        elif code in ("SETITEM", "SETITEMS"):
            self._set_items([stack.pop(), stack.pop()][::-1] if code == "SETITEM" else self._since_mark())
        elif code in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if code == "MEMOIZE" else argument] = stack[-1]
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise ValueError("a reference to what is not there")
            stack.append(self.memo[argument])
        elif code in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(self._name(argument if code == "GLOBAL" else [stack.pop(), stack.pop()][::-1]))
        elif code == "REDUCE":
            arguments = stack.pop()
            stack.append(self._call(stack.pop(), arguments))
        elif code == "BUILD":
            state = stack.pop()
            self._fill(stack[-1], state)
        else:
            raise ValueError(f"the instruction {code}, which plain data do not need")

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise ValueError("entries for what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise ValueError("a dictionary with keys other than texts")
            if key in target:  # all but the last would be lost
                raise ValueError(f"the key {key!r} occurs twice")
            target[key] = value

    def _name(self, wanted: Any) -> _Name:
        parts = [wanted] if isinstance(wanted, str) else wanted
        name = _Name(" ".join(part if isinstance(part, str) else "?" for part in parts))
        if name not in _NAMES:
            raise ValueError(f"it asks for {name.text.replace(' ', '.')}")
        return name

    def _call(self, name: Any, arguments: Any) -> Any:
        """What one of the known names would return; nothing is called."""
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise ValueError("a call of what has no name")
        match arguments:
            case [str(code), *_] if name == _DTYPE and re.fullmatch("[fiu][1248]|b1", code):
                return _DType([code])
            case [_DType() as dtype, bytes(data)] if name in _SCALAR:
                return _decode(dtype, (), data)
            case [_Name() as kind, tuple(), bytes()] if name in _RECONSTRUCT and kind == _NDARRAY:
                return _Array()
            case [str(text), "latin1"] if name == _ENCODE:  # how protocol 2 writes bytes
                return text.encode("latin-1")
        raise ValueError(f"an unusual use of {name.text.replace(' ', '.')}")

    def _fill(self, target: Any, state: Any) -> None:
        match state:
            case [_, str(order), *_] if isinstance(target, _DType) and len(target) == 1 and order in "<>|=":
                target.append(order)
                return
            case [_, tuple(shape), _DType() as dtype, bool(fortran), bytes(data)] if (
                isinstance(target, _Array) and not target and (not fortran or len(shape) < 2)
            ):
                values = _decode(dtype, shape, data)
                if isinstance(values, list):
                    target.extend(values)
                    return
        raise ValueError("an unusual state of an object")

    def _plain(self, value: Any) -> Any:
        """The value, once it is sure that no trace of NumPy is left in it."""
        seen: set[int] = set()
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, _Name | _DType):
                raise ValueError("a type where a value should be")
            if isinstance(item, list | tuple | dict) and id(item) not in seen:
                seen.add(id(item))
                waiting += item.values() if isinstance(item, dict) else item
        return value


def _decode(dtype: _DType, shape: tuple[Any, ...], data: bytes) -> Any:
    """Numbers from their bytes, as nested lists of `shape`."""
    if not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError("an array of an impossible shape")
    order = dtype[1] if len(dtype) == 2 else "="
    values = np.frombuffer(data, dtype=np.dtype(order + dtype[0]))
    if values.size != math.prod(shape):
        raise ValueError("an array with fewer or more numbers than its shape says")
    return values.reshape(shape).tolist()

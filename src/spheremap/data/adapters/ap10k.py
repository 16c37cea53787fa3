"""Adapter for AP-10K (Yu et al. 2021, arXiv 2108.12617) as a benchmark for semantic correspondence.

    annotations/ap10k-{train,test,val}-split1.json    COCO's format: images, annotations, categories
    data/000000000102.jpg                             photographs of 54 species of 23 families
    <crowd_list>                                      an image id per line: GeoAware-SC's ap-10k_is_crowd.txt

An image has id, file_name, width, height; an annotation has image_id, category_id, bbox [x, y, width, height]
and keypoints, 17 times x, y, v, where v is 2 (visible), 1 (occluded) or 0 (not annotated); a category is a
species and has id, name, supercategory (the family) and the keypoints' names. Other fields are not read. The
layout is that of the repository AlexTheBad/AP-10K and of files that its users have printed.

Images, splits and pairs follow Zhang et al. 2024 ("Telling Left from Right", arXiv 2311.17034), as their
notebook prepare_ap10k.ipynb in the repository Junyi42/GeoAware-SC makes them:

    1. The three files are joined, train, test, val in this order, and their own splits forgotten. Of several
       annotations of one image the first counts.
    2. Images of the crowd list, and those with fewer than 3 keypoints, are left out. Without a list
       (`crowd_list: null`, not in the notebook), images with several annotations are left out instead.
    3. Per species, the last 30 images are test, the 20 before them val, the others train; a species with
       fewer has no train or val images.
    4. A pair shares 3 keypoints or more: the sum of v/2 · v'/2 over the keypoints.
    5. `pairs: intra`: of one species, all unordered pairs in test and in val, up to 50 per image in train.
       `cross-species`: of two species of a family, up to 900 pairs per family in test, 400 in val.
       `cross-family`: of two families, up to 30 pairs per two families in test, 20 in val.

The notebook takes files, species and families as the file system lists them; here they are sorted (by image
id, by name), so that results repeat, and chance is seeded by `seed`. Its pairs are therefore not reproduced
one by one. In an intra pair either image may be the source; across species and families it is that of the
first name, as in the notebook, whose random exchange has no effect.

What else is decided here, and counted on standard error: a box that reaches beyond its image is cut off at
the border, as mmpose's loader does; a keypoint outside its image is an error, or hidden, as `outside` says;
images in no pair of the `splits` asked for are left out. Spaces in the names of species become "_". AP-10K
has neither viewpoints nor masks.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
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
    is_number,
    parse_json_object,
    picture_size,
    read_bytes,
    read_text,
    require_folders,
    short,
    tell_left_out,
)
from spheremap.data.tables import IMAGES, KEYPOINTS, PAIRS, SPLITS, Tables

FILES = ("ap10k-train-split1.json", "ap10k-test-split1.json", "ap10k-val-split1.json")
KEYPOINT_NAMES = (
    *("left_eye", "right_eye", "nose", "neck", "root_of_tail"),
    *("left_shoulder", "left_elbow", "left_front_paw", "right_shoulder", "right_elbow", "right_front_paw"),
    *("left_hip", "left_knee", "left_back_paw", "right_hip", "right_knee", "right_back_paw"),
)
MIN_KEYPOINTS = 3  # of an image, and shared by a pair
TEST_IMAGES, VAL_IMAGES = 30, 20  # per species
TRAIN_PAIRS_PER_IMAGE = 50
PAIRS_PER_FAMILY = {"val": 400, "test": 900}  # cross-species
PAIRS_PER_TWO_FAMILIES = {"val": 20, "test": 30}  # cross-family
MAX_ID = 10**12 - 1  # twelve digits, as in the file names


@dataclass(frozen=True)
class Ap10kParams:
    """Entry of params.yaml's `datasets`."""

    layout: Literal["ap10k"]
    root: str
    crowd_list: str | None  # file in `root`
    pairs: Literal["intra", "cross-species", "cross-family"]
    splits: list[Literal["train", "val", "test"]]  # to write; only intra has train
    outside: Literal["error", "hide"]  # what a keypoint outside its image is
    seed: int


@dataclass(frozen=True)
class _Record:
    """One image with the annotation that counts, checked."""

    file: Path  # of the annotation
    number: int  # id of the image
    file_name: str
    width: int
    height: int
    species: str
    family: str
    box: tuple[float, float, float, float]
    xy: NDArray[np.float64]  # (17, 2)
    visibility: NDArray[np.int64]  # (17,), 0, 1 or 2
    alone: bool  # whether it is the image's only annotation

    @property
    def image_id(self) -> str:
        return f"{self.species}/{Path(self.file_name).stem}"


def read_ap10k(params: Ap10kParams) -> Ingested:
    """Read AP-10K into the canonical tables.

    Images are `<species>/<12 digits>`; the category is the species, whatever the pairs.
    An image has rows for all keypoints that are visible in any image of its species.

    Raises:
        InputError: naming the file that is missing or malformed.
    """
    root = Path(params.root)
    splits = _splits(params)
    require_folders(root, ("annotations", "data"), "AP-10K")
    digests = {kind: FileDigest() for kind in ("annotations", "images")}
    records, further = _read_records(root, params.outside, digests["annotations"])
    tell_left_out(further, "further annotations of the same images left out")
    records = _filter(records, root, params.crowd_list, digests["annotations"])

    by_split = _split_by_species(records)
    generator = np.random.default_rng(params.seed)
    pairs: list[tuple[str, _Record, _Record]] = []
    for split in splits:
        make = {"intra": _intra, "cross-species": _cross_species, "cross-family": _cross_family}[params.pairs]
        pairs += [(split, *pair) for pair in make(by_split[split], split, generator)]
    if not pairs:
        raise InputError(
            "the data set has no pairs",
            where=root / "annotations",
            expected=f"pairs ({params.pairs}) with {MIN_KEYPOINTS} shared keypoints in " + ", ".join(splits),
            found=f"{len(records)} images, none of which form such a pair",
        )
    split_of = {image.number: split for split, *images in pairs for image in images}
    used = sorted((r for r in records if r.number in split_of), key=lambda r: r.image_id)
    tell_left_out(len(records) - len(used), f"images in no pair of {', '.join(splits)} left out")
    for record in progress(used, total=len(used), desc="ingest", unit="images"):
        _check_picture(record, root / "data" / record.file_name, digests["images"])
    tables = Tables(
        images=frame([_image_row(record, root, split_of[record.number]) for record in used], IMAGES),
        keypoints=frame(_keypoint_rows(used), KEYPOINTS),
        pairs=frame([{"split": s, "source": a.image_id, "target": b.image_id} for s, a, b in pairs], PAIRS),
    )
    return Ingested(tables, {kind: digest.hexdigest() for kind, digest in digests.items()})


def _splits(params: Ap10kParams) -> list[str]:
    possible = [split for split in SPLITS if split != "train" or params.pairs == "intra"]
    if not params.splits or not set(params.splits) <= set(possible):
        raise InputError(
            "wrong value for 'splits'",
            where="the data set's entry in params.yaml",
            expected=f"one or more of {', '.join(possible)}, which pairs: {params.pairs} has",
            found=", ".join(params.splits) or "an empty list",
        )
    if params.seed < 0:
        raise InputError("wrong value for 'seed'", where="the data set's entry in params.yaml",
                         expected="a whole number from 0", found=str(params.seed))  # fmt: skip
    return [split for split in SPLITS if split in params.splits]


# --- annotations --------------------------------------------------------------------------------------------


def _read_records(root: Path, outside: str, digest: FileDigest) -> tuple[list[_Record], int]:
    """The images that are annotated, each with its first annotation, and the number of all further ones."""
    images: dict[int, tuple[str, int, int]] = {}  # file name, width, height
    species: dict[int, tuple[str, str]] = {}  # name, family
    annotations: dict[int, list[tuple[Path, Mapping[str, Any]]]] = {}  # by image
    for name in FILES:
        path = root / "annotations" / name
        content = read_bytes(path, "annotation file", fix="restore it, as it comes with the data set")
        digest.add(name, content)
        values = parse_json_object(content, path)
        for image in _objects(values, "images", path):
            number = image.whole("id", 0, MAX_ID)
            image.once(images, number, _image(image), "image id")
        for category in _objects(values, "categories", path):
            number = category.whole("id", 0, MAX_ID)
            category.once(species, number, _category(category), "category id")
        for annotation in _objects(values, "annotations", path):
            number = annotation.whole("image_id", 0, MAX_ID)
            annotations.setdefault(number, []).append((path, annotation.values))
    file_names: dict[str, int] = {}
    for number, (file_name, *_) in images.items():
        if file_names.setdefault(Path(file_name).stem, number) != number:
            raise InputError(
                "two images have one name",
                where=root / "annotations",
                expected="each file_name in one image",
                found=f"{short(file_name)} in the images {file_names[Path(file_name).stem]} and {number}",
            )
    unannotated = len(set(images) - set(annotations))
    tell_left_out(unannotated, "images without an annotation left out")
    hidden = 0
    records = []
    for number, candidates in annotations.items():
        for i, (path, fields) in enumerate(candidates):  # those that do not count are checked as well
            entry = _Object(fields, path, f"annotation of image {number}")
            if number not in images:
                raise entry.wrong("image_id", "the id of an image in the annotation files")
            record, outside_points = _record(entry, number, images[number], species, len(candidates) == 1)
            if i == 0:
                hidden += _hide(record, outside_points, outside)
                records.append(record)
    tell_left_out(hidden, "keypoints outside their images hidden")
    return records, sum(len(candidates) - 1 for candidates in annotations.values())


def _hide(record: _Record, points: list[int], outside: str) -> int:
    """Make the keypoints that lie outside the image count as not visible, or refuse them; their number."""
    if points and outside == "error":
        raise InputError(
            f"keypoint outside the image: {KEYPOINT_NAMES[points[0]]!r} of image {record.number}",
            where=record.file,
            expected=f"0 <= x <= {record.width}, 0 <= y <= {record.height}",
            found=short(record.xy[points[0]].tolist()),
            fix="set `outside: hide` in the data set's entry in params.yaml to count it as not visible",
        )
    record.visibility[points] = 0
    return len(points)


def _image(image: "_Object") -> tuple[str, int, int]:
    file_name = image.values.get("file_name")
    if not isinstance(file_name, str) or not is_file_name(file_name) or not Path(file_name).suffix:
        raise image.wrong("file_name", "the name of a file in data")
    return file_name, image.whole("width", 1, 10**6), image.whole("height", 1, 10**6)


def _category(category: "_Object") -> tuple[str, str]:
    names = []
    for field in ("name", "supercategory"):
        value = category.values.get(field)
        if not isinstance(value, str) or re.fullmatch(r"\w([\w .'-]*[\w.'-])?", value) is None:
            raise category.wrong(field, "the name of a species or family")
        names.append(value.replace(" ", "_"))
    if category.values.get("keypoints") != list(KEYPOINT_NAMES):
        raise category.wrong("keypoints", "the 17 names left_eye, …, right_back_paw")
    return names[0], names[1]


def _record(
    entry: "_Object",
    number: int,
    image: tuple[str, int, int],
    species: Mapping[int, tuple[str, str]],
    alone: bool,
) -> tuple[_Record, list[int]]:
    """The checked annotation, and the numbers of its keypoints that lie outside the image."""
    file_name, width, height = image
    category = entry.whole("category_id", 0, MAX_ID)
    if category not in species:
        raise entry.wrong("category_id", "the id of a category in the annotation files")
    name, family = species[category]
    x, y, w, h = entry.numbers("bbox", 4, "[x, y, width, height], part of it in the image")
    box = (max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height)))
    if not (box[0] < box[2] and box[1] < box[3]):
        raise entry.wrong("bbox", "[x, y, width, height], part of it in the image")
    expected = "17 times x, y, v with v 0, 1 or 2"
    triples = np.array(entry.numbers("keypoints", 3 * len(KEYPOINT_NAMES), expected)).reshape(-1, 3)
    xy, visibility = triples[:, :2], triples[:, 2]
    if not np.isin(visibility, (0, 1, 2)).all():
        raise entry.wrong("keypoints", expected)
    inside = ((xy >= 0) & (xy <= (width, height))).all(axis=1)
    outside = np.flatnonzero(~inside & (visibility > 0)).tolist()
    record = _Record(
        file=entry.path,
        number=number,
        file_name=file_name,
        width=width,
        height=height,
        species=name,
        family=family,
        box=box,
        xy=xy,
        visibility=visibility.astype(np.int64),
        alone=alone,
    )
    return record, outside


def _filter(records: list[_Record], root: Path, crowd_list: str | None, digest: FileDigest) -> list[_Record]:
    if crowd_list is None:
        kept = [record for record in records if record.alone]
        tell_left_out(len(records) - len(kept), "images with several annotations left out")
    else:
        crowd = _read_crowd_list(root / crowd_list, digest)
        kept = [record for record in records if record.number not in crowd]
        tell_left_out(len(records) - len(kept), f"images of the list {crowd_list} left out")
    rich = [record for record in kept if np.count_nonzero(record.visibility) >= MIN_KEYPOINTS]
    tell_left_out(len(kept) - len(rich), f"images with fewer than {MIN_KEYPOINTS} keypoints left out")
    return rich


def _read_crowd_list(path: Path, digest: FileDigest) -> set[int]:
    fix = "restore it, or set `crowd_list: null` to leave out the images with several annotations"
    numbers = set()
    for i, line in enumerate(read_text(path, "crowd list", digest, fix=fix).splitlines(), start=1):
        if line.strip():
            if re.fullmatch("[0-9]{1,12}", line.strip()) is None:
                raise InputError(
                    "malformed crowd list", where=f"{path}, line {i}",
                    expected="an image id, such as 000000000102", found=short(line), fix=fix,
                )  # fmt: skip
            numbers.add(int(line))
    return numbers


@dataclass(frozen=True)
class _Object:
    """Checked access to the fields of one object in an annotation file."""

    values: Mapping[str, Any]
    path: Path
    what: str  # "image 3"

    def wrong(self, field: str, expected: str) -> InputError:
        """The error for a field that is absent or not as expected."""
        found = short(self.values[field]) if field in self.values else "no such field"
        return InputError(
            f"malformed {self.what}: field {field!r}", where=self.path, expected=expected, found=found
        )

    def whole(self, field: str, low: int, high: int) -> int:
        value = self.values.get(field)
        if not isinstance(value, int) or not is_number(value, low, high):
            raise self.wrong(field, f"a whole number from {low} to {high}")
        return value

    def numbers(self, field: str, count: int, expected: str) -> list[float]:
        value: Any = self.values.get(field)
        # no coordinate is that large, and sums of such numbers stay finite
        in_range = isinstance(value, list) and all(is_number(v, -1e9, 1e9) for v in value)
        if not in_range or len(value) != count:
            raise self.wrong(field, expected)
        return [float(v) for v in value]

    def once(self, known: dict[int, Any], number: int, entry: Any, what: str) -> None:
        """Put an entry into a table; the files may repeat one, but not change it."""
        if known.setdefault(number, entry) != entry:
            raise self.wrong("id", f"the same under {what} {number} wherever it stands")


def _objects(values: Mapping[str, Any], field: str, path: Path) -> list[_Object]:
    listed = values.get(field)
    singular = {"images": "image", "categories": "category", "annotations": "annotation"}[field]
    if not isinstance(listed, list) or not all(isinstance(value, dict) for value in listed):
        raise InputError(
            f"malformed annotation file: field {field!r}",
            where=path,
            expected="a list of objects",
            found=short(listed) if field in values else "no such field",
        )
    return [_Object(value, path, f"{singular} no. {i}") for i, value in enumerate(listed, start=1)]


# --- splits and pairs ---------------------------------------------------------------------------------------


def _split_by_species(records: list[_Record]) -> dict[str, dict[str, dict[str, list[_Record]]]]:
    """Split → family → species → its images by id; a species without images in the split is not there."""
    species: dict[tuple[str, str], list[_Record]] = {}
    for record in records:
        species.setdefault((record.family, record.species), []).append(record)
    result: dict[str, dict[str, dict[str, list[_Record]]]] = {split: {} for split in SPLITS}
    for (family, name), members in sorted(species.items()):
        members.sort(key=lambda record: record.number)
        test = max(len(members) - TEST_IMAGES, 0)
        val = max(test - VAL_IMAGES, 0)
        for split, part in (("train", members[:val]), ("val", members[val:test]), ("test", members[test:])):
            if part:
                result[split].setdefault(family, {})[name] = part
    return result


_Families = Mapping[str, Mapping[str, list[_Record]]]


def _intra(
    families: _Families, split: str, generator: np.random.Generator
) -> Iterator[tuple[_Record, _Record]]:
    for species in families.values():
        for members in species.values():
            # shuffled, so that either image of a pair may be its source
            images = [members[i] for i in generator.permutation(len(members))]
            first, second = np.nonzero(np.triu(_shared(images, images) >= MIN_KEYPOINTS, k=1))
            count = TRAIN_PAIRS_PER_IMAGE * len(images) if split == "train" else len(first)
            for i in _sample(len(first), count, generator):
                yield images[first[i]], images[second[i]]


def _cross_species(
    families: _Families, split: str, generator: np.random.Generator
) -> Iterator[tuple[_Record, _Record]]:
    for species in families.values():
        possible = [
            pair
            for one, other in itertools.combinations(species.values(), 2)
            for pair in _product(one, other)
        ]
        for i in _sample(len(possible), PAIRS_PER_FAMILY[split], generator):
            yield possible[i]


def _cross_family(
    families: _Families, split: str, generator: np.random.Generator
) -> Iterator[tuple[_Record, _Record]]:
    members = [[image for images in species.values() for image in images] for species in families.values()]
    for one, other in itertools.combinations(members, 2):
        possible = _product(one, other)
        for i in _sample(len(possible), PAIRS_PER_TWO_FAMILIES[split], generator):
            yield possible[i]


def _product(one: list[_Record], other: list[_Record]) -> list[tuple[_Record, _Record]]:
    """All pairs from two lists that share enough keypoints."""
    rows, columns = np.nonzero(_shared(one, other) >= MIN_KEYPOINTS)
    return [(one[i], other[j]) for i, j in zip(rows.tolist(), columns.tolist(), strict=True)]


def _shared(one: list[_Record], other: list[_Record]) -> NDArray[np.float64]:
    """How many keypoints each two images share, an occluded one counting half in each, `(len, len)`."""
    a, b = (np.array([record.visibility for record in images]) / 2 for images in (one, other))
    return a @ b.T


def _sample(total: int, count: int, generator: np.random.Generator) -> list[int]:
    """Numbers below `total`, all or `count` of them at random, in ascending order."""
    if total <= count:
        return list(range(total))
    return sorted(generator.choice(total, count, replace=False).tolist())


# --- rows ---------------------------------------------------------------------------------------------------


def _check_picture(record: _Record, path: Path, digest: FileDigest) -> None:
    width, height = picture_size(path, "image", digest, named_in=record.file)
    if (width, height) != (record.width, record.height):
        raise InputError(
            "image of another size than its annotation says",
            where=path,
            expected=f"{record.width} x {record.height} pixels as in {record.file}",
            found=f"{width} x {height} pixels",
            fix="restore the image, or correct width and height",
        )


def _image_row(record: _Record, root: Path, split: str) -> dict[str, Any]:
    x1, y1, x2, y2 = record.box
    return {
        "image_id": record.image_id,
        "path": (root / "data" / record.file_name).as_posix(),
        "mask_path": "",
        "mask_value": 1,
        "category": record.species,
        "azimuth": math.nan,
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "width": record.width,
        "height": record.height,
        "split": split,
        "instance": record.image_id,
    }


def _keypoint_rows(records: list[_Record]) -> list[dict[str, Any]]:
    seen: dict[str, NDArray[np.bool_]] = {}  # species -> which keypoints its images show
    for record in records:
        seen[record.species] = seen.get(record.species, False) | (record.visibility > 0)
    rows = []
    for record in records:
        for k in np.flatnonzero(seen[record.species]).tolist():
            visible = bool(record.visibility[k] > 0)
            x, y = record.xy[k].tolist() if visible else (math.nan, math.nan)
            rows.append(
                {
                    "image_id": record.image_id,
                    "keypoint_id": str(k),
                    "name": KEYPOINT_NAMES[k],
                    "x": x,
                    "y": y,
                    "visible": int(visible),
                }
            )
    return rows

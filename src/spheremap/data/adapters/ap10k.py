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
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheremap.base.errors import short
from spheremap.config.data_sets import AP10K as Params
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
    keypoint_rows,
    numbered_lines,
    outside_error,
    picture_size,
    read_annotation,
    read_text,
    refusal,
    require_folders,
    tell_left_out,
)
from spheremap.data.tables import SPLITS

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
class _Image:
    """One image with the annotation that counts, checked."""

    annotation: Fields
    number: int  # its id
    file_name: str
    size: tuple[int, int]
    species: str
    family: str
    box: Box
    points: dict[int, Point]  # the visible keypoints
    weights: NDArray[np.float64]  # (17,): 1 visible, 0.5 occluded, 0 not annotated
    alone: bool  # whether it is the image's only annotation

    @property
    def image_id(self) -> str:
        return f"{self.species}/{Path(self.file_name).stem}"


def read(params: Params) -> Ingested:
    """Read AP-10K into the canonical tables.

    Images are `<species>/<12 digits>`; the category is the species, whatever the pairs.
    An image has rows for all keypoints that are visible in any image of its species.

    Raises:
        InputError: naming the file that is missing or malformed.
    """
    root = Path(params.root)
    require_folders(root, ("annotations", "data"), "AP-10K")
    digests = {kind: FileDigest() for kind in ("annotations", "images")}
    images = _read_images(root / "annotations", params.outside, digests["annotations"])
    images = _filter(images, root, params.crowd_list, digests["annotations"])

    by_split = _split_by_species(images)
    rng = np.random.default_rng(params.seed)
    pairs = [
        (split, source, target)
        for split in SPLITS
        if split in params.splits
        for source, target in _draw(by_split[split], split, params.pairs, rng)
    ]
    if not pairs:
        expected = (
            f"pairs ({params.pairs}) in {', '.join(params.splits)} with {MIN_KEYPOINTS} shared keypoints"
        )
        raise refusal("the data set has no pairs", root, expected, f"none among {len(images)} images")
    split_of = {image.number: split for split, *both in pairs for image in both}
    used = sorted((i for i in images if i.number in split_of), key=lambda i: i.image_id)
    tell_left_out(len(images) - len(used), f"images in no pair of {', '.join(params.splits)} left out")
    rows = []
    for image in ingesting(used):
        path = root / "data" / image.file_name
        named_in = image.annotation.where
        picture_size(path, "image", digests["images"], named_in=named_in, expected=image.size)
        rows.append(image_row(image.image_id, path, image.size, image.box, split_of[image.number]))
    return ingested(
        rows,
        keypoint_rows({image.image_id: image.points for image in used}, KEYPOINT_NAMES),
        [(split, source.image_id, target.image_id) for split, source, target in pairs],
        digests,
    )


# --- annotations --------------------------------------------------------------------------------------------


_Pictures = dict[int, tuple[str, int, int]]  # by id: file name, width, height
_Species = dict[int, tuple[str, str]]  # by id: name, family


def _read_images(folder: Path, outside: str, digest: FileDigest) -> list[_Image]:
    """The images that are annotated, each with its first annotation."""
    pictures: _Pictures = {}
    species: _Species = {}
    annotations: dict[int, list[Fields]] = {}  # by image
    for name in FILES:
        file = read_annotation(folder / name, digest, what="annotation file")
        for picture in file.objects("images"):
            _add(pictures, picture, _picture(picture))
        for category in file.objects("categories"):
            _add(species, category, _species(category))
        for annotation in file.objects("annotations"):
            annotations.setdefault(annotation.whole("image_id", 0, MAX_ID), []).append(annotation)
    tell_left_out(len(pictures.keys() - annotations), "images without an annotation left out")
    further = sum(map(len, annotations.values())) - len(annotations)
    tell_left_out(further, "further annotations of the same images left out")
    images = [_image(first, pictures, species, not more) for first, *more in annotations.values()]
    hidden = 0
    for image in images:
        for k in [k for k, point in image.points.items() if not is_inside(point, image.size)]:
            point = image.points.pop(k)
            if outside == "error":
                name = f"{KEYPOINT_NAMES[k]!r} of image {image.number}"
                raise outside_error(name, point, image.size, image.annotation.where)
            image.weights[k] = 0
            hidden += 1
    tell_left_out(hidden, "keypoints outside their images hidden")
    return images


def _add(known: dict[int, Any], entry: Fields, value: Any) -> None:
    """Put an entry into a table by its id; the files may repeat one, but not change it."""
    number = entry.whole("id", 0, MAX_ID)
    if known.setdefault(number, value) != value:
        raise entry.wrong("id", f"the same under the id {number} wherever it stands")


def _picture(picture: Fields) -> tuple[str, int, int]:
    expected = "the name of a file in data"
    file_name = picture.get("file_name", lambda v: is_file_name(v) and Path(v).suffix != "", expected)
    return file_name, picture.whole("width", 1, 10**6), picture.whole("height", 1, 10**6)


def _species(category: Fields) -> tuple[str, str]:
    def is_name(value: Any) -> bool:
        return isinstance(value, str) and re.fullmatch(r"\w([\w .'-]*[\w.'-])?", value) is not None

    expected = "the name of a species or family"
    name, family = (category.get(key, is_name, expected) for key in ("name", "supercategory"))
    expected = "the 17 names left_eye, …, right_back_paw"
    category.get("keypoints", lambda v: v == list(KEYPOINT_NAMES), expected)
    return name.replace(" ", "_"), family.replace(" ", "_")


def _image(annotation: Fields, pictures: _Pictures, species: _Species, alone: bool) -> _Image:
    number = annotation.values["image_id"]
    annotation.get("image_id", pictures.__contains__, "the id of an image in the annotation files")
    category = annotation.whole("category_id", 0, MAX_ID)
    annotation.get("category_id", species.__contains__, "the id of a category in the annotation files")
    file_name, width, height = pictures[number]
    expected = "[x, y, width, height], part of it in the image"
    x, y, w, h = annotation.numbers("bbox", 4, expected)
    box = (max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height)))
    annotation.get("bbox", lambda _: box[0] < box[2] and box[1] < box[3], expected)
    expected = "17 times x, y, v with v 0, 1 or 2"
    triples = annotation.numbers("keypoints", 3 * len(KEYPOINT_NAMES), expected)
    visibility = triples[2::3]
    annotation.get("keypoints", lambda _: set(visibility) <= {0, 1, 2}, expected)
    points = zip(triples[::3], triples[1::3], strict=True)
    return _Image(
        annotation=annotation,
        number=number,
        file_name=file_name,
        size=(width, height),
        species=species[category][0],
        family=species[category][1],
        box=box,
        points={k: point for k, point in enumerate(points) if visibility[k] > 0},
        weights=np.array(visibility) / 2,
        alone=alone,
    )


def _filter(images: list[_Image], root: Path, crowd_list: str | None, digest: FileDigest) -> list[_Image]:
    """The images that show one animal and enough of its keypoints."""
    if crowd_list is None:
        kept = [image for image in images if image.alone]
        tell_left_out(len(images) - len(kept), "images with several annotations left out")
    else:
        crowd = _read_crowd_list(root / crowd_list, digest)
        kept = [image for image in images if image.number not in crowd]
        tell_left_out(len(images) - len(kept), f"images of the list {crowd_list} left out")
    enough_keypoints = [image for image in kept if len(image.points) >= MIN_KEYPOINTS]
    tell_left_out(
        len(kept) - len(enough_keypoints), f"images with fewer than {MIN_KEYPOINTS} keypoints left out"
    )
    return enough_keypoints


def _read_crowd_list(path: Path, digest: FileDigest) -> set[int]:
    fix = "restore it, or set `crowd_list: null` to leave out the images with several annotations"
    lines = numbered_lines(path, read_text(path, "crowd list", digest, fix=fix))
    for where, line in lines:
        if re.fullmatch("[0-9]{1,12}", line.strip()) is None:
            expected = "an image id, such as 000000000102"
            raise refusal("malformed crowd list", where, expected, short(line), fix)
    return {int(line) for _, line in lines}


# --- splits and pairs ---------------------------------------------------------------------------------------

_Families = dict[str, dict[str, list[_Image]]]  # family → species → its images


def _split_by_species(images: list[_Image]) -> dict[str, _Families]:
    """Split → family → species → its images by id; a species without images in the split is not there."""
    species: dict[tuple[str, str], list[_Image]] = {}
    for image in images:
        species.setdefault((image.family, image.species), []).append(image)
    result: dict[str, _Families] = {split: {} for split in SPLITS}
    for (family, name), members in sorted(species.items()):
        members.sort(key=lambda image: image.number)
        test = max(len(members) - TEST_IMAGES, 0)
        val = max(test - VAL_IMAGES, 0)
        for split, part in (("train", members[:val]), ("val", members[val:test]), ("test", members[test:])):
            if part:
                result[split].setdefault(family, {})[name] = part
    return result


def _draw(
    families: _Families, split: str, kind: str, rng: np.random.Generator
) -> Iterator[tuple[_Image, _Image]]:
    """Pairs of a split, in order: all that are possible, or as many at random as the benchmark takes."""
    for possible, count in _possible(families, split, kind, rng):
        if len(possible) > count:
            possible = [possible[i] for i in sorted(rng.choice(len(possible), count, replace=False))]
        yield from possible


def _possible(
    families: _Families, split: str, kind: str, rng: np.random.Generator
) -> Iterator[tuple[list[tuple[_Image, _Image]], int]]:
    """The possible pairs of each species, family or two families, and how many of them to take at most."""
    if kind == "intra":
        for members in (members for species in families.values() for members in species.values()):
            # shuffled, so that either image of a pair may be its source
            images = [members[i] for i in rng.permutation(len(members))]
            pairs = _sharing(images, images)
            yield pairs, TRAIN_PAIRS_PER_IMAGE * len(images) if split == "train" else len(pairs)
    elif kind == "cross-species":
        for species in families.values():
            of_two = itertools.combinations(species.values(), 2)
            yield [pair for two in of_two for pair in _sharing(*two)], PAIRS_PER_FAMILY[split]
    else:
        members_of = [[image for images in of.values() for image in images] for of in families.values()]
        for one, other in itertools.combinations(members_of, 2):
            yield _sharing(one, other), PAIRS_PER_TWO_FAMILIES[split]


def _sharing(one: list[_Image], other: list[_Image]) -> list[tuple[_Image, _Image]]:
    """All pairs from two lists that share enough keypoints; of one list with itself, each pair once."""
    a, b = (np.array([image.weights for image in images]) for images in (one, other))
    enough = a @ b.T >= MIN_KEYPOINTS  # an occluded keypoint counts half in each image
    rows, columns = np.nonzero(np.triu(enough, k=1) if one is other else enough)
    return [(one[i], other[j]) for i, j in zip(rows.tolist(), columns.tolist(), strict=True)]

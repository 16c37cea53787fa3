"""What a detector says of a picture, and which of its detections is the object.

The authors of the spherical maps (Mariotti et al. 2024; github.com/VICO-UoE/SphericalMaps, datasets/SPair.py)
run Mask R-CNN v2 with a score threshold of 0.9 and take the most confident detection of the category's class,
wherever it is. Where a picture shows several objects of a class, that need not be the annotated one; the box
of the tables tells them apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spheremap.base.errors import InputError, did_you_mean

ANY = "any"  # whatever class the detector gives

# Categories whose COCO class is known: PASCAL VOC's twenty, COCO's further quadrupeds, breeds and kinds of
# them. Equal names are no proof: COCO's mouse belongs to a computer, that of animal data sets does not.
_SAME = (  # names of both
    *("bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dog", "horse", "person"),
    *("sheep", "train", "bear", "elephant", "giraffe", "zebra"),
)
COCO_CLASS: dict[str, str] = {
    **{name: name for name in _SAME},
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
    **dict.fromkeys(("black bear", "brown bear", "grizzly bear", "polar bear"), "bear"),
    **dict.fromkeys(("persian cat", "siamese cat"), "cat"),
    **dict.fromkeys(("chihuahua", "collie", "dalmatian", "german shepherd"), "dog"),
}

Box = Sequence[float]  # (x1, y1, x2, y2)


@dataclass(frozen=True)
class Detections:
    """K objects found in a picture.

    Attributes:
        boxes: `(K, 4)` as (x1, y1, x2, y2) in pixels of the picture.
        scores: `(K,)` confidences.
        labels: K COCO class names.
        mask: gives the mask `(H, W)` bool of the k-th.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: list[str]
    mask: Callable[[int], NDArray[np.bool_]]


class Detector(Protocol):
    """Finds objects; `classes` are the COCO classes that it tells apart, `identity` is all that decides."""

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def identity(self) -> Mapping[str, Any]: ...

    @property
    def weights_sha256(self) -> str: ...

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """The objects in a picture `(H, W, 3)`."""
        ...


@dataclass(frozen=True)
class Choice:
    """The detection that is the object, or why there is none.

    Attributes:
        mask: `(H, W)` bool; None if no detection qualifies.
        reason: why not; empty otherwise.
        score, iou: of the detection chosen, or of the best one rejected; None if there was none of the class.
    """

    mask: NDArray[np.bool_] | None
    reason: str
    score: float | None
    iou: float | None


def coco_classes(categories: Sequence[str], given: Mapping[str, str], known: Sequence[str]) -> dict[str, str]:
    """The COCO class to look for in pictures of each category; "any" where none is known.

    Args:
        categories: those of the tables.
        given: the user's choices, which come first.
        known: the detector's classes.

    Raises:
        InputError: for a choice of an unknown category or class.
    """
    for category, name in given.items():
        for what, value, choices in (("category", category, categories), ("class", name, [*known, ANY])):
            if value not in choices:
                raise InputError(
                    f"masks.classes names an unknown {what}",
                    expected="a category of the data set: a COCO class, or any",
                    found=f"{category}: {name}",
                    fix=did_you_mean(value, choices, f"one of {', '.join(choices)}"),
                )
    return {category: given.get(category, COCO_CLASS.get(_plain(category), ANY)) for category in categories}


def choose(found: Detections, wanted: str, box: Box, min_iou: float | None) -> Choice:
    """Which detection is the object in `box`.

    Args:
        found: detections above the score threshold.
        wanted: COCO class, or "any".
        box: of the object, from the tables.
        min_iou: see `DetectedMasks`. Detections with empty masks never count.
    """
    ious = box_iou(found.boxes, box)
    candidates = [k for k, label in enumerate(found.labels) if wanted in (ANY, label)]
    if not candidates:
        return Choice(None, f"no {wanted if wanted != ANY else 'object'} detected", None, None)

    def merit(k: int) -> tuple[float, ...]:
        score, iou = float(found.scores[k]), float(ious[k])
        return (score,) if min_iou is None else (iou, score)

    ranked = sorted(candidates, key=merit, reverse=True)
    best = ranked[0]
    for k in ranked:
        if min_iou is not None and ious[k] < min_iou:
            break
        mask = found.mask(k)
        if mask.any():
            return Choice(mask, "", float(found.scores[k]), float(ious[k]))
    if min_iou is not None and ious[best] < min_iou:
        reason = f"no detection agrees with the box (best {ious[best]:.2f})"
    else:
        reason = "the detection's mask is empty"
    return Choice(None, reason, float(found.scores[best]), float(ious[best]))


def box_iou(boxes: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """Intersection over union `(K,)` of boxes `(K, 4)` with one box."""
    one = np.asarray(box, dtype=np.float64)
    low, high = np.maximum(boxes[:, :2], one[:2]), np.minimum(boxes[:, 2:], one[2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    union = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(one[2:] - one[:2]) - common
    return common / np.maximum(union, np.finfo(np.float64).tiny)


def _plain(category: str) -> str:
    """A category as `COCO_CLASS` spells it: data sets write "polar bear", "polar_bear" or "polar+bear"."""
    return category.lower().replace("_", " ").replace("+", " ").replace("-", " ")

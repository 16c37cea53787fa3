"""Parameters of the masks: the entry `masks` of a data set in params.yaml."""

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from spheremap.base.errors import InputError
from spheremap.base.files import read_json
from spheremap.config.slices import parse

Model = Literal["maskrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class OwnMasks:
    """The data set's own masks, as they are; an image without one counts with its whole box."""

    source: Literal["own"]


@dataclass(frozen=True)
class NoMasks:
    """No masks: the whole box counts as the object."""

    source: Literal["none"]


@dataclass(frozen=True)
class DetectorWeights:
    """Where the detector's weights come from.

    Attributes:
        source: "hub" (torchvision's own address; the file is kept where torch keeps its downloads) or "file".
        path: file: a state dict as torchvision publishes it (.pth), or as safetensors.
        sha256: SHA-256 of the file; null: unchecked, but recorded with the masks.
    """

    source: Literal["hub", "file"]
    path: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if (self.source == "file") != (self.path is not None):
            raise InputError(
                f"wrong keys for detector weights from source {self.source!r}",
                expected="a path" if self.source == "file" else "no path",
                found=f"path: {self.path!r}",
            )
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise InputError("sha256 is not a SHA-256", expected="64 hexadecimal digits", found=self.sha256)


@dataclass(frozen=True)
class DetectedMasks:
    """Masks by torchvision's Mask R-CNN, else the data set's own, else the whole box.

    Attributes:
        source: always "maskrcnn".
        model: which of torchvision's two; the authors of the spherical maps use the v2.
        weights: where its weights come from.
        image_size: shorter side in pixels to which images are resized for the detector; the longer side is
            bounded by 5/3 of it. torchvision's weights were trained with 800.
        score: detections must score above this; 0.9 in the authors' code.
        min_iou: of the detections of the right class the one counts whose box agrees best with the box in the
            tables, and their intersection over union must be at least this. Null: the box is ignored and the
            highest score counts, as in the authors' code.
        classes: COCO class to look for, by category, or "any"; the rest as in `detections.COCO_CLASS`.
    """

    source: Literal["maskrcnn"]
    model: Model
    weights: DetectorWeights
    image_size: int
    score: float
    min_iou: float | None
    classes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, ok, expected in (
            ("image_size", self.image_size >= 32, "32 pixels or more"),
            ("score", 0 <= self.score < 1, "0 or more and below 1"),
            ("min_iou", self.min_iou is None or 0 < self.min_iou <= 1, "above 0 and up to 1, or null"),
        ):
            if not ok:
                raise InputError(
                    f"masks.{name} is out of range", expected=expected, found=str(getattr(self, name))
                )


MasksParams = OwnMasks | NoMasks | DetectedMasks
_BY_SOURCE: dict[str, type[Any]] = {"own": OwnMasks, "none": NoMasks, "maskrcnn": DetectedMasks}


def read_masks_params(path: Path) -> MasksParams:
    """Read the entry from a JSON file.

    Raises:
        InputError: if it names no known source, or has keys or values that its source does not allow.
    """
    entry = read_json(path)
    source = entry.get("source") if isinstance(entry, dict) else None
    if not isinstance(source, str) or source not in _BY_SOURCE:
        near = difflib.get_close_matches(str(source), _BY_SOURCE, n=1)
        raise InputError(
            "unknown source of masks",
            where=path,
            expected="source: one of " + ", ".join(_BY_SOURCE),
            found=f"source: {source!r}",
            fix=f"did you mean {near[0]!r}?" if near else "correct the data set's `masks` in params.yaml",
        )
    params: MasksParams = parse(entry, _BY_SOURCE[source], where=path)
    return params

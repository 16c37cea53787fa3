"""Finished masks, kept outside the outputs so that a killed run goes on where it stopped.

    <work>/<key>/masks/<image_id>.png      0 or 255
    <work>/<key>/records/<image_id>.json   what was found, and the digests of what it was found from

The key is a digest of the settings; the digests in a record are those of one image. A record is written after
its mask, and holds the mask's SHA-256: what does not fit is found anew.
"""

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.files import atomic_path, read_json, sha256_file, write_json
from spheremap.base.provenance import digest, seal, unseal

FOREGROUND = 255  # value of the object in the masks written here
Used = Literal["maskrcnn", "own", "box"]


@dataclass(frozen=True)
class Outcome:
    """Which mask an image got.

    Attributes:
        used: "maskrcnn", "own" (the data set's) or "box" (none: the whole box counts).
        reason: why not the source wanted; empty otherwise.
        score, iou: confidence of the detection and agreement of its box with the one in the tables; of the
            best one rejected where none was accepted; None without a detection.
        agreement: intersection over union of the mask's extent with the box in the tables; 1 for "box".
        area: share of the image's pixels that are object.
    """

    used: Used
    reason: str
    score: float | None
    iou: float | None
    agreement: float
    area: float


class Store:
    """Masks of one run, by image; see the module."""

    def __init__(self, work: Path, settings: Mapping[str, Any]) -> None:
        self._work = work
        self.folder = work / digest(settings)[:16]

    def mask(self, image_id: str) -> Path:
        """Where the mask of an image lies, if it has one."""
        return self.folder / "masks" / f"{image_id}.png"

    def get(self, image_id: str, content: Mapping[str, Any]) -> Outcome | None:
        """What an earlier run found from the same content; None if nothing, or if a file is damaged."""
        path = self._record(image_id)
        if not path.exists():
            return None
        try:
            record = unseal(read_json(path), where=path, fix="")
            known = record["content"] == dict(content) and record["sha256"] == self._sha256(image_id)
            return Outcome(**record["outcome"]) if known else None
        except (InputError, ProvenanceError, KeyError, TypeError):
            return None

    def put(
        self, image_id: str, content: Mapping[str, Any], outcome: Outcome, mask: NDArray[np.bool_] | None
    ) -> None:
        """Keep the mask `(H, W)` of an image, or that it has none."""
        path = self.mask(image_id)
        if mask is None:
            path.unlink(missing_ok=True)
        else:
            with atomic_path(path) as temporary:
                Image.fromarray(mask.astype(np.uint8) * np.uint8(FOREGROUND)).save(temporary)
        found = {"outcome": dataclasses.asdict(outcome), "sha256": self._sha256(image_id)}
        write_json(self._record(image_id), seal({"content": dict(content), **found}))

    def forget_others(self) -> None:
        """Delete what runs with other settings left."""
        for folder in self._work.iterdir():
            if folder.is_dir() and folder != self.folder:
                shutil.rmtree(folder)

    def _record(self, image_id: str) -> Path:
        return self.folder / "records" / f"{image_id}.json"

    def _sha256(self, image_id: str) -> str:
        path = self.mask(image_id)
        return sha256_file(path) if path.exists() else ""

"""Images as the tables describe them, each with its object."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spheremap.data.images import load_mask


@dataclass(frozen=True)
class Subject:
    """An image and where its object is; `mask_path` None: it has no mask, the whole box counts."""

    image_id: str
    category: str
    path: Path
    mask_path: Path | None
    mask_value: int
    box: tuple[float, float, float, float]
    size: tuple[int, int]  # width, height
    sha256: tuple[str | None, str | None] = (None, None)  # that image and mask must have; None: any

    def mask(self) -> NDArray[np.bool_]:
        """The object's pixels `(H, W)`: of its mask, or of the whole box, to the last pixel that it touches.

        Raises:
            InputError: if the mask cannot be read or is not of the image's size.
            ProvenanceError: if it has another SHA-256.
        """
        if self.mask_path is not None:
            return load_mask(self.mask_path, self.mask_value, self.size, self.sha256[1])
        x1, y1, x2, y2 = self.box
        mask = np.zeros(self.size[::-1], dtype=bool)
        mask[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = True
        return mask


def subjects_of(images: pd.DataFrame, pictures: Mapping[str, str] | None = None) -> list[Subject]:
    """The rows of a table of images; `pictures` is SHA-256 by path, see `Tables`."""
    known = pictures or {}
    return [
        Subject(
            image_id=row["image_id"],
            category=row["category"],
            path=Path(row["path"]),
            mask_path=Path(row["mask_path"]) if row["mask_path"] else None,
            mask_value=row["mask_value"],
            box=(row["x1"], row["y1"], row["x2"], row["y2"]),
            size=(row["width"], row["height"]),
            sha256=(known.get(row["path"]), known.get(row["mask_path"])),
        )
        for row in images.to_dict("records")
    ]

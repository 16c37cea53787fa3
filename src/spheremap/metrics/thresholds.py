"""In which coordinates errors are measured and against what length: where PCK tables differ most."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spheremap.config.scoring import Frame, Threshold
from spheremap.data.tables import Tables
from spheremap.methods.engine.queries import Questions


@dataclass(frozen=True)
class Thresholds:
    """What turns places in the targets of P pairs into errors.

    Attributes:
        scale: `(P, 2)` factors of x and y from original pixels to the frame of measurement.
        side: `(P,)` the length, in that frame, of which thresholds are shares.
    """

    scale: NDArray[np.float64]
    side: NDArray[np.float64]


def make_thresholds(
    tables: Tables,
    questions: Questions,
    boxes: NDArray[np.float64],
    threshold: Threshold = "box",
    frame: Frame = "original",
) -> Thresholds:
    """Prepare to measure.

    Args:
        boxes: `(P, 4)` the region of each target that the network was shown.
        threshold: thresholds are shares of the longer side of the target's "box" or of the whole "image".
        frame: distances and sides in "original" pixels, or in shares of the network's "input". They agree
            where an image was padded to a square, and differ where it was stretched to one.
    """
    images = tables.images.set_index("image_id").loc[questions.target_id.tolist()]
    scale = np.ones((len(boxes), 2))
    if frame == "input":
        scale = 1 / np.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], axis=1)
    if threshold == "box":
        size = np.stack([_floats(images, "x2") - _floats(images, "x1"),
                         _floats(images, "y2") - _floats(images, "y1")], axis=1)  # fmt: skip
    else:
        size = np.stack([_floats(images, "width"), _floats(images, "height")], axis=1)
    return Thresholds(scale, (size * scale).max(axis=1))


def _floats(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    return frame[column].to_numpy(dtype=np.float64)

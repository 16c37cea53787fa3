"""Pairs of photographs with their keypoints and what each method predicted for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from spheremap.data.images import load_rgb
from spheremap.data.tables import Tables
from spheremap.report.marks import SMOOTH, Canvas, apart
from spheremap.report.pictures import Crop, box_corners

RIGHT, WRONG, NEUTRAL = (0, 158, 115), (213, 94, 0), (0, 92, 158)  # Okabe-Ito; shapes differ, too
_MARGIN, _RADIUS = 0.08, 0.024  # of the cut-out, of a mark: shares of the side


@dataclass(frozen=True)
class Match:
    """One pair and K keypoints visible in both images; coordinates in original pixels.

    Attributes:
        source, target: photographs, RGB.
        source_box, target_box: (x1, y1, x2, y2) of the objects.
        names: names of the keypoints.
        source_xy: `(K, 2)` in the source.
        target_xy: `(K, 2)` where they truly are in the target.
        predicted: method -> `(K, 2)` in the target.
        right: method -> `(K,)` whether the prediction counts as right.
    """

    source: Image.Image
    target: Image.Image
    source_box: NDArray[np.float64]
    target_box: NDArray[np.float64]
    names: list[str]
    source_xy: NDArray[np.float64]
    target_xy: NDArray[np.float64]
    predicted: dict[str, NDArray[np.float64]]
    right: dict[str, NDArray[np.bool_]]


def read_match(
    tables: Tables, predictions: pd.DataFrame, source: str, target: str, alpha: float, methods: Sequence[str]
) -> Match:
    """Collect what is to be drawn of a pair.

    Args:
        tables: the canonical tables.
        predictions: of the evaluation: method, source, target, keypoint_id, x, y, target_x, target_y, error.
        source: image id.
        target: image id.
        alpha: a prediction is right if its error (share of the longer side of the target's box) is below.
        methods: the methods to collect.

    Raises:
        InputError: if a photograph cannot be read.
    """
    own = predictions[(predictions["source"] == source) & (predictions["target"] == target)]
    by_method = {method: own[own["method"] == method].set_index("keypoint_id") for method in methods}
    first = by_method[methods[0]]
    keypoints = tables.keypoints[tables.keypoints["image_id"] == source].set_index("keypoint_id")
    keypoints = keypoints.loc[first.index]
    by_method = {method: part.loc[first.index] for method, part in by_method.items()}
    images = tables.images.set_index("image_id").loc[[source, target]]
    photographs = [
        Image.fromarray(load_rgb(Path(path), tables.pictures.get(path))) for path in images["path"]
    ]
    boxes = images[["x1", "y1", "x2", "y2"]].to_numpy(dtype=np.float64)
    return Match(
        source=photographs[0],
        target=photographs[1],
        source_box=boxes[0],
        target_box=boxes[1],
        names=[str(name) for name in keypoints["name"]],
        source_xy=keypoints[["x", "y"]].to_numpy(dtype=np.float64),
        target_xy=first[["target_x", "target_y"]].to_numpy(dtype=np.float64),
        predicted={method: part[["x", "y"]].to_numpy(dtype=np.float64) for method, part in by_method.items()},
        right={method: part["error"].to_numpy() < alpha for method, part in by_method.items()},
    )


def draw_source(match: Match, size: int) -> Image.Image:
    """The source with its keypoints, numbered from 1."""
    crop, canvas = _cut_out(match.source, [box_corners(match.source_box), match.source_xy], size)
    for number, xy in enumerate(crop.place(match.source_xy, size * SMOOTH), start=1):
        canvas.disc(xy, NEUTRAL, str(number))
    return canvas.reduced()


def draw_target(match: Match, method: str, size: int, compared: Sequence[str]) -> Image.Image:
    """The target with the predictions of one method.

    A right prediction is a green disc. A wrong one is an orange square with a line to the ring where it
    should be. Predictions of the same patch stand side by side. The cut-out is the same for all methods
    compared.
    """
    shown = [match.predicted[name] for name in compared]
    crop, canvas = _cut_out(match.target, [box_corners(match.target_box), match.target_xy, *shown], size)
    truth, predicted = (crop.place(xy, size * SMOOTH) for xy in (match.target_xy, match.predicted[method]))
    predicted = apart(predicted, canvas.step)
    right = match.right[method]
    for i in np.flatnonzero(~right):
        canvas.arrow(predicted[i], truth[i], WRONG)
    for i in np.flatnonzero(~right):
        canvas.square(predicted[i], WRONG, str(i + 1))
    for i in np.flatnonzero(right):  # on top
        canvas.disc(predicted[i], RIGHT, str(i + 1))
    return canvas.reduced()


def _cut_out(
    photograph: Image.Image, points: Sequence[NDArray[np.float64]], size: int
) -> tuple[Crop, Canvas]:
    crop = Crop.around(np.concatenate(points), photograph.size, _MARGIN)
    return crop, Canvas(crop.cut(photograph, size * SMOOTH), _RADIUS)

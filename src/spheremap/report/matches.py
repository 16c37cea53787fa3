"""Pairs of photographs with their keypoints and what each row of the table predicted for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spheremap.base.errors import InputError
from spheremap.data.images import load_rgb
from spheremap.data.tables import Tables
from spheremap.report.inputs import COMPARED
from spheremap.report.pictures import Crop, box_corners

RIGHT, WRONG, NEUTRAL = (0, 158, 115), (213, 94, 0), (0, 92, 158)  # Okabe-Ito; shapes differ, too
LABELS = {"features": "features alone", "fused": "features + sphere", "sphere": "sphere alone"}
_MARGIN = 0.08
_SMOOTH = 2  # drawn larger, then reduced


@dataclass(frozen=True)
class Match:
    """One pair and K keypoints visible in both images; coordinates in original pixels.

    Attributes:
        source, target: photographs, RGB.
        source_box, target_box: (x1, y1, x2, y2) of the objects.
        names: names of the keypoints.
        source_xy: `(K, 2)` in the source.
        target_xy: `(K, 2)` where they truly are in the target.
        predicted: row -> `(K, 2)` in the target.
        right: row -> `(K,)` whether the prediction counts as right.
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
    tables: Tables,
    predictions: pd.DataFrame,
    source: str,
    target: str,
    alpha: float,
    rows: Sequence[str] = COMPARED,
) -> Match:
    """Collect what is to be drawn of a pair.

    Args:
        tables: the canonical tables.
        predictions: of the evaluation: row, source, target, keypoint_id, x, y, target_x, target_y, error.
        source: image id.
        target: image id.
        alpha: a prediction is right if its error (share of the longer side of the target's box) is below.
        rows: the rows of the table to collect.

    Raises:
        InputError: if predictions and tables do not fit, or a photograph cannot be read.
    """
    own = predictions[(predictions["source"] == source) & (predictions["target"] == target)]
    by_row = {row: own[own["row"] == row].set_index("keypoint_id") for row in rows}
    first = by_row[rows[0]]
    keypoints = tables.keypoints[tables.keypoints["image_id"] == source].set_index("keypoint_id")
    images = tables.images.set_index("image_id")
    known = {source, target} <= set(images.index) and set(first.index) <= set(keypoints.index)
    agree = all(sorted(part.index) == sorted(first.index) for part in by_row.values())
    if first.empty or not (known and agree):
        raise InputError(
            "predictions and tables do not belong together",
            where=f"pair {source} → {target}",
            expected="the same keypoints in every row, all known to the tables",
            fix="run `snakemake --cores all` to make the results again",
        )
    order = list(first.index)
    by_row = {row: part.loc[order] for row, part in by_row.items()}
    corners = ["x1", "y1", "x2", "y2"]
    return Match(
        source=_photograph(tables, str(images.loc[source, "path"])),
        target=_photograph(tables, str(images.loc[target, "path"])),
        source_box=images.loc[source, corners].to_numpy(dtype=np.float64),
        target_box=images.loc[target, corners].to_numpy(dtype=np.float64),
        names=[str(name) for name in keypoints.loc[order, "name"]],
        source_xy=_floats(keypoints.loc[order], "x", "y"),
        target_xy=_floats(first, "target_x", "target_y"),
        predicted={row: _floats(part, "x", "y") for row, part in by_row.items()},
        right={row: _floats(part, "error")[:, 0] < alpha for row, part in by_row.items()},
    )


def _photograph(tables: Tables, path: str) -> Image.Image:
    return Image.fromarray(load_rgb(Path(path), tables.pictures.get(path)))


def _floats(frame: pd.DataFrame, *columns: str) -> NDArray[np.float64]:
    return frame[list(columns)].to_numpy(dtype=np.float64)


def draw_source(match: Match, size: int) -> Image.Image:
    """The source with its keypoints, numbered from 1."""
    points = np.concatenate([box_corners(match.source_box), match.source_xy])
    crop = Crop.around(points, match.source.size, _MARGIN)
    canvas = _Canvas(crop.cut(match.source, size * _SMOOTH))
    for number, xy in enumerate(crop.place(match.source_xy, size * _SMOOTH), start=1):
        canvas.disc(xy, NEUTRAL, str(number))
    return canvas.finish(size)


def draw_target(match: Match, row: str, size: int) -> Image.Image:
    """The target with the predictions of one row.

    A right prediction is a green disc. A wrong one is a red square with a line to the ring where it should
    be. Predictions of the same patch stand side by side. The cut-out is the same for all rows.
    """
    points = np.concatenate([box_corners(match.target_box), match.target_xy, *match.predicted.values()])
    crop = Crop.around(points, match.target.size, _MARGIN)
    canvas = _Canvas(crop.cut(match.target, size * _SMOOTH))
    truth, predicted = (crop.place(xy, size * _SMOOTH) for xy in (match.target_xy, match.predicted[row]))
    predicted = _beside(predicted, canvas.step)
    right = match.right[row]
    for i in np.flatnonzero(~right):
        canvas.arrow(predicted[i], truth[i], WRONG)
    for i in (*np.flatnonzero(~right), *np.flatnonzero(right)):  # right ones on top
        if right[i]:
            canvas.disc(predicted[i], RIGHT, str(i + 1))
        else:
            canvas.square(predicted[i], WRONG, str(i + 1))
    return canvas.finish(size)


def _beside(xy: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Places `(K, 2)`, with those that coincide moved apart to a row of that step."""
    _, group = np.unique(xy.round(3), axis=0, return_inverse=True)
    xy = xy.copy()
    for number in range(len(xy)):
        members = np.flatnonzero(group.reshape(-1) == number)
        xy[members, 0] += (np.arange(len(members)) - (len(members) - 1) / 2) * step
    return xy


def draw_strip(match: Match, rows: Sequence[str] = COMPARED, size: int = 360) -> Image.Image:
    """Source and target side by side, the target once for each row, with headings: a picture to show around.

    Args:
        match: the pair.
        rows: rows of the table, from left to right.
        size: side of each panel in pixels.
    """
    panels = [("source", draw_source(match, size))]
    for row in rows:
        score = f"{LABELS.get(row, row)}: {match.right[row].sum()} of {len(match.names)} right"
        panels.append((score, draw_target(match, row, size)))
    gap, head = size // 30, size // 10
    strip = Image.new("RGB", (len(panels) * (size + gap) - gap, size + head), "white")
    draw = ImageDraw.Draw(strip)
    for i, (title, panel) in enumerate(panels):
        left = i * (size + gap)
        draw.text((left + size / 2, head / 2), title, fill=(30, 30, 30), font=_font(head * 0.5), anchor="mm")
        strip.paste(panel, (left, head))
    return strip


class _Canvas:
    """Marks on a picture, in sizes relative to it."""

    def __init__(self, picture: Image.Image) -> None:
        self._picture = picture
        self._draw = ImageDraw.Draw(picture)
        self._radius = picture.width * 0.024
        self.step = 2.1 * self._radius  # at which marks just do not overlap
        self._line = max(round(picture.width * 0.0025), 1)
        self._font = _font(picture.width * 0.034)

    def disc(self, xy: NDArray[np.float64], colour: tuple[int, int, int], text: str) -> None:
        xy = self._whole(xy)
        self._draw.ellipse(self._around(xy, 1.0), fill=colour, outline="white", width=self._line)
        self._text(xy, text)

    def square(self, xy: NDArray[np.float64], colour: tuple[int, int, int], text: str) -> None:
        xy = self._whole(xy)
        self._draw.rectangle(self._around(xy, 0.9), fill=colour, outline="white", width=self._line)
        self._text(xy, text)

    def arrow(
        self, start: NDArray[np.float64], end: NDArray[np.float64], colour: tuple[int, int, int]
    ) -> None:
        line = (*start, *end)
        self._draw.line(line, fill="white", width=3 * self._line)
        self._draw.line(line, fill=colour, width=2 * self._line)
        self._draw.ellipse(self._around(end, 0.62), outline="white", width=3 * self._line)
        self._draw.ellipse(self._around(end, 0.55), outline=colour, width=2 * self._line)

    def finish(self, size: int) -> Image.Image:
        return self._picture.resize((size, size), Image.Resampling.LANCZOS)

    def _whole(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Moved from the border as far as a whole mark needs."""
        room = self._radius + self._line
        return np.clip(xy, room, np.subtract(self._picture.size, room))

    def _around(self, xy: NDArray[np.float64], scale: float) -> tuple[float, float, float, float]:
        radius = self._radius * scale
        return float(xy[0] - radius), float(xy[1] - radius), float(xy[0] + radius), float(xy[1] + radius)

    def _text(self, xy: NDArray[np.float64], text: str) -> None:
        self._draw.text((float(xy[0]), float(xy[1])), text, fill="white", font=self._font, anchor="mm")


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

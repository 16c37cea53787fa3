"""Which keypoint was taken for which: predictions sorted by the keypoint of the target that they land on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spheremap.data.tables import Tables
from spheremap.report.names import readable


@dataclass(frozen=True)
class Confusion:
    """Counts of one category.

    Attributes:
        category: its name.
        ids: of its K keypoints, in the order of the tables.
        names: theirs, in words.
        counts: method -> `(K, K + 1)`: keypoints asked for, by keypoint landed on; the last
            column counts predictions on none.
    """

    category: str
    ids: list[str]
    names: list[str]
    counts: dict[str, NDArray[np.int64]]

    def shares(self, row: str) -> NDArray[np.float64]:
        """`(K, K + 1)` percent of the times that a keypoint was asked for; zeros where it never was."""
        counts = self.counts[row]
        return 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def commonest(self, row: str, count: int) -> list[tuple[str, str, float, int]]:
        """The mix-ups of most predictions: (asked for, landed on, percent, times asked for)."""
        number = self.counts[row][:, :-1].copy()
        np.fill_diagonal(number, 0)
        asked = self.counts[row].sum(axis=1)
        order = np.argsort(-number, axis=None, kind="stable")[:count]
        cells = zip(*np.unravel_index(order, number.shape), strict=True)
        return [
            (self.names[i], self.names[j], 100 * number[i, j] / asked[i], int(asked[i]))
            for i, j in cells
            if number[i, j]
        ]


def confusions(
    tables: Tables, predictions: pd.DataFrame, alpha: float, rows: Sequence[str]
) -> list[Confusion]:
    """Count, for every category, where the predictions for each keypoint land.

    A right prediction (closer than the radius) lands on its own keypoint. A wrong one lands on the nearest
    other keypoint visible in the target, if that is closer than the radius, and otherwise on none. So the
    diagonals sum to PCK per point, and the rest without the last column to the share `confusion`.

    Args:
        tables: the canonical tables.
        predictions: of the evaluation. Errors are shares of some length (of the target's box or picture);
            which one is read from the predictions themselves, as distance over error.
        alpha: the radius, as a share of that length.
        rows: the methods to count.
    """
    images = tables.images.set_index("image_id")
    side = _sides(predictions)
    category = predictions["target"].map(images["category"])
    landmarks = tables.keypoints.assign(category=tables.keypoints["image_id"].map(images["category"]))
    result = []
    for name, asked in predictions.groupby(category):
        own = landmarks[landmarks["category"] == name]
        known = own.drop_duplicates("keypoint_id").set_index("keypoint_id")["name"]
        known = known.loc[sorted(known.index, key=lambda text: (len(text), text))]
        number = {keypoint: i for i, keypoint in enumerate(known.index)}
        counts = {row: np.zeros((len(known), len(known) + 1), dtype=np.int64) for row in rows}
        visible = {str(image): part for image, part in own[own["visible"] == 1].groupby("image_id")}
        for (row, target), part in asked[asked["row"].isin(rows)].groupby(["row", "target"]):
            wanted = part["keypoint_id"].map(number).to_numpy()
            radius = alpha * float(side[str(target)])
            landed = _landed(part, wanted, visible[str(target)], number, radius, alpha)
            np.add.at(counts[str(row)], (wanted, landed), 1)
        result.append(Confusion(str(name), list(known.index), [readable(text) for text in known], counts))
    return result


def _sides(predictions: pd.DataFrame) -> pd.Series:
    """The length that errors are shares of, by target; 0 where there are no errors."""
    offset = predictions[["x", "y"]].to_numpy() - predictions[["target_x", "target_y"]].to_numpy()
    measured = predictions[["target", "error"]].assign(distance=np.linalg.norm(offset, axis=1))
    # of each target the largest error: coordinates are rounded
    largest = measured.sort_values("error", kind="stable").groupby("target").last()
    return (largest["distance"] / largest["error"]).where(largest["error"] > 0, 0.0)


def _landed(
    part: pd.DataFrame,
    wanted: NDArray[np.int64],
    visible: pd.DataFrame,
    number: dict[str, int],
    radius: float,
    alpha: float,
) -> NDArray[np.int64]:
    """Column of the matrix for each prediction `(Q,)` in one target."""
    places = visible[["x", "y"]].to_numpy(dtype=np.float64)
    columns = visible["keypoint_id"].map(number).to_numpy()
    distance = np.linalg.norm(part[["x", "y"]].to_numpy()[:, None] - places, axis=2)  # (Q, L)
    distance[wanted[:, None] == columns] = np.inf
    nearest = distance.argmin(axis=1)
    landed = np.where(distance[np.arange(len(part)), nearest] < radius, columns[nearest], len(number))
    return np.where(part["error"].to_numpy() < alpha, wanted, landed)

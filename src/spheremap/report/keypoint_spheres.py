"""Where keypoints of the evaluated images lie on the sphere, and whether left and right are told apart."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from spheremap.base.progress import progress
from spheremap.data.tables import Tables
from spheremap.features.cache.reader import FeatureCache
from spheremap.features.geometry import patch_of
from spheremap.model.head import Head, sphere_points

LEFT, RIGHT, MIDDLE = "left", "right", "neither"
_BATCH = 16  # images


@dataclass(frozen=True)
class KeypointSphere:
    """The K visible keypoints of one category's images.

    Attributes:
        category: its name.
        points: `(K, 3)` unit vectors: of the patches in which the keypoints lie.
        names: `(K,)` names of the parts.
        sides: `(K,)` "left", "right" or "neither", as the names say.
    """

    category: str
    points: NDArray[np.float64]
    names: NDArray[np.object_]
    sides: NDArray[np.object_]

    def own_side(self) -> tuple[float, int]:
        """How well sides are told apart: percent of keypoints nearer to their part than to its mirror image.

        The part is the mean of all other keypoints of the same name, its mirror image the mean of the
        keypoints of the name with left and right exchanged. Chance is 50.

        Returns:
            The percentage and the number of keypoints that it counts; (NaN, 0) where no part has two sides.
        """
        right, count = 0, 0
        for name in np.unique(self.names[self.sides != MIDDLE]):
            own, twin = self.points[self.names == name], self.points[self.names == mirrored(str(name))]
            if len(own) < 2 or not len(twin):
                continue
            others = own.sum(axis=0) - own  # all but oneself
            to_own = (own * _unit(others)).sum(axis=1)
            to_twin = own @ _unit(twin.sum(axis=0))
            right += int((to_own > to_twin).sum())
            count += len(own)
        return (100 * right / count if count else float("nan")), count

    def verdict(self) -> str:
        """How well sides are told apart, in words."""
        percent, count = self.own_side()
        if not count:
            return f"{len(self.points):,} keypoints"
        return f"{percent:.0f} % of {count:,} left and right keypoints on their own side"

    def view(self) -> NDArray[np.float64]:
        """A rotation `(3, 3)`, rows right, up and towards the viewer, that shows the spread of the points.

        To the right lies the direction from right to left parts where there are any, otherwise the direction
        of greatest spread; up is the direction of greatest spread among the rest.
        """
        _, vectors = np.linalg.eigh(self.points.T @ self.points)
        spread = [_signed(vector) for vector in vectors.T[::-1]]
        left, right = (self.points[self.sides == side] for side in (LEFT, RIGHT))
        across = left.mean(axis=0) - right.mean(axis=0) if len(left) and len(right) else spread[0]
        across = _unit(across) if np.linalg.norm(across) > 1e-6 else spread[0]
        rest = [vector - across * (vector @ across) for vector in spread]
        up = _unit(max(rest[:2], key=lambda vector: float(np.linalg.norm(vector))))
        return np.stack([across, up, np.cross(across, up)])


def keypoint_spheres(tables: Tables, cache: FeatureCache, head: Head, split: str) -> list[KeypointSphere]:
    """Map the images of a split's pairs and read the sphere at their visible keypoints, by category."""
    pairs = tables.pairs_of(split)
    shown = set(pairs["source"]) | set(pairs["target"])
    visible = tables.keypoints[(tables.keypoints["visible"] == 1) & tables.keypoints["image_id"].isin(shown)]
    category = visible["image_id"].map(tables.images.set_index("image_id")["category"])
    with progress(total=visible["image_id"].nunique(), desc="spheres", unit="images") as bar:
        return [_of_category(str(name), own, cache, head, bar) for name, own in visible.groupby(category)]


def _of_category(
    name: str, visible: pd.DataFrame, cache: FeatureCache, head: Head, bar: "tqdm[Any]"
) -> KeypointSphere:
    images = sorted(visible["image_id"].unique())
    patches = cache.grid[0] * cache.grid[1]
    points = np.full((len(visible), 3), np.nan)
    rows_of = visible.reset_index(drop=True).groupby("image_id").indices
    xy = visible[["x", "y"]].to_numpy(dtype=np.float64)
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        records = [cache.index(image_id) for image_id in batch]
        maps = sphere_points(head, cache.tokens(records)).cpu().numpy().reshape(len(batch), patches, 3)
        for image_id, record, own in zip(batch, records, maps, strict=True):
            rows = rows_of[image_id]
            points[rows] = own[patch_of(xy[rows], cache.boxes[record], cache.grid)]
        bar.update(len(batch))
    names = visible["name"].to_numpy(dtype=object)
    sides = np.array([side_of(str(text)) for text in names], dtype=object)
    return KeypointSphere(name, points, names, sides)


def side_of(name: str) -> str:
    """The side that the name of a part says: the word "left" or "right" in it, or neither (or both)."""
    words = set(re.split(r"[^a-z]+", name.lower())) & {LEFT, RIGHT}
    return words.pop() if len(words) == 1 else MIDDLE


def mirrored(name: str) -> str:
    """The name with the words left and right exchanged."""
    other = {LEFT: RIGHT, RIGHT: LEFT}

    def exchange(match: re.Match[str]) -> str:
        word = other[match[0].lower()]
        return word.capitalize() if match[0][0].isupper() else word

    return re.sub(r"(?<![a-z])(left|right)(?![a-z])", exchange, name, flags=re.IGNORECASE)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def _signed(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vector or its opposite, so that its largest entry is positive: an eigenvector has no sign."""
    return vector * np.sign(vector[np.abs(vector).argmax()])

"""The questions put to a matcher: where in the target of a pair is this keypoint of the source?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spheremap.base.errors import InputError
from spheremap.data.tables import Tables
from spheremap.features.cache.reader import FeatureCache
from spheremap.features.geometry import patch_of
from spheremap.methods.engine.sampling import Sampling, sample_patches


@dataclass(frozen=True)
class Questions:
    """Q questions in P pairs: every keypoint visible in the source of a pair. Pairs without any are left out.

    Pairs are sorted by (category, target, source) and questions by (pair, keypoint), whatever the order
    of the tables: results do not depend on it, and the pairs of one target lie together.
    """

    source_id: NDArray[np.object_]  # (P,) image ids
    target_id: NDArray[np.object_]  # (P,)
    category: NDArray[np.object_]  # (P,)
    first: NDArray[np.int64]  # (P + 1,) questions of pair p: first[p] to first[p + 1]
    keypoint_id: NDArray[np.object_]  # (Q,)
    asked: NDArray[np.float64]  # (Q, 2) where it is in the source, original pixels
    xy: NDArray[np.float64]  # (Q, 2) where it is in the target; NaN where not visible

    @property
    def pair(self) -> NDArray[np.int64]:
        """Pair `(Q,)` of each question."""
        return np.repeat(np.arange(len(self.source_id)), np.diff(self.first))

    @property
    def common(self) -> NDArray[np.bool_]:
        """Questions `(Q,)` whose keypoint is visible in both images: the ones that PCK counts."""
        return ~np.isnan(self.xy[:, 0])


@dataclass(frozen=True, kw_only=True)
class Queries(Questions):
    """Questions with what answers them in a feature cache."""

    source: NDArray[np.int64]  # (P,) index of the record in the cache
    target: NDArray[np.int64]  # (P,)
    patch: NDArray[np.int64]  # (Q,) source patch in which the keypoint lies
    sampled: NDArray[np.int64]  # (Q, C) source patches that describe it
    share: NDArray[np.float32]  # (Q, C) their shares in its descriptor, which add up to 1


def build_questions(tables: Tables, pairs: pd.DataFrame) -> Questions:
    """List the questions of `pairs` (columns source, target: image ids)."""
    category = tables.images.set_index("image_id")["category"]
    pairs = pairs[["source", "target"]].assign(category=pairs["source"].map(category))
    pairs = pairs.sort_values(["category", "target", "source"], kind="stable", ignore_index=True)
    pairs["pair"] = np.arange(len(pairs))

    visible = tables.keypoints.loc[tables.keypoints["visible"] == 1, ["image_id", "keypoint_id", "x", "y"]]
    in_source = visible.rename(columns={"image_id": "source", "x": "source_x", "y": "source_y"})
    in_target = visible.rename(columns={"image_id": "target"})
    found = pairs.merge(in_source, on="source").merge(in_target, on=["target", "keypoint_id"], how="left")
    # ids are numbers written as text: by length first, "10" comes after "9"
    found["digits"] = found["keypoint_id"].str.len()
    found = found.sort_values(["pair", "digits", "keypoint_id"], kind="stable", ignore_index=True)

    asked = pairs[pairs["pair"].isin(found["pair"])]
    counts = found.groupby("pair").size().to_numpy()
    return Questions(
        source_id=asked["source"].to_numpy(dtype=object),
        target_id=asked["target"].to_numpy(dtype=object),
        category=asked["category"].to_numpy(dtype=object),
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        keypoint_id=found["keypoint_id"].to_numpy(dtype=object),
        asked=found[["source_x", "source_y"]].to_numpy(dtype=np.float64),
        xy=found[["x", "y"]].to_numpy(dtype=np.float64),
    )


def build_queries(
    cache: FeatureCache, tables: Tables, pairs: pd.DataFrame, sampling: Sampling = "patch"
) -> Queries:
    """List the questions of `pairs` (columns source, target: image ids), and find their images in the cache.

    Args:
        sampling: how a keypoint of the source is described, see `sampling.sample_patches`.

    Raises:
        InputError: if an image is not in the cache.
    """
    questions = build_questions(tables, pairs)
    ids = questions.source_id, questions.target_id
    index = {image_id: cache.index(image_id) for image_id in np.unique(np.concatenate(ids).astype(str))}
    source, target = (np.array([index[name] for name in own], dtype=np.int64) for own in ids)
    count = len(questions.keypoint_id)
    patch = np.full(count, -1, dtype=np.int64)
    sampled = np.full((count, 1 if sampling == "patch" else 4), -1, dtype=np.int64)
    share = np.full(sampled.shape, np.nan, dtype=np.float32)
    records = source[questions.pair]
    for record in np.unique(records):
        rows = np.flatnonzero(records == record)
        xy, box = questions.asked[rows], cache.boxes[record]
        patch[rows] = patch_of(xy, box, cache.grid)
        sampled[rows], share[rows] = sample_patches(xy, box, cache.grid, sampling)
    return Queries(**vars(questions), source=source, target=target, patch=patch, sampled=sampled, share=share)


def common_pairs(tables: Tables, pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs that share at least one visible keypoint, sorted by (source, target)."""
    visible = tables.keypoints.loc[tables.keypoints["visible"] == 1, ["image_id", "keypoint_id"]]
    pairs = pairs[["source", "target"]].sort_values(["source", "target"], kind="stable", ignore_index=True)
    shared = (
        pairs.reset_index(names="pair")
        .merge(visible.rename(columns={"image_id": "source"}), on="source")
        .merge(visible.rename(columns={"image_id": "target"}), on=["target", "keypoint_id"])
    )
    return pairs.loc[np.unique(shared["pair"])].reset_index(drop=True)


def with_common_keypoint(tables: Tables, pairs: pd.DataFrame, where: str) -> pd.DataFrame:
    """As `common_pairs`.

    Raises:
        InputError: if there is none.
    """
    common = common_pairs(tables, pairs)
    if common.empty:
        raise InputError(
            "nothing to evaluate: no pair has a keypoint visible in both images",
            where=where,
            expected="one such pair or more",
            found=f"{len(pairs)} pairs",
            fix="choose another split, or add pairs and keypoints to the data set",
        )
    return common

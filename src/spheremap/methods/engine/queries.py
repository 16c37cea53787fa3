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
class Queries:
    """Q queries in P pairs: every keypoint visible in the source of a pair. Pairs without any are left out.

    Pairs are sorted by (category, target, source) and queries by (pair, keypoint), whatever the order of the
    tables: results do not depend on it, and the pairs of one target lie together.
    """

    source: NDArray[np.int64]  # (P,) index of the record in the cache
    target: NDArray[np.int64]  # (P,)
    source_id: NDArray[np.object_]  # (P,) image ids
    target_id: NDArray[np.object_]  # (P,)
    category: NDArray[np.object_]  # (P,)
    first: NDArray[np.int64]  # (P + 1,) queries of pair p: first[p] to first[p + 1]
    keypoint_id: NDArray[np.object_]  # (Q,)
    patch: NDArray[np.int64]  # (Q,) source patch in which the keypoint lies
    sampled: NDArray[np.int64]  # (Q, C) source patches that describe it
    share: NDArray[np.float32]  # (Q, C) their shares in its descriptor, which add up to 1
    xy: NDArray[np.float64]  # (Q, 2) where it is in the target, original pixels; NaN where not visible

    @property
    def pair(self) -> NDArray[np.int64]:
        """Pair `(Q,)` of each query."""
        return np.repeat(np.arange(len(self.source)), np.diff(self.first))

    @property
    def common(self) -> NDArray[np.bool_]:
        """Queries `(Q,)` whose keypoint is visible in both images: the ones that PCK counts."""
        return ~np.isnan(self.xy[:, 0])


def build_queries(
    cache: FeatureCache, tables: Tables, pairs: pd.DataFrame, sampling: Sampling = "patch"
) -> Queries:
    """List the queries of `pairs` (columns source, target: image ids).

    Args:
        sampling: how a keypoint of the source is described, see `sampling.sample_patches`.

    Raises:
        InputError: if an image is not in the cache.
    """
    category = tables.images.set_index("image_id")["category"]
    pairs = pairs[["source", "target"]].assign(category=pairs["source"].map(category))
    pairs = pairs.sort_values(["category", "target", "source"], kind="stable", ignore_index=True)
    pairs["pair"] = np.arange(len(pairs))

    visible = tables.keypoints.loc[tables.keypoints["visible"] == 1, ["image_id", "keypoint_id", "x", "y"]]
    in_source = visible.rename(columns={"image_id": "source", "x": "source_x", "y": "source_y"})
    in_target = visible.rename(columns={"image_id": "target"})
    queries = pairs.merge(in_source, on="source").merge(in_target, on=["target", "keypoint_id"], how="left")
    # ids are numbers written as text: by length first, "10" comes after "9"
    queries["digits"] = queries["keypoint_id"].str.len()
    queries = queries.sort_values(["pair", "digits", "keypoint_id"], kind="stable", ignore_index=True)

    asked = pairs[pairs["pair"].isin(queries["pair"])]
    counts = queries.groupby("pair").size().to_numpy()
    index = {image_id: cache.index(image_id) for image_id in np.unique(asked[["source", "target"]])}
    patch = np.full(len(queries), -1, dtype=np.int64)
    sampled = np.full((len(queries), 1 if sampling == "patch" else 4), -1, dtype=np.int64)
    share = np.full(sampled.shape, np.nan, dtype=np.float32)
    for image_id, rows in queries.groupby("source").indices.items():
        xy = queries.loc[rows, ["source_x", "source_y"]].to_numpy(dtype=np.float64)
        box = cache.boxes[index[image_id]]
        patch[rows] = patch_of(xy, box, cache.grid)
        sampled[rows], share[rows] = sample_patches(xy, box, cache.grid, sampling)
    return Queries(
        source=asked["source"].map(index).to_numpy(dtype=np.int64),
        target=asked["target"].map(index).to_numpy(dtype=np.int64),
        source_id=asked["source"].to_numpy(dtype=object),
        target_id=asked["target"].to_numpy(dtype=object),
        category=asked["category"].to_numpy(dtype=object),
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        keypoint_id=queries["keypoint_id"].to_numpy(dtype=object),
        patch=patch,
        sampled=sampled,
        share=share,
        xy=queries[["x", "y"]].to_numpy(dtype=np.float64),
    )


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
    """The same.

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

"""A quick score of a head in training: PCK of the fused similarity on some pairs."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from spheremap.cache.reader import FeatureCache
from spheremap.errors import InputError
from spheremap.evaluation.ruler import make_ruler
from spheremap.geometry import patch_centres
from spheremap.head import Head, sphere_points
from spheremap.matching.descriptors import row_weights, unit
from spheremap.matching.matcher import Matcher
from spheremap.matching.queries import build_queries, with_common_keypoint
from spheremap.matching.readout import best_patch
from spheremap.matching.rows import Row
from spheremap.metrics.pck import correct, distances, pck_point, radii
from spheremap.tables import Tables


class Validation:
    """PCK per point, in percent, of the row `fused`: equal to the evaluation's on the same pairs.

    Read-out argmax, source token of the keypoint's patch, thresholds of the box in original pixels.

    Features do not change while a head is trained: their similarities, 4 bytes per keypoint and target patch,
    are computed once, and a call only maps each image to the sphere and adds the similarities there.
    """

    def __init__(
        self,
        cache: FeatureCache,
        tables: Tables,
        pairs: pd.DataFrame,
        *,
        sphere_weight: float,
        alpha: float,
        batch: int = 16,
    ) -> None:
        queries = build_queries(cache, tables, pairs)
        self._cache, self._queries, self._batch = cache, queries, batch
        self._images, record = np.unique(
            np.concatenate([queries.source, queries.target]), return_inverse=True
        )
        source, target = np.split(record, 2)
        self._source = torch.from_numpy(source[queries.pair])  # (Q,) row of `_images`
        self._target = dict(zip(queries.target.tolist(), target.tolist(), strict=True))
        self._patch = torch.from_numpy(queries.patch)
        self._radius = radii(make_ruler(cache, tables, queries).side[queries.pair], (alpha,))
        of_features, self._sphere_weight = row_weights(sphere_weight)["fused"]
        self._blocks = [
            (block.queries, block.target, of_features * block.similarity["features"])
            for block in Matcher(cache, {"features": Row((1.0, 0.0))}).blocks(queries)
        ]

    def __call__(self, head: Head) -> float:
        """Score a head on the device where it is, leaving it as it was."""
        queries, common = self._queries, self._queries.common
        points = self._map(head)
        predicted = np.full((len(queries.patch), 2), np.nan)
        for own, target, features in self._blocks:
            on_sphere = points[self._source[own], self._patch[own]] @ points[self._target[target]].T  # (R, N)
            best = best_patch(features + self._sphere_weight * on_sphere)
            predicted[own] = patch_centres(self._cache.boxes[target], self._cache.grid)[best.numpy()]
        distance = distances(predicted[common], queries.xy[common])
        return float(pck_point(correct(distance, self._radius[common]))[0])

    def _map(self, head: Head) -> Tensor:
        """Sphere points `(images, N, 3)` on the CPU."""
        batches = (
            self._images[start : start + self._batch] for start in range(0, len(self._images), self._batch)
        )
        return torch.cat(
            [unit(sphere_points(head, self._cache.tokens(indices))).cpu() for indices in batches]
        )


def make_validation(
    cache: FeatureCache,
    tables: Tables,
    split: str,
    sphere_weight: float,
    alpha: float,
    max_pairs: int,
    seed: int,
) -> Validation:
    """Prepare the validation of a training run.

    Args:
        cache: features of whole images.
        split: the split whose pairs are used, "val".
        sphere_weight: share of the sphere in the fused similarity.
        alpha: threshold as a share of the longer side of the target's box.
        max_pairs: if more pairs have a keypoint in common, so many of them are drawn.
        seed: of that draw.

    Raises:
        InputError: if no pair of the split has a keypoint visible in both images; for a number out of range.
    """
    if not (alpha > 0 and max_pairs >= 1):
        raise InputError(
            "bad validation settings",
            expected="a positive alpha and at least one pair",
            found=f"alpha {alpha}, {max_pairs} pairs",
        )
    pairs = with_common_keypoint(tables, tables.pairs_of(split), where=f"split {split!r}")
    if len(pairs) > max_pairs:
        drawn = np.random.default_rng(seed).choice(len(pairs), max_pairs, replace=False)
        pairs = pairs.loc[np.sort(drawn)].reset_index(drop=True)
    return Validation(cache, tables, pairs, sphere_weight=sphere_weight, alpha=alpha)

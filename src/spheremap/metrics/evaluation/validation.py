"""A quick score of a head or an adapter in training: PCK of the fused similarity on some pairs."""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from spheremap.base.errors import InputError
from spheremap.data.tables import Tables
from spheremap.features.cache.reader import FeatureCache
from spheremap.features.geometry import patch_centres
from spheremap.methods.descriptors import row_weights, unit
from spheremap.methods.matcher import Matcher, Refinement
from spheremap.methods.queries import build_queries, with_common_keypoint
from spheremap.methods.readout import best_patch
from spheremap.methods.rows import Row
from spheremap.metrics.evaluation.ruler import make_ruler
from spheremap.metrics.pck import correct, distances, pck_point, radii
from spheremap.model.head import Head, sphere_points


class _Questions:
    """The queries of some pairs and what is right: PCK per point as the evaluation measures it.

    Read-out argmax, source token of the keypoint's patch, thresholds of the box in original pixels.
    """

    def __init__(self, cache: FeatureCache, tables: Tables, pairs: pd.DataFrame, alpha: float) -> None:
        self.cache, self.queries = cache, build_queries(cache, tables, pairs)
        self._radius = radii(make_ruler(cache, tables, self.queries).side[self.queries.pair], (alpha,))

    def score(self, answers: Iterable[tuple[slice, int, Tensor]]) -> float:
        """PCK in percent; an answer is some queries `(R,)`, their target and similarities `(R, N)`."""
        queries, common = self.queries, self.queries.common
        predicted = np.full((len(queries.patch), 2), np.nan)
        for own, target, similarity in answers:
            best = best_patch(similarity).cpu().numpy()
            predicted[own] = patch_centres(self.cache.boxes[target], self.cache.grid)[best]
        if np.isnan(predicted).any():
            raise RuntimeError("validation: some queries got no answer")
        distance = distances(predicted[common], queries.xy[common])
        return float(pck_point(correct(distance, self._radius[common]))[0])


class Validation:
    """PCK per point, in percent, of the row `fused`: equal to the evaluation's on the same pairs.

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
        self._questions = _Questions(cache, tables, pairs, alpha)
        queries = self._questions.queries
        self._cache, self._batch = cache, batch
        self._images, record = np.unique(
            np.concatenate([queries.source, queries.target]), return_inverse=True
        )
        source, target = np.split(record, 2)
        self._source = torch.from_numpy(source[queries.pair])  # (Q,) row of `_images`
        self._target = dict(zip(queries.target.tolist(), target.tolist(), strict=True))
        self._patch = torch.from_numpy(queries.patch)
        of_features, self._sphere_weight = row_weights(sphere_weight)["fused"]
        self._blocks = [
            (block.queries, block.target, of_features * block.similarity["features"])
            for block in Matcher(cache, {"features": Row((1.0, 0.0))}).blocks(queries)
        ]

    def __call__(self, head: Head) -> float:
        """Score a head on the device where it is, leaving it as it was."""
        points = self._map(head)
        return self._questions.score(self._answers(points))

    def _answers(self, points: Tensor) -> Iterator[tuple[slice, int, Tensor]]:
        for own, target, features in self._blocks:
            on_sphere = points[self._source[own], self._patch[own]] @ points[self._target[target]].T  # (R, N)
            yield own, target, features + self._sphere_weight * on_sphere

    def _map(self, head: Head) -> Tensor:
        """Sphere points `(images, N, 3)` on the CPU."""
        batches = (
            self._images[start : start + self._batch] for start in range(0, len(self._images), self._batch)
        )
        return torch.cat(
            [unit(sphere_points(head, self._cache.tokens(indices))).cpu() for indices in batches]
        )


class AdaptedValidation:
    """PCK per point, in percent, of the row `adapted_fused`: equal to the evaluation's on the same pairs.

    The sphere does not change while an adapter is trained: similarities there, 4 bytes per keypoint and
    target patch, are computed once.
    """

    def __init__(
        self,
        cache: FeatureCache,
        tables: Tables,
        pairs: pd.DataFrame,
        head: Head,
        *,
        sphere_weight: float,
        alpha: float,
        device: torch.device | str = "cpu",
    ) -> None:
        self._questions = _Questions(cache, tables, pairs, alpha)
        self._device = device
        self._of_features, of_sphere = row_weights(sphere_weight)["fused"]
        matcher = Matcher(cache, {"sphere": Row((0.0, 1.0))}, partial(sphere_points, head), device=device)
        self._on_sphere = [
            of_sphere * block.similarity["sphere"] for block in matcher.blocks(self._questions.queries)
        ]

    def __call__(self, adapter: Refinement) -> float:
        """Score an adapter, leaving it as it was."""
        rows = {"adapted": Row((1.0, 0.0))}
        matcher = Matcher(self._questions.cache, rows, refine=adapter, device=self._device)
        blocks = zip(matcher.blocks(self._questions.queries), self._on_sphere, strict=True)
        return self._questions.score(
            (block.queries, block.target, self._of_features * block.similarity["adapted"] + on_sphere)
            for block, on_sphere in blocks
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
    pairs = _some_pairs(tables, split, alpha, max_pairs, seed)
    return Validation(cache, tables, pairs, sphere_weight=sphere_weight, alpha=alpha)


def make_adapted_validation(
    cache: FeatureCache,
    tables: Tables,
    head: Head,
    split: str,
    sphere_weight: float,
    alpha: float,
    max_pairs: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> AdaptedValidation:
    """Prepare the validation of an adapter's training; `head` maps to the sphere, the rest as before.

    Raises:
        InputError: as `make_validation`.
    """
    pairs = _some_pairs(tables, split, alpha, max_pairs, seed)
    return AdaptedValidation(
        cache, tables, pairs, head, sphere_weight=sphere_weight, alpha=alpha, device=device
    )


def _some_pairs(tables: Tables, split: str, alpha: float, max_pairs: int, seed: int) -> pd.DataFrame:
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
    return pairs

"""A quick score of a head or a method in training: PCK of features and sphere fused, on some pairs."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from spheremap.config.learning import Validation as Settings
from spheremap.data.tables import Tables
from spheremap.features.cache.reader import FeatureCache
from spheremap.features.geometry import patch_centres
from spheremap.methods.engine.comparison import Comparison
from spheremap.methods.engine.method import Method
from spheremap.methods.engine.queries import build_queries, with_common_keypoint
from spheremap.methods.engine.readout import best_patch
from spheremap.methods.fused import FEATURES, SPHERE, Fused
from spheremap.metrics.pck import correct, distances, radii
from spheremap.metrics.thresholds import make_thresholds
from spheremap.model.head import Head


class Validation:
    """PCK per point, in percent, of a method of which one part is in training: equal to the evaluation's.

    Read-out argmax, source token of the keypoint's patch, thresholds of the box in original pixels. The
    similarities of the parts that do not change, 4 bytes per keypoint and target patch, are computed once.

    Args:
        method: a concatenation of descriptors.
        learning: the part that changes.
        alpha: threshold as a share of the longer side of the target's box.
        given: what the other parts need, see `Comparison`.
    """

    def __init__(
        self,
        cache: FeatureCache,
        tables: Tables,
        pairs: pd.DataFrame,
        method: Method,
        learning: Method,
        *,
        alpha: float,
        **given: Any,
    ) -> None:
        self._cache, self._queries, self._learning = cache, build_queries(cache, tables, pairs), learning
        self._device = given.get("device", "cpu")
        thresholds = make_thresholds(tables, self._queries, cache.boxes[self._queries.target])
        self._radius = radii(thresholds.side[self._queries.pair], (alpha,))
        fixed = {part: weight for part, weight in method.parts().items() if weight and part != learning}
        self._weight = method.parts()[learning]
        blocks = Comparison(cache, list(fixed), **given).blocks(self._queries)
        self._fixed = [block.similarity(fixed) if fixed else 0.0 for block in blocks]

    def __call__(self, head: Head | None = None, fitted: Mapping[Method, nn.Module] | None = None) -> float:
        """Score what is in training, leaving it as it was."""
        queries, common = self._queries, self._queries.common
        comparison = Comparison(self._cache, [self._learning], head, fitted or {}, self._device)
        predicted = np.full((len(queries.patch), 2), np.nan)
        for block, fixed in zip(comparison.blocks(queries), self._fixed, strict=True):
            similarity = fixed + self._weight * block.product(self._learning)
            centres = patch_centres(self._cache.boxes[block.target], self._cache.grid)
            predicted[block.queries] = centres[best_patch(similarity).cpu().numpy()]
        right = correct(distances(predicted[common], queries.xy[common]), self._radius[common])
        return float(100 * right.sum() / len(right))


def make_validation(
    cache: FeatureCache, tables: Tables, settings: Settings, seed: int, *, split: str
) -> Callable[[Head], float]:
    """Prepare the validation of a training run: a function of the head, wherever that is.

    Args:
        cache: features of whole images.
        settings: if more pairs have a keypoint in common than they say, so many are drawn.
        seed: of that draw.
        split: the split whose pairs are used, "val".

    Raises:
        InputError: if no pair of the split has a keypoint visible in both images.
    """
    pairs = _some_pairs(tables, split, settings.pairs, seed)
    fused = Fused((FEATURES, SPHERE), settings.sphere_weight)
    return Validation(cache, tables, pairs, fused, SPHERE, alpha=settings.alpha)


def make_fitted_validation(
    cache: FeatureCache,
    tables: Tables,
    head: Head,
    method: Method,
    settings: Settings,
    seed: int,
    *,
    split: str,
    device: torch.device | str = "cpu",
) -> Callable[[nn.Module], float] | None:
    """Prepare the validation of a method: a function of its network, or None if the split has no pairs.

    Raises:
        InputError: as `make_validation`.
    """
    if tables.pairs_of(split).empty:
        print(f"there are no pairs of the split {split!r}: what was learned last is kept", file=sys.stderr)
        return None
    pairs = _some_pairs(tables, split, settings.pairs, seed)
    fused = Fused((method, SPHERE), settings.sphere_weight)
    score = Validation(cache, tables, pairs, fused, method, alpha=settings.alpha, head=head, device=device)
    return lambda network: score(fitted={method: network})


def _some_pairs(tables: Tables, split: str, max_pairs: int, seed: int) -> pd.DataFrame:
    pairs = with_common_keypoint(tables, tables.pairs_of(split), where=f"split {split!r}")
    if len(pairs) > max_pairs:
        drawn = np.random.default_rng(seed).choice(len(pairs), max_pairs, replace=False)
        pairs = pairs.loc[np.sort(drawn)].reset_index(drop=True)
    return pairs

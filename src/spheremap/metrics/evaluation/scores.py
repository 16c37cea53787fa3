"""From measurements to percentages, for any part of the pairs and for bootstrap samples of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from spheremap.base.progress import progress
from spheremap.config import Evaluate as EvaluateParams
from spheremap.data.tables import Tables
from spheremap.features.cache.reader import FeatureCache
from spheremap.methods.matcher import Facing, Matcher, Refinement, SphereMap
from spheremap.methods.queries import Queries, build_queries
from spheremap.methods.readout import Readout
from spheremap.methods.rows import Rows
from spheremap.metrics import bootstrap, breakdown, kap, pck
from spheremap.metrics.evaluation.measure import Measurements, measure
from spheremap.metrics.evaluation.params import alpha_label
from spheremap.metrics.evaluation.ruler import Ruler, make_ruler

METRICS = ("pck_point", "pck_image", "pck_category", "confusion", "kap", "kap_pair")
DECIMALS = 6  # of percentages and pixels
Samples = dict[str, NDArray[np.float64]]  # metric -> (samples, A)


def score(
    cache: FeatureCache,
    tables: Tables,
    pairs: pd.DataFrame,
    rows: Rows,
    sphere: SphereMap,
    params: EvaluateParams,
    *,
    chance: bool,
    facing: Facing | None = None,
    refine: Refinement | None = None,
    device: torch.device | str = "cpu",
) -> "Scores":
    """Match pairs with every row of `rows`, and with chance if asked to.

    Raises:
        InputError: if an image is not in the cache.
        ProvenanceError: if cache or head are damaged.
    """
    queries = build_queries(cache, tables, pairs, params.source)
    ruler = make_ruler(cache, tables, queries, params.threshold, params.frame)
    seed = params.seed if chance else None
    matcher = Matcher(cache, rows, sphere, facing, refine, chance_seed=seed, device=device)
    readout = Readout(params.readout, params.window, params.temperature)
    measured = measure(matcher, queries, ruler, params.alphas, readout, params.kap_labels)
    return Scores(queries, measured, ruler, params.alphas, _landmarks(tables, queries))


@dataclass(frozen=True)
class Scores:
    """Turns measurements into percentages, for any part of the queries."""

    queries: Queries
    measured: Measurements
    ruler: Ruler
    alphas: tuple[float, ...]
    landmarks: NDArray[np.float64]  # (P, L, 2) keypoints visible in the target, NaN as padding

    @property
    def point_columns(self) -> list[str]:
        """Columns of `of_points`."""
        return ["n_points", *self.name("pck_point", self.alphas), *self.name("confusion", self.alphas)]

    def overall(self, row: str) -> dict[str, float]:
        """All metrics of all pairs."""
        points = self.queries.common
        right = self._right(row, points)
        result = {
            **self.name("pck_point", pck.pck_point(right)),
            **self.name("pck_image", pck.pck_image(right, self.queries.pair[points])),
            **self.name("pck_category", pck.pck_category(right, self._category[points])),
            **self.name("confusion", pck.percent(self._confused(row, points, right).sum(0), len(right))),
        }
        by_alpha = self._kap(row)
        result |= self.name("kap", [value.macro for value in by_alpha])
        result |= self.name("kap_pair", [value.pair for value in by_alpha])
        return result

    def of_category(self, row: str, category: str) -> dict[str, float]:
        """Metrics of one category's pairs."""
        points = self.queries.common & (self._category == category)
        by_alpha = self._kap(row)
        return {
            **self.of_points(row, points),
            **self.name("pck_image", pck.pck_image(self._right(row, points), self.queries.pair[points])),
            **self.name("kap", [value.by_category[category] for value in by_alpha]),
        }

    def of_points(self, row: str, points: NDArray[np.bool_]) -> dict[str, float]:
        """Metrics per point of the queries that `points` `(Q,)` selects."""
        right = self._right(row, points)
        confused = self._confused(row, points, right)
        return {
            "n_points": int(points.sum()),
            **self.name("pck_point", pck.pck_point(right)),
            **self.name("confusion", pck.percent(confused.sum(axis=0), len(confused))),
        }

    def predictions(self, row: str) -> pd.DataFrame:
        """One line per point visible in both images."""
        points = self.queries.common
        pair = self.queries.pair[points]
        predicted, truth = self.measured.predicted[row][points], self.queries.xy[points]
        return pd.DataFrame(
            {
                "row": row,
                "source": self.queries.source_id[pair],
                "target": self.queries.target_id[pair],
                "keypoint_id": self.queries.keypoint_id[points],
                "x": predicted[:, 0].round(DECIMALS),
                "y": predicted[:, 1].round(DECIMALS),
                "target_x": truth[:, 0].round(DECIMALS),
                "target_y": truth[:, 1].round(DECIMALS),
                "error": self._distance(row, points) / self.ruler.side[pair],
            }
        )

    def resampled(self, rows: Sequence[str], samples: int, seed: int) -> dict[str, Samples]:
        """All metrics of `samples` bootstrap samples of the pairs, the same samples for every row."""
        statistics = {row: self.statistics(row) for row in rows}
        found: dict[str, dict[str, list[NDArray[np.float64]]]]
        found = {row: {metric: [] for metric in METRICS} for row in rows}
        with progress(total=samples, desc="bootstrap", unit="samples") as bar:
            for times in bootstrap.draws(len(self.queries.source), samples, seed):
                for row, statistic in statistics.items():
                    for metric, values in statistic(times).items():
                        found[row][metric].append(values)
                bar.update(len(times))
        return {row: {name: np.concatenate(of) for name, of in own.items()} for row, own in found.items()}

    def statistics(self, row: str) -> Callable[[NDArray[np.float64]], Samples]:
        """A function of multiplicities `(b, P)` of the pairs that gives all metrics `(b, A)`.

        With all ones it gives `overall`. A category without a drawn point does not count.
        """
        points = self.queries.common
        right = self._right(row, points)
        hits, confused = (self._per_pair(a) for a in (right, self._confused(row, points, right)))
        whole = self._per_pair(np.ones((len(right), 1)))[:, 0]
        members = [self.queries.category == name for name in self._categories]
        ranked = [[self._ranked(row, a, own) for a in range(len(self.alphas))] for own in members]

        def metrics(times: NDArray[np.float64]) -> Samples:
            by_category = [bootstrap.pooled(times[:, own], hits[own], whole[own]) for own in members]
            kaps = [
                np.stack([100 * scores.average_precision(times[:, own]) for scores in by_alpha], axis=1)
                for own, by_alpha in zip(members, ranked, strict=True)
            ]
            return {
                "pck_point": bootstrap.pooled(times, hits, whole),
                "pck_image": bootstrap.per_pair(times, hits, whole),
                "pck_category": bootstrap.macro(by_category),
                "confusion": bootstrap.pooled(times, confused, whole),
                "kap": bootstrap.macro(kaps),
                "kap_pair": bootstrap.macro(kaps, [times[:, own].sum(axis=1) for own in members]),
            }

        return metrics

    def name(self, metric: str, values: Iterable[float], suffix: str = "") -> dict[str, float]:
        """Values of the A thresholds, rounded, under the names they are published by."""
        return {
            f"{metric}@{alpha_label(alpha)}{suffix}": round(float(value), DECIMALS)
            for alpha, value in zip(self.alphas, values, strict=True)
        }

    @cached_property
    def _category(self) -> NDArray[np.object_]:
        """Category `(Q,)` of each query."""
        return self.queries.category[self.queries.pair]

    @cached_property
    def _categories(self) -> list[str]:
        return sorted(set(self.queries.category.tolist()))

    def _per_pair(self, of_points: NDArray[np.generic]) -> NDArray[np.float64]:
        """Sums `(P, A)` over each pair of what its common points `(C, A)` have."""
        result = np.zeros((len(self.queries.source), of_points.shape[1]))
        np.add.at(result, self.queries.pair[self.queries.common], of_points.astype(np.float64))
        return result

    def _ranked(self, row: str, alpha: int, pairs: NDArray[np.bool_]) -> kap.RankedScores:
        """KAP scores of some pairs `(P,)`, ready for any multiplicity of these."""
        pair = self.queries.pair
        own, column = pairs[pair], (np.cumsum(pairs) - 1)[pair]
        scores = [self.measured.positive[row][alpha][own], self.measured.negative[row][alpha][own]]
        exists = ~np.isneginf(np.concatenate(scores))
        labels = np.repeat([True, False], own.sum())
        return kap.RankedScores(
            np.concatenate(scores)[exists], labels[exists], np.tile(column[own], 2)[exists]
        )

    def _distance(self, row: str, points: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Distances to the truth, in the ruler's frame."""
        scale = self.ruler.scale[self.queries.pair[points]]
        return pck.distances(self.measured.predicted[row][points] * scale, self.queries.xy[points] * scale)

    def _right(self, row: str, points: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return pck.correct(self._distance(row, points), self._radius(points))

    def _confused(self, row: str, points: NDArray[np.bool_], right: NDArray[np.bool_]) -> NDArray[np.bool_]:
        pair = self.queries.pair[points]
        scale = self.ruler.scale[pair]
        return breakdown.lands_on_another(
            self.measured.predicted[row][points] * scale,
            self.landmarks[pair] * scale[:, None],
            self._radius(points),
            right,
        )

    def _radius(self, points: NDArray[np.bool_]) -> NDArray[np.float64]:
        return pck.radii(self.ruler.side[self.queries.pair[points]], self.alphas)

    def _kap(self, row: str) -> list[kap.Kap]:
        scores = zip(self.measured.positive[row], self.measured.negative[row], strict=True)
        return [
            kap.kap(positive, negative, self._category, self.queries.pair) for positive, negative in scores
        ]


def _landmarks(tables: Tables, queries: Queries) -> NDArray[np.float64]:
    """All keypoints `(P, L, 2)` visible in each pair's target, padded with NaN."""
    visible = tables.keypoints[tables.keypoints["visible"] == 1]
    places = {str(image): rows[["x", "y"]].to_numpy() for image, rows in visible.groupby("image_id")}
    targets, pair = np.unique(queries.target_id.astype(str), return_inverse=True)
    result = np.full((len(targets), max((len(xy) for xy in places.values()), default=0), 2), np.nan)
    for i, target in enumerate(targets):
        own = places.get(str(target), np.empty((0, 2)))
        result[i, : len(own)] = own
    return result[pair]

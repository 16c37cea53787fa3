"""An evaluation: pairs are matched with every method, and scored over all, in groups and resampled.

A score is a function of the pairs' weights (`answers.Statistic`); what differs is the weights alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from spheremap.base.errors import InputError
from spheremap.config import Evaluate as EvaluateParams
from spheremap.data.tables import Tables
from spheremap.data.viewpoint_bins import UNKNOWN, azimuth_bin, azimuth_gap
from spheremap.features.cache.reader import FeatureCache
from spheremap.methods.engine.comparison import Comparison
from spheremap.methods.engine.method import Method
from spheremap.methods.engine.queries import (
    Queries,
    build_queries,
    common_pairs,
    with_common_keypoint,
)
from spheremap.methods.engine.readout import Readout
from spheremap.metrics import bootstrap, pck
from spheremap.metrics.answers import Answers, Floats, Statistic
from spheremap.metrics.catalogue import (
    BY_CATEGORY,
    BY_GAP,
    DECIMALS,
    METRICS,
    alpha_label,
    statistic,
)
from spheremap.metrics.measure import Measured, measure
from spheremap.metrics.repeated_parts import lands_on_another
from spheremap.metrics.results import Results
from spheremap.metrics.ruler import Ruler, make_ruler
from spheremap.model.head import Head

VALIDATION = "val"  # where parameters are tried: never on the pairs that are reported


def evaluate(
    cache: FeatureCache,
    tables: Tables,
    head: Head,
    params: EvaluateParams,
    *,
    dataset: str,
    methods: Mapping[str, Method],
    fitted: Mapping[Method, nn.Module] | None = None,
    device: torch.device | str = "cpu",
) -> Results:
    """Match the pairs of a split with every method and score them.

    Args:
        methods: those of `params.methods`, and the one of the sweep, see `spheremap.methods.make_methods`.
        fitted: the networks of methods that learn, see `Comparison`.

    Raises:
        InputError: if the split has no pair with a keypoint visible in both images, the sweep's method lacks
            the parameter, or a method needs something that it was not given.
        ProvenanceError: if cache or head are damaged.
    """
    pairs = tables.pairs_of(params.split)
    with_common_keypoint(tables, pairs, where=f"split {params.split!r} of data set {dataset!r}")
    scored = {name: methods[name] for name in params.methods}
    given: dict[str, Any] = {"head": head, "fitted": fitted or {}, "device": device}
    scores = score(cache, tables, pairs, scored, params, **given)
    metrics: dict[str, Any] = {
        "dataset": dataset,
        "split": params.split,
        "n_pairs": len(pairs),
        "n_points": int(scores.points.sum()),
        "n_images": len(np.unique(pairs[["source", "target"]])),
        "seed": params.seed,
        "protocol": params.protocol,
        "bootstrap": params.bootstrap,
        "confidence": params.confidence,
        "baseline": params.baseline,
    }
    metrics |= scores.overall()
    if params.bootstrap:
        for name, leaves in _intervals(scores, params).items():
            metrics[name] |= leaves
    images = tables.images.set_index("image_id")
    return Results(
        metrics,
        _by_category(scores, pairs["source"].map(images["category"]).value_counts()),
        _by_gap(scores, images["azimuth"], params.viewpoint_bins),
        pd.concat([scores.predictions(name) for name in scored], ignore_index=True),
        _sweep(cache, tables, methods[params.sweep.method], params, **given),
    )


@dataclass(frozen=True)
class Scores:
    """Answers of all methods, and what turns them into percentages for any weights of the pairs."""

    queries: Queries
    measured: Mapping[str, Measured]
    ruler: Ruler
    alphas: tuple[float, ...]
    landmarks: Floats  # (P, L, 2) keypoints visible in the target, NaN as padding

    @cached_property
    def answers(self) -> dict[str, Answers]:
        """What the metrics need, by method."""
        return {name: self._answers(name) for name in self.measured}

    @cached_property
    def statistics(self) -> dict[str, Statistic]:
        """All metrics by method, as functions of weights `(b, P)`."""
        return {name: statistic(answers) for name, answers in self.answers.items()}

    @cached_property
    def points(self) -> NDArray[np.int64]:
        """Points `(P,)` of each pair that are visible in both images."""
        return np.bincount(self.queries.pair[self.queries.common], minlength=len(self.queries.source))

    def overall(self) -> dict[str, dict[str, float]]:
        """All metrics of all pairs, by method."""
        once = np.ones((1, len(self.points)))
        return {name: self.leaves(values(once), METRICS) for name, values in self.statistics.items()}

    def breakdown(self, groups: Mapping[Any, NDArray[np.bool_]], metrics: Sequence[str]) -> pd.DataFrame:
        """One line per method and group of pairs `(P,)`: method, group, n_points and some metrics."""
        columns = [name for metric in metrics for name in self.names(metric)]
        lines = []
        if groups:
            weights = np.stack(list(groups.values())).astype(np.float64)
            for method, values in self.statistics.items():
                found = values(weights)
                for row, (group, own) in enumerate(groups.items()):
                    line = {"method": method, "group": group, "n_points": int(self.points[own].sum())}
                    lines.append(line | self.leaves(found, metrics, row=row))
        return pd.DataFrame(lines, columns=["method", "group", "n_points", *columns])

    def predictions(self, method: str) -> pd.DataFrame:
        """One line per point visible in both images."""
        points = self.queries.common
        pair = self.queries.pair[points]
        predicted, truth = self.measured[method].predicted[points], self.queries.xy[points]
        return pd.DataFrame(
            {
                "method": method,
                "source": self.queries.source_id[pair],
                "target": self.queries.target_id[pair],
                "keypoint_id": self.queries.keypoint_id[points],
                "x": predicted[:, 0].round(DECIMALS),
                "y": predicted[:, 1].round(DECIMALS),
                "target_x": truth[:, 0].round(DECIMALS),
                "target_y": truth[:, 1].round(DECIMALS),
                "error": self._distance(method) / self.ruler.side[pair],
            }
        )

    def names(self, metric: str, ending: str = "") -> list[str]:
        """What a metric is called at the A thresholds."""
        return [f"{metric}@{alpha_label(alpha)}{ending}" for alpha in self.alphas]

    def leaves(
        self, values: Mapping[str, Floats], metrics: Iterable[str], ending: str = "", row: int = 0
    ) -> dict[str, float]:
        """Values of metrics `(b, A)`, a row of them, rounded, under the names that they are published by."""
        return {
            name: round(float(value), DECIMALS)
            for metric in metrics
            for name, value in zip(self.names(metric, ending), values[metric][row], strict=True)
        }

    def _answers(self, method: str) -> Answers:
        """What the metrics need of a method's answers, in the ruler's frame."""
        queries, measured = self.queries, self.measured[method]
        pair = queries.pair[queries.common]
        scale, radius = self.ruler.scale[pair], pck.radii(self.ruler.side[pair], self.alphas)
        right = pck.correct(self._distance(method), radius)
        predicted = measured.predicted[queries.common] * scale
        confused = lands_on_another(predicted, self.landmarks[pair] * scale[:, None], radius, right)
        return Answers(
            queries.category,
            queries.pair,
            queries.common,
            right,
            confused,
            measured.positive,
            measured.negative,
        )

    def _distance(self, method: str) -> Floats:
        """Distances `(C,)` to the truth, in the ruler's frame."""
        points = self.queries.common
        scale = self.ruler.scale[self.queries.pair[points]]
        return pck.distances(self.measured[method].predicted[points] * scale, self.queries.xy[points] * scale)


def score(
    cache: FeatureCache,
    tables: Tables,
    pairs: pd.DataFrame,
    methods: Mapping[str, Method],
    params: EvaluateParams,
    *,
    head: Head | None,
    fitted: Mapping[Method, nn.Module],
    device: torch.device | str = "cpu",
) -> Scores:
    """Match pairs with some methods.

    Raises:
        InputError: if an image is not in the cache, or a method lacks what it needs.
        ProvenanceError: if cache or head are damaged.
    """
    queries = build_queries(cache, tables, pairs, params.source)
    ruler = make_ruler(cache, tables, queries, params.threshold, params.frame)
    comparison = Comparison(cache, list(methods.values()), head, fitted, device=device)
    readout = Readout(params.readout, params.window, params.temperature, params.sigma)
    measured = measure(comparison, methods, queries, ruler, params.alphas, readout, params.kap_labels)
    return Scores(queries, measured, ruler, params.alphas, _landmarks(tables, queries))


def _landmarks(tables: Tables, queries: Queries) -> Floats:
    """All keypoints `(P, L, 2)` visible in each pair's target, padded with NaN."""
    visible = tables.keypoints[tables.keypoints["visible"] == 1]
    places = {str(image): rows[["x", "y"]].to_numpy() for image, rows in visible.groupby("image_id")}
    targets, pair = np.unique(queries.target_id.astype(str), return_inverse=True)
    result = np.full((len(targets), max((len(xy) for xy in places.values()), default=0), 2), np.nan)
    for i, target in enumerate(targets):
        own = places.get(str(target), np.empty((0, 2)))
        result[i, : len(own)] = own
    return result[pair]


def _by_category(scores: Scores, listed: pd.Series) -> pd.DataFrame:
    """Columns method, category, n_pairs (as the split lists them), n_points and metrics."""
    category = scores.queries.category
    groups = {name: category == name for name in sorted(set(category.tolist()))}
    frame = scores.breakdown(groups, BY_CATEGORY).rename(columns={"group": "category"})
    frame.insert(2, "n_pairs", frame["category"].map(listed))
    return frame


def _by_gap(scores: Scores, azimuth: pd.Series, bins: int) -> pd.DataFrame:
    """Columns method, gap (in bins), n_points and metrics, for gaps with points."""
    queries = scores.queries
    source, target = (
        azimuth_bin(azimuth[ids.tolist()].to_numpy(dtype=np.float64), bins)
        for ids in (queries.source_id, queries.target_id)
    )
    gap = azimuth_gap(source, target, bins)
    groups = {int(value): gap == value for value in np.unique(gap[(gap != UNKNOWN) & (scores.points > 0)])}
    return scores.breakdown(groups, BY_GAP).rename(columns={"group": "gap"})


def _intervals(scores: Scores, params: EvaluateParams) -> dict[str, dict[str, float]]:
    """For every method: the ends of each metric's interval, and gains over the baseline with theirs."""
    pairs = len(scores.points)
    samples = bootstrap.resample(scores.statistics, pairs, params.bootstrap, params.seed)
    exact = {name: values(np.ones((1, pairs))) for name, values in scores.statistics.items()}
    result: dict[str, dict[str, float]] = {}
    for name in scores.statistics:
        result[name] = _ends(scores, samples[name], "", params.confidence)
        if name != params.baseline:
            gains = _minus(exact[name], exact[params.baseline])
            result[name] |= scores.leaves(gains, METRICS, "_gain")
            gains = _minus(samples[name], samples[params.baseline])
            result[name] |= _ends(scores, gains, "_gain", params.confidence)
    return result


def _ends(scores: Scores, samples: Mapping[str, Floats], kind: str, confidence: float) -> dict[str, float]:
    ends = {metric: bootstrap.interval(own, confidence) for metric, own in samples.items()}
    low, high = ({metric: own[end][None] for metric, own in ends.items()} for end in (0, 1))
    return scores.leaves(low, METRICS, f"{kind}_low") | scores.leaves(high, METRICS, f"{kind}_high")


def _minus(one: Mapping[str, Floats], other: Mapping[str, Floats]) -> dict[str, Floats]:
    return {metric: one[metric] - other[metric] for metric in one}


def _sweep(
    cache: FeatureCache, tables: Tables, method: Method, params: EvaluateParams, **given: Any
) -> pd.DataFrame:
    """Score a method on the validation pairs at every value of one of its parameters, in one pass.

    Returns:
        One line per value, increasing: the parameter, n_points, the metrics and, if 0 is among the values and
        samples are drawn, the gains of `_gains`. No line if there is nothing to try or to score.
    """
    name, pairs = params.sweep.parameter, tables.pairs_of(VALIDATION)
    if not hasattr(method, name):
        raise InputError(
            "bad value for evaluate.sweep.parameter", expected="a parameter of the method", found=name
        )
    values = sorted(params.sweep.values)
    methods = {f"{value:g}": replace(method, **{name: value}) for value in values}  # type: ignore[type-var]
    lines = []
    if methods and len(common_pairs(tables, pairs)):
        scores = score(cache, tables, pairs, methods, params, **given)
        points, found = int(scores.points.sum()), scores.overall().values()
        lines = [{name: v, "n_points": points, **own} for v, own in zip(values, found, strict=True)]
        if 0 in values and params.bootstrap:
            for line, gains in zip(lines, _gains(scores, values.index(0), params), strict=True):
                line |= gains
    columns = [f"{metric}@{alpha_label(alpha)}" for metric in METRICS for alpha in params.alphas]
    return pd.DataFrame(lines, columns=list(lines[0]) if lines else [name, "n_points", *columns])


def _gains(scores: Scores, base: int, params: EvaluateParams) -> list[dict[str, float]]:
    """For each method: PCK per point less that of the method `base`, with the paired bootstrap's interval."""
    answers = list(scores.answers.values())
    right = np.stack([own.per_pair(own.right) for own in answers], axis=1)  # (P, methods, A)

    def pck_point(weights: Floats) -> dict[str, Floats]:
        found = pck.per_point(right.reshape(len(right), -1), answers[0].points, weights)
        found = found.reshape(-1, *right.shape[1:])
        return {"": found - found[:, base, None]}

    exact = pck_point(np.ones((1, len(right))))[""][0]
    samples = bootstrap.resample({"": pck_point}, len(right), params.bootstrap, params.seed)[""][""]
    low, high = bootstrap.interval(samples, params.confidence)
    ends = {"_gain": exact, "_gain_low": low, "_gain_high": high}  # (methods, A) each
    return [
        {
            key: value
            for ending, own in ends.items()
            for key, value in scores.leaves({"pck_point": own}, ["pck_point"], ending, row).items()
        }
        for row in range(len(answers))
    ]

"""An evaluation: pairs are matched with every method, and scored."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from spheremap.base.errors import InputError
from spheremap.config import Evaluate as EvaluateParams
from spheremap.data.keypoint_groups import KeypointGroups
from spheremap.data.tables import Tables
from spheremap.features.cache.reader import FeatureCache
from spheremap.methods.engine.comparison import Comparison
from spheremap.methods.engine.method import Method
from spheremap.methods.engine.queries import build_queries, common_pairs, with_common_keypoint
from spheremap.methods.engine.readout import Readout
from spheremap.metrics import bootstrap, pck
from spheremap.metrics.catalogue import METRICS, labels
from spheremap.metrics.measure import measure
from spheremap.metrics.results import Results
from spheremap.metrics.scores import Scores
from spheremap.metrics.thresholds import make_thresholds
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
    groups: KeypointGroups | None = None,
    device: torch.device | str = "cpu",
) -> Results:
    """Match the pairs of a split with every method and score them.

    Args:
        groups: which keypoints are alike, where that is known.
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
    scores = score(cache, tables, pairs, scored, params, groups=groups, **given)
    return Results(
        facts(scores, pairs, params, dataset),
        scores.table(params),
        pd.concat([scores.predictions(name) for name in scored], ignore_index=True),
        _sweep(cache, tables, methods[params.sweep.method], params, **given),
    )


def facts(scores: Scores, pairs: pd.DataFrame, params: EvaluateParams, dataset: str) -> dict[str, Any]:
    """What was scored, and how."""
    intervals = "none"
    if params.bootstrap:
        unit = scores.design(params).unit
        intervals = (
            f"{100 * params.confidence:g} % by {params.bootstrap} samples of {unit}, seed {params.seed}"
        )
    return {
        "dataset": dataset,
        "split": params.split,
        "n_pairs": len(pairs),
        "n_images": len(np.unique(pairs[["source", "target"]])),
        "n_points": int(scores.points.sum()),
        "protocol": params.protocol,
        "intervals": intervals,
        "baseline": params.baseline,
    }


def score(
    cache: FeatureCache,
    tables: Tables,
    pairs: pd.DataFrame,
    methods: Mapping[str, Method],
    params: EvaluateParams,
    *,
    head: Head | None,
    fitted: Mapping[Method, nn.Module],
    groups: KeypointGroups | None = None,
    device: torch.device | str = "cpu",
) -> Scores:
    """Match pairs with some methods.

    Raises:
        InputError: if an image is not in the cache, or a method lacks what it needs.
        ProvenanceError: if cache or head are damaged.
    """
    queries = build_queries(cache, tables, pairs, params.source)
    thresholds = make_thresholds(tables, queries, cache.boxes[queries.target], params.threshold, params.frame)
    comparison = Comparison(cache, list(methods.values()), head, fitted, device=device)
    readout = Readout(params.readout, params.window, params.temperature, params.sigma)
    measured = measure(
        comparison, methods, queries, thresholds, params.alphas, readout, params.kap_labels, params.candidates
    )
    return Scores.of(queries, measured, thresholds, params.alphas, tables, groups)


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
    values = params.sweep.numbers
    methods = {f"{value:g}": replace(method, **{name: value}) for value in values}  # type: ignore[type-var]
    lines = []
    if methods and len(common_pairs(tables, pairs)):
        scores = score(cache, tables, pairs, methods, params, **given)
        points, found = int(scores.points.sum()), scores.overall().values()
        lines = [{name: v, "n_points": points, **own} for v, own in zip(values, found, strict=True)]
        if 0 in values and params.bootstrap:
            for line, gains in zip(lines, _gains(scores, "0", params), strict=True):
                line |= gains
    columns = [
        f"{name}@{label}"
        for name in METRICS
        if METRICS[name].thresholds
        for label in labels(name, params.alphas)
    ]
    return pd.DataFrame(lines, columns=list(lines[0]) if lines else [name, "n_points", *columns])


def _gains(scores: Scores, base: str, params: EvaluateParams) -> Iterator[dict[str, float]]:
    """For each method: PCK per point less that of the method `base`, with the paired bootstrap's interval."""
    statistics = {name: pck.statistic(answers) for name, answers in scores.answers.items()}
    once, design = np.ones((1, len(scores.points))), scores.design(params)
    exact = {name: values(once)["pck_point"] for name, values in statistics.items()}
    samples = bootstrap.resample(statistics, design, params.bootstrap, params.seed)
    for name, value in exact.items():
        gain, deviating = value - exact[base], samples[name]["pck_point"] - samples[base]["pck_point"]
        low, high = bootstrap.interval(gain[0], deviating, params.confidence, design.spread)
        ends = {"_gain": gain, "_gain_low": low[None], "_gain_high": high[None]}
        yield {k: v for end, own in ends.items() for k, v in scores.leaves({"pck_point": own}, end).items()}

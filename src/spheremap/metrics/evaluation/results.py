"""The numbers of an evaluation that are published, and the files that hold them."""

import gzip
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from spheremap.base.errors import InputError
from spheremap.base.files import atomic_path, sha256_file, write_json
from spheremap.base.provenance import seal
from spheremap.config import Evaluate as EvaluateParams
from spheremap.data.tables import Tables
from spheremap.data.viewpoint_bins import UNKNOWN, azimuth_bin
from spheremap.features.cache.reader import FeatureCache
from spheremap.methods.descriptors import CHANCE
from spheremap.methods.matcher import Refinement
from spheremap.methods.queries import Queries, with_common_keypoint
from spheremap.methods.rows import adapted_rows, table_rows
from spheremap.metrics import bootstrap, breakdown
from spheremap.metrics.evaluation.scores import METRICS as NAMES
from spheremap.metrics.evaluation.scores import Scores, score
from spheremap.metrics.evaluation.sweep import sweep
from spheremap.model.head import Head, mean_directions, sphere_points

METRICS = "metrics.json"
BY_CATEGORY = "by_category.csv"
BY_GAP = "by_azimuth_gap.csv"
PREDICTIONS = "predictions.csv.gz"
WEIGHT_SWEEP = "weight_sweep.csv"
PROVENANCE = "provenance.json"  # sealed: how the results were made, and the SHA-256 of each of their files


@dataclass(frozen=True)
class Results:
    """All scores of one evaluation, in percent; n counts what they are averages of.

    Attributes:
        metrics: of the whole split. `n_pairs` and `n_images` count what the split lists, `n_points` the
            keypoints visible in both images of a pair. Per row and threshold: `pck_point` over all points;
            `pck_image` mean over pairs with a point; `pck_category` mean over categories of the category's
            `pck_point`; `kap` mean over categories; `kap_pair` mean over categories weighted by their pairs
            with a keypoint in the source; `confusion` share of points predicted on another keypoint of the
            target (`breakdown.lands_on_another`). Where `bootstrap` samples were drawn, each such name also
            stands with `_low` and `_high`, the interval at level `confidence` over image pairs, and in rows
            other than the baseline with `_gain`, `_gain_low` and `_gain_high`: the difference to the
            baseline's score, in percentage points, with the interval of the paired bootstrap.
        by_category: the same by row and category.
        by_gap: PCK per point and confusion by row and azimuth gap in bins, for gaps with points; images of
            unknown azimuth are left out.
        predictions: one line per row and point: keypoint, prediction and truth in original target pixels, and
            the error as a share of the side that thresholds are shares of.
        weight_sweep: the metrics of the row `fused` on the validation pairs by sphere weight; without lines
            if no weights are to be tried or no validation pair has a keypoint visible in both images.
    """

    metrics: dict[str, Any]
    by_category: pd.DataFrame
    by_gap: pd.DataFrame
    predictions: pd.DataFrame
    weight_sweep: pd.DataFrame


def evaluate(
    cache: FeatureCache,
    tables: Tables,
    head: Head,
    params: EvaluateParams,
    *,
    dataset: str,
    adapter: Refinement | None = None,
    device: torch.device | str = "cpu",
) -> Results:
    """Match the pairs of a split with every row of the table and score them.

    Args:
        adapter: refines features; the rows `adapted` and `adapted_fused` are scored if it is given.

    Raises:
        InputError: if the split has no pair with a keypoint visible in both images, or no row of the table is
            called like the baseline; if a row goes by viewpoint and the head lacks a category.
        ProvenanceError: if cache or head are damaged.
    """
    compared = table_rows(params.sphere_weight, params.further)
    adapted = {} if adapter is None else adapted_rows(params.sphere_weight)
    known = (*compared, *adapted, CHANCE)
    if params.baseline not in known:
        raise InputError("bad value for evaluate.baseline", expected=", ".join(known), found=params.baseline)
    pairs = tables.pairs_of(params.split)
    with_common_keypoint(tables, pairs, where=f"split {params.split!r} of data set {dataset!r}")
    sphere = partial(sphere_points, head)
    facing = partial(mean_directions, head) if any(row.viewpoint for row in compared.values()) else None
    scores = score(cache, tables, pairs, compared, sphere, params, chance=True, facing=facing, device=device)
    if adapter is not None:
        refined = score(
            cache, tables, pairs, adapted, sphere, params, chance=False, refine=adapter, device=device
        )
        scores = replace(scores, measured=scores.measured.joined(refined.measured))
    queries, images = scores.queries, tables.images.set_index("image_id")

    listed = pairs["source"].map(images["category"]).value_counts()
    rows = scores.measured.rows
    metrics: dict[str, Any] = {
        "dataset": dataset,
        "split": params.split,
        "n_pairs": len(pairs),
        "n_points": int(queries.common.sum()),
        "n_images": len(np.unique(pairs[["source", "target"]])),
        "seed": params.seed,
        "protocol": params.protocol,
        "bootstrap": params.bootstrap,
        "confidence": params.confidence,
        "baseline": params.baseline,
    }
    metrics.update({row: scores.overall(row) for row in rows})
    if params.bootstrap:
        for row, leaves in _intervals(scores, params).items():
            metrics[row] |= leaves
    by_category = [
        {"row": row, "category": name, "n_pairs": int(listed[name]), **scores.of_category(row, name)}
        for row in rows
        for name in sorted(set(queries.category.tolist()))
    ]
    gap = _gaps(images["azimuth"], queries, params.viewpoint_bins)[queries.pair]
    by_gap = [
        {"row": row, "gap": int(value), **scores.of_points(row, queries.common & (gap == value))}
        for row in rows
        for value in np.unique(gap[queries.common & (gap != UNKNOWN)])
    ]
    return Results(
        metrics,
        pd.DataFrame(by_category),
        pd.DataFrame(by_gap, columns=["row", "gap", *scores.point_columns]),
        pd.concat([scores.predictions(row) for row in rows], ignore_index=True),
        sweep(cache, tables, sphere, params, device=device),
    )


def _intervals(scores: Scores, params: EvaluateParams) -> dict[str, dict[str, float]]:
    """For every row: the ends of each metric's interval, and gains over the baseline with theirs."""
    rows = scores.measured.rows
    samples = scores.resampled(rows, params.bootstrap, params.seed)
    once = np.ones((1, len(scores.queries.source)))
    exact = {row: scores.statistics(row)(once) for row in rows}
    result: dict[str, dict[str, float]] = {}
    for row in rows:
        leaves = result.setdefault(row, {})
        for metric in NAMES:
            low, high = bootstrap.interval(samples[row][metric], params.confidence)
            leaves |= {**scores.name(metric, low, "_low"), **scores.name(metric, high, "_high")}
            if row != params.baseline:
                gain = exact[row][metric] - exact[params.baseline][metric]
                low, high = bootstrap.interval(
                    samples[row][metric] - samples[params.baseline][metric], params.confidence
                )
                leaves |= scores.name(metric, gain[0], "_gain")
                leaves |= {**scores.name(metric, low, "_gain_low"), **scores.name(metric, high, "_gain_high")}
    return result


def _gaps(azimuth: pd.Series, queries: Queries, bins: int) -> NDArray[np.int64]:
    """Azimuth gap `(P,)` of each pair."""
    source, target = (
        azimuth_bin(azimuth[ids.tolist()].to_numpy(dtype=np.float64), bins)
        for ids in (queries.source_id, queries.target_id)
    )
    return breakdown.azimuth_gap(source, target, bins)


def write_results(directory: Path, results: Results, provenance: Mapping[str, Any]) -> None:
    """Write all files of an evaluation; they replace older ones only when every one is complete."""
    with ExitStack() as stack:
        # left in reverse order: what speaks for all others appears last
        files = {
            name: stack.enter_context(atomic_path(Path(directory) / name))
            for name in (PROVENANCE, METRICS, BY_CATEGORY, BY_GAP, WEIGHT_SWEEP, PREDICTIONS)
        }
        text = json.dumps(results.metrics, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        files[METRICS].write_text(text + "\n", encoding="utf-8")
        files[BY_CATEGORY].write_text(_csv(results.by_category), encoding="utf-8")
        files[BY_GAP].write_text(_csv(results.by_gap), encoding="utf-8")
        files[WEIGHT_SWEEP].write_text(_csv(results.weight_sweep), encoding="utf-8")
        # without a time stamp: equal results are equal bytes
        files[PREDICTIONS].write_bytes(gzip.compress(_csv(results.predictions).encode(), mtime=0))
        written = {name: sha256_file(path) for name, path in files.items() if name != PROVENANCE}
        write_json(files[PROVENANCE], seal({**provenance, "files": written}))


def _csv(frame: pd.DataFrame) -> str:
    return str(frame.to_csv(index=False, lineterminator="\n"))

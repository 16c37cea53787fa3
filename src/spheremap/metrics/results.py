"""The numbers of an evaluation that are published, and the files that hold them."""

import gzip
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from spheremap.base.files import atomic_path, sha256_file, write_json
from spheremap.base.provenance import seal
from spheremap.metrics.score_table import headline

METRICS = "metrics.json"
HEADLINE = "pck"  # folder of a small file by method: DVC shows each as a line, not as columns
SCORES = "scores.csv"
PREDICTIONS = "predictions.csv.gz"
WEIGHT_SWEEP = "weight_sweep.csv"
PROVENANCE = "provenance.json"  # sealed: how the results were made, and the SHA-256 of each of their files


@dataclass(frozen=True)
class Results:
    """All scores of one evaluation, in percent.

    Attributes:
        facts: what was scored and how. `n_pairs` and `n_images` count what the split lists, `n_points` the
            keypoints visible in both images of a pair.
        scores: one line per method, metric, average, threshold and group, see `score_table.COLUMNS`. Metrics:
            `pck`, by `point`, mean over `image` pairs with a point, or over categories; `kap`, mean over
            categories, or over `pair`s of their category's; `confusion`, points predicted on another keypoint
            of the target; `mirrored`, points predicted nearer to the mirror keypoint than to the right one,
            of those whose mirror keypoint the target shows. Groups: `all`; `category`; `azimuth_gap` in bins,
            and `viewpoint`, near or far; `geometry` and `mirror`, see `symmetry`. `low` and `high` are the
            interval; `gain`, `gain_low` and `gain_high` the difference to the baseline on the same samples.
        predictions: one line per method and point: keypoint, prediction and truth in original target pixels,
            and the error as a share of the side that thresholds are shares of.
        weight_sweep: the metrics of a method on the validation pairs by one of its parameters, in the first
            column; without lines if no values are to be tried or no validation pair has a keypoint visible in
            both images. If 0 is among the values and samples were drawn, `pck_point` also stands with
            `_gain`, `_gain_low` and `_gain_high`: the difference to the value 0. None: there is no such file.
    """

    facts: dict[str, Any]
    scores: pd.DataFrame
    predictions: pd.DataFrame
    weight_sweep: pd.DataFrame | None


def write_results(directory: Path, results: Results, provenance: Mapping[str, Any]) -> None:
    """Write all files of an evaluation; they replace older ones only when every one is complete."""
    tables = {SCORES: results.scores, WEIGHT_SWEEP: results.weight_sweep}
    texts = {name: _csv(table) for name, table in tables.items() if table is not None}
    metrics = headline(results.facts, results.scores)
    texts[METRICS] = _json(metrics)
    with ExitStack() as stack:
        # left in reverse order: what speaks for all others appears last
        files = {
            name: stack.enter_context(atomic_path(Path(directory) / name))
            for name in (PROVENANCE, *texts, PREDICTIONS, HEADLINE)
        }
        for name, text in texts.items():
            files[name].write_text(text, encoding="utf-8")
        files[HEADLINE].mkdir()
        for method, own in metrics.items():
            if isinstance(own, dict):
                (files[HEADLINE] / f"{method}.json").write_text(_json(own), encoding="utf-8")
        # without a time stamp: equal results are equal bytes
        files[PREDICTIONS].write_bytes(gzip.compress(_csv(results.predictions).encode(), mtime=0))
        written = {name: sha256_file(files[name]) for name in (*texts, PREDICTIONS)}
        write_json(files[PROVENANCE], seal({**provenance, "files": written}))


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _csv(frame: pd.DataFrame) -> str:
    return str(frame.to_csv(index=False, lineterminator="\n"))

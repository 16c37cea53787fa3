"""What the report reads of the steps before it: scores, predictions and training curves."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spheremap.base.errors import InputError
from spheremap.base.files import read_json
from spheremap.base.provenance import check_provenance
from spheremap.metrics.evaluation.params import EvaluateParams, alpha_label
from spheremap.metrics.evaluation.record import RERUN, check_files, read_record, sha256_of
from spheremap.metrics.evaluation.results import BY_CATEGORY, BY_GAP, METRICS, PREDICTIONS, PROVENANCE
from spheremap.metrics.evaluation.table import ordered

TRAINING = "training"
CURVES = ("losses", "health", "validation")
COMPARED = ("features", "fused")  # the two rows that are set side by side throughout
ENDS = ("low", "high")  # endings of the names of a score's bounds
HEADLINE = ("pck_point", "pck_image", "pck_category", "kap")


@dataclass(frozen=True)
class Inputs:
    """Everything under the results folder.

    Attributes:
        metrics: metrics.json.
        rows: rows of the table in the order of display.
        alphas: labels of the thresholds, the largest first.
        by_category, by_gap, predictions: tables of the evaluation.
        curves: training curves by file stem; a table without rows stands for "not measured".
    """

    metrics: dict[str, Any]
    rows: list[str]
    alphas: list[str]
    by_category: pd.DataFrame
    by_gap: pd.DataFrame
    predictions: pd.DataFrame
    curves: dict[str, pd.DataFrame]

    def interval(self, row: str, score: str) -> tuple[float, float] | None:
        """Lower and upper bound of a score, where the evaluation estimated them."""
        low, high = (self.metrics[row].get(f"{score}_{end}") for end in ENDS)
        return None if low is None or high is None else (float(low), float(high))


def read_inputs(results: Path, dataset: str, evaluate: EvaluateParams) -> Inputs:
    """Read and check a results folder.

    Raises:
        InputError: if a file is missing or malformed.
        ProvenanceError: if the metrics belong to another data set, split, seed or set of thresholds.
    """
    path = Path(results) / METRICS
    metrics = read_json(path, fix=RERUN)
    if not isinstance(metrics, dict):
        raise InputError("not the metrics of an evaluation", where=path, expected="a JSON object", fix=RERUN)
    rows = ordered(name for name, value in metrics.items() if isinstance(value, dict))
    alphas = [alpha_label(alpha) for alpha in sorted(evaluate.alphas, reverse=True)]
    identity = {"dataset": dataset, "split": evaluate.split, "seed": evaluate.seed}
    check_provenance(metrics, expected=identity, where=path, fix=RERUN)
    missing = [row for row in COMPARED if row not in rows]
    missing += [
        f"{row}.{group}@{alpha}"
        for row in rows
        for group in HEADLINE
        for alpha in alphas
        if not isinstance(metrics[row].get(f"{group}@{alpha}"), int | float)
    ]
    scored = [f"{group}@{alpha}" for group in HEADLINE for alpha in alphas]
    bounds = [f"{name}{of}_{end}" for name in scored for of in ("", "_gain") for end in ENDS]
    missing += [
        f"{row}.{name}"
        for row in rows
        for name in bounds
        if not isinstance(metrics[row].get(name, 0.0), int | float)
    ]
    counts = ["n_pairs", "n_points"]
    missing += [name for name in (*counts, "n_images") if not isinstance(metrics.get(name), int)]
    if missing:
        raise InputError(
            "scores are missing",
            where=path,
            expected=", ".join(missing[:4]),
            found="no such number",
            fix=RERUN,
        )

    scores = [f"{metric}@{alpha}" for metric in ("pck_point", "confusion") for alpha in alphas]
    kap = [f"kap@{alpha}" for alpha in alphas]
    coordinates = ["x", "y", "target_x", "target_y", "error"]
    by_category = _read(results / BY_CATEGORY, ["row", "category"], [*counts, *scores, *kap], gaps=True)
    by_gap = _read(results / BY_GAP, ["row"], ["gap", "n_points", *scores])
    _require_all(by_category, "category", rows, results / BY_CATEGORY)
    _require_all(by_gap, "gap", rows, results / BY_GAP)
    return Inputs(
        metrics=metrics,
        rows=rows,
        alphas=alphas,
        by_category=by_category,
        by_gap=by_gap,
        predictions=_read(results / PREDICTIONS, ["row", "source", "target", "keypoint_id"], coordinates),
        curves={name: _read(results / TRAINING / f"{name}.csv", [], ["step"], gaps=True) for name in CURVES},
    )


def check_results(results: Path, head: Path, made: Mapping[str, Any]) -> None:
    """Whether the files of a results folder are those that were written, and of this head.

    Args:
        results: the folder.
        head: the head's file.
        made: the head's provenance, which knows its training curves.

    Raises:
        InputError: if a file is missing.
        ProvenanceError: if one was changed or belongs to another head.
    """
    record = read_record(results)
    of_head = {"inputs": {"head": sha256_of(head)}}
    check_provenance(record, expected=of_head, where=results / PROVENANCE, fix=RERUN)
    check_files({results / name: sha256 for name, sha256 in record["files"].items()})
    check_files({results / TRAINING / name: sha256 for name, sha256 in made.get("curves", {}).items()})


def _require_all(frame: pd.DataFrame, key: str, rows: Sequence[str], path: Path) -> None:
    """Every row of the table must have each category or gap exactly once."""
    expected = sorted(frame[key].unique(), key=str)  # a damaged column mixes types
    for row in rows:
        found = sorted(frame.loc[frame["row"] == row, key], key=str)
        if found != expected:
            raise InputError(
                f"row {row!r} is incomplete",
                where=path,
                expected=f"{key} " + ", ".join(map(str, expected)),
                found=", ".join(map(str, found)) or "none",
                fix=RERUN,
            )


def _read(path: Path, texts: Sequence[str], numbers: Sequence[str], *, gaps: bool = False) -> pd.DataFrame:
    """Read a CSV file; all columns but `texts` are numbers, with NaN allowed only where `gaps` says so."""
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(texts, "str"), keep_default_na=gaps)
    except OSError as error:
        raise InputError(
            "cannot read a table of results", where=path, found=error.strerror or str(error), fix=RERUN
        ) from error
    except (ValueError, EOFError, zlib.error) as error:
        raise InputError(
            "not a table of results", where=path, expected="CSV", found=str(error), fix=RERUN
        ) from error
    missing = [name for name in (*texts, *numbers) if name not in frame.columns]
    if missing:
        raise InputError(
            "a table of results lacks columns",
            where=path,
            expected=", ".join(missing),
            found=", ".join(frame.columns),
            fix=RERUN,
        )
    for name in frame.columns.difference(list(texts)):
        try:
            frame[name] = frame[name].astype(np.float64)
        except ValueError as error:
            raise InputError(
                f"column {name!r} of a table of results is malformed",
                where=path,
                expected="numbers",
                found=str(error),
                fix=RERUN,
            ) from error
    return frame

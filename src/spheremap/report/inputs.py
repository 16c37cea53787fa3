"""What the report reads of the steps before it: scores, predictions and training curves."""

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spheremap.base.errors import InputError
from spheremap.base.files import read_json
from spheremap.base.provenance import check_provenance
from spheremap.config import Evaluate as EvaluateParams
from spheremap.data.tables import Tables
from spheremap.metrics.catalogue import SHOWN, alpha_label
from spheremap.metrics.record import RERUN, check_files, read_record, sha256_of
from spheremap.metrics.results import METRICS, PREDICTIONS, PROVENANCE, SCORES
from spheremap.metrics.score_table import by_group, leaves, read_scores

TRAINING = "training"
CURVES = ("losses", "diagnostics", "validation")
ENDS = ("low", "high")  # endings of the names of a score's bounds


@dataclass(frozen=True)
class Inputs:
    """Everything under the results folder.

    Attributes:
        facts: what was scored and how.
        metrics: by method, the scores of all pairs under their short names.
        methods: in the order of display.
        compared: the two that are set side by side throughout.
        alphas: labels of the thresholds, the largest first.
        by_category, by_gap, by_geometry, by_mirror: scores by group, each a line per method and group.
        predictions: table of the evaluation.
        curves: training curves by file stem; a table without rows stands for "not measured".
    """

    facts: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    methods: list[str]
    compared: tuple[str, str]
    alphas: list[str]
    by_category: pd.DataFrame
    by_gap: pd.DataFrame
    by_geometry: pd.DataFrame
    by_mirror: pd.DataFrame
    predictions: pd.DataFrame
    curves: dict[str, pd.DataFrame]

    def interval(self, method: str, score: str) -> tuple[float, float] | None:
        """Lower and upper bound of a score, where the evaluation estimated them."""
        low, high = (self.metrics[method].get(f"{score}_{end}") for end in ENDS)
        return None if low is None or high is None else (float(low), float(high))


def read_inputs(results: Path, dataset: str, evaluate: EvaluateParams, compared: tuple[str, str]) -> Inputs:
    """Read a results folder, to set two methods side by side.

    Raises:
        InputError: if a file or a score is missing, or a file is no table of results.
        ProvenanceError: if the metrics belong to another data set, split, protocol or baseline.
    """
    path = results / METRICS
    facts = read_json(path, fix=RERUN)
    names = ("split", "protocol", "baseline")
    identity = {"dataset": dataset, **{name: getattr(evaluate, name) for name in names}}
    check_provenance(facts, expected=identity, where=path, fix=RERUN)
    try:
        scores = read_scores(results / SCORES)
    except (OSError, ValueError) as error:
        raise InputError(
            "not a table of scores", where=results / SCORES, found=str(error), fix=RERUN
        ) from error
    metrics = leaves(scores)
    methods = list(evaluate.methods)
    if unknown := [name for name in compared if name not in methods]:
        raise InputError(
            "bad value for report.compare", expected=f"two of {', '.join(methods)}", found=", ".join(unknown)
        )
    alphas = [alpha_label(alpha) for alpha in sorted(evaluate.alphas, reverse=True)]
    missing = [
        f"{method}.{metric}@{alpha}"
        for method in methods
        for metric in SHOWN
        for alpha in alphas
        if f"{metric}@{alpha}" not in metrics.get(method, {})
    ]
    if missing:
        raise InputError(
            "scores are missing", where=results / SCORES, expected=", ".join(missing[:4]), fix=RERUN
        )
    coordinates = ["x", "y", "target_x", "target_y", "error"]
    return Inputs(
        facts=facts,
        metrics=metrics,
        methods=methods,
        compared=compared,
        alphas=alphas,
        by_category=by_group(scores, "category").rename(columns={"group": "category"}),
        by_gap=by_group(scores, "azimuth_gap").rename(columns={"group": "gap"}).astype({"gap": int}),
        by_geometry=by_group(scores, "geometry"),
        by_mirror=by_group(scores, "mirror"),
        predictions=_read(results / PREDICTIONS, ["method", "source", "target", "keypoint_id"], coordinates),
        curves={name: _read(results / TRAINING / f"{name}.csv", [], ["step"], gaps=True) for name in CURVES},
    )


def check_tables(predictions: pd.DataFrame, tables: Tables) -> None:
    """Whether the tables show every predicted keypoint in both images of its pair.

    Raises:
        InputError: naming a keypoint that they do not show.
    """
    visible = tables.keypoints.loc[tables.keypoints["visible"] == 1, ["image_id", "keypoint_id"]]
    for side in ("source", "target"):
        asked = predictions[[side, "keypoint_id"]].drop_duplicates()
        known = pd.MultiIndex.from_frame(asked).isin(pd.MultiIndex.from_frame(visible))
        if not known.all():
            image, keypoint = asked.iloc[int(known.argmin())]
            raise InputError(
                "predictions and tables do not belong together",
                where=f"image {image}",
                expected=f"keypoints visible in the {side}",
                found=f"a prediction of keypoint {keypoint}",
                fix=RERUN,
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


def _read(path: Path, texts: Sequence[str], numbers: Sequence[str], *, gaps: bool = False) -> pd.DataFrame:
    """Read a CSV file; all columns but `texts` are numbers, with NaN allowed only where `gaps` says so."""
    kinds: defaultdict[str, Any] = defaultdict(lambda: np.float64, dict.fromkeys(texts, str))
    try:
        frame = pd.read_csv(path, dtype=kinds, keep_default_na=gaps)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise InputError("not a table of results", where=path, found=str(error), fix=RERUN) from error
    missing = [name for name in (*texts, *numbers) if name not in frame.columns]
    if missing:
        found = ", ".join(frame.columns)
        raise InputError(
            "columns are missing", where=path, expected=", ".join(missing), found=found, fix=RERUN
        )
    return frame

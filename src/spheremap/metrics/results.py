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
            keypoints visible in both images of a pair. Per method, in order, and threshold: `pck_point` over
            all points; `pck_image` mean over pairs with a point; `pck_category` mean over categories of the
            category's `pck_point`; `kap` mean over categories; `kap_pair` mean over categories weighted by
            their pairs with a keypoint in the source; `confusion` share of points predicted on another
            keypoint of the target (`repeated_parts.lands_on_another`). Where `bootstrap` samples were drawn,
            each such name also stands with `_low` and `_high`, the interval at level `confidence` over image
            pairs, and in methods other than the baseline with `_gain`, `_gain_low` and `_gain_high`: the
            difference to the baseline's score, in percentage points, with the interval of the paired
            bootstrap.
        by_category: the same by method and category.
        by_gap: PCK per point and confusion by method and azimuth gap in bins, for gaps with points; images of
            unknown azimuth are left out.
        predictions: one line per method and point: keypoint, prediction and truth in original target pixels,
            and the error as a share of the side that thresholds are shares of.
        weight_sweep: the metrics of a method on the validation pairs by one of its parameters, in the first
            column; without lines if no values are to be tried or no validation pair has a keypoint visible in
            both images. If 0 is among the values and samples were drawn, `pck_point` also stands with
            `_gain`, `_gain_low` and `_gain_high`: the difference to the value 0, as above.
    """

    metrics: dict[str, Any]
    by_category: pd.DataFrame
    by_gap: pd.DataFrame
    predictions: pd.DataFrame
    weight_sweep: pd.DataFrame


def write_results(directory: Path, results: Results, provenance: Mapping[str, Any]) -> None:
    """Write all files of an evaluation; they replace older ones only when every one is complete."""
    with ExitStack() as stack:
        # left in reverse order: what speaks for all others appears last
        files = {
            name: stack.enter_context(atomic_path(Path(directory) / name))
            for name in (PROVENANCE, METRICS, BY_CATEGORY, BY_GAP, WEIGHT_SWEEP, PREDICTIONS)
        }
        # methods stay in their order
        ordered = {
            key: dict(sorted(own.items())) if isinstance(own, dict) else own
            for key, own in results.metrics.items()
        }
        text = json.dumps(ordered, indent=2, allow_nan=False, ensure_ascii=False)
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

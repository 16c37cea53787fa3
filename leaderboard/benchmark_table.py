"""The lines of BENCHMARK.csv: reading, and making those of methods that were run here."""

import hashlib
import json
import lzma
import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from scipy.stats import t

from spheremap.base.files import atomic_path, write_csv
from spheremap.config.slices import read_params
from spheremap.metrics.score_table import read_scores

HERE = Path(__file__).parent
TABLE = HERE / "BENCHMARK.csv"
PREDICTIONS = (
    HERE / "predictions"
)  # of the drawn data set, which anybody can draw: a folder each, a file per method
STORED = ("shapes",)
REPORTED, RUN_HERE = "reported", "run here"

# What a line is about; then its value; then where a reported one stands, or how one was made here.
KEY = [
    "data_set",
    "trained_on",
    "method",
    "backbone",
    "supervision",
    "group",
    "metric",
    "average",
    "threshold",
]
NUMBERS = ["value", "low", "high", "gain", "gain_low", "gain_high", "spread", "n_pairs", "n_points"]
ORIGIN = [
    "source", "by", "place", "url",
    "implementation", "protocol", "commit", "parameters", "seeds", "hardware", "predictions",
]  # fmt: skip
COLUMNS = [*KEY, *NUMBERS, *ORIGIN]
GROUPS = {("all", "all"): "all", ("geometry", "aware"): "geometry-aware"}


def read_table() -> pd.DataFrame:
    """BENCHMARK.csv; what a line does not have is empty text, or NaN in the columns `NUMBERS`."""
    text = {column: str for column in COLUMNS if column not in NUMBERS}
    table = pd.read_csv(TABLE, dtype=text, keep_default_na=False, na_values={name: [""] for name in NUMBERS})
    return table[COLUMNS]


def enter(data_set: str, rows: pd.DataFrame) -> None:
    """Put the lines of a data set in the place of those that were made here before."""
    table = read_table()
    own = (table["source"] == RUN_HERE) & (table["data_set"] == data_set)
    place = int(own.to_numpy().argmax()) if own.any() else len(table)
    parts = [table[:place], rows[COLUMNS], table[place:][~own[place:]]]
    write_csv(TABLE, pd.concat(parts, ignore_index=True))


def run_rows(
    data_set: str, trained_on: str, folders: Mapping[int, Path], commit: str, runs: Mapping[str, Any]
) -> pd.DataFrame:
    """The lines of all methods of a data set.

    Args:
        folders: results of an evaluation, by training seed.
        commit: of the code.
        runs: runs.yaml.
    """
    told = {seed: json.loads((folder / "provenance.json").read_text()) for seed, folder in folders.items()}
    first = next(iter(folders.values()))
    facts = json.loads((first / "metrics.json").read_text())
    listed = runs["listed"]
    scores = []
    for seed, folder in folders.items():
        own = read_scores(folder / "scores.csv")
        own = own[(own["metric"] == listed["metric"]) & (own["threshold"] == listed["threshold"])]
        groups = pd.Series(zip(own["group_by"], own["group"], strict=True), index=own.index)
        scores.append(own.assign(group=groups.map(GROUPS), seed=seed).dropna(subset="group"))
    lines = []
    order = ["method", "group", "metric", "average", "threshold"]
    for key, own in pd.concat(scores).groupby(order, sort=False):
        lines.append(dict(zip(order, key, strict=True)) | over_seeds(own))
    table = pd.DataFrame(lines)
    table["predictions"] = table["method"].map(_predictions(data_set, folders))
    table["supervision"] = [_supervision(method, runs) for method in table["method"]]
    learned = ~table["supervision"].isin(runs["untrained"])
    constant = {
        "data_set": data_set,
        "backbone": read_params(first / "params.yaml")["features"]["backbone"],
        "source": RUN_HERE,
        "by": "spheremap",
        "place": "",
        "url": "",
        "implementation": "own",
        "protocol": facts["protocol"],
        "commit": commit,
        "parameters": " ".join(record["params_sha256"][:12] for record in told.values()),
        "seeds": " ".join(map(str, folders)),
        "hardware": _hardware(),
    }
    return table.assign(trained_on=learned.map({True: trained_on, False: ""}), **constant)[COLUMNS]


def over_seeds(scores: pd.DataFrame) -> dict[str, float]:
    """One score of several training seeds: means, and intervals that hold the seeds' spread, too.

    How far an end of the interval is from the mean is the root of the sum of two squares: the mean distance
    of the seeds' own ends, and the half width of Student's interval of the seeds' mean.
    """
    n = len(scores)
    line = {"n_pairs": int(scores["n_pairs"].iloc[0]), "n_points": int(scores["n_points"].iloc[0])}
    for name, low, high in (("value", "low", "high"), ("gain", "gain_low", "gain_high")):
        values = scores[name]
        line[name] = round(values.mean(), 4)
        between = t.ppf(0.975, n - 1) * values.std() / math.sqrt(n) if n > 1 else 0.0
        line[low] = round(line[name] - math.hypot((values - scores[low]).mean(), between), 4)
        line[high] = round(line[name] + math.hypot((scores[high] - values).mean(), between), 4)
    return line | {"spread": round(scores["value"].std(), 4) if n > 1 else math.nan}


def _predictions(data_set: str, folders: Mapping[int, Path]) -> dict[str, str]:
    """SHA-256 of the predictions of each method under all seeds; kept where the data set is `STORED`."""
    tables = []
    for seed, folder in folders.items():
        own = pd.read_csv(folder / "predictions.csv.gz", dtype=str)
        tables.append(own.assign(seed=seed))
    digests = {}
    for method, own in pd.concat(tables).groupby("method", sort=False):
        columns = ["seed", *(column for column in own if column not in ("seed", "method"))]
        content = lzma.compress(own[columns].to_csv(index=False, lineterminator="\n").encode(), preset=9)
        digests[str(method)] = hashlib.sha256(content).hexdigest()
        if data_set in STORED:
            with atomic_path(PREDICTIONS / data_set / f"{method}.csv.xz") as file:
                file.write_bytes(content)
    return digests


def _supervision(method: str, runs: Mapping[str, Any]) -> str:
    for kind, methods in runs["supervision"].items():
        if method in methods:
            return str(kind)
    return str(list(runs["supervision"])[-1])


def _hardware() -> str:
    """The processor, its number of cores, and the GPU, in words."""
    processor = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{processor}, {os.cpu_count()} cores, {gpu}"

"""The trials as a CSV file, one line each, and as a table in the documentation."""

import csv
from pathlib import Path

import pandas as pd
from trials import Outcome, Trial, Verdict

COLUMNS = ("fault", "case", "number", "verdict", "seconds", "code", "detail")
BEGIN, END = "<!-- begin: written by crash/run.py -->", "<!-- end -->"


class Record:
    """The CSV file, to which every trial is added as soon as it has ended."""

    def __init__(self, path: Path, code: str) -> None:
        self._path, self._code = path, code
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            self._write(list(COLUMNS), "w")
        known = read(path)
        own = known[known["code"] == code]
        self.done = set(zip(own["fault"], own["case"], own["number"], strict=True))

    def add(self, trial: Trial, outcome: Outcome, seconds: float) -> None:
        self.done.add(trial.key)
        row = [
            *trial.key,
            outcome.verdict,
            f"{seconds:.1f}",
            self._code,
            " ".join(outcome.detail.split())[:400],
        ]
        self._write(row, "a")

    def _write(self, row: list, mode: str) -> None:
        with self._path.open(mode, newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerow(row)


def read(path: Path) -> pd.DataFrame:
    """All trials in the file."""
    return pd.read_csv(path, dtype={"code": "str", "detail": "str"}, keep_default_na=False)


def summary(trials: pd.DataFrame) -> str:
    """A table by fault, of the trials of the code tried last."""
    lines = [
        "| fault | times tried | finished identically | stopped with a clear error | wrong |",
        "|---|---|---|---|---|",
    ]
    current = trials[trials["code"] == trials["code"].iloc[-1]] if len(trials) else trials
    groups = [(str(fault), own) for fault, own in current.groupby("fault", sort=True)]
    for fault, own in [*groups, ("**all**", current)]:
        counts = [int((own["verdict"] == verdict).sum()) for verdict in Verdict]
        lines.append(f"| {fault} | {len(own)} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def write_docs(path: Path, trials: pd.DataFrame) -> None:
    """Write the table between its marks on the page, if it has them."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{summary(trials)}\n{END}{after}", encoding="utf-8")

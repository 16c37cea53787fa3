"""The scores of an evaluation as aligned text."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spheremap.errors import InputError
from spheremap.evaluation.results import BY_GAP
from spheremap.files import read_json

ORDER = ("features", "sphere", "fused", "chance")  # any other row follows
GROUPS = {
    "PCK per point": "pck_point",
    "per image": "pck_image",
    "per category": "pck_category",
    "KAP": "kap",
}


def format_file(path: Path) -> str:
    """The scores of a metrics file, and those by azimuth gap if their table lies beside it.

    Raises:
        InputError: if a file is missing or malformed.
    """
    gaps = Path(path).with_name(BY_GAP)
    current = Path(path)
    try:
        parts = [format_metrics(read_json(current))]
        if gaps.exists():
            current = gaps
            parts.append(format_gaps(pd.read_csv(gaps)))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            "not a result of an evaluation",
            where=current,
            expected="metrics.json and by_azimuth_gap.csv as `spheremap evaluate` writes them",
            found=f"{type(error).__name__}: {error}",
        ) from error
    return "\n\n".join(part for part in parts if part)


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Rows against PCK in its three averages and KAP, at every threshold."""
    rows = _ordered(name for name, value in metrics.items() if isinstance(value, dict))
    alphas = sorted((key[4:] for key in metrics[rows[0]] if key.startswith("kap@")), key=float, reverse=True)
    title = (
        f"{metrics['dataset']}, {metrics['split']}: {metrics['n_pairs']} pairs of "
        f"{metrics['n_images']} images, {metrics['n_points']} points, seed {metrics['seed']}; in percent"
    )
    cells = [
        [row, *(f"{metrics[row][f'{g}@{a}']:.1f}" for g in GROUPS.values() for a in alphas)] for row in rows
    ]
    columns = ["", *(f"@{alpha}" for _ in GROUPS for alpha in alphas)]
    lines = _align([columns, *cells])
    # each group's name above its first column
    start, group_width = len(lines[0]) - (len(columns) - 1) * _COLUMN, len(alphas) * _COLUMN
    groups = " " * start + "".join(f"  {name:<{group_width - 2}}" for name in GROUPS)
    return "\n".join([title, "", groups.rstrip(), *lines])


def format_gaps(by_gap: pd.DataFrame) -> str:
    """PCK per point at the largest threshold, by azimuth gap; empty if no viewpoint is known."""
    if by_gap.empty:
        return ""
    alpha = max(
        (name.partition("@")[2] for name in by_gap.columns if name.startswith("pck_point@")), key=float
    )
    scores = by_gap.pivot(index="row", columns="gap", values=f"pck_point@{alpha}")
    counts = by_gap.groupby("gap")["n_points"].first()
    cells = [[row, *(f"{score:.1f}" for score in scores.loc[row])] for row in _ordered(by_gap["row"])]
    lines = _align([["gap", *map(str, scores.columns)], *cells, ["points", *map(str, counts)]])
    return "\n".join([f"PCK@{alpha} per point by azimuth gap, in bins", "", *lines])


_COLUMN = 8


def _align(cells: Sequence[Sequence[str]]) -> list[str]:
    """First column to the left, the others to the right."""
    width = max(len(line[0]) for line in cells)
    return [line[0].ljust(width) + "".join(cell.rjust(_COLUMN) for cell in line[1:]) for line in cells]


def _ordered(rows: Iterable[str]) -> list[str]:
    rows = list(dict.fromkeys(rows))
    if not rows:
        raise ValueError("no row of scores")
    return sorted(rows, key=lambda row: (ORDER.index(row) if row in ORDER else len(ORDER), row))

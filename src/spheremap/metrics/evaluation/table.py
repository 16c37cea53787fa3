"""The scores of an evaluation as aligned text."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.files import read_json
from spheremap.methods.descriptors import CHANCE
from spheremap.metrics.evaluation.record import RERUN, check_files, read_record
from spheremap.metrics.evaluation.results import BY_GAP, PROVENANCE, WEIGHT_SWEEP

ORDER = ("features", "sphere", "fused")  # any other row follows, and chance is the last
GROUPS = {
    "PCK per point": "pck_point",
    "per image": "pck_image",
    "per category": "pck_category",
    "KAP": "kap",
}


def format_file(path: Path) -> tuple[str, list[str]]:
    """The scores of an evaluation, of all points, by azimuth gap and by sphere weight.

    Args:
        path: its metrics.json; the record and the tables of the same evaluation lie beside it.

    Returns:
        The text, and the names of files that the evaluation wrote, are not there and were not needed here.

    Raises:
        InputError: if the record or a file that is shown is missing or malformed.
        ProvenanceError: if a file was changed or is of another run.
    """
    current = path = Path(path)
    files = read_record(path.parent)["files"]
    shown = (path.name, BY_GAP, WEIGHT_SWEEP)
    if unknown := [name for name in shown if name not in files]:
        raise ProvenanceError(
            "a file of results is not in the record of the evaluation",
            where=path.parent / PROVENANCE,
            expected=", ".join(unknown),
            found=", ".join(files),
            fix=f"name the metrics.json of an evaluation, or {RERUN}",
        )
    absent = [name for name in files if name not in shown and not path.with_name(name).exists()]
    check_files({path.with_name(name): sha256 for name, sha256 in files.items() if name not in absent})
    try:
        metrics = read_json(current)
        parts = [format_metrics(metrics), format_intervals(metrics)]
        for name, show in ((BY_GAP, format_gaps), (WEIGHT_SWEEP, format_sweep)):
            current = path.with_name(name)
            parts.append(show(pd.read_csv(current)))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            "not a result of an evaluation",
            where=current,
            expected="metrics.json and the tables beside it as `spheremap evaluate` writes them",
            found=f"{type(error).__name__}: {error}",
        ) from error
    return "\n\n".join(part for part in parts if part), absent


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Rows against PCK in its three averages and KAP, at every threshold."""
    rows = _ordered(name for name, value in metrics.items() if isinstance(value, dict))
    alphas = _alphas(metrics[rows[0]])
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
    protocol = [metrics["protocol"]] if "protocol" in metrics else []
    return "\n".join([title, *protocol, "", groups.rstrip(), *lines])


def format_intervals(metrics: Mapping[str, Any]) -> str:
    """Intervals at the largest threshold, of the scores and of the gains; empty if none were computed."""
    if not metrics.get("bootstrap"):
        return ""
    rows = _ordered(name for name, value in metrics.items() if isinstance(value, dict))
    baseline, alpha = metrics["baseline"], _alphas(metrics[rows[0]])[0]

    def cells(row: str, kind: str, form: str) -> list[str]:
        own = metrics[row]
        keys = [f"{group}@{alpha}{kind}" for group in GROUPS.values()]
        return [f"{own[k]:{form}} [{own[f'{k}_low']:{form}}, {own[f'{k}_high']:{form}}]" for k in keys]

    header = ["", *GROUPS]
    lines = [[row, *cells(row, "", ".1f")] for row in rows]
    lines += [[f"{row} - {baseline}", *cells(row, "_gain", "+.1f")] for row in rows if row != baseline]
    title = (
        f"{100 * metrics['confidence']:g} % intervals @{alpha}: bootstrap over image pairs, "
        f"{metrics['bootstrap']} samples; differences on the same samples"
    )
    return "\n".join([title, "", *_align([header, *lines], _WIDE)])


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


def format_sweep(weight_sweep: pd.DataFrame) -> str:
    """PCK per point and KAP at the largest threshold, by sphere weight; empty if none was tried."""
    if weight_sweep.empty:
        return ""
    alpha = _alphas(weight_sweep.columns)[0]
    names = [f"pck_point@{alpha}", f"kap@{alpha}"]
    lines = [
        [label, *(f"{value:{form}}" for value in weight_sweep[name])]
        for label, name, form in (
            ("sphere weight", "sphere_weight", "g"),
            ("PCK per point", names[0], ".1f"),
            ("KAP", names[1], ".1f"),
        )
    ]
    best = weight_sweep["sphere_weight"].iloc[int(weight_sweep[names[0]].argmax())]
    points = weight_sweep["n_points"].iloc[0]
    title = f"fused @{alpha} on {points} validation points by sphere weight; best PCK at {best:g}"
    return "\n".join([title, "", *_align(lines)])


_COLUMN, _WIDE = 8, 22


def _align(cells: Sequence[Sequence[str]], column: int = _COLUMN) -> list[str]:
    """First column to the left, the others to the right."""
    width = max(len(line[0]) for line in cells)
    return [line[0].ljust(width) + "".join(cell.rjust(column) for cell in line[1:]) for line in cells]


def _alphas(names: Iterable[str]) -> list[str]:
    """Labels of the thresholds, the largest first."""
    labels = {name.removeprefix("kap@").partition("_")[0] for name in names if name.startswith("kap@")}
    return sorted(labels, key=float, reverse=True)


def ordered(rows: Iterable[str]) -> list[str]:
    """Rows of the table as they are shown: the paper's, those beyond it by name, and chance."""
    place = {row: number for number, row in enumerate(ORDER)}
    return sorted(dict.fromkeys(rows), key=lambda row: (place.get(row, len(ORDER)), row == CHANCE, row))


def _ordered(rows: Iterable[str]) -> list[str]:
    result = ordered(rows)
    if not result:
        raise ValueError("no row of scores")
    return result

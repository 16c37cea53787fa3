"""The scores of an evaluation as aligned text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.files import read_json
from spheremap.metrics.catalogue import SHOWN
from spheremap.metrics.record import RERUN, check_files, read_record
from spheremap.metrics.results import BY_GAP, PROVENANCE, WEIGHT_SWEEP
from spheremap.metrics.sweep import alphas_of, best_of


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
    """Methods against the metrics that have a title, at every threshold."""
    methods = _methods(metrics)
    alphas = alphas_of(metrics[methods[0]])
    title = (
        f"{metrics['dataset']}, {metrics['split']}: {metrics['n_pairs']} pairs of "
        f"{metrics['n_images']} images, {metrics['n_points']} points, seed {metrics['seed']}; in percent"
    )
    cells = [
        [name, *(f"{metrics[name][f'{metric}@{alpha}']:.1f}" for metric in SHOWN for alpha in alphas)]
        for name in methods
    ]
    columns = ["", *(f"@{alpha}" for _ in SHOWN for alpha in alphas)]
    lines = _align([columns, *cells])
    # each metric's title above its first column
    start, group_width = len(lines[0]) - (len(columns) - 1) * _COLUMN, len(alphas) * _COLUMN
    groups = " " * start + "".join(f"  {title:<{group_width - 2}}" for title in SHOWN.values())
    protocol = [metrics["protocol"]] if "protocol" in metrics else []
    return "\n".join([title, *protocol, "", groups.rstrip(), *lines])


def format_intervals(metrics: Mapping[str, Any]) -> str:
    """Intervals at the largest threshold, of the scores and of the gains; empty if none were computed."""
    if not metrics.get("bootstrap"):
        return ""
    methods = _methods(metrics)
    baseline, alpha = metrics["baseline"], alphas_of(metrics[methods[0]])[0]

    def cells(method: str, kind: str, form: str) -> list[str]:
        own = metrics[method]
        keys = [f"{metric}@{alpha}{kind}" for metric in SHOWN]
        return [f"{own[k]:{form}} [{own[f'{k}_low']:{form}}, {own[f'{k}_high']:{form}}]" for k in keys]

    lines = [[name, *cells(name, "", ".1f")] for name in methods]
    lines += [[f"{name} - {baseline}", *cells(name, "_gain", "+.1f")] for name in methods if name != baseline]
    title = (
        f"{100 * metrics['confidence']:g} % intervals @{alpha}: bootstrap over image pairs, "
        f"{metrics['bootstrap']} samples; differences on the same samples"
    )
    return "\n".join([title, "", *_align([["", *SHOWN.values()], *lines], _WIDE)])


def format_gaps(by_gap: pd.DataFrame) -> str:
    """PCK per point at the largest threshold, by azimuth gap; empty if no viewpoint is known."""
    if by_gap.empty:
        return ""
    alpha = alphas_of(by_gap.columns)[0]
    scores = by_gap.pivot(index="method", columns="gap", values=f"pck_point@{alpha}")
    counts = by_gap.groupby("gap")["n_points"].first()
    cells = [[name, *(f"{score:.1f}" for score in scores.loc[name])] for name in by_gap["method"].unique()]
    lines = _align([["gap", *map(str, scores.columns)], *cells, ["points", *map(str, counts)]])
    return "\n".join([f"PCK@{alpha} per point by azimuth gap, in bins", "", *lines])


def format_sweep(weight_sweep: pd.DataFrame) -> str:
    """PCK per point and KAP at the largest threshold, by the parameter tried; empty if none was."""
    if weight_sweep.empty:
        return ""
    parameter, alpha = weight_sweep.columns[0], alphas_of(weight_sweep.columns)[0]
    names = {parameter: "g"} | {f"{metric}@{alpha}": ".1f" for metric in ("pck_point", "kap")}
    titles = (parameter.replace("_", " "), SHOWN["pck_point"], SHOWN["kap"])
    lines = [
        [title, *(f"{value:{form}}" for value in weight_sweep[name])]
        for title, (name, form) in zip(titles, names.items(), strict=True)
    ]
    best, points = best_of(weight_sweep), weight_sweep["n_points"].iloc[0]
    gain = f", {best.gain} over 0" if best.gain and best.value else ""
    title = f"@{alpha} on {points} validation points by {titles[0]}; best PCK at {best.value:g}{gain}"
    return "\n".join([title, "", *_align(lines)])


_COLUMN, _WIDE = 8, 22


def _align(cells: Sequence[Sequence[str]], column: int = _COLUMN) -> list[str]:
    """First column to the left, the others to the right."""
    width = max(len(line[0]) for line in cells)
    return [line[0].ljust(width) + "".join(cell.rjust(column) for cell in line[1:]) for line in cells]


def _methods(metrics: Mapping[str, Any]) -> list[str]:
    found = [name for name, value in metrics.items() if isinstance(value, dict)]
    if not found:
        raise ValueError("no scores of a method")
    return found

"""The scores of an evaluation as aligned text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.files import read_json
from spheremap.metrics.catalogue import SHOWN
from spheremap.metrics.record import RERUN, check_files, read_record
from spheremap.metrics.results import PROVENANCE, SCORES, WEIGHT_SWEEP
from spheremap.metrics.score_table import alphas_of, by_group, leaves, read_scores
from spheremap.metrics.sweep import best_of


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
    shown = (path.name, SCORES, *({WEIGHT_SWEEP} & files.keys()))
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
        facts = read_json(current)
        current = path.with_name(SCORES)
        scores = read_scores(current)
        parts = [show(facts, scores) for show in (format_metrics, format_intervals)]
        parts += [format_gaps(scores), format_left_right(scores)]
        if WEIGHT_SWEEP in files:
            current = path.with_name(WEIGHT_SWEEP)
            parts.append(format_sweep(pd.read_csv(current)))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            "not a result of an evaluation",
            where=current,
            expected="metrics.json and the tables beside it as `spheremap evaluate` writes them",
            found=f"{type(error).__name__}: {error}",
        ) from error
    return "\n\n".join(part for part in parts if part), absent


def format_metrics(facts: Mapping[str, Any], scores: pd.DataFrame) -> str:
    """Methods against the metrics that have a title, at every threshold."""
    by_method = leaves(scores)
    alphas = alphas_of(_any(by_method))
    shown = _shown(by_method, alphas[0])
    title = (
        f"{facts['dataset']}, {facts['split']}: {facts['n_pairs']} pairs of "
        f"{facts['n_images']} images, {facts['n_points']} points; in percent"
    )
    cells = [
        [name, *(f"{own[f'{metric}@{alpha}']:.1f}" for metric in shown for alpha in alphas)]
        for name, own in by_method.items()
    ]
    columns = ["", *(f"@{alpha}" for _ in shown for alpha in alphas)]
    lines = _align([columns, *cells])
    # each metric's title above its first column
    start, group_width = len(lines[0]) - (len(columns) - 1) * _COLUMN, len(alphas) * _COLUMN
    groups = " " * start + "".join(f"  {title:<{group_width - 2}}" for title in shown.values())
    told = [facts[key] for key in ("protocol", "missing") if key in facts]
    return "\n".join([title, *told, "", groups.rstrip(), *lines])


def format_intervals(facts: Mapping[str, Any], scores: pd.DataFrame) -> str:
    """Intervals at the largest threshold, of the scores and of the gains; empty if none were computed."""
    by_method = leaves(scores)
    alpha = alphas_of(_any(by_method))[0]
    shown = _shown(by_method, alpha)

    def cells(method: str, kind: str, form: str) -> list[str]:
        own = by_method[method]
        keys = [f"{metric}@{alpha}{kind}" for metric in shown]
        return [f"{own[k]:{form}} [{own[f'{k}_low']:{form}}, {own[f'{k}_high']:{form}}]" for k in keys]

    if not any(f"{metric}@{alpha}_low" in own for own in by_method.values() for metric in shown):
        return ""
    lines = [[name, *cells(name, "", ".1f")] for name in by_method]
    for name, own in by_method.items():
        if f"pck_point@{alpha}_gain" in own:
            lines.append([f"{name} - {facts['baseline']}", *cells(name, "_gain", "+.1f")])
    title = f"intervals @{alpha}: {facts['intervals']}; differences on the same samples"
    return "\n".join([title, "", *_align([["", *shown.values()], *lines], _WIDE)])


def format_gaps(scores: pd.DataFrame) -> str:
    """PCK per point at the largest threshold, by azimuth gap; empty if no viewpoint is known."""
    gaps = by_group(scores, "azimuth_gap")
    if gaps.empty:
        return ""
    alpha = alphas_of(gaps.columns)[0]
    return _by_method(gaps, f"pck_point@{alpha}", "gap", f"PCK@{alpha} per point by azimuth gap, in bins")


def format_left_right(scores: pd.DataFrame) -> str:
    """PCK per point by what else the target shows, and left/right errors; empty where that is not known."""
    alpha = alphas_of(_any(leaves(scores)))[0]
    parts = []
    for by, title in (
        ("geometry", "geometry-aware keypoints or others"),
        ("mirror", "mirror keypoint visible"),
    ):
        frame = by_group(scores, by)
        if not frame.empty:
            parts.append(_by_method(frame, f"pck_point@{alpha}", "", f"PCK@{alpha} per point by {title}"))
    wrong = {name: own["mirrored"] for name, own in leaves(scores).items() if "mirrored" in own}
    if wrong:
        lines = _align([[name, f"{value:.1f}"] for name, value in wrong.items()])
        parts.append("\n".join(["nearer to the mirror keypoint, where it is visible", "", *lines]))
    return "\n\n".join(parts)


def _by_method(frame: pd.DataFrame, score: str, corner: str, title: str) -> str:
    """Methods against groups."""
    groups = list(dict.fromkeys(frame["group"]))
    values = frame.pivot(index="method", columns="group", values=score)[groups]
    cells = [[name, *(_number(value) for value in values.loc[name])] for name in frame["method"].unique()]
    # where predictions are missing, methods have answered different points
    counts = (
        sorted({min(own), max(own)}) for own in (frame["n_points"][frame["group"] == g] for g in groups)
    )
    points = ["–".join(map(str, ends)) for ends in counts]
    lines = _align([[corner, *groups], *cells, ["points", *points]], 10)
    return "\n".join([title, "", *lines])


def _number(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.1f}"


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


def _any(by_method: Mapping[str, dict[str, float]]) -> dict[str, float]:
    if not by_method:
        raise ValueError("no scores of a method")
    return next(iter(by_method.values()))


def _shown(by_method: Mapping[str, dict[str, float]], alpha: str) -> dict[str, str]:
    """Titles of the metrics that all methods have: predictions without similarities have no KAP."""
    return {
        metric: title
        for metric, title in SHOWN.items()
        if all(f"{metric}@{alpha}" in own for own in by_method.values())
    }

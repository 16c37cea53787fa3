"""Scores as tables for the page: what stands in which cell, and which cells are best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spheremap.metrics.catalogue import SHOWN
from spheremap.report.inputs import Inputs


@dataclass(frozen=True)
class Cell:
    """A number of a table.

    Attributes:
        value: as computed; NaN shows as a dash.
        style: "score" (one decimal), "gain" (with sign) or "count".
        best: whether it is the best of its kind.
        interval: lower and upper bound, if they were estimated.
    """

    value: float
    style: str = "score"
    best: bool = False
    interval: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """As shown."""
        if np.isnan(self.value):
            return "–"
        if self.style == "count":
            return f"{self.value:,.0f}"
        if self.style == "gain":
            return f"{self.value:+.1f}".replace("-", "−")
        return f"{self.value:.1f}"

    @property
    def bounds(self) -> str:
        """The interval as shown; empty without one."""
        if self.interval is None:
            return ""
        form = "{:+.1f} to {:+.1f}" if self.style == "gain" else "{:.1f}–{:.1f}"
        return form.format(*self.interval).replace("-", "−")


@dataclass(frozen=True)
class Table:
    """Groups of columns over rows of cells; a group without name has no heading of its own."""

    caption: str
    corner: str
    groups: list[tuple[str, int]]
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


@dataclass(frozen=True)
class Tile:
    """One headline comparison of two methods, in percent."""

    title: str
    before: float
    after: float
    interval: tuple[float, float] | None = None  # of the gain

    @property
    def gain(self) -> Cell:
        """The difference, in points."""
        return Cell(self.after - self.before, "gain", interval=self.interval)


def headline(inputs: Inputs) -> Table:
    """All methods against all metrics that have a title and thresholds, the best of each column marked."""
    keys = [f"{metric}@{alpha}" for metric in SHOWN for alpha in inputs.alphas]
    best = {key: max(inputs.metrics[method][key] for method in inputs.methods) for key in keys}
    intervals = any(inputs.interval(method, key) for method in inputs.methods for key in keys)
    return Table(
        caption="Percent right; higher is better, the best of each column is marked."
        + (f" Small: intervals, {inputs.facts['intervals']}." if intervals else ""),
        corner="method",
        groups=[(title, len(inputs.alphas)) for title in SHOWN.values()],
        columns=[f"@{alpha}" for _ in SHOWN for alpha in inputs.alphas],
        rows=[
            (
                method,
                [
                    Cell(
                        float(inputs.metrics[method][key]),
                        best=inputs.metrics[method][key] == best[key],
                        interval=inputs.interval(method, key),
                    )
                    for key in keys
                ],
            )
            for method in inputs.methods
        ],
    )


def tiles(inputs: Inputs, far: int, far_title: str) -> list[Tile]:
    """The compared methods at the largest threshold: all points, points at `far` bins and more, and KAP."""
    alpha = inputs.alphas[0]
    before, after = (inputs.metrics[method] for method in inputs.compared)

    def tile(title: str, key: str) -> Tile:
        paired = inputs.facts.get("baseline") == inputs.compared[0]
        interval = inputs.interval(inputs.compared[1], f"{key}_gain") if paired else None
        return Tile(title, before[key], after[key], interval)

    result = [tile(f"PCK@{alpha} per point", f"pck_point@{alpha}")]
    distant = inputs.by_gap[inputs.by_gap["gap"] >= far]
    if not distant.empty:
        far_before, far_after = (_pooled(distant, method, f"pck_point@{alpha}") for method in inputs.compared)
        result.append(Tile(far_title, far_before, far_after))
    return [*result, tile(f"KAP@{alpha}", f"kap@{alpha}")]


def _pooled(frame: pd.DataFrame, method: str, metric: str) -> float:
    own = frame[frame["method"] == method]
    return float(np.average(own[metric], weights=own["n_points"]))


def by_gap(inputs: Inputs, bins: int) -> Table:
    """The compared methods at each azimuth gap and threshold."""
    frame = inputs.by_gap.set_index(["method", "gap"]).sort_index()
    rows = []
    for gap in sorted(inputs.by_gap["gap"].unique()):
        before, after = (frame.loc[(method, gap)] for method in inputs.compared)
        cells = [Cell(before["n_points"], "count")]
        for alpha in inputs.alphas:
            cells += _compare(before[f"pck_point@{alpha}"], after[f"pck_point@{alpha}"])
        rows.append((f"{gap:g} ({gap * 360 / bins:g}°)", cells))
    return Table(
        caption="PCK per point by azimuth gap in bins, in percent, and the gain in points.",
        corner="gap",
        groups=[("", 1), *((f"PCK@{alpha}", 3) for alpha in inputs.alphas)],
        columns=["points", *([*inputs.compared, "gain"] * len(inputs.alphas))],
        rows=rows,
    )


def by_category(inputs: Inputs) -> Table:
    """The compared methods in each category at the largest threshold."""
    alpha = inputs.alphas[0]
    metrics = {f"pck_point@{alpha}": f"PCK@{alpha} per point", f"kap@{alpha}": f"KAP@{alpha}"}
    frame = inputs.by_category.set_index(["method", "category"]).sort_index()
    rows = []
    for category in sorted(inputs.by_category["category"].unique()):
        before, after = (frame.loc[(method, category)] for method in inputs.compared)
        cells = [Cell(before["n_pairs"], "count"), Cell(before["n_points"], "count")]
        for metric in metrics:
            cells += _compare(before[metric], after[metric])
        rows.append((category, cells))
    return Table(
        caption="In each category, in percent, and the gain in points.",
        corner="category",
        groups=[("", 2), *((title, 3) for title in metrics.values())],
        columns=["pairs", "points", *([*inputs.compared, "gain"] * len(metrics))],
        rows=rows,
    )


def by_likes(inputs: Inputs) -> list[Table]:
    """The compared methods by what else the target shows; nothing where that is not known."""
    geometry = {"aware": "others of its group are visible (geometry-aware)", "other": "none are"}
    mirror = {"both": "visible", "one": "hidden", "unpaired": "there is none"}
    frames = {"keypoint": (inputs.by_geometry, geometry), "mirror keypoint": (inputs.by_mirror, mirror)}
    tables = []
    for corner, (frame, titles) in frames.items():
        if frame.empty:
            continue
        own = frame.set_index(["method", "group"])
        rows: list[tuple[str, list[Cell]]] = []
        for group in [group for group in titles if group in set(frame["group"])]:
            before, after = (own.loc[[(method, group)]].iloc[0] for method in inputs.compared)
            cells = [Cell(before["n_points"], "count")]
            for alpha in inputs.alphas:
                cells += _compare(before[f"pck_point@{alpha}"], after[f"pck_point@{alpha}"])
            rows.append((titles[group], cells))
        tables.append(
            Table(
                caption="PCK per point, in percent, and the gain in points.",
                corner=corner,
                groups=[("", 1), *((f"PCK@{alpha}", 3) for alpha in inputs.alphas)],
                columns=["points", *([*inputs.compared, "gain"] * len(inputs.alphas))],
                rows=rows,
            )
        )
    return tables


def mirrored(inputs: Inputs) -> list[tuple[str, Cell]]:
    """By method, how many predictions are nearer to the mirror keypoint, of those that could be."""
    return [
        (method, Cell(inputs.metrics[method]["mirrored"], interval=inputs.interval(method, "mirrored")))
        for method in inputs.methods
        if "mirrored" in inputs.metrics[method]
    ]


def _compare(before: float, after: float) -> Sequence[Cell]:
    before, after = float(before), float(after)
    return Cell(before, best=before >= after), Cell(after, best=after >= before), Cell(after - before, "gain")

"""Scores as tables for the page: what stands in which cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from spheremap.metrics.catalogue import SHOWN
from spheremap.report.inputs import Inputs


@dataclass(frozen=True)
class Cell:
    """A number of a table.

    Attributes:
        value: as computed; NaN shows as a dash.
        style: "score" (one decimal, higher is better), "share" (one decimal), "gain" (with sign) or "count".
        interval: lower and upper bound, if they were estimated.
    """

    value: float
    style: str = "score"
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
    """Methods against groups of columns.

    Attributes:
        caption: what the numbers are.
        groups: headings and the columns of each.
        counts: lines above the methods: what is counted, and how many in each column.
        rows: the cells of each method.
        over_baseline: what the caption says before the name of a baseline; empty where no gains are shown.
            The page fills them in for the baseline that is chosen, below scores or in the place of gains.
    """

    caption: str
    groups: dict[str, list[str]]
    rows: dict[str, list[Cell]]
    counts: dict[str, list[Cell]] = field(default_factory=dict)
    over_baseline: str = ""


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
    """All methods against all metrics that have a title and thresholds."""
    keys = [f"{metric}@{alpha}" for metric in SHOWN for alpha in inputs.alphas]
    rows = {
        method: [Cell(inputs.metrics[method][key], interval=inputs.interval(method, key)) for key in keys]
        for method in inputs.methods
    }
    intervals = any(cell.interval for cells in rows.values() for cell in cells)
    return Table(
        caption="Percent right; higher is better, the best shown of each column is marked."
        + (f" Small: intervals, {inputs.facts['intervals']}." if intervals else ""),
        groups={title: [f"@{alpha}" for alpha in inputs.alphas] for title in SHOWN.values()},
        rows=rows,
    )


def gains(inputs: Inputs) -> Table:
    """Gains in the same scores over the evaluation's baseline, whose own are dashes."""
    keys = [f"{metric}@{alpha}_gain" for metric in SHOWN for alpha in inputs.alphas]
    return Table(
        caption="Differences of the scores.",
        groups=headline(inputs).groups,
        rows={
            method: [
                Cell(inputs.metrics[method].get(key, np.nan), "gain", inputs.interval(method, key))
                for key in keys
            ]
            for method in inputs.methods
        },
        over_baseline="Gain over",
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
    """PCK at each azimuth gap and threshold."""
    gaps = sorted(inputs.by_gap["gap"].unique())
    metrics = {f"pck_point@{alpha}": f"PCK@{alpha} per point" for alpha in inputs.alphas}
    return _by_group(
        inputs.by_gap, "gap", {gap: f"{gap * 360 / bins:g}°" for gap in gaps}, metrics, inputs.methods,
        "By azimuth gap between source and target, in percent.",
    )  # fmt: skip


def by_category(inputs: Inputs) -> list[Table]:
    """PCK and KAP in each category at the largest threshold; KAP asks about more points than are counted."""
    alpha = inputs.alphas[0]
    names = {name: name for name in sorted(inputs.by_category["category"].unique())}
    pck, kap = (
        _by_group(inputs.by_category, "category", names, {f"{metric}@{alpha}": title}, inputs.methods,
                  f"{title} in each category, in percent.")
        for metric, title in (("pck_point", f"PCK@{alpha} per point"), ("kap", f"KAP@{alpha}"))
    )  # fmt: skip
    return [pck, replace(kap, counts={})]


def by_likes(inputs: Inputs) -> list[Table]:
    """PCK by what else the target shows; nothing where that is not known."""
    geometry = {"aware": "others visible", "other": "none visible"}
    mirror = {"both": "visible", "one": "hidden", "unpaired": "none"}
    frames = (
        ("By other keypoints of the same group (geometry-aware)", inputs.by_geometry, geometry),
        ("By the mirror keypoint", inputs.by_mirror, mirror),
    )
    metrics = {f"pck_point@{alpha}": f"PCK@{alpha} per point" for alpha in inputs.alphas}
    return [
        _by_group(
            frame, "group", {group: title for group, title in titles.items() if group in set(frame["group"])},
            metrics, inputs.methods, f"{caption}, in percent.",
        )
        for caption, frame, titles in frames
        if not frame.empty
    ]  # fmt: skip


def nearer_to_mirror(inputs: Inputs) -> Table | None:
    """How many predictions are nearer to the mirror keypoint, of those that could be; None if none could."""
    rows = {
        method: [Cell(own["mirrored"], "share", inputs.interval(method, "mirrored"))]
        for method in inputs.methods
        if "mirrored" in (own := inputs.metrics[method])
    }
    caption = "Of the points whose mirror keypoint the target shows, in percent; lower is better."
    return Table(caption, {"predicted nearer to the mirror keypoint": [""]}, rows) if rows else None


def _by_group(
    frame: pd.DataFrame,
    column: str,
    titles: Mapping[Any, str],
    metrics: Mapping[str, str],
    methods: Sequence[str],
    caption: str,
) -> Table:
    """Methods against groups, for each metric.

    Args:
        frame: of `score_table.by_group`.
        column: of the frame, which names the groups.
        titles, metrics: headings of the groups and of the metrics.
    """
    own = frame.set_index(["method", column]).astype(float).to_dict()
    counts = {"pairs": own["n_pairs"], "points": own["n_points"]}
    return Table(
        caption=caption,
        groups={title: list(titles.values()) for title in metrics.values()},
        counts={
            name: [Cell(count[methods[0], group], "count") for _ in metrics for group in titles]
            for name, count in counts.items()
        },
        rows={
            method: [Cell(own[key][method, group]) for key in metrics for group in titles]
            for method in methods
        },
        over_baseline="Small: the gain over",
    )

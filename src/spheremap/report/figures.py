"""Charts as SVG pictures in the colours of a light and of a dark page; same data, same bytes."""

import base64
import io
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.transforms import Affine2D

from spheremap.report.confusion import Confusion
from spheremap.report.names import readable

# what has one colour in the light theme has one in the dark theme as well
LIGHT = {
    "paper": "#ffffff", "ink": "#16191d", "muted": "#5c6672", "grid": "#dde1e6",
    "features": "#0072b2", "sphere": "#9a6fb0", "fused": "#d55e00", "chance": "#8a929b",
    "series-1": "#0072b2", "series-2": "#d55e00", "series-3": "#009e73", "series-4": "#b0609a",
}  # fmt: skip
DARK = {
    "paper": "#14171a", "ink": "#eceff2", "muted": "#a2acb7", "grid": "#343a41",
    "features": "#56b4e9", "sphere": "#c79fdb", "fused": "#ff8f4a", "chance": "#868f99",
    "series-1": "#56b4e9", "series-2": "#ff8f4a", "series-3": "#2fc79b", "series-4": "#e59acb",
}  # fmt: skip
_SERIES = [name for name in LIGHT if name.startswith("series-")]
_OWN, _MIXED_UP, _NONE = (  # Okabe-Ito and grey: seen on white and on black
    np.array(colour) / 255 for colour in ((0, 158, 115), (213, 94, 0), (138, 146, 155))
)
_MARKERS = {"features": "s", "sphere": "^", "fused": "o", "chance": "*"}
_OTHERS = "Dph<>d"  # markers of methods that are not known here, in turn
_DASHES = {"-": "", "--": "5 3"}  # as SVG has them
_STYLE = Path(__file__).with_name("chart.mplstyle")
_ROUND = [1, 2, 5, 10]  # steps between ticks
_HEIGHT = 2.7  # inches


@dataclass(frozen=True)
class Drawing:
    """An SVG picture as `data:` addresses, for the light and for the dark theme."""

    light: str
    dark: str


@dataclass(frozen=True)
class LegendEntry:
    """How a method is drawn in charts: colours in the two themes, line and marker, as SVG has them.

    Attributes:
        light, dark: colours.
        dashes: of the line; empty for a solid one.
        marker: points of a polygon about (0, 0), 10 wide.
    """

    light: str
    dark: str
    dashes: str
    marker: str


def legend(methods: Sequence[str]) -> dict[str, LegendEntry]:
    """How each method is drawn in the charts by gap and by category."""
    return {
        method: LegendEntry(
            look["color"], _in_dark(look["color"]), _DASHES[look["linestyle"]], _polygon(look["marker"])
        )
        for method, look in _lines(methods).items()
    }


def _polygon(marker: str) -> str:
    style = MarkerStyle(marker)
    outline = style.get_path().transformed(style.get_transform() + Affine2D().scale(10, -10))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in np.concatenate(outline.to_polygons()))


def by_gap(frame: pd.DataFrame, metric: str, methods: Sequence[str], bins: int) -> Drawing:
    """A metric in percent against the azimuth gap, one line per method, which can be hidden: in the SVG it is
    the group `method-NAME`.
    """

    def draw(axes: Axes) -> None:
        for method, look in _lines(methods).items():
            own = frame[frame["method"] == method].sort_values("gap")
            axes.plot(own["gap"], own[metric], gid=f"method-{method}", **look)
        gaps = sorted(frame["gap"].unique())
        axes.set_xticks(gaps, [f"{gap * 360 / bins:g}°" for gap in gaps])
        axes.set_xlabel("azimuth gap between source and target")
        axes.grid(axis="x", visible=False)
        axes.set_ylim(bottom=0)
        _percent(axes)

    return _chart(draw)


def by_category(frame: pd.DataFrame, metric: str, methods: Sequence[str]) -> Drawing:
    """A metric in percent by category: one marker per method, in groups as those of `by_gap`."""
    wide = frame.pivot(index="category", columns="method", values=metric)[list(methods)]
    wide = wide.sort_index(ascending=False)

    def draw(axes: Axes) -> None:
        height = np.arange(len(wide))
        for method, look in _lines(methods).items():
            marker = look | {"linestyle": "none", "markersize": 7}
            axes.plot(wide[method], height, gid=f"method-{method}", **marker)
        axes.set_yticks(height, list(wide.index), color=LIGHT["ink"])
        axes.set_ylim(-0.6, len(wide) - 0.4)
        axes.set_xlim(0, 1.06 * max(wide.max().max(), 1.0))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=_ROUND))
        axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))

    return _chart(draw, height=0.9 + 0.26 * len(wide))


def confusion(matrix: Confusion, rows: Sequence[str]) -> Drawing:
    """Confusion matrices side by side: right, mixed up and missed differ in colour, shares in strength."""
    count = len(matrix.names)
    # ids with names, unless the names say no more
    entitled = [
        number if name == readable(number) else f"{number} {name}"
        for number, name in zip(matrix.ids, matrix.names, strict=True)
    ]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(rows), squeeze=False)[0]
        for axes, row in zip(panels, rows, strict=True):
            cells = np.zeros((count, count + 1, 4))
            cells[..., :3] = _MIXED_UP
            cells[np.arange(count), np.arange(count), :3] = _OWN
            cells[:, -1, :3] = _NONE
            cells[..., 3] = np.sqrt(matrix.shares(row) / 100)  # small shares are seen, too
            # one pixel per cell: small, and enlarged without smoothing
            axes.imshow(cells, interpolation="none", aspect="auto")
            axes.set_title(row, fontsize=8)
            axes.set_xticks(range(count + 1), [*matrix.ids, "none"], fontsize=5, rotation=90)
            axes.set_yticks(range(count), entitled if axes is panels[0] else matrix.ids, fontsize=5.5)
            axes.grid(visible=False)
            axes.spines[:].set(visible=True, color=LIGHT["grid"])
            axes.set_xlabel("predicted on", fontsize=7)

    return _drawing(draw, (3.4 * len(rows), 0.8 + 0.115 * count))


def curves(
    frame: pd.DataFrame, labels: Mapping[str, str], *, lower: float = 0, upper: float | None = None
) -> Drawing:
    """Columns of a table, chosen and named by `labels`, against its column `step`; "total" in ink."""

    def draw(axes: Axes) -> None:
        looks = iter(_series(len(labels)))
        for column, label in labels.items():
            look = {"color": LIGHT["ink"]} if column == "total" else next(looks)
            axes.plot(frame["step"], frame[column], label=label, linewidth=1.8, **look)
        axes.set_ylim(bottom=lower, top=upper)
        _steps(axes)

    legend = math.ceil(len(labels) / 3)  # lines; the first two fit into the usual height
    return _chart(draw, height=_HEIGHT + 0.18 * max(0, legend - 2))


def validation(frame: pd.DataFrame, kept: int | None) -> Drawing:
    """The validation score in percent, with the step marked whose head was kept."""

    def draw(axes: Axes) -> None:
        axes.plot(frame["step"], frame["pck_point"], color=LIGHT["fused"], marker="o", markersize=4)
        ring: Any = {"marker": "o", "markersize": 10, "markerfacecolor": "none", "linestyle": "none"}
        for step, score in frame.loc[frame["step"] == kept, ["step", "pck_point"]].to_numpy():
            label = f"kept: step {step:g}, {score:.1f} %"
            axes.plot(step, score, color=LIGHT["ink"], label=label, **ring)
        axes.margins(y=0.2)
        _steps(axes)
        _percent(axes)

    return _chart(draw)


def _series(count: int) -> list[dict[str, Any]]:
    """Looks of so many curves: the theme's colours; from there on dashed, along a map of colours."""
    themed: list[dict[str, Any]] = [{"color": LIGHT[name]} for name in _SERIES[:count]]
    # without the ends of the map, which are too dark for a dark page
    further = matplotlib.colormaps["turbo"](np.linspace(0.1, 0.9, max(0, count - len(_SERIES))))
    return themed + [{"color": to_hex(colour), "linestyle": "--"} for colour in further]


def _lines(rows: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Looks of methods: fixed ones for those known here, for others as for curves."""
    others = [row for row in rows if row not in _MARKERS]
    further = _series(len(others) + 2)[2:]  # the first two are the colours of features and fused
    looks = dict(zip(others, zip(further, itertools.cycle(_OTHERS), strict=False), strict=True))
    result = {}
    for row in rows:
        look, marker = looks.get(row) or ({"color": LIGHT[row]}, _MARKERS[row])
        line = "--" if row == "chance" else "-"
        result[row] = {"marker": marker, "linestyle": line, **look, "markeredgecolor": LIGHT["paper"]}
    return result


def _percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND, integer=True))


def _steps(axes: Axes) -> None:
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_ROUND, integer=True))


def _chart(draw: Callable[[Axes], None], *, height: float = _HEIGHT) -> Drawing:
    """One chart, with a legend of what is labelled."""

    def draw_all(figure: Figure) -> None:
        axes = figure.subplots()
        draw(axes)
        handles, texts = axes.get_legend_handles_labels()
        if texts:
            columns = 3 if max(map(len, texts)) > 12 else 4
            figure.legend(handles, texts, loc="outside upper left", ncols=columns, labelcolor=LIGHT["ink"])

    return _drawing(draw_all, (4.4, height))


def _drawing(draw: Callable[[Figure], None], size: tuple[float, float]) -> Drawing:
    svg = _svg(draw, size)
    return Drawing(light=_uri(svg), dark=_uri(_in_dark(svg)))


def _svg(draw: Callable[[Figure], None], size: tuple[float, float]) -> str:
    of_muted = ("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    of_ink = ("axes.titlecolor", "text.color")
    colours: Any = dict.fromkeys(of_muted, LIGHT["muted"]) | dict.fromkeys(of_ink, LIGHT["ink"])
    with matplotlib.rc_context({**colours, "grid.color": LIGHT["grid"]}, fname=_STYLE):
        figure = Figure(figsize=size)
        draw(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()


def _in_dark(text: str) -> str:
    """Light colours as those of the dark theme: drawing once more would take as long again."""
    dark = {LIGHT[name]: DARK[name] for name in LIGHT}
    return re.sub("|".join(dark), lambda found: dark[found[0]], text)


def _uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")

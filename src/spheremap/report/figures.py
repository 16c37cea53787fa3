"""Charts as SVG text for a web page: same data, same bytes; colours follow the page's light or dark theme."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spheremap.report.confusion import Confusion
from spheremap.report.names import readable

# Stand-ins for variables of the style sheet: matplotlib draws the number, the page shows the variable.
THEME = {
    "ink": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "features": "#040404",
    "sphere": "#050505",
    "fused": "#060606",
    "chance": "#070707",
    "series-1": "#080808",
    "series-2": "#090909",
    "series-3": "#0a0a0a",
    "series-4": "#0b0b0b",
    "paper": "#0c0c0c",
}
_SERIES = [name for name in THEME if name.startswith("series-")]
_HEIGHT = 2.7  # inches
_STYLE: Any = {  # keys are names of matplotlib settings
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text, in the page's font
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": THEME["muted"],
    "axes.labelcolor": THEME["muted"],
    "axes.titlecolor": THEME["ink"],
    "text.color": THEME["ink"],
    "xtick.color": THEME["muted"],
    "ytick.color": THEME["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": THEME["grid"],
    "grid.linewidth": 0.8,
    "lines.linewidth": 2,
    "lines.markersize": 6,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.5,
    "legend.borderpad": 0.1,
    "figure.constrained_layout.use": True,
}
_OWN, _MIXED_UP, _NONE = (  # Okabe-Ito and grey: seen on white and on black
    np.array(colour) / 255 for colour in ((0, 158, 115), (213, 94, 0), (138, 146, 155))
)
_MARKERS = {"features": "s", "sphere": "^", "fused": "o", "chance": ""}
_FURTHER = {  # colour, marker and line of the rows beyond the paper
    "fused_subpatch": ("series-3", "v", "-"),
    "fused_mutual": ("series-4", "P", "-"),
    "fused_viewpoint": ("ink", "X", "-"),
    "adapted": ("features", "D", ":"),
    "adapted_fused": ("fused", "D", ":"),
}


def by_gap(frame: pd.DataFrame, metric: str, rows: Sequence[str], bins: int) -> str:
    """A metric in percent against the azimuth gap, one line per row of the table."""

    def draw(axes: Axes) -> None:
        for row, look in _lines(rows).items():
            own = frame[frame["row"] == row].sort_values("gap")
            axes.plot(own["gap"], own[metric], label=row, **look)
        gaps = sorted(frame["gap"].unique())
        axes.set_xticks(gaps, [f"{gap * 360 / bins:g}°" for gap in gaps])
        axes.set_xlabel("azimuth gap between source and target")
        axes.grid(axis="x", visible=False)
        _percent(axes)

    return _svg(f"gap-{metric}", draw)


def by_category(frame: pd.DataFrame, metric: str, rows: Sequence[str]) -> str:
    """A metric in percent by category: one dot per row of the table, joined by a bar."""
    wide = frame.pivot(index="category", columns="row", values=metric)[list(rows)].sort_index(ascending=False)

    def draw(axes: Axes) -> None:
        height = np.arange(len(wide))
        axes.hlines(height, wide.min(axis=1), wide.max(axis=1), color=THEME["grid"], linewidth=4)
        for row, look in _lines(rows).items():
            axes.plot(wide[row], height, label=row, **(look | {"linestyle": "none", "markersize": 7}))
        axes.set_yticks(height, list(wide.index), color=THEME["ink"])
        axes.set_ylim(-0.6, len(wide) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, 1.06 * max(wide.max().max(), 1.0))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))

    return _svg(f"category-{metric}", draw, height=0.9 + 0.26 * len(wide))


def confusion(matrix: Confusion, rows: Sequence[str]) -> str:
    """Confusion matrices side by side: right, mixed up and missed differ in colour, shares in strength."""
    count = len(matrix.names)

    def draw(panels: Sequence[Axes]) -> None:
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
            axes.set_yticks(range(count), _entitled(matrix), fontsize=5.5)
            axes.grid(visible=False)
            for spine in axes.spines.values():
                spine.set_visible(True)
                spine.set_color(THEME["grid"])
            axes.set_xlabel("predicted on", fontsize=7)
        for axes in panels[1:]:
            axes.set_yticks(range(count), matrix.ids)

    size = (3.4 * len(rows), 0.8 + 0.115 * count)
    return _figure(f"confusion-{matrix.category}", draw, size, panels=len(rows))


def _entitled(matrix: Confusion) -> list[str]:
    """Ids with names, unless the names say no more."""
    pairs = zip(matrix.ids, matrix.names, strict=True)
    return [number if name == readable(number) else f"{number} {name}" for number, name in pairs]


def curves(name: str, frame: pd.DataFrame, labels: Mapping[str, str], *, upper: float | None = None) -> str:
    """Columns of a table, chosen and named by `labels`, against its column `step`; "total" in ink."""

    def draw(axes: Axes) -> None:
        looks = iter(_series(len(labels)))
        for column, label in labels.items():
            look = {"color": THEME["ink"]} if column == "total" else next(looks)
            axes.plot(frame["step"], frame[column], label=label, linewidth=1.8, **look)
        axes.set_xlabel("step")
        axes.set_ylim(bottom=0, top=upper)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))

    legend = math.ceil(len(labels) / 3)  # lines; the first two fit into the usual height
    return _svg(name, draw, height=_HEIGHT + 0.18 * max(0, legend - 2))


def validation(frame: pd.DataFrame) -> str:
    """The validation score in percent, with the chosen step marked: the best one after the start."""
    trained = frame[frame["step"] > 0]
    best = trained.iloc[int(trained["pck_point"].argmax())] if len(trained) else frame.iloc[-1]

    def draw(axes: Axes) -> None:
        axes.plot(frame["step"], frame["pck_point"], color=THEME["fused"], marker="o", markersize=4)
        axes.plot(
            best["step"],
            best["pck_point"],
            color=THEME["ink"],
            marker="o",
            markersize=10,
            markerfacecolor="none",
            linestyle="none",
            label=f"kept: step {best['step']:g}, {best['pck_point']:.1f} %",
        )
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        axes.margins(y=0.2)
        _percent(axes, from_zero=False)

    return _svg("validation", draw)


def _series(count: int) -> list[dict[str, Any]]:
    """Looks of so many curves: the theme's colours; from there on dashed, along a map of colours."""
    themed: list[dict[str, Any]] = [{"color": THEME[name]} for name in _SERIES[:count]]
    # without the ends of the map, which are too dark for a dark page
    further = matplotlib.colormaps["turbo"](np.linspace(0.1, 0.9, max(0, count - len(_SERIES))))
    return themed + [{"color": to_hex(colour), "linestyle": "--"} for colour in further]


def _lines(rows: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Looks of rows of the table: fixed ones for those known here, for others as for curves."""
    others = [row for row in rows if row not in _MARKERS and row not in _FURTHER]
    looks: dict[str, dict[str, Any]] = {
        row: {"marker": "D", **look} for row, look in zip(others, _series(len(others)), strict=True)
    }
    for row in set(rows).difference(others):
        paper = row, _MARKERS.get(row), "--" if row == "chance" else "-"
        colour, marker, line = _FURTHER.get(row, paper)
        looks[row] = {"color": THEME[colour], "marker": marker, "linestyle": line}
    return {row: {**looks[row], "markeredgecolor": THEME["paper"]} for row in rows}


def _percent(axes: Axes, *, from_zero: bool = True) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    if from_zero:
        axes.set_ylim(bottom=0)


def _svg(name: str, draw: Callable[[Axes], None], *, height: float = _HEIGHT) -> str:
    """One chart with a legend."""

    def draw_all(panels: Sequence[Axes]) -> None:
        (axes,) = panels
        draw(axes)
        handles, texts = axes.get_legend_handles_labels()
        columns = 3 if max(map(len, texts)) > 12 else 4
        axes.get_figure().legend(  # type: ignore[union-attr]
            handles, texts, loc="outside upper left", ncols=columns, labelcolor=THEME["ink"]
        )

    return _figure(name, draw_all, (4.4, height))


def _figure(
    name: str, draw: Callable[[Sequence[Axes]], None], size: tuple[float, float], *, panels: int = 1
) -> str:
    """Panels side by side; `name` must be the only one of its kind on the page: ids are made of it."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        draw(figure.subplots(1, panels, squeeze=False)[0])
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _for_page(buffer.getvalue(), name)


def _for_page(svg: str, name: str) -> str:
    """Reduce an SVG file to an element of a page: no header, addresses or clashing ids, themed colours."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"| version="[^"]*"', "", svg)
    svg = re.sub(r'^<svg([^>]*?) width="[^"]*"', r"<svg\1", svg)
    svg = re.sub(r'^<svg([^>]*?) height="[^"]*"', r"<svg\1", svg)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    prefix = re.sub(r"\W+", "-", name)
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    for variable, number in THEME.items():
        svg = svg.replace(number, f"var(--{variable})")
    return svg

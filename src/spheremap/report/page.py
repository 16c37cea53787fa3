"""The page itself: what stands on it, and the templates that lay it out."""

import json
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from spheremap.report.scores import Table, Tile


@dataclass(frozen=True)
class Picture:
    """An embedded picture; sizes in pixels, `title` is the image id."""

    uri: str
    alt: str
    caption: str
    title: str
    width: int
    height: int


@dataclass(frozen=True)
class Chart:
    """A chart as an SVG element."""

    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class MapGroup:
    """Sphere maps of one category."""

    category: str
    pictures: list[Picture]


@dataclass(frozen=True)
class Pair:
    """Panels source, features, fused; points as (number, name, right with features, right with fused)."""

    category: str
    gap: str
    panels: list[Picture]
    points: list[tuple[int, str, bool, bool]]


@dataclass(frozen=True)
class Page:
    """Everything on the page, in the order shown."""

    dataset: str
    split: str
    seed: int
    sphere_weight: float
    alpha: str
    backbone: str
    metrics: dict[str, Any]
    tiles: list[Tile]
    headline: Table
    gap_charts: list[Chart]
    gap_table: Table | None
    category_charts: list[Chart]
    category_table: Table
    legend: str
    maps: list[MapGroup]
    pairs: list[Pair]
    training_charts: list[Chart]
    provenance: dict[str, Any]


def render(page: Page) -> str:
    """The page as HTML that refers to nothing outside itself; texts are escaped, charts taken as they are."""
    environment = Environment(
        loader=PackageLoader("spheremap.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["pretty"] = lambda value: json.dumps(
        value, indent=2, sort_keys=True, ensure_ascii=False
    )
    return environment.get_template("page.html").render(page=page)

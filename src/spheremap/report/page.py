"""The page itself: what stands on it, and the templates that lay it out."""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from spheremap.report.explorer import Explorer
from spheremap.report.names import FURTHER_ROWS
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
class SphereGroup:
    """Keypoints of one category on the sphere, and in words how well left and right are told apart."""

    category: str
    svg: str
    verdict: str


@dataclass(frozen=True)
class ConfusionGroup:
    """Confusion matrices of one category; mix-ups as (asked for, landed on, percent, times asked for)."""

    category: str
    svg: str
    commonest: dict[str, list[tuple[str, str, float, int]]]


@dataclass(frozen=True)
class Pair:
    """Panels source, features, fused; points as (number, name, right with features, right with fused).

    `number` is the pair's place in the explorer.
    """

    category: str
    gap: str
    panels: list[Picture]
    points: list[tuple[int, str, bool, bool]]
    number: int


@dataclass(frozen=True)
class Page:
    """Everything on the page, in the order shown."""

    dataset: str
    split: str
    seed: int
    sphere_weight: float
    alpha: str
    backbone: str
    remarks: list[str]  # on the data, such as what training lacked
    metrics: dict[str, Any]
    tiles: list[Tile]
    headline: Table
    gap_charts: list[Chart]
    gap_table: Table | None
    category_charts: list[Chart]
    category_table: Table
    confusions: list[ConfusionGroup]
    spheres: list[SphereGroup]
    sided: bool  # whether any part has a left and a right
    legend: str
    maps: list[MapGroup]
    pairs: list[Pair]
    best: list[Pair]
    worst: list[Pair]
    explorer: Explorer | None
    training_charts: list[Chart]
    provenance: dict[str, Any]


def render(page: Page) -> str:
    """The page as HTML that refers to nothing outside itself; texts are escaped, charts taken as they are.

    A content security policy in the page forbids all requests and all scripts but its own.
    """
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
    script = environment.get_template("explorer.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template("page.html").render(
        page=page, script=script, script_sha256=digest, further_rows=FURTHER_ROWS
    )

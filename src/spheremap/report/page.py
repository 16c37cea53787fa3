"""The pages: what their templates are filled with, and the policies that keep them offline."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


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
class Pair:
    """Panels of the source and of the target with each compared method; points as (number, name, right with
    the first, right with the second).

    `number` is the pair's place in the explorer.
    """

    category: str
    gap: str
    panels: list[Picture]
    points: list[tuple[int, str, bool, bool]]
    number: int


def render(page: Mapping[str, Any]) -> str:
    """The report as HTML that refers to nothing outside itself; texts are escaped, spheres taken as they are.

    A content security policy in the page forbids all requests and all scripts but its own.
    """
    environment = _environment()
    scripts = ["methods.js", *(["explorer.js"] if page["explorer"] else [])]
    return environment.get_template("page.html").render(
        page=page, script_sha256=[_digest(environment, name) for name in scripts]
    )


def render_explorer(data: Mapping[str, Any], sphere_weight: float) -> tuple[str, str]:
    """The page of `spheremap explore`: its HTML, and the content security policy to send it with.

    Args:
        data: see `explorer.js`: one pair without answers, and the address to `ask`.
        sphere_weight: of the sphere in the fused similarity, at first.
    """
    environment = _environment()
    html = environment.get_template("explore.html").render(data=data, sphere_weight=sphere_weight)
    return html, _policy(environment, "explorer.js", ("style.css",), images="data:")


def render_labelling(
    data: Mapping[str, Any], viewpoints: Sequence[str], splits: Sequence[str]
) -> tuple[str, str]:
    """The page of `spheremap label`: its HTML, and the content security policy to send it with.

    Args:
        data: see `label.js`.
        viewpoints: a picture of each, as an address.
        splits: that are chosen by turns.
    """
    environment = _environment()
    html = environment.get_template("label.html").render(data=data, viewpoints=viewpoints, splits=splits)
    return html, _policy(environment, "label.js", ("style.css", "label.css"), images="data: 'self'")


def _policy(environment: Environment, script: str, styles: Sequence[str], images: str) -> str:
    """Of a page with one script that asks the server it came from."""
    sheets = " ".join(f"'sha256-{_digest(environment, name)}'" for name in styles)
    return (
        f"default-src 'none'; script-src 'sha256-{_digest(environment, script)}'; style-src {sheets}; "
        f"img-src {images}; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _environment() -> Environment:
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
    return environment


def _digest(environment: Environment, name: str) -> str:
    """SHA-256 of a template without variables, as a content security policy states it."""
    content = environment.get_template(name).render().encode()
    return base64.b64encode(hashlib.sha256(content).digest()).decode("ascii")

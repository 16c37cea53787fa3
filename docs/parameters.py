"""Write docs/parameters.md and the JSON schema of params.yaml from `spheremap.config` (`make docs`)."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from spheremap.config import Params
from spheremap.config.data_sets import Stored

ROOT = Path(__file__).parents[1]
INTRODUCTION = """<!-- Written by `make docs`; change src/spheremap/config instead. -->
# Parameters

Every key of `params.yaml`. All must stand there but those marked "may be left out"; unknown keys are errors.
`spheremap preset` writes [groups of settings](workflow.md#presets). Editors that know JSON schema complete
and check the keys by [params.schema.yaml](../workflow/schemas/params.schema.yaml).
"""
SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}


SCHEMA = TypeAdapter(Params).json_schema()
DEFINITIONS = SCHEMA["$defs"]


def schema() -> str:
    """The JSON schema as YAML; what it cannot say (ascending ranges, say) `check_params` refuses."""
    note = "# Written by `make docs` from src/spheremap/config.\n"
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return note + yaml.safe_dump(dialect | _untitled(SCHEMA), sort_keys=False, allow_unicode=True, width=120)


def _untitled(node: Any) -> Any:
    """Without the titles that pydantic makes of the names, and the mapping that only OpenAPI knows."""
    if isinstance(node, dict):
        noise = {"discriminator", "title"} if not isinstance(node.get("title"), dict) else set()
        return {key: _untitled(value) for key, value in node.items() if key not in noise}
    return [_untitled(item) for item in node] if isinstance(node, list) else node


def page() -> str:
    """A table for every section; those of `datasets` by layout."""
    parts = [INTRODUCTION]
    single = {
        key: node for key, node in SCHEMA["properties"].items() if node.get("type") in ("string", "integer")
    }
    parts.append(_table("Top level", "", {"properties": single, "required": list(single)}))
    shared = {field.name for field in fields(Stored)}
    for key, node in SCHEMA["properties"].items():
        if key == "datasets":
            parts.append(f"## `datasets.NAME`\n\n{node['description']}\n")
            layouts = [_resolved(choice) for choice in _entry(node)["oneOf"]]
            for layout in layouts[:-1]:  # the last one stands for those that only an adapter's file knows
                own = {name: part for name, part in layout["properties"].items() if name not in shared}
                title = f"`layout: {own['layout']['const']}`"
                parts.append(_table(title, layout["description"], layout | {"properties": own}, level=3))
            common = {name: layout["properties"][name] for name in layout["properties"] if name in shared}
            title = "All layouts but shapes"
            parts.append(_table(title, Stored.__doc__ or "", layout | {"properties": common}, level=3))
            masks = DEFINITIONS["DetectedMasks"]
            parts.append(_table("`masks: {source: maskrcnn}`", masks["description"], masks, level=3))
        elif key == "methods":
            parts.append(f"## `methods.NAME`\n\n{node['description']}\n")
            for kind in map(_resolved, _entry(node)["oneOf"]):
                own = {name: part for name, part in kind["properties"].items() if name != "kind"}
                title = f"`kind: {kind['properties']['kind']['const']}`"
                parts.append(_table(title, kind["description"], kind | {"properties": own}, level=3))
        elif "patternProperties" in node:
            parts.append(_table(f"`{key}.NAME`", node["description"], _resolved(_entry(node))))
        elif "$ref" in node:
            section = _resolved(node)
            parts.append(_table(f"`{key}`", node.get("description", section["description"]), section))
    return "\n".join(parts)


def _entry(node: dict[str, Any]) -> dict[str, Any]:
    """Of a section with entries of any name."""
    (entry,) = node["patternProperties"].values()
    return dict(entry)


def _table(title: str, text: str, node: dict[str, Any], level: int = 2) -> str:
    head = [f"{'#' * level} {title}", ""] + ([text, ""] if text else [])
    rows = [f"| `{key}` | {value} | {meaning} |" for key, value, meaning in _rows(node)]
    return "\n".join([*head, *(["| key | value | meaning |", "|---|---|---|", *rows, ""] if rows else [])])


def _rows(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Keys, those of sections inside with their own prefix, with what they may hold and mean."""
    for key, part in node["properties"].items():
        optional = "" if key in node.get("required", ()) else "; may be left out"
        inside = _resolved(part)
        repeated = inside.get("items", {}).get("$ref")
        if repeated:
            inside = _resolved(inside["items"])
        if "properties" in inside:
            yield (
                prefix + key,
                ("list of mappings" if repeated else "mapping") + optional,
                part["description"],
            )
            yield from _rows(inside, f"{prefix}{key}{'[]' if repeated else ''}.")
        else:
            yield prefix + key, _value(part) + optional, part["description"]


def _value(node: dict[str, Any]) -> str:
    """Type and range in words."""
    if "anyOf" in node:
        return f"{_value(node['anyOf'][0])}, or null"
    if "oneOf" in node:
        sources = [_resolved(choice)["properties"] for choice in node["oneOf"]]
        key = "source" if "source" in sources[0] else "layout"
        return "mapping with " + _choice([f"{key}: {source[key]['const']}" for source in sources])
    if "enum" in node or "const" in node:
        return _choice(node.get("enum", [node.get("const")]))
    if node["type"] == "array":
        inside = node.get("items") or node["prefixItems"][0]
        number = "two" if "prefixItems" in node else "one or more" if node.get("minItems") else "any number"
        return f"list, {number}: {_value(inside)}"
    if node["type"] == "object":
        return f"mapping to {_value(node['additionalProperties'])}"
    limits = [f"{sign} {node[key]:g}" for key, sign in SIGNS.items() if key in node and node[key] < 2**63]
    if node.get("not") == {"multipleOf": 2}:
        limits.append("odd")
    if "multipleOf" in node:
        limits.append(f"a multiple of {node['multipleOf']}")
    return " ".join([KINDS[node["type"]], ", ".join(limits)]).strip()


def _choice(values: list[str]) -> str:
    quoted = [f"`{value}`" for value in values]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    """The part of the schema that a reference means, null aside."""
    node = node["anyOf"][0] if "anyOf" in node else node
    return DEFINITIONS[node["$ref"].rpartition("/")[2]] if "$ref" in node else node


WRITTEN = {"docs/parameters.md": page, "workflow/schemas/params.schema.yaml": schema}

if __name__ == "__main__":
    for name, write in WRITTEN.items():
        (ROOT / name).write_text(write(), encoding="utf-8")

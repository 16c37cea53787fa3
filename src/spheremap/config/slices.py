"""Parameters from files: params.yaml as DVC reads it, and the JSON slices of it that steps are handed."""

import json
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.constructor import DuplicateKeyError

from spheremap.base.errors import InputError, did_you_mean
from spheremap.base.files import read_json
from spheremap.config.fields import MEANING

T = TypeVar("T")

# parameters that had another name or form
MOVED = {
    "adapter": "methods.adapted, and name it in evaluate.methods to have it fitted,",
    "evaluate.sphere_weight": "methods.fused.sphere_weight",
    "evaluate.sweep": "evaluate.sweep.values, with method: fused and parameter: sphere_weight,",
    "train.viewpoint": "train.weights.anchor (for anchored; beside or instead of viewpoint)",
    "evaluate.further": "evaluate.methods, and fused_subpatch, fused_mutual, fused_viewpoint in methods",
}


def read_params(path: Path | str) -> dict[str, Any]:
    """Read params.yaml in YAML 1.2, as DVC does: 3e-4 is a number there. Values are not checked.

    Raises:
        InputError: if it cannot be read, a key stands in it twice, or it asks for Snakemake's template
            engine, which runs Python expressions that stand in the file.
    """
    try:
        params = YAML(typ="safe").load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            "cannot read the parameters",
            where=path,
            found=error.strerror or str(error),
            fix="run the command in the project's top folder",
        ) from error
    except DuplicateKeyError as error:
        mark = error.problem_mark
        raise InputError(
            "a parameter stands there twice", where=f"{path}, line {mark.line + 1}", found=str(error.problem)
        ) from error
    except (UnicodeDecodeError, YAMLError) as error:
        raise InputError("not a YAML file", where=path, found=" ".join(str(error).split())) from error
    if not isinstance(params, dict):
        raise InputError("not a set of parameters", where=path, expected="a mapping of sections")
    if "__use_yte__" in params:
        raise InputError("__use_yte__ would have the file run code", where=path, fix="remove it")
    number = next(_keys_that_are_not_text(params), None)
    if number is not None:
        raise InputError("a name is not text", where=path, found=str(number), fix="put it in quotes")
    return params


def _keys_that_are_not_text(value: Any) -> Iterator[Any]:
    """Keys that YAML reads as a number or a date."""
    if isinstance(value, dict):
        yield from (key for key in value if not isinstance(key, str))
    if isinstance(value, dict | list):
        for below in value.values() if isinstance(value, dict) else value:
            yield from _keys_that_are_not_text(below)


def read_slice(path: Path, spec: type[T]) -> T:
    """Read a JSON file into the pydantic dataclass `spec`; for errors see `parse`."""
    content: T = parse(read_json(path), spec, where=Path(path))
    return content


def parse(value: Any, spec: Any, *, where: Path | str, key: str = "") -> Any:
    """Check what came from a file against a type, and convert it: lists to tuples, mappings to dataclasses.

    Args:
        value: of the kinds that JSON knows.
        spec: a pydantic dataclass, or a type made of such.
        where: the file, for messages.
        key: where in the file the value stands, for messages.

    Raises:
        InputError: with a line for every mistake.
    """
    plain = is_dataclass(spec) and not hasattr(spec, "__pydantic_config__")
    assert not plain, "it would let anything pass"
    try:
        return _adapter(spec).validate_json(json.dumps(value, default=str))
    except ValidationError as error:
        lines = [f"  {line}" for line in _complaints(error, _schema(spec), key)]
        raise InputError("\n".join(["these parameters cannot be used:", *lines]), where=where) from None


@cache
def _adapter(spec: Any) -> TypeAdapter[Any]:
    return TypeAdapter(spec)


@cache
def _schema(spec: Any) -> dict[str, Any]:
    return _adapter(spec).json_schema()


def _complaints(errors: ValidationError, schema: dict[str, Any], key: str) -> Iterator[str]:
    places = [error["loc"] for error in errors.errors()]
    for error in errors.errors():
        loc = error["loc"]
        if error["type"] == "too_short" and any(other[: len(loc)] == loc != other for other in places):
            continue  # for want of items that are wrong
        place, around = _locate(loc, schema, [key] if key else [])
        kind, message, found = error["type"], error["msg"], error["input"]
        moved = MOVED.get(".".join(place))
        if moved and (kind == "unexpected_keyword_argument" or isinstance(found, list)):
            yield f"{'.'.join(place)}: moved; set {moved} instead"
        elif kind == "unexpected_keyword_argument":
            known = list(around.get("properties", {}))
            advice = did_you_mean(place[-1], known, f"expected one of {', '.join(known)}")
            yield f"{'.'.join(place[:-1]) or 'the top level'}: unknown parameter {place[-1]!r}; {advice}"
        elif kind.startswith("union_tag"):  # the key that tells which other keys there are
            given = f"expected one of {error['ctx']['expected_tags']}, found {error['ctx']['tag']!r}" \
                if kind == "union_tag_invalid" else "missing"  # fmt: skip
            yield f"{'.'.join([*place, error['ctx']['discriminator'].strip(chr(39))])}: {given}"
        elif kind in ("missing", "missing_argument"):
            yield f"{'.'.join(place)}: missing"
        else:
            message = message.removeprefix("Value error, ").replace("Input should be", "expected")
            if kind == "string_pattern_mismatch" and error["ctx"]["pattern"] in MEANING:
                message = f"expected {MEANING[error['ctx']['pattern']]}"
            elif kind == "too_long":
                message = f"expected {error['ctx']['max_length']} values"
            shown = "" if isinstance(found, dict) else f", found {found!r:.100}"
            yield ": ".join(filter(None, [".".join(place), message + shown]))


def _locate(loc: tuple[int | str, ...], schema: dict[str, Any], key: list[str]) -> tuple[list[str], Any]:
    """Keys that lead to an error, and the schema of what it stands in. Tags of unions are no keys."""
    place, node, around = list(key), schema, schema
    for step in loc:
        if step == "[key]":  # the key itself is wrong
            continue
        around = node = _plain(node, schema)
        if "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"][step]}
            continue
        place.append(str(step))
        items = node.get("prefixItems", [node.get("items", {})])
        inside = (
            node.get("properties", {}).get(step)
            or next(iter(node.get("patternProperties", {}).values()), None)
            or node.get("additionalProperties")
        )
        node = inside or items[min(step, len(items) - 1) if isinstance(step, int) else 0]
        node = node if isinstance(node, dict) else {}
    return place, around


def _plain(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The part of a schema that a reference means, or a value that may be null as well."""
    while "$ref" in node or "anyOf" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node["anyOf"][0]
    return node

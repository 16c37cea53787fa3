"""Typed reading of parameters: the JSON file that a rule hands to a command becomes a frozen dataclass."""

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from spheremap.base.errors import InputError
from spheremap.base.files import read_json

T = TypeVar("T")


def read_slice(path: Path, spec: type[T]) -> T:
    """Read a JSON object into the dataclass `spec`.

    Raises:
        InputError: for an unknown or missing key or a value of another type; full keys are named.
    """
    return parse(read_json(path), spec, where=Path(path))


def parse(value: Any, spec: Any, *, where: Path | str, key: str = "") -> Any:
    """Check `value` against `spec` (dataclass, list, tuple, dict, union, Literal or scalar); convert it."""
    if dataclasses.is_dataclass(spec) and isinstance(spec, type):
        return _parse_dataclass(value, spec, where, key)
    origin, arguments = typing.get_origin(spec), typing.get_args(spec)
    if origin in (typing.Union, types.UnionType):
        return _parse_union(value, arguments, where, key)
    if origin is typing.Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise _wrong(value, "one of " + ", ".join(map(repr, arguments)), where, key)
        return value
    if origin in (list, tuple):
        return _parse_sequence(value, origin, arguments, where, key)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(value, "a mapping", where, key)
        return {
            str(name): parse(item, arguments[1], where=where, key=_join(key, str(name)))
            for name, item in value.items()
        }
    return _parse_scalar(value, spec, where, key)


def _parse_dataclass(value: Any, spec: type[T], where: Path | str, key: str) -> T:
    if not isinstance(value, Mapping):
        raise _wrong(value, "a mapping", where, key)
    hints = typing.get_type_hints(spec)
    fields = {field.name: field for field in dataclasses.fields(spec)}  # type: ignore[arg-type]
    for name in value:
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=1)
            raise InputError(
                f"unknown parameter {_join(key, str(name))!r}",
                where=where,
                expected="one of " + ", ".join(fields),
                fix=f"did you mean {near[0]!r}?" if near else "remove it",
            )
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [_join(key, name) for name in required if name not in value]
    if missing:
        raise InputError(f"missing parameter {', '.join(map(repr, missing))}", where=where, fix="add it")
    return spec(
        **{name: parse(item, hints[name], where=where, key=_join(key, name)) for name, item in value.items()}
    )


def _parse_union(value: Any, choices: tuple[Any, ...], where: Path | str, key: str) -> Any:
    for choice in choices:
        try:
            return parse(value, choice, where=where, key=key)
        except InputError as error:
            last = error
    raise last if len(choices) == 1 else _wrong(value, " or ".join(map(_name, choices)), where, key)


def _parse_sequence(value: Any, origin: Any, arguments: tuple[Any, ...], where: Path | str, key: str) -> Any:
    if not isinstance(value, list):
        raise _wrong(value, "a list", where, key)
    if origin is list or (len(arguments) == 2 and arguments[1] is Ellipsis):
        kinds = [arguments[0]] * len(value)
    else:
        kinds = list(arguments)
        if len(kinds) != len(value):
            raise _wrong(value, f"a list of {len(kinds)} values", where, key)
    items = [
        parse(v, kind, where=where, key=f"{key}[{i}]")
        for i, (v, kind) in enumerate(zip(value, kinds, strict=True))
    ]
    return origin(items)


def _parse_scalar(value: Any, spec: Any, where: Path | str, key: str) -> Any:
    if spec is Any:
        return value
    if spec is type(None):
        ok = value is None
    elif spec is float:
        ok = _is_float(value)
    elif spec is int:
        ok = isinstance(value, int) and not isinstance(value, bool)
    else:
        ok = isinstance(value, spec)
    if not ok:
        raise _wrong(value, _name(spec), where, key)
    return float(value) if spec is float else value


def _is_float(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # neither NaN nor infinite nor an integer too large


def _wrong(value: Any, expected: str, where: Path | str, key: str) -> InputError:
    return InputError(
        f"wrong value for {key or 'the parameters'!r}", where=where, expected=expected, found=repr(value)
    )


def _name(spec: Any) -> str:
    words = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        type(None): "null",
    }
    return words.get(spec, getattr(spec, "__name__", str(spec)))


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name

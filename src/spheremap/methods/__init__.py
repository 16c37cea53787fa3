"""What is compared: methods, a file each, that entries of params.yaml put together and name."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

from spheremap.base.errors import InputError
from spheremap.config.slices import parse
from spheremap.methods.engine.method import Method

Entries = Mapping[str, Mapping[str, Any]]  # section `methods` of params.yaml: name -> kind and parameters


def kinds() -> list[str]:
    """The kinds of methods: the modules of this package."""
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg]


def make_methods(entries: Entries, names: Iterable[str]) -> dict[str, Method]:
    """The methods called `names`, in that order.

    Raises:
        InputError: if there is no such entry or kind, an entry is made of itself, or a parameter is unknown,
            missing or cannot be used.
    """
    return {name: _make(entries, name, ()) for name in names}


def _make(entries: Entries, name: str, above: tuple[str, ...]) -> Method:
    where = f"methods.{name}"
    if name in above:
        raise InputError("a method is made of itself", where=where, found=" of ".join((*above, name)))
    if name not in entries:
        raise InputError("there is no such method", where=where, expected=f"one of {', '.join(entries)}")
    values = dict(entries[name])
    kind = values.pop("kind", None)
    if kind not in kinds():
        raise InputError("bad kind of a method", where=where, expected=", ".join(kinds()), found=str(kind))
    of = values.get("of")
    if isinstance(of, str):
        values["of"] = _make(entries, of, (*above, name))
    elif isinstance(of, list):
        values["of"] = [_make(entries, str(part), (*above, name)) for part in of]
    made: Method = parse(values, _class_of(kind), where="params.yaml", key=where)
    return made


def _class_of(kind: str) -> type[Method]:
    module = importlib.import_module(f"{__name__}.{kind}")
    (found,) = (
        each
        for _, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, Method) and each.__module__ == module.__name__
    )
    return found

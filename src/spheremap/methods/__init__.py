"""What is compared: methods, a file each, that entries of params.yaml put together and name."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from spheremap.base.errors import InputError
from spheremap.config.methods import MethodEntry, class_name
from spheremap.config.slices import parse
from spheremap.methods.engine.method import Method

Entries = Mapping[str, Mapping[str, Any]]  # section `methods` of params.yaml: name -> kind and parameters


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
    parameters = dict(vars(parse(entries[name], MethodEntry, where="params.yaml", key=where)))
    kind = parameters.pop("kind")
    cls = getattr(importlib.import_module(f"{__name__}.{kind}"), class_name(kind))
    if "of" in parameters:
        of = parameters["of"]
        made = [_make(entries, part, (*above, name)) for part in ([of] if isinstance(of, str) else of)]
        parameters["of"] = made[0] if isinstance(of, str) else tuple(made)
    method = cls(**parameters)
    method.parts()  # refuses what cannot be fused
    return method

"""Names of keypoints and methods as they are shown."""

import inspect
import sys
from collections.abc import Mapping
from typing import Any

from spheremap.methods.engine.method import Method


def notes(entries: Mapping[str, Mapping[str, Any]], methods: Mapping[str, Method]) -> dict[str, str]:
    """What each method does, in a sentence: the first of its module, and its parameters."""
    found = {}
    for name, method in methods.items():
        sentence = str(inspect.getdoc(sys.modules[type(method).__module__])).partition("\n")[0].rstrip(".")
        values = {key: value for key, value in entries[name].items() if key != "kind"}
        parameters = ", ".join(f"{key} {_plain(value)}" for key, value in values.items())
        found[name] = f"{sentence} ({parameters})" if parameters else sentence
    return found


def _plain(value: Any) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)


def readable(name: str) -> str:
    """A name of the tables in words: "wheel_left" is "wheel left", and "7" (as in SPair-71k) "keypoint 7"."""
    return f"keypoint {name}" if name.isdigit() else name.replace("_", " ")

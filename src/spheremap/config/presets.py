"""Named groups of settings that are written into params.yaml, so that what stands there is what runs."""

import copy
import json
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from spheremap.base.errors import InputError
from spheremap.base.files import atomic_path
from spheremap.config import check_params
from spheremap.config.slices import read_params

WHOLE = ("train.weights",)  # mappings that are one value: what the preset does not name is not left behind


def apply_preset(preset: Path, params: Path) -> list[str]:
    """Set every value of `preset` in `params`, keeping comments, order and all other values.

    Returns:
        The changes, as lines "key: old → new".

    Raises:
        InputError: if a file cannot be read, the preset names a key that `params` does not have, or the
            parameters could not be used with it.
    """
    round_trip = YAML(typ="rt")  # builds plain values only
    round_trip.default_flow_style = False  # the form that DVC writes, too
    read_params(params)  # says what is wrong with it
    document = round_trip.load(params.read_text(encoding="utf-8"))
    changes = _merge(document, read_params(preset), where=preset)
    check_params(document, where=f"{params} with {preset}")
    if changes:
        with atomic_path(params.resolve()) as temporary, temporary.open("w", encoding="utf-8") as stream:
            round_trip.dump(document, stream)
    return changes


def preset_names(folder: Path) -> list[str]:
    """The presets of a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def apply_to(params: Mapping[str, Any], preset: Path) -> dict[str, Any]:
    """The parameters with the values of a preset, which no file is changed for.

    Raises:
        InputError: if the preset cannot be read or names a key that `params` does not have.
    """
    changed = copy.deepcopy(dict(params))
    _merge(changed, read_params(preset), where=preset)
    return changed


def _merge(
    target: MutableMapping[str, Any], source: Mapping[str, Any], where: Path, prefix: str = ""
) -> list[str]:
    changes: list[str] = []
    for key, value in source.items():
        if key not in target:
            raise InputError(f"the preset sets {prefix}{key}, which params.yaml does not have", where=where)
        both = isinstance(value, Mapping) and isinstance(target[key], MutableMapping)
        if both and prefix + key not in WHOLE:
            changes += _merge(target[key], value, where, f"{prefix}{key}.")
        elif target[key] != value:
            changes.append(f"{prefix}{key}: {_plain(target[key])} → {_plain(value)}")
            target[key] = value
    return changes


def _plain(value: Any) -> str:
    """A value as YAML has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)

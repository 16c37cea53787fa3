"""What a bundle needs to know of a project's params.yaml."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spheremap.api.protocol import Protocol
from spheremap.base.errors import InputError
from spheremap.config.slices import parse
from spheremap.features.backbones.extractor import Precision
from spheremap.features.backbones.spec import BackboneSpec


@dataclass(frozen=True)
class Project:
    """The current data set and backbone, and how features are extracted, fused and matched."""

    dataset: str
    backbone: str
    spec: BackboneSpec
    precision: Precision
    sphere_weight: float
    protocol: Protocol


def read_project(path: Path) -> Project:
    """Read params.yaml.

    Raises:
        InputError: if it cannot be read or lacks a key.
    """
    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            "cannot read the parameters",
            where=path,
            found=error.strerror or str(error),
            fix="run the command in the project's top folder, or name the file with --params",
        ) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError("not a YAML file", where=path, found=" ".join(str(error).split())) from error
    backbone = _get(params, path, "features", "backbone")
    found = {
        "dataset": _get(params, path, "dataset"),
        "backbone": backbone,
        "spec": _get(params, path, "backbones", str(backbone)),
        "precision": _get(params, path, "features", "precision"),
        "sphere_weight": _get(params, path, "evaluate", "sphere_weight"),
        "protocol": {
            "fit": _get(params, path, "features", "fit"),
            **{
                key: _get(params, path, "evaluate", key)
                for key in ("source", "readout", "window", "temperature")
            },
        },
    }
    return parse(found, Project, where=path)


def _get(params: Any, path: Path, *keys: str) -> Any:
    for key in keys:
        if not isinstance(params, dict) or key not in params:
            raise InputError(f"missing parameter {'.'.join(keys)!r}", where=path, fix="add it")
        params = params[key]
    return params

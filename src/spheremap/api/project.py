"""The project that a command runs in: what its params.yaml says, and the tables that its workflow makes."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spheremap.api.protocol import Protocol
from spheremap.base.errors import InputError
from spheremap.config.slices import parse
from spheremap.features.backbones.extractor import Precision
from spheremap.features.backbones.spec import BackboneSpec

PARAMS = Path("params.yaml")  # of the project whose top folder is the current one


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
    """Read what a bundle needs of params.yaml.

    Raises:
        InputError: if it cannot be read or lacks a key.
    """
    params = read_params(path)
    backbone = get(params, path, "features", "backbone")
    found = {
        "dataset": get(params, path, "dataset"),
        "backbone": backbone,
        "spec": get(params, path, "backbones", str(backbone)),
        "precision": get(params, path, "features", "precision"),
        "sphere_weight": get(params, path, "methods", "fused", "sphere_weight"),
        "protocol": {
            "fit": get(params, path, "features", "fit"),
            **{
                key: get(params, path, "evaluate", key)
                for key in ("source", "readout", "window", "temperature")
            },
        },
    }
    return parse(found, Project, where=path)


def read_params(path: Path) -> Any:
    """What stands in params.yaml, unchecked.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            "cannot read the parameters",
            where=path,
            found=error.strerror or str(error),
            fix="run the command in the project's top folder",
        ) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError("not a YAML file", where=path, found=" ".join(str(error).split())) from error


def get(params: Any, path: Path, *keys: str) -> Any:
    """The parameter of that key.

    Raises:
        InputError: if there is none.
    """
    for key in keys:
        if not isinstance(params, dict) or key not in params:
            raise InputError(f"missing parameter {'.'.join(keys)!r}", where=path, fix="add it")
        params = params[key]
    return params


def make_tables(dataset: str, threads: int) -> Path:
    """Have the workflow of the current folder make a data set's canonical tables, or find them up to date.

    What it says while it downloads, ingests and masks goes to standard error.

    Returns:
        The folder of the tables.

    Raises:
        InputError: if it fails.
    """
    command = [sys.executable, "-m", "snakemake", "--cores", str(threads)]
    command += ["--quiet", "host", "progress", "rules"]
    command += ["--config", f'dataset="{dataset}"', "--", "data"]  # in quotes: a name of digits is a name
    # its jobs find this interpreter's commands even where the environment is not activated
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    with subprocess.Popen(command, env=os.environ | {"PATH": path}, stdout=sys.__stderr__) as process:
        code = process.wait()
    if code:
        raise InputError(
            f"the workflow could not make the tables of data set {dataset!r}",
            found=f"Snakemake ended with {code}",
            fix="mend what it says above, and run the same command again",
        )
    return Path("data", dataset, "canonical")

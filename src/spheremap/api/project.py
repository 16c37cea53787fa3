"""The project that a command runs in: what its params.yaml says, and the tables that its workflow makes."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from spheremap.api.protocol import Protocol
from spheremap.base.errors import InputError
from spheremap.config import load_params
from spheremap.config.backbone import Backbone, TokenPrecision

PARAMS = Path("params.yaml")  # of the project whose top folder is the current one


@dataclass(frozen=True)
class Project:
    """The current data set and backbone, and how features are extracted, fused and matched."""

    dataset: str
    backbone: str
    spec: Backbone
    precision: TokenPrecision
    sphere_weight: float
    protocol: Protocol


def read_project(path: Path) -> Project:
    """Read what a bundle needs of params.yaml.

    Raises:
        InputError: if it cannot be read or used.
    """
    params = load_params(path)
    features, evaluate = params.features, params.evaluate
    protocol = Protocol(
        features.fit, evaluate.source, evaluate.readout, evaluate.window, evaluate.temperature
    )
    return Project(
        params.dataset,
        features.backbone,
        params.backbones[features.backbone],
        features.precision,
        float(params.methods["fused"]["sphere_weight"]),
        protocol,
    )


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

"""The project that a command runs in: what its params.yaml says, and the tables that its workflow makes."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spheremap.api.protocol import Protocol
from spheremap.base.choices import Precision
from spheremap.base.errors import InputError
from spheremap.base.files import sha256_file
from spheremap.config import load_params
from spheremap.config.backbone import Backbone
from spheremap.config.credit import Credit
from spheremap.methods import make_methods
from spheremap.methods.engine.fitting import load_fitted
from spheremap.methods.in_domain import InDomain
from spheremap.model.domain import Domain

PARAMS = Path("params.yaml")  # of the project whose top folder is the current one


@dataclass(frozen=True)
class Project:
    """The current data set and backbone, and how features are extracted, fused and matched."""

    dataset: str
    backbone: str
    spec: Backbone
    precision: Precision
    sphere_weight: float
    protocol: Protocol
    methods: Mapping[str, Mapping[str, Any]]
    credits: list[Credit]


def read_project(path: Path) -> Project:
    """Read what a bundle needs of params.yaml.

    Raises:
        InputError: if it cannot be read or used.
    """
    params = load_params(path)
    features, evaluate = params.features, params.evaluate
    protocol = Protocol(
        features.fit,
        evaluate.source,
        evaluate.readout,
        evaluate.window,
        evaluate.temperature,
        evaluate.sigma,
    )
    return Project(
        params.dataset,
        features.backbone,
        params.backbones[features.backbone],
        features.precision,
        float(params.methods["fused"]["sphere_weight"]),
        protocol,
        params.methods,
        params.credits(),
    )


def read_domain(project: Project, head: Path, dim: int) -> Domain | None:
    """The domain of a head, where a method by domain was fitted for it and lies beside it.

    Args:
        project: whose methods they are.
        head: the head's file.
        dim: D, width of the features.

    Raises:
        ProvenanceError: if the file is damaged or of another head.
    """
    for name, method in make_methods(project.methods, project.methods).items():
        path = head.parent / "methods" / f"{name}.safetensors"
        if isinstance(method, InDomain) and path.exists():
            expected = {"step": "fit", "inputs": {"head": sha256_file(head)}}
            domain: Domain = load_fitted(path, method, dim, expected)  # type: ignore[assignment]
            return domain
    return None


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

"""The project that a command runs in: its files, and the tables that its workflow makes."""

import os
import subprocess
import sys
from pathlib import Path

from spheremap.base.errors import InputError
from spheremap.base.files import sha256_file
from spheremap.methods import Entries, make_methods
from spheremap.methods.engine.fitting import load_fitted
from spheremap.methods.in_domain import InDomain
from spheremap.model.domain import Domain

PARAMS = Path("params.yaml")  # of the project whose top folder is the current one


def read_domain(methods: Entries, head: Path, dim: int) -> Domain | None:
    """The domain of a head, where a method by domain was fitted for it and lies beside it.

    Args:
        methods: section `methods` of params.yaml.
        head: the head's file.
        dim: D, width of the features.

    Raises:
        ProvenanceError: if the file is damaged or of another head.
    """
    for name, method in make_methods(methods, methods).items():
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

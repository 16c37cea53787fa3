"""Fixtures that several test modules share."""

import fcntl
import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import settings
from project import Project
from tiny import TINY

if not torch.cuda.is_available():
    # the kernels run in Triton's interpreter, which must be chosen before anything loads Triton
    os.environ["TRITON_INTERPRET"] = "1"

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("any machine", deadline=None)  # a loaded machine is no fault of the code
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in reverse order: those of the workflow take longest, and are not to be left for the end."""
    files = {path: number for number, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: -files[item.path])


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's top folder."""
    return ROOT


@pytest.fixture(scope="module")
def load() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a benchmark, which is a script in a folder of its own."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="session")
def real() -> Path:
    """Real photographs and annotations, where they lie beside the project."""
    folder = ROOT.parent / "shared" / "real"
    if not folder.is_dir():
        pytest.skip(f"real photographs are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which `snakemake --cores all` has run and DVC has recorded it.

    The first process of pytest-xdist makes it, each has a copy of its own.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            project = Project.copy(ROOT, tmp_path_factory.mktemp("making"), TINY)
            project.snakemake()
            project.run("dvc", "commit", "--force", "--quiet")
            project.commit("First results")
            project.folder.rename(shared)
    folder = tmp_path_factory.mktemp("made") / "project"
    shutil.copytree(shared, folder, symlinks=True)
    return Project(folder)

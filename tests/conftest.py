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
from studio import Studio, make_studio
from tiny import TINY

if not torch.cuda.is_available():
    # the kernels run in Triton's interpreter, which must be chosen before anything loads Triton
    os.environ["TRITON_INTERPRET"] = "1"

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("any machine", deadline=None)  # a loaded machine is no fault of the code
settings.load_profile("any machine")


# no process of pytest-xdist is to be left alone with one of these at the end
LONGEST = (
    "test_slurm.py",
    "test_profiles.py",
    "test_data_sets.py",
    "test_own_data.py",
    "test_workflow.py",
    "test_docs.py",
    "test_packaging.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others in reverse order of their names."""
    order = [*LONGEST, *dict.fromkeys(item.path.name for item in reversed(items))]
    items.sort(key=lambda item: order.index(item.path.name))


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
    return Project(shutil.copytree(shared, tmp_path_factory.mktemp("made") / "project", symlinks=True))


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """A copy of the finished project that a test may change."""
    return Project(shutil.copytree(made.folder, tmp_path / "project", symlinks=True))


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """A few photographs, and a head in a bundle."""
    return make_studio(tmp_path_factory.mktemp("studio"))

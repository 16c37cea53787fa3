"""What the machine lacks: one error names it; then the same command ends in the undisturbed bytes."""

import importlib
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

import pytest
import torch
from project import Project
from trial import Step, Trial, cases, repeated, size_of

pytestmark = pytest.mark.slow

MIB = 2**20
# step -> folders that it writes to; the last is full first (the state of training outweighs the head)
FOLDERS = {
    "render": ("data/shapes",),
    "weights": ("models/backbones",),
    "cache images": ("data/shapes/features",),
    "train": ("models/shapes", ".work/shapes"),
    "evaluate": ("results",),
    "report": ("results",),
}
WRITING = [(name, folder) for name, folders in FOLDERS.items() for folder in folders]
# step -> what computes in it
COMPUTING = {
    "cache images": ("spheremap.features.backbones.extractor", "Extractor", "__call__"),
    "train": ("spheremap.model.training.batches", "Views", "batch"),
    "evaluate": ("spheremap.model.head.mapper", "SphereMapper", "forward"),
}


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mount something at a folder."""
    mount(*options, str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def mount(*arguments: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mount {' '.join(arguments)}: {done.stderr.strip()}")


@repeated(0.2)
@cases("name", FOLDERS, short=["cache images"])
def test_full_disk(name: str, made: Project, steps: dict[str, Step], tmp_path: Path, rng: Random) -> None:
    """A small disk, with room for a part of what the step writes."""
    disk, step = tmp_path / "disk", steps[name]
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", f"size={512 * MIB}", "tmpfs"):
        trial = Trial(made, steps, disk / "project", logs=tmp_path)
        room = int(rng.uniform(0, 0.9) * sum(size_of(trial.folder / name) for name in step.outputs))
        trial.delete(step.outputs)
        mount("-o", f"remount,size={shutil.disk_usage(disk).used + room}", str(disk))
        trial.finish(step).refused("the disk is full", FOLDERS[name][-1])
        mount("-o", f"remount,size={512 * MIB}", str(disk))
        trial.redo(step)


@repeated(0.2)
@cases(("name", "folder"), WRITING, short=[("weights", "models/backbones"), ("train", ".work/shapes")])
def test_read_only_folder(name: str, folder: str, trial: Trial, rng: Random) -> None:
    step, place = trial.steps[name], trial.folder / folder
    trial.delete(step.outputs)
    place.mkdir(parents=True, exist_ok=True)
    with mounted(place, "--bind", str(place)):
        mount("-o", "remount,bind,ro", str(place))
        trial.finish(step).refused(folder)
    trial.redo(step)


@repeated(0.2)
@pytest.mark.parametrize("name", ["cache images", "train"])
def test_file_that_may_not_grow(name: str, trial: Trial, rng: Random) -> None:
    step = trial.steps[name]
    largest = max(size_of(trial.folder / output) for output in step.outputs)
    limit = int(rng.uniform(0.1, 0.9) * largest)
    trial.delete(step.outputs)
    trial.finish(step, partial(limit_files, limit)).refused("larger than is allowed", "shapes/")
    trial.redo(step)


def limit_files(size: int) -> None:
    """No file may be larger (`ulimit -f`)."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python itself does at its start
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@repeated(0.2)
@cases("memory", ["GPU", "machine"], short=["GPU"])
@cases("name", COMPUTING, short=["train"])
def test_out_of_memory(name: str, memory: str, trial: Trial, rng: Random) -> None:
    step = trial.steps[name]
    trial.delete(step.outputs)
    fault = partial(run_out, *COMPUTING[name], memory, rng.randrange(1, 3))
    trial.finish(step, fault).refused(f"the {memory} is out of memory")
    trial.redo(step)


def run_out(module: str, owner: str, method: str, memory: str, call: int) -> None:
    """Let a method run out of memory in one of its calls."""
    cls = getattr(importlib.import_module(module), owner)
    working, calls = getattr(cls, method), iter(range(1, call + 1))

    def failing(*arguments: object, **options: object) -> object:
        if next(calls, 0) == call:
            raise torch.OutOfMemoryError("CUDA out of memory.") if memory == "GPU" else MemoryError
        return working(*arguments, **options)

    setattr(cls, method, failing)

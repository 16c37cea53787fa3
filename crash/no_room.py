"""The disk is full, a folder is read-only, or a file may not grow."""

import os
import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator

from laboratory import Laboratory, Step
from trials import Outcome, Skipped, Trial, finished, refused

MIB = 2**20
# folders that each step writes to
FOLDERS = {
    "render": ("data/shapes", ".work/shapes"),
    "weights": ("models/backbones",),
    "cache images": ("data/shapes/features", ".work/shapes"),
    "train": ("models/shapes", ".work/shapes"),
    "evaluate": ("results",),
    "report": ("results",),
}


def trials(laboratory: Laboratory, repeats: int) -> Iterator[Trial]:
    for number in range(repeats):
        for name, folders in FOLDERS.items():
            step = laboratory.steps[name]
            yield Trial("disk full", name, number, lambda lab, rng, s=step: _full(lab, rng, s))
            folder = folders[number % len(folders)]
            yield Trial(
                "read-only folder", f"{name}, {folder}", number,
                lambda lab, rng, s=step, f=folder: _read_only(lab, s, f),
            )  # fmt: skip
        for name in ("cache images", "train"):
            step = laboratory.steps[name]
            yield Trial("file may not grow", name, number, lambda lab, rng, s=step: _limited(lab, rng, s))


def _mount(*arguments: str) -> None:
    if os.geteuid() != 0:
        raise Skipped("mounting needs root")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skipped(f"mount {' '.join(arguments)}: {done.stderr.strip()}")


def _full(laboratory: Laboratory, rng: random.Random, step: Step) -> Outcome:
    """The project lies on a small disk with room for a part of what the step writes."""
    disk = laboratory.folder / "disk"
    disk.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={512 * MIB}", "tmpfs", str(disk))
    try:
        workshop = laboratory.workshop(folder=disk / "project")
        size = sum(_size(laboratory.reference / name) for name in step.outputs)
        workshop.delete(step.outputs)
        used = shutil.disk_usage(disk).used
        _mount("-o", f"remount,size={used + int(rng.uniform(0, size))}", str(disk))
        run = workshop.finish(step)
        _mount("-o", f"remount,size={512 * MIB}", str(disk))
        if run.code == 0:
            return finished(workshop, run, "there was just enough room")
        return refused(workshop, run, [step])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _size(path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return (
        path.stat().st_size
        if path.is_file()
        else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    )


def _read_only(laboratory: Laboratory, step: Step, folder: str) -> Outcome:
    workshop = laboratory.workshop()
    workshop.delete(step.outputs)
    place = workshop.folder / folder
    place.mkdir(parents=True, exist_ok=True)
    _mount("--bind", str(place), str(place))
    try:
        _mount("-o", "remount,bind,ro", str(place))
        run = workshop.finish(step)
    finally:
        subprocess.run(["umount", str(place)], check=True)
    if run.code == 0:
        outcome = finished(workshop, run, "nothing was to be written there")
    else:
        outcome = refused(workshop, run, [step], names=folder)
    workshop.close()
    return outcome


def _limited(laboratory: Laboratory, rng: random.Random, step: Step) -> Outcome:
    """No file may be larger than a limit (`ulimit -f`)."""
    largest = max(_size(laboratory.reference / name) for name in step.outputs)
    limit = int(rng.uniform(0.1, 0.9) * largest)

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python itself does at its start
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    workshop = laboratory.workshop()
    workshop.delete(step.outputs)
    run = workshop.finish(step, prepare)
    if run.code == 0:
        outcome = finished(workshop, run, "no file was that large")
    else:
        outcome = refused(workshop, run, [step], f"{limit} bytes")
    workshop.close()
    return outcome

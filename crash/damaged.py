"""A flipped byte in a file, or a file cut short, with its date as it was; then a command reads it."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

from laboratory import CANONICAL, Laboratory, Step, Workshop
from trials import Outcome, Trial, Verdict, finished, refused

FEATURES = "data/shapes/features"
# what -> file (`*`: one of several) and the steps that read it
FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "shard of views": (f"{FEATURES}/views-0of1.h5", ("train", "cache-index views")),
    "shard of images": (f"{FEATURES}/images-0of1.h5", ("evaluate", "report", "train")),
    "index of views": (f"{FEATURES}/views.h5", ("train",)),
    "index of images": (f"{FEATURES}/images.h5", ("evaluate",)),
    "weights": ("models/backbones/tiny.safetensors", ("cache images",)),
    "head": ("models/shapes/head.safetensors", ("evaluate", "report")),
    "image": (f"{CANONICAL}/images/*/*.jpg", ("cache views", "cache images", "report")),
    "mask": (f"{CANONICAL}/masks/*/*.png", ("cache views", "cache images", "report")),
    "images.csv": (f"{CANONICAL}/images.csv", ("cache images", "train", "evaluate", "report")),
    "keypoints.csv": (f"{CANONICAL}/keypoints.csv", ("cache views", "evaluate")),
    "pairs.csv": (f"{CANONICAL}/pairs.csv", ("cache images", "train")),
    "pictures.csv": (f"{CANONICAL}/pictures.csv", ("cache images", "report")),
    "provenance.json": (f"{CANONICAL}/provenance.json", ("cache views", "report")),
    "metrics.json": ("results/metrics.json", ("report",)),
    "by_category.csv": ("results/by_category.csv", ("report",)),
    "by_azimuth_gap.csv": ("results/by_azimuth_gap.csv", ("report",)),
    "predictions.csv.gz": ("results/predictions.csv.gz", ("report",)),
    "record of results": ("results/provenance.json", ("report",)),
    "training curves": ("results/training/*.csv", ("report",)),
}


def trials(laboratory: Laboratory, repeats: int) -> Iterator[Trial]:
    for fault, harm in (("flipped byte", _flip), ("file cut short", _cut)):
        for number in range(repeats):
            for what, (pattern, readers) in FILES.items():
                reader = laboratory.steps[readers[number % len(readers)]]
                yield Trial(
                    fault, f"{what}, read by {reader.name}", number,
                    lambda lab, rng, p=pattern, r=reader, h=harm: _read(lab, rng, p, r, h),
                )  # fmt: skip
            for what, unfinished in (("training state", _state),):
                yield Trial(
                    fault, f"{what} of an unfinished run", number,
                    lambda lab, rng, u=unfinished, h=harm: u(lab, rng, h),
                )  # fmt: skip


def _flip(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    content[place] ^= rng.randrange(1, 256)
    _write(path, bytes(content))
    return f"byte {place} of {path.name}"


def _cut(path: Path, rng: random.Random) -> str:
    content = path.read_bytes()
    length = rng.randrange(len(content))
    _write(path, content[:length])
    return f"{path.name} after {length} of {len(content)} bytes"


def _write(path: Path, content: bytes) -> None:
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _read(laboratory: Laboratory, rng: random.Random, pattern: str, reader: Step, harm) -> Outcome:
    workshop = laboratory.workshop()
    workshop.delete(reader.outputs)
    found = sorted(path.relative_to(workshop.folder).as_posix() for path in workshop.folder.glob(pattern))
    name = rng.choice(found)
    detail = harm(workshop.own(name), rng)
    run = workshop.finish(reader)
    if run.code == 0:  # the damaged bytes say nothing, or nothing that was read
        outcome = finished(workshop, run, detail, ignore=[name])
    else:
        producer = laboratory.producer(name)
        outcome = refused(
            workshop, run, [producer, reader], detail,
            names=_named(name), remedy=lambda: workshop.delete(producer.outputs),
        )  # fmt: skip
    workshop.close()
    return outcome


def _named(name: str) -> str:
    """What an error about a file must name: the file, or its folder where the tables are checked together."""
    return CANONICAL if name.startswith(f"{CANONICAL}/") and name.count("/") == 3 else Path(name).name


def _unfinished(workshop: Workshop, step: Step, prepare, pattern: str, rng: random.Random, harm) -> Outcome:
    """Stop a step on the way, harm what it goes on from, and run it again."""
    workshop.delete(step.outputs)
    stopped = workshop.finish(step, prepare)
    files = sorted(path for path in (workshop.folder / ".work").glob(pattern) if path.is_file())
    if stopped.code != 9 or not files:
        return Outcome(Verdict.WRONG, f"the step could not be stopped on the way: {stopped.output[-300:]}")
    detail = harm(rng.choice(files), rng)
    outcome = finished(workshop, workshop.finish(step), detail)
    workshop.close()
    return outcome


def _state(laboratory: Laboratory, rng: random.Random, harm) -> Outcome:
    def prepare() -> None:
        from spheremap.model.training import loop

        save = loop.save_state

        def stop(*arguments: object) -> None:
            save(*arguments)
            os._exit(9)

        loop.save_state = stop

    step = laboratory.steps["train"]
    return _unfinished(laboratory.workshop(), step, prepare, "shapes/train/*.safetensors", rng, harm)

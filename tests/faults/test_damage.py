"""Damaged files and those made with other settings are noticed where they are read."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from trial import CANONICAL, Trial, cases, repeated

pytestmark = pytest.mark.slow

FEATURES = "data/shapes/features"
# file (`*`: one of several) -> steps that read it
READERS = {
    f"{FEATURES}/views-0of1.h5": ("train", "cache-index views"),
    f"{FEATURES}/images-0of1.h5": ("evaluate", "report", "train"),
    f"{FEATURES}/views.h5": ("train",),
    f"{FEATURES}/images.h5": ("evaluate",),
    "models/backbones/tiny.safetensors": ("cache images",),
    "models/shapes/head.safetensors": ("evaluate", "report"),
    f"{CANONICAL}/images/*/*.jpg": ("cache views", "cache images", "report"),
    f"{CANONICAL}/masks/*/*.png": ("cache views", "cache images", "report"),
    f"{CANONICAL}/images.csv": ("cache images", "train", "evaluate", "report"),
    f"{CANONICAL}/keypoints.csv": ("cache views", "evaluate"),
    f"{CANONICAL}/pairs.csv": ("cache images", "train"),
    f"{CANONICAL}/pictures.csv": ("cache images", "report"),
    f"{CANONICAL}/provenance.json": ("cache views", "report"),
    "results/metrics.json": ("report",),
    "results/scores.csv": ("report",),
    "results/predictions.csv.gz": ("report",),
    "results/provenance.json": ("report",),
    "results/training/*.csv": ("report",),
}
SHORT = [
    (f"{FEATURES}/images-0of1.h5", "evaluate"),
    ("models/shapes/head.safetensors", "evaluate"),
    ("results/predictions.csv.gz", "report"),
]
# steps made with another value of a parameter, the reader of what they made, what its error names
OTHERS: list[tuple[list[str], tuple[str, ...], Any, str, str]] = [
    (["render"], ("seed",), 1, "train", "views"),
    (["cache images"], ("backbone", "norm"), True, "evaluate", "images"),
    (["cache images", "cache-index images"], ("backbone", "norm"), True, "evaluate", "head.safetensors"),
    (["train"], ("train", "seed"), 1, "report", "head"),
]


def flip(content: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ rng.randrange(1, 256)]) + content[place + 1 :]


def cut(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content))]


@repeated(0.08)
@cases("harm", [flip, cut], short=[flip])
@cases(("pattern", "reader"), [(file, name) for file in READERS for name in READERS[file]], short=SHORT)
def test_damaged_file(pattern: str, reader: str, harm: Any, trial: Trial, rng: Random) -> None:
    step = trial.steps[reader]
    trial.delete(step.outputs)
    name = rng.choice(sorted(trial.folder.glob(pattern))).relative_to(trial.folder).as_posix()
    trial.replace(name, harm((trial.folder / name).read_bytes(), rng))
    run = trial.finish(step)
    if run.code == 0:  # the damaged bytes say nothing, or nothing that was read
        trial.check(ignore=name)
        return
    # the tables are checked together: of them, their folder is named
    run.refused(CANONICAL if name.startswith(CANONICAL) and name.count("/") == 3 else Path(name).name)
    producer = trial.producer(name)
    trial.delete(producer.outputs)
    trial.redo(producer, step)


@cases(("made_anew", "key", "value", "reader", "named"), OTHERS, short=OTHERS[2:])
def test_made_with_other_settings(
    made_anew: list[str], key: tuple[str, ...], value: Any, reader: str, named: str, trial: Trial
) -> None:
    step, changed = trial.steps[reader], [trial.steps[name] for name in made_anew]
    params = trial.folder / changed[0].argv[changed[0].argv.index("--params") + 1]
    before = params.read_text()
    content = json.loads(before)
    section = content
    for part in key[:-1]:
        section = section[part]
    section[key[-1]] = value
    params.write_text(json.dumps(content))
    for work in changed:
        trial.delete(work.outputs)
        trial.finish(work).finished()
    trial.delete(step.outputs)
    trial.finish(step).refused(named)
    params.write_text(before)
    trial.delete(name for work in changed for name in work.outputs)
    trial.redo(*changed, step)

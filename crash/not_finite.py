"""NaN or infinity in features or weights, in files that are otherwise whole."""

import multiprocessing
import random
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from laboratory import Laboratory, Step
from trials import Outcome, Trial, Verdict, refused

VALUES = {"NaN": np.nan, "infinity": np.inf}
# kind of features, reader: of these it reads a part, validation's or those it draws
IN_PART = {("images", "train"), ("images", "report")}


def trials(laboratory: Laboratory, repeats: int) -> Iterator[Trial]:
    for number in range(repeats):
        for what, value in VALUES.items():
            for kind, reader in (
                ("views", "train"),
                ("images", "train"),
                ("images", "evaluate"),
                ("images", "report"),
            ):
                step = laboratory.steps[reader]
                yield Trial(
                    "NaN or infinity", f"{what} in features of {kind}, read by {reader}", number,
                    lambda lab, rng, k=kind, s=step, v=value: _features(lab, rng, k, s, v),
                )  # fmt: skip
            yield Trial(
                "NaN or infinity", f"{what} in weights, read by cache images", number,
                lambda lab, rng, v=value: _weights(lab, rng, v),
            )  # fmt: skip


def _features(laboratory: Laboratory, rng: random.Random, kind: str, reader: Step, value: float) -> Outcome:
    name = f"data/shapes/features/{kind}-0of1.h5"
    workshop = laboratory.workshop()
    workshop.delete(reader.outputs)
    with h5py.File(workshop.own(name), "r+") as file:
        tokens = file["tokens"]
        where = tuple(rng.randrange(size) for size in tokens.shape)
        tokens[where] = value
    run = workshop.finish(reader)
    producer = laboratory.producer(name)
    if run.code == 0:
        different = workshop.differences(ignore=[name])
        if different or (kind, reader.name) not in IN_PART:
            return Outcome(Verdict.WRONG, f"used without a word; {'; '.join(different)}")
        workshop.close()
        return Outcome(Verdict.IDENTICAL, "not among what was read")
    outcome = refused(
        workshop, run, [producer, reader], f"token {where}",
        names=Path(name).name, remedy=lambda: workshop.delete(producer.outputs),
    )  # fmt: skip
    workshop.close()
    return outcome


def _weights(laboratory: Laboratory, rng: random.Random, value: float) -> Outcome:
    name = "models/backbones/tiny.safetensors"
    workshop = laboratory.workshop()
    step = laboratory.steps["cache images"]
    workshop.delete(step.outputs)
    # elsewhere: once this process has used PyTorch's threads, its forks wait for them for ever
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(_spoil, (workshop.own(name), rng.random(), value))
    run = workshop.finish(step)
    producer = laboratory.producer(name)
    outcome = refused(
        workshop, run, [producer, step], names="weights", remedy=lambda: workshop.delete(producer.outputs)
    )
    workshop.close()
    return outcome


def _spoil(path: Path, where: float, value: float) -> None:
    from spheremap.base.tensors import read_tensors, write_tensors

    tensors, content = read_tensors(path)
    bias = tensors["patch_embed.proj.bias"]
    bias[int(where * len(bias))] = value
    write_tensors(path, tensors, content)

"""`kill -9` of a whole process group at a random moment, then the same command again."""

import random
import re
import time
from collections.abc import Iterator
from dataclasses import replace

from laboratory import Laboratory, Step, Workshop
from trials import Outcome, Trial, Verdict, finished

# target -> outputs that make it run
MILESTONES = {
    "data": ["data/shapes/canonical"],
    "weights": ["models/backbones"],
    "features": ["data/shapes/features"],
    "train": ["models/shapes"],
    "results": [],  # what evaluation and report make; see `stale`
}

# DVC does not write its own files in one step: what it says of one cut short, and what docs/faults.md says
DVC_REPAIRS = {
    r"dvc\.lock.*(validation failed|corrupted|invalid)": ("git", "checkout", "dvc.lock"),
    r"rwlock.*corrupted": ("rm", ".dvc/tmp/rwlock"),
}


def trials(laboratory: Laboratory, repeats: int, commands: int) -> Iterator[Trial]:
    """Kills of every step, and of `snakemake` and `dvc repro` at every milestone."""
    for number in range(repeats):
        for step in laboratory.commands:
            yield Trial("killed: spheremap", step.name, number, lambda lab, rng, s=step: _step(lab, rng, s))
    for number in range(commands):
        for target in MILESTONES:
            for tool in ("snakemake", "dvc") if number % 3 == 2 else ("snakemake",):
                yield Trial(
                    f"killed: {tool}", target, number,
                    lambda lab, rng, t=target, tool=tool: _command(lab, rng, tool, t),
                )  # fmt: skip


def _step(laboratory: Laboratory, rng: random.Random, step: Step) -> Outcome:
    moment = rng.uniform(0, laboratory.duration(step))
    while True:
        workshop = laboratory.workshop()
        workshop.delete(step.outputs)
        run = workshop.start(step)
        if run.wait(moment) is None:
            break
        workshop.close()
        moment *= rng.uniform(0.5, 1)  # it was quicker than when it was measured
    run.kill()
    outcome = finished(workshop, workshop.finish(step), f"after {moment:.2f} s")
    workshop.close()
    return outcome


def command(tool: str, target: str) -> tuple[str, ...]:
    """The command that makes a milestone."""
    if tool == "snakemake":
        return "snakemake", "--cores", "all", "--", target
    return "dvc", "repro", "evaluate" if target == "results" else target


def stale(workshop: Workshop, target: str) -> None:
    """Remove the outputs of a milestone."""
    steps = workshop.laboratory.steps
    workshop.delete(MILESTONES[target])
    if target == "results":
        workshop.delete([*steps["evaluate"].outputs, *steps["report"].outputs])


_measured: dict[tuple[str, ...], float] = {}


def _command(laboratory: Laboratory, rng: random.Random, tool: str, target: str) -> Outcome:
    words = command(tool, target)
    if words not in _measured:
        workshop = laboratory.workshop(whole=True)
        stale(workshop, target)
        start = time.monotonic()
        run = workshop.finish_command(*words)
        _measured[words] = time.monotonic() - start
        workshop.require_undisturbed(run)
        workshop.close()
    moment = rng.uniform(0, _measured[words])
    while True:
        workshop = laboratory.workshop(whole=True)
        stale(workshop, target)
        run = workshop.start_command(*words)
        if run.wait(moment) is None:
            break
        workshop.close()
        moment *= rng.uniform(0.5, 1)
    run.kill()
    outcome = again(workshop, words, f"after {moment:.2f} s")
    workshop.close()
    return outcome


def again(workshop: Workshop, words: tuple[str, ...], detail: str) -> Outcome:
    """The outcome of the same command line after it was stopped."""
    run = workshop.finish_command(*words)
    for complaint, repair in DVC_REPAIRS.items():
        if run.code != 0 and re.search(complaint, run.output):
            workshop.finish_command(*repair)
            run = workshop.finish_command(*words)
            outcome = finished(workshop, run, f"{detail}, then {' '.join(repair)}")
            well = outcome.verdict is Verdict.IDENTICAL
            return replace(outcome, verdict=Verdict.REFUSED) if well else outcome
    return finished(workshop, run, detail)

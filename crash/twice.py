"""Two runs of the same command at once."""

import random
import time
from collections.abc import Iterator

from killed import stale
from laboratory import Laboratory, Step
from trials import Outcome, Trial, Verdict, finished


def trials(laboratory: Laboratory, repeats: int, commands: int) -> Iterator[Trial]:
    for number in range(repeats):
        for step in laboratory.commands:
            yield Trial(
                "two at once", f"spheremap {step.name}", number, lambda lab, rng, s=step: _step(lab, rng, s)
            )
    for number in range(commands):
        yield Trial("two at once", "snakemake", number, _snakemake)


def _step(laboratory: Laboratory, rng: random.Random, step: Step) -> Outcome:
    delay = rng.uniform(0, laboratory.duration(step))
    workshop = laboratory.workshop()
    workshop.delete(step.outputs)
    first = workshop.start(step)
    time.sleep(delay)
    second = workshop.finish(step)
    if first.wait() is None:
        first.kill()
    outcome = finished(workshop, second, f"{delay:.2f} s apart")
    if outcome.verdict is Verdict.IDENTICAL:
        outcome = finished(workshop, first, f"{delay:.2f} s apart")
    workshop.close()
    return outcome


def _snakemake(laboratory: Laboratory, rng: random.Random) -> Outcome:
    """One makes the results; the other does too, or says that it cannot now."""
    workshop = laboratory.workshop(whole=True)
    stale(workshop, "results")
    words = ("snakemake", "--cores", "all", "--", "results")
    runs = [workshop.start_command(*words)]
    time.sleep(rng.uniform(0, 3))
    runs.append(workshop.start_command(*words))
    for run in runs:
        if run.wait() is None:
            run.kill()
    ended = [run for run in runs if run.code == 0]
    stopped = [run for run in runs if run.code != 0]
    if not ended or any(run.complaint() is None for run in stopped):
        return Outcome(Verdict.WRONG, "; ".join(run.output[-300:] for run in stopped))
    outcome = finished(workshop, ended[0])
    if stopped and outcome.verdict is Verdict.IDENTICAL:
        outcome = Outcome(Verdict.REFUSED, f"one finished; the other: {stopped[0].complaint()}")
    workshop.close()
    return outcome

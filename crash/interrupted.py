"""Ctrl-C or SIGTERM in the midst of a command; then the same command again."""

import random
import signal
import time
from collections.abc import Iterator

from killed import MILESTONES, again, command, stale
from laboratory import Laboratory, Step
from trials import Outcome, Trial, Verdict, finished

SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}
ATTEMPTS = 8  # to hit a command before its end


def trials(laboratory: Laboratory, repeats: int, commands: int) -> Iterator[Trial]:
    for number in range(repeats):
        for name in ("render", "cache images", "train", "evaluate"):
            for what, sent in SIGNALS.items():
                yield Trial(
                    "interrupted: spheremap", f"{name}, {what}", number,
                    lambda lab, rng, s=laboratory.steps[name], n=sent: _step(lab, rng, s, n),
                )  # fmt: skip
    for number in range(commands):
        for target in MILESTONES:
            for what, sent in SIGNALS.items():
                yield Trial(
                    "interrupted: dvc repro", f"{target}, {what}", number,
                    lambda lab, rng, t=target, n=sent: _dvc(lab, rng, t, n),
                )  # fmt: skip


def _step(laboratory: Laboratory, rng: random.Random, step: Step, number: signal.Signals) -> Outcome:
    moment = rng.uniform(0.2, 1) * laboratory.duration(step)
    for _ in range(ATTEMPTS):
        workshop = laboratory.workshop()
        workshop.delete(step.outputs)
        run, start = workshop.start(step), time.monotonic()
        if run.wait(moment) is None:
            run.send(number)
            if run.wait() is None:
                run.kill()
        detail = f"after {moment:.2f} s, exit code {run.code}"
        if run.code != 0:
            break
        workshop.close()
        moment = rng.uniform(0.2, 1) * (time.monotonic() - start)  # so long it really takes
    else:
        return Outcome(Verdict.WRONG, f"{detail}: none of {ATTEMPTS} signals ended it")
    heeded = run.code == 130 if number is signal.SIGINT else run.code == -number
    if not heeded or "Traceback" in run.output:
        return Outcome(Verdict.WRONG, f"{detail}: {run.output[-400:]}")
    outcome = finished(workshop, workshop.finish(step), detail)
    workshop.close()
    return outcome


def _dvc(laboratory: Laboratory, rng: random.Random, target: str, number: signal.Signals) -> Outcome:
    workshop = laboratory.workshop(whole=True)
    stale(workshop, target)
    words = command("dvc", target)
    run = workshop.start_command(*words)
    moment = rng.uniform(0.5, 15)
    if run.wait(moment) is None:
        run.send(number)
        if run.wait() is None:
            run.kill()
    detail = f"after {moment:.1f} s, exit code {run.code}"
    outcome = again(workshop, words, detail)
    workshop.close()
    return outcome

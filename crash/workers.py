"""One process of a run is killed, such as by the kernel when memory is short; the others live on."""

import os
import random
import signal
import time
from collections.abc import Iterator

import psutil
from laboratory import PATIENCE, Laboratory, Run
from trials import Outcome, Trial, Verdict, finished, refused


def trials(repeats: int, commands: int) -> Iterator[Trial]:
    for number in range(repeats):
        yield Trial("worker killed", "a process that renders", number, _renderer)
        yield Trial("worker killed", "the command, not its workers", number, _parent)
    for number in range(commands):
        yield Trial("worker killed", "a job of snakemake", number, _job)


def _children(run: Run, word: str) -> list[psutil.Process]:
    """Processes below a run whose command line holds a word, as soon as there are any."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and run.wait(0.01) is None:
        found = []
        for process in psutil.Process(run.pid).children(recursive=True):
            try:
                if word in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        if found:
            return found
    return []


def _renderer(laboratory: Laboratory, rng: random.Random) -> Outcome:
    step = laboratory.steps["render"]
    workshop = laboratory.workshop()
    workshop.delete(step.outputs)
    run = workshop.start(step)
    workers = _children(run, "spawn_main")
    time.sleep(rng.uniform(0, laboratory.duration(step) / 2))
    if workers and workers[0].is_running():
        rng.choice(workers).kill()
    if run.wait() is None:
        run.kill()
    if run.code == 0:
        outcome = finished(workshop, run, "it had ended its work")
    else:
        outcome = refused(workshop, run, [step], names="was killed")
    workshop.close()
    return outcome


def _parent(laboratory: Laboratory, rng: random.Random) -> Outcome:
    """Its workers must end by themselves, and the next run must not mind."""
    step = laboratory.steps["render"]
    workshop = laboratory.workshop()
    workshop.delete(step.outputs)
    run = workshop.start(step)
    workers = _children(run, "spawn_main")
    time.sleep(rng.uniform(0, laboratory.duration(step) / 2))
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    outcome = finished(workshop, workshop.finish(step))
    _, alive = psutil.wait_procs(workers, timeout=60)
    if alive:
        outcome = Outcome(Verdict.WRONG, f"{len(alive)} workers live on without their parent")
        for process in alive:
            process.kill()
    workshop.close()
    return outcome


def _job(laboratory: Laboratory, rng: random.Random) -> Outcome:
    workshop = laboratory.workshop(whole=True)
    workshop.delete(laboratory.steps["train"].outputs)
    words = ("snakemake", "--cores", "all", "--", "train")
    run = workshop.start_command(*words)
    jobs = _children(run, "spheremap train")
    time.sleep(rng.uniform(0, 2 * laboratory.duration(laboratory.steps["train"])))
    for job in jobs:
        if job.is_running():
            job.kill()
    if run.wait() is None:
        run.kill()
    detail = f"snakemake ended with {run.code}"
    outcome = finished(workshop, workshop.finish_command(*words), detail)
    workshop.close()
    return outcome

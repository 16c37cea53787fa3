"""Commands that are killed or interrupted: the same command ends in the bytes of an undisturbed run."""

import re
import signal
import time
from functools import partial
from random import Random

import psutil
import pytest
from trial import COMMANDS, Run, Step, Trial, cases, only_long, repeated

pytestmark = pytest.mark.slow

# milestone -> steps that make it
MILESTONES = {
    "data": ["render"],
    "weights": ["weights"],
    "features": ["cache views", "cache images", "cache-index views", "cache-index images", "features"],
    "train": ["train"],
    "fitted": ["methods"],
    "results": ["evaluate", "report"],
}
SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}
# DVC does not write its own files in one step: what it says of one cut short, and what docs/faults.md advises
DVC_REPAIRS = {
    r"dvc\.lock.*(validation failed|corrupted|invalid)": ("git", "checkout", "dvc.lock"),
    r"rwlock.*corrupted": ("rm", ".dvc/tmp/rwlock"),
}


def words(tool: str, target: str) -> tuple[str, ...]:
    """The command line that makes a milestone."""
    if tool == "snakemake":
        return "snakemake", "--cores", "all", "--", target
    return "dvc", "repro", {"results": "evaluate", "fitted": "fit"}.get(target, target)


def outputs(trial: Trial, target: str) -> list[str]:
    return [name for step in MILESTONES[target] for name in trial.steps[step].outputs]


def test_every_command_of_the_workflow_is_tried(steps: dict[str, Step]) -> None:
    assert {step.name for step in steps.values() if step.argv} == set(COMMANDS)


@repeated(1)
@cases("name", COMMANDS, short=["render", "train"])
def test_a_killed_step(name: str, trial: Trial, rng: Random) -> None:
    step = trial.steps[name]
    trial.stop(step, step.outputs, rng.random(), Run.kill)
    trial.redo(step)


@repeated(0.2)
@cases("sent", SIGNALS, short=["Ctrl-C"])
@cases("name", ["render", "cache images", "train", "evaluate"], short=["cache images"])
def test_an_interrupted_step(name: str, sent: str, trial: Trial, rng: Random) -> None:
    """It says so; from the moment on that Python has started."""
    step, number = trial.steps[name], SIGNALS[sent]
    run = trial.stop(step, step.outputs, rng.uniform(0.2, 1), partial(Run.send, number=number))
    assert run.code == (130 if number is signal.SIGINT else -number), run.output
    assert "Traceback" not in run.output
    trial.redo(step)


@repeated(0.12)
@cases(
    ("tool", "target"),
    [(tool, target) for tool in ("snakemake", "dvc") for target in MILESTONES],
    short=[("snakemake", "features")],
)
def test_a_killed_command_line(tool: str, target: str, whole: Trial, rng: Random) -> None:
    command = words(tool, target)
    whole.stop(command, outputs(whole, target), rng.random(), Run.kill)
    again(whole, command)


@only_long
@repeated(0.08)
@pytest.mark.parametrize("sent", SIGNALS)
@pytest.mark.parametrize("target", MILESTONES)
def test_an_interrupted_repro(target: str, sent: str, whole: Trial, rng: Random) -> None:
    command = words("dvc", target)
    how = partial(Run.send, number=SIGNALS[sent])
    whole.stop(command, outputs(whole, target), rng.uniform(0.2, 1), how)
    again(whole, command)


def again(trial: Trial, command: tuple[str, ...]) -> None:
    """The same command line, after what DVC has to say of its own files."""
    run = trial.finish(command)
    for complaint, repair in DVC_REPAIRS.items():
        if run.code != 0 and re.search(complaint, run.output):
            trial.finish(repair)
            run = trial.finish(command)
    run.finished()
    trial.check()


@repeated(0.2)
def test_a_worker_killed_beneath_its_command(trial: Trial, rng: Random) -> None:
    """As the kernel does when memory is short."""
    step = trial.steps["render"]
    trial.delete(step.outputs)
    run = trial.start(step)
    workers = run.children("spawn_main")
    time.sleep(rng.uniform(0, 1))
    victim = rng.choice(workers)
    if victim.is_running():
        victim.kill()
    if run.end().code != 0:
        run.refused("was killed")
    trial.redo(step)


@only_long
@repeated(0.2)
def test_a_command_killed_above_its_workers(trial: Trial, rng: Random) -> None:
    """They end by themselves, and the next run does not mind."""
    step = trial.steps["render"]
    trial.delete(step.outputs)
    run = trial.start(step)
    workers = run.children("spawn_main")
    time.sleep(rng.uniform(0, 1))
    psutil.Process(run.pid).kill()
    run.end()
    trial.redo(step)
    _, alive = psutil.wait_procs(workers, timeout=60)
    for process in alive:
        process.kill()
    assert not alive


@only_long
@repeated(0.08)
def test_a_job_killed_beneath_snakemake(whole: Trial, rng: Random) -> None:
    whole.delete(whole.steps["train"].outputs)
    run = whole.start(words("snakemake", "train"))
    jobs = run.children("spheremap train")
    time.sleep(rng.uniform(0, 8))
    for job in jobs:
        if job.is_running():
            job.kill()
    run.end()
    whole.redo(words("snakemake", "train"))

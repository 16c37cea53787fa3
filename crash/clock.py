"""The clock was moved: files are dated in the future or long ago; then `snakemake`, and with new values."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from laboratory import PRODUCTS, Laboratory, Project, Workshop
from trials import Outcome, Trial, Verdict, finished

DAY = 24 * 3600
CHANGE = {"evaluate.sphere_weight": 0.6}
WORDS = ("snakemake", "--cores", "all")


def trials(commands: int) -> Iterator[Trial]:
    for number in range(commands):
        for case, shift in (("files of tomorrow", DAY), ("files of 30 years ago", -30 * 365 * DAY)):
            yield Trial("clock moved", case, number, lambda lab, rng, s=shift: _same(lab, s))
            yield Trial(
                "clock moved", f"{case}, then another parameter", number,
                lambda lab, rng, s=shift: _changed(lab, s),
            )  # fmt: skip
        yield Trial("clock moved", "dates at random", number, _mixed)


def _date(workshop: Workshop, shift) -> None:
    """Shift the dates of everything made, each by what `shift` says."""
    for folder in (*PRODUCTS, ".work"):
        for path in (workshop.folder / folder).rglob("*"):
            if path.is_file():
                name = path.relative_to(workshop.folder).as_posix()
                date = path.stat().st_mtime + shift()
                os.utime(workshop.own(name), (date, date))


def _same(laboratory: Laboratory, shift: int) -> Outcome:
    workshop = laboratory.workshop(whole=True)
    _date(workshop, lambda: shift)
    outcome = finished(workshop, workshop.finish_command(*WORDS))
    workshop.close()
    return outcome


def _mixed(laboratory: Laboratory, rng: random.Random) -> Outcome:
    workshop = laboratory.workshop(whole=True)
    _date(workshop, lambda: rng.uniform(-DAY, DAY))
    outcome = finished(workshop, workshop.finish_command(*WORDS))
    workshop.close()
    return outcome


def _changed(laboratory: Laboratory, shift: int) -> Outcome:
    """The results must be those of the new parameter."""
    expected = _with_change(laboratory)
    workshop = laboratory.workshop(whole=True)
    _date(workshop, lambda: shift)
    Project(workshop.folder).edit(CHANGE)
    run = workshop.finish_command(*WORDS)
    different = workshop.differences(expected)
    if run.code != 0 or different:
        return Outcome(Verdict.WRONG, f"exit code {run.code}; {'; '.join(different[:5])}")
    workshop.close()
    return Outcome(Verdict.IDENTICAL)


def _with_change(laboratory: Laboratory) -> Path:
    """The project with the other parameter, made without disturbance."""
    path = laboratory.folder / f"changed-{laboratory.code}"
    if not path.exists():
        workshop = laboratory.workshop(whole=True)
        Project(workshop.folder).edit(CHANGE)
        workshop.delete(["results/metrics.json", "results/report.html"])
        run = workshop.finish_command(*WORDS)
        assert run.code == 0, run.output
        assert workshop.differences(), "the parameter changes nothing"
        shutil.move(workshop.folder, path)
    return path

"""What a trial is, and how it may end."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from laboratory import Laboratory, Run, Step, Workshop


class Verdict(StrEnum):
    IDENTICAL = "identical"  # the same command finished with the bytes of an undisturbed run
    REFUSED = (
        "refused"  # it stopped with one clear error; when its advice was followed, the bytes were the same
    )
    WRONG = "wrong"  # anything else


@dataclass(frozen=True)
class Outcome:
    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True)
class Trial:
    """One fault, tried once.

    Attributes:
        fault: row of the table.
        case: which command or file.
        number: counts the repetitions; with fault and case it is the seed.
        run: does it.
    """

    fault: str
    case: str
    number: int
    run: Callable[[Laboratory, random.Random], Outcome]

    @property
    def key(self) -> tuple[str, str, int]:
        return self.fault, self.case, self.number

    def seed(self) -> random.Random:
        return random.Random(repr(self.key))


class Skipped(Exception):
    """The fault cannot be made on this machine; the text says why."""


def finished(workshop: Workshop, run: Run, detail: str = "", ignore: Sequence[str] = ()) -> Outcome:
    """The outcome when a command should have ended well."""
    if run.code != 0:
        return Outcome(Verdict.WRONG, f"{detail}: the same command ended with {run.code}: {_end(run)}")
    different = workshop.differences(ignore=ignore)
    if different:
        return Outcome(Verdict.WRONG, f"{detail}: {'; '.join(different[:5])}")
    return Outcome(Verdict.IDENTICAL, detail)


def refused(
    workshop: Workshop,
    run: Run,
    steps: Sequence[Step],
    detail: str = "",
    *,
    names: str = "",
    remedy: Callable[[], object] = lambda: None,
) -> Outcome:
    """The outcome when a command stopped: its error is looked at, its advice followed, the steps run again.

    Args:
        workshop: where.
        run: the command.
        steps: to run after the remedy, in order.
        detail: of the fault.
        names: what the error must name.
        remedy: does what the error says.
    """
    complaint = run.complaint()
    if complaint is None or names not in complaint:
        return Outcome(Verdict.WRONG, f"{detail}: no clear error (exit code {run.code}): {_end(run)}")
    remedy()
    for step in steps:
        again = workshop.finish(step)
        if again.code != 0:
            return Outcome(Verdict.WRONG, f"{detail}: after the remedy, {step.name} failed: {_end(again)}")
    different = workshop.differences()
    if different:
        return Outcome(Verdict.WRONG, f"{detail}: after the remedy, {'; '.join(different[:5])}")
    return Outcome(Verdict.REFUSED, f"{detail}: {_line(complaint)}")


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def _end(run: Run) -> str:
    return _line(run.output[-600:])

"""Faults are tried on copies of the finished tiny project.

What is promised (docs/faults.md): killed, the same command ends in the bytes of an undisturbed run; short of
disk or memory, or reading a damaged file, it stops with one error that names what is wrong, and with that put
right it ends in the same bytes. `make test-slow` tries a few faults once, `make faults` all of them many
times and counts.
"""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project
from trial import REPEATS, Step, Trial, steps_of


@pytest.fixture(scope="session")
def steps(made: Project) -> dict[str, Step]:
    """The commands of the workflow, by name."""
    return steps_of(made)


@pytest.fixture
def trial(made: Project, steps: dict[str, Step], tmp_path: Path) -> Iterator[Trial]:
    """A copy of the finished project in which steps can run."""
    yield Trial(made, steps, tmp_path / "project", tmp_path)
    shutil.rmtree(tmp_path / "project")


@pytest.fixture
def whole(made: Project, steps: dict[str, Step], tmp_path: Path) -> Iterator[Trial]:
    """A copy of the finished project in which `snakemake` and `dvc` can run."""
    yield Trial(made, steps, tmp_path / "project", tmp_path, whole=True)
    shutil.rmtree(tmp_path / "project")


@pytest.fixture
def rng(repeat: int, request: pytest.FixtureRequest) -> random.Random:
    """Chance whose seed is the test's name, the number of the repetition included."""
    return random.Random(request.node.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count, by fault, how the trials of the long form ended."""
    if not REPEATS:
        return
    counts = Counter(
        (report.nodeid.partition("[")[0].partition("::test_")[2].replace("_", " "), outcome)
        for outcome in ("passed", "failed", "skipped", "error")
        for report in terminalreporter.getreports(outcome)
        if outcome != "passed" or report.when == "call"
    )
    terminalreporter.section("faults")
    for (fault, outcome), count in sorted(counts.items()):
        terminalreporter.line(f"{count:5} {outcome:7} {fault}")

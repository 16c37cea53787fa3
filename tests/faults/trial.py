"""A copy of the finished tiny project in which something goes wrong, and the commands to run in it.

A *step* is one `spheremap` command exactly as the workflow runs it. Steps run in forks of a process that has
the libraries imported, so that random moments fall into the work itself. Command lines, of `snakemake` and
`dvc`, run as a user runs them.
"""

import importlib
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest
from project import Project
from warm import LIBRARIES

REPEATS = int(os.environ.get("FAULT_REPEATS", "0"))  # of each kill in the long form; 0: the short form
PATIENCE = 600  # seconds after which a command counts as hanging
PRODUCTS = ("data", "models", "results")
CANONICAL = "data/shapes/canonical"
# steps in the order of the workflow; "features", "methods" and "training" only copy files
KINDS = ("render", "weights", "cache", "cache-index", "features", "train", "methods", "training",
         "evaluate", "report")  # fmt: skip
COMMANDS = (
    *("render", "weights", "cache images", "cache views", "cache-index images", "cache-index views"),
    *("train", "evaluate", "report"),
)

_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload([*LIBRARIES])
_seconds: dict[str, float] = {}


only_long = pytest.mark.skipif(not REPEATS, reason="in the long form only: `make faults`")


def cases(names: str, everything: Iterable[Any], short: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrise with everything in the long form, with a part of it in the short form."""
    return pytest.mark.parametrize(names, list(everything if REPEATS else short))


def repeated(share: float) -> pytest.MarkDecorator:
    """Repeat a test that takes `rng`: once in the short form, a share of `REPEATS` times in the long form."""
    return pytest.mark.parametrize("repeat", range(max(1, round(REPEATS * share))))


@dataclass(frozen=True)
class Step:
    """One command of the workflow.

    Attributes:
        name: such as "train" or "cache images".
        argv: of `spheremap`; empty where the rule only copies.
        copies: files that the rule copies when the command has ended: (from, to).
        outputs: files and folders that the rule makes.
    """

    name: str
    argv: tuple[str, ...]
    copies: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]


Work = Step | tuple[str, ...]  # a step or a command line


def steps_of(project: Project) -> dict[str, Step]:
    """All commands of the workflow by name, in its order, from Snakemake's plan."""
    plan = project.snakemake("--forceall", "--dry-run", "--printshellcmds")
    jobs = re.findall(r"^    output: (.*)\n(?:    .*\n)*Shell command: (.*)$", plan, re.MULTILINE)
    steps = [_step(command, outputs.split(", ")) for outputs, command in jobs]
    return {step.name: step for step in sorted(steps, key=lambda step: KINDS.index(step.name.split()[0]))}


def _step(command: str, outputs: list[str]) -> Step:
    parts = [shlex.split(part) for part in command.split("&&")]
    # `spheremap …`, or `together 1 …`: the workflow's word for so many processes of it
    starts = {"spheremap": 1, "together": 2}
    calls = [part[part.index(word) + n :] for part in parts for word, n in starts.items() if word in part]
    argv = calls[0] if calls else []
    copies = tuple((part[1], part[2]) for part in parts if part[0] == "cp")
    name = argv[0] if argv else Path(outputs[0]).parent.name
    if name == "cache":
        name += f" {argv[argv.index('--kind') + 1]}"
    elif name == "cache-index":
        name += f" {Path(argv[argv.index('--out') + 1]).stem}"
    return Step(name, tuple(argv), copies, (CANONICAL,) if name == "render" else tuple(sorted(outputs)))


class Run:
    """A command that was started, alone in its process group."""

    def __init__(self, log: Path, target: Callable[..., None], *arguments: object) -> None:
        self._log = log
        self._process = _FORKS.Process(target=target, args=(log, *arguments))
        self._process.start()
        while not log.exists() and self.wait(0.001) is None:  # until it begins
            pass

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code; negative: the signal that ended it; None: it still runs."""
        return self._process.exitcode

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait(self, seconds: float) -> int | None:
        self._process.join(seconds)
        return self.code

    def end(self) -> "Run":
        """Wait for its end; what hangs is killed."""
        if self.wait(PATIENCE) is None:
            self.kill()
        return self

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End all its processes at once, as a power cut would."""
        below = []
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(self.pid).children(recursive=True)
        self.send(signal.SIGKILL)
        for process in below:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.join()

    def children(self, word: str) -> list[psutil.Process]:
        """Processes below it whose command line holds a word, as soon as there are any."""
        while self.wait(0.01) is None:
            found = []
            for process in psutil.Process(self.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if word in " ".join(process.cmdline()):
                        found.append(process)
            if found:
                return found
        return []

    def finished(self) -> None:
        """It ended well."""
        assert self.code == 0, f"ended with {self.code}:\n{self.output}"

    def refused(self, *named: str) -> None:
        """It ended with one clear error, which names all this."""
        error = re.search(r"^spheremap [a-z-]+: .*(?:\n  .*)*", self.output, re.MULTILINE)
        clear = self.code == 1 and "Traceback" not in self.output and error is not None
        assert clear, f"ended with {self.code}:\n{self.output}"
        assert [name for name in named if name not in error[0]] == [], error[0]


def _start(log: Path, folder: Path) -> None:
    """In the fork: a process group of its own, at work in the folder, what it says in the log."""
    os.setsid()
    os.chdir(folder)
    # what a shell starts in the background ignores Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(stream, 1)
    os.dup2(stream, 2)


def _run_step(log: Path, folder: Path, step: Step, fault: Callable[[], object] | None) -> None:
    _start(log, folder)
    if fault is not None:
        fault()
    code = importlib.import_module("spheremap.cli").main(step.argv) if step.argv else 0
    for source, copy in step.copies if code == 0 else ():
        shutil.copyfile(source, copy)
    sys.exit(code)


def _run_words(log: Path, folder: Path, words: Sequence[str]) -> None:
    _start(log, folder)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvpe(words[0], words, Project(folder).environment())


class Trial:
    """A copy of the finished project.

    Args:
        made: the finished project.
        steps: its steps, by name.
        folder: where the copy is made.
        logs: folder of what its runs say.
        whole: with everything that Snakemake, DVC and Git know of it; else steps alone can run in it.
    """

    def __init__(
        self, made: Project, steps: dict[str, Step], folder: Path, logs: Path, whole: bool = False
    ) -> None:
        self.folder, self.steps, self._logs, self._made = folder, steps, logs, made.folder
        self._runs = 0
        skipped = {*PRODUCTS, *(() if whole else (".dvc", ".git", ".snakemake", "workflow"))}
        top = str(made.folder)
        shutil.copytree(
            top, folder, symlinks=True, dirs_exist_ok=True,
            ignore=lambda place, names: skipped if place == top else (),
        )  # fmt: skip
        for name in PRODUCTS:  # never written in place, so that a second name for them will do
            shutil.copytree(made.folder / name, folder / name, copy_function=_link)

    def start(self, work: Work, fault: Callable[[], object] | None = None) -> Run:
        """Start a step, with `fault` called first in its process, or a command line."""
        self._runs += 1
        log = self._logs / f"{self._runs}.log"
        if isinstance(work, Step):
            return Run(log, _run_step, self.folder, work, fault)
        return Run(log, _run_words, self.folder, work)

    def finish(self, work: Work, fault: Callable[[], object] | None = None) -> Run:
        return self.start(work, fault).end()

    def stop(self, work: Work, outputs: Sequence[str], share: float, how: Callable[[Run], object]) -> Run:
        """Delete the outputs and stop the work that makes them on its way.

        Args:
            work: what makes them.
            outputs: what is deleted.
            share: of the time that the work takes when nothing happens, before it is stopped.
            how: stops it.

        In the short form a command line is stopped as it begins its first file, so that none has to be timed.
        """
        if not REPEATS and isinstance(work, tuple):
            self.delete(outputs)
            run, folder = self.start(work), (self.folder / outputs[0]).parent
            while not any(folder.rglob("*.partial*")):
                assert run.wait(0.01) is None, run.output
            how(run)
            return run.end()
        if str(work) not in _seconds:
            self.delete(outputs)
            start = time.monotonic()
            self.finish(work).finished()
            _seconds[str(work)] = time.monotonic() - start
            self.check()
        moment = share * _seconds[str(work)]
        while True:
            self.delete(outputs)
            run = self.start(work)
            if run.wait(moment) is None:
                how(run)
                if run.end().code != 0:
                    return run
            moment *= 0.8  # it was quicker than when it was measured

    def redo(self, *works: Work) -> None:
        """Run them; what there is then must be the bytes of an undisturbed run."""
        for work in works:
            self.finish(work).finished()
        self.check()

    def check(self, ignore: str = "") -> None:
        """Every file of data, models and results must be as in the finished project, except one."""
        ours, theirs = (_files(folder) - {ignore} for folder in (self.folder, self._made))
        assert ours == theirs
        pairs = [(name, self.folder / name, self._made / name) for name in sorted(ours)]
        differing = [n for n, a, b in pairs if not a.samefile(b) and a.read_bytes() != b.read_bytes()]
        assert differing == []

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def replace(self, name: str, content: bytes) -> None:
        """Give a file other content under its date; the finished project keeps its own."""
        path = self.folder / name
        times = path.stat()
        path.unlink()
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def producer(self, name: str) -> Step:
        """The step that makes a file."""
        return next(s for s in self.steps.values() if any(f"{name}/".startswith(f"{o}/") for o in s.outputs))


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(map(size_of, path.iterdir()))


def _link(source: str, copy: str) -> None:
    try:
        os.link(source, copy)
    except OSError:  # another disk
        shutil.copy2(source, copy)


def _files(folder: Path) -> set[str]:
    """All but what DVC leaves beside a file that it is stopped at linking (docs/faults.md)."""
    found = (path for product in PRODUCTS for path in (folder / product).rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix() for p in found if not re.fullmatch(r"\.[\w-]{22}\.tmp", p.name)}

"""Where faults are tried: a tiny finished project, copies of it to harm, and the commands of its workflow.

A *step* is one `spheremap` command exactly as the workflow runs it. Steps run in forks of this process, which
has everything imported, so that a trial takes as long as the work itself. Whole commands, `snakemake` and
`dvc`, run as a user runs them.
"""

import hashlib
import importlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from project import Project  # noqa: E402
from tiny import BACKBONE, TINY  # noqa: E402

PARAMS = TINY | {"backbones": {"tiny": BACKBONE | {"model": "vit_tiny_patch16_224"}}}
PRODUCTS = ("data", "models", "results")
CANONICAL = "data/shapes/canonical"
PATIENCE = 1800  # seconds after which a command counts as hanging
# kinds of steps in the order of the workflow; "features" and "training" only copy files
ORDER = ("render", "weights", "cache", "cache-index", "features", "train", "training", "evaluate", "report")
_IMPORTED = (
    *("cli.render", "cli.weights", "cli.cache", "cli.cache_index", "cli.train", "cli.evaluate", "cli.report"),
    *("cache.builder", "cache.index", "backbones.weights", "shapes.dataset", "report.build", "training.loop"),
)


@dataclass(frozen=True)
class Step:
    """One command of the workflow.

    Attributes:
        name: such as "train" or "cache images".
        argv: of `spheremap`.
        copies: files that the rule copies when the command has ended: (from, to).
        outputs: files and folders that the rule makes.
    """

    name: str
    argv: tuple[str, ...]
    copies: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]

    @property
    def kind(self) -> str:
        return self.name.split()[0]


class Run:
    """A command that was started, alone in its process group."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid, self.log = pid, log
        self.code: int | None = None

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """Its exit code (negative: the signal that ended it); None if it still runs after that time."""
        end = time.monotonic() + seconds
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= end:
                return None
            else:
                time.sleep(0.002)
        return self.code

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:  # it has not become a group yet, or is gone
            if self.code is None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End all its processes at once, as a power cut would."""
        children = psutil.Process(self.pid).children(recursive=True)
        self.send(signal.SIGKILL)
        for child in children:
            if child.is_running():
                child.kill()
        self.wait()

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def complaint(self) -> str | None:
        """Its one clear error: no traceback, what is wrong and what to do; None if there is no such."""
        text = self.output
        if "Traceback" in text or self.code is None or self.code < 0:
            return None
        found = re.search(r"^spheremap [a-z-]+: .*(?:\n  .*)*", text, re.MULTILINE)
        if found is None:
            found = re.search(r"^.*another run is at work.*$", text, re.MULTILINE)
            return found[0] if found else None
        return found[0] if re.search(r"^  to do: ", found[0], re.MULTILINE) else None


class Workshop:
    """A copy of the finished project in which something is about to go wrong."""

    def __init__(self, laboratory: "Laboratory", folder: Path) -> None:
        self.laboratory, self.folder = laboratory, folder
        self._runs = 0

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def own(self, name: str) -> Path:
        """A file that may be changed in place: no longer shared with the finished project."""
        path = self.folder / name
        content, times = path.read_bytes(), path.stat()
        path.unlink()
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return path

    def start(self, step: Step, prepare: Callable[[], object] | None = None) -> Run:
        """Start a step in a fork; `prepare` is called there first."""
        self._runs += 1
        log = self.folder.parent / f"{self.folder.name}.{self._runs}.log"
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os._exit(_run_step(self.folder, step, log, prepare))
        return Run(pid, log)

    def finish(self, step: Step, prepare: Callable[[], object] | None = None) -> Run:
        """Run a step to its end."""
        run = self.start(step, prepare)
        if run.wait() is None:
            run.kill()
        return run

    def start_command(self, *command: str) -> Run:
        """Start a command line as a user does."""
        self._runs += 1
        log = self.folder.parent / f"{self.folder.name}.{self._runs}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=Project(self.folder).environment(),
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process.returncode = 0  # `Run` waits for it
        return Run(process.pid, log)

    def finish_command(self, *command: str) -> Run:
        """Run a command line to its end."""
        run = self.start_command(*command)
        if run.wait() is None:
            run.kill()
        return run

    def differences(self, reference: Path | None = None, ignore: Iterable[str] = ()) -> list[str]:
        """Every file of data, models and results that is missing, left over, or other bytes."""
        reference = self.laboratory.reference if reference is None else reference
        ours, theirs = (_files(folder) for folder in (self.folder, reference))
        skipped = set(ignore)
        result = [f"{name} is missing" for name in sorted(theirs - ours - skipped)]
        result += [f"{name} is left over" for name in sorted(ours - theirs - skipped)]
        for name in sorted((ours & theirs) - skipped):
            one, other = self.folder / name, reference / name
            if not one.samefile(other) and one.read_bytes() != other.read_bytes():
                result.append(f"{name} differs")
        return result

    def require_undisturbed(self, run: Run) -> None:
        """Stop everything if a run without any fault does not make the same bytes."""
        different = self.differences()
        if run.code != 0 or different:
            raise RuntimeError(f"an undisturbed run ended with {run.code}: {different}\n{run.output}")

    def close(self) -> None:
        """Remove the copy and its logs."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for log in self.folder.parent.glob(f"{self.folder.name}.*.log"):
            log.unlink()


class Laboratory:
    """The finished project and what is known of it.

    Args:
        folder: everything is made in it; a finished project of the same code that lies there is used again.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.code = code_digest()
        self.reference = self.folder / f"reference-{self.code}"
        self._durations: dict[str, float] = {}
        self._count = 0
        for name in _IMPORTED:
            importlib.import_module(f"spheremap.{name}")
        if not self.reference.exists():
            self._make()

    def _make(self) -> None:
        """Run all steps one after the other."""
        made = self._fresh()
        (made / "commands.txt").write_text(Project(made).snakemake("--dry-run", "--printshellcmds"))
        workshop = Workshop(self, made)
        commands = _steps((made / "commands.txt").read_text())
        for step in commands.values():
            for name in step.outputs:
                (made / name).parent.mkdir(parents=True, exist_ok=True)
            start = time.monotonic()
            run = workshop.finish(step)
            print(f"{step.name}: {time.monotonic() - start:.1f} s", flush=True)
            if run.code != 0:
                raise RuntimeError(f"{step.name} ended with {run.code}\n{run.output}")
        made.rename(self.reference)

    def _fresh(self) -> Path:
        made = self.folder / f"making-{self.code}"
        shutil.rmtree(made, ignore_errors=True)
        Project.copy(ROOT, made, PARAMS)
        return made

    @cached_property
    def recorded(self) -> Path:
        """The same project made by `snakemake` and recorded by DVC, with all that they know of it."""
        path = self.folder / f"recorded-{self.code}"
        if not path.exists():
            made = self._fresh()
            project = Project(made)
            project.snakemake()
            project.run("dvc", "commit", "--force", "--quiet")
            project.commit("First results")
            different = Workshop(self, made).differences()
            if different:
                raise RuntimeError(f"`snakemake` and the steps alone make different files: {different}")
            made.rename(path)
        return path

    @cached_property
    def steps(self) -> dict[str, Step]:
        """All commands of the workflow by name, in its order."""
        return _steps((self.reference / "commands.txt").read_text())

    @property
    def commands(self) -> list[Step]:
        """The steps that are commands of `spheremap`."""
        return [step for step in self.steps.values() if step.argv]

    def producer(self, name: str) -> Step:
        """The step that makes a file."""
        return next(
            step
            for step in self.steps.values()
            if any(name == made or name.startswith(f"{made}/") for made in step.outputs)
        )

    def workshop(self, *, whole: bool = False, folder: Path | None = None) -> Workshop:
        """A fresh copy of the finished project.

        Args:
            whole: with everything that Snakemake, DVC and Git know of it; else steps alone can run in it.
            folder: where, if not in the laboratory. Files are then copied, not shared.
        """
        self._count += 1
        target = self.folder / f"trial-{os.getpid()}-{self._count}" if folder is None else folder
        source, shared = self.recorded if whole else self.reference, folder is None
        skip = [] if whole else [".git", ".snakemake", ".dvc", "workflow"]
        shutil.copytree(
            source, target, symlinks=True, dirs_exist_ok=True,
            ignore=lambda place, names: skip if Path(place) == source else [],
            copy_function=lambda name, copy: _copy(name, copy, shared, source),
        )  # fmt: skip
        return Workshop(self, target)

    def duration(self, step: Step) -> float:
        """Seconds that a step takes when nothing happens; it is then checked to make the same bytes."""
        if step.name not in self._durations:
            workshop = self.workshop()
            workshop.delete(step.outputs)
            start = time.monotonic()
            run = workshop.finish(step)
            self._durations[step.name] = time.monotonic() - start
            workshop.require_undisturbed(run)
            workshop.close()
        return self._durations[step.name]


def code_digest() -> str:
    """Identity of everything that decides how a run goes: trials of other code do not count."""
    whole = hashlib.sha256()
    for folder in ("src", "workflow"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                whole.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return whole.hexdigest()[:8]


def _run_step(folder: Path, step: Step, log: Path, prepare: Callable[[], object] | None) -> int:
    """What the fork does; returns its exit code."""
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        if prepare is not None:
            prepare()
        code = importlib.import_module("spheremap.cli").main(step.argv) if step.argv else 0
        for source, copy in step.copies if code == 0 else ():
            shutil.copyfile(source, copy)
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _steps(plan: str) -> dict[str, Step]:
    """All commands of the workflow, from what `snakemake --dry-run --printshellcmds` prints."""
    jobs = re.findall(r"^    output: (.*)\n(?:    .*\n)*Shell command: (.*)$", plan, re.MULTILINE)
    found = [_step(command, made.split(", ")) for made, command in jobs]
    return {step.name: step for step in sorted(found, key=lambda step: (ORDER.index(step.kind), step.name))}


def _step(command: str, outputs: list[str]) -> Step:
    """A step from the shell command of its rule."""
    parts = [shlex.split(part) for part in command.split("&&")]
    # `spheremap …`, or `together 1 …`: the workflow's word for so many processes of it
    starts = {"spheremap": 1, "together": 2}
    calls = [part[part.index(w) + skip :] for part in parts for w, skip in starts.items() if w in part]
    argv = calls[0] if calls else []
    copies = tuple((part[1], part[2]) for part in parts if part[0] == "cp")
    name = argv[0] if argv else Path(outputs[0]).parent.name
    if name == "cache":
        name += f" {argv[argv.index('--kind') + 1]}"
    if name == "cache-index":
        name += f" {Path(argv[argv.index('--out') + 1]).stem}"
    made = [CANONICAL] if name == "render" else sorted(outputs)
    return Step(name, tuple(argv), copies, tuple(made))


def _copy(source: str, copy: str, shared: bool, reference: Path) -> str:
    """Products are never written in place, so that a second name for them will do."""
    if shared and Path(source).relative_to(reference).parts[0] in PRODUCTS:
        os.link(source, copy)
        return copy
    return shutil.copy2(source, copy)


def _files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for product in PRODUCTS
        for path in (folder / product).rglob("*")
        if path.is_file()
    }

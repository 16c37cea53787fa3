"""The documentation is true: commands run, links lead somewhere, the reference is that of the code."""

import argparse
import functools
import http.client
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest
import yaml
from project import Project
from studio import draw

from spheremap.api.named_heads import REGISTRY, SHIPPED, read_registry
from spheremap.cli import command_names, main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(str(path.relative_to(ROOT)) for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
# pages that run the workflow or DVC; settings that tutorials show are put into params.yaml
TUTORIALS = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "tutorials").glob("*.md")}
SLOW = {
    f"docs/{name}.md" for name in ("label", "methods", "photographs", "quick-start", "workflow")
} | TUTORIALS
LANGUAGES = {"diff", "sh", "bash", "python", "yaml", "csv", "text", "json"}
NEEDED = ("Makefile", "presets", "pyproject.toml", "requirements.txt", "src")


# --- what stands on the pages


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is that of its fence."""

    page: str
    line: int
    language: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    start, language, indent = None, "", 0
    for number, line in enumerate(lines, 1):
        fence = re.fullmatch(r"( *)```(\w*) *", line)
        if fence and start is None:
            start, language, indent = number, fence[2], len(fence[1])
        elif fence and start is not None:
            text = "\n".join(part[indent:] for part in lines[start : number - 1])
            yield Block(page, start, language, text)
            start = None
    assert start is None, f"{page}:{start}: a block does not end"


def prose(page: str) -> str:
    """A page without its blocks."""
    return re.sub(r"^ *```.*?^ *``` *$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Commands of a block: lines, joined after a backslash or where they hold a document."""
    found: list[str] = []
    document, joined = "", False
    for line in text.splitlines():
        if document or joined:
            found[-1] += f"\n{line}"
        elif line.strip() and not line.lstrip().startswith("#"):
            found.append(line)
        else:
            continue
        if document:
            document = "" if line == document else document
        elif start := re.search(r"<<'?(\w+)'?", line):
            document = start[1]
        joined = not document and line.endswith("\\")
    assert not document, f"the document does not end with {document}"
    return found


def test_blocks_become_commands() -> None:
    text = "# a\nx 1  # b\ny \\\n  2\npython - <<'END'\n# c\nEND\n\nz"
    assert commands(text) == ["x 1  # b", "y \\\n  2", "python - <<'END'\n# c\nEND", "z"]


def words(command: str) -> list[str]:
    return shlex.split(command, comments=True)


# --- commands that are not simply run: each with the reason, and what is checked instead


def make_knows_it(project: Project, command: str) -> None:
    """The target exists; its recipe is printed, not run."""
    assert project.run(*words(command), "--dry-run").strip()


def made_by_make(project: Project, command: str) -> None:
    """The environment is that of `make env`."""
    assert f"-m venv {words(command)[1].removesuffix('/bin/activate')}\n" in (ROOT / "Makefile").read_text()


def named_tests_exist(project: Project, command: str) -> None:
    _, name, *rest = words(command)
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not rest or (rest[0] == "-k" and re.search(f"def test_.*{rest[1]}", text))


def parsed(project: Project, command: str) -> None:
    """The tools that it calls understand it, and the files that it names exist."""
    for part in " ".join(words(command)).removeprefix("exec ").split(" && "):
        tool, *rest = part.split()
        if tool == "dvc":
            assert dvc_parser().parse_args(rest)
        elif tool == "snakemake":
            assert snakemake_parser().parse_args(rest)
            profiles = [rest[i + 1] for i, word in enumerate(rest) if word == "--workflow-profile"]
            assert all((ROOT / "workflow" / "profiles" / name).is_dir() for name in profiles)
        elif tool in ("docker", "apptainer"):
            assert all((ROOT / word).exists() for word in rest if word.startswith("containers/"))
        else:
            assert tool in ("cd", "export", "git", "make", "source"), part


def extras_exist(project: Project, command: str) -> None:
    """What is installed of spheremap is there."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert all(name in known for names in re.findall(r"\.\[([\w,]+)\]", command) for name in names.split(","))


def of_a_published_head(project: Project, command: str) -> None:
    """The command's arguments are understood, and the head is in the package or the registry."""
    _, name, *rest = words(command)
    args = parsers()[name].parse_args(rest)
    assert str(args.model) in {*read_registry(REGISTRY), *(path.stem for path in SHIPPED.iterdir())}


def answers_until_interrupted(project: Project, command: str) -> None:
    """The page that is served answers, and Ctrl-C ends the command in good order."""

    def heed() -> None:  # a suite that runs in the background hands on that the signal is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        [sys.executable, "-m", *words(command)], cwd=project.folder, text=True, preexec_fn=heed,
        env=project.environment() | {"BROWSER": "true"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            url = urlsplit(process.stdout.readline().split()[0])
            with closing(http.client.HTTPConnection("127.0.0.1", url.port or 0, timeout=60)) as connection:
                connection.request("GET", url.path)
                response = connection.getresponse()
                assert response.status == 200
                assert response.read()
                process.send_signal(signal.SIGINT)  # with the connection still open
                _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "label" in command or re.fullmatch(r"sphere weight .*\n", errors)


@dataclass(frozen=True)
class Exemption:
    """Commands, by a pattern of the whole, that are checked in another way than by being run."""

    pattern: str
    reason: str
    check: Callable[[Project, str], None]


NOT_RUN = [
    Exemption(r"make \S+", "installs packages, or takes minutes: CI runs env, test and lint", make_knows_it),
    Exemption(r"source .venv/bin/activate", "the tests have an environment already", made_by_make),
    Exemption(
        r"python -m (pip|venv) .*|cpu/bin/pip .*",
        "installs packages; tests/workflow/test_packaging.py installs wheel and sdist",
        extras_exist,
    ),
    Exemption(r"pytest .*", "the tests would run themselves", named_tests_exist),
    Exemption(
        r"spheremap .* --model spair-71k.*|spheremap match [^-]*--points \S+",
        "fetches weights; tests/api/test_named_heads.py serves some",
        of_a_published_head,
    ),
    Exemption(r"spheremap (explore|label) .*", "serves until it is interrupted", answers_until_interrupted),
    Exemption(
        r"dvc (remote|pull|push) .*|dvc (repro|exp run) .*--pull.*|git .*",
        "needs a store that others share; tests/workflow/test_remotes.py uses some",
        parsed,
    ),
    Exemption(
        r"snakemake --workflow-profile .*|export SNAKEMAKE_.*|docker .*|(exec )?apptainer .*",
        "needs a cluster, a store or a registry",
        parsed,
    ),
]


def exemption(command: str) -> Exemption | None:
    text = " ".join(words(command))
    return next((entry for entry in NOT_RUN if re.fullmatch(entry.pattern, text)), None)


@pytest.mark.parametrize("entry", NOT_RUN, ids=lambda entry: entry.pattern)
def test_every_exemption_is_needed(entry: Exemption) -> None:
    shells = [block for page in PAGES for block in blocks(page) if block.language in ("sh", "bash")]
    assert any(exemption(command) is entry for block in shells for command in commands(block.text))


# --- the project in which they run


@pytest.fixture(scope="module")
def ready(made: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished tiny project, with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("docs") / "project"
    shutil.copytree(made.folder, folder, symlinks=True)
    for name in NEEDED:
        (folder / name).symlink_to(ROOT / name)
    own = [f"data/raw/mine/photos/000{number}.jpg" for number in range(1, 5)]
    for number, name in enumerate(("a.jpg", "b.jpg", *own)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(number, (240, 180)).save(path)
    project = Project(folder)
    # kept out of DVC's sight, and of `git add --all` in a page
    (folder / ".git" / "info" / "exclude").write_text("\n".join(NEEDED))
    spheremap(project, ["bundle", "--out", "demo.spheremap"])
    return project


@pytest.fixture
def project(ready: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy that a page may change; the user's caches are elsewhere."""
    shutil.copytree(ready.folder, tmp_path / "project", symlinks=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in Project(tmp_path).environment().items():  # Git's names
        if name.startswith("GIT_"):
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path / "project")
    return Project(tmp_path / "project")


def spheremap(project: Project, arguments: list[str]) -> None:
    """A command of spheremap, in this process: it has loaded PyTorch already."""
    before = Path.cwd()
    os.chdir(project.folder)
    try:
        assert main(arguments) == 0, f"spheremap {shlex.join(arguments)}"
    finally:
        os.chdir(before)


def run(project: Project, command: str) -> None:
    if entry := exemption(command):
        entry.check(project, command)
    elif words(command)[0] == "spheremap" and not re.search(r"[|<>&;$]", " ".join(words(command))):
        spheremap(project, words(command)[1:])
    else:
        project.run("bash", "-euo", "pipefail", "-c", command)


def put(project: Project, settings: dict[str, object]) -> None:
    """Set values in params.yaml, and new entries beside those that are there."""
    for key, value in settings.items():
        if isinstance(value, dict):
            project.edit({f"{key}.{name}": entry for name, entry in value.items()})
        else:
            project.edit({key: value})


def marked(page: str) -> object:
    return pytest.param(page, marks=pytest.mark.slow if page in SLOW else ())


RUN = [page for page in PAGES if any(block.language in ("sh", "bash", "python") for block in blocks(page))]


@pytest.mark.parametrize("page", [marked(page) for page in RUN])
def test_every_command_of_a_page_runs(page: str, project: Project) -> None:
    for block in blocks(page):
        try:
            if block.language in ("sh", "bash"):
                for command in commands(block.text):
                    run(project, command)
            elif block.language == "python":
                exec(compile(block.text, f"{page}:{block.line}", "exec"), {"__name__": "__main__"})
            elif block.language == "yaml" and page in TUTORIALS:
                put(project, yaml.safe_load(block.text))
        except BaseException as error:
            error.add_note(f"in the block at {page}:{block.line}")
            raise


def test_pages_with_slow_commands_exist() -> None:
    assert set(RUN) >= SLOW


@pytest.mark.parametrize("page", PAGES)
def test_blocks_say_their_language_and_settings_are_yaml(page: str) -> None:
    """So that no command escapes by standing in a block without a name."""
    for block in blocks(page):
        where = f"{page}:{block.line}"
        assert block.language in LANGUAGES, where
        if block.language == "yaml":
            # entries may refer to others of params.yaml
            text = re.sub(r"\*([\w-]+)", r"\1", block.text)
            assert isinstance(yaml.safe_load(text), dict), where


# --- commands in the text: not run, but known


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The argument parser of every command of spheremap."""
    found = {}
    for name in command_names():
        found[name] = argparse.ArgumentParser(name)
        importlib.import_module(f"spheremap.cli.{name.replace('-', '_')}").add_arguments(found[name])
    return found


def mentioned(page: str) -> list[list[str]]:
    """Commands in the text: names in backticks that begin like one."""
    spans = re.findall(r"`((?:spheremap|make|python|snakemake|dvc) [^`]+)`", prose(page).replace("\n", " "))
    return [shlex.split(text) for span in spans for text in span.split(" && ")]


def test_commands_in_the_text_exist() -> None:
    known = parsers()
    options = {
        name: {option for action in parser._actions for option in action.option_strings}
        for name, parser in known.items()
    }
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    dvc, snakemake = dvc_parser(), snakemake_parser()
    seen = 0
    for page in PAGES:
        for tool, *rest in mentioned(page):
            where = f"{page}: {tool} {' '.join(rest)}"
            if tool == "spheremap" and rest[0] not in ("COMMAND", "--help", "--version"):
                assert rest[0] in known, where
                assert {word for word in rest if word.startswith("--")} <= options[rest[0]], where
            elif tool == "make":
                assert set(rest) <= targets, where
            elif tool == "python" and rest[0] != "-m":
                assert (ROOT / rest[0]).is_file(), where
            elif tool == "dvc":
                assert dvc.parse_args([word for word in rest if word != "…"]), where
            elif tool == "snakemake":
                assert snakemake.parse_args(rest), where
            seen += 1
    assert seen > 20


@functools.cache
def dvc_parser() -> argparse.ArgumentParser:
    with warnings.catch_warnings():  # of packages that DVC loads
        warnings.simplefilter("ignore")
        from dvc.cli.parser import get_main_parser

        return get_main_parser()


@functools.cache
def snakemake_parser() -> argparse.ArgumentParser:
    from snakemake.cli import get_argument_parser

    return get_argument_parser()


# --- links: that each leads somewhere, test_site.py has; GitHub shows the pages without a menu


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[str] = set()
    queue = ["README.md"]
    while queue:
        page = queue.pop()
        reached.add(page)
        targets = [((ROOT / page).parent / link.partition("#")[0]).resolve() for link in links(page)]
        pages = {str(target.relative_to(ROOT)) for target in targets if target.is_relative_to(ROOT)}
        queue += {page for page in pages if page.endswith(".md")} - reached
    assert set(PAGES) <= reached


# --- what is written from the code


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_that_of_the_code() -> None:
    reference = load(ROOT / "docs" / "reference.py")
    for name, write in reference.PAGES.items():
        stored = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
        assert stored == write(), f"docs/reference/{name} is out of date: run `make docs`"


def test_the_pictures_can_be_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = load(ROOT / "docs" / "figures.py")
    monkeypatch.setattr(figures, "OUT", tmp_path / "figures")
    figures.main()
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    stored = list((ROOT / "docs" / "figures").iterdir())
    assert {path.name for path in stored} == drawn
    shown = {Path(link).name for page in PAGES for link in links(page)}
    assert drawn <= shown
    assert all(path.stat().st_size < 300_000 for path in stored)

"""Wheel and sdist in an environment outside any clone; torch and the like are those of the tests."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from project import Project
from studio import ROOT, Studio
from tiny import TINY

from spheremap.base.template import lay_project, project_files
from spheremap.cli import main

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def build(kind: str, out: Path) -> Path:
    """What `python -m build` builds, without an isolated environment, for which it would download."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


@dataclass(frozen=True)
class Installed:
    """A virtual environment with spheremap in it, and a folder to work in."""

    folder: Path
    work: Path

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        names = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "XDG_CACHE_HOME": str(self.work / "cache")}
        return kept | dict.fromkeys(names, "test@example.org") | own

    def run(self, *command: object, cwd: Path | None = None) -> str:
        words, folder = list(map(str, command)), cwd or self.work
        done = subprocess.run(words, cwd=folder, env=self.environment(), text=True, capture_output=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, *arguments: object, cwd: Path | None = None) -> str:
        return self.run(self.folder / "bin" / "python", *arguments, cwd=cwd)


def install(package: Path, folder: Path) -> Installed:
    environment = Installed(folder / "environment", folder / "work")
    environment.work.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment.folder)], check=True)
    (site,) = (environment.folder / "lib").glob("python*/site-packages")
    # a plain line: what other .pth files there would do, such as to show a clone, is not done
    (site / "theirs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment.python(
        "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", package
    )
    return environment


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(wheel, tmp_path_factory.mktemp("installed"))


@pytest.mark.slow
def test_an_installed_package_works_outside_any_clone(installed: Installed, studio: Studio) -> None:
    where = installed.python("-c", "import spheremap; print(spheremap.__file__, spheremap.__version__)")
    assert where.startswith(str(installed.folder))
    assert where.split()[1] == VERSION
    assert f"spheremap  {VERSION}" in installed.run("spheremap", "doctor", "--offline")
    options = ("--points", "30,40", "--model", studio.bundle, "--device", "cpu")
    answer = json.loads(installed.run("spheremap", "match", *studio.photographs[:2], *options))
    assert len(answer["points"]) == 1


@pytest.mark.slow
def test_a_project_that_was_laid_runs(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(installed.work / "mine")
    installed.run("spheremap", "init", project.folder, "--git", "--dvc")
    project.edit(TINY)
    (site,) = (installed.folder / "lib").glob("python*/site-packages")
    monkeypatch.setenv("PYTHONPATH", str(site))  # the forks have loaded no spheremap
    assert f"spheremap  {VERSION} in {site}" in project.run("spheremap", "doctor", "--offline")
    project.snakemake()
    results = project.folder / "results"
    fused = f"{json.loads((results / 'metrics.json').read_text())['fused']['point']:.1f}"
    assert fused in (results / "report.html").read_text()
    assert fused in project.run("spheremap", "table", "results/metrics.json")
    project.run("spheremap", "bundle", "--out", "mine.spheremap")
    project.run("dvc", "commit", "--force", "--quiet")
    assert "up to date" in project.run("dvc", "status")


def test_what_is_laid_is_what_the_wheel_takes(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    prefix = "spheremap/project/"
    inside = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    lay_project(tmp_path / "laid")
    laid = {str(path.relative_to(tmp_path / "laid")) for path in (tmp_path / "laid").rglob("*")}
    assert inside == {name for name in laid if (tmp_path / "laid" / name).is_file()}
    assert {"workflow", "params.yaml", "dvc.yaml", "presets", ".gitignore"} <= project_files().keys()
    assert "spheremap/py.typed" in names
    assert "spheremap/api/published_heads.yaml" in names
    assert f"spheremap-{VERSION}.dist-info/licenses/LICENSE" in names


@pytest.mark.slow
def test_the_sdist_installs_what_the_wheel_does(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", tmp_path / "dist")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CITATION.cff", "hubconf.py", "tests/conftest.py"} <= names
    assert not any(name.startswith((".venv", "data/shapes", ".snakemake/")) for name in names)
    (site,) = (install(sdist, tmp_path / "installed").folder / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        package = {name: archive.read(name) for name in archive.namelist() if name.startswith("spheremap/")}
    files = [path for path in (site / "spheremap").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.relative_to(site).as_posix(): path.read_bytes() for path in files} == package


@pytest.mark.parametrize("options", [[], ["--dvc"], ["--git", "--dvc"]])
def test_git_and_dvc_are_set_up_on_request(
    tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "test@example.org")
    folder = tmp_path / "mine"
    assert main(["init", str(folder), *options]) == 0
    assert f"cd {folder}" in capsys.readouterr().out
    assert (folder / ".git").is_dir() == ("--git" in options)
    assert (folder / ".dvc").is_dir() == ("--dvc" in options)
    if options:
        alone = "--git" not in options
        assert not (folder / ".dvc").exists() or ("no_scm" in (folder / ".dvc/config").read_text()) == alone
    assert main(["init", str(folder)]) == 1
    assert "new or an empty folder" in capsys.readouterr().err


@pytest.mark.slow
def test_matching_needs_no_extra(studio: Studio, tmp_path: Path) -> None:
    """With the packages of the extras hidden, but for those that torch and timm bring themselves."""
    hidden = ("dvc", "matplotlib", "snakemake", "jsonschema", "scipy", "pillow_heif")
    hide = f"import sys; sys.modules |= dict.fromkeys({hidden})\nfrom spheremap.cli import main\n"
    a, b = map(str, studio.photographs[:2])
    shared = ["--model", str(studio.bundle), "--device", "cpu"]
    commands = [
        ["match", a, b, "--points", "30,40", *shared],
        ["map", a, "--out", str(tmp_path / "map.png"), *shared],
        ["bundle", "--params", str(studio.params), "--out", str(tmp_path / "b.spheremap")],
        ["match", "--about", *shared],
    ]
    code = f"{hide}import spheremap.api.server\nsys.exit(max(main(command) for command in {commands}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "map.png").exists()
    report = ["report", "--params=p", "--tables=t", "--images=i", "--head=h", "--results=r", "--out=o"]
    code = f"{hide}sys.exit(main({report}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'spheremap[workflow]'" in done.stderr


def test_the_entry_of_torch_hub(studio: Studio) -> None:
    matcher = torch.hub.load(str(ROOT), "matcher", str(studio.bundle), source="local", device="cpu")
    assert matcher.match(*studio.photographs[:2], [(30, 40)]).xy.shape == (1, 2)

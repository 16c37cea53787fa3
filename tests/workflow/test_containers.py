"""The recipes of the workers' environment, read but not built: no container engine is needed here."""

import re
import tomllib
from pathlib import Path

import pytest


@pytest.fixture
def docker(root: Path) -> dict[str, list[str]]:
    """Arguments of the Dockerfile's instructions by name, continued lines joined; commands one by one."""
    text = re.sub(r"\\\n\s*", "", (root / "containers/Dockerfile").read_text())
    found = {name: re.findall(rf"^{name} (.*)", text, flags=re.MULTILINE) for name in ("FROM", "COPY", "RUN")}
    return found | {"RUN": [command.strip() for line in found["RUN"] for command in line.split("&&")]}


@pytest.fixture
def apptainer(root: Path) -> dict[str, list[str]]:
    """Lines of the Apptainer definition by section; the header's is ''."""
    parts = re.split(r"^(%\w+).*\n", (root / "containers/spheremap.def").read_text(), flags=re.MULTILINE)
    texts = dict(zip(["", *parts[1::2]], parts[::2], strict=True))
    return {name: re.findall(r"^\s*([^#\s].*?)\s*$", text, re.MULTILINE) for name, text in texts.items()}


def test_both_say_the_same(root: Path, docker: dict[str, list[str]], apptainer: dict[str, list[str]]) -> None:
    environment = (root / "environment.yml").read_text()
    (image,) = [f"python:{version}-slim" for version in re.findall(r"- python=(\S+)", environment)]
    assert docker["FROM"] == [image]
    assert apptainer[""] == ["Bootstrap: docker", f"From: {image}"]
    assert [line for line in apptainer["%post"] if not line.startswith("cd ")] == docker["RUN"]
    assert "://" not in str((docker, apptainer))  # no address of an index


def test_what_is_copied_exists_and_is_not_ignored(
    root: Path, docker: dict[str, list[str]], apptainer: dict[str, list[str]]
) -> None:
    first, *kept = (root / "containers/Dockerfile.dockerignore").read_text().splitlines()
    files = [line[1:] for line in kept if line.startswith("!")]
    assert first == "*"
    assert all((root / name).exists() for name in files)
    assert [path for line in docker["COPY"] for path in line.split()[:-1]] == ["requirements.txt", "."]
    assert apptainer["%files"] == [f"{name} /opt/spheremap/{name}" for name in files]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    # without these the package cannot be built
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {project["project"]["readme"], *project["project"]["license-files"], *wheel["force-include"]}
    assert {*needed, *wheel["packages"]} <= {*files, "src/spheremap"}


@pytest.mark.parametrize("part", ["--requirement requirements.txt", "--no-deps --no-build-isolation"])
def test_pip_is_called_as_make_env_does(part: str, root: Path, docker: dict[str, list[str]]) -> None:
    """Options apart that concern printing, caching and editing."""
    makefile = (root / "Makefile").read_text().splitlines()
    calls = [[line.partition(" -m pip ")[2] for line in lines if part in line and " -m pip " in line]
             for lines in (docker["RUN"], makefile)]  # fmt: skip
    apart = {"--quiet", "--no-cache-dir", "--editable"}
    ours, theirs = ([word for word in " ".join(own).split() if word not in apart] for own in calls)
    assert ours == theirs != []

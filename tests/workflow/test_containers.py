"""The recipes of the workers' environment, read but not built: no container engine is needed here."""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

DOCKERFILE = "containers/Dockerfile"
APPTAINER = "containers/spheremap.def"


def instructions(root: Path) -> list[tuple[str, str]]:
    """Instructions of the Dockerfile with their arguments, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (root / DOCKERFILE).read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest) for name, rest in (line.split(maxsplit=1) for line in lines)]


def sections(root: Path) -> dict[str, list[str]]:
    """Lines of the Apptainer definition by section; the header's is ''."""
    found: dict[str, list[str]] = {"": []}
    current = ""
    for line in (root / APPTAINER).read_text().splitlines():
        if line.startswith("%"):
            current = line.strip()
            found[current] = []
        elif line.strip() and not line.startswith("#"):
            found[current].append(line.strip())
    return found


def docker_commands(root: Path) -> list[str]:
    return [
        command.strip() for name, rest in instructions(root) if name == "RUN" for command in rest.split("&&")
    ]


def copied(root: Path) -> list[str]:
    return [path for name, rest in instructions(root) if name == "COPY" for path in rest.split()[:-1]]


def test_both_start_from_the_python_of_the_conda_route(root: Path) -> None:
    environment = yaml.safe_load((root / "environment.yml").read_text())
    (python,) = [e for e in environment["dependencies"] if str(e).startswith("python=")]
    image = f"python:{python.removeprefix('python=')}-slim"
    assert instructions(root)[0] == ("FROM", image)
    assert sections(root)[""] == ["Bootstrap: docker", f"From: {image}"]


def test_what_is_copied_exists_and_is_not_ignored(root: Path) -> None:
    ignore = (root / f"{DOCKERFILE}.dockerignore").read_text().splitlines()
    assert ignore[0] == "*"
    files = [line[1:] for line in ignore if line.startswith("!")]
    assert all((root / name).exists() for name in files)
    assert copied(root) == ["requirements.txt", "."]
    assert sections(root)["%files"] == [f"{name} /opt/spheremap/{name}" for name in files]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    # without these the package cannot be built
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {project["project"]["readme"], *project["project"]["license-files"], *wheel["force-include"]}
    assert {*needed, *wheel["packages"]} <= {*files, "src/spheremap"}


def test_both_run_the_same_commands(root: Path) -> None:
    assert [line for line in sections(root)["%post"] if not line.startswith("cd ")] == docker_commands(root)


@pytest.mark.parametrize("part", ["--requirement requirements.txt", "--no-deps --no-build-isolation"])
def test_pip_is_called_as_make_env_does(part: str, root: Path) -> None:
    """Options apart that concern printing, caching and editing."""

    def options(commands: Iterable[str]) -> list[str]:
        (command,) = [command.partition(" -m pip ")[2] for command in commands if part in command]
        return [w for w in command.split() if w not in ("--quiet", "--no-cache-dir", "--editable")]

    makefile = [line for line in (root / "Makefile").read_text().splitlines() if "python -m pip" in line]
    assert options(docker_commands(root)) == options(makefile)


def test_no_address_of_an_index(root: Path) -> None:
    for name in (DOCKERFILE, APPTAINER):
        assert "://" not in (root / name).read_text()

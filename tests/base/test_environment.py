"""pyproject.toml, requirements.txt and environment.yml name the same packages in the same versions."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.markers import Marker


def direct_dependencies(root: Path) -> set[str]:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = sum(project["optional-dependencies"].values(), project["dependencies"])
    return {re.match(r"[\w.-]+", text)[0] for text in wanted}


def pins(root: Path) -> dict[str, str]:
    """What pip installs for Python 3.12 on Linux: a package may have several pins for several Pythons."""
    text = (root / "requirements.txt").read_text()
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)(?: ; (.*?))? \\$", text, re.MULTILINE)
    target = {"python_version": "3.12", "python_full_version": "3.12.0", "sys_platform": "linux"}
    return {name: version for name, version, marker in found if not marker or Marker(marker).evaluate(target)}


def test_every_direct_dependency_is_pinned(root: Path) -> None:
    assert direct_dependencies(root) <= pins(root).keys()


def test_every_pin_has_a_hash_and_no_address(root: Path) -> None:
    text = (root / "requirements.txt").read_text()
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(blocks) >= len(pins(root))
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text


def test_conda_environment_has_the_same_versions(root: Path) -> None:
    environment = yaml.safe_load((root / "environment.yml").read_text())
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    listed = dict(line.split("==") for line in pip if "==" in line)
    listed |= dict(line.split("=") for line in conda if line.startswith("pip="))
    assert listed == {name: pins(root)[name] for name in direct_dependencies(root)}


def test_conda_python_is_one_that_the_package_supports(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    minimum = tuple(map(int, project["requires-python"].removeprefix(">=").split(",")[0].split(".")))
    environment = yaml.safe_load((root / "environment.yml").read_text())
    (version,) = [
        e.removeprefix("python=") for e in environment["dependencies"] if str(e).startswith("python=")
    ]
    assert tuple(map(int, version.split("."))) >= minimum

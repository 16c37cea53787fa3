"""What GitHub, pre-commit and Snakemake's catalogue look for is there, and says what the Makefile does."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

WORKFLOWS = ("ci.yml", "demo.yml")


def targets(root: Path) -> dict[str, list[str]]:
    """Targets of the Makefile, with the lines of their recipes."""
    found: dict[str, list[str]] = {}
    for line in (root / "Makefile").read_text().splitlines():
        if match := re.match(r"([\w-]+):", line):
            found[match[1]] = []
        elif line.startswith("\t"):
            found.setdefault(next(reversed(found), ""), []).append(line.strip())
    return found


def jobs(root: Path, name: str) -> dict[str, Any]:
    return yaml.safe_load((root / ".github" / "workflows" / name).read_text())["jobs"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_call_the_makefile_alone(root: Path, name: str) -> None:
    known = targets(root)
    for job in jobs(root, name).values():
        commands = [step["run"] for step in job["steps"] if "run" in step]
        assert commands
        assert all(re.fullmatch(r"make ([\w-]+)", text) and text.split()[1] in known for text in commands)
        assert all(re.match(r"actions/[\w-]+@v\d+$", step["uses"]) for step in job["steps"] if "uses" in step)
        assert all("run" in step or "uses" in step for step in job["steps"])


def test_the_tests_run_on_every_python_that_is_promised(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    promised = [text.rpartition(" ")[2] for text in project["classifiers"] if ":: Python :: 3." in text]
    assert jobs(root, "ci.yml")["test"]["strategy"]["matrix"]["python"] == promised
    first, last = re.findall(r"3\.(\d+)", project["requires-python"])
    assert promised == [f"3.{minor}" for minor in range(int(first), int(last))]


def test_pre_commit_runs_what_make_lint_does(root: Path) -> None:
    (repo,) = yaml.safe_load((root / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in repo["hooks"]]
    assert entries == targets(root)["lint"]
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in repo["hooks"])


def test_links_of_pages_beside_the_site(root: Path) -> None:
    """Those that MkDocs does not read."""
    found = [
        (page, link)
        for page in [*root.glob("*.md"), root / "config" / "README.md"]
        for link in re.findall(r"\]\(([^)\s#]+)", page.read_text())
        if "://" not in link
    ]
    assert found
    assert [(page, link) for page, link in found if not (page.parent / link).exists()] == []

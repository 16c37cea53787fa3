"""A tiny copy of the whole project, to run Snakemake and DVC in."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import warm
import yaml

COPIED = (
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvc/plots",
    ".dvcignore",
    ".gitignore",
    "dvc.yaml",
    "environment.yml",
    "params.yaml",
    "workflow",
)


def stages_run(output: str) -> list[str]:
    """Names of the stages that `dvc repro` ran."""
    return re.findall(r"Running stage '(\w+)'", output)


class Project:
    """A Git repository with the project's workflow and parameters so small that all runs in seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def copy(cls, root: Path, folder: Path, params: Mapping[str, Any]) -> "Project":
        for name in COPIED:
            source, target = root / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copyfile(source, target)
        project = cls(folder)
        project.edit(params)
        project.run("git", "init", "--quiet")
        project.commit("A tiny project")
        return project

    def environment(self) -> dict[str, str]:
        """This interpreter's commands come first, and Git needs no configuration of the user's."""
        names = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return os.environ | dict.fromkeys(names, "test@example.org") | {"PATH": path}

    def warm_environment(self) -> dict[str, str]:
        """The same, with commands that start at once."""
        environment = self.environment()
        return environment | {"PATH": f"{warm.folder()}{os.pathsep}{environment['PATH']}"}

    def run(self, *command: str, ok: bool = True, warm: bool = True) -> str:
        """Run a command in the project, as a fork if `warm`; returns what it printed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.warm_environment() if warm else self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (done.returncode == 0) == ok, (
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}"
        )
        return done.stdout

    def start(self, *command: str, warm: bool = False) -> "subprocess.Popen[str]":
        """Start a command as the head of its own process group, so that all of it can be killed.

        If `warm`, what it starts are forks, which are not of that group but end with their stand-ins.
        """
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.warm_environment() if warm else self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def snakemake(self, *arguments: str, ok: bool = True) -> str:
        return self.run("snakemake", "--cores", "all", *arguments, ok=ok)

    def edit(self, changes: Mapping[str, Any]) -> None:
        """Change parameters, given by dotted key; a mapping replaces a whole section."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            *parents, leaf = key.split(".")
            section = params
            for parent in parents:
                section = section[parent]
            section[leaf] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def bytes_of(self, *names: str) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in names}

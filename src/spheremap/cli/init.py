"""`spheremap init`: a folder in which Snakemake and DVC run."""

import argparse
import shlex
import shutil
from pathlib import Path

from spheremap.base.errors import InputError

HELP = "lay a project into a folder: parameters, presets, and the workflow of Snakemake and DVC"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="DIRECTORY", help="a new or an empty folder")
    parser.add_argument("--git", action="store_true", help="make it a Git repository, with a first commit")
    parser.add_argument(
        "--dvc", action="store_true", help="let DVC keep data and models (without --git: without versions)"
    )


def run(args: argparse.Namespace) -> None:
    """Lay the files, and say what to do next."""
    from spheremap.base.template import lay_project

    folder: Path = args.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "there can be no folder", where=folder, found=error.strerror, fix="name another"
        ) from error
    if any(folder.iterdir()):
        raise InputError(
            "there is something already",
            where=folder,
            expected="a new or an empty folder",
            fix="name another",
        )
    lay_project(folder)
    config = folder / ".dvc" / "config"
    if not args.dvc:
        shutil.rmtree(config.parent)
    elif not args.git:
        config.write_text(config.read_text().replace("[core]\n", "[core]\n    no_scm = true\n", 1))
    if args.git:
        _git(folder, "init", "--quiet")
        _git(folder, "add", "--all")
        _git(folder, "commit", "--quiet", "--message", "A project of spheremap")
    run_it = "dvc repro" if args.dvc else "snakemake --cores all"
    print(
        f"{folder}: a project with the demonstration's settings. Next:\n"
        f"  cd {shlex.quote(str(folder))}\n"
        "  spheremap preset        # lists groups of settings; params.yaml has all of them, with comments\n"
        f"  {run_it}"
    )


def _git(folder: Path, *arguments: str) -> None:
    """Run Git in the folder.

    Raises:
        InputError: if it is not there or fails.
    """
    import subprocess

    try:
        subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        found = getattr(error, "stderr", None) or str(error)
        raise InputError(
            "Git failed; the files are there",
            where=folder,
            found=found.strip(),
            fix="install Git, or tell it who you are (git config --global user.name and user.email)",
        ) from error

"""The files that make a project: workflow, parameters, presets. They travel inside the wheel."""

import shutil
import tomllib
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def project_files() -> dict[str, Path]:
    """Files and folders of a project, by their places in it.

    In an installed package they lie in its folder `project`; in a clone in its top folder, where
    pyproject.toml says which of them the wheel takes.
    """
    inside = _PACKAGE / "project"
    if inside.is_dir():
        return {path.name: path for path in sorted(inside.iterdir())}
    clone = _PACKAGE.parents[1]
    build = tomllib.loads((clone / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    return {name: clone / name for name in build["force-include"]}


def lay_project(folder: Path) -> None:
    """Copy the files of a project into a folder, which is made if need be."""
    for name, source in project_files().items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)

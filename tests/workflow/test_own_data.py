"""Whatever changes in a folder of the user's own is seen by Snakemake and by DVC; nothing else runs again.

Each recipe is a change that a user makes; its outcome must be that of a project that never saw the old files.
"""

import contextlib
import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import timm
import torch
import yaml
from layouts_folder import FOLDER, write_folder
from PIL import Image
from project import Project, stages_run
from studio import run
from tiny import BACKBONE, TINY

TABLES = ("images", "keypoints", "pairs", "pictures")
SCORES = ("results/metrics.json", "results/scores.csv", "results/predictions.csv.gz")


def rewrite(path: Path, change: Callable[[list[dict[str, str]]], None]) -> None:
    """Change a CSV table in place."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    change(rows)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def move_a_keypoint(root: Path) -> None:
    rewrite(root / "keypoints.csv", lambda rows: rows[0].update(x="3.5", y="4.5"))


def correct_azimuths(root: Path) -> None:
    def turn(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["azimuth"] = str((int(row["azimuth"] or 0) + 180) % 360)

    rewrite(root / "images.csv", turn)


def redraw_a_mask(root: Path) -> None:
    path = root / "masks/mug/0.png"
    mask = np.asarray(Image.open(path)).copy()
    mask[20:24, 10:14] = 0
    Image.fromarray(mask).save(path)


def replace_a_photograph(root: Path) -> None:
    path = root / "photos/mug/1.png"
    with Image.open(path) as picture:
        size = picture.size
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(path)


def list_the_pairs(root: Path) -> None:
    """A table that was not there before."""
    (root / "pairs.csv").write_text(
        "split,source,target\nval,photos/mug/0.png,photos/mug/1.png\ntest,photos/mug/2.png,photos/mug/3.png\n"
        "test,photos/toy_car/2.png,photos/toy_car/3.png\n"
    )


RECIPES = [move_a_keypoint, correct_azimuths, redraw_a_mask, replace_a_photograph, list_the_pairs]


def make(project: Project, engine: str, *milestone: str) -> str:
    return project.snakemake(*milestone) if engine == "snakemake" else project.run("dvc", "repro", *milestone)


def tables_of(project: Project) -> dict[str, bytes]:
    return project.bytes_of(*(f"data/mine/canonical/{name}.csv" for name in TABLES))


def expected_tables(project: Project) -> dict[str, bytes]:
    """What the adapter makes of the folder as it is now."""
    entry = yaml.safe_load((project.folder / "params.yaml").read_text())["datasets"]["mine"]
    with TemporaryDirectory() as out, contextlib.chdir(project.folder):
        Path(out, "entry.json").write_text(json.dumps(entry))
        run("ingest", "--params", f"{out}/entry.json", "--out", f"{out}/tables")
        return {
            f"data/mine/canonical/{name}.csv": Path(out, f"tables/{name}.csv").read_bytes() for name in TABLES
        }


def project_of(root: Path, folder: Path) -> Project:
    """A project with a folder of pictures inside it, in which nothing has run."""
    write_folder(folder / "data/raw/mine", count=8)
    entry = FOLDER | {"root": "data/raw/mine"}
    return Project.copy(root, folder, TINY | {"datasets.mine": entry, "dataset": "mine"})


@pytest.fixture(scope="module")
def first(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Its tables are made and recorded."""
    project = project_of(root, tmp_path_factory.mktemp("first"))
    project.snakemake("data")
    project.run("dvc", "commit", "--force", "--quiet", "data")
    project.commit("First tables")
    return project


@pytest.fixture
def project(first: Project, tmp_path: Path) -> Project:
    """A copy that a test may change."""
    shutil.copytree(first.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def test_nothing_runs_until_something_changed(project: Project) -> None:
    assert "Nothing to be done" in project.snakemake("data")
    assert stages_run(project.run("dvc", "repro", "data")) == []
    assert "deps:\n      - data/raw/mine" in (project.folder / "dvc.yaml").read_text()
    before = tables_of(project)
    move_a_keypoint(project.folder / "data/raw/mine")
    assert "data/raw/mine" in project.run("dvc", "status")
    project.snakemake("data")
    assert tables_of(project) == expected_tables(project) != before


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_every_change_is_seen(engine: str, project: Project) -> None:
    for recipe in RECIPES:
        before = tables_of(project)
        recipe(project.folder / "data/raw/mine")
        make(project, engine, "data")
        assert tables_of(project) == expected_tables(project) != before, recipe.__name__
    project.run("dvc", "repro", "data")  # what Snakemake made is not put back
    assert tables_of(project) == expected_tables(project)
    assert stages_run(project.run("dvc", "repro", "data")) == []
    assert "Nothing to be done" in project.snakemake("data")


def clone_of(project: Project, folder: Path) -> Project:
    """A clone that pulled the tables from where the project pushed all."""
    store = str(folder / "store")
    project.run("dvc", "remote", "add", "--local", "--default", "store", store)
    project.run("dvc", "push", "--quiet")
    clone = Project(folder / "clone")
    project.run("git", "clone", "--quiet", str(project.folder), str(clone.folder))
    clone.run("dvc", "remote", "add", "--local", "--default", "store", store)
    clone.run("dvc", "pull", "--quiet", "data")
    return clone


@pytest.mark.slow
def test_a_clone_that_pulled(first: Project, project: Project, tmp_path: Path) -> None:
    """Nothing runs where folder and tables belong together; a folder that differs counts."""
    clone = clone_of(project, tmp_path)
    assert "Nothing to be done" in clone.snakemake("data"), "a clone without the photographs"
    shutil.copytree(project.folder / "data/raw/mine", clone.folder / "data/raw/mine")
    assert "Nothing to be done" in clone.snakemake("data")
    assert stages_run(clone.run("dvc", "repro", "data")) == []
    assert tables_of(clone) == tables_of(first)
    redraw_a_mask(clone.folder / "data/raw/mine")
    clone.run("dvc", "repro", "data")
    assert tables_of(clone) == expected_tables(clone) != tables_of(first)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_an_older_state(engine: str, first: Project, project: Project) -> None:
    """What counts is the folder as it lies there; one that DVC keeps goes back with the rest."""
    root = project.folder / "data/raw/mine"
    project.run("dvc", "add", "--quiet", "data/raw/mine")
    project.commit("The photographs")
    correct_azimuths(root)
    project.run("dvc", "add", "--quiet", "data/raw/mine")
    make(project, engine, "data")
    project.run("dvc", "commit", "--force", "--quiet", "data")
    project.commit("Azimuths corrected")
    project.run("git", "checkout", "--quiet", "HEAD~1")
    project.run("dvc", "checkout", "--quiet", "data", "data/raw/mine.dvc")
    assert tables_of(project) == tables_of(first)
    if engine == "snakemake":
        project.snakemake("data")  # what it remembers is the newer run: it makes them once more
        assert tables_of(project) == tables_of(first)
        assert "Nothing to be done" in project.snakemake("data")
    assert stages_run(project.run("dvc", "repro", "data")) == []
    move_a_keypoint(root)
    make(project, engine, "data")
    assert tables_of(project) == expected_tables(project)


@pytest.mark.slow
def test_scores_are_those_of_the_changed_folder(root: Path, project: Project, tmp_path: Path) -> None:
    """And of a project that has never seen anything else."""
    project.snakemake()
    before = project.bytes_of(*SCORES)
    assert json.loads(before["results/metrics.json"])["n_points"] > 0
    project.run("dvc", "commit", "--force", "--quiet")
    assert "Nothing to be done" in project.snakemake()
    assert stages_run(project.run("dvc", "repro")) == []
    changed = project_of(root, tmp_path / "changed")
    for recipe in RECIPES:
        for of in (project, changed):
            recipe(of.folder / "data/raw/mine")
    for of in (project, changed):
        of.snakemake()
    assert project.bytes_of(*SCORES) == changed.bytes_of(*SCORES) != before


@pytest.mark.slow
def test_photographs_in_the_layout_of_spair(root: Path, real: Path, tmp_path: Path) -> None:
    """A folder outside the project, and `dvc repro` as the first command of all."""
    dogs = tmp_path / "dogs"
    shutil.copytree(real / "dogs", dogs)
    for path in (dogs, *dogs.rglob("*")):
        path.chmod(0o755)
    entry = {"layout": "spair", "root": str(dogs), "class_ids": {}, "masks": {"source": "own"}}
    project = Project.copy(root, tmp_path / "project", TINY | {"datasets.mine": entry, "dataset": "mine"})
    project.run("dvc", "repro")
    project.run("dvc", "repro")  # dvc.yaml names the folder since the first run
    assert stages_run(project.run("dvc", "repro")) == []
    before, path = tables_of(project), next(dogs.glob("JPEGImages/dog/*.jpg"))
    with Image.open(path) as picture:
        picture.rotate(180).save(path)
    project.run("dvc", "repro", "data")
    assert tables_of(project) == expected_tables(project) != before
    assert "Nothing to be done" in project.snakemake("data")


@pytest.mark.slow
def test_single_files_are_watched(project: Project) -> None:
    """Keypoint groups and weights of one's own, which lie outside the folder of a data set."""
    weights = project.folder / "own.pth"
    source = {"source": "file", "path": "own.pth"}
    project.edit({"datasets.mine.keypoint_groups": "groups.json", "backbones.tiny.weights": source})
    (project.folder / "groups.json").write_text("{}")
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(timm.create_model(BACKBONE["model"], num_classes=0).state_dict(), weights)
        assert "own.pth" in project.snakemake("weights")
    assert "Nothing to be done" in project.snakemake("weights")
    stages = yaml.safe_load((project.folder / "dvc.yaml").read_text())["stages"]
    assert (stages["weights"]["deps"], stages["evaluate"]["deps"][-1]) == (["own.pth"], "groups.json")


@pytest.mark.slow
def test_links_are_watched_one_by_one(project: Project, tmp_path: Path) -> None:
    shutil.move(project.folder / "data/raw/mine/photos", tmp_path / "photos")
    (project.folder / "data/raw/mine/photos").symlink_to(tmp_path / "photos")
    assert "Nothing to be done" in project.snakemake("--dry-run", "data")
    text = (project.folder / "dvc.yaml").read_text()
    assert "      - data/raw/mine\n      - data/raw/mine/photos\n" in text
    replace_a_photograph(project.folder / "data/raw/mine")
    assert "rule ingest:" in project.snakemake("--dry-run", "data")


def test_a_folder_that_results_go_to_is_refused(project: Project) -> None:
    shutil.move(project.folder / "data/raw/mine", project.folder / "data/elsewhere")
    project.edit({"datasets.elsewhere": FOLDER | {"root": "data/elsewhere"}, "dataset": "elsewhere"})
    output = project.snakemake("--dry-run", ok=False)
    assert "datasets.elsewhere" in output
    assert "data/raw/elsewhere" in output
    assert "Traceback" not in output

"""Whatever changes in a folder of the user's own is seen by Snakemake and by DVC; nothing else runs again.

Each recipe is a change that a user makes; its outcome must be that of a project that never saw the old files.
"""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from layouts_folder import write_folder
from PIL import Image
from project import Project, stages_run
from tiny import TINY

FOLDER = {
    "layout": "folder",
    "bins": None,
    "shares": {"train": 0.4, "val": 0.3, "test": 0.3},
    "max_pairs": 20,
    "min_shared_keypoints": 1,
    "seed": 0,
    "masks": {"source": "own"},
}
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


def make(project: Project, engine: str, milestone: str = "") -> str:
    if engine == "snakemake":
        return project.snakemake(*([milestone] if milestone else []))
    return project.run("dvc", "repro", *([milestone] if milestone else []))


def tables_of(project: Project) -> dict[str, bytes]:
    return project.bytes_of(*(f"data/mine/canonical/{name}.csv" for name in TABLES))


def expected_tables(project: Project, out: Path) -> dict[str, bytes]:
    """What the adapter makes of the folder as it is now."""
    entry = yaml.safe_load((project.folder / "params.yaml").read_text())["datasets"]["mine"]
    out.mkdir()
    (out / "entry.json").write_text(json.dumps(entry))
    project.run("spheremap", "ingest", "--params", str(out / "entry.json"), "--out", str(out / "tables"))
    return {f"data/mine/canonical/{name}.csv": (out / f"tables/{name}.csv").read_bytes() for name in TABLES}


@pytest.fixture(scope="module")
def first(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a folder inside it, whose tables are made and recorded."""
    folder = tmp_path_factory.mktemp("first")
    write_folder(folder / "data/raw/mine", count=8)
    entry = FOLDER | {"root": "data/raw/mine"}
    project = Project.copy(root, folder, TINY | {"datasets.mine": entry, "dataset": "mine"})
    project.snakemake("data")
    project.run("dvc", "commit", "--force", "--quiet", "data")
    project.commit("First tables")
    return project


def copy_of(project: Project, folder: Path) -> Project:
    shutil.copytree(project.folder, folder, symlinks=True)
    return Project(folder)


@pytest.fixture(scope="module")
def scored(first: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same, run from end to end."""
    project = copy_of(first, tmp_path_factory.mktemp("scored") / "project")
    project.snakemake()
    project.run("dvc", "commit", "--force", "--quiet")
    project.commit("First results")
    return project


@pytest.fixture
def project(first: Project, tmp_path: Path) -> Project:
    """A copy that a test may change."""
    return copy_of(first, tmp_path / "project")


def test_nothing_runs_when_nothing_changed(first: Project) -> None:
    assert "Nothing to be done" in first.snakemake("data")
    assert stages_run(first.run("dvc", "repro", "data")) == []
    assert "up to date" in first.run("dvc", "status", "data")
    assert "deps:\n      - data/raw/mine" in (first.folder / "dvc.yaml").read_text()


@pytest.mark.slow
def test_nothing_runs_of_the_whole_chain(scored: Project) -> None:
    assert "Nothing to be done" in scored.snakemake()
    assert stages_run(scored.run("dvc", "repro")) == []
    assert "up to date" in scored.run("dvc", "status")


@pytest.mark.parametrize("engine", ["snakemake", pytest.param("dvc", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "recipe",
    [RECIPES[0], *(pytest.param(recipe, marks=pytest.mark.slow) for recipe in RECIPES[1:])],
    ids=[recipe.__name__ for recipe in RECIPES],
)
def test_a_change_is_seen(
    recipe: Callable[[Path], None], engine: str, project: Project, tmp_path: Path
) -> None:
    before = tables_of(project)
    recipe(project.folder / "data/raw/mine")
    assert "data/raw/mine" in project.run("dvc", "status")
    make(project, engine, "data")
    assert tables_of(project) == expected_tables(project, tmp_path / "expected") != before
    if engine == "dvc":
        assert stages_run(project.run("dvc", "repro", "data")) == []
    assert "Nothing to be done" in project.snakemake("data")


@pytest.mark.slow
def test_tables_made_by_snakemake_are_not_put_back_by_dvc(project: Project, tmp_path: Path) -> None:
    correct_azimuths(project.folder / "data/raw/mine")
    project.snakemake("data")
    project.run("dvc", "repro", "data")
    assert tables_of(project) == expected_tables(project, tmp_path / "expected")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_a_clone_that_pulled(engine: str, first: Project, project: Project, tmp_path: Path) -> None:
    """Nothing runs where folder and tables belong together; a folder that differs counts."""
    store = str(tmp_path / "store")
    project.run("dvc", "remote", "add", "--local", "--default", "store", store)
    project.run("dvc", "push", "--quiet")
    clone = Project(tmp_path / "clone")
    project.run("git", "clone", "--quiet", str(project.folder), str(clone.folder))
    clone.run("dvc", "remote", "add", "--local", "--default", "store", store)
    clone.run("dvc", "pull", "--quiet", "data")
    assert "Nothing to be done" in clone.snakemake("data"), "a clone without the photographs"
    shutil.copytree(project.folder / "data/raw/mine", clone.folder / "data/raw/mine")
    assert "Nothing to be done" in clone.snakemake("data")
    assert stages_run(clone.run("dvc", "repro", "data")) == []
    assert tables_of(clone) == tables_of(first)
    redraw_a_mask(clone.folder / "data/raw/mine")
    make(clone, engine, "data")
    assert tables_of(clone) == expected_tables(clone, tmp_path / "expected") != tables_of(first)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_an_older_state(engine: str, first: Project, project: Project, tmp_path: Path) -> None:
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
    assert tables_of(project) == expected_tables(project, tmp_path / "expected")


@pytest.fixture(scope="module")
def changed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has never seen anything but the folder after all changes."""
    folder = tmp_path_factory.mktemp("changed")
    write_folder(folder / "data/raw/mine", count=8)
    for recipe in RECIPES:
        recipe(folder / "data/raw/mine")
    entry = FOLDER | {"root": "data/raw/mine"}
    project = Project.copy(root, folder, TINY | {"datasets.mine": entry, "dataset": "mine"})
    project.snakemake()
    return project


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_scores_are_those_of_the_changed_folder(
    engine: str, scored: Project, changed: Project, tmp_path: Path
) -> None:
    project = copy_of(scored, tmp_path / "project")
    before = project.bytes_of(*SCORES)
    for recipe in RECIPES:
        recipe(project.folder / "data/raw/mine")
    make(project, engine)
    assert project.bytes_of(*SCORES) == changed.bytes_of(*SCORES)
    assert project.bytes_of(*SCORES) != before


def annotate(dogs: Path, change: Callable[[dict[str, Any]], None], count: int | None = None) -> None:
    """Change annotations in SPair-71k's layout."""
    for path in sorted((dogs / "ImageAnnotation/dog").glob("*.json"))[:count]:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))


def move_a_dogs_keypoints(dogs: Path) -> None:
    def move(content: dict[str, Any]) -> None:
        content["kps"] = {key: point and [point[0] // 2, point[1]] for key, point in content["kps"].items()}
        content["bndbox"] = [0, 0, content["image_width"], content["image_height"]]

    annotate(dogs, move)


def turn_the_dogs(dogs: Path) -> None:
    annotate(dogs, lambda content: content.update(azimuth_id=(content["azimuth_id"] + 4) % 8))


def redraw_dogs_masks(dogs: Path) -> None:
    for path in sorted((dogs / "Segmentation/dog").glob("*.png"))[::2]:
        values = np.asarray(Image.open(path)).copy()
        values[:, : values.shape[1] // 2] = 0
        values[-20:, -20:] = 12  # never empty
        Image.fromarray(values).save(path)


def replace_dogs_photographs(dogs: Path) -> None:
    for path in sorted((dogs / "JPEGImages/dog").glob("*.jpg"))[::2]:
        with Image.open(path) as picture:
            picture.rotate(180).save(path)


DOG_RECIPES = [move_a_dogs_keypoints, turn_the_dogs, redraw_dogs_masks, replace_dogs_photographs]


def dogs_project(root: Path, real: Path, folder: Path) -> tuple[Path, Project]:
    """Dogs in SPair-71k's layout outside the project, and a project for them in which nothing has run."""
    dogs = folder / "dogs"
    shutil.copytree(real / "dogs", dogs)
    for path in (dogs, *dogs.rglob("*")):
        path.chmod(0o755)
    entry = {"layout": "spair", "root": str(dogs), "class_ids": {}, "masks": {"source": "own"}}
    return dogs, Project.copy(root, folder / "project", TINY | {"datasets.mine": entry, "dataset": "mine"})


@pytest.fixture(scope="module")
def changed_dogs(root: Path, real: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has never seen anything but the dogs after all changes."""
    dogs, project = dogs_project(root, real, tmp_path_factory.mktemp("changed"))
    for recipe in DOG_RECIPES:
        recipe(dogs)
    project.snakemake()
    return project


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_photographs_in_the_layout_of_spair(
    engine: str, root: Path, real: Path, changed_dogs: Project, tmp_path: Path
) -> None:
    """A folder outside the project, and `dvc repro` as the first command of all."""
    dogs, project = dogs_project(root, real, tmp_path)
    make(project, engine)
    project.run("dvc", "repro")  # dvc.yaml names the folder since the first run
    assert stages_run(project.run("dvc", "repro")) == []
    project.commit("First results")
    scores, first = project.bytes_of(*SCORES), tables_of(project)
    for recipe in DOG_RECIPES:
        before = tables_of(project)
        recipe(dogs)
        make(project, engine, "data")
        expected = expected_tables(project, tmp_path / recipe.__name__)
        assert tables_of(project) == expected != before, recipe.__name__
    make(project, engine)
    assert project.bytes_of(*SCORES) == changed_dogs.bytes_of(*SCORES) != scores
    project.run("dvc", "repro")
    assert stages_run(project.run("dvc", "repro")) == []
    assert "Nothing to be done" in project.snakemake()
    project.commit("Dogs corrected")

    clone = Project(tmp_path / "clone")
    store = str(tmp_path / "store")
    project.run("dvc", "remote", "add", "--local", "--default", "store", store)
    project.run("dvc", "push", "--quiet")
    project.run("git", "clone", "--quiet", str(project.folder), str(clone.folder))
    clone.run("dvc", "remote", "add", "--local", "--default", "store", store)
    clone.run("dvc", "pull", "--quiet", "data")
    assert "Nothing to be done" in clone.snakemake("data")
    assert stages_run(clone.run("dvc", "repro", "data")) == []
    assert tables_of(clone) == tables_of(project)
    turn_the_dogs(dogs)  # back
    make(clone, engine, "data")
    assert tables_of(clone) == expected_tables(clone, tmp_path / "again") != tables_of(project)
    turn_the_dogs(dogs)

    # of an older state the tables are the old ones, until they are made from the folder as it is now
    project.run("git", "checkout", "--quiet", "HEAD~1")
    project.run("dvc", "checkout", "--quiet", "data")
    assert tables_of(project) == first
    make(project, engine, "data")
    assert tables_of(project) == expected_tables(project, tmp_path / "newest") != first


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

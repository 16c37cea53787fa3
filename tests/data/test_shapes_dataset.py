"""The embedded data set as a whole: tables, pairs, reproducibility, killed runs and refusing."""

import dataclasses
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from data_checks import refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from spheremap.base.errors import InputError
from spheremap.config.data_sets import SplitCounts
from spheremap.config.slices import parse
from spheremap.data.shapes.dataset import CLASS_IDS, ShapesParams, render_dataset
from spheremap.data.shapes.models import keypoint_names
from spheremap.data.shapes.pairs import draw_pairs
from spheremap.data.tables import Tables, read_tables

SLICE: dict[str, Any] = {
    "layout": "shapes", "root": "data/shapes", "seed": 3, "categories": ["chair", "car"], "image_size": 64,
    "instances": {"train": 2, "val": 0, "test": 2}, "views_per_instance": 8, "azimuth_jitter": 22.5,
    "elevation": [0, 35], "roll": 5, "distance": [3, 6], "object_size": [0.55, 0.95], "shift": 0.1,
    "pairs": {"train": 20, "val": 0, "test": 10}, "min_shared_keypoints": 3,
}  # fmt: skip
PARAMS: ShapesParams = parse(SLICE, ShapesParams, where="test")


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of every file under a directory by relative path."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set rendered into `data/`."""
    folder = tmp_path_factory.mktemp("shapes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        render_dataset(PARAMS, Path("data"), jobs=1)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tables(project: Path, monkeypatch: pytest.MonkeyPatch) -> Tables:
    monkeypatch.chdir(project)
    return read_tables(Path("data"))


# ----------------------------------------------------------------------------------------------------- tables


def test_splits_share_no_instance_and_every_bin_is_seen_equally(tables: Tables) -> None:
    images = tables.images
    assert len(images) == 2 * 4 * 8
    assert images.groupby("instance")["split"].nunique().eq(1).all()
    assert images.groupby(["category", "split"])["instance"].nunique().tolist() == [2] * 4
    assert images.groupby(["instance", "azimuth"]).size().eq(1).all()
    assert sorted(images["azimuth"].unique()) == [45.0 * k for k in range(8)]


def test_pictures_masks_and_boxes_agree(project: Path, tables: Tables) -> None:
    for row in tables.images.itertuples():
        image, values = pixels(project / row.path), pixels(project / row.mask_path)
        assert image.shape == (64, 64, 3)
        assert values.shape == (64, 64)
        assert row.mask_value == CLASS_IDS[row.category]
        assert set(np.unique(values)) == {0, row.mask_value}
        rows, columns = np.nonzero(values)
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert [row.x1, row.y1, row.x2, row.y2] == extent
        longer = max(row.x2 - row.x1, row.y2 - row.y1) / 64
        assert 0.45 < longer < 1.0  # object_size, less thin parts that cover no pixel by half


def test_keypoints_are_complete_named_and_on_the_object(project: Path, tables: Tables) -> None:
    keypoints = tables.keypoints
    category = keypoints["image_id"].str.split("/").str[0]
    for name in ("car", "chair"):
        mine = keypoints[category == name]
        assert mine.groupby("image_id").size().eq(len(keypoint_names(name))).all()
        first = mine[mine["image_id"] == mine["image_id"].iloc[0]]
        assert tuple(first["name"]) == tuple(keypoint_names(name))
        assert list(first["keypoint_id"]) == [str(k) for k in range(len(first))]
    assert (keypoints["x"].notna() == (keypoints["visible"] == 1)).all()
    masks = {row.image_id: pixels(project / row.mask_path) for row in tables.images.itertuples()}
    for row in keypoints[keypoints["visible"] == 1].itertuples():
        x, y = int(row.x), int(row.y)
        assert masks[row.image_id][max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].any()


def test_pairs_are_fair(tables: Tables) -> None:
    images, pairs = tables.images.set_index("image_id"), tables.pairs
    assert pairs.groupby("split").size().to_dict() == {"train": 2 * 20, "test": 2 * 10}
    assert not pairs.duplicated(["source", "target"]).any()
    source, target = images.loc[pairs["source"]], images.loc[pairs["target"]]
    assert (source["instance"].to_numpy() != target["instance"].to_numpy()).all()
    for end in (source, target):
        assert (end["split"].to_numpy() == pairs["split"].to_numpy()).all()
    visible = tables.keypoints.pivot(index="image_id", columns="keypoint_id", values="visible").fillna(0)
    shared = (visible.loc[pairs["source"]].to_numpy() * visible.loc[pairs["target"]].to_numpy()).sum(axis=1)
    assert shared.min() >= 3
    turn = np.abs(source["azimuth"].to_numpy() - target["azimuth"].to_numpy()) / 45
    gap = np.minimum(turn, 8 - turn).astype(int)
    assert np.bincount(gap[(pairs["split"] == "train").to_numpy()], minlength=5).tolist() == [8] * 5


# ---------------------------------------------------------------------------------------------- drawing pairs


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 60), min_shared=st.integers(1, 3))
@settings(max_examples=40)
def test_drawn_pairs_obey_the_rules(seed: int, count: int, min_shared: int) -> None:
    rng = np.random.default_rng(seed)
    instance = np.repeat(np.arange(3), 8)
    view_bin = np.tile(np.arange(8), 3)
    visible = rng.random((24, 12)) < 0.8
    images: Any = {"instance": instance, "view_bin": view_bin, "visible": visible}
    try:
        pairs = draw_pairs(rng, **images, count=count, min_shared=min_shared, where="here")
    except InputError:
        shared = visible.astype(int) @ visible.T.astype(int)
        assert ((instance[:, None] != instance) & (shared >= min_shared)).sum() < count
        return
    assert len({tuple(pair) for pair in pairs.tolist()}) == count
    source, target = pairs[:, 0], pairs[:, 1]
    assert (instance[source] != instance[target]).all()
    assert ((visible[source] & visible[target]).sum(axis=1) >= min_shared).all()


def test_gaps_and_sources_get_equal_shares() -> None:
    view_bin = np.tile(np.arange(8), 4)
    images: Any = {"instance": np.repeat(np.arange(4), 8), "view_bin": view_bin}
    visible = np.ones((32, 5), dtype=bool)
    pairs = draw_pairs(
        np.random.default_rng(0), **images, visible=visible, count=160, min_shared=3, where="here"
    )
    turn = (view_bin[pairs[:, 0]] - view_bin[pairs[:, 1]]) % 8
    assert np.bincount(np.minimum(turn, 8 - turn)).tolist() == [32] * 5
    assert np.bincount(pairs[:, 0]).tolist() == [5] * 32


def test_an_exhausted_gap_leaves_its_share_to_the_others() -> None:
    view_bin = np.tile([0, 4], 3)
    images: Any = {"instance": np.repeat(np.arange(3), 2), "view_bin": view_bin}
    visible = np.eye(2, dtype=bool)[view_bin // 4].repeat(3, axis=1)  # opposite views share nothing
    pairs = draw_pairs(
        np.random.default_rng(0), **images, visible=visible, count=12, min_shared=3, where="here"
    )
    assert len(pairs) == 12
    assert (view_bin[pairs[:, 0]] == view_bin[pairs[:, 1]]).all()


# ------------------------------------------------------------------------------ reproducing and killed runs


@pytest.mark.usefixtures("elsewhere")
def test_processes_and_other_categories_change_nothing(project: Path) -> None:
    render_dataset(dataclasses.replace(PARAMS, categories=("car",)), Path("data"), jobs=2)
    part = {name: digest for name, digest in digests(Path("data")).items() if "/car/" in name}
    assert len(part) == 2 * 4 * 8
    assert part.items() <= digests(project / "data").items()


@pytest.mark.usefixtures("elsewhere")
def test_another_seed_gives_other_pictures(project: Path) -> None:
    params = dataclasses.replace(PARAMS, seed=4, categories=("chair",), pairs=SplitCounts(0, 0, 0))
    render_dataset(params, Path("data"), jobs=1)
    same = digests(project / "data").items() & digests(Path("data")).items()
    assert not [name for name, _ in same if name.startswith("images/")]


COMMAND = [sys.executable, "-m", "spheremap", "render", "--params", "slice.json", "--out", "data"]


def start(folder: Path, stderr: int) -> "subprocess.Popen[str]":
    """The command in two processes, which have begun to draw."""
    (folder / "slice.json").write_text(json.dumps(SLICE))
    run = subprocess.Popen([*COMMAND, "--jobs", "2"], cwd=folder, stderr=stderr, text=True)
    deadline = time.monotonic() + 120
    while not list(folder.glob(".data.*/images/*/*.jpg")):
        assert time.monotonic() < deadline, "no picture is drawn"
        time.sleep(0.02)
    return run


def test_a_killed_run_leaves_nothing_and_the_same_command_draws_it(project: Path, tmp_path: Path) -> None:
    first = start(tmp_path, subprocess.DEVNULL)
    first.kill()
    first.wait()
    assert not (tmp_path / "data").exists()
    subprocess.run(COMMAND, cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    assert digests(tmp_path / "data") == digests(project / "data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "slice.json"]


def test_a_killed_worker_ends_the_run_with_a_message(tmp_path: Path) -> None:
    """It neither waits for the dead nor leaves the living behind."""
    run = start(tmp_path, subprocess.PIPE)
    workers = [p for p in psutil.Process(run.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "a process that draws pictures was killed" in errors
    assert "Traceback" not in errors
    assert not any(worker.is_running() for worker in workers)
    assert not (tmp_path / "data").exists()


# ----------------------------------------------------------------------------------------------------- errors


def test_more_pairs_than_there_are_is_an_error(elsewhere: Path) -> None:
    counts: Any = {"instances": SplitCounts(2, 0, 0), "pairs": SplitCounts(1000, 0, 0)}
    few = dataclasses.replace(PARAMS, categories=("chair",), **counts)
    with refusal("too few image pairs for chair, train", "ask for fewer pairs"):
        render_dataset(few, Path("data"), jobs=1)
    assert not list(elsewhere.iterdir())

"""Every real data set from download to metrics: small ones in the real layouts, served on this machine."""

import json
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from faulty_server import Resource, faulty_server
from layouts_ap10k import CROWD_LIST, write_ap10k
from layouts_awa_pose import ANNOTATIONS, IMAGES, write_awa_pose
from layouts_folder import FOLDER, write_folder
from layouts_freiburg_cars import write_freiburg_cars
from layouts_pf_pascal import write_pf_pascal
from layouts_spair_u import write_spair_71k, write_spair_u
from project import Project, stages_run
from tiny import TINY

DOWNLOADED = ["spair-71k", "spair-u", "freiburg-cars", "pf-pascal", "awa-pose", "ap-10k"]


def spair_u(folder: Path) -> None:
    write_spair_71k(folder.parent / "spair-for-u")
    write_spair_u(folder, folder.parent / "spair-for-u")


def pf_pascal(folder: Path) -> None:
    write_pf_pascal(folder)
    shutil.rmtree(folder / "pairs")


def pf_pascal_lists(folder: Path) -> None:
    write_pf_pascal(folder.parent / "pf-for-lists")
    (folder.parent / "pf-for-lists/pairs").rename(folder / "pf-pascal_image_pairs")


def awa_images(folder: Path) -> None:
    write_awa_pose(folder)
    shutil.rmtree(folder / Path(ANNOTATIONS).parts[0])


def awa_annotations(folder: Path) -> None:
    write_awa_pose(folder)
    shutil.rmtree(folder / Path(IMAGES).parts[0])
    top = Path(ANNOTATIONS).parts[0]
    (folder / top).rename(folder / f"{top}-5e39d6ec5a9a92aa02e7ea1997f5be63674832dc")  # as GitHub packs it


def ap10k(folder: Path) -> None:
    write_ap10k(folder / "ap-10k")
    (folder / "ap-10k" / CROWD_LIST).unlink()


WRITERS: dict[str, Callable[[Path], None]] = {
    "SPair-71k.tar.gz": lambda folder: write_spair_71k(folder / "SPair-71k"),
    "SPair-U.zip": spair_u,
    "freiburg_static_cars_52_v1.1.tar.gz": write_freiburg_cars,
    "PF-dataset-PASCAL.zip": pf_pascal,
    "pf-pascal_image_pairs.zip": pf_pascal_lists,
    "AwA2-data.zip": awa_images,
    "AwA-Pose.tar.gz": awa_annotations,
    "ap-10k.zip": ap10k,
    "ap-10k_is_crowd.txt": write_ap10k,
}


def packed(name: str, folder: Path) -> bytes:
    """What the server sends under a name: an archive of the folder, or a list out of it."""
    archive = folder.with_name(name)
    if name.endswith(".txt"):
        return (folder / name).read_bytes()
    if name.endswith(".zip"):
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in sorted(folder.rglob("*")):
                zipped.write(path, path.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz") as tarred:
            for path in sorted(folder.iterdir()):
                tarred.add(path, path.name)
    return archive.read_bytes()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that has all archives."""
    with faulty_server() as server:
        for name, write in WRITERS.items():
            folder = tmp_path_factory.mktemp("site") / "content"
            folder.mkdir()
            write(folder)
            server.resources[f"/{name}"] = Resource(packed(name, folder))
        yield server.url("")


def project_for(root: Path, folder: Path, name: str, site: str) -> Project:
    params = yaml.safe_load((root / "params.yaml").read_text())
    changes: dict[str, Any] = {"dataset": name, "train.steps": 4}
    changes["datasets.awa-pose.categories"] = ["antelope", "german+shepherd"]  # as the small one has
    for download, entry in params["downloads"].items():
        changes[f"downloads.{download}.files"] = [
            {"name": file["name"], "urls": [f"{site}/{file['name']}"], "unpack": file.get("unpack", True)}
            for file in entry["files"]
        ]
    return Project.copy(root, folder, TINY | changes)


@pytest.mark.slow
@pytest.mark.parametrize("name", DOWNLOADED)
def test_the_chain_is_planned_and_runs_to_metrics(root: Path, tmp_path: Path, site: str, name: str) -> None:
    project = project_for(root, tmp_path, name, site)
    output = project.snakemake()
    for rule in ("fetch", "ingest", "cache", "train", "evaluate", "report_page"):
        assert f"rule {rule}:" in output
    assert "licence" in output.lower()
    metrics = json.loads((tmp_path / "results/metrics.json").read_text())
    assert metrics["n_points"] > 0
    assert 0 <= metrics["fused"]["point"] <= 100
    digests = json.loads((tmp_path / "data/digests.json").read_text())
    assert name in json.dumps(digests)


@pytest.mark.slow
def test_a_folder_without_keypoints_gives_a_head_to_use(root: Path, tmp_path: Path) -> None:
    entry = FOLDER | {"root": "mine"}
    project = Project.copy(root, tmp_path / "project", TINY | {"dataset": "mine", "datasets.mine": entry})
    write_folder(tmp_path / "project/mine", count=4, keypoints=False)
    project.snakemake("train")
    assert "Nothing to be done" in project.snakemake("train")
    assert stages_run(project.run("dvc", "repro", "train")) == ["data", "weights", "features", "train"]
    project.run("spheremap", "bundle", "--out", "mine.spheremap")
    project.run("spheremap", "map", "mine/photos/mug/0.png", "--model", "mine.spheremap", "--out", "map.png")
    assert (tmp_path / "project/map.png").stat().st_size
    told = project.snakemake(ok=False)
    assert "nothing to evaluate" in told
    assert "found: 0 pairs" in told


@pytest.mark.parametrize(
    ("preset", "own"),
    [
        ("spair-71k", {"cache": 36}),
        pytest.param("spair-71k-small", {"cache": 2, "fit": 1}, marks=pytest.mark.slow),
    ],
)
def test_a_preset_plans_exactly_these_jobs(
    root: Path, tmp_path: Path, preset: str, own: dict[str, int]
) -> None:
    project = Project.copy(root, tmp_path, {})
    project.run("spheremap", "preset", preset, "--presets", str(root / "presets"))
    plan = project.snakemake("-n", "--quiet", "rules")
    counts = dict(re.findall(r"^(\w+) +(\d+)$", plan, re.MULTILINE))
    jobs = {name: int(count) for name, count in counts.items() if name != "total"}
    once = ("fetch", "ingest", "weights", "features", "train", "fitted", "curves", "evaluate", "report_page")
    assert jobs == {**dict.fromkeys((*once, "all"), 1), "cache_index": 2, **own}
    due = re.findall(r"^(\w+):$", project.run("dvc", "status"), re.MULTILINE)
    assert due == ["data", "weights", "features", "train", "fit", "evaluate"]

"""What docs/contributing.md says that an idea costs: two files, with which the whole chain shows it."""

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from diffs import ROOT, diff_of, files_of, new_file
from PIL import Image, ImageDraw
from project import Project
from tiny import TINY

from spheremap.base.files import sha256_file
from spheremap.base.tensors import read_tensors
from spheremap.metrics.score_table import by_group, read_scores

Patch = Callable[..., Project]


@pytest.mark.parametrize("what", ["data set", "loss", "head", "method", "metric"])
def test_a_diff_touches_two_files_and_fits(what: str) -> None:
    diff = diff_of(what)
    files = files_of(diff)
    assert len(files) == 2
    assert all(name == "params.yaml" or name.startswith("src/spheremap/") for name in files)
    subprocess.run(["git", "apply", "--check"], input=diff, text=True, cwd=ROOT, check=True)
    (added,) = (name for name in files if not (ROOT / name).exists())
    for command in (["check"], ["format", "--check"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", added, "-"],
            input=new_file(diff), text=True, cwd=ROOT, check=True,
        )  # fmt: skip


@pytest.fixture(scope="module")
def patch(made: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patch]:
    """Applies diffs to a copy of the finished tiny project, in which that copy's code runs."""

    def patched(*diffs: str, **changes: Any) -> Project:
        project = Project(tmp_path_factory.mktemp("patched") / "project")
        shutil.copytree(made.folder, project.folder, symlinks=True)
        shutil.copytree(ROOT / "src", project.folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copyfile(ROOT / "params.yaml", project.folder / "params.yaml")
        for what in diffs:
            (project.folder.parent / "diff").write_text(diff_of(what))
            project.run("git", "apply", "../diff")
        scored = yaml.safe_load((project.folder / "params.yaml").read_text())["evaluate"]["methods"]
        as_tiny = {"evaluate.methods": [name for name in scored if name != "fused_in_domain"]}
        project.edit(TINY | as_tiny | changes)
        environment.setenv("PYTHONPATH", str(project.folder / "src"))
        where = project.run("python", "-c", "import spheremap; print(spheremap.__file__)")
        assert Path(where.strip()) == project.folder / "src/spheremap/__init__.py"
        return project

    with pytest.MonkeyPatch.context() as environment:
        yield patched


@pytest.fixture(scope="module")
def project(patch: Patch) -> Project:
    """With a loss, a head, a method and a metric more, made anew."""
    project = patch("loss", "head", "method", "metric")
    project.snakemake()
    return project


def metrics(project: Project) -> Any:
    return json.loads((project.folder / "results/metrics.json").read_text())


def page(project: Project) -> str:
    return (project.folder / "results/report.html").read_text()


def charts(project: Project) -> str:
    """The drawings of the page."""
    found = re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", page(project))
    return "".join(base64.b64decode(drawing).decode() for drawing in found)


@pytest.mark.slow
def test_a_loss_has_its_curve(made: Project, project: Project) -> None:
    curves = pd.read_csv(project.folder / "results/training/losses.csv")
    assert curves.columns[-1] == "spread"
    assert curves["spread"].between(0, 1, inclusive="right").all()
    assert ">spread</text>" in charts(project)
    assert ">spread</text>" not in charts(made)


@pytest.mark.slow
def test_a_head_is_trained_kept_and_evaluated(made: Project, project: Project) -> None:
    head = project.folder / "models/shapes/head.safetensors"
    state, content = read_tensors(head)
    assert content is not None
    assert content["head"] == "per_token"
    assert "sphere_mapper.embed.weight" in state
    record = json.loads((project.folder / "results/provenance.json").read_text())
    assert record["inputs"]["head"] == sha256_file(head)
    assert metrics(project)["sphere"] != metrics(made)["sphere"]
    project.run("spheremap", "bundle", "--out", "a.spheremap")
    project.run(
        "spheremap", "export-onnx", "--model", "a.spheremap", "--part", "prototypes", "--out", "p.onnx"
    )


@pytest.mark.slow
def test_a_method_has_its_lines(made: Project, project: Project) -> None:
    found, before = metrics(project), metrics(made)
    assert before["features"].items() <= found["features"].items()  # with a metric more
    assert found["features"] != found["centred"]
    for name in ("scores.csv", "predictions.csv.gz"):
        assert "centred" in set(pd.read_csv(project.folder / "results" / name)["method"])
    assert "Features without what all patches of an image have in common (share 1.0)" in page(project)


@pytest.mark.slow
def test_a_metric_has_its_columns(project: Project) -> None:
    scores = read_scores(project.folder / "results/scores.csv")
    at = scores[(scores["metric"] == "pck") & (scores["threshold"] == "0.10")]
    by_category = at[(at["group_by"] == "category") & (at["average"] == "point")]
    found = at[(at["group_by"] == "all") & (at["average"] == "worst")].set_index("method")
    lowest = by_category.groupby("method")["value"].min()
    assert len(lowest) > 0
    assert found["value"].to_dict() == lowest.to_dict()
    assert (found["low"] <= found["high"]).all()
    assert "pck_worst@0.10" in pd.read_csv(project.folder / "results/weight_sweep.csv")
    assert "PCK, worst category" in page(project)
    assert "PCK, worst category" in project.run("spheremap", "table", "results/metrics.json")


@pytest.mark.slow
def test_a_data_set_has_its_tables_and_scores(patch: Patch) -> None:
    project = patch("data set", dataset="example")
    folder = project.folder / "data/raw/example"
    folder.mkdir(parents=True)
    entries = []
    for number, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 3):
        picture = Image.new("RGB", (60, 40), "grey")
        ImageDraw.Draw(picture).rectangle((10 + number, 10, 40 + number, 30), fill=(20 * number, 90, 0))
        picture.save(folder / f"{number}.png")
        x = 10 + number
        box, points = [x, 10, x + 30, 30], [x + 2, 12, x + 28, 12, x + 15, 28]
        entry = {"file": f"{number}.png", "category": "box", "split": split, "box": box, "points": points}
        entries.append(entry)
    (folder / "annotations.json").write_text(json.dumps({"images": entries}))
    project.snakemake()
    images = pd.read_csv(project.folder / "data/example/canonical/images.csv")
    assert images["image_id"].tolist() == [f"box/{number}" for number in range(9)]
    found = metrics(project)
    assert (found["dataset"], found["n_pairs"], found["n_points"]) == ("example", 6, 18)
    assert 0 <= found["fused"]["point"] <= 100
    scores = read_scores(project.folder / "results/scores.csv")
    assert set(by_group(scores, "category")["group"]) == {"box"}
    assert (
        sha256_file(project.folder / "models/example/head.safetensors")
        in (project.folder / "results/provenance.json").read_text()
    )

"""`spheremap evaluate --model`: on any labelled data set, a bundle scores as the workflow says it does."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from layouts_folder import FOLDER, write_folder
from project import Project
from studio import run

from spheremap.api import score_bundle
from spheremap.base.files import sha256_file, write_json
from spheremap.base.provenance import unseal
from spheremap.cli import main
from spheremap.metrics.table import format_file

Capture = pytest.CaptureFixture[str]

SCORES = ("metrics.json", "scores.csv", "weight_sweep.csv", "predictions.csv.gz")


@pytest.fixture(scope="module")
def settled(made: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished tiny project with a bundle of its head, and two folders, one without keypoints.

    What a bundle says of itself was changed in params.yaml after it was made.
    """
    folder = tmp_path_factory.mktemp("scoring") / "project"
    shutil.copytree(made.folder, folder, symlinks=True)
    project = Project(folder)
    weight = yaml.safe_load((folder / "params.yaml").read_text())["methods"]["fused"]["sphere_weight"]
    with contextlib.chdir(folder):
        run("bundle", "--out", "models/demo.spheremap", "--sphere-weight", weight)
    write_folder(folder / "own", count=6)
    write_folder(folder / "bare", count=2, keypoints=False)
    read = {"source": "bilinear", "readout": "window", "window": 3, "temperature": 0.5}
    project.edit({f"datasets.{name}": {**FOLDER, "root": name} for name in ("own", "bare")})
    project.edit({"features.fit": "stretch", "methods.fused.sphere_weight": 0.9})
    project.edit({f"evaluate.{key}": value for key, value in read.items()})
    return project


@pytest.fixture
def project(settled: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Project:
    monkeypatch.chdir(settled.folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return settled


def evaluate(dataset: str, *options: object) -> int:
    names = ["--model", "models/demo.spheremap", "--dataset", dataset, "--device", "cpu", *options]
    return main(["evaluate", *map(str, names)])


def everything_in(*folders: str) -> dict[str, str]:
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    return {str(path): sha256_file(path) for path in files}


def test_on_its_own_data_set_a_bundle_scores_as_the_workflow_did(project: Project, capsys: Capture) -> None:
    kept = ("results", "models", "data/shapes")
    before = everything_in(*kept)
    assert evaluate("shapes", "--out", "elsewhere") == 0
    assert capsys.readouterr().out == format_file(Path("results/metrics.json"))[0] + "\n"
    assert everything_in(*kept) == before
    for name in SCORES:
        assert Path("elsewhere", name).read_bytes() == Path("results", name).read_bytes(), name
    record = unseal(json.loads(Path("elsewhere/provenance.json").read_text()), where=Path(), fix="")
    assert record["files"] == {name: sha256_file(Path("elsewhere", name)) for name in SCORES}
    assert record["inputs"]["bundle"] == sha256_file(Path("models/demo.spheremap"))


def test_on_another_data_set_a_bundle_scores_as_the_workflows_commands_do(
    project: Project, tmp_path: Path
) -> None:
    assert evaluate("own", "--split", "val", "--sphere-weight", 0.7) == 0
    found = Path("results/demo-on-own")

    protocol = {"source": "patch", "readout": "argmax", "window": 15, "temperature": 0.02}  # the bundle's
    params = json.loads(Path("results/evaluate.params.json").read_text())
    params["evaluate"] |= {"split": "val", **protocol}
    params["methods"]["fused"]["sphere_weight"] = 0.7
    features = json.loads(Path("data/shapes/features/params.json").read_text())
    write_json(tmp_path / "features.json", {**features, "dataset": "own"})
    write_json(tmp_path / "evaluate.json", params | {"dataset": "own"})
    tables, images = "data/own/canonical", tmp_path / "images.h5"
    run("cache", "--params", tmp_path / "features.json", "--tables", tables, "--kind", "images",
        "--weights", "models/backbones/tiny.safetensors", "--out", images,
        "--device", "cpu")  # fmt: skip
    run("evaluate", "--params", tmp_path / "evaluate.json", "--tables", tables, "--images", images,
        "--head", "models/shapes/head.safetensors", "--out", tmp_path / "out", "--device", "cpu")  # fmt: skip
    metrics, expected = (
        json.loads((folder / "metrics.json").read_text()) for folder in (found, tmp_path / "out")
    )
    assert metrics["split"] == "val"
    assert metrics["n_points"] > 0
    # though there the pictures of the test pairs were among them, and lay in other batches
    assert metrics == expected


def test_features_are_kept_for_the_next_time(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def caches() -> dict[Path, tuple[int, str]]:
        files = Path(".work/evaluate").glob("own-*/*.h5")
        return {path: (path.stat().st_mtime_ns, sha256_file(path)) for path in files}

    def run_again() -> bytes:
        assert evaluate("own", "--out", "again") == 0
        return Path("again/metrics.json").read_bytes()

    shutil.rmtree(".work/evaluate", ignore_errors=True)
    metrics = run_again()
    first = caches()
    (path,) = first
    # the tables are there now
    monkeypatch.setattr(score_bundle, "make_tables", lambda dataset, threads: Path("data/own/canonical"))
    assert run_again() == metrics
    assert caches() == first
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)
    assert run_again() == metrics  # a damaged one is made anew
    assert caches()[path][1] == first[path][1]


def test_what_cannot_be_scored_is_named(project: Project, capfd: Capture) -> None:
    def error(*arguments: str) -> str:
        assert main(["evaluate", "--device", "cpu", *arguments]) == 1
        return capfd.readouterr().err

    model = ("--model", "models/demo.spheremap")
    before = everything_in("results")
    text = error(*model, "--dataset", "shape")
    assert all(name in text for name in ("'shape'", "params.yaml", "'shapes'", "own, bare"))
    assert "params.yaml" in error("--model", "params.yaml", "--dataset", "own")
    assert "nowhere.spheremap" in error("--model", "nowhere.spheremap", "--dataset", "own")
    assert "split 'test' of data set 'bare'" in error(*model, "--dataset", "bare")
    assert "--out" in error(*model, "--dataset", "own", "--out", "./results")
    text = error(*model, "--dataset", "own", "--sphere-weight", "1.5")
    assert "--sphere-weight" in text
    assert "params.yaml" not in text
    assert everything_in("results") == before


def test_a_data_set_that_the_workflow_cannot_read(project: Project, capfd: Capture) -> None:
    project.edit({"datasets.lost": {**FOLDER, "root": "no/such/folder"}})
    assert evaluate("lost") == 1
    errors = capfd.readouterr().err
    assert "no/such/folder" in errors  # Snakemake's own words
    assert "'lost'" in errors.rpartition("spheremap evaluate: ")[2]


def test_outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.csv").touch()
    assert evaluate("own") == main(["score", "p.csv", "--dataset=own"]) == 1
    text = capsys.readouterr().err
    assert text.count("in: params.yaml") == 2
    assert "--params" not in text  # which neither has in this form


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--model=a"],
        ["--model=a", "--dataset=b", "--head=c"],
        ["--params=a", "--tables=b", "--images=c", "--head=d"],
        ["--params=a", "--tables=b", "--images=c", "--head=d", "--out=e", "--split=val"],
    ],
)
def test_options_of_one_form_or_the_other(options: list[str], capsys: Capture) -> None:
    assert main(["evaluate", *options]) == 1
    text = capsys.readouterr().err
    assert all(option.partition("=")[0] in text for option in options)

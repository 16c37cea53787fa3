"""The whole chain on a tiny configuration, through Snakemake and DVC, as a user runs it."""

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
import yaml
from project import Project, stages_run

from spheremap.base.files import exclusive

PRODUCTS = (
    "models/shapes/head.safetensors",
    "results/training/losses.csv",
    "results/training/diagnostics.csv",
    "results/training/validation.csv",
    "results/metrics.json",
    "results/scores.csv",
    "results/predictions.csv.gz",
    "results/report.html",
)
SLICES = ".work/"  # where the rules' slices of params.yaml lie
STAGES = ["data", "weights", "features", "train", "fit", "evaluate"]


def fill(value: Any, params: dict[str, Any]) -> Any:
    """Replace DVC's templates such as ${features.backbone}."""
    text = re.sub(r"\$\{([\w.]+)\}", lambda match: str(look_up(params, match[1])), json.dumps(value))
    return json.loads(text)


def look_up(params: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        params = params[part]
    return params


def names(entries: Iterable[Any]) -> list[str]:
    """Outputs without their options."""
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def covered(name: str, folders: Iterable[str]) -> bool:
    return any(name == folder or name.startswith(f"{folder}/") for folder in folders)


def test_nothing_runs_twice(made: Project) -> None:
    assert "Nothing to be done" in made.snakemake()
    output = made.run("dvc", "repro")
    assert stages_run(output) == []
    assert "up to date" in output


@pytest.mark.parametrize("learns", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_stages_match_rules(learns: bool, made: Project, project: Project) -> None:
    """dvc.yaml says of each milestone exactly what its rules read, are told and write."""
    made = project
    if learns:  # Snakemake says little of outputs that are not there
        made.edit({"evaluate.methods": ["features", "flip", "fused", "adapted"]})
        made.snakemake()
    params = yaml.safe_load((made.folder / "params.yaml").read_text())
    groups = params["datasets"]["shapes"].pop("keypoint_groups")  # for the evaluation, the rest for the data
    stages = fill(yaml.safe_load((made.folder / "dvc.yaml").read_text())["stages"], params)
    lines = [line.split("\t") for line in made.snakemake("--detailed-summary").splitlines()]
    (start,) = [i for i, line in enumerate(lines) if line[0] == "output_file"]
    rows = [dict(zip(lines[start], line, strict=False)) for line in lines[start + 1 :] if len(line) > 5]
    assert len(rows) > 15

    assert list(stages) == STAGES
    allowed: list[str] = []
    for title, stage in stages.items():
        rules, target = re.search(r"--allowed-rules (.*) -- (\w+)$", stage["cmd"]).groups()
        assert target in rules.split()
        allowed += rules.split()
        own = [row for row in rows if row["rule"] in rules.split()]
        written = {row["output_file"] for row in own}
        read = {name for row in own for name in row["input-file(s)"].split(",") if name} - written
        slices = {name for name in read if name.startswith(SLICES)}
        outs = names(stage.get("outs", []) + stage.get("metrics", []))
        deps = stage.get("deps", [])
        assert all(covered(name, outs) for name in written)
        assert all(any(covered(name, [out]) for name in written) for out in outs)
        assert all(covered(name, deps) for name in read - slices)
        idle = title == "fit" and not learns
        assert idle or all(any(covered(name, [dep]) for name in read) for dep in deps)

        told = [look_up(params, key) for key in stage["params"]]
        if title == "evaluate":  # DVC cannot watch a key alone that other data sets lack
            told.append(groups)
            stage["params"].remove(f"datasets.{params['dataset']}")
        contents = [json.loads((made.folder / name).read_text()) for name in slices]
        known = contents + [value for content in contents for value in content.values()]
        known += [value for content in contents for value in content.get("chosen", {}).values()]
        parts = [
            value
            for content in contents
            for value in ([content] if content in told else {**content, **content.get("chosen", {})}.values())
        ]
        assert contents
        # a method that learns reads its own entry
        told += [{name: params["methods"][name]} for name in params["methods"] if params["methods"] in told]
        told += [content.get("chosen") for content in contents]
        assert all(part in told for part in parts), "a rule reads a parameter that DVC does not know"
        watched = [look_up(params, key) for key in stage["params"] if key != "downloads"]  # these need none
        assert idle or all(value in known or isinstance(value, str) for value in watched), (
            "DVC watches more than is read"
        )
    assert len(allowed) == len(set(allowed))
    assert {row["rule"] for row in rows} <= set(allowed)


@pytest.mark.slow
def test_another_data_set_and_back_trains_nothing_twice(project: Project) -> None:
    params = yaml.safe_load((project.folder / "params.yaml").read_text())
    other = params["datasets"]["shapes"] | {"root": "data/other/canonical", "seed": 1}
    project.edit({"datasets.other": other, "dataset": "other"})
    scores = project.bytes_of("results/scores.csv")
    assert stages_run(project.run("dvc", "repro")) == ["data", "features", "train", "fit", "evaluate"]
    assert project.bytes_of("results/scores.csv") != scores
    heads = {name: project.folder / f"models/{name}/head.safetensors" for name in ("shapes", "other")}
    made = {name: head.read_bytes() for name, head in heads.items()}
    project.edit({"dataset": "shapes"})
    output = project.run("dvc", "repro")
    assert not re.search(r"rule (train|cache|render):", output)
    assert made == {name: head.read_bytes() for name, head in heads.items()}
    assert project.bytes_of("results/scores.csv") == scores


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"downloads.spair-u.licence": "another"}, ["data"]),
        ({"train.learning_rate": 2e-4}, ["train", "fit", "evaluate"]),
        ({"evaluate.viewpoint_bins": 4}, ["evaluate"]),
    ],
)
def test_a_parameter_reruns_what_reads_it(
    project: Project, changes: dict[str, Any], stages: list[str]
) -> None:
    project.edit(changes)
    assert stages_run(project.run("dvc", "repro")) == stages
    if "train" in stages:
        changed = json.loads(project.run("dvc", "metrics", "diff", "--json"))
        assert "results/pck/sphere.json" in changed
        assert not {"results/pck/features.json", "results/pck/chance.json"} & changed.keys()
    elif "data" in stages:
        assert stages_run(project.run("dvc", "repro")) == []


@pytest.mark.slow
def test_a_parameter_of_a_method_trains_no_head_and_dvc_tells_what_it_changed(project: Project) -> None:
    shown = project.run("dvc", "metrics", "show", "--md").splitlines()
    assert max(map(len, shown)) <= 100
    assert len(shown) >= 2 + 4  # a line for each method
    before = project.bytes_of("models/shapes/head.safetensors")
    project.edit({"methods.fused.sphere_weight": 0.6})
    output = project.run("dvc", "repro")
    assert stages_run(output) == ["fit", "evaluate"]  # it might have been one that learns
    assert not re.search(r"rule (train|fit):", output)
    assert project.bytes_of("models/shapes/head.safetensors") == before
    changed = json.loads(project.run("dvc", "metrics", "diff", "--json"))
    assert list(changed) == ["results/pck/fused.json"]
    assert len(project.run("dvc", "metrics", "diff", "--md").strip().splitlines()) <= 20


def test_bad_parameters_are_named_before_anything_runs(project: Project) -> None:
    (project.folder / "results/report.html").unlink()
    project.edit({"train.step": 3, "train.batch": "many", "evaluate.sphere_weight": 0.3})
    outputs = [project.snakemake(ok=False)]
    assert "train: unknown parameter 'step'; did you mean 'steps'?" in outputs[0]
    assert "train.batch: expected a valid integer, found 'many'" in outputs[0]
    assert re.search(r"evaluate\.sphere_weight: .*methods\.fused\.sphere_weight", outputs[0])
    project.run("git", "checkout", "--quiet", "params.yaml")
    params = project.folder / "params.yaml"
    params.write_text(params.read_text() + "device: cuda\n")
    outputs.append(project.snakemake(ok=False))
    assert re.search(
        r'in: params.yaml, line \d+\n.*found duplicate key "device" with value "cuda"', outputs[1]
    )
    assert not (project.folder / "results/report.html").exists()
    assert not any("Traceback" in output for output in outputs)


def test_a_mistyped_folder_costs_nothing(project: Project) -> None:
    entry = {"layout": "spair", "root": "miine", "class_ids": {}, "masks": {"source": "own"}}
    project.edit({"datasets.mine": entry, "dataset": "mine"})
    (project.folder / "mine").mkdir()
    tables = project.folder / "data/mine/canonical"
    tables.mkdir(parents=True)
    (tables / "images.csv").write_text("made before")
    output = project.snakemake(ok=False)
    assert "datasets.mine.root is 'miine', expected the folder of the data set" in output
    assert (tables / "images.csv").exists()
    project.edit({"datasets.mine.root": "mine"})
    assert "rule ingest:" in project.snakemake("--dry-run")


@pytest.mark.slow
def test_a_failed_evaluation_leaves_no_page_of_other_results(project: Project) -> None:
    head = project.folder / "models/shapes/head.safetensors"
    head.write_bytes(head.read_bytes()[:-100])
    assert "head.safetensors" in project.snakemake(ok=False)
    for name in ("metrics.json", "report.html", "report.params.json"):
        assert not (project.folder / "results" / name).exists()


def test_a_slice_of_the_parameters_never_changes(project: Project) -> None:
    """A job that runs reads what it was started with, whatever happens to params.yaml meanwhile."""
    path, folder = project.folder / "params.yaml", project.folder / ".work/shapes/params"
    before = {slice: slice.read_bytes() for slice in folder.glob("*.json")}
    text = path.read_text()
    learning_rate = yaml.safe_load(text)["train"]["learning_rate"]
    # a number for DVC, which Snakemake alone would take for text
    path.write_text(text.replace(f"learning_rate: {learning_rate}", "learning_rate: 5e-4", 1))
    assert "rule train:" in project.snakemake("--dry-run")
    (made,) = set(folder.glob("*.json")) - before.keys()
    assert made.name.startswith("train-")
    assert json.loads(made.read_text())["train"]["learning_rate"] == 5e-4
    assert all(slice.read_bytes() == content for slice, content in before.items())


def test_two_runs_at_once_are_refused(project: Project) -> None:
    (project.folder / "results/report.html").unlink()
    with exclusive(project.folder / ".work/lock"):
        output = project.snakemake(ok=False)
    assert "another run is at work in" in output
    assert "Traceback" not in output
    assert not (project.folder / "results/report.html").exists()

"""Methods that learn, on the example of the feature adapter: evaluation, files, commands, workflow."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from project import Project
from safetensors.torch import save_file
from test_adaptation import adapter, same
from test_evaluation import as_json, made_with, write_images
from test_training import Project as Trained
from world import ADAPTED, PARAMS, entries, leaves_of, make_world, methods, scored

from spheremap.base.errors import ProvenanceError, SpheremapError
from spheremap.base.files import sha256_file, write_json
from spheremap.base.provenance import digest
from spheremap.base.tensors import write_tensors
from spheremap.cli import main
from spheremap.config.learning import Validation
from spheremap.data.tables import tables_digest, write_tables
from spheremap.features.cache.space import feature_space
from spheremap.methods.adapted import Adapted
from spheremap.methods.engine.comparison import Comparison
from spheremap.methods.engine.fitting import SCHEMA, load_fitted, save_fitted
from spheremap.methods.engine.queries import build_queries
from spheremap.methods.fused import FEATURES, SPHERE
from spheremap.metrics.score_table import leaves, read_scores
from spheremap.metrics.validation import make_fitted_validation
from spheremap.model.head import Head, save_head

(METHOD,) = methods("adapted").values()
ALL = ("features", "sphere", "fused", "adapted", "adapted_fused", "chance")
EVERY = replace(PARAMS, methods=ALL)


def test_methods_of_an_untrained_adapter_equal_those_without() -> None:
    cache, tables, head = make_world(0)
    params = replace(EVERY, bootstrap=5, baseline="adapted")
    results = scored(cache, tables, head, params, fitted={METHOD: METHOD.untrained(8)})
    assert tuple(dict.fromkeys(results.predictions["method"])) == ALL
    plain = [name for name in leaves_of(results)["features"] if "_gain" not in name]
    for own, other in (("adapted", "features"), ("adapted_fused", "fused")):
        for name in plain:
            assert leaves_of(results)[own][name] == leaves_of(results)[other][name]


@pytest.mark.parametrize("kept_bytes", [0, 2**30])
def test_adapted_is_a_cache_of_adapted_features(kept_bytes: int) -> None:
    """The sphere, though, is mapped from the features as they were."""
    cache, tables, head = make_world(3)
    network = adapter(cache.dim)
    adapted = replace(cache, data=network(torch.from_numpy(cache.data)).half().numpy())
    queries = build_queries(cache, tables, tables.pairs_of("test"))
    made = methods("adapted", "adapted_fused")
    given = {"head": head, "fitted": {METHOD: network}, "kept_bytes": kept_bytes}
    found = Comparison(cache, made.values(), **given).blocks(queries)
    features, sphere = (
        Comparison(data, [part], head).blocks(queries)
        for data, part in ((adapted, FEATURES), (cache, SPHERE))
    )
    for block, one, other in zip(found, features, sphere, strict=True):
        alone, beside = one.product(FEATURES), other.product(SPHERE)
        np.testing.assert_allclose(made["adapted"].compare(block), alone, atol=1e-6)
        np.testing.assert_allclose(
            made["adapted_fused"].compare(block), 0.8 * alone + 0.2 * beside, atol=1e-6
        )


def test_validation_equals_the_evaluation() -> None:
    cache, tables, head = make_world(0)
    network = adapter(cache.dim)
    metrics = leaves_of(scored(cache, tables, head, EVERY, fitted={METHOD: network}))
    for weight, name in ((0.2, "adapted_fused"), (0.0, "adapted"), (1.0, "sphere")):
        settings = Validation(weight, 0.1, 1000)
        score = make_fitted_validation(cache, tables, head, METHOD, settings, 0, split="test")
        assert score(network) == pytest.approx(metrics[name]["pck_point@0.10"], abs=1e-4)
    assert metrics["adapted"]["pck_point@0.10"] != metrics["features"]["pck_point@0.10"]


def test_an_adapter_that_gives_no_numbers_is_refused() -> None:
    cache, tables, head = make_world(0)
    network = adapter(cache.dim)
    network.up.bias[0] = torch.inf
    with pytest.raises(ProvenanceError, match="Adapted gives descriptors that are not finite"):
        scored(cache, tables, head, EVERY, fitted={METHOD: network})


# --- the file


def test_the_file_brings_everything_back(tmp_path: Path) -> None:
    network, path = adapter(), tmp_path / "adapted.safetensors"
    method = replace(METHOD, width=8)
    save_fitted(path, network, {"step": "fit", "inputs": {"head": "a"}})
    loaded = load_fitted(path, method, 32, {"inputs": {"head": "a"}})
    assert same(loaded, network)
    before = path.read_bytes()
    save_fitted(path, loaded, {"step": "fit", "inputs": {"head": "a"}})
    assert path.read_bytes() == before
    with pytest.raises(ProvenanceError, match=r"(?s)inputs.head = b.*inputs.head = a"):
        load_fitted(path, method, 32, {"inputs": {"head": "b"}})
    for other, dim in ((METHOD, 32), (method, 16)):
        with pytest.raises(ProvenanceError, match="the tensors are not those of the method"):
            load_fitted(path, other, dim, {})


def test_other_files_are_refused(tmp_path: Path) -> None:
    path, zeros = tmp_path / "adapted.safetensors", {"a": torch.zeros(2)}
    for write, message in (
        (lambda: None, "cannot be read"),
        (lambda: path.write_bytes(b"\0" * 90), "cannot be read"),
        (lambda: save_file(zeros, path), "not what a method has learned"),
        (
            lambda: write_tensors(path, zeros, {"schema": SCHEMA, "provenance": {}}),
            "the tensors are not those of the method",
        ),
    ):
        write()
        with pytest.raises(ProvenanceError, match=message):
            load_fitted(path, METHOD, 32, {})


# --- commands


def test_evaluate_reads_what_was_fitted_with_these_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, tables, _ = make_world(0, dim=16)
    write_tables(tmp_path / "tables", tables, {})
    cache.provenance = made_with(9)
    cache.provenance["inputs"] |= tables_digest(tmp_path / "tables")
    write_images(tmp_path / "images.h5", cache)
    space = {"features": digest(feature_space(cache.provenance))}
    head = tmp_path / "head.safetensors"
    save_head(head, Head.initialise(16, tables.categories, seed=0), {"inputs": space})
    fitted = tmp_path / "methods" / "adapted.safetensors"
    command = ["evaluate", "--device=cpu", f"--threads={torch.get_num_threads()}", f"--head={head}"]
    command += [f"--tables={tmp_path / 'tables'}", f"--images={tmp_path / 'images.h5'}"]
    command += [f"--out={tmp_path / 'out'}"]

    def fit(**changes: Any) -> None:
        record = {"step": "fit", "params": {"method": "adapted", "methods": {"adapted": ADAPTED}}}
        record["inputs"] = {**space, "head": sha256_file(head)}
        network = replace(METHOD, width=8).untrained(16) if "tensors" in changes else METHOD.untrained(16)
        save_fitted(fitted, network, record | changes)

    def run(params: Any, *more: str) -> int:
        write_json(tmp_path / "params.json", as_json(params))
        return main([*command, f"--params={tmp_path / 'params.json'}", *more])

    option = f"--fitted={fitted.parent}"
    assert run(EVERY) == 1
    assert "--fitted" in capsys.readouterr().err
    assert run(EVERY, option) == 1
    assert "adapted.safetensors" in capsys.readouterr().err
    for key, other in (
        ("params", {"method": "other", "methods": {"adapted": ADAPTED}}),
        ("params", {"method": "adapted", "methods": {"adapted": ADAPTED | {"steps": 5}}}),
        ("inputs", {**space, "head": "0" * 64}),
        ("inputs", {"features": "0" * 64, "head": sha256_file(head)}),
        ("step", "train"),
        ("tensors", None),
    ):
        fit(**{key: other})
        assert run(EVERY, option) == 1, key
        assert "adapted.safetensors" in capsys.readouterr().err
    fit()
    assert run(PARAMS, option) == 0  # nothing there is needed
    assert run(EVERY, option) == 0
    metrics = leaves(read_scores(tmp_path / "out" / "scores.csv"))
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert record["inputs"]["methods/adapted"] == sha256_file(fitted)
    capsys.readouterr()
    assert main(["table", str(tmp_path / "out" / "metrics.json")]) == 0
    shown = capsys.readouterr().out
    assert "adapted_fused" in shown
    assert f"{metrics['adapted']['pck_point@0.10']:.1f}" in shown


def test_the_command_fits_as_the_entry_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Trained(tmp_path, steps=2).run("trained") == 0
    seen: list[tuple[Adapted, str]] = []
    asked: list[dict[str, Any]] = []

    def fitting(method: Adapted, given: Any) -> Any:
        seen.append((method, given.identity))
        given.validation(method, method.validation, method.seed)
        raise SpheremapError("enough")

    monkeypatch.setattr(
        "spheremap.metrics.validation.make_fitted_validation", lambda *_, **options: asked.append(options)
    )
    monkeypatch.setattr(Adapted, "fit", fitting)

    def run(out: str, name: str = "adapted", **changes: Any) -> None:
        section = entries(adapted=changes)
        write_json(tmp_path / "fit.json", {"methods": section, "dataset": "fake"})
        files = {"params": "fit.json", "tables": "tables", "views": "views.h5", "images": "images.h5"}
        files |= {"head": "trained/head.safetensors"}
        files |= {"out": out, "curve": f"{out}.csv", "work": f"{out}.work"}
        options = [f"--{option}={tmp_path / file}" for option, file in files.items()]
        threads = f"--threads={torch.get_num_threads()}"
        assert main(["fit", f"--method={name}", *options, "--device=cpu", threads]) == 1

    run("a")
    run("b")  # where things lie does not matter
    run("c", angle=20.0)
    assert [method for method, _ in seen] == [METHOD, METHOD, replace(METHOD, angle=20.0)]
    assert {options["split"] for options in asked} == {"val"}
    first, second, third = (identity for _, identity in seen)
    assert first == second != third
    capsys.readouterr()
    run("d", "adapted_fused")
    assert "does not learn" in capsys.readouterr().err
    run("e", "nothing")
    assert "methods.nothing" in capsys.readouterr().err


@pytest.mark.slow
def test_a_method_that_learns_through_the_workflow(project: Project) -> None:
    """Chosen, it is fitted and scored, twice to the same bytes; left out again, it is forgotten."""
    before = project.bytes_of("results/metrics.json", "models/shapes/head.safetensors")
    paper = ["features", "sphere", "fused", "chance"]
    project.edit({"evaluate.methods": [*paper, "adapted_fused"]})
    output = project.snakemake()
    assert "rule fit:" in output
    assert "rule train:" not in output
    names = ("adapted.safetensors", "adapted.csv")
    made = (*(f"models/shapes/methods/{name}" for name in names), "results/metrics.json")
    first = project.bytes_of(*made)
    metrics = json.loads(first["results/metrics.json"])
    assert "adapted_fused" in metrics
    assert "adapted_fused" in (project.folder / "results/report.html").read_text()
    curve = pd.read_csv(project.folder / "models/shapes/methods/adapted.csv")
    assert curve["step"].tolist() == [0, 2, 4]
    assert curve["pck_point"].notna().all()
    assert "Nothing to be done" in project.snakemake()
    for name in made:
        (project.folder / name).unlink()
    project.snakemake()
    assert project.bytes_of(*made) == first
    project.edit({"methods.adapted_fused.sphere_weight": 0.1})
    assert "rule fit:" not in project.snakemake()  # it is fitted as before
    other = {**ADAPTED, "angle": 90.0, "seed": 3}
    project.edit({"methods.other": other, "evaluate.methods": [*paper, "adapted", "other"]})
    output = project.snakemake()
    assert output.count("rule fit:") == 1
    assert (project.folder / "models/shapes/methods/other.safetensors").exists()
    project.edit({"evaluate.methods": paper})
    assert "rule fit:" not in project.snakemake()
    after = project.bytes_of("results/metrics.json", "models/shapes/head.safetensors")
    assert after == before

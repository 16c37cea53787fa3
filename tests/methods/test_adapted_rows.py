"""The rows of a feature adapter in the evaluation, and the workflow that trains one."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from project import Project
from test_adaptation import CONFIG as ADAPTER
from test_evaluation import as_json, made_with, write_cache
from test_training import Project as Trained
from tiny import TINY
from world import PARAMS, make_world, methods, scored

from spheremap.base.errors import ProvenanceError, SpheremapError
from spheremap.base.files import write_json
from spheremap.base.provenance import digest
from spheremap.cli import main
from spheremap.data.tables import tables_digest, write_tables
from spheremap.features.cache.space import feature_space
from spheremap.methods.adaptation import Adapter, load_adapter, save_adapter
from spheremap.methods.engine.comparison import Comparison
from spheremap.methods.engine.queries import build_queries
from spheremap.methods.fused import FEATURES, SPHERE
from spheremap.metrics.agreement import check_adapter
from spheremap.metrics.validation import make_adapted_validation
from spheremap.model.head import Head, save_head
from spheremap.model.training.config import ValidationConfig


def trained(dim: int) -> Adapter:
    adapter = Adapter.initialise(dim, 6, seed=0)
    with torch.no_grad():
        adapter.network.up.weight.copy_(torch.randn(dim, 6, generator=torch.Generator().manual_seed(1)))
    return adapter


ALL = ("features", "sphere", "fused", "adapted", "adapted_fused", "chance")
EVERY = replace(PARAMS, methods=ALL)


def test_methods_of_an_untrained_adapter_equal_those_without() -> None:
    cache, tables, head = make_world(0)
    params = replace(EVERY, bootstrap=5, baseline="adapted")
    results = scored(cache, tables, head, params, fitted={"adapted": Adapter.initialise(8, 4, 0)})
    assert tuple(dict.fromkeys(results.predictions["method"])) == ALL
    plain = [name for name in results.metrics["features"] if "_gain" not in name]
    for own, other in (("adapted", "features"), ("adapted_fused", "fused")):
        for name in plain:
            assert results.metrics[own][name] == results.metrics[other][name]


@pytest.mark.parametrize("kept_bytes", [0, 2**30])
def test_adapted_is_a_cache_of_adapted_features(kept_bytes: int) -> None:
    """The sphere, though, is mapped from the features as they were."""
    cache, tables, head = make_world(3)
    adapter = trained(cache.dim)
    adapted = replace(cache, data=adapter(cache.data).half().numpy())
    queries = build_queries(cache, tables, tables.pairs_of("test"))
    made = methods("adapted", "adapted_fused")
    given = {"head": head, "fitted": {"adapted": adapter}, "kept_bytes": kept_bytes}
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
    adapter = trained(cache.dim)
    metrics = scored(cache, tables, head, EVERY, fitted={"adapted": adapter}).metrics
    for weight, name in ((0.2, "adapted_fused"), (0.0, "adapted"), (1.0, "sphere")):
        score = make_adapted_validation(cache, tables, head, "test", weight, 0.1, 1000, 0)
        assert score(adapter) == pytest.approx(metrics[name]["pck_point@0.10"], abs=1e-4)
    assert metrics["adapted"]["pck_point@0.10"] != metrics["features"]["pck_point@0.10"]


def test_an_adapter_that_gives_no_numbers_is_refused() -> None:
    cache, tables, head = make_world(0)
    adapter = trained(cache.dim)
    with torch.no_grad():
        adapter.network.up.bias[0] = torch.inf
    with pytest.raises(ProvenanceError, match="Adapted gives descriptors that are not finite"):
        scored(cache, tables, head, EVERY, fitted={"adapted": adapter})


def test_command_scores_the_adapter_s_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache, tables, _ = make_world(0, dim=16)
    write_tables(tmp_path / "tables", tables, {})
    cache.provenance = made_with(9)
    cache.provenance["inputs"] |= tables_digest(tmp_path / "tables")
    write_cache(tmp_path / "images.h5", cache)
    space = {"inputs": {"features": digest(feature_space(cache.provenance))}}
    save_head(tmp_path / "head.safetensors", Head.initialise(16, tables.categories, seed=0), space)
    save_adapter(tmp_path / "adapter.safetensors", trained(16), space)
    command = [
        "evaluate",
        "--device=cpu",
        f"--threads={torch.get_num_threads()}",
        f"--out={tmp_path / 'out'}",
    ]
    for name, file in (("tables", "tables"), ("images", "images.h5"), ("head", "head.safetensors")):
        command += [f"--{name}", str(tmp_path / file)]

    def run(adapted: bool, *more: str) -> int:
        write_json(tmp_path / "params.json", as_json(EVERY if adapted else PARAMS))
        return main([*command, f"--params={tmp_path / 'params.json'}", *more])

    assert run(True) == 1
    assert "--adapter not given" in capsys.readouterr().err
    option = f"--adapter={tmp_path / 'adapter.safetensors'}"
    assert run(False, option) == 1
    assert run(True, option) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    adapter = load_adapter(tmp_path / "adapter.safetensors")
    check_adapter(cache, adapter, tmp_path)
    with pytest.raises(ProvenanceError, match="adapter was trained on other features"):
        check_adapter(replace(cache, provenance=made_with(10)), adapter, tmp_path)
    capsys.readouterr()
    assert main(["table", str(tmp_path / "out" / "metrics.json")]) == 0
    shown = capsys.readouterr().out
    assert "adapted_fused" in shown
    assert f"{metrics['adapted']['pck_point@0.10']:.1f}" in shown


def test_the_command_adapts_as_the_parameters_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Trained(tmp_path, steps=2).run("trained") == 0
    identities: list[str] = []
    seen: dict[str, Any] = {}

    def adapting(*_: Any, identity: str, **__: Any) -> Any:
        identities.append(identity)
        raise SpheremapError("enough")

    def validating(*_: Any, **options: Any) -> None:
        seen.update(options)

    monkeypatch.setattr("spheremap.cli.adapt.adapt", adapting)
    monkeypatch.setattr("spheremap.cli.adapt.make_adapted_validation", validating)

    def run(out: str, **changes: Any) -> None:
        write_json(
            tmp_path / "adapt.json", {"adapter": asdict(replace(ADAPTER, **changes)), "dataset": "fake"}
        )
        files = {"params": "adapt.json", "tables": "tables", "views": "views.h5", "images": "images.h5"}
        files |= {
            "head": "trained/head.safetensors",
            "out": out,
            "curve": out + ".csv",
            "work": out + ".work",
        }
        options = [f"--{name}={tmp_path / file}" for name, file in files.items()]
        assert main(["adapt", *options, "--device=cpu", f"--threads={torch.get_num_threads()}"]) == 1

    run("a")
    run("b")  # where things lie does not matter
    run("c", angle=20.0)
    run("d", seed=3, validation=ValidationConfig(sphere_weight=0.45, alpha=0.07, pairs=5))
    assert identities[0] == identities[1]
    assert len(set(identities)) == 3
    asked = {"split": "val", "sphere_weight": 0.45, "alpha": 0.07, "max_pairs": 5, "seed": 3}
    assert {name: seen[name] for name in asked} == asked


@pytest.mark.slow
def test_an_adapter_through_the_workflow(root: Path, tmp_path: Path) -> None:
    """Switched on, it is trained and scored, twice to the same bytes; off again, it is forgotten."""
    project = Project.copy(root, tmp_path, TINY)
    project.snakemake()
    before = project.bytes_of("results/metrics.json", "models/shapes/head.safetensors")
    paper = ["features", "sphere", "fused", "chance"]
    project.edit({"evaluate.methods": [*paper, "adapted_fused"]})
    assert "adapter.enabled" in project.snakemake(ok=False)
    project.edit({"adapter.enabled": True})
    output = project.snakemake()
    assert "rule adapt:" in output
    assert "rule train:" not in output
    made = ("models/shapes/adapter.safetensors", "models/shapes/adapter.csv", "results/metrics.json")
    first = project.bytes_of(*made)
    metrics = json.loads(first["results/metrics.json"])
    assert "adapted_fused" in metrics
    assert "adapted_fused" in (project.folder / "results/report.html").read_text()
    curve = pd.read_csv(project.folder / "models/shapes/adapter.csv")
    assert curve["step"].tolist() == [0, 2, 4]
    assert curve["pck_point"].notna().all()
    assert "Nothing to be done" in project.snakemake()
    for name in made:
        (project.folder / name).unlink()
    project.snakemake()
    assert project.bytes_of(*made) == first
    project.edit({"adapter.enabled": False, "evaluate.methods": paper})
    assert "rule adapt:" not in project.snakemake()
    after = project.bytes_of("results/metrics.json", "models/shapes/head.safetensors")
    assert after == before

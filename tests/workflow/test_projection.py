"""The projection to larger data sets follows from the committed measurements and from worked examples."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode


@pytest.fixture
def projection(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("projection")


@pytest.fixture
def rates(projection: Any) -> Any:
    return projection.Rates(
        hardware="a machine", cores=2, ingest=0.001, backbone=1e11, store=1e8, load=1e9, step=1e11,
        match=0.01, tables_time=0.0, tables_memory=1000.0, tables_disk=500.0,
    )  # fmt: skip


def test_operations_of_a_vit_are_those_that_pytorch_counts(projection: Any) -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    for block in model.blocks:
        block.attn.fused_attn = False  # written out, so that its products are counted
    tokens = torch.randn(1, 50, 192)
    with FlopCounterMode(display=False) as counter:
        model.blocks(tokens)
    assert counter.get_total_flops() == projection.vit_operations(12, 192, 50)


def test_sizes_and_times_of_one_spair(projection: Any, rates: Any) -> None:
    need = projection.project(rates, projection.read_assumed([]), 1)
    assert need.images == 1800
    assert need.storage["cache of views"] == 1000 * 10 * 1024 * 768 * 2
    assert need.storage["cache of images"] == 800 * 3600 * 768 * 2
    assert need.on_cpu["evaluation"] == pytest.approx(122.34)
    assert need.on_cpu["tables"] == pytest.approx(1.8)
    assert need.memory == 1.8e6
    # on a GPU a thousand times as fast, what is left of the features is writing them
    assert need.on_gpu["features"] == pytest.approx(
        (need.storage["cache of views"] + need.storage["cache of images"]) / 1e8
    )
    assert need.on_gpu["training"] == pytest.approx(need.on_cpu["training"] / 1000)


def test_the_laptop_s_preset_stays_within_the_hour(projection: Any) -> None:
    preset = Path(__file__).parents[2] / "presets" / "spair-71k-small.yaml"
    chain = projection.read_chain(preset)
    assert chain == projection.Chain(384, 10, 16**2, 24**2, 3, 32, 5000)
    assumed = projection.read_assumed(["--preset", str(preset)])
    need = projection.project(projection.read_rates(assumed.results), assumed, 1, chain)
    assert sum(need.on_cpu.values()) < 3600
    text = projection.describe_preset(projection.read_rates(assumed.results), assumed)
    assert "A projection, not a measurement" in text
    assert f"| training | {need.on_cpu['training'] / 60:.0f} |" in text


def test_what_grows_and_what_does_not(projection: Any, rates: Any) -> None:
    assumed = projection.read_assumed([])
    one, ten = (projection.project(rates, assumed, times) for times in (1, 10))
    assert ten.on_cpu["training"] == one.on_cpu["training"]  # the same number of steps
    for stage in ("tables", "features", "evaluation"):
        assert ten.on_cpu[stage] == pytest.approx(10 * one.on_cpu[stage])
    # views of 157 GB are no longer held in memory: each step reads its batch of 101 MB
    assert ten.on_gpu["training"] == pytest.approx(33_000 * 2 * 64 * 1024 * 768 / 1e9)
    squared = projection.project(rates, projection.read_assumed(["--square"]), 10)
    assert squared.on_cpu["evaluation"] == pytest.approx(100 * one.on_cpu["evaluation"])


def test_the_bottleneck_is_what_exceeds_its_limit_most(projection: Any, rates: Any) -> None:
    need = projection.project(rates, projection.read_assumed([]), 1)

    def name(limit: str) -> str:
        found, _ = projection.bottleneck(need, projection.read_assumed([limit]), need.on_cpu)
        return str(found)

    assert name("--days=1e-5") == "time of training"
    assert name("--disk=1e-9") == "disk for the cache of views"
    assert name("--memory=1e-9") == "memory for the tables"


def test_tables_of_two_machines_are_not_mixed(projection: Any, root: Path, tmp_path: Path) -> None:
    for path in (root / "benchmarks" / "results").glob("*.csv"):
        table = pd.read_csv(path)
        table.to_csv(tmp_path / path.name, index=False)
    pd.read_csv(tmp_path / "scale.csv").assign(cpu="another").to_csv(tmp_path / "scale.csv", index=False)
    with pytest.raises(SystemExit, match="one machine's CPU"):
        projection.read_rates(tmp_path)


def test_the_page_holds_what_the_measurements_give(
    projection: Any, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (root / "docs" / "scale.md").read_text(encoding="utf-8")
    copy = tmp_path / "scale.md"
    copy.write_text(page, encoding="utf-8")
    projection.main([f"--page={copy}"])
    assert "first bottleneck" in capsys.readouterr().out
    assert copy.read_text(encoding="utf-8") == page

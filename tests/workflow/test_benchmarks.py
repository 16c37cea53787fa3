"""Every benchmark runs at its smallest size and leaves a table; operations are counted right."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spheremap.config.learning import PAPERS_TRAIN
from spheremap.kernels import draw_key
from spheremap.model.head import Head
from spheremap.model.training import Views
from spheremap.model.training.step import Losses

HARDWARE = {"cpu", "cores", "threads", "gpu", "python", "torch", "size"}


def run(module: Any, out: Path) -> pd.DataFrame:
    module.main(["--tiny", "--repeats=2", "--threads=1", "--device=cpu", f"--out={out}"])
    table = pd.read_csv(out / f"{module.__name__}.csv")
    assert set(table) > HARDWARE
    assert set(table["size"]) == {"tiny"}
    return table


def test_training_step(load: Any, tmp_path: Path) -> None:
    table = run(load("training_step"), tmp_path)
    timed = table[table["case"] != "floor"]
    assert set(timed["variant"]) == {"ours", "transcription"}
    assert (timed["p20_ms"] <= timed["median_ms"]).all()
    assert (timed["median_ms"] <= timed["p80_ms"]).all()
    assert (table["median_ms"] > 0).all()


def test_steps_that_differ_are_refused(load: Any) -> None:
    step = load("training_step")
    data = load("synthetic").Views(8, (5, 5), 64, 2)
    work = step.Workload("none", 0, 16, 64, batch=3, side=5, categories=2, records=8)
    engine = step.Engine(work, data, replace(PAPERS_TRAIN, steps=1, batch=3), torch.device("cpu"))
    plain = step.Transcription(work, data, engine)
    assert max(step.check_equal(engine, plain)) < 1e-4
    with torch.no_grad():
        plain.model.prototypes.blocks[0].attn.v.weight[0, 0] += 0.1
    with pytest.raises(RuntimeError, match="the two steps differ"):
        step.check_equal(engine, plain)


@pytest.mark.parametrize(
    "name",
    ["feature_cache", "cache_reading", pytest.param("matching", marks=pytest.mark.slow), "photographs"],
)
def test_timed_benchmarks(load: Any, tmp_path: Path, name: str) -> None:
    table = run(load(name), tmp_path)
    assert (table["median_ms"] > 0).all()
    assert table["variant"].nunique() == len(table) / (2 if name == "cache_reading" else 1)


@pytest.mark.slow
def test_memory(load: Any, tmp_path: Path) -> None:
    table = run(load("memory"), tmp_path)
    assert table["variant"].tolist() == ["held", "streamed"]
    assert (table["peak_mb"] > 50).all()
    assert table["note"].str.contains("held in memory|read from disk").all()


@pytest.mark.slow
def test_scale(load: Any, tmp_path: Path) -> None:
    table = run(load("scale"), tmp_path)
    tables = ["tables, 1 times the images", "tables, 10 times the images"]
    assert table["what"].tolist() == ["ingest", *tables, "backbone alone", "caching", "index", "reading"]
    assert (table["peak_mb"] > 50).all()
    written = table.set_index("what")["written_gb"]
    assert 5 * written[tables[0]] < written[tables[1]] <= 10 * written[tables[0]]  # some bytes do not grow


def test_everything_for_a_gpu_in_one_call(load: Any, tmp_path: Path) -> None:
    table = run(load("gpu"), tmp_path)
    projected = table.loc[table["measure"].str.contains("33000 steps"), "value"].item()
    rate = table.loc[table["measure"].str.contains("per second"), "value"].item()
    assert projected == pytest.approx(33_000 / rate / 60, rel=1e-2)


def test_timing_alternates_and_takes_quantiles(load: Any) -> None:
    common, calls = load("common"), []
    timings = common.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3)
    assert calls == ["a", "b"] * 4  # one round to warm up
    assert {name: len(timing.seconds) for name, timing in timings.items()} == {"a": 3, "b": 3}
    columns = common.Timing((0.001, 0.002, 0.003, 0.004, 0.005, 0.1)).columns()
    assert columns == {"median_ms": 3.5, "p20_ms": 2.0, "p80_ms": 5.0, "runs": 6}


def test_operations_are_those_that_pytorch_counts(load: Any) -> None:
    data = load("synthetic").Views(4, (8, 8), 128, 2)
    head = Head.initialise(128, data.categories, 0)
    head.mapper.double()  # float64 takes the matrix products that PyTorch can count
    head.prototypes.double()
    batch = Views(data, data.tables(), data.categories, bins=8, memory=1).batch(np.arange(4))
    with FlopCounterMode(display=False) as counter:
        losses, _ = Losses(head, replace(PAPERS_TRAIN, steps=1))(batch, draw_key(0, 1))
        losses.sum().backward()
    counted = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    products = sum(count for name, count in counted.items() if "attention" not in name)
    floors = load("floors")
    foreground = int(data.masks.sum())
    attention = 2 * 2 * foreground * 64 * 64 * 3
    expected = floors.step_operations(4, 64, foreground, 128) - attention
    assert products == pytest.approx(expected, rel=0.02)

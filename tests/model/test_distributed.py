"""Several processes train the head that one trains at the same batch; shards take turns on the GPUs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from processes import BATCHES, STEPS, curves, losses_and_gradients
from project import Project as Workflow
from safetensors.torch import load_file
from test_training import Project

from spheremap.base.device import choose_device
from spheremap.base.errors import InputError
from spheremap.model.training import distributed

TOGETHER = (
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--log-dir=/dev/null",
    "--nproc-per-node=2",
)


def environment(root: Path) -> dict[str, str]:
    path = os.pathsep.join(str(root / name) for name in ("src", "tests/support", "tests/model"))
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}


@pytest.fixture(scope="module")
def two(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes did together, see processes.py."""
    folder = tmp_path_factory.mktemp("two")
    command = [*TOGETHER, str(root / "tests/support/processes.py"), str(folder)]
    done = subprocess.run(command, env=environment(root), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "batch"), [("even", 6), ("uneven", 5)])
def test_losses_are_those_of_one_process(two: Path, tmp_path: Path, name: str, batch: int) -> None:
    one = curves(batch, tmp_path)
    ranks = [json.loads((two / f"{rank}.json").read_text())["runs"][name] for rank in range(2)]
    assert one["losses"]["step"] == ranks[0]["losses"]["step"] == list(range(1, STEPS + 1))
    for column, expected in one["losses"].items():
        np.testing.assert_allclose(ranks[0]["losses"][column], expected, rtol=0, atol=1e-6, err_msg=column)
    # only the first one keeps the curves; each read its own views, together what one process reads
    assert ranks[1]["losses"]["step"] == []
    diagnostics = len(one["asked"]) - batch * STEPS
    assert diagnostics > 0
    assert len(ranks[1]["asked"]) == (batch - batch // 2) * STEPS
    assert len(ranks[0]["asked"]) == batch // 2 * STEPS + diagnostics
    assert sorted(ranks[0]["asked"] + ranks[1]["asked"]) == sorted(one["asked"])


@pytest.mark.slow
@pytest.mark.parametrize("name", BATCHES)
def test_gradients_are_those_of_one_process(two: Path, name: str) -> None:
    one = losses_and_gradients(BATCHES[name])
    found, other = (load_file(two / f"{name}-{rank}.safetensors") for rank in range(2))
    assert set(found) == set(one)
    assert float(one["losses"].norm()) > 0 or name == "none"
    # float64, but for weights and azimuths
    torch.testing.assert_close(found["losses"], one["losses"], rtol=1e-6, atol=1e-9)
    for key, expected in one.items():
        assert float((found[key] - expected).norm()) <= 1e-6 * float(expected.norm()) + 1e-12, key
        assert torch.equal(found[key], other[key])


@pytest.mark.slow
def test_processes_that_differ_are_noticed(two: Path) -> None:
    for rank in range(2):
        message = json.loads((two / f"{rank}.json").read_text())["disagreement"]
        assert "differ in taste" in message
        assert f"process {rank + 1} has another one than {2 - rank}" in message


@pytest.mark.parametrize(("batch", "size"), [(8, 2), (5, 2), (7, 3), (4, 4)])
def test_parts_make_up_the_batch(batch: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: size)
    parts = []
    for rank in range(size):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(distributed.part_of(batch))
    assert [place for part in parts for place in range(batch)[part]] == list(range(batch))
    assert {part.stop - part.start for part in parts} <= {batch // size, -(-batch // size)}
    with pytest.raises(InputError, match="fewer views than there are processes"):
        distributed.part_of(size - 1)


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_any_number_goes_on(root: Path, tmp_path: Path) -> None:
    project = Project(tmp_path, steps=150, validate_every=50, precision="float32")
    assert project.run("one") == 0
    command = [*TOGETHER, "-m", "spheremap", *project.arguments("two")]
    run = subprocess.Popen(command, env=environment(root), stderr=subprocess.PIPE, text=True)
    state = tmp_path / "two" / "work" / "state.safetensors"
    while not state.exists():
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.01)
    victim = next(p for p in psutil.Process(run.pid).children() if p.environ().get("RANK") == "1")
    victim.send_signal(signal.SIGKILL)
    _, errors = run.communicate()
    assert run.returncode != 0
    assert "Signal 9" in errors  # torchrun's words; whether the other notices before it is ended is a race
    assert state.exists()
    assert not (tmp_path / "two/head.safetensors").exists()

    assert project.run("two") == 0  # one process goes on with what two have done
    for name, limit in (("losses", 1e-4), ("diagnostics", 1e-4), ("validation", 1e-5)):
        expected, found = (pd.read_csv(tmp_path / out / f"{name}.csv") for out in ("one", "two"))
        pd.testing.assert_frame_equal(found, expected, rtol=limit, atol=limit / 10)


@pytest.mark.slow
def test_the_workflow_with_two_processes_scores_alike(made: Workflow, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    metrics: list[dict[str, Any]] = []
    for processes in (1, 2):
        project = Workflow(shutil.copytree(made.folder, tmp_path / str(processes), symlinks=True))
        project.edit({"processes": processes, "train.precision": "float32"})
        assert "rule train:" in project.snakemake("--default-resources", f"tmpdir='{temporary}'")
        metrics.append(json.loads((project.folder / "results/metrics.json").read_text()))
    for row in ("features", "sphere", "fused"):
        assert metrics[0][row] == pytest.approx(metrics[1][row], abs=0.01)  # percent
    project.edit({"processes": 1})
    assert "Nothing to be done" in project.snakemake()
    assert not list(temporary.glob("torchelastic_*"))


# --- shards


@pytest.mark.parametrize(("count", "expected"), [(1, [0, 0, 0, 0]), (3, [0, 1, 2, 0])])
def test_shards_take_turns_on_the_gpus(
    monkeypatch: pytest.MonkeyPatch, count: int, expected: list[int]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch, "empty", lambda *_, device: device)  # nothing is put on a GPU here
    for name in ("auto", "cuda"):
        assert [choose_device(name, process=shard).index for shard in range(4)] == expected
    assert choose_device("cuda:1", process=2).index == 1  # a name that leaves nothing open
    assert choose_device("cuda").index is None
    assert choose_device("cpu", process=2).type == "cpu"

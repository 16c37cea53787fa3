"""The benchmark of the kernels runs at its smallest size, and its floors are those of the kernels' work."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from kernel_checks import DEVICE, relative_error


@pytest.fixture
def kernels(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("kernels")


def test_it_times_twins_and_floors_on_a_cpu(kernels: ModuleType, tmp_path: Path) -> None:
    kernels.main(["--tiny", "--repeats=2", "--threads=1", "--device=cpu", f"--out={tmp_path}"])
    table = pd.read_csv(tmp_path / "kernels.csv")
    assert set(table["variant"]) == {"twin", "floor: bytes"}
    assert {"torch", "triton", "cpu", "gpu", "size"} < set(table)
    assert (table["median_ms"] > 0).all()
    twins = table[table["variant"] == "twin"]
    assert (twins["times_ours"] == 1).all()
    floors = table[table["variant"] != "twin"].groupby("case")["median_ms"].max()
    shares = floors[twins["case"]].to_numpy() / twins["median_ms"].to_numpy()
    assert twins["share_of_floor"].to_numpy() == pytest.approx(shares, rel=1e-2)


def test_bytes_by_hand(kernels: ModuleType) -> None:
    options = kernels.Options(True, 1, 1, torch.device("cpu"), Path())
    size = replace(kernels.common.TINY, batch=5, side=4, dim=10)
    loss = kernels.reconstruction_case(size, options, torch.float32)
    # 16 rows of 10: features and reconstruction read twice, the gradient written; index and two factors twice
    assert loss.bytes == 16 * (10 * (2 * (2 + 4) + 4) + 2 * 8 + 2 * 8)


def test_the_kernels_accept_what_they_would_be_timed_on(kernels: ModuleType) -> None:
    options = kernels.Options(True, 1, 1, torch.device(DEVICE), Path())
    for case in kernels.cases(kernels.common.TINY, options)[::2]:  # one of each kernel
        inputs = case.make(0)
        triton, reference = (case.run(inputs, backend)[0] for backend in ("triton", "reference"))
        assert relative_error(triton, reference) < 0.01

"""Everything that is to be shown on a GPU, in one call: `python benchmarks/gpu.py`.

At the paper's size (width 768, batch 64, 32x32 tokens, 18 categories): our step against the transcription
with the backbone in its loop, and against its own floor; each kernel against its floor; how often the host
waits for the GPU within steps; how long the paper's schedule takes, projected from a run of the training loop
itself. On a CPU it runs as well, at a smaller size, to show that it works.
"""

import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import kernels
import pandas as pd
import torch
from common import Options, allocated_peak, read_options, wait_for, write_rows
from synthetic import Views as SyntheticViews
from training_step import Engine, Workload, choose_workload, measure

from spheremap.config.learning import PAPERS_TRAIN
from spheremap.model.head import Head
from spheremap.model.training import TrainConfig, Views, train

SCHEDULE = 33_000  # steps: 200 epochs over ten entries per source image of SPair-71k, batch 64
FASTER, OF_FLOOR, KERNELS_OF_FLOOR = 20.0, 0.5, 0.6  # what is asked for


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(__doc__, arguments)
    work = choose_workload(options)
    on_gpu = options.device.type == "cuda"
    precision = "bfloat16" if on_gpu else "float32"
    steps = measure(options, work, ("float32", "bfloat16") if on_gpu else ("float32",))
    write_rows("training_step", steps, options)
    kernels.main(sys.argv[1:] if arguments is None else arguments)
    of_kernels = kernel_criteria(pd.read_csv(options.out / "kernels.csv"))
    rows = [*criteria(steps, precision), *of_kernels, *engine_rows(options, work, precision)]
    write_rows("gpu", rows, options)


def criteria(rows: list[dict[str, Any]], precision: str) -> list[dict[str, Any]]:
    """What the step is asked for, from the rows of `training_step`; those of the last precision count."""
    of = {(row["case"], row["variant"]): row for row in rows}
    slower = of["backbone in the loop", "transcription"]["times_ours"]
    floors = [row["times_ours"] for (case, _), row in of.items() if case == "floor"]
    return [
        _criterion("transcription with its backbone, times our step", slower, FASTER, precision),
        _criterion("share of the floor that our step reaches", max(floors), OF_FLOOR, precision),
    ]


def kernel_criteria(table: pd.DataFrame) -> list[dict[str, Any]]:
    """What each kernel is asked for; nothing on a CPU, where kernels are not timed."""
    timed = table[table["variant"] == "kernel"]
    return [
        _criterion(f"share of its floor: {row['case']}", row["share_of_floor"], KERNELS_OF_FLOOR, "")
        for row in timed.to_dict("records")
    ]


def _criterion(name: str, value: float, least: float, note: str) -> dict[str, Any]:
    return {"measure": name, "value": value, "at_least": least, "met": value >= least, "note": note}


def engine_rows(options: Options, work: Workload, precision: Any) -> list[dict[str, Any]]:
    """Waits of the host, peak memory, and the projected schedule."""
    count = 5 if options.tiny else 500
    data = SyntheticViews(work.records, (work.side, work.side), work.dim, work.categories)
    config = replace(PAPERS_TRAIN, steps=count, batch=work.batch, precision=precision, log_every=50)
    rows = []
    if options.device.type == "cuda":
        rows.append({"measure": "host waits in 20 steps", "value": host_waits(work, data, config, options)})
    head = Head.initialise(work.dim, data.categories, 0).to(options.device)
    views = Views(data, data.tables(), head.categories, bins=8, memory=16, device=options.device)
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str) -> float:
            wait_for(options.device)
            start = time.perf_counter()
            train(head, views, config, state_path=Path(folder) / name, identity="", validator=None)
            wait_for(options.device)
            return time.perf_counter() - start

        run("warm-up")
        seconds = run("timed")
    return [
        *rows,
        {
            "measure": f"steps per second over {count} steps of the training loop",
            "value": count / seconds,
            "note": f"features {views.place}, {precision}, with logging and one saved state",
        },
        {"measure": f"minutes for {SCHEDULE} steps, projected", "value": seconds / count * SCHEDULE / 60},
        {"measure": "peak memory in MB", "value": allocated_peak(options.device) * 2**20 / 1e6},
    ]


def host_waits(work: Workload, data: SyntheticViews, config: TrainConfig, options: Options) -> int:
    """How often PyTorch makes the host wait for the GPU in 20 steps, once everything is compiled."""
    engine = Engine(work, data, config, options.device)
    for _ in range(40):
        engine.step()
    wait_for(options.device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        for _ in range(20):
            engine.step()
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


if __name__ == "__main__":
    main()

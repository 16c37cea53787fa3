"""Everything that is to be shown on a GPU, in one call: `python benchmarks/gpu.py`.

At the paper's size (width 768, batch 64, 32x32 tokens, 18 categories): our step against the transcription
with the backbone in its loop, and against its own floor; each kernel against its floor; how often the host
waits for the GPU within steps; how long the paper's schedule takes, projected from a run of the training loop
itself. On a CPU it runs as well, at a smaller size, to show that it works.
"""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import common
import kernels
import torch
import training_step
from common import Options, Row, Workload
from synthetic import Views as SyntheticViews

from spheremap.config.learning import PAPERS_TRAIN
from spheremap.model.head import Head
from spheremap.model.training import TrainConfig, Views, train

SCHEDULE = 33_000  # steps: 200 epochs over ten entries per source image of SPair-71k, batch 64


def measure(options: Options) -> Iterator[Row]:
    """Waits of the host, the rate of the training loop, the projected schedule, and peak memory."""
    work = common.choose(options, common.TINY, common.SMALL, common.PAPER)
    count, precision = 5 if options.tiny else 500, "bfloat16" if options.on_gpu else "float32"
    data = SyntheticViews(work.records, (work.side, work.side), work.dim, work.categories)
    config = replace(PAPERS_TRAIN, steps=count, batch=work.batch, precision=precision, log_every=50)
    if options.on_gpu:
        yield {"measure": "host waits in 20 steps", "value": host_waits(work, data, config, options)}
    head = Head.initialise(work.dim, data.categories, 0).to(options.device)
    views = Views(data, data.tables(), head.categories, bins=8, memory=16, device=options.device)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("warm-up", "timed"):
            arguments = {"state_path": Path(folder) / name, "identity": "", "validator": None}
            loop = partial(train, head, views, config, **arguments)
            seconds = common.seconds_of(loop, options.device)
    note = f"features {views.held}, {precision}, with logging and one saved state"
    rate = f"steps per second over {count} steps of the training loop"
    yield {"measure": rate, "value": count / seconds, "note": note}
    schedule = seconds / count * SCHEDULE / 60
    yield {"measure": f"minutes for {SCHEDULE} steps, projected", "value": schedule}
    yield {"measure": "peak memory in MB", "value": common.peak_memory(options.device)}


def host_waits(work: Workload, data: SyntheticViews, config: TrainConfig, options: Options) -> int:
    """How often PyTorch makes the host wait for the GPU in 20 steps, once everything is compiled."""
    engine = training_step.Engine(work, data, config, options.device)
    for _ in range(40):
        engine.step()
    common.wait_for(options.device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        for _ in range(20):
            engine.step()
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def main(arguments: Sequence[str] | None = None) -> None:
    training_step.main(arguments)
    kernels.main(arguments)
    common.run("gpu", __doc__, measure, arguments)


if __name__ == "__main__":
    main()

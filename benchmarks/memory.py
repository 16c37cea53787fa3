"""Peak memory of training, with the feature cache held and streamed, for a small and a larger cache.

Each number comes from a process of its own that trains some steps and reports the peak of its memory.
Streamed, it must not grow with the cache.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import allocated_peak, read_options, write_rows
from synthetic import Views as SyntheticViews
from synthetic import write_cache

from spheremap.base.device import choose_device
from spheremap.config.learning import PAPERS_TRAIN
from spheremap.features.cache import FeatureCache
from spheremap.model.head import Head
from spheremap.model.training import Views, train

CATEGORIES = 2


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(__doc__, arguments)
    side, dim, batch, steps = (4, 64, 2, 2) if options.tiny else (32, 384, 16, 4)
    sizes = (8,) if options.tiny else (128, 1024)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in sizes:
            path = Path(folder) / f"{count}.h5"
            write_cache(path, SyntheticViews(count, (side, side), dim, CATEGORIES), {})
            for variant, memory in (("held", 1000.0), ("streamed", 0.0)):
                task = {
                    "path": str(path),
                    "count": count,
                    "side": side,
                    "dim": dim,
                    "batch": batch,
                    "steps": steps,
                    "memory": memory,
                    "device": str(options.device),
                    "threads": options.threads,
                }
                command = [sys.executable, __file__, "--train", json.dumps(task)]
                answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                place, peak = json.loads(answer.stdout)
                rows.append(
                    {
                        "variant": variant,
                        "cache_mb": count * side**2 * dim * 2 / 1e6,
                        "peak_mb": peak * 2**20 / 1e6,
                        "note": f"{place}; batch {batch}, {side}x{side} tokens of width {dim}",
                    }
                )
    write_rows("memory", rows, options)


def _train(task: dict[str, Any]) -> None:
    """Train, and print where the cache was kept and the peak of memory in MiB."""
    torch.set_num_threads(task["threads"])
    device = choose_device(task["device"])
    described = SyntheticViews(task["count"], (1, 1), 2, CATEGORIES)
    config = replace(PAPERS_TRAIN, steps=task["steps"], batch=task["batch"], log_every=1)
    with FeatureCache.open([Path(task["path"])]) as cache, tempfile.TemporaryDirectory() as folder:
        head = Head.initialise(cache.dim, described.categories, 0).to(device)
        views = Views(
            cache, described.tables(), head.categories, bins=8, memory=task["memory"], device=device
        )
        train(head, views, config, state_path=Path(folder) / "state", identity="", validator=None)
        print(json.dumps([views.place, allocated_peak(device)]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        _train(json.loads(sys.argv[2]))
    else:
        main()

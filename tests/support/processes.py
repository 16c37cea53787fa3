"""What test_distributed.py lets two processes do together: torchrun starts it, with a folder for the results.

The test runs every case in one process as well.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from test_training import CATEGORIES, CONFIG, DIM, GRID, FakeCache, make_views

from spheremap.base.errors import SpheremapError
from spheremap.kernels import draw_key
from spheremap.model.head import Head
from spheremap.model.training import TrainConfig, train
from spheremap.model.training.distributed import check_same, join, mean_over_processes, part_of, rank
from spheremap.model.training.step import build_losses

STEPS = 24
# even and uneven parts; then all views of one process lack foreground, then all of both
BATCHES = {
    "even": [0, 3, 4, 7, 9, 11],
    "uneven": [0, 3, 4, 7, 9],
    "one without": [1, 2, 6, 8],
    "none": [1, 2],
}
WITHOUT_FOREGROUND = [1, 2]


class CountingCache(FakeCache):
    """Remembers which records were read."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked: list[int] = []

    def tokens(self, indices: Any) -> np.ndarray:
        self.asked += [int(index) for index in indices]
        return super().tokens(indices)


def config_of(batch: int) -> TrainConfig:
    return dataclasses.replace(CONFIG, steps=STEPS, batch=batch, log_every=1, validate_every=12, save_every=8)


def curves(batch: int, folder: Path) -> dict[str, Any]:
    """Losses of a training run, the records that this process read, and how it ended."""
    cache = CountingCache(images=7)
    views = make_views(cache, memory=0)
    head = Head.initialise(DIM, CATEGORIES, 0)
    path = folder / f"state-{batch}.safetensors"
    result = train(head, views, config_of(batch), state_path=path, identity="same", validator=None)
    return {"losses": result.losses.to_dict("list"), "asked": cache.asked, "best_step": result.best_step}


def losses_and_gradients(records: list[int]) -> dict[str, torch.Tensor]:
    """Of one step in float64."""
    cache = FakeCache()
    views = make_views(cache)
    cache.masks[WITHOUT_FOREGROUND] = False  # such views are never drawn
    head = Head.initialise(DIM, CATEGORIES, 0)
    head.mapper.double()
    head.prototypes.double()
    config = dataclasses.replace(CONFIG, seed=5)
    own = part_of(len(records))
    losses_of, pad_to = build_losses(head, config, batch=len(records), patches=GRID[0] * GRID[1])
    batch = views.batch(np.array(records), pad_to, own)
    losses, values = mean_over_processes(*losses_of(batch, draw_key(5, 3, first=own.start)))
    (torch.tensor(list(config.weights.values())).double() @ losses).backward()
    gradients = {name: parameter.grad for name, parameter in head.trainable().items()}
    return {"losses": values, **gradients}


def disagreement() -> str:
    try:
        check_same("taste", f"tea {rank()}")
    except SpheremapError as error:
        return str(error)
    return "none"


def main(folder: Path) -> None:
    with join("cpu"):
        torch.use_deterministic_algorithms(True)
        runs = {name: curves(batch, folder) for name, batch in (("even", 6), ("uneven", 5))}
        for name, records in BATCHES.items():
            save_file(losses_and_gradients(records), folder / f"{name}-{rank()}.safetensors")
        found = {"runs": runs, "disagreement": disagreement()}
        (folder / f"{rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

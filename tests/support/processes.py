"""What test_distributed.py lets two processes do together: torchrun starts it, with a folder for the results.

Every case is a function of a group, so that the test can run it in one process as well.
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
from spheremap.model.losses import patch_coordinates
from spheremap.model.training import TrainConfig, train
from spheremap.model.training.compiled import choose_losses
from spheremap.model.training.group import Group, join
from spheremap.model.training.shares import Share
from spheremap.model.training.step import weight_vector

STEPS = 24
# even and uneven shares; then all views of one process lack foreground, then all of both
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


def curves(group: Group, batch: int, folder: Path) -> dict[str, Any]:
    """Losses of a training run, the records that this process read, and how it ended."""
    cache = CountingCache(images=7)
    views = make_views(cache, memory=0)
    head = Head.initialise(DIM, CATEGORIES, 0)
    path = folder / f"state-{batch}.safetensors"
    result = train(
        head, views, config_of(batch), state_path=path, identity="same", validator=None, group=group
    )
    return {"losses": result.losses.to_dict("list"), "asked": cache.asked, "best_step": result.best_step}


def losses_and_gradients(group: Group, records: list[int]) -> dict[str, torch.Tensor]:
    """Of one step in float64."""
    cache = FakeCache()
    views = make_views(cache)
    cache.masks[WITHOUT_FOREGROUND] = False  # such views are never drawn
    head = Head.initialise(DIM, CATEGORIES, 0)
    head.mapper.double()
    head.prototypes.double()
    part = group.share(len(records))
    key = draw_key(5, 3, first=part.start)
    config = dataclasses.replace(CONFIG, seed=5)
    losses_of, grain = choose_losses(config, torch.device("cpu"), len(records), GRID[0] * GRID[1], group)
    if group.size == 1:
        batch = views.batch(np.array(records), grain)
    else:
        batch = views.share(np.array(records), grain, Share(part, GRID, config), step=3)
    losses = losses_of(head, batch, patch_coordinates(GRID), config, key)
    (weight_vector(config.weights, "cpu").double() @ losses).backward()
    losses = group.add_gradients(head.trainable().values(), losses.detach())
    gradients = {name: parameter.grad for name, parameter in head.trainable().items()}
    return {"losses": losses, **gradients}


def disagreement(group: Group) -> str:
    try:
        group.agree("taste", f"tea {group.rank}")
    except SpheremapError as error:
        return str(error)
    return "none"


def main(folder: Path) -> None:
    with join("cpu") as (group, _):
        torch.use_deterministic_algorithms(True)
        runs = {name: curves(group, batch, folder) for name, batch in (("even", 6), ("uneven", 5))}
        for name, records in BATCHES.items():
            save_file(losses_and_gradients(group, records), folder / f"{name}-{group.rank}.safetensors")
        found = {"runs": runs, "disagreement": disagreement(group), "share": group.share(5).start}
        (folder / f"{group.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

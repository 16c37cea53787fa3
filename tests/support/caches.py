"""A feature cache written by hand, as `spheremap.features.cache.reader` describes it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spheremap.features.cache.reader import SCHEMA


def write_cache(
    path: Path,
    tokens: np.ndarray,
    image_ids: Sequence[str],
    boxes: np.ndarray,
    grid: tuple[int, int],
    made: dict[str, Any],
    *,
    kind: str = "images",
    masks: np.ndarray | None = None,
    view: np.ndarray | None = None,
) -> None:
    """One whole shard; `made` is its provenance. Without masks every patch lies on the object."""
    arrays = {
        "tokens": tokens,
        "masks": np.ones(tokens.shape[:2], np.uint8) if masks is None else masks.astype(np.uint8),
        "boxes": boxes,
        "image_id": np.array([name.encode() for name in image_ids]),
        "view": np.zeros(len(tokens), np.int32) if view is None else view.astype(np.int32),
    }
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=(1, *array.shape[1:]), fletcher32=True)
        texts = {"schema": SCHEMA, "kind": kind, "provenance": json.dumps(made)}
        file.attrs.update({name: np.bytes_(text.encode()) for name, text in texts.items()})
        file.attrs.update(grid=grid, shard=(0, 1), complete=True)

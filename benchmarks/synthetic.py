"""Made-up data at any size: views with round objects, feature caches, photographs with keypoints."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from spheremap.data.tables import Tables
from spheremap.features.cache.reader import DTYPES, SCHEMA

FOREGROUND = 0.2  # share of the patches, on average


class Views:
    """A cache of training views in memory; its tokens are noise, its masks ellipses of various sizes.

    Has what `spheremap.model.training.Views` needs of a `FeatureCache`.
    """

    def __init__(self, count: int, grid: tuple[int, int], dim: int, categories: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.grid, self.dim = grid, dim
        self.image_ids = [f"category{i % categories:02d}/{i:05d}" for i in range(count)]
        self.masks = ellipses(count, grid, rng)
        # drawn once and shifted, since drawing takes longer than all else
        noise = rng.standard_normal((grid[0] * grid[1] + count, dim), dtype=np.float32).astype(np.float16)
        self.data = np.stack([noise[i : i + grid[0] * grid[1]] for i in range(count)])

    def tokens(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float16]:
        return self.data[np.asarray(indices)]

    @property
    def categories(self) -> list[str]:
        return sorted({image_id.split("/")[0] for image_id in self.image_ids})

    def tables(self) -> Tables:
        """What training needs of the tables of these views."""
        azimuth = np.random.default_rng(1).integers(0, 8, len(self.image_ids)) * 45.0
        images = pd.DataFrame(
            {
                "image_id": self.image_ids,
                "category": [image_id.split("/")[0] for image_id in self.image_ids],
                "azimuth": azimuth,
            }
        )
        return Tables(images, pd.DataFrame(), pd.DataFrame())


def ellipses(count: int, grid: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Patch masks `(count, N)` that cover `FOREGROUND` of the patches on average, at least one each."""
    y, x = np.meshgrid(*((np.arange(side) + 0.5) / side - 0.5 for side in grid), indexing="ij")
    share = rng.uniform(0.25, 1.75, count) * FOREGROUND
    stretch = rng.uniform(0.7, 1.4, count)
    radius = np.sqrt(share / np.pi)
    distance = (x[None] / (radius * stretch)[:, None, None]) ** 2 + (
        y[None] / (radius / stretch)[:, None, None]
    ) ** 2
    masks = (distance < 1).reshape(count, -1)
    masks[np.arange(count), distance.reshape(count, -1).argmin(axis=1)] = True
    return masks


def write_cache(path: Path, views: Views, provenance: dict[str, Any]) -> None:
    """Write views as a feature cache of one shard; `spheremap.features.cache.reader` describes the layout."""
    count, patches = views.masks.shape
    ids = np.array([image_id.encode() for image_id in views.image_ids])
    arrays = {
        "masks": views.masks.astype(DTYPES["masks"]),
        "boxes": np.tile([0.0, 0.0, 100.0, 100.0], (count, 1)),
        "view": np.zeros(count, DTYPES["view"]),
        "image_id": ids,
    }
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        tokens = file.create_dataset(
            "tokens",
            (count, patches, views.dim),
            DTYPES["tokens"],
            chunks=(1, patches, views.dim),
            fletcher32=True,
        )
        for record in range(count):
            tokens[record] = views.data[record]
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=True, fletcher32=True)
        file.attrs["schema"] = np.bytes_(SCHEMA)
        file.attrs["kind"] = np.bytes_("views")
        file.attrs["grid"] = np.array(views.grid, dtype=np.int64)
        file.attrs["shard"] = np.array([0, 1], dtype=np.int64)
        file.attrs["provenance"] = np.bytes_(json.dumps(provenance, sort_keys=True).encode())
        file.attrs["complete"] = True


def photographs(folder: Path, categories: int, images: int, side: int, keypoints: int = 8) -> Tables:
    """Write pictures of coloured noise; keypoints lie anywhere, pairs are all those within a category."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    image_rows, keypoint_rows, pairs = [], [], []
    for category in range(categories):
        own = [f"category{category:02d}/{i:03d}" for i in range(images)]
        pairs += [("test", a, b) for a in own for b in own if a != b]
        pairs += [("train", a, own[0]) for a in own[1:]]
        for image_id in own:
            path = folder / f"{image_id.replace('/', '-')}.jpg"
            coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
            corner = 0.2 * side
            image_rows.append(
                {
                    "image_id": image_id,
                    "path": str(path),
                    "mask_path": "",
                    "mask_value": 1,
                    "category": image_id.split("/")[0],
                    "azimuth": float(rng.integers(0, 8) * 45),
                    **{"x1": corner, "y1": corner, "x2": side - corner, "y2": side - corner},
                    **{"width": side, "height": side},
                    "split": "train+test",
                    "instance": image_id,
                }
            )
            for number in range(keypoints):
                x, y = rng.uniform(corner, side - corner, 2)
                keypoint_rows.append((image_id, str(number), f"part {number}", x, y, 1))
    columns = ["image_id", "keypoint_id", "name", "x", "y", "visible"]
    return Tables(
        pd.DataFrame(image_rows),
        pd.DataFrame(keypoint_rows, columns=columns),
        pd.DataFrame(pairs, columns=["split", "source", "target"]),
    )

"""Made-up data at any size: views with round objects, feature caches, backbones, folders as SPair-71k's."""

import json
from collections.abc import Mapping, Sequence
from itertools import count, islice, permutations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from common import Workload
from numpy.typing import NDArray
from PIL import Image

from spheremap.config.backbone import Backbone as BackboneSpec
from spheremap.config.backbone import ImageSizes, WeightsSpec
from spheremap.data.tables import Tables
from spheremap.data.voc import VOC_CLASS_IDS
from spheremap.features.backbones.extractor import Extractor
from spheremap.features.backbones.weights import fetch_weights
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
        self.mirrored = np.zeros(count, dtype=bool)
        patches = grid[0] * grid[1]
        noise = rng.standard_normal((patches + count - 1, dim), dtype=np.float32).astype(np.float16)
        # drawn once and shifted by a patch from view to view: drawing and memory are for one view only
        self.data = np.lib.stride_tricks.sliding_window_view(noise, patches, axis=0).transpose(0, 2, 1)

    def tokens(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float16]:
        return self.data[np.asarray(indices)]

    @property
    def categories(self) -> list[str]:
        return sorted({image_id.split("/")[0] for image_id in self.image_ids})

    def tables(self) -> Tables:
        """What training needs of the tables of these views."""
        azimuth = np.random.default_rng(1).integers(0, 8, len(self.image_ids)) * 45.0
        category = [image_id.split("/")[0] for image_id in self.image_ids]
        images = pd.DataFrame({"image_id": self.image_ids, "category": category, "azimuth": azimuth})
        return Tables(images, pd.DataFrame(), pd.DataFrame())


def ellipses(count: int, grid: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Patch masks `(count, N)` that cover `FOREGROUND` of the patches on average, at least one each."""
    y, x = np.meshgrid(*((np.arange(side) + 0.5) / side - 0.5 for side in grid), indexing="ij")
    share = rng.uniform(0.25, 1.75, count) * FOREGROUND
    stretch = rng.uniform(0.7, 1.4, count)
    radius = np.sqrt(share / np.pi)
    width, height = ((radius * by)[:, None, None] for by in (stretch, 1 / stretch))
    distance = (x / width) ** 2 + (y / height) ** 2
    masks = (distance < 1).reshape(count, -1)
    masks[np.arange(count), distance.reshape(count, -1).argmin(axis=1)] = True
    return masks


def write_cache(path: Path, views: Views, provenance: dict[str, Any], kind: str = "views") -> None:
    """Write views as a feature cache of one shard, in the layout of `spheremap.features.cache.reader`."""
    count, patches = views.masks.shape
    arrays = {
        "masks": views.masks.astype(DTYPES["masks"]),
        "boxes": np.tile([0.0, 0.0, 100.0, 100.0], (count, 1)),
        "view": np.zeros(count, DTYPES["view"]),
        "image_id": np.array([image_id.encode() for image_id in views.image_ids]),
    }
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        shape = (patches, views.dim)
        tokens = file.create_dataset(
            "tokens", (count, *shape), DTYPES["tokens"], chunks=(1, *shape), fletcher32=True
        )
        for record in range(count):
            tokens[record] = views.data[record]
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=True, fletcher32=True)
        file.attrs.update(
            schema=np.bytes_(SCHEMA),
            kind=np.bytes_(kind),
            grid=np.array(views.grid, dtype=np.int64),
            shard=np.array([0, 1], dtype=np.int64),
            provenance=np.bytes_(json.dumps(provenance, sort_keys=True).encode()),
            complete=True,
        )


# --- backbones


def backbone_spec(work: Workload) -> BackboneSpec:
    """A backbone of the workload's size with random weights."""
    size = ImageSizes(work.side * work.patch, work.side * work.patch)
    weights = WeightsSpec(source="random", seed=0)
    return BackboneSpec(work.model, weights, work.block, norm=False, facet="token", image_size=size)


def make_backbone(
    work: Workload, file: Path, device: torch.device, precision: Any = "float32"
) -> tuple[Extractor, torch.Tensor]:
    """That backbone, its weights in a file, and a picture `(records, S, S, 3)` uint8 per record."""
    spec, size = backbone_spec(work), work.side * work.patch
    if not file.exists():
        fetch_weights(spec, file)
    pictures = np.random.default_rng(0).integers(0, 256, (work.records, size, size, 3), dtype=np.uint8)
    return Extractor(spec, file, device=device, precision=precision), torch.from_numpy(pictures)


# --- a folder in SPair-71k's layout


def write_spair(
    root: Path, categories: int, splits: Mapping[str, tuple[int, int]], size: tuple[int, int]
) -> None:
    """Write pictures of noise, about as many bytes each as SPair-71k's have, with annotations and pairs.

    Args:
        root: the folder.
        categories: how many.
        splits: images per category, no image being in two splits, and pairs in all.
        size: (width, height) of a picture in pixels.
    """
    rng = np.random.default_rng(0)
    noise = rng.integers(-20, 21, (2 * size[1], 2 * size[0], 3))
    lines: dict[str, list[str]] = {split: [] for split in splits}
    names = [name for name in VOC_CLASS_IDS if name not in ("diningtable", "sofa")]
    for number, category in enumerate(names[:categories]):
        for part in ("ImageAnnotation", "JPEGImages", "Segmentation"):
            (root / part / category).mkdir(parents=True)
        ids = (f"2008_{i:06d}" for i in count())
        for split, (images, pairs) in splits.items():
            own = list(islice(ids, images))
            for name in own:
                _write_image(root, category, name, size, noise, rng)
            begin, end = (pairs * k // categories for k in (number, number + 1))
            lines[split] += [f"{a}-{b}:{category}" for a, b in islice(permutations(own, 2), end - begin)]
    folder = root / "Layout" / "large"
    folder.mkdir(parents=True)
    for split, stem in (("train", "trn"), ("val", "val"), ("test", "test")):
        numbered = [f"{i:06d}-{line}\n" for i, line in enumerate(lines[split], start=1)]
        (folder / f"{stem}.txt").write_text("".join(numbered))


def _write_image(
    root: Path, category: str, name: str, size: tuple[int, int], noise: NDArray, rng: np.random.Generator
) -> None:
    """An image with 12 of 30 keypoints, its mask, which fills its box, and its annotation."""
    width, height = size
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.int64)
    top, left = rng.integers(0, height), rng.integers(0, width)
    pixels = (smooth + noise[top : top + height, left : left + width]).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(root / "JPEGImages" / category / f"{name}.jpg", quality=85)
    x1, y1, x2, y2 = width // 5, height // 5, width * 4 // 5, height * 4 // 5
    mask = np.zeros((height, width), np.uint8)
    mask[y1:y2, x1:x2] = VOC_CLASS_IDS[category]
    Image.fromarray(mask).save(root / "Segmentation" / category / f"{name}.png")
    points = {str(i): [int(rng.integers(x1, x2)), int(rng.integers(y1, y2))] for i in range(12)}
    record = {
        **{"filename": f"{name}.jpg", "category": category, "src_image": "flickr", "pose": "Unspecified"},
        **{"src_database": "VOC2012", "src_annotation": "PASCAL3D"},
        **{"image_width": width, "image_height": height, "image_depth": 3, "bndbox": [x1, y1, x2, y2]},
        **{"truncated": 0, "occluded": 0, "difficult": 0, "azimuth_id": int(rng.integers(0, 8))},
        "kps": points | dict.fromkeys(map(str, range(12, 30))),
    }
    (root / "ImageAnnotation" / category / f"{name}.json").write_text(json.dumps(record))

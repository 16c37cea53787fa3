"""A small made-up data set with its feature cache and head in memory, to test matching and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from spheremap.base.errors import InputError
from spheremap.config import Evaluate as EvaluateParams
from spheremap.config.scoring import Sweep
from spheremap.data.tables import Tables
from spheremap.methods import Method, make_methods
from spheremap.metrics.evaluate import evaluate
from spheremap.metrics.results import Results
from spheremap.metrics.score_table import by_group, leaves

PAPER = ("features", "sphere", "fused", "chance")
ADAPTED = {
    "kind": "adapted", "seed": 0, "steps": 4, "batch": 2, "learning_rate": 1e-2, "width": 6,
    "sphere_weight": 0.2, "chain": 3, "hop": 1, "viewpoint_bins": 8, "cycle_radius": 1.0, "angle": 30.0,
    "matches": 20, "temperature": 0.1, "spread": 0.0, "log_every": 2, "validate_every": 2, "save_every": 2,
    "validation": {"sphere_weight": 0.2, "alpha": 0.1, "pairs": 200},
}  # fmt: skip
SUPERVISED = {
    "kind": "supervised", "seed": 0, "steps": 4, "batch": 2, "learning_rate": 1e-2, "weight_decay": 1e-3,
    "noise": 0.1, "dropout": 0.2, "temperature": 0.1, "dense_weight": 0.5, "log_every": 2,
    "validate_every": 2, "save_every": 2,
    "validation": {"sphere_weight": 0.0, "alpha": 0.1, "pairs": 200},
}  # fmt: skip
FURTHER = ("fused_subpatch", "fused_mutual", "fused_viewpoint")


def entries(
    sphere_weight: float = 0.2, seed: int = 0, **changes: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Section `methods` of params.yaml; `changes` are parameters by entry."""
    pair = {"of": ["features", "sphere"]}
    section: dict[str, dict[str, Any]] = {
        "features": {"kind": "features"},
        "sphere": {"kind": "sphere"},
        "fused": {"kind": "fused", **pair, "sphere_weight": sphere_weight},
        "fused_subpatch": {"kind": "subpatch", "of": "fused"},
        "fused_mutual": {"kind": "mutual", "of": "fused", "radius": 1.0, "penalty": 0.5},
        "fused_viewpoint": {"kind": "fused_viewpoint", **pair, "near": 0.125, "far": 0.5},
        "adapted": ADAPTED,
        "adapted_fused": {"kind": "fused", "of": ["adapted", "sphere"], "sphere_weight": sphere_weight},
        "debiased": {"kind": "debiased", "of": "features", "components": 2},
        "debiased_fused": {"kind": "fused", "of": ["debiased", "sphere"], "sphere_weight": sphere_weight},
        "fused_kernel": {"kind": "kernel", "of": "fused", "sigma": 2.0, "temperature": 0.1},
        "fused_transport": {
            "kind": "transport",
            "of": "fused",
            "rivals": 4,
            "dustbin": 0.25,
            "regularisation": 0.1,
            "iterations": 10,
        },
        "fused_flip": {"kind": "adaptive_flip", "of": "fused", "patches": 3},
        "diy_sc": {"kind": "diy_sc", "weights": "nowhere.pth"},
        "supervised": SUPERVISED,
        "fused_in_domain": {"kind": "in_domain", **pair, "sphere_weight": sphere_weight, "components": 2},
        "chance": {"kind": "chance", "seed": seed},
    }
    return {name: {**entry, **changes.get(name, {})} for name, entry in section.items()}


def methods(*names: str, **options: Any) -> dict[str, Method]:
    """Methods of `entries` by name; without names all that need nothing fitted."""
    return make_methods(entries(**options), names or (*PAPER[:-1], *FURTHER, PAPER[-1]))


PARAMS = EvaluateParams(
    split="test", methods=PAPER, alphas=(0.1, 0.05, 0.01), threshold="box", frame="original", source="patch",
    readout="argmax", window=15, sigma=7.0, temperature=0.02, kap_labels="centre", candidates="all",
    viewpoint_bins=8, bootstrap=0,
    resample="clusters", confidence=0.9, baseline="features", sweep=Sweep("fused", "sphere_weight", ()),
    seed=0,
)  # fmt: skip


def scored(
    cache: Any,
    tables: Tables,
    head: Any,
    params: EvaluateParams = PARAMS,
    *,
    fitted: Any = None,
    groups: Any = None,
    **options: Any,
) -> Results:
    """An evaluation with methods of `entries`, whose options these are."""
    made = methods(*params.methods, params.sweep.method, **options)
    return evaluate(
        cache, tables, head, params, dataset="made up", methods=made, fitted=fitted, groups=groups
    )


def groups_of(results: Results, by: str) -> pd.DataFrame:
    """The scores by group, in columns of their short names."""
    return by_group(results.scores, by)


def leaves_of(results: Results) -> dict[str, dict[str, float]]:
    """The scores of all pairs by method, under their short names."""
    return leaves(results.scores)


@dataclass
class FakeCache:
    """What matching needs of a FeatureCache; counts how often each record is read."""

    image_ids: list[str]
    data: np.ndarray  # (n, N, D) float16
    boxes: np.ndarray  # (n, 4)
    grid: tuple[int, int]
    provenance: dict[str, Any] = field(default_factory=dict)
    kind: str = "images"
    companions: dict[str, "FakeCache"] = field(default_factory=dict)
    reads: dict[str, int] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        return self.data.shape[2]

    @property
    def masks(self) -> np.ndarray:
        """The patches whose rows and columns are odd, so that some of each image lie on the object."""
        rows, columns = np.indices(self.grid)
        return np.tile(((rows % 2 == 1) & (columns % 2 == 1)).reshape(-1), (len(self), 1))

    def companion(self, kind: str) -> "FakeCache":
        return self.companions[kind]

    def __len__(self) -> int:
        return len(self.image_ids)

    def index(self, image_id: str) -> int:
        if image_id not in self.image_ids:
            raise InputError("image is not in the cache", where=image_id)
        return self.image_ids.index(image_id)

    def tokens(self, indices: Sequence[int]) -> np.ndarray:
        for i in np.asarray(indices).tolist():
            self.reads[self.image_ids[i]] = self.reads.get(self.image_ids[i], 0) + 1
        return self.data[np.asarray(indices)]

    def permuted(self, order: Sequence[int]) -> "FakeCache":
        order = list(order)
        return replace(
            self,
            image_ids=[self.image_ids[i] for i in order],
            data=self.data[order],
            boxes=self.boxes[order],
            reads={},
        )


class FakeHead:
    """A linear map to the sphere, optionally rotated afterwards, and one back for each category."""

    def __init__(self, dim: int, categories: Sequence[str] = (), rotation: np.ndarray | None = None) -> None:
        self.dim, self.categories, self.device = dim, list(categories), torch.device("cpu")
        self.provenance: dict[str, Any] = {}
        self.matrix = np.random.default_rng(5).normal(size=(dim, 3))
        self.back = np.random.default_rng(6).normal(size=(max(len(categories), 1), 3, dim))
        if rotation is not None:
            self.matrix = self.matrix @ rotation
            self.back = rotation.T @ self.back

    def mapper(self, tokens: torch.Tensor) -> torch.Tensor:
        # in float64, so that rotations cost no precision
        return torch.nn.functional.normalize(tokens.double() @ torch.from_numpy(self.matrix), dim=-1)

    def prototypes(self, points: torch.Tensor, category: torch.Tensor) -> torch.Tensor:
        return (points.double().unsqueeze(1) @ torch.from_numpy(self.back)[category]).squeeze(1)


def random_rotation(seed: int) -> np.ndarray:
    """A rotation matrix `(3, 3)`."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, ::-1]


def image_row(
    image_id: str, width: int, height: int, box: Sequence[float], azimuth: float = np.nan
) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {
        "image_id": image_id, "path": f"{image_id}.jpg", "mask_path": "", "mask_value": 1,
        "category": image_id.split("/")[0], "azimuth": azimuth, "x1": x1, "y1": y1, "x2": x2, "y2": y2,
        "width": width, "height": height, "split": "test", "instance": image_id,
    }  # fmt: skip


def keypoint_row(image_id: str, keypoint_id: str, xy: Sequence[float] | None) -> dict[str, Any]:
    x, y = (np.nan, np.nan) if xy is None else xy
    return {"image_id": image_id, "keypoint_id": keypoint_id, "name": f"part {keypoint_id}", "x": x, "y": y,
            "visible": int(xy is not None)}  # fmt: skip


def make_tables(images: list[dict[str, Any]], keypoints: list[dict[str, Any]], pairs: list[tuple[str, str]],
                split: str = "test") -> Tables:  # fmt: skip
    return Tables(
        pd.DataFrame(images),
        pd.DataFrame(keypoints, columns=["image_id", "keypoint_id", "name", "x", "y", "visible"]),
        pd.DataFrame([(split, *pair) for pair in pairs], columns=["split", "source", "target"]),
    )


def make_world(
    seed: int,
    *,
    categories: int = 2,
    images: int = 4,
    grid: tuple[int, int] = (5, 5),
    dim: int = 8,
    keypoints: int = 12,
) -> tuple[FakeCache, Tables, FakeHead]:
    """Images of several shapes padded to squares; tokens share a part at common keypoints, plus noise."""
    rng = np.random.default_rng(seed)
    image_rows, keypoint_rows, pairs, ids, boxes = [], [], [], [], []
    tokens = rng.normal(size=(categories * images, grid[0] * grid[1], dim))
    for c in range(categories):
        own = [f"category{c}/{i:02d}" for i in range(images)]
        parts = rng.normal(size=(keypoints, dim))
        for image_id in own:
            width, height = (int(v) for v in rng.integers(40, 120, size=2))
            side = max(width, height)
            box = np.array([(width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2])
            corner = rng.uniform(0, 0.3, size=2) * (width, height)
            far = rng.uniform(0.6, 1.0, size=2) * (width, height)
            azimuth = np.nan if not ids else float(rng.choice([0, 45, 90, 180, 315, 340]))
            image_rows.append(image_row(image_id, width, height, [*corner, *far], azimuth))
            for k in range(keypoints):
                visible = rng.random() < 0.7
                xy = rng.uniform(0, 1, size=2) * (width, height)
                keypoint_rows.append(keypoint_row(image_id, str(k), xy if visible else None))
                column = min(int((xy[0] - box[0]) / side * grid[1]), grid[1] - 1)
                row = min(int((xy[1] - box[1]) / side * grid[0]), grid[0] - 1)
                if visible:
                    tokens[len(ids), row * grid[1] + column] += 1.2 * parts[k]
            ids.append(image_id)
            boxes.append(box)
        pairs += [(a, b) for a in own for b in own if a != b and rng.random() < 0.8]
    cache = FakeCache(ids, tokens.astype(np.float16), np.array(boxes), grid)
    return (
        cache,
        make_tables(image_rows, keypoint_rows, pairs),
        FakeHead(dim, sorted({r["category"] for r in image_rows})),
    )

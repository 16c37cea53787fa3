"""A few made-up photographs, a random backbone and head, and the bundle of both."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image, ImageDraw
from tiny import BACKBONE
from world import image_row, keypoint_row, make_tables

from spheremap.base.files import sha256_file, write_json
from spheremap.base.provenance import digest
from spheremap.cli import main
from spheremap.config.backbone import Backbone as BackboneSpec
from spheremap.config.slices import parse
from spheremap.data.tables import Tables, write_tables
from spheremap.features.cache.space import feature_space
from spheremap.model.head import Head, save_head

ROOT = Path(__file__).resolve().parents[2]
SIZES = [(120, 90), (70, 141), (64, 64), (200, 33)]


@dataclass(frozen=True)
class Studio:
    """Files of a small project: `params` is its params.yaml, `bundle` holds head and weights."""

    folder: Path
    photographs: list[Path]
    params: Path
    weights: Path
    head: Path
    bundle: Path
    backbone: dict[str, Any]

    def evaluate(self, tables: Tables, fit: str = "pad", **settings: object) -> pd.DataFrame:
        """Predictions of the commands `cache` and `evaluate` for the test pairs of some tables.

        `settings` are those of the section `evaluate`.
        """
        params = yaml.safe_load(self.params.read_text())
        params["features"]["fit"] = fit
        params["evaluate"] |= {
            "bootstrap": 0,
            "methods": ["features", "sphere", "fused", "chance"],
            **settings,
        }
        params["evaluate"]["sweep"]["values"] = []
        work = self.folder / "evaluation"
        write_tables(work / "tables", tables, {})
        slices = {
            "cache": {"features": params["features"], "backbone": self.backbone, "dataset": "own"},
            "evaluate": {key: params[key] for key in ("evaluate", "methods")} | {"dataset": "own"},
        }
        for name, content in slices.items():
            write_json(work / f"{name}.json", content)
        cache = work / "images.h5"
        run("cache", "--params", work / "cache.json", "--tables", work / "tables", "--weights", self.weights,
            "--kind", "images", "--out", cache, "--device", "cpu")  # fmt: skip
        run("evaluate", "--params", work / "evaluate.json", "--tables", work / "tables", "--images", cache,
            "--head", self.head, "--out", work / "results", "--device", "cpu")  # fmt: skip
        return pd.read_csv(work / "results" / "predictions.csv.gz", dtype={"keypoint_id": str})


def run(*arguments: object) -> None:
    """Run a command of spheremap that must succeed."""
    assert main([str(argument) for argument in arguments]) == 0


def make_studio(folder: Path, backbone: dict[str, Any] = BACKBONE) -> Studio:
    """Draw photographs and make weights, head and bundle."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["dataset"] = "own"
    params["datasets"]["own"] = params["datasets"]["shapes"]
    params["backbones"] = {"own": backbone}
    params["features"] |= {"backbone": "own", "precision": "float32"}
    write_json(folder / "params.yaml", params)  # JSON is YAML
    weights = folder / "models" / "backbones" / "own.safetensors"
    write_json(folder / "weights.json", {key: backbone[key] for key in ("model", "weights")})
    run("weights", "--params", folder / "weights.json", "--out", weights)
    head = folder / "models" / "own" / "head.safetensors"
    write_head(head, backbone, weights)
    bundle = folder / "own.spheremap"
    run("bundle", "--params", folder / "params.yaml", "--out", bundle, "--embed")
    photographs = [folder / f"{i}.png" for i in range(len(SIZES))]
    for number, (path, size) in enumerate(zip(photographs, SIZES, strict=True)):
        draw(number, size).save(path)
    return Studio(folder, photographs, folder / "params.yaml", weights, head, bundle, backbone)


def write_head(path: Path, backbone: dict[str, Any], weights: Path, seed: int = 0) -> None:
    """An untrained head that says it was trained on features of these weights."""
    space = feature_space({"params": {"backbone": backbone}, "inputs": {"weights": sha256_file(weights)}})
    head = Head.initialise(384, ["cat", "dog"], seed)
    save_head(path, head, {"inputs": {"features": digest(space)}})


def parsed(backbone: dict[str, Any]) -> BackboneSpec:
    return parse(json.loads(json.dumps(backbone)), BackboneSpec, where="test")


def draw(seed: int, size: tuple[int, int]) -> Image.Image:
    """Blobs of colour on a gradient, no two patches alike."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    picture = Image.fromarray((np.stack([x, y, 1 - x * y], axis=-1) * 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        centre, radius = rng.uniform(0, 1, 2) * size, rng.uniform(0.05, 0.2) * min(size)
        pen.ellipse((*(centre - radius), *(centre + radius)), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return picture


def tables_of(photographs: list[Path], points: list[list[tuple[float, float]]]) -> Tables:
    """Tables in which every photograph has the same keypoints, and all ordered pairs are test pairs."""
    images, keypoints = [], []
    for path, own in zip(photographs, points, strict=True):
        with Image.open(path) as image:
            width, height = image.size
        name = f"dog/{path.stem}"
        images.append({**image_row(name, width, height, [0, 0, width, height]), "path": str(path)})
        keypoints += [keypoint_row(name, str(k), xy) for k, xy in enumerate(own)]
    names = [row["image_id"] for row in images]
    return make_tables(images, keypoints, [(a, b) for a in names for b in names if a != b])

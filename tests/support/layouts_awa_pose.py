"""Writes a small AwA-Pose: the folders, names and fields of AwA2's archive and of AwA-Pose's repository."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from spheremap.data.adapters.awa_pose import KEYPOINT_NAMES

IMAGES = "Animals_with_Attributes2/JPEGImages"
ANNOTATIONS = "AwA-Pose/Annotations"
MISSING = [-1, -1]


def draw_animal(path: Path, seed: int, size: tuple[int, int]) -> dict[str, Any]:
    """Draw a quadruped from the side; its entry in an annotation: box and 39 keypoints, not all annotated."""
    width, height = size
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", size, (110, 140, 90))
    draw = ImageDraw.Draw(picture)
    colour = tuple(int(v) for v in rng.integers(40, 230, 3))
    flip = bool(seed % 2)

    def at(x: float, y: float) -> list[int]:
        x = 1 - x if flip else x
        return [round(x * width), round(y * height)]

    draw.polygon([tuple(at(*p)) for p in ((0.25, 0.35), (0.8, 0.35), (0.8, 0.65), (0.25, 0.65))], fill=colour)
    draw.polygon([tuple(at(*p)) for p in ((0.08, 0.2), (0.3, 0.15), (0.3, 0.4), (0.12, 0.4))], fill=colour)
    near, far = ("right", "left") if flip else ("left", "right")
    places = {
        "nose": at(0.08, 0.3),
        f"{near}_eye": at(0.17, 0.25),
        f"{near}_earend": at(0.26, 0.12),
        "neck_base": at(0.28, 0.3),
        "back_base": at(0.35, 0.35),
        "back_middle": at(0.55, 0.35),
        "back_end": at(0.75, 0.35),
        "tail_base": at(0.8, 0.38),
        "tail_end": at(0.92, 0.6),
        "belly_bottom": at(0.55, 0.65),
    }
    for leg, (x, side) in {"front": (0.3, near), "back": (0.72, far)}.items():
        for part, y in (("thai", 0.6), ("knee", 0.75), ("paw", 0.9)):
            places[f"{leg}_{side}_{part}"] = at(x, y)
        draw.line([tuple(at(x, 0.6)), tuple(at(x, 0.9))], fill=colour, width=max(2, width // 20))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    xs, ys = zip(*places.values(), strict=True)
    return {
        "bbox": [min(xs), min(ys), max(xs), max(ys)],
        **{name: places.get(name, MISSING) for name in KEYPOINT_NAMES},
    }


def write_awa_pose(
    root: Path, animals: tuple[str, ...] = ("antelope", "german+shepherd"), count: int = 4, protocol: int = 3
) -> None:
    """Write `count` pictures per animal, numbered from 10001; the last one of each shows two animals."""
    for a, animal in enumerate(animals):
        for i in range(count):
            name = f"{animal}_{10001 + i}"
            size = (80 + 4 * i, 60)
            entry = draw_animal(root / IMAGES / animal / f"{name}.jpg", 10 * a + i, size)
            record = {"a1": entry}
            if i == count - 1:
                record["a2"] = {**entry, "nose": [1, 2]}
            write_annotation(root, animal, name, record, protocol)
    names = root / ANNOTATIONS / "class_names.txt"
    names.write_text("\n".join(("_background_", *KEYPOINT_NAMES)))
    sample = root / ANNOTATIONS / "sample" / f"{animals[0]}_10001.pickle"  # a copy, as in the repository
    sample.parent.mkdir()
    sample.write_bytes((root / ANNOTATIONS / animals[0] / f"{animals[0]}_10001.pickle").read_bytes())


def write_annotation(root: Path, animal: str, name: str, record: Any, protocol: int = 3) -> Path:
    """Write an annotation as the data set's authors did, and return its path."""
    path = root / ANNOTATIONS / animal / f"{name}.pickle"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        pickle.dump(record, stream, protocol=protocol)
    return path

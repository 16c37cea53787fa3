"""Writes a small AP-10K: the archive's folders and names, and the fields of its annotation files."""

import json
from pathlib import Path
from typing import Any

from drawing import draw_quadruped

from spheremap.data.adapters.ap10k import KEYPOINT_NAMES

CROWD_LIST = "ap-10k_is_crowd.txt"
ENTRY = {
    "layout": "ap10k",
    "crowd_list": CROWD_LIST,
    "pairs": "intra",
    "splits": ["test"],
    "outside": "error",
    "seed": 0,
}
SPECIES = {  # id -> name, family
    1: ("antelope", "Bovidae"),
    2: ("argali sheep", "Bovidae"),
    3: ("king cheetah", "Felidae"),
    4: ("lion", "Felidae"),
    5: ("wolf", "Canidae"),
}
# of the 17 keypoints, where they lie in a side view facing left
_PLACES = [
    *((0.14, 0.25), (0.18, 0.25), (0.06, 0.3), (0.28, 0.35), (0.85, 0.4)),
    *((x, y) for x in (0.3, 0.38, 0.72, 0.8) for y in (0.55, 0.7, 0.88)),
]


def write_ap10k(root: Path, count: int = 6, species: dict[int, tuple[str, str]] = SPECIES) -> None:
    """Write `count` photographs per species, numbered through from 1, spread over the three files.

    The last photograph of each species has a second annotation and is on the list of crowded ones; the last
    but one has two keypoints only.
    """
    files: dict[str, dict[str, Any]] = {
        split: {
            "info": {"description": "AP-10k", "version": "1.0", "year": 2021},
            "licenses": [{"id": 1, "name": "The MIT License"}],
            "images": [],
            "annotations": [],
            "categories": [category(i, *names) for i, names in species.items()],
        }
        for split in ("train", "val", "test")
    }
    crowd = []
    number = 0
    for category_id in species:
        for i in range(count):
            number += 1
            file = files["train" if i % 3 else ("val", "test")[i // 3 % 2]]
            size = (90, 60 + 2 * i)
            entry = draw(root / "data" / f"{number:012d}.jpg", number, size)
            image = {"license": 1, "id": number, "file_name": f"{number:012d}.jpg"}
            file["images"].append({**image, "width": size[0], "height": size[1], "background": 1 + i % 8})
            few = 2 if i == count - 2 else 17
            file["annotations"].append(annotation(10 * number, number, category_id, entry, few))
            if i == count - 1:
                file["annotations"].append(annotation(10 * number + 1, number, category_id, entry, 5))
                crowd.append(f"{number:012d}\n")
    (root / "annotations").mkdir(parents=True)
    for split, content in files.items():
        (root / "annotations" / f"ap10k-{split}-split1.json").write_text(json.dumps(content))
    (root / CROWD_LIST).write_text("".join(crowd))


def category(number: int, name: str, family: str) -> dict[str, Any]:
    """A category as the files hold it."""
    return {
        "id": number,
        "name": name,
        "supercategory": family,
        "keypoints": list(KEYPOINT_NAMES),
        "skeleton": [[1, 2], [1, 3], [2, 3], [3, 4], [4, 5]],
    }


def annotation(
    number: int, image: int, category_id: int, entry: tuple[list[int], list[int]], shown: int = 17
) -> dict[str, Any]:
    """An annotation as the files hold it, with the first `shown` keypoints only."""
    box, keypoints = entry
    keypoints = [v if k // 3 < shown else 0 for k, v in enumerate(keypoints)]
    return {
        "id": number,
        "image_id": image,
        "category_id": category_id,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
        "keypoints": keypoints,
    }


def draw(path: Path, seed: int, size: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Draw an animal; its box [x, y, width, height] and 17 keypoints x, y, v."""
    at = draw_quadruped(path, seed, size)
    points = [at(*place) for place in _PLACES]
    far = (1, 9, 12) if seed % 2 else (0, 6, 15)  # the keypoints on the far side that cannot be seen
    keypoints = [v for k, (x, y) in enumerate(points) for v in ((0, 0, 0) if k in far else (x, y, 2))]
    xs, ys = zip(*points, strict=True)
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)], keypoints

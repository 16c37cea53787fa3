"""Writes a small AwA-Pose: the folders, names and fields of AwA2's archive and of AwA-Pose's repository."""

import pickle
from pathlib import Path
from typing import Any

from drawing import draw_quadruped

from spheremap.data.adapters.awa_pose import KEYPOINT_NAMES

IMAGES = "Animals_with_Attributes2/JPEGImages"
ANNOTATIONS = "AwA-Pose/Annotations"
ENTRY = {
    "layout": "awa_pose",
    "images": IMAGES,
    "annotations": ANNOTATIONS,
    "categories": ["antelope", "german+shepherd"],
    "outside": "error",
    "pairs": "within",
    "max_pairs": 1000,
    "min_shared_keypoints": 1,
    "seed": 0,
}
MISSING = [-1, -1]
_PLACES = {
    **{"nose": (0.08, 0.3), "neck_base": (0.28, 0.3), "belly_bottom": (0.55, 0.65)},
    **{"back_base": (0.35, 0.35), "back_middle": (0.55, 0.35), "back_end": (0.75, 0.35)},
    **{"tail_base": (0.8, 0.38), "tail_end": (0.92, 0.6)},
}


def draw_animal(path: Path, seed: int, size: tuple[int, int]) -> dict[str, Any]:
    """Draw an animal; its entry in an annotation: box and 39 keypoints, not all annotated."""
    at = draw_quadruped(path, seed, size)
    near, far = ("right", "left") if seed % 2 else ("left", "right")
    places = _PLACES | {f"{near}_eye": (0.17, 0.25), f"{near}_earend": (0.26, 0.12)}
    for part, y in (("thai", 0.6), ("knee", 0.75), ("paw", 0.9)):
        places |= {f"front_{near}_{part}": (0.3, y), f"back_{far}_{part}": (0.72, y)}
    points = {name: at(*place) for name, place in places.items()}
    xs, ys = zip(*points.values(), strict=True)
    box = [min(xs), min(ys), max(xs), max(ys)]
    return {"bbox": box, **{name: points.get(name, MISSING) for name in KEYPOINT_NAMES}}


def write_awa_pose(
    root: Path, animals: tuple[str, ...] = ("antelope", "german+shepherd"), count: int = 4, protocol: int = 3
) -> None:
    """Write `count` pictures per animal, numbered from 10001; the last one of each shows two animals."""
    for a, animal in enumerate(animals):
        for i in range(count):
            name = f"{animal}/{animal}_{10001 + i}"
            entry = draw_animal(root / IMAGES / f"{name}.jpg", 10 * a + i, (80 + 4 * i, 60))
            record = {"a1": entry}
            if i == count - 1:
                record["a2"] = {**entry, "nose": [1, 2]}
            write_annotation(root, name, record, protocol)
    (root / ANNOTATIONS / "class_names.txt").write_text("\n".join(("_background_", *KEYPOINT_NAMES)))
    sample = root / ANNOTATIONS / "sample" / f"{animals[0]}_10001.pickle"  # a copy, as in the repository
    sample.parent.mkdir()
    sample.write_bytes((root / ANNOTATIONS / animals[0] / sample.name).read_bytes())


def write_annotation(root: Path, name: str, record: Any, protocol: int = 3) -> None:
    """Write the annotation <animal>/<name> as the data set's authors did."""
    path = root / ANNOTATIONS / f"{name}.pickle"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(record, protocol))

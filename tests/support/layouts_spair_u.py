"""Writes a small SPair-71k, and SPair-U for any folder in SPair-71k's layout, as their archives have them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from drawing import draw_object
from layouts_pf_pascal import CLASSES, all_pairs
from PIL import Image


def write_spair_71k(
    root: Path,
    *,
    images: int = 8,
    categories: tuple[str, ...] = ("aeroplane", "car"),
    size: tuple[int, int] = (96, 72),
) -> None:
    """Write `root` as the archive's folder SPair-71k: of each category half the images are for training."""
    lines: dict[str, list[str]] = {"trn": [], "val": [], "test": []}
    for category in categories:
        names = [f"2008_{CLASSES[category]:03d}{i:03d}" for i in range(images)]
        for i, name in enumerate(names):
            points, box, mask = draw_object(
                root / f"JPEGImages/{category}/{name}.jpg", 200 * CLASSES[category] + i, size
            )
            path = root / f"Segmentation/{category}/{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask * np.uint8(CLASSES[category])).save(path)
            record = {
                "filename": f"{name}.jpg",
                "src_database": "PASCAL VOC2012",
                "src_annotation": "PASCAL VOC2012",
                "src_image": "flickr",
                "image_width": size[0],
                "image_height": size[1],
                "image_depth": 3,
                "category": category,
                "pose": "Unspecified",
                "truncated": 0,
                "occluded": 0,
                "difficult": 0,
                "bndbox": list(box),
                "kps": {str(k): [int(v) for v in points[k]] if k < len(points) else None for k in range(30)},
                "azimuth_id": i % 8,
            }
            _write(root / f"ImageAnnotation/{category}/{name}.json", record)
        for split, source, target in all_pairs(names):
            lines[split].append(f"{len(lines[split]):06d}-{source}-{target}:{category}")
    (root / "Layout/large").mkdir(parents=True)
    for split, of_split in lines.items():
        (root / f"Layout/large/{split}.txt").write_text("".join(line + "\n" for line in of_split))


def write_spair_u(root: Path, spair: Path, *, points: int = 4, extra: bool = False) -> None:
    """Write annotations of other keypoints for the test pairs of `spair`, a folder in SPair-71k's layout.

    Args:
        root: gets what SPair-U.zip holds: datasets/SPair-U.
        points: new keypoints per image, on a grid within the object's box; one in five is not visible.
        extra: name the folders as the authors' code does when it reads them beside SPair-71k's.
    """
    top, prefix = root / "datasets" / "SPair-U", "Extra" if extra else ""
    records: dict[tuple[str, str], dict[str, Any]] = {}
    for line in (spair / "Layout/large/test.txt").read_text().split():
        stems, category = line.rsplit(":", 1)
        _, source, target = stems.split("-")
        for name in (source, target):
            if (category, name) not in records:
                path = spair / f"ImageAnnotation/{category}/{name}.json"
                record = json.loads(path.read_text())
                x1, y1, x2, y2 = record["bndbox"]
                grid = [(x1 + (x2 - x1) * (k + 1) / (points + 1), (y1 + y2) / 2) for k in range(points)]
                shown = [k for k in range(points) if (k + len(records)) % 5]
                kps = {str(k): [round(v) for v in grid[k]] if k in shown else None for k in range(30)}
                records[category, name] = record | {"kps": kps}
                _write(top / f"{prefix}ImageAnnotation/{category}/{name}.json", record | {"kps": kps})
        pair = {"pair_id": int(line[:6]), "filename": line, "category": category}
        kps_of = {}
        for side, name in (("src", source), ("trg", target)):
            record = records[category, name]
            pair[f"{side}_imname"] = record["filename"]
            pair[f"{side}_imsize"] = [record["image_width"], record["image_height"], 3]
            pair[f"{side}_bndbox"] = record["bndbox"]
            kps_of[side] = record["kps"]
        shared = [k for k in kps_of["src"] if kps_of["src"][k] is not None and kps_of["trg"][k] is not None]
        pair["kps_ids"] = shared
        for side, kps in kps_of.items():
            pair[f"{side}_kps"] = [kps[k] for k in shared]
        for field in ("viewpoint_variation", "scale_variation", "truncation", "occlusion"):
            pair[field] = 0
        _write(top / f"{prefix}PairAnnotation/test/{line}.json", pair)


def _write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))

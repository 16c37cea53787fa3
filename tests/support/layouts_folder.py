"""Writes a small folder of one's own: pictures in sub-folders, and the tables that describe them."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

# entry of `datasets` without its root
FOLDER = {
    "layout": "folder",
    "bins": None,
    "shares": {"train": 0.4, "val": 0.3, "test": 0.3},
    "max_pairs": 20,
    "min_shared_keypoints": 1,
    "seed": 0,
    "masks": {"source": "own"},
}
POINTS = {"front": (0.1, 0.5), "roof": (0.5, 0.2), "back": (0.9, 0.5), "wheel": (0.3, 0.85)}


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    """Write a table whose columns are the keys of the first row."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_folder(
    root: Path,
    categories: tuple[str, ...] = ("mug", "toy_car"),
    count: int = 5,
    *,
    bins: int | None = None,
    keypoints: bool = True,
) -> None:
    """Write `count` pictures per category, of objects that face left or right, with masks of three kinds.

    With `bins`, azimuths are given as numbers of bins, else in degrees; the last of a category is unknown.
    """
    images: list[dict[str, object]] = []
    points: list[dict[str, object]] = []
    for c, category in enumerate(categories):
        for i in range(count):
            name = f"photos/{category}/{i}.png"
            size = (64 + 2 * i, 48)
            mask = draw(root, name, c, i, size)
            last = i == count - 1
            azimuth: object = 270 if i % 2 else 90
            row: dict[str, object] = {"image": name, "category": category}
            if bins is None:
                row["azimuth"] = "" if last else azimuth
            else:
                row["azimuth_bin"] = "" if last else (3 * bins // 4 if i % 2 else bins // 4)
            images.append({**row, "instance": f"{category} {i // 2}", "mask": mask})
            for k, (point, (x, y)) in enumerate(POINTS.items()):
                place = ((1 - x if i % 2 else x) * size[0], y * size[1])
                shown = k != i
                points.append(
                    {
                        "image": name,
                        "keypoint": point,
                        "x": place[0] if shown else "",
                        "y": place[1] if shown else "",
                    }
                )
    write_table(root / "images.csv", images)
    if keypoints:
        write_table(root / "keypoints.csv", points)


def draw(root: Path, name: str, seed: int, number: int, size: tuple[int, int]) -> str:
    """Draw an object and its mask, by turns of one value, of several, transparent, or none; its path."""
    width, height = size
    outline = [(0.1, 0.9), (0.1, 0.45), (0.4, 0.2), (0.9, 0.3), (0.9, 0.9)]
    corners = [((1 - x if number % 2 else x) * width, y * height) for x, y in outline]
    rng = np.random.default_rng(100 * seed + number)
    picture = Image.fromarray(rng.integers(90, 150, (height, width, 3), dtype=np.uint8))
    ImageDraw.Draw(picture).polygon(corners, fill=tuple(int(v) for v in rng.integers(0, 255, 3)))
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    kind = number % 4
    if kind == 3:
        return ""
    if kind == 2:
        mask = picture.convert("RGBA")
        mask.putalpha(0)
        ImageDraw.Draw(mask).polygon(corners, fill=(10, 20, 30, 255))
    else:
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).polygon(corners, fill=255, outline=128 if kind == 1 else 255)
    place = Path("masks") / Path(name).relative_to("photos")
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    mask.save(root / place)
    return place.as_posix()

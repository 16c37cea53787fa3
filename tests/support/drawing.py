"""Pictures for small data sets: objects that face left or right."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

POINTS = 6  # of `draw_object`


def draw_object(
    path: Path, seed: int, size: tuple[int, int] = (96, 72)
) -> tuple[list[tuple[float, float]], tuple[int, int, int, int], NDArray[np.uint8]]:
    """Draw a car-like shape on a noisy ground.

    Returns:
        Its six points (x, y), its box (x1, y1, x2, y2) and its mask as `(H, W)` of 0 and 1.
    """
    width, height = size
    rng = np.random.default_rng(seed)
    ground = rng.integers(90, 150, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    picture = Image.fromarray(ground).resize(size, Image.Resampling.NEAREST)
    x1, y1 = (int(rng.integers(4, side // 5)) for side in size)
    x2, y2 = (int(side - rng.integers(4, side // 5)) for side in size)
    across, down = x2 - x1, y2 - y1
    outline = [(0.0, 0.55), (0.25, 0.5), (0.4, 0.0), (0.75, 0.1), (1.0, 0.6), (0.9, 1.0), (0.1, 1.0)]
    if seed % 2:  # it faces the other way
        outline = [(1 - x, y) for x, y in outline]
    corners = [(x1 + x * across, y1 + y * down) for x, y in outline]
    wheels = [(x1 + across * x, y2 - down * 0.1, shade) for x, shade in ((0.25, "black"), (0.75, "white"))]
    mask = Image.new("L", size)
    for canvas, colour in ((picture, tuple(rng.integers(0, 255, 3).tolist())), (mask, 1)):
        draw = ImageDraw.Draw(canvas)
        draw.polygon(corners, fill=colour)
        for x, y, shade in wheels:
            box = (x - across * 0.08, y - across * 0.08, x + across * 0.08, y + across * 0.08)
            draw.ellipse(box, fill=shade if canvas is picture else 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return [*corners[1:5], *((x, y) for x, y, _ in wheels)], (x1, y1, x2, y2), np.asarray(mask).copy()


def draw_quadruped(path: Path, seed: int, size: tuple[int, int]) -> Callable[[float, float], list[int]]:
    """Draw an animal from the side, which faces left for an even seed, else right.

    Returns:
        What takes a place on the animal that faces left, as shares of width and height, to its pixel [x, y].
    """
    rng = np.random.default_rng(seed)

    def at(x: float, y: float) -> list[int]:
        return [round((1 - x if seed % 2 else x) * size[0]), round(y * size[1])]

    picture = Image.new("RGB", size, (110, 140, 90))
    draw = ImageDraw.Draw(picture)
    colour = tuple(int(v) for v in rng.integers(40, 230, 3))
    for shape in (
        ((0.25, 0.35), (0.8, 0.35), (0.8, 0.65), (0.25, 0.65)),
        ((0.08, 0.2), (0.3, 0.15), (0.3, 0.4)),
    ):
        draw.polygon([tuple(at(*place)) for place in shape], fill=colour)
    for x in (0.3, 0.38, 0.72, 0.8):
        draw.line([tuple(at(x, 0.6)), tuple(at(x, 0.9))], fill=colour, width=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return at

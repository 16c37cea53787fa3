"""Triplets of foreground patches, and where patches lie in the image."""

import math

import numpy as np
import torch
from torch import Tensor


def draw_triplets(
    offsets: Tensor, counts: Tensor, per_image: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw patches (a, b, c) uniformly and with replacement from each image's foreground.

    All images are drawn at once on the device of `counts`, without synchronisation with the host.

    Args:
        offsets: `(B,)` int64, position of each image's first foreground patch in the packed list.
        counts: `(B,)` int64, foreground patches per image.
        per_image: T, triplets per image.
        generator: on the same device.

    Returns:
        `(B * T, 3)` int64 positions in the packed list, image after image, and `(B * T,)` bool: false (and
        position 0) for an image without foreground.
    """
    draw = torch.rand(len(counts), per_image, 3, generator=generator, device=counts.device)
    size = counts.view(-1, 1, 1)
    # rounding in draw * size must not reach the next image's first patch
    position = torch.minimum((draw * size).long(), size - 1) + offsets.view(-1, 1, 1)
    has_foreground = size > 0
    triplets = torch.where(has_foreground, position, 0).flatten(0, 1)
    return triplets, has_foreground.expand(-1, per_image, 1).flatten()


def step_generator(device: torch.device | str, seed: int, step: int) -> torch.Generator:
    """A generator that depends on seed and step alone: a resumed run draws what it would have drawn."""
    mixed = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(mixed >> 1)  # 63 bits, as torch takes


def patch_coordinates(grid: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """Image coordinates (row, column) of all patches, row-major: `(rows * columns, 2)` float32.

    Proportional to `linspace(0, 1)` on each axis, but in whole numbers. The losses compare distances and take
    angles, for which the common factor does not matter; in whole numbers equal distances are exactly equal.
    """
    rows, columns = grid
    common = math.lcm(max(rows - 1, 1), max(columns - 1, 1))
    row = torch.arange(rows) * (common // max(rows - 1, 1))
    column = torch.arange(columns) * (common // max(columns - 1, 1))
    return torch.cartesian_prod(row, column).to(device, torch.float32)

"""Where patches lie in the image."""

import math

import torch
from torch import Tensor


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

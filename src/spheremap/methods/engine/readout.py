"""From a similarity map to one place in the target: the best patch, or a soft-argmax about it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spheremap.config.scoring import ReadoutKind
from spheremap.features.geometry import Grid


@dataclass(frozen=True)
class Readout:
    """How a prediction is read from the similarities of all target patches.

    "argmax" predicts the centre of the most similar patch. "window" predicts the mean of the patch centres in
    a square window about that patch, weighted by the softmax of similarity / temperature (window soft-argmax
    of Zhang et al., "Telling Left from Right", CVPR 2024, section 4.3); patches of the window beyond the
    border do not exist. "kernel" multiplies all similarities by a Gaussian about that patch and predicts the
    mean of all patch centres, weighted by the softmax of the product / temperature (Lee et al., SFNet, CVPR
    2019, section 3.2; INSID3, CVPR 2026, with 7 patches and 0.04).

    Attributes:
        window: odd side of the window in patches.
        sigma: standard deviation of the Gaussian in patches.
        temperature: of the softmax.
    """

    kind: ReadoutKind = "argmax"
    window: int = 1
    temperature: float = 1.0
    sigma: float = 7.0

    def __call__(self, similarity: Tensor, best: Tensor, grid: Grid) -> NDArray[np.float64]:
        """Predicted (row, column) `(R, 2)`, in patches, 0 being the centre of the first one.

        Args:
            similarity: `(R, N)`, row-major over the grid.
            best: `(R,)` the most similar patch, the first of equals.
        """
        rows, columns = grid
        row, column = best // columns, best % columns
        if self.kind == "argmax":
            return torch.stack([row, column], dim=1).cpu().numpy().astype(np.float64)
        if self.kind == "kernel":
            return self._under_gaussian(similarity, row, column, grid)
        reach = self.window // 2
        step = torch.arange(-reach, reach + 1, device=similarity.device)
        near_rows, near_columns = row.unsqueeze(1) + step, column.unsqueeze(1) + step  # (R, window)
        exists = ((near_rows >= 0) & (near_rows < rows)).unsqueeze(2) & (
            (near_columns >= 0) & (near_columns < columns)
        ).unsqueeze(1)  # (R, window, window)
        patch = near_rows.clamp(0, rows - 1).unsqueeze(2) * columns + near_columns.clamp(
            0, columns - 1
        ).unsqueeze(1)
        # in float64: a low temperature magnifies rounding
        logit = similarity.gather(1, patch.flatten(1)).double() / self.temperature
        weight = torch.softmax(logit.masked_fill(~exists.flatten(1), -torch.inf), dim=1).view(patch.shape)
        mean_row = (weight.sum(dim=2) * near_rows).sum(dim=1)
        mean_column = (weight.sum(dim=1) * near_columns).sum(dim=1)
        return torch.stack([mean_row, mean_column], dim=1).cpu().numpy()

    def _under_gaussian(
        self, similarity: Tensor, row: Tensor, column: Tensor, grid: Grid
    ) -> NDArray[np.float64]:
        """The mean place (row, column) `(R, 2)` of all patches, weighted about one of each row."""
        along = [torch.arange(count, device=similarity.device, dtype=torch.float64) for count in grid]
        down, across = (
            torch.exp(-((places - middle.unsqueeze(1)) ** 2) / (2 * self.sigma**2))
            for places, middle in zip(along, (row, column), strict=True)
        )
        maps = similarity.view(-1, *grid)  # (R, rows, columns)
        # far away the Gaussian is 0, and 0 times the minus infinity of a barred patch no number
        near = (down.unsqueeze(2) * across.unsqueeze(1) * maps).masked_fill(maps.isneginf(), -torch.inf)
        weight = torch.softmax((near / self.temperature).flatten(1), dim=1).view(near.shape)
        means = weight.sum(dim=2) @ along[0], weight.sum(dim=1) @ along[1]
        return torch.stack(means, dim=1).cpu().numpy()


def best_patch(similarity: Tensor) -> Tensor:
    """Most similar patch `(R,)` of each row `(R, N)`, the first of equals."""
    if similarity.device.type == "cpu":  # where NumPy takes a tenth of PyTorch's time
        return torch.from_numpy(similarity.numpy().argmax(axis=1))
    return similarity.argmax(dim=1)


def place(position: NDArray[np.float64], box: NDArray[np.floating], grid: Grid) -> NDArray[np.float64]:
    """Points `(R, 2)` as (x, y) at positions (row, column) `(R, 2)`, in the unit of the box.

    A whole position is the centre of its patch, as in `spheremap.features.geometry.patch_centres`.
    """
    rows, columns = grid
    x0, y0, x1, y1 = np.asarray(box, dtype=np.float64)
    x = x0 + (position[:, 1] + 0.5) / columns * (x1 - x0)
    y = y0 + (position[:, 0] + 0.5) / rows * (y1 - y0)
    return np.stack([x, y], axis=1)

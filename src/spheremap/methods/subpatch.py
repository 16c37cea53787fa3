"""Places between patches: the peak of a quadratic surface through the best patch and its eight neighbours."""

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from spheremap.features.geometry import Grid
from spheremap.methods.engine.method import PARAMETERS, Method, Variant
from spheremap.methods.engine.readout import Readout

REACH = 0.5  # patches that a peak may lie from the centre of the best one


@dataclass(frozen=True, config=PARAMETERS)
class Subpatch(Variant):
    """Another method, with places read at the peak of a quadratic; its similarities stay as they are."""

    of: Method = Field(description="The other method.")

    def read(self, similarity: Tensor, best: Tensor, grid: Grid, readout: Readout) -> NDArray[np.float64]:
        """See `quadratic_peak`; the protocol's way is not used."""
        return quadratic_peak(similarity, best, grid)


def quadratic_peak(similarity: Tensor, best: Tensor, grid: Grid) -> NDArray[np.float64]:
    """(row, column) `(R, 2)`, in patches, of the peak near the most similar patch; there are no parameters.

    `a + b x + c y + d x² + e y² + f x y` is fitted by least squares to the similarities of the 3×3 patches
    about the best one, and the place where its gradient vanishes, at most half a patch away in each axis, is
    taken. The best patch's own centre is taken where it lies at the border of the grid, and where the surface
    has no maximum.

    Args:
        similarity: `(R, N)`, row-major over the grid.
        best: `(R,)` the most similar patch, the first of equals.
    """
    rows, columns = grid
    row, column = best // columns, best % columns
    within = (row > 0) & (row < rows - 1) & (column > 0) & (column < columns - 1)
    step = torch.arange(-1, 2, device=best.device)
    near = (row.clamp(1, max(rows - 2, 1)).view(-1, 1, 1) + step.view(1, 3, 1)) * columns + (
        column.clamp(1, max(columns - 2, 1)).view(-1, 1, 1) + step
    )
    near = near.clamp(0, similarity.shape[1] - 1)  # a grid of one or two patches has no inside
    z = similarity.gather(1, near.flatten(1)).double().view(-1, 3, 3)
    # the columns of the least-squares problem are orthogonal but for the three even ones
    across, down = z.sum(dim=1), z.sum(dim=2)  # by column and by row
    b, c = (across[:, 2] - across[:, 0]) / 6, (down[:, 2] - down[:, 0]) / 6
    d = (across[:, 0] - 2 * across[:, 1] + across[:, 2]) / 6
    e = (down[:, 0] - 2 * down[:, 1] + down[:, 2]) / 6
    f = (z[:, 2, 2] - z[:, 2, 0] - z[:, 0, 2] + z[:, 0, 0]) / 4
    curvature = 4 * d * e - f * f  # determinant of the Hessian
    peaked = within & (d < 0) & (curvature > 0)
    curvature = torch.where(peaked, curvature, 1.0)
    to_right = ((f * c - 2 * e * b) / curvature).clamp(-REACH, REACH)
    downwards = ((f * b - 2 * d * c) / curvature).clamp(-REACH, REACH)
    offset = torch.stack([downwards, to_right], dim=1)
    position = torch.stack([row, column], dim=1).double()
    return (position + torch.where(peaked.unsqueeze(1), offset, 0.0)).cpu().numpy()

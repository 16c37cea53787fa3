"""The rows of the results table: what each compares, which matches it doubts, how it reads a place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spheremap.config.scoring import Further as FurtherRows
from spheremap.features.geometry import Grid
from spheremap.methods.descriptors import row_weights
from spheremap.methods.mutual import Mutual
from spheremap.methods.subpatch import quadratic_peak
from spheremap.methods.viewpoint import Viewpoint

Place = Callable[[Tensor, Tensor, Grid], NDArray[np.float64]]  # as `readout.Readout`


@dataclass(frozen=True)
class Row:
    """How one row of the table answers.

    Attributes:
        weights: of the features' and of the sphere's cosine.
        viewpoint: if given, the weights of each pair instead.
        mutual: if given, what lowers the similarity of doubtful matches.
        place: how a place is read from the similarities; None: as the protocol says.
    """

    weights: tuple[float, float]
    viewpoint: Viewpoint | None = None
    mutual: Mutual | None = None
    place: Place | None = None

    @property
    def on_sphere(self) -> bool:
        """Whether it needs sphere points."""
        return self.weights[1] != 0 or self.viewpoint is not None


Rows = Mapping[str, Row]


def paper_rows(sphere_weight: float) -> dict[str, Row]:
    """The rows `features`, `sphere` and `fused`, see `descriptors.row_weights`.

    Raises:
        InputError: if `sphere_weight` lies outside [0, 1].
    """
    return {name: Row(weights) for name, weights in row_weights(sphere_weight).items()}


def adapted_rows(sphere_weight: float) -> dict[str, Row]:
    """The rows that compare features refined by an adapter: `adapted` alone, `adapted_fused` with the sphere.

    Raises:
        InputError: if `sphere_weight` lies outside [0, 1].
    """
    weights = row_weights(sphere_weight)
    return {"adapted": Row(weights["features"]), "adapted_fused": Row(weights["fused"])}


def table_rows(sphere_weight: float, further: FurtherRows) -> dict[str, Row]:
    """All rows that compare descriptors: the paper's, and those of `further`.

    Raises:
        InputError: if `sphere_weight` lies outside [0, 1].
    """
    rows = paper_rows(sphere_weight)
    fused = rows["fused"].weights
    variants = {
        "subpatch": Row(fused, place=quadratic_peak),
        "mutual": Row(fused, mutual=Mutual(further.mutual.radius, further.mutual.penalty)),
        "viewpoint": Row(fused, viewpoint=Viewpoint(further.viewpoint.near, further.viewpoint.far)),
    }
    return rows | {f"fused_{name}": variants[name] for name in variants if name in further.rows}

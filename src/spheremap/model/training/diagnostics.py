"""Is the sphere a good one? Diagnostics that small losses cannot fake."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spheremap.kernels import draw_key, draw_triplets
from spheremap.kernels.sphere_geometry import STREAMS, image_turn, sphere_turn
from spheremap.kernels.vectors import unit
from spheremap.model.head import Head
from spheremap.model.training.batches import Views
from spheremap.model.training.chirality import image_chirality, rising_axis, upward

MEASURES = ("resultant_length", "coverage", "orientation_kept", "upright", "chirality")
VIEWS = 64  # measured, spread evenly over the cache
CATEGORY_VIEWS = 16  # measured of each category, spread evenly over its azimuths
TRIPLETS = 256  # per view
BANDS, SECTORS = 8, 16  # equal steps in height and longitude: cells of equal area (Archimedes)
_BATCH = 16


class Diagnostics:
    """Measures a head on the same views and triplets every time.

    - resultant_length: length of the mean of an image's foreground points, averaged over the images; 1 is a
      collapse of each image to one point.
    - coverage: exp(entropy) of the histogram of all points over 128 cells of equal area, as a share of the
      cells; 1 is an even spread over the whole sphere, 1 / 128 a single cell.
    - orientation_kept: share of the triplets with `|det| > threshold` in the image that turn the same way on
      the sphere; 0.5 is chance. NaN if there is no such triplet.
    - upright: see `upright`; of the category where it is lowest.
    - chirality: see `chirality`; of the category where it is lowest. NaN where no category has one.
    """

    def __init__(self, views: Views, threshold: float, seed: int) -> None:
        count = min(VIEWS, len(views.usable))
        chosen = views.usable[np.linspace(0, len(views.usable) - 1, count).round().astype(int)]
        self._parts = np.array_split(chosen, -(-count // _BATCH))
        self._views, self._threshold, self._seed = views, threshold, seed
        self._of_category = {}
        for category in np.unique(views.category[views.usable]):
            records = views.usable[views.category[views.usable] == category]
            known = records[views.all_round[records] & np.isfinite(views.azimuth[records])]
            self._of_category[int(category)] = _spread(records, views), _spread(known, views)

    @torch.inference_mode()
    def upright(self, head: Head) -> dict[str, float]:
        """How far views of a category agree on what is up, from 0 to 1: the length of the mean `upward`."""
        found = {}
        for category, (records, _) in self._of_category.items():
            points, rows, _ = self._points_and_positions(head, records, axis=0)
            each = [upward(*of) for of in zip(points, rows, strict=True)]
            found[head.categories[category]] = float(torch.stack(each).mean(0).norm())
        return found

    @torch.inference_mode()
    def chirality(self, head: Head) -> dict[str, float]:
        """Mean chirality of the views of each category that is seen from all round (`Views`), from -1 to 1.

        NaN where it is undefined; see `spheremap.model.training.chirality`.
        """
        found = {}
        for category, (_, records) in self._of_category.items():
            if not len(records):
                continue
            points, columns, azimuth = self._points_and_positions(head, records, axis=1)
            axis = rising_axis(torch.stack([unit(of.mean(0)) for of in points]), azimuth)
            each = [image_chirality(*of, axis) for of in zip(points, columns, strict=True)]
            found[head.categories[category]] = float(torch.stack(each).nanmean())
        return found

    def _points_and_positions(
        self, head: Head, records: NDArray[np.integer], axis: int
    ) -> tuple[Sequence[Tensor], Sequence[Tensor], Tensor]:
        """Of some views the points, their rows (axis 0) or columns (1), view by view, and the azimuths."""
        batch = self._views.batch(records)
        counts = batch.foreground.counts.tolist()
        positions = batch.coordinates[batch.foreground.patch][:, axis]
        return (
            head.mapper(batch.tokens, batch.foreground).split(counts),
            positions.split(counts),
            batch.azimuth,
        )

    @torch.inference_mode()
    def __call__(self, head: Head) -> dict[str, float]:
        """The measures by name."""
        lengths: list[Tensor] = []
        kept: list[Tensor] = []
        cells = torch.zeros(BANDS * SECTORS, dtype=torch.int64)
        for number, part in enumerate(self._parts):
            batch = self._views.batch(part)
            foreground = batch.foreground
            points = head.mapper(batch.tokens, foreground)
            lengths += [points_of.mean(0).norm() for points_of in points.split(foreground.counts.tolist())]
            cells += torch.bincount(cell_of(points).cpu(), minlength=len(cells))

            key = draw_key(self._seed, step=0, device=self._views.device)  # training's first step is 1
            triplets, _ = draw_triplets(
                foreground.offsets, foreground.counts, TRIPLETS, key, stream=len(STREAMS) + number
            )
            turn = image_turn(batch.coordinates[foreground.patch], triplets)
            agrees = sphere_turn(points, triplets) * turn.sign() > 0
            kept.append(agrees[turn.abs() > self._threshold])
        share = cells[cells > 0].double() / cells.sum()
        effective = torch.exp(-(share * share.log()).sum())
        chirality = min(
            (value for value in self.chirality(head).values() if value == value), default=math.nan
        )
        values: tuple[Tensor | float, ...] = (
            torch.stack(lengths).mean(),
            effective / len(cells),
            torch.cat(kept).double().mean(),
            min(self.upright(head).values()),
            chirality,
        )
        return dict(zip(MEASURES, map(float, values), strict=True))


def _spread(records: NDArray[np.integer], views: Views) -> NDArray[np.integer]:
    """At most `CATEGORY_VIEWS` of some records, spread evenly over their azimuths."""
    by_azimuth = records[np.argsort(views.azimuth[records], kind="stable")]
    count = min(CATEGORY_VIEWS, len(records))
    return by_azimuth[np.linspace(0, len(records) - 1, count).round().astype(int)]


def cell_of(points: Tensor) -> Tensor:
    """Number in [0, 128) of the equal-area cell that each unit vector `(M, 3)` falls in."""
    x, y, z = points.unbind(-1)
    band = ((z + 1) / 2 * BANDS).long().clamp(0, BANDS - 1)
    sector = ((torch.atan2(y, x) / (2 * torch.pi) + 0.5) * SECTORS).long().clamp(0, SECTORS - 1)
    return band * SECTORS + sector

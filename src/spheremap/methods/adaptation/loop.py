"""Training of the adapter on pseudo-labels that are made step by step, from seed and step alone."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spheremap.base.errors import SpheremapError
from spheremap.base.progress import progress
from spheremap.data.viewpoint_bins import azimuth_bin
from spheremap.methods.adaptation.adapter import Bottleneck
from spheremap.methods.adaptation.chains import Chain, Chains
from spheremap.methods.adaptation.loss import contrastive_loss, soft_targets
from spheremap.methods.adaptation.pseudo_labels import Rules, pseudo_labels
from spheremap.methods.adaptation.training import Course, fit
from spheremap.methods.engine.descriptors import unit
from spheremap.methods.engine.fitting import Fitted, Fitting
from spheremap.model.head import Head
from spheremap.model.training.batches import Views

if TYPE_CHECKING:
    from spheremap.methods.adapted import Adapted

_BATCH = 32  # views mapped to the sphere at once


def adapt(config: "Adapted", fitting: Fitting) -> Fitted:
    """Train an adapter; a run that was stopped goes on from its state to the same result.

    It is scored before the first step, every `config.validate_every` steps and at the end. The best is kept,
    even if that is step 0, the identity; without validation pairs it is the last. The curve has the columns
    step; means since the row before of the loss per match (`loss`), the matches per step (`matches`) and the
    share of the foreground patches of a view that find a match in another view of the chain (`kept`); and the
    score (`pck_point`), empty where it was not measured.

    Raises:
        InputError: if no chain can be built, or a validation score is not a number.
        SpheremapError: if no pseudo-label is found, or the loss is not finite.
    """
    bins, head = config.viewpoint_bins, fitting.head
    adapter = config.untrained(fitting.views.dim).to(fitting.device)
    views = Views(
        fitting.views,
        fitting.tables,
        head.categories,
        bins=bins,
        memory=fitting.memory,
        device=fitting.device,
    )
    validator = fitting.validation(config, config.validation, config.seed)
    chains = Chains(
        views.usable,
        views.category,
        azimuth_bin(np.degrees(views.azimuth), bins),
        views.image,
        bins=bins,
        length=config.chain,
        hop=config.hop,
    )
    points = SpherePoints(head, views)
    targets = soft_targets(views.grid, config.spread).to(adapter.device)
    optimiser = torch.optim.Adam(adapter.parameters(), lr=config.learning_rate, fused=True)

    def step(number: int) -> Tensor:
        drawn = chains.of_step(number, config.batch, config.seed)
        return _step(adapter, optimiser, views, points, targets, drawn, config, number)

    course = Course("adapting", ("loss", "matches", "kept"), 4, step, _row)
    return fit(adapter, optimiser, course, config, fitting, validator)


class SpherePoints:
    """Sphere points of the foreground of all views, computed once: 12 bytes per foreground patch."""

    def __init__(self, head: Head, views: Views) -> None:
        parts: list[Tensor] = []
        counts = np.zeros(len(views.image), dtype=np.int64)
        with (
            progress(total=len(views.usable), desc="mapping views", unit="views") as bar,
            torch.inference_mode(),
        ):
            for start in range(0, len(views.usable), _BATCH):
                records = views.usable[start : start + _BATCH]
                batch = views.batch(records)
                parts.append(unit(head.mapper(batch.tokens, batch.foreground)))
                counts[records] = batch.foreground.counts.cpu().numpy()
                bar.update(len(records))
        self._packed = torch.cat(parts)  # (all, 3), in the order of the records
        self._stops = np.cumsum(counts)
        self._counts = counts

    def of(self, records: NDArray[np.integer]) -> Tensor:
        """Points `(M, 3)` of some views, packed as in their `Foreground`."""
        return torch.cat(
            [
                self._packed[stop - count : stop]
                for stop, count in zip(self._stops[records], self._counts[records], strict=True)
            ]
        )


def _step(
    adapter: Bottleneck,
    optimiser: torch.optim.Optimizer,
    views: Views,
    points: SpherePoints,
    targets: Tensor,
    chains: Sequence[Chain],
    config: "Adapted",
    step: int,
) -> Tensor:
    """One step of the optimiser: summed loss and counts, `(4,)` on the host."""
    records = np.concatenate(chains)
    batch = views.batch(records)
    matches = pseudo_labels(
        unit(F.embedding(batch.foreground.rows, batch.tokens.flatten(0, 1))),
        points.of(records),
        batch.foreground,
        list(_ranges(chains)),
        Rules(config.sphere_weight, config.cycle_radius, config.angle, views.grid[1]),
        limit=config.matches,
        generator=np.random.default_rng([config.seed, step, 1]),
    )
    count = len(matches.source)
    loss = contrastive_loss(unit(adapter(batch.tokens)), matches, targets, config.temperature)
    (loss / max(count, 1)).backward()
    optimiser.step()
    optimiser.zero_grad()
    return torch.tensor([float(loss.detach()), count, matches.asked, matches.found], dtype=torch.float64)


def _ranges(chains: Sequence[Chain]) -> Iterator[range]:
    """Positions of each chain's views in the batch."""
    for start, stop in pairwise(accumulate(map(len, chains), initial=0)):
        yield range(start, stop)


def _row(sums: Sequence[float], steps: int) -> dict[str, float]:
    loss, matches, asked, found = sums
    if not matches:
        raise SpheremapError(
            "no match passed as a pseudo-label",
            expected="some in every interval of log_every steps",
            found=f"none in {steps} steps, of {int(asked)} foreground patches that looked for one",
            fix="raise angle or cycle_radius of the method, and check the diagnostics of the sphere",
        )
    return {"loss": loss / matches, "matches": matches / steps, "kept": found / asked}

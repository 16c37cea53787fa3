"""Training of the adapter on pseudo-labels that are made step by step, from seed and step alone."""

import sys
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
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
from spheremap.methods.engine.descriptors import unit
from spheremap.methods.engine.fitting import Fitted, Fitting, Validator
from spheremap.model.head import Head
from spheremap.model.training.batches import Views
from spheremap.model.training.state import TrainState, load_state, save_state

if TYPE_CHECKING:
    from spheremap.methods.adapted import Adapted

COLUMNS = ("step", "loss", "matches", "kept", "pck_point")
_BATCH = 32  # views mapped to the sphere at once


def adapt(config: "Adapted", fitting: Fitting) -> Fitted:
    """Train an adapter; a run that was stopped goes on from its state to the same result.

    It is scored before the first step, every `config.validate_every` steps and at the end. The best is kept,
    and be it the identity of step 0; without validation pairs it is the last. The curve has the columns
    `COLUMNS`: means since the row before of the loss per match, the matches per step and the share of the
    foreground patches of a view that find a match in another view of the chain; and the score, empty where
    it was not measured.

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

    found = load_state(fitting.state, adapter, optimiser, fitting.identity)
    if isinstance(found, str):
        print(found, file=sys.stderr)
    if isinstance(found, TrainState):
        print(f"going on from step {found.step}", file=sys.stderr)
        state = found
    else:
        state = TrainState(step=0, sums=torch.zeros(4, dtype=torch.float64))
        _examine(adapter, state, validator)

    with progress(total=config.steps, initial=state.step, desc="adapting", unit="steps") as bar:
        while state.step < config.steps:
            state.step += 1
            drawn = chains.of_step(state.step, config.batch, config.seed)
            state.sums += _step(adapter, optimiser, views, points, targets, drawn, config, state.step)
            state.summed += 1
            bar.update()

            at_end = state.step == config.steps
            if state.step % config.log_every == 0 or at_end:
                bar.set_postfix(_log(state))
            if state.step % config.validate_every == 0 or at_end:
                _examine(adapter, state, validator)
            if state.step % config.save_every == 0 or at_end:
                _require_finite(state)
                save_state(fitting.state, state, adapter, optimiser, fitting.identity)

    state.restore_best(adapter)
    curve = pd.DataFrame(state.losses, columns=COLUMNS[:-1]).merge(
        pd.DataFrame(state.validation, columns=["step", "pck_point"]), on="step", how="outer", sort=True
    )
    return Fitted(adapter, state.best_step, curve.astype({"step": int}))


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


def _log(state: TrainState) -> dict[str, str]:
    """Add a row of means since the last one; returns them for the progress bar."""
    _require_finite(state)
    loss, matches, asked, found = state.sums.tolist()
    if not matches:
        raise SpheremapError(
            "no match passed as a pseudo-label",
            expected="some in every interval of log_every steps",
            found=f"none in {state.summed} steps, of {int(asked)} foreground patches that looked for one",
            fix="raise angle or cycle_radius of the method, and check the diagnostics of the sphere",
        )
    row = {"loss": loss / matches, "matches": matches / state.summed, "kept": found / asked}
    state.losses.append({"step": state.step, **row})
    state.sums.zero_()
    state.summed = 0
    return {name: f"{value:.3g}" for name, value in row.items()}


def _examine(adapter: Bottleneck, state: TrainState, validator: Validator | None) -> None:
    """Measure the validation score; remember the adapter if it is the best."""
    _require_finite(state)
    if validator is None:
        state.best_step = state.step
        return
    score = float(validator(adapter))
    state.note_score(score, adapter)


def _require_finite(state: TrainState) -> None:
    if not bool(state.sums.isfinite().all()):
        raise SpheremapError(
            "training diverged: the loss is not finite",
            expected="finite losses",
            found=f"inf or NaN at step {state.step} or up to {max(state.summed - 1, 0)} steps before",
            fix="lower learning_rate of the method, and check the features for inf and NaN",
        )

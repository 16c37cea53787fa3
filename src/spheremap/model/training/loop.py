"""The training loop (Mariotti et al. 2024, Section 4: Adam on the weighted sum of the four losses)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from spheremap.base.errors import SpheremapError
from spheremap.base.progress import progress
from spheremap.kernels import draw_key
from spheremap.model.head import Head
from spheremap.model.losses import patch_coordinates
from spheremap.model.training.batches import Views, batches
from spheremap.model.training.compiled import choose_losses
from spheremap.model.training.config import TrainConfig
from spheremap.model.training.group import ALONE, Group
from spheremap.model.training.health import MEASURES, HealthProbe
from spheremap.model.training.shares import Share
from spheremap.model.training.state import TrainState, load_state, save_state
from spheremap.model.training.step import LOSSES, weight_vector

Validator = Callable[[Head], float]  # the higher the better; must not change the head

LOSS_COLUMNS = ("step", "epoch", "total", *LOSSES)
HEALTH_COLUMNS = ("step", *MEASURES)
VALIDATION_COLUMNS = ("step", "pck_point")


@dataclass(frozen=True)
class TrainResult:
    """What training leaves: the head is the one passed in, set to its best parameters.

    `best_step` is the step they come from; the tables have the columns `LOSS_COLUMNS` (means over the steps
    since the row before; the total is theirs, with the weights of the row's step), `HEALTH_COLUMNS` and
    `VALIDATION_COLUMNS`.
    """

    best_step: int
    losses: pd.DataFrame
    health: pd.DataFrame
    validation: pd.DataFrame


def train(
    head: Head,
    views: Views,
    config: TrainConfig,
    *,
    state_path: Path,
    identity: str,
    validator: Validator | None,
    group: Group = ALONE,
) -> TrainResult:
    """Train a head on cached views; a run that was stopped goes on from its state to the same result.

    Several processes that train together call this with the same arguments, each on its own device. All end
    with the last head but the leading one, which validates, writes the state and returns the result.

    Args:
        head: as initialised for this run, on the device to train on.
        views: the training set, on the same device.
        config: see `TrainConfig`.
        state_path: where the state is saved every `config.save_every` steps; the caller removes it.
        identity: of all that determines the result; a state with another one is ignored.
        validator: scores the head every `config.validate_every` steps and at the end, the best trained head
            is kept; None keeps the last.
        group: the processes that train together.

    Raises:
        InputError: if a validation score is not a number, or a batch has fewer views than processes.
        SpheremapError: if a loss is not finite, or another process has ended or differs.
    """
    device = head.device
    weights = weight_vector(config.weights, device)
    coordinates = patch_coordinates(views.grid, device)
    probe = HealthProbe(views, config.orientation_threshold, config.seed)
    optimiser = torch.optim.Adam(head.trainable().values(), lr=config.learning_rate, fused=True)

    found = load_state(state_path, head, optimiser, identity)
    if isinstance(found, str):
        group.say(found)
    resumed = isinstance(found, TrainState)
    state = found if isinstance(found, TrainState) else TrainState.start(device)
    group.agree("parameters, inputs or versions", identity)
    group.agree("the state that they go on from", str(state.step), *head.trainable().values())
    if resumed:
        group.say(f"going on from step {state.step}")
    elif group.leads:
        _examine(head, state, probe, validator)

    size = min(config.batch, len(views.usable))
    if size < config.batch:
        group.say(f"train.batch is {config.batch}: all {size} training views make one batch")
    part = group.share(size)
    key = draw_key(config.seed, state.step, device, first=part.start)
    patches = views.grid[0] * views.grid[1]
    losses_of, grain = choose_losses(config, device, part.stop - part.start, patches, group)
    order = batches(
        views,
        batch=size,
        seed=config.seed,
        first=state.step + 1,
        last=config.steps,
        grain=grain,
        share=Share(part, views.grid, config) if group.size > 1 else None,
    )
    with progress(total=config.steps, initial=state.step, desc="training", unit="steps") as bar:
        for batch in order:
            state.step += 1
            _set_rate(optimiser, config.rate(state.step))
            weights[LOSSES.index("viewpoint")] = config.viewpoint_weight(state.step)
            key[1].add_(1)  # = state.step, without a copy from the host
            losses = losses_of(head, batch, coordinates, config, key)
            (weights @ losses).backward()
            losses = group.add_gradients(head.trainable().values(), losses.detach())
            if config.gradient_clip is not None:  # of the whole batch, so that processes stay alike
                clip_grad_norm_(head.trainable().values(), config.gradient_clip)
            optimiser.step()
            optimiser.zero_grad()
            state.sums += losses
            state.summed += 1
            bar.update()

            at_end = state.step == config.steps
            save = state.step % config.save_every == 0 or at_end
            if save:
                group.agree("the head that they train", *head.trainable().values())
            if not group.leads:
                continue
            if state.step % config.log_every == 0 or at_end:
                bar.set_postfix(_log(state, weights, len(views.usable) // size))
            if state.step % config.validate_every == 0 or at_end:
                _examine(head, state, probe, validator)
            if save:
                _require_finite(state)
                save_state(state_path, state, head, optimiser, identity)

    _restore(head, state.best)
    return TrainResult(
        best_step=state.best_step,
        losses=pd.DataFrame(state.losses, columns=LOSS_COLUMNS),
        health=pd.DataFrame(state.health, columns=HEALTH_COLUMNS),
        validation=pd.DataFrame(state.validation, columns=VALIDATION_COLUMNS),
    )


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def _log(state: TrainState, weights: Tensor, steps_per_epoch: int) -> dict[str, str]:
    """Add a row of mean losses since the last one; returns them for the progress bar."""
    _require_finite(state)
    means = state.sums / state.summed
    values = {"total": float(weights @ means), **dict(zip(LOSSES, means.tolist(), strict=True))}
    epoch = (state.step - 1) // steps_per_epoch + 1
    state.losses.append({"step": state.step, "epoch": epoch, **values})
    state.sums.zero_()
    state.summed = 0
    return {name: f"{value:.3f}" for name, value in values.items()}


def _examine(head: Head, state: TrainState, probe: HealthProbe, validator: Validator | None) -> None:
    """Measure health and validation score; remember the head if it is the best trained one."""
    _require_finite(state)
    state.health.append({"step": state.step, **probe(head)})
    if validator is None:
        state.best_step = state.step
        return
    score = float(validator(head))
    state.note_score(score, head, keep=state.step > 0)


def _require_finite(state: TrainState) -> None:
    if not bool(state.sums.isfinite().all()):
        sums = dict(zip(LOSSES, state.sums.tolist(), strict=True))
        broken = [name for name, value in sums.items() if not abs(value) < float("inf")]
        raise SpheremapError(
            f"training diverged: the loss is not finite ({', '.join(broken)})",
            expected="finite losses",
            found=f"inf or NaN at step {state.step} or up to {max(state.summed - 1, 0)} steps before",
            fix="lower train.learning_rate, and check the features for inf and NaN",
        )


def _restore(head: Head, parameters: dict[str, Tensor]) -> None:
    own = head.trainable()
    with torch.no_grad():
        for name, tensor in parameters.items():
            own[name].copy_(tensor)

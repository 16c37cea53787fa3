"""The training loop (Mariotti et al. 2024, Section 4: Adam on the weighted sum of the losses)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from spheremap.base.errors import SpheremapError
from spheremap.base.progress import progress
from spheremap.config import Train as TrainConfig
from spheremap.kernels import draw_key
from spheremap.model.head import Head
from spheremap.model.training.batches import Views, batches
from spheremap.model.training.diagnostics import MEASURES, Diagnostics
from spheremap.model.training.distributed import check_same, mean_over_processes, part_of, rank, say
from spheremap.model.training.state import TrainState, load_state, save_state
from spheremap.model.training.step import build_losses

LEAST = 0.5  # below it a category's sphere counts as turned (chirality) or turned in part (upright)

Validator = Callable[[Head], float]  # the higher the better; must not change the head


@dataclass(frozen=True)
class TrainResult:
    """What training leaves: the head is the one passed in, with the parameters to keep.

    `best_step` is the step they come from. Each row of `losses` has means over the steps since the row before
    (step, epoch, total, and a column for each loss; the total is their weighted sum),
    of `diagnostics` the diagnostics of a step (`MEASURES`), of `validation` its score.
    """

    best_step: int
    losses: pd.DataFrame
    diagnostics: pd.DataFrame
    validation: pd.DataFrame


def train(
    head: Head,
    views: Views,
    config: TrainConfig,
    *,
    state_path: Path,
    identity: str,
    validator: Validator | None,
) -> TrainResult:
    """Train a head on cached views; a run that was stopped goes on from its state to the same result.

    Several processes that train together (`distributed.join`) call this with the same arguments, each on its
    own device. All end with the last head but the first one, which validates, writes the state and returns
    the result.

    Args:
        head: as initialised for this run, on the device to train on.
        views: the training set, on the same device.
        config: see `TrainConfig`.
        state_path: where the state is saved every `config.save_every` steps; the caller removes it.
        identity: of all that determines the result; a state with another one is ignored.
        validator: scores the head every `config.validate_every` steps and at the end, the best trained head
            is kept, or the last as `config.keep` says; None keeps the last.

    Raises:
        InputError: if a validation score is not a number, or a batch has fewer views than processes.
        SpheremapError: if a loss is not finite, or another process has ended or differs.
    """
    parameters = list(head.trainable().values())
    optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
    diagnostics = Diagnostics(views, config.orientation_threshold, config.seed)
    state = _start_or_resume(head, optimiser, config, state_path, identity)
    if state.step == 0 and rank() == 0:
        _examine(head, state, config, diagnostics, validator)

    size = min(config.batch, len(views.usable))
    if size < config.batch:
        say(f"train.batch is {config.batch}: all {size} training views make one batch")
    own = part_of(size)
    weights = torch.tensor(list(config.weights.values()), device=head.device)
    key = draw_key(config.seed, state.step, head.device, first=own.start)
    patches = views.grid[0] * views.grid[1]
    losses_of, pad_to = build_losses(head, config, batch=own.stop - own.start, patches=patches)
    order = batches(
        views,
        batch=size,
        seed=config.seed,
        first=state.step + 1,
        last=config.steps,
        part=own,
        pad_to=pad_to,
        noise=config.noise,
    )
    with progress(total=config.steps, initial=state.step, desc="training", unit="steps") as bar:
        for batch in order:
            state.step += 1
            for group in optimiser.param_groups:
                group["lr"] = config.rate(state.step)
            key[1].add_(1)  # = state.step, without a copy from the host
            losses, values = mean_over_processes(*losses_of(batch, key))
            (weights @ losses).backward()
            if config.gradient_clip is not None:
                clip_grad_norm_(parameters, config.gradient_clip)
            optimiser.step()
            optimiser.zero_grad()
            state.sums += values
            state.summed += 1
            bar.update()

            at_end = state.step == config.steps
            save = state.step % config.save_every == 0 or at_end
            if save:
                check_same("the head that they train", *parameters)
            if rank() > 0:
                continue
            if state.step % config.log_every == 0 or at_end:
                bar.set_postfix(_log(state, weights, config, len(views.usable) // size))
            if state.step % config.validate_every == 0 or at_end:
                _examine(head, state, config, diagnostics, validator)
            if save:
                _require_finite(state, config)
                save_state(state_path, state, head, optimiser, identity)

    state.restore_best(head)
    if rank() == 0:
        _report_sphere(diagnostics, head)
    return TrainResult(
        best_step=state.best_step,
        losses=pd.DataFrame(state.losses, columns=["step", "epoch", "total", *config.weights]),
        diagnostics=pd.DataFrame(state.diagnostics, columns=["step", *MEASURES]),
        validation=pd.DataFrame(state.validation, columns=["step", "pck_point"]),
    )


def _start_or_resume(
    head: Head, optimiser: torch.optim.Adam, config: TrainConfig, path: Path, identity: str
) -> TrainState:
    found = load_state(path, head, optimiser, identity)
    if isinstance(found, TrainState):
        state = found
        say(f"going on from step {state.step}")
    else:
        state = TrainState(step=0, sums=torch.zeros(len(config.weights), device=head.device))
        if found is not None:
            say(found)
    check_same("parameters, inputs or versions", identity)
    check_same("the state that they go on from", str(state.step), *head.trainable().values())
    return state


def _log(state: TrainState, weights: Tensor, config: TrainConfig, steps_per_epoch: int) -> dict[str, str]:
    """Add a row of mean losses since the last one; returns them for the progress bar."""
    _require_finite(state, config)
    means = state.sums / state.summed
    values = {"total": float(weights @ means), **dict(zip(config.weights, means.tolist(), strict=True))}
    epoch = (state.step - 1) // steps_per_epoch + 1
    state.losses.append({"step": state.step, "epoch": epoch, **values})
    state.sums.zero_()
    state.summed = 0
    return {name: f"{value:.3f}" for name, value in values.items()}


def _examine(
    head: Head,
    state: TrainState,
    config: TrainConfig,
    diagnostics: Diagnostics,
    validator: Validator | None,
) -> None:
    """Take diagnostics and validation score; remember the head if it is the best trained one."""
    _require_finite(state, config)
    state.diagnostics.append({"step": state.step, **diagnostics(head)})
    if validator is None or config.keep == "last":
        state.best_step = state.step
    if validator is not None:
        state.note_score(float(validator(head)), head, keep=state.step > 0 and config.keep == "best")


def _report_sphere(diagnostics: Diagnostics, head: Head) -> None:
    for measure, by_category, means in (
        ("chirality", diagnostics.chirality(head), "parts slide over the sphere as the camera moves"),
        ("upright", diagnostics.upright(head), "some views may be turned by half a turn against the others"),
    ):
        undefined = [name for name, value in by_category.items() if math.isnan(value)]
        low = [f"{name} {value:.2f}" for name, value in by_category.items() if value < LEAST]
        if undefined:
            say(f"warning: {measure} is undefined ({', '.join(undefined)}): all points are one")
        if low:
            say(
                f"warning: {measure} below {LEAST} ({', '.join(low)}): {means}, so that matching gains "
                "little; see docs/concepts.md"
            )
        elif by_category and not undefined:
            say(f"{measure} {min(by_category.values()):.2f} or more in each category")


def _require_finite(state: TrainState, config: TrainConfig) -> None:
    if not bool(state.sums.isfinite().all()):
        sums = dict(zip(config.weights, state.sums.tolist(), strict=True))
        broken = [name for name, value in sums.items() if not abs(value) < float("inf")]
        raise SpheremapError(
            f"training diverged: the loss is not finite ({', '.join(broken)})",
            expected="finite losses",
            found=f"inf or NaN at step {state.step} or up to {max(state.summed - 1, 0)} steps before",
            fix="lower train.learning_rate, and check the features for inf and NaN",
        )

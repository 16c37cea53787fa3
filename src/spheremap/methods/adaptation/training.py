"""The loop in which a method's network is trained: logged, validated, and resumed after a kill."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd
import torch
from torch import Tensor, nn

from spheremap.base.errors import SpheremapError
from spheremap.base.progress import progress
from spheremap.methods.engine.fitting import Fitted, Fitting, Validator
from spheremap.model.training.state import Trainable, TrainState, load_state, save_state


class Schedule(Protocol):
    """How long a network is trained; the fields of the methods that use this loop."""

    @property
    def steps(self) -> int: ...

    @property
    def log_every(self) -> int: ...

    @property
    def validate_every(self) -> int: ...

    @property
    def save_every(self) -> int: ...


@dataclass(frozen=True)
class Course:
    """What is particular to a method.

    Attributes:
        name: of the progress bar.
        columns: of the curve, between `step` and `pck_point`.
        sums: k, how many numbers are summed over the steps.
        step: takes a step of the optimiser, of a number that counts from 1; returns what is summed `(k,)`, on
            the host. It depends on the network, the optimiser and that number alone.
        row: the columns from the sums since the last row and the number of steps in them.
    """

    name: str
    columns: Sequence[str]
    sums: int
    step: Callable[[int], Tensor]
    row: Callable[[Sequence[float], int], dict[str, float]]


def fit(
    network: Trainable,
    optimiser: torch.optim.Adam,
    course: Course,
    schedule: Schedule,
    fitting: Fitting,
    validator: Validator | None,
) -> Fitted:
    """Train a network; a run that was stopped goes on from its state to the same result.

    It is scored before the first step, every `validate_every` steps and at the end. The best is kept,
    even if that is step 0; without a validator it is the last.

    Raises:
        InputError: if a validation score is not a number.
        SpheremapError: if the loss is not finite.
    """
    found = load_state(fitting.state, network, optimiser, fitting.identity)
    if isinstance(found, str):
        print(found, file=sys.stderr)
    if isinstance(found, TrainState):
        print(f"going on from step {found.step}", file=sys.stderr)
        state = found
    else:
        state = TrainState(step=0, sums=torch.zeros(course.sums, dtype=torch.float64))
        _examine(network, state, validator)

    with progress(total=schedule.steps, initial=state.step, desc=course.name, unit="steps") as bar:
        while state.step < schedule.steps:
            state.step += 1
            state.sums += course.step(state.step)
            state.summed += 1
            bar.update()

            at_end = state.step == schedule.steps
            if state.step % schedule.log_every == 0 or at_end:
                bar.set_postfix(_log(state, course))
            if state.step % schedule.validate_every == 0 or at_end:
                _examine(network, state, validator)
            if state.step % schedule.save_every == 0 or at_end:
                _require_finite(state)
                save_state(fitting.state, state, network, optimiser, fitting.identity)

    state.restore_best(network)
    assert isinstance(network, nn.Module)
    curve = pd.DataFrame(state.losses, columns=["step", *course.columns]).merge(
        pd.DataFrame(state.validation, columns=["step", "pck_point"]), on="step", how="outer", sort=True
    )
    return Fitted(network, state.best_step, curve.astype({"step": int}))


def _log(state: TrainState, course: Course) -> dict[str, str]:
    """Add a row of the curve; returns it for the progress bar."""
    _require_finite(state)
    row = course.row(state.sums.tolist(), state.summed)
    state.losses.append({"step": state.step, **row})
    state.sums.zero_()
    state.summed = 0
    return {name: f"{value:.3g}" for name, value in row.items()}


def _examine(network: Trainable, state: TrainState, validator: Validator | None) -> None:
    """Measure the validation score; remember the network if it is the best."""
    _require_finite(state)
    if validator is None:
        state.best_step = state.step
        return
    state.note_score(float(validator(network)), network)


def _require_finite(state: TrainState) -> None:
    if not bool(state.sums.isfinite().all()):
        raise SpheremapError(
            "training diverged: the loss is not finite",
            expected="finite losses",
            found=f"inf or NaN at step {state.step} or up to {max(state.summed - 1, 0)} steps before",
            fix="lower learning_rate of the method, and check the features for inf and NaN",
        )

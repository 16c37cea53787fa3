"""The state of an unfinished training run, from which it goes on to the very same end."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from spheremap.base.errors import InputError
from spheremap.base.tensors import read_tensors, write_tensors

_HEAD, _BEST, _MEAN, _SQUARE, _SUMS = "head/", "best/", "adam/mean/", "adam/square/", "sums"

Row = dict[str, float]


class Trainable(Protocol):
    """A head, or whatever else is trained."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        ...

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters by name."""
        ...


@dataclass
class TrainState:
    """Everything that changes while training; random numbers depend on seed and step alone and need no state.

    Attributes:
        step: steps done.
        sums: losses summed since the last row of the log.
        summed: number of steps in them.
        best_step: step of the best head so far, 0 for none.
        best_score: its validation score.
        best: its trainable parameters by name.
        losses, diagnostics, validation: rows of the CSV files.
    """

    step: int
    sums: Tensor
    summed: int = 0
    best_step: int = 0
    best_score: float = float("-inf")
    best: dict[str, Tensor] = field(default_factory=dict)
    losses: list[Row] = field(default_factory=list)
    diagnostics: list[Row] = field(default_factory=list)
    validation: list[Row] = field(default_factory=list)

    def note_score(self, score: float, trained: Trainable, *, keep: bool = True) -> None:
        """Add a validation score of the current step, and remember the parameters if it is the best so far.

        Raises:
            InputError: if it is not a number.
        """
        if score != score:
            raise InputError(
                "the validation score is not a number",
                expected="pairs of the split 'val' that share visible keypoints",
                fix="check keypoints.csv and pairs.csv",
            )
        self.validation.append({"step": self.step, "pck_point": score})
        if keep and score > self.best_score:
            self.best_step, self.best_score = self.step, score
            self.best = {name: parameter.detach().clone() for name, parameter in trained.trainable().items()}

    def restore_best(self, trained: Trainable) -> None:
        """Set the parameters to the best ones, if any were scored."""
        own = trained.trainable()
        with torch.no_grad():
            for name, tensor in self.best.items():
                own[name].copy_(tensor)


_SCALARS = ("step", "summed", "best_step", "best_score", "losses", "diagnostics", "validation")


def save_state(
    path: Path, state: TrainState, head: Trainable, optimiser: torch.optim.Adam, identity: str
) -> None:
    """Write the state atomically, sealed: a damaged one is noticed.

    Args:
        path: a safetensors file.
        state: see `TrainState`.
        head: with the current parameters.
        optimiser: Adam over `head.trainable()`, in its order.
        identity: of parameters and inputs; only a run with the same one goes on from here.
    """
    tensors = {_SUMS: state.sums, **{_BEST + name: tensor for name, tensor in state.best.items()}}
    for name, parameter in head.trainable().items():
        moments = optimiser.state[parameter]
        tensors |= {
            _HEAD + name: parameter.detach(),
            _MEAN + name: moments["exp_avg"],
            _SQUARE + name: moments["exp_avg_sq"],
        }
    content = {"identity": identity, **{name: getattr(state, name) for name in _SCALARS}}
    write_tensors(path, tensors, content)


def load_state(
    path: Path, head: Trainable, optimiser: torch.optim.Adam, identity: str
) -> TrainState | str | None:
    """Restore head and optimiser.

    Returns:
        The state; or why the file is of no use, as a sentence; or None if there is no file.
    """
    if not path.exists():
        return None
    try:
        tensors, content = read_tensors(path)
    except (OSError, SafetensorError, ValueError) as error:
        return f"{path} is not a training state ({error}); starting anew"
    if content is None or content.get("identity") != identity:
        return f"{path} belongs to a run with other parameters, features or versions; starting anew"
    device = head.device
    parameters = head.trainable()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[_HEAD + name])
    saved = optimiser.state_dict()
    saved["state"] = {
        number: {
            "step": torch.tensor(float(content["step"])),
            "exp_avg": tensors[_MEAN + name],
            "exp_avg_sq": tensors[_SQUARE + name],
        }
        for number, name in enumerate(parameters)
    }
    optimiser.load_state_dict(saved)
    best = {name.removeprefix(_BEST): t.to(device) for name, t in tensors.items() if name.startswith(_BEST)}
    return TrainState(sums=tensors[_SUMS].to(device), best=best, **{name: content[name] for name in _SCALARS})

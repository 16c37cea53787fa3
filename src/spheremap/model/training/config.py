"""Parameters of training, as params.yaml names them (section `train`)."""

import difflib
import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from spheremap.base.device import native_bfloat16
from spheremap.base.errors import InputError
from spheremap.kernels import Backend
from spheremap.model.losses import loss_names

Precision = Literal["auto", "float32", "bfloat16"]

Decay = Literal["none", "cosine"]
Viewpoint = Literal["relative", "anchored"]


# the paper's losses, in the order of the curves' columns; others follow
LOSS_WEIGHTS = {"reconstruction": 1.0, "distance": 0.3, "orientation": 0.3, "viewpoint": 0.1}


@dataclass(frozen=True)
class ValidationConfig:
    """How the best head is chosen: PCK per point of the fused similarity on pairs of the split `val`."""

    sphere_weight: float = 0.2
    alpha: float = 0.1  # of the larger side of the object's box
    pairs: int = 200  # at most this many, drawn with the training seed


@dataclass(frozen=True)
class TrainConfig:
    """The paper's optimiser, rate and batch are the defaults; see `spheremap.model.losses` for the rest."""

    steps: int
    seed: int = 0
    batch: int = 64  # views
    learning_rate: float = 1e-3
    warmup: int = 0  # steps in which the rate rises to `learning_rate`
    decay: Decay = "none"  # of the rate after that: none, or half a cosine, 0 right after the last step
    gradient_clip: float | None = None  # norm of the gradient at most; None: no limit
    # of the head's matrix products, see `settle_precision`; parameters, points and losses stay float32
    precision: Precision = "float32"
    backend: Backend = (
        "auto"  # auto: a compiled step with the Triton kernels on CUDA devices, else the reference
    )
    # of each loss in the total, by the name of its file in `spheremap.model.losses`; 0: only measured
    weights: dict[str, float] = field(default_factory=dict)
    viewpoint: Viewpoint = "relative"  # loss: between all pairs (the paper's), or to fixed directions
    viewpoint_ramp: tuple[int, int] = (0, 0)  # steps between which the weight of that loss rises from 0
    triplets: int = 32  # per view, for the distance and again for the orientation loss
    distance_margin: float = 0.5
    orientation_threshold: float = 0.7
    viewpoint_bins: int = 8
    log_every: int = 10  # steps
    validate_every: int = 100  # steps; diagnostics are taken then, too
    save_every: int = 100  # steps
    validation: ValidationConfig = ValidationConfig()

    def __post_init__(self) -> None:
        """Complete the weights by the paper's, and reject values that cannot work.

        Raises:
            InputError: naming the parameter.
        """
        object.__setattr__(self, "weights", LOSS_WEIGHTS | self.weights)
        counts = ("steps", "batch", "triplets", "viewpoint_bins", "log_every", "validate_every", "save_every")
        for name in counts:
            _require(getattr(self, name) >= 1, f"train.{name}", "1 or more", getattr(self, name))
        _require(0 <= self.seed < 2**63, "train.seed", "0 or more, below 2**63", self.seed)
        _require(self.warmup >= 0, "train.warmup", "0 or more", self.warmup)
        start, end = self.viewpoint_ramp
        _require(0 <= start <= end, "train.viewpoint_ramp", "[start, end], 0 <= start <= end", [start, end])
        _require(self.learning_rate > 0, "train.learning_rate", "more than 0", self.learning_rate)
        clip = self.gradient_clip
        _require(clip is None or clip > 0, "train.gradient_clip", "more than 0, or null", clip)
        _require(self.distance_margin >= 0, "train.distance_margin", "0 or more", self.distance_margin)
        threshold = self.orientation_threshold
        _require(0 <= threshold < 1, "train.orientation_threshold", "at least 0 and below 1", threshold)
        for name, weight in self.weights.items():
            if name not in loss_names():
                near = difflib.get_close_matches(name, loss_names(), n=1)
                raise InputError(
                    f"unknown loss 'train.weights.{name}'",
                    expected="one of " + ", ".join(loss_names()),
                    fix=f"did you mean {near[0]!r}?" if near else f"write model/losses/{name}.py",
                )
            _require(weight >= 0, f"train.weights.{name}", "0 or more", weight)
        validation = self.validation
        share = validation.sphere_weight
        _require(0 <= share <= 1, "train.validation.sphere_weight", "between 0 and 1", share)
        _require(validation.alpha > 0, "train.validation.alpha", "more than 0", validation.alpha)
        _require(validation.pairs >= 1, "train.validation.pairs", "1 or more", validation.pairs)

    def loss_weights(self, step: int) -> list[float]:
        """Factors of the losses in a step, counted from 1; the one of the viewpoint rises by its ramp."""
        start, end = self.viewpoint_ramp
        share = 1.0 if step >= end else max(0, step - start) / max(1, end - start)
        return [weight * share if name == "viewpoint" else weight for name, weight in self.weights.items()]

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 1."""
        if step <= self.warmup:
            return self.learning_rate * step / self.warmup
        if self.decay == "none":
            return self.learning_rate
        done = (step - 1 - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class TrainParams:
    """The slice of params.yaml that the command reads."""

    train: TrainConfig
    dataset: str


def settle_precision(config: TrainConfig, device: torch.device) -> TrainConfig:
    """Replace the precision `auto`: bfloat16 where the device multiplies matrices in it, else float32."""
    if config.precision != "auto":
        return config
    return replace(config, precision="bfloat16" if native_bfloat16(device) else "float32")


def _require(ok: bool, name: str, expected: str, found: object) -> None:
    if not ok:
        raise InputError(f"parameter {name!r} cannot be used", expected=expected, found=str(found))

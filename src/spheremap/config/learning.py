"""Section `train`: the spherical head, and how the best step of any training is chosen."""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from spheremap.base.choices import Backend, Precision
from spheremap.config.fields import STRICT, Count, Natural, NotNegative, Positive, Seed, Share, need, one_of

Decay = Literal["none", "cosine"]
Keep = Literal["best", "last"]


# the paper's losses, in the order of the curves' columns; others follow
LOSS_WEIGHTS = {"reconstruction": 1.0, "distance": 0.3, "orientation": 0.3, "viewpoint": 0.1}


def loss_files() -> list[str]:
    """Names of the losses that there are."""
    return _files("losses")


def head_files() -> list[str]:
    """Names of the heads that there are."""
    return _files("heads")


def _files(folder: str) -> list[str]:
    return sorted(path.stem for path in (Path(__file__).parents[1] / "model" / folder).glob("[!_]*.py"))


def _is_head(name: str) -> str:
    one_of(name, head_files(), "head", "model/heads")
    return name


def _complete(weights: dict[str, float]) -> dict[str, float]:
    """The weights in the order of the curves' columns: the paper's, and others that there are."""
    missing = [name for name in LOSS_WEIGHTS if name not in weights]
    need(not missing, f"missing: {', '.join(missing)}")
    for name in weights:
        one_of(name, loss_files(), "loss", "model/losses")
    need(
        not weights.get("order") or bool(weights.get("anchor")),
        "order turns about the axis that anchor settles: give both",
    )
    return {name: weights[name] for name in LOSS_WEIGHTS | weights}


@dataclass(frozen=True, config=STRICT)
class Validation:
    """How the best step is chosen: PCK per point of the fused similarity on pairs of the split val."""

    sphere_weight: Share = Field(description="Of the sphere in the fused similarity.")
    alpha: Positive = Field(description="PCK radius as a share of the longer side of the object's box.")
    pairs: Count = Field(description="Pairs scored, at most; drawn with the section's seed.")


@dataclass(frozen=True, config=STRICT)
class Train:
    """How the spherical head is trained."""

    head: Annotated[str, AfterValidator(_is_head)] = Field(
        description="Which one is trained, by the name of its file in model/heads."
    )
    steps: Count = Field(description="Optimiser steps.")
    seed: Seed = Field(description="Of everything drawn in training.")
    batch: Count = Field(description="Views per step.")
    learning_rate: Positive = Field(description="Of Adam.")
    warmup: Natural = Field(description="Steps in which the rate rises to learning_rate.")
    decay: Decay = Field(
        description="Of the rate after that: none, or half a period of the cosine, 0 after the last step."
    )
    gradient_clip: Positive | None = Field(
        description="Norm of the gradient at most, longer ones are shortened; null: no limit (the paper's)."
    )
    precision: Precision = Field(
        description="Of the head's matrix products; auto: bfloat16 where the device multiplies faster in it."
    )
    backend: Backend = Field(
        description="auto: Triton kernels and a compiled step on CUDA devices, else the reference in torch."
    )
    weights: Annotated[dict[str, NotNegative], AfterValidator(_complete)] = Field(
        description="Factor of each loss, by the name of its file in model/losses; 0: only measured."
    )
    noise: NotNegative = Field(
        description="Noise on the tokens that the mapper sees, as a share of each view's standard deviation; "
        "0: none (the paper's)."
    )
    triplets: Count = Field(
        description="Triplets of patches per view, for each of the losses distance and orientation; "
        "order and upright take the sides of as many."
    )
    distance_margin: NotNegative = Field(description="Margin of the distance loss.")
    orientation_threshold: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="Absolute determinant below which a triplet does not count, in the orientation loss "
        "and in its diagnostic."
    )
    viewpoint_bins: Count = Field(
        description="Azimuth bins of the losses viewpoint and anchor, and of chirality."
    )
    log_every: Count = Field(description="Steps between two rows of the losses.")
    validate_every: Count = Field(
        description="Steps between two validations; diagnostics are taken then, too."
    )
    save_every: Count = Field(description="Steps between two states that a killed run resumes from.")
    keep: Keep = Field(
        description="Which head: the best on the keypoints of validation, or the last (the authors')."
    )
    validation: Validation = Field(description="How the best head is chosen.")

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 1."""
        if step <= self.warmup:
            return self.learning_rate * step / self.warmup
        if self.decay == "none":
            return self.learning_rate
        done = (step - 1 - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (1 + math.cos(math.pi * done)) / 2


# of Mariotti et al. 2024, for use from Python: `dataclasses.replace(PAPERS_TRAIN, steps=…)`
PAPERS_TRAIN = Train(
    head="spherical_map", steps=1, seed=0, batch=64, learning_rate=1e-3, warmup=0, decay="none",
    gradient_clip=None, precision="float32", backend="auto", weights=LOSS_WEIGHTS,
    noise=0.0, triplets=32, distance_margin=0.5, orientation_threshold=0.7, viewpoint_bins=8,
    log_every=10, validate_every=100, save_every=100, keep="last", validation=Validation(0.2, 0.1, 200),
)  # fmt: skip

"""Features refined by an adapter that learned from the matches of which the sphere is sure."""

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from spheremap.config.fields import Count, Natural, NotNegative, Positive, Seed, Share
from spheremap.config.learning import Validation
from spheremap.methods.adaptation.adapter import Bottleneck
from spheremap.methods.adaptation.loop import adapt
from spheremap.methods.engine.comparison import Images
from spheremap.methods.engine.fitting import Fitted, Fitting
from spheremap.methods.engine.method import PARAMETERS, Method


@dataclass(frozen=True, config=PARAMETERS)
class Adapted(Method):
    """Cosine similarity of tokens refined by an adapter, which is trained on pseudo-labels.

    Refined tokens are in float16 like the tokens themselves; see `spheremap.methods.adaptation`.
    """

    seed: Seed = Field(description="Of everything drawn.")
    steps: Count = Field(description="Optimiser steps.")
    batch: Count = Field(description="Chains per step.")
    learning_rate: Positive = Field(description="Of Adam.")
    width: Count = Field(description="Units of the hidden layer.")
    sphere_weight: Share = Field(description="Of the sphere in the similarity that matches are read from.")
    chain: Annotated[int, Field(ge=2)] = Field(description="Views in a chain; two make a pair.")
    hop: Natural = Field(description="Azimuth bins between neighbours of a chain, at most.")
    viewpoint_bins: Count = Field(description="Azimuth bins.")
    cycle_radius: NotNegative = Field(
        description="Patches by which the way back may miss where a match began."
    )
    angle: Annotated[float, Field(gt=0, le=180)] = Field(
        description="Degrees between the ends of a match on the sphere, at most."
    )
    matches: Count = Field(description="Pseudo-labels used per pair of views, at most.")
    temperature: Positive = Field(description="Of the contrastive loss.")
    spread: NotNegative = Field(
        description="Standard deviation in patches of the soft target about a match; 0: the match alone."
    )
    log_every: Count = Field(description="Steps between two rows of the curve.")
    validate_every: Count = Field(description="Steps between two validations.")
    save_every: Count = Field(description="Steps between two states that a killed run resumes from.")
    validation: Validation = Field(description="How the best adapter is chosen.")

    def untrained(self, dim: int) -> Bottleneck:
        """The identity; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Bottleneck(dim, self.width)

    def fit(self, fitting: Fitting) -> Fitted:
        """Train the adapter, see `adapt`."""
        return adapt(self, fitting)

    @torch.inference_mode()
    def describe(self, images: Images) -> Tensor:
        """Refined tokens `(B, N, D)`, image by image to bound memory."""
        network = images.fitted(self)
        refined = [network(torch.from_numpy(image).to(network.device)) for image in images.tokens]
        return torch.stack(refined).half().cpu()

"""Features refined by a network that learned from annotated points: an upper bound with labels.

Source: Zhang et al., Telling Left from Right: Identifying Geometry-Aware Semantic Correspondence, CVPR 2024
(GeoAware-SC); written anew, since their code states no licence. Published: dropout 0.2, AdamW at 1.25e-3 with
weight decay 1e-3, one cycle, 2 epochs of pairs. Of its flips only those of both pictures of a pair are here,
where `features.mirror` caches mirrored views. The noise is another one: here it is added to the tokens; the
published 0.1 moves the true place of the dense loss, by a normal draw of 0.1 / 2 of the target's box side.
Published, too, that loss runs from source to target alone, in patches, at weight 1 and temperature 0.02.
"""

from math import log
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from spheremap.config.fields import Count, NotNegative, Positive, Seed
from spheremap.config.learning import Validation
from spheremap.methods.adaptation.bottleneck import GridBottleneck, refined
from spheremap.methods.adaptation.labelled import learn
from spheremap.methods.engine.comparison import Images
from spheremap.methods.engine.fitting import Fitted, Fitting
from spheremap.methods.engine.method import PARAMETERS, Method


class Labelled(GridBottleneck):
    """The bottleneck, and the temperature of the contrastive loss that it learns with."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.logit_scale = nn.Parameter(torch.tensor(log(1 / 0.07)))


@dataclass(frozen=True, config=PARAMETERS)
class Supervised(Method):
    """Cosine similarity of tokens refined over the grid, by a network trained on keypoints of training pairs.

    Unlike all others it sees annotated points of the split "train", and is no fair rival to those that do
    not. It learns from the training views, and keeps the step that is best on validation.
    """

    seed: Seed = Field(description="Of everything drawn.")
    steps: Count = Field(description="Optimiser steps.")
    batch: Count = Field(description="Pairs of views per step.")
    learning_rate: Positive = Field(description="Of AdamW, at the height of its one cycle.")
    weight_decay: NotNegative = Field(description="Of AdamW.")
    noise: NotNegative = Field(description="On the tokens, in their standard deviations.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(description="Share of their numbers set to zero.")
    temperature: Positive = Field(description="Of the soft-argmax in the dense loss.")
    dense_weight: NotNegative = Field(description="Of the dense loss beside the contrastive one.")
    log_every: Count = Field(description="Steps between two rows of the curve.")
    validate_every: Count = Field(description="Steps between two validations.")
    save_every: Count = Field(description="Steps between two states that a killed run resumes from.")
    validation: Validation = Field(description="How the best network is chosen.")

    def untrained(self, dim: int) -> Labelled:
        """Random; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Labelled(dim)

    def fit(self, fitting: Fitting) -> Fitted:
        """Train the network, see `learn`."""
        return learn(self, fitting)

    def describe(self, images: Images) -> Tensor:
        """Refined tokens `(B, N, D)`."""
        return refined(images.fitted(self), images)

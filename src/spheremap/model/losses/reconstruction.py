"""Reconstruction loss: cosine loss between features and prototypes (Mariotti et al. 2024, Section 3.1)."""

from torch import Tensor

from spheremap.kernels import cosine_reconstruction
from spheremap.model.training.step import Outputs


def loss(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """What the prototypes make of a token's sphere point shall have its direction: the mean of 1 - cos."""
    batch = outputs.batch
    # the features are read where they lie
    tokens = batch.tokens.flatten(0, 1)
    backend = outputs.config.backend
    return cosine_reconstruction(tokens, outputs.reconstruction, batch.foreground.rows, backend=backend)

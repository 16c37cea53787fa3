"""Reconstruction loss (the paper's Γ; Mariotti et al. 2024, Section 3.1)."""

import torch
from torch import Tensor


def reconstruction_loss(features: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean of `1 - cos` between foreground features and what the prototypes make of their sphere points.

    Args:
        features: `(M, D)` tokens of all foreground patches of the batch, any float type, no gradient needed.
        reconstruction: `(M, D)`, its type is the type of the computation.

    Returns:
        Scalar in [0, 2]; 0 without foreground. A zero vector counts as orthogonal and gets no gradient.
    """
    features = features.to(reconstruction.dtype)
    lengths = torch.linalg.vector_norm(features, dim=-1) * torch.linalg.vector_norm(reconstruction, dim=-1)
    usable = lengths != 0  # true for NaN, which must show
    dots = torch.linalg.vecdot(features, reconstruction)
    cosine = torch.where(usable, dots / torch.where(usable, lengths, 1.0), 0.0)
    return (1 - cosine).sum() / max(len(cosine), 1)

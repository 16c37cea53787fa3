"""Patches compared by their looks: the backbone's features as they are."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spheremap.methods.engine.comparison import Images
from spheremap.methods.engine.method import Method


@dataclass(frozen=True)
class Features(Method):
    """Cosine similarity of the backbone's tokens."""

    def describe(self, images: Images) -> Tensor:
        """The tokens `(B, N, D)`."""
        return torch.from_numpy(images.tokens)

"""The paper's head: sphere mapper with attention, prototypes (Mariotti et al. 2024, Section 3.1)."""

from torch import nn

from spheremap.model.head.mapper import SphereMapper
from spheremap.model.head.prototypes import Prototypes


def build(dim: int, categories: int) -> tuple[nn.Module, nn.Module]:
    """Mapper and prototypes; their parameters have the names that they have in the authors' code."""
    return SphereMapper(dim), Prototypes(dim, categories)

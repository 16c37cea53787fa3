"""A feature adapter trained on pseudo-labels (the idea of Dünkel et al. 2025, "Do It Yourself")."""

from spheremap.adaptation.adapter import Adapter, load_adapter, save_adapter
from spheremap.adaptation.config import AdapterConfig, AdapterParams
from spheremap.adaptation.loop import AdaptResult, adapt

__all__ = [
    "AdaptResult",
    "Adapter",
    "AdapterConfig",
    "AdapterParams",
    "adapt",
    "load_adapter",
    "save_adapter",
]

"""A feature adapter trained on pseudo-labels (the idea of Dünkel et al. 2025, "Do It Yourself")."""

from spheremap.config import Adapt as AdapterConfig
from spheremap.config import AdaptSlice as AdapterParams
from spheremap.methods.adaptation.adapter import Adapter, load_adapter, save_adapter
from spheremap.methods.adaptation.loop import AdaptResult, adapt

__all__ = [
    "AdaptResult",
    "Adapter",
    "AdapterConfig",
    "AdapterParams",
    "adapt",
    "load_adapter",
    "save_adapter",
]

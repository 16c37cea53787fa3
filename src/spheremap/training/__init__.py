"""Training of the sphere head on cached features."""

from spheremap.training.batches import Views
from spheremap.training.config import TrainConfig, TrainParams
from spheremap.training.loop import TrainResult, Validator, train

__all__ = ["TrainConfig", "TrainParams", "TrainResult", "Validator", "Views", "train"]

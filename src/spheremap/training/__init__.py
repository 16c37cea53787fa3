"""Training of the sphere head on cached features."""

from spheremap.training.batches import Views
from spheremap.training.config import TrainConfig, TrainParams, settle_precision
from spheremap.training.loop import TrainResult, Validator, train

__all__ = ["TrainConfig", "TrainParams", "TrainResult", "Validator", "Views", "settle_precision", "train"]

"""Training of the sphere head on cached features."""

from spheremap.model.training.batches import Views
from spheremap.model.training.config import TrainConfig, TrainParams, settle_precision
from spheremap.model.training.loop import TrainResult, Validator, train

__all__ = ["TrainConfig", "TrainParams", "TrainResult", "Validator", "Views", "settle_precision", "train"]

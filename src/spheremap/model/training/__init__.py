"""Training of the sphere head on cached features."""

from spheremap.config import Train as TrainConfig
from spheremap.config import TrainSlice as TrainParams
from spheremap.model.training.batches import Views
from spheremap.model.training.loop import TrainResult, Validator, train

__all__ = ["TrainConfig", "TrainParams", "TrainResult", "Validator", "Views", "train"]

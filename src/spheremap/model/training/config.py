"""Parameters of training that depend on the machine."""

from dataclasses import replace

import torch

from spheremap.base.device import native_bfloat16
from spheremap.config import Train as TrainConfig
from spheremap.config import TrainSlice as TrainParams
from spheremap.config.learning import LOSS_WEIGHTS
from spheremap.config.learning import Validation as ValidationConfig

__all__ = ["LOSS_WEIGHTS", "TrainConfig", "TrainParams", "ValidationConfig", "settle_precision"]


def settle_precision(config: TrainConfig, device: torch.device) -> TrainConfig:
    """Replace the precision `auto`: bfloat16 where the device multiplies matrices in it, else float32."""
    if config.precision != "auto":
        return config
    return replace(config, precision="bfloat16" if native_bfloat16(device) else "float32")

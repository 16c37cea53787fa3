"""What a bundle needs to know of a project's params.yaml."""

from dataclasses import dataclass
from pathlib import Path

from spheremap.api.protocol import Protocol
from spheremap.config import Params
from spheremap.config.backbone import Backbone, TokenPrecision
from spheremap.config.slices import parse, read_params


@dataclass(frozen=True)
class Project:
    """The current data set and backbone, and how features are extracted, fused and matched."""

    dataset: str
    backbone: str
    spec: Backbone
    precision: TokenPrecision
    sphere_weight: float
    protocol: Protocol


def read_project(path: Path) -> Project:
    """Read params.yaml.

    Raises:
        InputError: if it cannot be read or used.
    """
    params: Params = parse(read_params(path), Params, where=path)
    features, evaluate = params.features, params.evaluate
    protocol = Protocol(
        features.fit, evaluate.source, evaluate.readout, evaluate.window, evaluate.temperature
    )
    return Project(
        params.dataset,
        features.backbone,
        params.backbones[features.backbone],
        features.precision,
        evaluate.sphere_weight,
        protocol,
    )

"""Parameters of the masks: the entry `masks` of a data set in params.yaml."""

from pathlib import Path

from spheremap.base.files import read_json
from spheremap.config.data_sets import DetectedMasks, DetectorWeights, Masks, NoMasks, OwnMasks
from spheremap.config.slices import parse

MasksParams = OwnMasks | NoMasks | DetectedMasks

__all__ = ["DetectedMasks", "DetectorWeights", "MasksParams", "NoMasks", "OwnMasks", "read_masks_params"]


def read_masks_params(path: Path) -> MasksParams:
    """Read the entry from a JSON file.

    Raises:
        InputError: if it names no known source, or has keys or values that its source does not allow.
    """
    params: MasksParams = parse(read_json(path), Masks, where=path)
    return params

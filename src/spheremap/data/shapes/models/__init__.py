"""The object categories of the embedded data set: parametric, low-poly, random in shape and colour."""

from types import ModuleType

import numpy as np

from spheremap.data.shapes.models import aeroplane, bicycle, car, chair, quadruped
from spheremap.data.shapes.models.parts import Instance

__all__ = ["CATEGORIES", "Instance", "keypoint_names", "make_instance"]

_MODULES: tuple[ModuleType, ...] = (car, chair, aeroplane, quadruped, bicycle)
CATEGORIES = {module.__name__.rpartition(".")[2]: module for module in _MODULES}


def make_instance(category: str, rng: np.random.Generator) -> Instance:
    """A random instance of a category; the same generator state gives the same instance."""
    made: Instance = CATEGORIES[category].make(rng)
    return made


def keypoint_names(category: str) -> tuple[str, ...]:
    """Names of the category's keypoints, in the order of `Instance.keypoints`."""
    return tuple(CATEGORIES[category].KEYPOINTS)

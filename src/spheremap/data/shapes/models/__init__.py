"""The object categories of the embedded data set: parametric, low-poly, random in shape and colour."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spheremap.data.shapes.models import aeroplane, bicycle, car, chair, quadruped
from spheremap.data.shapes.models.parts import Instance

CATEGORIES: dict[str, Callable[[np.random.Generator], Instance]] = {
    "car": car.make,
    "chair": chair.make,
    "aeroplane": aeroplane.make,
    "quadruped": quadruped.make,
    "bicycle": bicycle.make,
}

_KEYPOINTS: dict[str, tuple[str, ...]] = {
    "car": car.KEYPOINTS,
    "chair": chair.KEYPOINTS,
    "aeroplane": aeroplane.KEYPOINTS,
    "quadruped": quadruped.KEYPOINTS,
    "bicycle": bicycle.KEYPOINTS,
}

__all__ = ["CATEGORIES", "Instance", "keypoint_names", "make_instance"]


def make_instance(category: str, rng: np.random.Generator) -> Instance:
    """A random instance of a category; the same generator state gives the same instance."""
    return CATEGORIES[category](rng)


def keypoint_names(category: str) -> tuple[str, ...]:
    """Names of the category's keypoints, in the order of `Instance.keypoints`."""
    return _KEYPOINTS[category]

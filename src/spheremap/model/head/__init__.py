"""The sphere head: mapper and prototypes, and their checkpoint."""

from spheremap.model.head.checkpoint import Head, load_head, load_mapper, save_head, sphere_points
from spheremap.model.head.foreground import Foreground
from spheremap.model.head.mapper import SphereMapper
from spheremap.model.head.prototypes import Prototypes
from spheremap.model.head.viewpoint import mean_directions

__all__ = [
    "Foreground",
    "Head",
    "Prototypes",
    "SphereMapper",
    "load_head",
    "load_mapper",
    "mean_directions",
    "save_head",
    "sphere_points",
]

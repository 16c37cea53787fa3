"""The sphere head: mapper and prototypes, and their checkpoint."""

from spheremap.head.checkpoint import Head, load_head, save_head, sphere_points
from spheremap.head.foreground import Foreground
from spheremap.head.mapper import SphereMapper
from spheremap.head.prototypes import Prototypes
from spheremap.head.viewpoint import mean_directions

__all__ = [
    "Foreground",
    "Head",
    "Prototypes",
    "SphereMapper",
    "load_head",
    "mean_directions",
    "save_head",
    "sphere_points",
]

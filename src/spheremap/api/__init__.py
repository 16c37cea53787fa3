"""Matching on photographs of one's own, with a trained head and its backbone from one portable file."""

from spheremap.api.bundle import Bundle, read_bundle, write_bundle
from spheremap.api.matcher import Description, Matcher, load
from spheremap.api.results import Matches, SphereMap, Warp

__all__ = [
    "Bundle",
    "Description",
    "Matcher",
    "Matches",
    "SphereMap",
    "Warp",
    "load",
    "read_bundle",
    "write_bundle",
]

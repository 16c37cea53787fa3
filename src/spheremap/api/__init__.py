"""Matching on photographs of one's own, with a trained head and its backbone from one portable file.

Names are imported at first use: `--help` and what only reads a bundle's description need no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = ("bundle", "matcher", "results")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in map(importlib.import_module, (f"{__name__}.{part}" for part in _MODULES)):
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

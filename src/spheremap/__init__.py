"""Spherical maps that teach self-supervised vision features the difference between left and right.

To match photographs of one's own::

    import spheremap

    matcher = spheremap.load("demo.spheremap")  # a file of `spheremap bundle`
    matches = matcher.match("a.jpg", "b.jpg", [(120, 80)])  # points as (x, y) in pixels of a.jpg
    matches.xy  # (K, 2) where they are in b.jpg
    matcher.map("a.jpg").picture().save("map.png")  # coloured by position on the sphere

`load` returns a `Matcher`; its answers are `Matches` and `SphereMap`. They are imported at first use, so that
importing the package costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spheremap.api.matcher import Matcher, load
    from spheremap.api.results import Matches, SphereMap

__all__ = ["Matcher", "Matches", "SphereMap", "load"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from spheremap.base.about import own_version

        return own_version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from spheremap.api import matcher

    return getattr(matcher, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

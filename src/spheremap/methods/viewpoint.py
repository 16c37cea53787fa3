"""How much the sphere should count for a pair, by how far apart its two viewpoints seem to be."""

from dataclasses import dataclass

from spheremap.base.errors import InputError


@dataclass(frozen=True)
class Viewpoint:
    """A mixing weight of the sphere that grows with the azimuth gap estimated for the pair.

    A trained sphere puts the azimuth gap of two images between their mean directions on it, `<S_i, S_j> ~
    cos(gap)` (relative viewpoint loss of Mariotti et al. 2024, section 3.2). The weight goes from `near` to
    `far` with (1 - cos) / 2, so that the angle itself is never taken.

    Attributes:
        near: weight of the sphere at equal viewpoints, in [0, 1].
        far: at opposite ones, in [0, 1].
    """

    near: float
    far: float

    def __post_init__(self) -> None:
        for name in ("near", "far"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"bad sphere weight {name!r} by viewpoint",
                    expected="a share in [0, 1]",
                    found=str(getattr(self, name)),
                )

    def weights(self, cosine: float) -> tuple[float, float]:
        """Weights of the features' and of the sphere's cosine, for the estimated cosine of the gap."""
        of_sphere = self.near + (self.far - self.near) * (1 - min(max(cosine, -1.0), 1.0)) / 2
        return 1.0 - of_sphere, of_sphere

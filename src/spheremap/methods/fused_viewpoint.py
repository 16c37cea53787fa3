"""Features and sphere fused, with more of the sphere the further apart the two viewpoints seem to be."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from spheremap.base.errors import InputError
from spheremap.methods.engine.comparison import Block, Images, Pair
from spheremap.methods.engine.method import Method
from spheremap.methods.fused import Fused
from spheremap.model.head import mean_directions


@dataclass(frozen=True)
class FusedViewpoint(Method):
    """A weight of the sphere that grows with the azimuth gap estimated for the pair.

    A trained sphere puts the azimuth gap of two images between their mean directions on it, `<S_i, S_j> ~
    cos(gap)` (relative viewpoint loss of Mariotti et al. 2024, section 3.2). The weight goes from `near` to
    `far` with (1 - cos) / 2, so that the angle itself is never taken.

    Attributes:
        of: features and sphere, or others in their places; the second one gives points `(B, N, 3)`.
        near: weight of the sphere at equal viewpoints, in [0, 1].
        far: at opposite ones, in [0, 1].
    """

    of: tuple[Method, Method]
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

    def weight(self, cosine: float) -> float:
        """Of the sphere, for the estimated cosine of the gap."""
        return self.near + (self.far - self.near) * (1 - min(max(cosine, -1.0), 1.0)) / 2

    def parts(self) -> Mapping[Method, float]:
        """Those at equal viewpoints."""
        return Fused(self.of, self.near).parts()

    def summarise(self, images: Images) -> Tensor:
        """Mean directions `(B, 3)` on the sphere."""
        return mean_directions(
            images.head, images.tokens, images.described(self.of[1]), images.category
        ).cpu()

    def compare(self, block: Block) -> Tensor:
        """The weighted sum of the two similarities, by weights of each pair."""

        def compare(pair: Pair) -> Tensor:
            cosine = float(block.summary(self, pair.source) @ block.summary(self, pair.target))
            return block.similarity(Fused(self.of, self.weight(cosine)).parts(), pair.rows)

        return block.by_pair(compare)

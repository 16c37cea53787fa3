"""Features and sphere fused, with more of the sphere the further apart the two viewpoints seem to be."""

from collections.abc import Mapping

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from spheremap.base.errors import InputError
from spheremap.config.fields import Share
from spheremap.methods.engine.comparison import Block, Images, Pair
from spheremap.methods.engine.method import PARAMETERS, Method
from spheremap.methods.fused import Fused
from spheremap.model.head import mean_directions


@dataclass(frozen=True, config=PARAMETERS)
class FusedViewpoint(Method):
    """A weight of the sphere that grows with the azimuth gap estimated for the pair.

    A trained sphere puts the azimuth gap of two images between their mean directions on it, `<S_i, S_j> ~
    cos(gap)` (relative viewpoint loss of Mariotti et al. 2024, section 3.2). The weight goes from `near` to
    `far` with (1 - cos) / 2, so that the angle itself is never taken.
    """

    of: tuple[Method, Method] = Field(
        description="Features and sphere, or others in their places; the second one gives points of a sphere."
    )
    near: Share = Field(description="Weight of the sphere at equal viewpoints.")
    far: Share = Field(description="At opposite ones.")

    def weight(self, cosine: float) -> float:
        """Of the sphere, for the estimated cosine of the gap."""
        return self.near + (self.far - self.near) * (1 - min(max(cosine, -1.0), 1.0)) / 2

    def parts(self) -> Mapping[Method, float]:
        """Those at equal viewpoints."""
        return Fused(self.of, self.near).parts()

    def summarise(self, images: Images) -> Tensor:
        """Mean directions `(B, 3)` on the sphere."""
        points = images.described(self.of[1])
        if points.shape[2] != 3:
            raise InputError(
                "viewpoints are estimated from points of a sphere",
                expected="a method with three dimensions as the second one",
                found=f"{type(self.of[1]).__name__} with {points.shape[2]}",
                fix="write of: [features, sphere], or others with points of a sphere as the second",
            )
        return mean_directions(images.head, images.tokens, points, images.category).cpu()

    def compare(self, block: Block) -> Tensor:
        """The weighted sum of the two similarities, by weights of each pair."""

        def compare(pair: Pair) -> Tensor:
            cosine = float(block.summary(self, pair.source) @ block.summary(self, pair.target))
            return block.similarity(Fused(self.of, self.weight(cosine)).parts(), pair.rows)

        return block.by_pair(compare)

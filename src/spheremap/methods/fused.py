"""Two descriptors as one: features and sphere in the paper."""

from collections import Counter
from collections.abc import Mapping

from pydantic import Field
from pydantic.dataclasses import dataclass

from spheremap.base.errors import InputError
from spheremap.config.fields import Share
from spheremap.config.slices import parse
from spheremap.methods.engine.method import PARAMETERS, Method
from spheremap.methods.features import Features
from spheremap.methods.sphere import Sphere

FEATURES, SPHERE = Features(), Sphere()


@dataclass(frozen=True, config=PARAMETERS)
class Fused(Method):
    """The concatenation `[√(1 − w) x, √w s]` of two methods' descriptors of unit length.

    Mariotti et al. 2024 take features, sphere and w = 0.2 (section 4.1).
    """

    of: tuple[Method, Method] = Field(description="The two methods.")
    sphere_weight: Share = Field(description="w, share of the second one.")

    def __post_init__(self) -> None:
        for each in self.of:
            if type(each).compare is not Method.compare or type(each).read is not Method.read:
                raise InputError(
                    "descriptors alone can be fused",
                    expected="methods that compare by descriptors, and read places by the protocol",
                    found=type(each).__name__,
                    fix="fuse first, and change the fused method: {kind: ..., of: fused}",
                )

    def parts(self) -> Mapping[Method, float]:
        """The parts of both, by weight."""
        total: Counter[Method] = Counter()
        for method, share in zip(self.of, (1 - self.sphere_weight, self.sphere_weight), strict=True):
            for part, weight in method.parts().items():
                total[part] += share * weight  # type: ignore[assignment]
        return total


def paper(sphere_weight: float) -> dict[str, Method]:
    """The three methods of the paper: features, sphere, and both with this share of the sphere.

    Raises:
        InputError: if it lies outside [0, 1].
    """
    sphere_weight = parse(sphere_weight, Share, where="the weight of the sphere", key="sphere_weight")
    return {"features": FEATURES, "sphere": SPHERE, "fused": Fused((FEATURES, SPHERE), sphere_weight)}

"""Features refined by an adapter that learned from the matches of which the sphere is sure."""

from dataclasses import dataclass

from torch import Tensor

from spheremap.methods.engine.comparison import Images
from spheremap.methods.engine.method import Method


@dataclass(frozen=True)
class Adapted(Method):
    """Cosine similarity of refined tokens, in float16 like the tokens; see `spheremap.methods.adaptation`."""

    learns = True

    def describe(self, images: Images) -> Tensor:
        """Refined tokens `(B, N, D)`."""
        refined: Tensor = images.fitted("adapted")(images.tokens)
        return refined.half().cpu()

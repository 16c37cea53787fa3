"""Features refined by an adapter that others have trained on pseudo-labels and published.

Source: Dünkel et al., Do It Yourself: Learning Semantic Correspondence from Pseudo-Labels, 2025 (arXiv
2506.05312); weights and code are CC0 1.0. The network is written anew; its answers equal those of the
authors' code.
"""

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from spheremap.config.fields import Text
from spheremap.methods.adaptation.bottleneck import refined
from spheremap.methods.adaptation.published_adapters import load_adapter
from spheremap.methods.engine.comparison import Images
from spheremap.methods.engine.method import PARAMETERS, Method


@dataclass(frozen=True, config=PARAMETERS)
class DiySc(Method):
    """Cosine similarity of tokens refined by a published network over the grid.

    It is for the backbone and layer that it was trained on: DINOv2 ViT-B/14, last block, without final norm.
    """

    weights: Text = Field(
        description="Name in methods/adaptation/published_adapters.yaml, or a file in that layout."
    )

    def load(self, dim: int) -> nn.Module:
        """See `load_adapter`."""
        return load_adapter(self.weights, dim)

    def describe(self, images: Images) -> Tensor:
        """Refined tokens `(B, N, D)`."""
        return refined(images.fitted(self), images)

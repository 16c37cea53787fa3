"""The adapter: a residual bottleneck over tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Network(nn.Module):
    """A network of which all parameters are trained (`spheremap.model.training.state.Trainable`)."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def trainable(self) -> dict[str, nn.Parameter]:
        """All parameters by name."""
        return dict(self.named_parameters())


class Bottleneck(Network):
    """`x + r f(LN(x))` with r the root mean square of token x and f two linear layers about a GELU.

    The last layer begins at zero: an untrained adapter returns the tokens themselves, digit for digit. The
    factor r makes it indifferent to the length of a token, which cosine similarity is, too.

    Args:
        dim: D, width of the tokens.
        width: hidden width.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, width)
        self.up = nn.Linear(width, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `(..., D)` of any float type to float32 of the same shape."""
        x = tokens.float()
        scale = x.square().mean(dim=-1, keepdim=True).sqrt()
        return x + scale * self.up(F.gelu(self.down(F.layer_norm(x, x.shape[-1:]))))

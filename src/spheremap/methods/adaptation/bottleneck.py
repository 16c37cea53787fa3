"""The bottleneck over the grid of tokens that GeoAware-SC and DIY-SC refine features with.

Source: Zhang et al., Telling Left from Right, CVPR 2024, after ODISE (Xu et al., CVPR 2023); written anew
from the description, and compared with what the published network returns.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheremap.methods.adaptation.adapter import Network
from spheremap.methods.engine.comparison import Images

GROUPS = 32


class NormedConv(nn.Conv2d):
    """A convolution without bias that keeps the grid's size, and a normalisation in groups of channels."""

    def __init__(self, channels: int, out: int, side: int) -> None:
        super().__init__(channels, out, side, padding=side // 2, bias=False)
        self.norm = nn.GroupNorm(math.gcd(GROUPS, out), out)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps `(B, channels, rows, columns)` to `(B, out, rows, columns)`."""
        return self.norm(super().forward(x))


class GridBottleneck(Network):
    """`relu(x + f(x))` with f three convolutions of side 1, 3, 1, a quarter of the channels in the middle.

    Its state dict is named as one block of the published files.

    Args:
        dim: D, width of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        narrow = max(dim // 4, 1)
        self.conv1 = NormedConv(dim, narrow, 1)
        self.conv2 = NormedConv(narrow, narrow, 3)
        self.conv3 = NormedConv(narrow, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, D, rows, columns)` float32 to the same shape, nowhere negative."""
        return F.relu(x + self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))))

    def of_tokens(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens `(B, N, D)` of any float type to float32 of the same shape."""
        return self(tokens.float().transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)


@torch.inference_mode()
def refined(network: GridBottleneck, images: Images) -> Tensor:
    """Refined tokens `(B, N, D)` in float16 on the CPU, image by image to bound memory."""
    tokens = (torch.from_numpy(image).to(network.device) for image in images.tokens)
    return torch.cat([network.of_tokens(image.unsqueeze(0), images.grid).half().cpu() for image in tokens])

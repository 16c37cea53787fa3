"""The adapter: a residual bottleneck over tokens, and its file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from spheremap.base.errors import ProvenanceError
from spheremap.base.tensors import read_tensors, write_tensors

SCHEMA = "spheremap-adapter-1"
_FIX = "delete the file and run `snakemake --cores all` to train the adapter again"


class Bottleneck(nn.Module):
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


@dataclass
class Adapter:
    """A trained refinement of features for matching (the idea of Dünkel et al. 2025, "Do It Yourself").

    Attributes:
        network: tokens to tokens.
        provenance: how it was made.
    """

    network: Bottleneck
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def initialise(cls, dim: int, width: int, seed: int) -> Self:
        """An untrained adapter, the identity; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(Bottleneck(dim, width))

    def to(self, device: torch.device | str) -> Self:
        """Move all parameters."""
        self.network.to(device)
        return self

    @property
    def dim(self) -> int:
        """D, width of the tokens."""
        return self.network.down.in_features

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.network.down.weight.device

    def trainable(self) -> dict[str, nn.Parameter]:
        """All parameters by name."""
        return dict(self.network.named_parameters())

    @torch.inference_mode()
    def __call__(self, tokens: NDArray[np.floating]) -> Tensor:
        """Adapt tokens `(B, N, D)`: float32 on the adapter's device, image by image to bound memory.

        Raises:
            ProvenanceError: if the width differs.
        """
        if tokens.shape[-1] != self.dim:
            raise ProvenanceError(
                "these features do not fit the adapter",
                expected=f"a width of {self.dim}",
                found=str(tokens.shape[-1]),
                fix="use features of the backbone that the adapter was trained on",
            )
        return torch.stack([self.network(torch.from_numpy(image).to(self.device)) for image in tokens])


def save_adapter(path: Path, adapter: Adapter, provenance: Mapping[str, Any]) -> None:
    """Write an adapter atomically; equal adapters and provenance give equal bytes.

    The sealed content (`spheremap.base.tensors`) is `schema` and `provenance`.
    """
    write_tensors(path, adapter.network.state_dict(), {"schema": SCHEMA, "provenance": dict(provenance)})


def load_adapter(path: Path, device: torch.device | str = "cpu") -> Adapter:
    """Read an adapter.

    Raises:
        ProvenanceError: if the file is missing, damaged or holds something else.
    """
    try:
        state, content = read_tensors(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise ProvenanceError(
            "the adapter cannot be read",
            where=path,
            expected="a safetensors file",
            found=str(error).split("\n", maxsplit=1)[0],
            fix=_FIX,
        ) from error
    if content is None or content.get("schema") != SCHEMA:
        raise ProvenanceError(
            "not an adapter of this version",
            where=path,
            expected=SCHEMA,
            found=str((content or {}).get("schema", "no schema")),
            fix=_FIX,
        )
    try:
        width, dim = state["down.weight"].shape
        network = Bottleneck(dim, width)
        network.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ProvenanceError(
            "the parameters of the adapter are not those expected",
            where=path,
            expected="down.weight, down.bias, up.weight and up.bias that fit together",
            found=", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(state.items())),
            fix=_FIX,
        ) from error
    return Adapter(network, content["provenance"]).to(device)

"""Patch tokens of a frozen ViT."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spheremap.base.choices import Precision
from spheremap.base.device import exact_convolutions, settle_precision
from spheremap.base.errors import InputError
from spheremap.config.backbone import Backbone as BackboneSpec
from spheremap.features.backbones.weights import load_vit


class Extractor:
    """Frozen ViT up to one block: images in, patch tokens out.

    The facet "token" is the output of the block before the model's final LayerNorm (after it with `norm`), as
    in Mariotti et al. 2024, section 4; class and register tokens are dropped. The facets "query", "key" and
    "value" are the linear projections in the block's attention, all heads side by side, before any rotary
    embedding (Amir et al. 2022, "Deep ViT features as dense visual descriptors").

    Attributes:
        dim: D, the width of a token.
        patch: side of a patch in pixels.
    """

    def __init__(
        self, spec: BackboneSpec, weights: Path, *, device: torch.device | str = "cpu",
        precision: Precision = "float32",
    ) -> None:  # fmt: skip
        """Load the weights and cut the model off after the chosen block.

        Raises:
            InputError: if the model has no such block.
            ProvenanceError: if the weights are damaged or another model's.
        """
        vit: Any = load_vit(spec.model, weights)
        if not 0 <= spec.block < len(vit.blocks):
            raise InputError(
                f"{spec.model} has no block {spec.block}", expected=f"0 to {len(vit.blocks) - 1}",
                found=str(spec.block),
            )  # fmt: skip
        if spec.norm and isinstance(vit.norm, nn.Identity):
            raise InputError(f"{spec.model} has no final LayerNorm over its tokens", fix="set norm: false")
        if spec.facet != "token" and not hasattr(getattr(vit.blocks[spec.block], "attn", None), "qkv"):
            raise InputError(f"{spec.model} has no facet {spec.facet!r}", expected="facet: token")
        self.device = torch.device(device)
        self.patch = int(vit.patch_embed.feat_ratio())
        self.precision = settle_precision(precision, self.device)
        self._facet = spec.facet
        self._norm = spec.norm
        self._prefix = int(vit.num_prefix_tokens)
        vit.blocks = vit.blocks[: spec.block + 1]
        self._vit: Any = vit.requires_grad_(False).to(self.device)
        config = vit.pretrained_cfg
        self._mean = torch.tensor(config["mean"], device=self.device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(config["std"], device=self.device).view(1, 3, 1, 1) * 255
        self.dim = int(vit.embed_dim)
        if spec.facet != "token":
            self.dim = _project(vit.blocks[-1].attn, torch.zeros(1, 1, vit.embed_dim, device=self.device),
                                spec.facet).shape[-1]  # fmt: skip

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """The colour that becomes zero when it is normalised, as nearly as 8 bits can say it."""
        red, green, blue = self._mean.flatten().round().int().tolist()
        return red, green, blue

    def grid(self, size: int) -> tuple[int, int]:
        """Rows and columns of patches of a square input.

        Raises:
            InputError: if the side is not a multiple of the patch side.
        """
        if size < self.patch or size % self.patch:
            near = max(1, round(size / self.patch)) * self.patch
            raise InputError(
                f"image size {size} does not fit patches of {self.patch} pixels",
                expected=f"a multiple of {self.patch}, such as {near}",
                found=str(size),
            )
        return size // self.patch, size // self.patch

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Tokens `(B, N, D)` float32 of images `(B, H, W, 3)` uint8 RGB, in row-major order of patches."""
        x = images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()
        x = (x - self._mean) / self._std  # (B, 3, H, W)
        autocast = (
            torch.autocast(self.device.type, dtype=torch.bfloat16)
            if self.precision == "bfloat16"
            else nullcontext()
        )
        with autocast, exact_convolutions():
            tokens = self._facet_of(x)
        return tokens[:, self._prefix :].float()

    def _facet_of(self, x: Tensor) -> Tensor:
        """What is taken of the last block left, with prefix tokens `(B, P + N, D)`."""
        block, seen = self._vit.blocks[-1], list[Tensor]()
        if self._facet == "token":
            hook = block.register_forward_hook(lambda _module, _args, output: seen.append(output))
        else:
            hook = block.attn.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
        try:
            normed = self._vit.forward_features(x)
        finally:
            hook.remove()
        if self._facet == "token":
            return normed if self._norm else seen[0]
        return _project(block.attn, seen[0], self._facet)


def _project(attention: Any, x: Tensor, facet: str) -> Tensor:
    """One of the three projections of `x (B, N, D)` by an attention module of timm, heads concatenated."""
    which = ("query", "key", "value").index(facet)
    if attention.qkv is None:
        return (attention.q_proj, attention.k_proj, attention.v_proj)[which](x)
    projected = attention.qkv(x).chunk(3, dim=-1)[which]
    if getattr(attention, "q_bias", None) is None:  # the bias is part of the linear layer, or there is none
        return projected
    return projected + (attention.q_bias, attention.k_bias, attention.v_bias)[which]

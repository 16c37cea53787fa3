"""Bottlenecks that others have trained: fetched by name, or read from a file of theirs."""

from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from torch import Tensor

from spheremap.base.errors import InputError
from spheremap.base.files import cache_folder
from spheremap.base.tensors import read_tensors
from spheremap.config.slices import parse, read_params
from spheremap.data.download.published import Published, fetch_published
from spheremap.methods.adaptation.bottleneck import GridBottleneck

REGISTRY = Path(__file__).with_name("published_adapters.yaml")
_UNREADABLE = (OSError, ValueError, TypeError, RuntimeError, EOFError)
_PREFIX = "bottleneck_layers.0.0."  # of the one block, in the authors' layout


def load_adapter(weights: str, dim: int) -> GridBottleneck:
    """The network of a file in the authors' layout, or of a name in published_adapters.yaml.

    Args:
        weights: file or name.
        dim: D, width of the tokens that it is for.

    Raises:
        InputError: if there is neither, the file holds no such network, or it takes tokens of another width.
    """
    path = _find(weights)
    state = {name.removeprefix(_PREFIX): t for name, t in _read(path).items() if name.startswith(_PREFIX)}
    width = state["conv1.weight"].shape[1] if "conv1.weight" in state else 0
    if width not in (0, dim):
        raise InputError(
            "the adapter was trained on features of another width",
            where=path,
            expected=f"{width}, such as those of its own backbone",
            found=str(dim),
            fix="choose another backbone, or leave the method out of evaluate.methods",
        )
    network = GridBottleneck(dim)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        found = ", ".join(sorted(state)[:4]) or "none of its tensors"
        raise InputError(
            "not an adapter", where=path, expected=f"one bottleneck, as tensors {_PREFIX}*", found=found
        ) from error
    return network.eval()


def _find(weights: str) -> Path:
    path = Path(weights)
    if path.is_file():
        return path
    known: dict[str, Published] = parse(read_params(REGISTRY), dict[str, Published], where=REGISTRY)
    if weights not in known:
        raise InputError(
            "there are no such weights",
            where=path,
            expected=f"a file, or one of {', '.join(known)}",
            fix="correct the parameter weights of the method",
        )
    return fetch_published(weights, known[weights], cache_folder() / "adapters", REGISTRY)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return read_tensors(path)[0]
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (*_UNREADABLE, SafetensorError, UnpicklingError) as error:
        raise InputError(
            "the weights cannot be read",
            where=path,
            expected="a torch file of tensors only, or a safetensors file",
            found=str(error).split("\n", maxsplit=1)[0],
        ) from error

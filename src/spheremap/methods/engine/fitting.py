"""How a method that learns is fitted, and the file of what it has learned."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from torch import nn

from spheremap.base.errors import ProvenanceError
from spheremap.base.provenance import check_provenance
from spheremap.base.tensors import read_tensors, write_tensors
from spheremap.config.learning import Validation
from spheremap.data.tables import Tables
from spheremap.features.cache.reader import FeatureCache
from spheremap.methods.engine.method import Method
from spheremap.model.head import Head

SCHEMA = "spheremap-fitted-1"
_FIX = "delete the file and run `snakemake --cores all` to fit the method again"

Validator = Callable[[Any], float]  # of a network, which it must not change; the higher the better


@dataclass(frozen=True)
class Fitting:
    """What a method may learn from, and where.

    Attributes:
        tables: images, keypoints and pairs; only those of the split "train" may be learned from.
        views: features of the training views.
        images: features of whole images.
        head: the trained sphere head, on the device.
        device: to train on.
        memory: GiB of main memory that features may take.
        state: a file in which a run may keep what it needs to go on after it was killed.
        identity: of all that determines the result; a state with another one is of no use.
        validation: makes the function that scores a method's network, fused with the sphere, on pairs of the
            split "val", drawn with a seed; None if there are no pairs.
    """

    tables: Tables
    views: FeatureCache
    images: FeatureCache
    head: Head
    device: torch.device
    memory: float
    state: Path
    identity: str
    validation: Callable[[Method, Validation, int], Validator | None]


@dataclass(frozen=True)
class Fitted:
    """What a method has learned: its network, the step that this comes from, and the course of training.

    `curve` has a column `step`, and becomes a CSV file.
    """

    network: nn.Module
    best_step: int
    curve: pd.DataFrame


def save_fitted(path: Path, network: nn.Module, provenance: Mapping[str, Any]) -> None:
    """Write what a method has learned atomically; equal tensors and provenance give equal bytes.

    The sealed content (`spheremap.base.tensors`) is `schema` and `provenance`.
    """
    write_tensors(path, network.state_dict(), {"schema": SCHEMA, "provenance": dict(provenance)})


def load_fitted(
    path: Path, method: Method, dim: int, expected: Mapping[str, Any], device: torch.device | str = "cpu"
) -> nn.Module:
    """Read what a method has learned.

    Args:
        path: the file.
        method: the one that learned it.
        dim: D, width of the tokens.
        expected: what its provenance must say.
        device: where the network goes.

    Raises:
        ProvenanceError: if the file is missing, damaged, of another kind or made from something else.
    """
    try:
        state, content = read_tensors(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise ProvenanceError(
            "what a method has learned cannot be read",
            where=path,
            expected="a safetensors file",
            found=str(error).split("\n", maxsplit=1)[0],
            fix=_FIX,
        ) from error
    if content is None or content.get("schema") != SCHEMA:
        raise ProvenanceError(
            "not what a method has learned, or of another version",
            where=path,
            expected=SCHEMA,
            found=str((content or {}).get("schema", "no schema")),
            fix=_FIX,
        )
    check_provenance(content["provenance"], expected=expected, where=path, fix=_FIX)
    network = method.untrained(dim)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ProvenanceError(
            "the tensors are not those of the method",
            where=path,
            expected=_shapes(network.state_dict()),
            found=_shapes(state),
            fix=_FIX,
        ) from error
    return network.to(device).eval()


def load_published(
    methods: Iterable[Method], dim: int, device: torch.device | str
) -> dict[Method, nn.Module]:
    """The networks that others have trained, of all methods among these and among those they are made of.

    Args:
        dim: D, width of the tokens.
        device: where the networks go.

    Raises:
        InputError: if one cannot be had, or takes tokens of another width.
    """
    members = dict.fromkeys(member for method in methods for member in method.made_of())
    theirs = [member for member in members if type(member).load is not Method.load]
    return {member: member.load(dim).to(device).eval() for member in theirs}


def _shapes(tensors: Mapping[str, torch.Tensor]) -> str:
    return ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(tensors.items()))

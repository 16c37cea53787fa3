"""The head as one object, and its file: safetensors, the paper's head under the authors' parameter names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass as strict
from safetensors import SafetensorError
from torch import Tensor, nn

from spheremap.base.errors import ProvenanceError
from spheremap.base.tensors import DamagedError, read_tensors, write_tensors
from spheremap.config.fields import STRICT
from spheremap.config.learning import head_files
from spheremap.config.slices import parse
from spheremap.model.heads import PAPERS, find_head

MAPPER, PROTOTYPES = "sphere_mapper.", "prototypes."
LEFTOVER = "sphere.weight"  # in the authors' checkpoints; nothing uses it
LEFTOVER_SHAPE = (1024, 3)
SCHEMA = "spheremap-head-1"
PICKLED = (".pth", ".pt")


class NoPrototypes(nn.Module):
    """In the place of prototypes that a file does not hold; matching needs none."""

    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        """Refuse."""
        raise ProvenanceError(
            "this head has no prototypes",
            expected="a head as training writes it (models/<dataset>/head.safetensors)",
            found="the sphere mapper alone, which matches but reconstructs no features",
        )


@dataclass
class Head:
    """Mapper and prototypes of a set of categories (`spheremap.model.heads`).

    Attributes:
        mapper: tokens to points on the sphere.
        prototypes: points and categories to features.
        categories: names in the order of the prototypes.
        dim: D, width of the features.
        provenance: how the head was made.
        name: of its file in `spheremap.model.heads`.
        leftover: `(1024, 3)`, the unused parameter of the authors' checkpoints, kept for a faithful round
            trip of the paper's head.
    """

    mapper: nn.Module
    prototypes: nn.Module
    categories: list[str]
    dim: int
    provenance: dict[str, Any] = field(default_factory=dict)
    name: str = PAPERS
    leftover: Tensor = field(default_factory=lambda: torch.zeros(LEFTOVER_SHAPE))

    @classmethod
    def initialise(cls, dim: int, categories: Sequence[str], seed: int, name: str = PAPERS) -> Self:
        """An untrained head; the same seed gives the same weights whatever was drawn before."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(*find_head(name)(dim, len(categories)), list(categories), dim, name=name)

    @staticmethod
    def restore(
        state: Mapping[str, Tensor],
        where: Path,
        *,
        name: str,
        dim: int,
        categories: Sequence[str],
        provenance: Mapping[str, Any],
    ) -> "Head":
        """The head whose parameters a file holds; one that holds no prototypes gives a head without them.

        Memory is taken only once the file is found to hold what it says: a damaged or malicious one may speak
        of any size.

        Raises:
            ProvenanceError: as `check_state` does, or if there is no head of this name.
        """
        if name not in head_files():
            raise ProvenanceError(
                "the head was trained with code that is not here",
                where=where,
                expected=f"one of {', '.join(head_files())}",
                found=f"{name!r:.100}",
                fix="put its file into src/spheremap/model/heads",
            )

        def build() -> "Head":
            mapper, prototypes = find_head(name)(dim, len(categories))
            if not any(key.startswith(PROTOTYPES) for key in state):
                prototypes = NoPrototypes()
            return Head(mapper, prototypes, list(categories), dim, dict(provenance), name)

        try:
            with torch.device("meta"):
                plan = build()
        except RuntimeError as error:  # more bytes than there are numbers
            raise ProvenanceError(
                "no head has this size", where=where, found=f"a feature width of {dim}", fix=_NAME_ANOTHER
            ) from error
        plan.check_state(state, where)
        head = build()
        head.load_state_dict(state, where)
        return head

    def to(self, device: torch.device | str) -> Self:
        """Move all parameters."""
        self.mapper.to(device)
        self.prototypes.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.mapper.parameters()).device

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that influence the output, by checkpoint name, each once."""
        modules = ((MAPPER, self.mapper), (PROTOTYPES, self.prototypes))
        return {
            prefix + name: parameter
            for prefix, module in modules
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters, shared ones under each of their names; the paper's head has the authors' names."""
        return {
            **{MAPPER + name: tensor for name, tensor in self.mapper.state_dict().items()},
            **{PROTOTYPES + name: tensor for name, tensor in self.prototypes.state_dict().items()},
            **({LEFTOVER: self.leftover} if self.name == PAPERS else {}),
        }

    def load_state_dict(self, state: Mapping[str, Tensor], where: Path) -> None:
        """Copy all parameters in.

        Raises:
            ProvenanceError: as `check_state` does, or if copies of a shared parameter differ.
        """
        self.check_state(state, where)
        own = self.state_dict()
        first: dict[int, str] = {}
        for name in state:
            twin = first.setdefault(own[name].data_ptr(), name)
            if twin != name and not torch.equal(state[name], state[twin]):
                raise ProvenanceError(
                    f"parameter {twin!r} of the head differs from its second copy",
                    where=where,
                    expected=f"{name} to be the same",
                    fix=_NAME_ANOTHER,
                )
        with torch.no_grad():
            for name, tensor in state.items():
                own[name].copy_(tensor)

    def check_state(self, state: Mapping[str, Tensor], where: Path) -> None:
        """Compare names and shapes of parameters with one's own.

        Raises:
            ProvenanceError: if they differ.
        """
        own = self.state_dict()
        missing = sorted(set(own) - set(state) - {LEFTOVER})
        surplus = sorted(set(state) - set(own))
        if missing or surplus:
            raise ProvenanceError(
                "the parameters of the head are not those expected",
                where=where,
                expected="all of sphere_mapper.* and prototypes.*" + _names("; missing", missing),
                found="a file" + (_names(" that also holds", surplus) or " without them"),
                fix=_NAME_ANOTHER,
            )
        shapes = [name for name, tensor in state.items() if tensor.shape != own[name].shape]
        if shapes:
            raise ProvenanceError(
                f"parameter {shapes[0]!r} of the head has another shape",
                where=where,
                expected=str(tuple(own[shapes[0]].shape)),
                found=str(tuple(state[shapes[0]].shape)),
                fix=_NAME_ANOTHER,
            )


_IS_HEAD = "a trained head (models/<dataset>/head.safetensors), or a state dict in " + ", ".join(PICKLED)
_NAME_ANOTHER = (
    "name a trained head: `snakemake --cores all` makes models/<dataset>/head.safetensors, "
    "and with `--forcerun train` makes it anew"
)
# for a file that is certainly a head of spheremap, and of no use as it is
_RETRAIN = "delete the file and run `snakemake --cores all` to train the head again"


def save_head(path: Path, head: Head, provenance: Mapping[str, Any]) -> None:
    """Write a head atomically; equal heads and provenance give equal bytes.

    The sealed content (`spheremap.base.tensors`) is `schema`, `head` (its name), `dim`, `categories` and
    `provenance`. Files that name no head, of older versions and the authors', hold the paper's.
    """
    metadata = {
        "schema": SCHEMA,
        "head": head.name,
        "dim": head.dim,
        "categories": head.categories,
        "provenance": dict(provenance),
    }
    write_tensors(path, head.state_dict(), metadata)


def load_head(
    path: Path, device: torch.device | str = "cpu", categories: Sequence[str] | None = None
) -> Head:
    """Read a head: ours, or one in the authors' layout, as safetensors or as a state dict (.pth, .pt).

    Args:
        path: the file.
        device: where to put it.
        categories: names of the prototypes' categories, for a file that does not name them (default: their
            numbers). A file that does must agree.

    Raises:
        ProvenanceError: if the file is missing, damaged or holds something else.
    """
    state, content = _read(Path(path))
    about = _authors(state, categories, path) if content is None else parse(content, _About, where=path)
    names = about.categories
    if categories is not None and names != list(categories):
        raise ProvenanceError(
            "the head was trained on other categories",
            where=path,
            expected=", ".join(categories),
            found=", ".join(names),
            fix=_NAME_ANOTHER,
        )
    head = Head.restore(
        state, Path(path), name=about.head, dim=about.dim, categories=names, provenance=about.provenance
    )
    return head.to(device)


@strict(frozen=True, config=STRICT)
class _About:
    """What the file of a head says of it."""

    dim: int
    categories: list[str]
    provenance: dict[str, Any]
    head: str = PAPERS
    schema: str = SCHEMA


def _authors(state: Mapping[str, Tensor], categories: Sequence[str] | None, path: Path) -> _About:
    """The same of the authors' file, which says nothing: by the shapes of the paper's head."""
    try:
        dim = state[MAPPER + "0.weight"].shape[1]
        count = state[PROTOTYPES + "blocks.0.attn.v.weight"].shape[1]
    except (KeyError, IndexError) as error:
        raise ProvenanceError(
            "not a sphere head",
            where=path,
            expected=f"{_IS_HEAD}, with sphere_mapper.* and prototypes.* of the paper's",
            found=f"other tensors{_names('', sorted(state))}",
            fix=_NAME_ANOTHER,
        ) from error
    names = list(categories or map(str, range(count)))
    if len(names) != count:
        raise ProvenanceError(
            "the head was trained on other categories",
            where=path,
            expected=", ".join(names),
            found=f"{count} categories",
            fix=_NAME_ANOTHER,
        )
    return _About(dim, names, {})


def load_mapper(path: Path, dim: int, categories: Sequence[str]) -> Head:
    """Read the sphere mapper alone of a state dict in the authors' layout.

    Args:
        path: the file.
        dim: D, width of the features.
        categories: that it was trained on.

    Raises:
        ProvenanceError: as `load_head` does.
    """
    state, _ = _read(path)
    mapper = {name: tensor for name, tensor in state.items() if name.startswith(MAPPER)}
    return Head.restore(mapper, path, name=PAPERS, dim=dim, categories=categories, provenance={})


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    try:
        if path.suffix in PICKLED:
            state, metadata = dict(torch.load(path, map_location="cpu", weights_only=True)), None
        else:
            state, metadata = read_tensors(path)
    except FileNotFoundError as error:
        raise ProvenanceError(
            "the head does not exist", where=path, expected=_IS_HEAD, fix=_NAME_ANOTHER
        ) from error
    except (
        OSError,
        SafetensorError,
        ValueError,
        TypeError,
        RuntimeError,
        EOFError,
        UnpicklingError,
    ) as error:
        damaged = isinstance(error, DamagedError) and error.content.get("schema") == SCHEMA
        raise ProvenanceError(
            "the head cannot be read",
            where=path,
            expected=_IS_HEAD,
            found="a folder" if path.is_dir() else str(error).split("\n", maxsplit=1)[0],
            fix=_RETRAIN if damaged else _NAME_ANOTHER,
        ) from error
    for name, tensor in state.items():
        # one value may stand for a tensor of any size in a pickle, and none for an empty one in safetensors
        plain = isinstance(name, str) and isinstance(tensor, Tensor) and tensor.layout is torch.strided
        whole = plain and 0 < tensor.nbytes <= tensor.untyped_storage().nbytes()
        if not whole:
            raise ProvenanceError(
                f"{name!r} is not a tensor that is stored whole",
                where=path,
                expected="tensors with a value for each element",
                found=f"a {type(tensor).__name__}",
                fix=_NAME_ANOTHER,
            )
    if metadata is not None and metadata.get("schema") != SCHEMA:
        raise ProvenanceError(
            "not a head of this version",
            where=path,
            expected=f"{SCHEMA}: {_IS_HEAD}",
            found=str(metadata.get("schema", "no schema")),
            fix=_NAME_ANOTHER,
        )
    return state, metadata


def _names(label: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"{label}: {shown}" if names else ""


@torch.inference_mode()
def sphere_points(head: Head, tokens: NDArray[np.floating] | Tensor, batch: int = 16) -> Tensor:
    """Sphere points of all tokens, unmasked: `(B, N, D)` to `(B, N, 3)` float32 on the head's device."""
    if not isinstance(tokens, Tensor):
        tokens = torch.from_numpy(tokens)
    if tokens.ndim != 3 or tokens.shape[2] != head.dim:
        raise ProvenanceError(
            "these features do not fit the head",
            expected=f"(images, patches, {head.dim})",
            found=str(tuple(tokens.shape)),
            fix="use features of the backbone that the head was trained on",
        )
    if not len(tokens):
        return torch.empty(0, tokens.shape[1], 3, device=head.device)
    return torch.cat([head.mapper(part.to(head.device)).float() for part in tokens.split(batch)])

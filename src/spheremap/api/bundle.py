"""The portable file: a head, what its backbone is, and how to recognise the backbone's weights.

It is a safetensors file with the head's tensors, named as in the head's file (a compact one: those of the
sphere mapper alone, in float16), and, if wanted, the whole weights file of the backbone as bytes. Its
content, sealed as `spheremap.base.tensors` does it:

| key              | content                                                                        |
|------------------|--------------------------------------------------------------------------------|
| schema           | "spheremap-bundle-2"                                                           |
| head             | its name; the paper's where there is none                                      |
| dim, categories  | of it                                                                          |
| provenance       | how the head was made                                                          |
| backbone         | the backbone's entry in params.yaml: model, weights, block, norm, facet, sizes |
| weights_sha256   | SHA-256 of the weights file that the features were made with                   |
| precision        | of the backbone                                                                |
| sphere_weight    | of the sphere in the fused similarity                                          |
| weight_source    | where that comes from, such as validation                                      |
| weight_gain      | its gain over features on validation, with the interval; or null               |
| protocol         | fit, source, readout, window, temperature, sigma, as in params.yaml            |
| credits          | of method, data and backbone: licence, citation, home page                     |

Version 1 lacks the protocol: it was made when photographs were padded, points described by their patch and
the centre of the best one taken, and is read as such. Older bundles have no weight_source or no credits.
"""

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic.dataclasses import dataclass as strict
from safetensors import SafetensorError
from torch import Tensor

from spheremap.api.protocol import Protocol
from spheremap.api.weight import Source, SphereWeight
from spheremap.base.choices import Precision
from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.files import atomic_path, cache_folder, scratch, sha256_file
from spheremap.base.tensors import read_tensors, write_tensors
from spheremap.config.backbone import Backbone as BackboneSpec
from spheremap.config.credit import METHOD, Credit
from spheremap.config.fields import STRICT, Natural, Sha256, Share
from spheremap.config.slices import parse
from spheremap.features.backbones.weights import credit_of, fetch_weights
from spheremap.features.cache.space import check_trained_on
from spheremap.metrics.sweep import Gain
from spheremap.model.domain import Domain
from spheremap.model.head import Head
from spheremap.model.head.checkpoint import MAPPER
from spheremap.model.heads import PAPERS

SCHEMA = "spheremap-bundle-2"
_FIRST = "spheremap-bundle-1"
EMBEDDED = "backbone_file"
DOMAIN = "domain."
WORKFLOWS = Path("models", "backbones")  # where the workflow keeps weights, from the project's top folder
_FIX = "name a file that `spheremap bundle` wrote, or make one with it"


@strict(frozen=True, config=STRICT)
class About:
    """What a bundle says of itself.

    Attributes:
        dim: D, width of the features.
        categories: in the order of the prototypes.
        provenance: how the head was made.
        backbone: the ViT, its layer, and where its weights come from.
        weights_sha256: of the weights file, as `spheremap weights` writes it.
        precision: of the backbone.
        sphere_weight: default weight of the sphere in the fused similarity.
        protocol: how photographs are fitted, points described and places read by default.
        head: its name, see `spheremap.model.heads`.
        weight_source: where the weight comes from.
        weight_gain: of the weight over features alone, if validation chose it.
        components: K of the domain inside (`spheremap.model.domain`); 0: none.
        credits: whom it owes something; older bundles say of the method alone.
    """

    dim: int
    categories: list[str]
    provenance: dict[str, Any]
    backbone: BackboneSpec
    weights_sha256: Sha256  # a file of this name is written
    precision: Precision
    sphere_weight: Share
    protocol: Protocol
    head: str = PAPERS
    weight_source: Source = "bundle"
    weight_gain: Gain | None = None
    components: Natural = 0
    credits: tuple[Credit, ...] = (METHOD,)

    @property
    def weight(self) -> SphereWeight:
        """The weight and where it comes from."""
        return SphereWeight(self.sphere_weight, self.weight_source, self.weight_gain)


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory: its description, the head, and, if inside, domain and backbone's weights."""

    path: Path
    about: About
    head: Head
    domain: Domain | None
    embedded: bytes | None

    @contextmanager
    def weights(self, given: Path | None = None) -> Iterator[Path]:
        """The backbone's weights file for the time of the block, checked against its SHA-256.

        It is the one given, or else the one inside the bundle, or the one that the workflow of the current
        folder fetched, or the one in the user's cache folder ($XDG_CACHE_HOME/spheremap), where it is fetched
        from its source if it is not there yet.

        Raises:
            InputError: if the file does not exist or its source cannot be reached.
            ProvenanceError: if it holds other weights than those that the head was trained with.
        """
        if given is None and self.embedded is not None:
            with tempfile.TemporaryDirectory(prefix="spheremap-") as folder:
                path = Path(folder) / "backbone.safetensors"
                path.write_bytes(self.embedded)
                self._check(path, self.path)
                yield path
            return
        if given is None:
            yield self._fetched()
            return
        check_exists(given)
        self._check(given, given)
        yield given

    def _fetched(self) -> Path:
        """The checked file, of the workflow or the cache folder."""
        wanted = self.about.weights_sha256
        for path in sorted(WORKFLOWS.glob("*.safetensors")):
            if sha256_file(path) == wanted:
                return path
        path = cache_folder() / f"{wanted}.safetensors"
        if path.exists():
            self._check(path, path)
        else:
            with atomic_path(path) as temporary:
                fetch_weights(self.about.backbone, temporary)
                self._check(temporary, f"weights from source {self.about.backbone.weights.source!r}")
        return path

    def _check(self, path: Path, where: Path | str) -> None:
        found, wanted = sha256_file(path), self.about.weights_sha256
        if found != wanted:
            raise ProvenanceError(
                "these are not the weights of the backbone that the head was trained with",
                where=where,
                expected=f"{self.about.backbone.model}, a file of SHA-256 {wanted[:12]}…",
                found=f"SHA-256 {found[:12]}…",
                fix="give the file that `spheremap weights` wrote for the features of the training, "
                "or bundle head and weights with --embed",
            )


def fetch_to_cache(backbone: BackboneSpec) -> Path:
    """Fetch the weights of a backbone into the user's cache folder, where bundles look for them.

    Raises:
        InputError: if their source cannot be reached.
    """
    with scratch(cache_folder() / "weights") as folder:
        path = folder / "backbone.safetensors"
        fetch_weights(backbone, path)
        return path.replace(cache_folder() / f"{sha256_file(path)}.safetensors")


def check_exists(weights: Path) -> None:
    """Check that a file of weights is there.

    Raises:
        InputError: if it is not.
    """
    if not weights.is_file():
        raise InputError("the weights of the backbone do not exist", where=weights)


def write_bundle(
    path: Path,
    head: Head,
    backbone: BackboneSpec,
    weights: Path,
    *,
    where: Path,
    precision: Precision = "float32",
    weight: SphereWeight = SphereWeight(0.2, "bundle"),  # noqa: B008
    protocol: Protocol | None = None,
    domain: Domain | None = None,
    credits: Iterable[Credit] = (),
    embed: bool = False,
    compact: bool = False,
) -> None:
    """Write head and backbone as one file; equal parts give equal bytes.

    Args:
        path: the file.
        head: the trained head.
        backbone: the ViT and layer that it was trained on.
        weights: its weights file, as `spheremap weights` writes it.
        where: the head's file, for messages.
        precision: of the backbone.
        weight: of the sphere in the fused similarity by default, and where that comes from.
        protocol: default protocol; None: that of `Protocol()`.
        domain: of the head; outside it the sphere counts less.
        credits: of the head and its data; those of method and backbone are added.
        embed: whether to put the weights themselves in, so that nothing needs to be fetched.
        compact: whether to keep the sphere mapper alone, in float16: all that matching needs.

    Raises:
        InputError: if the weights do not exist.
        ProvenanceError: if the head was trained on other features.
    """
    check_exists(weights)
    digits = sha256_file(weights)
    features = {"params": {"backbone": dataclasses.asdict(backbone)}, "inputs": {"weights": digits}}
    fix = "name the backbone and weights that the head was trained with"
    check_trained_on(features, head.provenance, where, fix)
    about = About(
        dim=head.dim,
        categories=head.categories,
        provenance=head.provenance,
        backbone=backbone,
        weights_sha256=digits,
        precision=precision,
        sphere_weight=weight.value,
        protocol=protocol or Protocol(),
        head=head.name,
        weight_source=weight.source,
        weight_gain=weight.gain,
        components=0 if domain is None else len(domain.directions),
        credits=(METHOD, *credits, *credit_of(backbone)),
    )
    tensors = head.state_dict()
    if compact:
        tensors = {name: tensor.half() for name, tensor in tensors.items() if name.startswith(MAPPER)}
    if domain is not None:
        tensors |= {DOMAIN + name: tensor for name, tensor in domain.state_dict().items()}
    if embed:
        tensors[EMBEDDED] = torch.from_numpy(np.fromfile(weights, dtype=np.uint8))
    metadata = {"schema": SCHEMA, **dataclasses.asdict(about)}
    write_tensors(path, tensors, metadata)


def read_bundle(path: Path, device: torch.device | str = "cpu") -> Bundle:
    """Read a bundle; the head goes to `device`.

    Raises:
        ProvenanceError: if the file is missing, damaged or something else.
    """
    path = Path(path)
    state, metadata = _read(path)
    schema = metadata.pop("schema", None)
    if schema == _FIRST:
        metadata["protocol"] = {"fit": "pad", "source": "patch", "readout": "argmax"}
    elif schema != SCHEMA:
        raise ProvenanceError(
            "not a bundle of this version", where=path, expected=f"a file of schema {SCHEMA}", fix=_FIX
        )
    about = parse(metadata, About, where=path)
    embedded = state.pop(EMBEDDED, None)
    domain = _domain(state, about, path)
    head = Head.restore(
        state, path, name=about.head, dim=about.dim, categories=about.categories, provenance=about.provenance
    )
    weights = None if embedded is None else embedded.numpy().tobytes()
    return Bundle(path, about, head.to(device), None if domain is None else domain.to(device), weights)


def _domain(state: dict[str, Tensor], about: About, path: Path) -> Domain | None:
    """The domain, whose tensors are taken out of the state."""
    inside = {name: state.pop(name) for name in list(state) if name.startswith(DOMAIN)}
    if not about.components:
        return None
    shapes = {DOMAIN + "mean": (about.dim,), DOMAIN + "directions": (about.components, about.dim),
              DOMAIN + "limits": (2,)}  # fmt: skip
    found = {name: tuple(tensor.shape) for name, tensor in inside.items()}
    if found != shapes:
        raise ProvenanceError(
            "the domain of the head is damaged", where=path, expected=str(shapes), found=str(found), fix=_FIX
        )
    domain = Domain(about.dim, about.components)
    domain.load_state_dict({name.removeprefix(DOMAIN): tensor for name, tensor in inside.items()})
    return domain


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        state, content = read_tensors(path)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise ProvenanceError(
            "the bundle cannot be read",
            where=path,
            expected="a file of `spheremap bundle`",
            found="a folder" if path.is_dir() else str(error).split("\n", maxsplit=1)[0],
            fix=_FIX,
        ) from error
    return state, content or {}

"""Heads by name: those in the package, and those that others have published.

shipped_heads/NAME.spheremap is the bundle NAME. published_heads.yaml says where published heads are and which
backbone they were trained on; each is fetched once, and made a bundle in the user's cache.
"""

import dataclasses
import os
from pathlib import Path

from pydantic.dataclasses import dataclass

from spheremap.api.bundle import SCHEMA, check_exists, fetch_to_cache, read_bundle, write_bundle
from spheremap.api.protocol import Protocol
from spheremap.api.weight import SphereWeight
from spheremap.base.errors import InputError, ProvenanceError, did_you_mean
from spheremap.base.files import cache_folder, exclusive, sha256_file
from spheremap.base.provenance import digest
from spheremap.config.backbone import Backbone
from spheremap.config.credit import METHOD, Credit
from spheremap.config.data_sets import RemoteFile
from spheremap.config.fields import STRICT, Count, Share
from spheremap.config.slices import parse, read_params
from spheremap.data.download import announce, expected_of, fetch_file, trust
from spheremap.data.download.published import Published
from spheremap.features.backbones.weights import credit_of
from spheremap.model.head import Head, load_mapper

REGISTRY = Path(__file__).with_name("published_heads.yaml")
SHIPPED = Path(__file__).with_name("shipped_heads")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PublishedHead(Published):
    """A state dict in the authors' layout, and what a bundle needs to say of it.

    Attributes:
        dim: D, width of the features.
        backbone: the ViT and layer that it was trained on.
        categories: in the order of the prototypes.
        protocol: how its authors show photographs to it and read places.
        sphere_weight: theirs, of the sphere in the fused similarity.
    """

    dim: Count
    backbone: Backbone
    categories: list[str]
    protocol: Protocol
    sphere_weight: Share

    def credit(self, name: str) -> Credit:
        """Whom the head of this name owes something."""
        return Credit(f"head {name}", self.licence, self.citation, self.homepage)


def read_registry(path: Path) -> dict[str, PublishedHead]:
    """Read the published heads by name.

    Raises:
        InputError: if the file is malformed.
    """
    heads: dict[str, PublishedHead] = parse(read_params(path), dict[str, PublishedHead], where=path)
    return heads


def find_bundle(model: str | os.PathLike[str], weights: Path | None = None) -> Path:
    """The file of a bundle: the one given or, for the name of a head, one in the package or the cache folder.

    Args:
        model: a path or a name.
        weights: of the backbone of a published head; None: they are fetched.

    Raises:
        InputError: if there is neither such a file nor such a head, or the head cannot be had.
    """
    path = Path(model).expanduser()
    if path.is_file():
        return path
    shipped = {bundle.stem: bundle for bundle in sorted(SHIPPED.glob("*.spheremap"))}
    if str(model) in shipped:
        return shipped[str(model)]
    heads = read_registry(REGISTRY)
    if str(model) in heads:
        return _make_bundle(str(model), heads[str(model)], weights)
    if path.exists():  # whatever reads it will say what is wrong
        return path
    names = [*shipped, *heads]
    raise InputError(
        "the bundle does not exist",
        where=path,
        expected=f"a file of `spheremap bundle`, or a head by name: {', '.join(names)}",
        fix=did_you_mean(str(model), names, "make one with `spheremap bundle`, or correct the path"),
    )


def credits_of(model: str | os.PathLike[str]) -> tuple[Credit, ...]:
    """Whom a bundle or a published head owes something; nothing is fetched for it.

    Raises:
        InputError, ProvenanceError: if there is neither, or the bundle cannot be read.
    """
    heads = read_registry(REGISTRY)
    if str(model) in heads and not Path(model).is_file():
        head = heads[str(model)]
        return METHOD, head.credit(str(model)), *credit_of(head.backbone)
    return read_bundle(find_bundle(model)).about.credits


def _make_bundle(name: str, head: PublishedHead, weights: Path | None) -> Path:
    """The bundle of a published head, made unless it is there."""
    if weights is not None:
        check_exists(weights)
    folder = cache_folder() / "heads"
    file = RemoteFile(f"{name}.pth", head.urls, sha256=head.sha256, unpack=False)
    checkpoint, digests = folder / file.name, folder / "digests.json"
    with exclusive(folder / "lock"):
        expected = expected_of(file, name, digests, REGISTRY.name)
        if not checkpoint.exists():
            announce(name, head)
        fetched = fetch_file(file, folder, expected)
        own = None if weights is None else sha256_file(weights)
        made_of = [SCHEMA, dataclasses.asdict(head), fetched.sha256, own]
        bundle = folder / f"{name}-{digest(made_of)[:12]}.spheremap"
        if expected.sha256 is None or not bundle.exists():
            trained = _load(checkpoint, head)
            if expected.sha256 is None:  # only now, since a file that cannot be used is not to be trusted
                trust(name, fetched, digests)
            write_bundle(
                bundle, trained, head.backbone, weights or fetch_to_cache(head.backbone), where=checkpoint,
                weight=SphereWeight(head.sphere_weight, "authors"), protocol=head.protocol,
                credits=[head.credit(name)],
            )  # fmt: skip
    return bundle


def _load(checkpoint: Path, head: PublishedHead) -> Head:
    try:
        return load_mapper(checkpoint, head.dim, head.categories)
    except ProvenanceError as error:
        raise InputError(
            "the published file does not hold the head that is described",
            where=checkpoint,
            expected=f"a sphere mapper for features of width {head.dim}, of {head.backbone.model}",
            found=str(error).partition("\n")[0],  # what follows is advice for heads that were trained here
            fix="delete the file, and run the command again to download it anew",
        ) from error

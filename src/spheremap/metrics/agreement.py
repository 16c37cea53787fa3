"""Do features and head belong together? A head read with other features gives numbers, only wrong ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.provenance import digest
from spheremap.features.cache.reader import FeatureCache
from spheremap.features.cache.space import feature_space
from spheremap.methods.adaptation.adapter import Adapter
from spheremap.model.head import Head


def check_agreement(cache: FeatureCache, head: Head, where: Path) -> None:
    """Check that a head was trained on such features: the same layer of the same backbone, with its weights.

    Images, resolution and categories may be others: only the prototypes, which evaluation does not use, know
    the categories. A head without provenance (the authors') is held to its width alone.

    Args:
        where: the head's file, for the message.

    Raises:
        InputError: if the cache holds training views.
        ProvenanceError: if width or features differ.
    """
    if cache.kind != "images":
        raise InputError("evaluation needs features of whole images", expected="images", found=cache.kind)
    fix = "run `snakemake --cores all` to train a head on these features"
    if cache.dim != head.dim:
        raise ProvenanceError(
            "the head was trained on features of another width",
            where=where, expected=str(cache.dim), found=str(head.dim), fix=fix,
        )  # fmt: skip
    if head.provenance:
        _check_space(cache, head.provenance, "head", where, fix)


def check_adapter(cache: FeatureCache, adapter: Adapter, where: Path) -> None:
    """Check that an adapter was trained on such features.

    Raises:
        ProvenanceError: if the features differ.
    """
    fix = "run `snakemake --cores all` to train an adapter on these features"
    _check_space(cache, adapter.provenance, "adapter", where, fix)


def _check_space(
    cache: FeatureCache, provenance: Mapping[str, Any], what: str, where: Path, fix: str
) -> None:
    space = feature_space(cache.provenance)
    own, trained = digest(space), provenance.get("inputs", {}).get("features", "none")
    if own != trained:
        raise ProvenanceError(
            f"the {what} was trained on other features",
            where=where,
            expected=f"{what} for features of digest {own[:12]}: "
            + ", ".join(f"{key} {value}" for key, value in space.items()),
            found=f"digest {trained[:12]}: another backbone, weights or layer",
            fix=fix,
        )

"""Refuses to evaluate a head with features other than those it was made for."""

from pathlib import Path

from spheremap.cache.reader import FeatureCache
from spheremap.errors import InputError, ProvenanceError
from spheremap.head import Head
from spheremap.provenance import digest
from spheremap.tables import Tables


def check_agreement(cache: FeatureCache, tables: Tables, head: Head, where: Path) -> None:
    """Check that features, tables and head belong together.

    A head that says how it was trained must have been validated on this very cache: backbone, weights, layer
    and resolution are all part of the cache's provenance. A head without provenance (the authors') is held to
    its width alone.

    Args:
        where: the head's file, for the message.

    Raises:
        InputError: if the cache holds training views.
        ProvenanceError: if width, categories or provenance differ.
    """
    if cache.kind != "images":
        raise InputError("evaluation needs features of whole images", expected="images", found=cache.kind)
    fix = "run `snakemake --cores all` to train a head on these features"
    if cache.dim != head.dim:
        raise ProvenanceError(
            "the head was trained on features of another width",
            where=where, expected=str(cache.dim), found=str(head.dim), fix=fix,
        )  # fmt: skip
    if not head.provenance:
        return
    if head.categories != tables.categories:
        raise ProvenanceError(
            "the head was trained on other categories",
            where=where, expected=", ".join(tables.categories), found=", ".join(head.categories), fix=fix,
        )  # fmt: skip
    own, trained = digest(cache.provenance), head.provenance.get("inputs", {}).get("images", "none")
    if own != trained:
        raise ProvenanceError(
            "the head was trained with another feature cache",
            where=where,
            expected=f"a head trained with images of digest {own[:12]}",
            found=f"digest {trained[:12]}: another backbone, weights, layer, resolution or data set",
            fix=fix,
        )

"""Do features and head belong together? A head read with other features gives numbers, only wrong ones."""

from pathlib import Path

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.features.cache.reader import FeatureCache
from spheremap.features.cache.space import check_trained_on
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
    check_trained_on(cache.provenance, head.provenance, where, fix)

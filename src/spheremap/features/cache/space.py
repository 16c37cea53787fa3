"""Which features these are, wherever they were computed: what makes a head for one cache fit another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.provenance import check_provenance, digest
from spheremap.features.cache.reader import FeatureCache


def feature_space(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Backbone, layer and weights from the provenance of a cache.

    Data set, resolution and crops are left out: a head takes features of other images and sizes as well.

    Raises:
        ProvenanceError: if the provenance is not that of a feature cache.
    """
    try:
        backbone = provenance["params"]["backbone"]
        layer = {key: backbone[key] for key in ("model", "block", "norm", "facet")}
        return {**layer, "weights": provenance["inputs"]["weights"]}
    except KeyError as error:
        raise ProvenanceError(
            "the feature cache does not say how it was made",
            expected="backbone, layer and weights in its provenance",
            found=f"no {error}",
            fix="delete the cache and run `snakemake --cores all` to rebuild it",
        ) from error


def check_same_space(views: FeatureCache, images: FeatureCache, views_path: Path, images_path: Path) -> None:
    """Whether what is trained on `views` fits the `images` that it is validated on.

    Raises:
        InputError: if a cache is of another kind.
        ProvenanceError: if backbone, weights, settings or tables differ.
    """
    for cache, kind, path in ((views, "views", views_path), (images, "images", images_path)):
        if cache.kind != kind:
            raise InputError(
                f"--{kind} was given a feature cache of another kind",
                where=path,
                expected=kind,
                found=cache.kind,
            )
    check_provenance(
        images.provenance,
        expected={key: views.provenance[key] for key in ("params", "inputs")},
        where=images_path,
        fix="delete the feature caches and run `snakemake --cores all`",
    )


def digests_of(views: FeatureCache, images: FeatureCache) -> dict[str, str]:
    """What provenance says of the caches that something is learned from."""
    return {
        "views": digest(views.provenance),
        "images": digest(images.provenance),
        "features": digest(feature_space(views.provenance)),
    }


def check_trained_on(features: Mapping[str, Any], head: Mapping[str, Any], where: Path, fix: str) -> None:
    """Whether a head was trained on such features, by the provenance of both; one without any passes.

    Args:
        where: the head's file, for the message.
        fix: for the message, too.

    Raises:
        ProvenanceError: if it was trained on others.
    """
    if not head:
        return
    space = feature_space(features)
    own, trained = digest(space), head.get("inputs", {}).get("features", "none")
    if own != trained:
        layer = ", ".join(f"{key} {value}" for key, value in space.items())
        raise ProvenanceError(
            "the head was trained on other features",
            where=where,
            expected=f"a head for features of digest {own[:12]}: {layer}",
            found=f"digest {trained[:12]}: another backbone, weights or layer",
            fix=fix,
        )

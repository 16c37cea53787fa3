"""Which features these are, wherever they were computed: what makes a head for one cache fit another."""

from collections.abc import Mapping
from typing import Any

from spheremap.errors import ProvenanceError


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

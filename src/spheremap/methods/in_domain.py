"""Features and sphere fused, with less of the sphere for images unlike those that the head was trained on."""

import sys
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from spheremap.base.progress import progress
from spheremap.config.fields import Count, Share
from spheremap.features.cache.reader import FeatureCache
from spheremap.features.geometry import patches_of_picture
from spheremap.methods.engine.comparison import Block, Images, Pair
from spheremap.methods.engine.fitting import Fitted, Fitting
from spheremap.methods.engine.method import PARAMETERS, Method
from spheremap.methods.fused import Fused
from spheremap.model.domain import Domain, token_deviation

_BATCH = 32


@dataclass(frozen=True, config=PARAMETERS)
class InDomain(Method):
    """As `fused`, with the sphere's weight times the lower of the two images' shares of the domain.

    A head that was trained on drawings misleads on photographs; see `spheremap.model.domain` for how an image
    is told to be out of the domain.
    """

    of: tuple[Method, Method] = Field(description="Features and sphere, or others in their places.")
    sphere_weight: Share = Field(description="Of the second one in the domain.")
    components: Count = Field(description="Directions of the subspace in which images of the domain lie.")

    def untrained(self, dim: int) -> Domain:
        """A domain that everything is in."""
        return Domain(dim, self.components)

    def fit(self, fitting: Fitting) -> Fitted:
        """Learn the domain of training views; validation images say how far one of their own may lie off."""
        images = fitting.tables.images.set_index("image_id")
        splits = images.loc[fitting.images.image_ids, "split"].to_numpy()
        own = np.flatnonzero(splits == "val")
        sizes = images[["width", "height"]]
        if len(own):
            training = _summaries(fitting.views, np.arange(len(fitting.views)), sizes)
            domain = Domain.fit(training, _summaries(fitting.images, own, sizes), self.components)
        else:
            print(
                "there are no images of the split 'val': every image counts as in the domain", file=sys.stderr
            )
            domain = self.untrained(fitting.views.dim)
        return Fitted(domain, 0, pd.DataFrame({"step": [0], "limit": [float(domain.limits[0])]}))

    def parts(self) -> Mapping[Method, float]:
        """Those of images in the domain."""
        return Fused(self.of, self.sphere_weight).parts()

    def summarise(self, images: Images) -> Tensor:
        """Shares `(B,)` of the domain."""
        domain: Domain = images.fitted(self)
        tokens, inside = (
            torch.from_numpy(of).to(domain.mean.device) for of in (images.tokens, images.inside)
        )
        return domain.share(token_deviation(tokens, inside)).cpu()

    def compare(self, block: Block) -> Tensor:
        """The weighted sum of the two similarities, by weights of each pair."""

        def compare(pair: Pair) -> Tensor:
            share = min(float(block.summary(self, of)) for of in (pair.source, pair.target))
            return block.similarity(Fused(self.of, share * self.sphere_weight).parts(), pair.rows)

        return block.by_pair(compare)


def _summaries(cache: FeatureCache, records: NDArray[np.integer], sizes: pd.DataFrame) -> Tensor:
    """Of records of a cache `(n, D)`, from the patches that lie in the picture."""
    batches = np.array_split(records, -(-len(records) // _BATCH))
    size = sizes.loc[cache.image_ids].to_numpy()
    found = []
    for batch in progress(batches, total=len(batches), desc="domain", unit="batches"):
        inside = np.stack([patches_of_picture(cache.boxes[i], cache.grid, size[i]) for i in batch])
        found.append(token_deviation(torch.from_numpy(cache.tokens(batch)), torch.from_numpy(inside)))
    return torch.cat(found)

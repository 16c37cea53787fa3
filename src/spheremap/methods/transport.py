"""Similarities after optimal transport: a patch that others of the source claim, too, counts for less.

Source: Hartwig et al., GECO: Geometrically Consistent Embedding with Lightspeed Inference, ICCV 2025 (arXiv
2508.00746), whose matcher is partial optimal transport with a dustbin, as in Sarlin et al., SuperGlue, CVPR
2020, section 3.2. Written anew, since GECO's code states no licence.
"""

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from spheremap.config.fields import Count, Natural
from spheremap.methods.engine.comparison import Block, Images, Pair
from spheremap.methods.engine.method import PARAMETERS, Method, Variant
from spheremap.methods.engine.samples import concatenated, evenly, whole


@dataclass(frozen=True, config=PARAMETERS)
class Transport(Variant):
    """Another method's similarities plus the potentials of the transport between source and target.

    Each patch brings a mass of 1, which goes to patches of the other picture or to a dustbin. With the plan P
    that Sinkhorn's iterations end with, the similarity is `regularisation · log P`: the other method's plus a
    number for each keypoint and one for each patch of the target, which is the lower the more is drawn to it.
    The source is all keypoints of the pair and some more of its patches.
    """

    of: Method = Field(description="The other method.")
    rivals: Natural = Field(
        description="Patches of the source that compete with the keypoints, at most; published: all."
    )
    dustbin: Annotated[float, Field(ge=-1, le=1)] = Field(description="Similarity of all to the dustbin.")
    regularisation: Annotated[float, Field(ge=0.05)] = Field(description="Of the transport; published: 0.1.")
    iterations: Count = Field(description="Of Sinkhorn's algorithm; published: 10.")

    def summarise(self, images: Images) -> list[Tensor]:
        """Descriptors `(S, D')` of the rivals in each picture."""
        return [
            concatenated(images, image, evenly(inside, self.rivals), self.parts()).half()
            for image, inside in enumerate(images.inside)
        ]

    def compare(self, block: Block) -> Tensor:
        """The keypoints' rows of the plan, pair by pair."""
        similarity, target = self.of.compare(block), whole(block, block.target, self.parts())

        def compare(pair: Pair) -> Tensor:
            own = similarity[pair.rows]
            rivals = block.summary(self, pair.source).to(target) @ target.T
            return self.transported(torch.cat([own, rivals]))[: len(own)]

        return block.by_pair(compare)

    def transported(self, similarity: Tensor) -> Tensor:
        """`regularisation · log P` of similarities `(M, N)` in [-1, 1], less the dustbin's row and column."""
        rows, columns = similarity.shape
        scores = torch.nn.functional.pad(similarity, (0, 1, 0, 1), value=self.dustbin) / self.regularisation
        to, of = (scores.new_zeros(count + 1) for count in (rows, columns))  # logarithms of the masses
        to[-1], of[-1] = torch.tensor(columns).log(), torch.tensor(rows).log()
        # of scores so limited, sums of exponentials are exact enough as products with a matrix made once
        kernel = scores.exp()
        right = torch.zeros_like(of)
        for _ in range(self.iterations):
            left = to - (kernel @ right.exp()).log()
            right = of - (left.exp() @ kernel).log()
        plan = scores + left.unsqueeze(1) + right
        return self.regularisation * plan[:rows, :columns]

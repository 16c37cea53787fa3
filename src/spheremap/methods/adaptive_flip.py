"""Sources mirrored where their mirror image resembles the target more.

Source: Zhang et al., Telling Left from Right: Identifying Geometry-Aware Semantic Correspondence, CVPR 2024,
section 4.2 (test-time adaptive pose alignment); written anew, since their code states no licence.
"""

from collections.abc import Iterable, Mapping

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from spheremap.config.fields import Count
from spheremap.methods.engine.comparison import Block, Images
from spheremap.methods.engine.method import PARAMETERS, Method, Variant
from spheremap.methods.engine.mirrored import Mirrored
from spheremap.methods.engine.samples import concatenated, evenly, whole


@dataclass(frozen=True, config=PARAMETERS)
class AdaptiveFlip(Variant):
    """Another method's descriptors of the source or of its mirror image, whichever is nearer to the target's.

    The distance is the mean, over patches of the source's object, of that to the most similar patch of the
    target. It is the only method that uses masks in matching: those of the sources.

    A keypoint stays itself in the mirror image, where a left ear looks like a right one: that helps keypoints
    without a mirror keypoint, and swaps the sides of the others. The published code asks for the mirror
    keypoint there, by annotations of the target (docs/protocols.md).
    """

    of: Method = Field(description="The other method, of which the descriptors alone are used.")
    patches: Count = Field(
        description="Patches of the source that the distance is estimated from, at most; the published code "
        "takes all."
    )

    needs = ("mirrored",)

    def further_parts(self) -> Iterable[Method]:
        """Those of the mirror image."""
        return map(Mirrored, self.parts())

    def summarise(self, images: Images) -> list[Tensor]:
        """Descriptors `(2, S, D')` of some patches of each object, in the image and in its mirror image."""
        plain = self.parts()
        mirrored: Mapping[Method, float] = {Mirrored(part): weight for part, weight in plain.items()}
        found = []
        for image, foreground in enumerate(images.foreground):
            patches = evenly(foreground, self.patches)
            both = [concatenated(images, image, patches, parts) for parts in (plain, mirrored)]
            found.append(torch.stack(both).half())
        return found

    def compare(self, block: Block) -> Tensor:
        """Dot products with the descriptors of the image that is nearer; the image itself if both are."""
        samples = [block.summary(self, pair.source).flatten(0, 1) for pair in block.pairs]
        target = whole(block, block.target, self.parts())
        best = (torch.cat(samples).to(target) @ target.T).amax(dim=1)
        nearest = best.split([len(own) for own in samples])
        mirrored = {pair.source: flips(own) for pair, own in zip(block.pairs, nearest, strict=True)}
        return block.by_pair(
            lambda pair: block.similarity(
                self.parts(), pair.rows, Mirrored if mirrored[pair.source] else None
            )
        )


def flips(nearest: Tensor) -> bool:
    """Whether the mirror image is nearer, by the samples' highest similarities `(2S,)`, its own last."""
    # without any patch of an object the means are NaN: no
    plain, mirrored = (2 - 2 * nearest).clamp_min(0).sqrt().view(2, len(nearest) // 2).mean(dim=1).tolist()
    return bool(mirrored < plain)

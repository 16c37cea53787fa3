"""Descriptors without what a patch owes to its place in the picture.

Source: Cuttano et al., INSID3: Training-Free In-Context Segmentation with DINOv3, CVPR 2026 (arXiv
2603.28480); written anew from what the published code does (visinf/INSID3, 0f15807; no licence file seen).
"""

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from spheremap.base.errors import InputError
from spheremap.config.fields import Count
from spheremap.methods.engine.comparison import Images
from spheremap.methods.engine.descriptors import unit
from spheremap.methods.engine.method import PARAMETERS, Method


@dataclass(frozen=True, config=PARAMETERS)
class Debiased(Method):
    """Another method's descriptors off the subspace in which those of a blank picture vary.

    All patches of a picture of one colour look alike: what tells its descriptors apart, at unit length and
    less their mean, is their place. Their leading components are projected out of every image's. The colour
    is the mean one, zero after normalisation; that of the published code is black.
    """

    of: Method = Field(description="The other method, which has descriptors of its own.")
    components: Count = Field(
        description="Directions that are projected out; published: 20 (DINOv3-B at 768 px)."
    )

    needs = ("blank",)

    def describe(self, images: Images) -> Tensor:
        """Descriptors `(B, N, D)` off the subspace."""
        blank = images.blank
        basis = blank.once((self, "basis"), lambda: self.basis(blank.described(self.of)[0]))
        off = unit(images.described(self.of))
        return (off - off @ basis @ basis.T).half()

    def basis(self, blank: Tensor) -> Tensor:
        """Orthonormal directions `(D, components)` of the descriptors `(N, D)` of a blank picture."""
        if self.components >= blank.shape[1]:
            raise InputError(
                "nothing is left of descriptors without so many components",
                expected=f"fewer than the {blank.shape[1]} dimensions of {type(self.of).__name__}",
                found=str(self.components),
            )
        placed = unit(blank)
        directions = torch.linalg.svd(placed - placed.mean(dim=0), full_matrices=False).Vh
        return directions[: self.components].T

"""Where an image's object lies on the sphere, on the whole: its viewpoint, without a mask."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spheremap.base.errors import InputError
from spheremap.model.head.checkpoint import Head


@torch.inference_mode()
def mean_directions(head: Head, tokens: NDArray[np.floating], points: Tensor, category: str) -> Tensor:
    """Mean directions `(B, 3)` on the sphere, by which a trained head tells viewpoints apart.

    They are the S of the relative viewpoint loss of Mariotti et al. 2024 (section 3.2), for which that loss
    takes masks. Here a token counts by how much better than the image's average the prototypes reconstruct it
    from its sphere point: they have learned the category's parts and nothing of backgrounds. Tokens below the
    average do not count at all.

    Args:
        tokens: `(B, N, D)` of whole images of one category.
        points: their sphere points `(B, N, 3)`.
        category: of the images.

    Raises:
        InputError: if the head has no prototypes of the category.
    """
    weight = foreground_weight(head, tokens, points, category)
    return F.normalize((weight.unsqueeze(2) * points.to(weight.device)).sum(dim=1), dim=-1)


def foreground_weight(head: Head, tokens: NDArray[np.floating], points: Tensor, category: str) -> Tensor:
    """How much each token counts `(B, N)`, 0 or more: `max(0, c - mean c)`, c = cos(x, S_Z(s, category))."""
    if category not in head.categories:
        raise InputError(
            "the method by viewpoint needs a head that knows the category",
            expected=", ".join(head.categories),
            found=category,
            fix="take methods of the kind fused_viewpoint out of evaluate.methods",
        )
    places = points.to(head.device).flatten(0, 1)
    number = torch.full((len(places),), head.categories.index(category), device=head.device)
    rebuilt = head.prototypes(places, number).float().view(tokens.shape)
    likeness = F.cosine_similarity(torch.from_numpy(tokens).to(head.device).float(), rebuilt, dim=2)
    return (likeness - likeness.mean(dim=1, keepdim=True)).clamp_min(0)

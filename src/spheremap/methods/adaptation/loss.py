"""The contrastive loss over all patches of the target, which also keeps the features from collapsing."""

import torch
import torch.nn.functional as F
from torch import Tensor

from spheremap.features.geometry import Grid
from spheremap.methods.adaptation.pseudo_labels import Matches


def soft_targets(grid: Grid, spread: float) -> Tensor:
    """Row q: the distribution `(N,)` over patches that a match to patch q stands for.

    A Gaussian about q with a standard deviation of `spread` patches, as far as the grid reaches, or q alone.
    """
    rows, columns = grid
    if spread == 0:
        return torch.eye(rows * columns)
    place = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).double()
    squared = torch.cdist(place, place, compute_mode="donot_use_mm_for_euclid_dist").square()
    return torch.softmax(-squared / (2 * spread**2), dim=1).float()


def contrastive_loss(adapted: Tensor, matches: Matches, targets: Tensor, temperature: float) -> Tensor:
    """Sum over all matches of the cross-entropy between target distribution and softmax of similarities.

    Every patch of the target view competes, those of the background too, as in evaluation. Features that
    all became alike would score log N, the worst of constant answers: nothing else has to prevent it.

    Args:
        adapted: `(B, N, D)` unit vectors.
        matches: K pseudo-labels.
        targets: `(N, N)` from `soft_targets`.
        temperature: divides the cosine similarities.
    """
    flat = adapted.flatten(0, 1)
    total = 0 * adapted.sum()  # there is a gradient even where no match is
    for view in matches.view.unique().tolist():
        own = matches.view == view
        # as an embedding look-up, whose gradient is deterministic on every device
        source = F.embedding(matches.source[own], flat)
        logits = source @ adapted[view].T / temperature  # (k, N)
        total = total + F.cross_entropy(logits, targets[matches.patch[own]], reduction="sum")
    return total

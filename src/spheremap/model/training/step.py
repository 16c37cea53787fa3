"""One evaluation of all losses on a batch, and how a device and several processes do it."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spheremap.config import Train as TrainConfig
from spheremap.kernels import draw_triplets, require_compiler, sphere_geometry, use_triton
from spheremap.kernels.sphere_geometry import STREAMS
from spheremap.model.head import Head
from spheremap.model.losses import find_loss
from spheremap.model.training.batches import Batch
from spheremap.model.training.distributed import world_size

_TOKENS, _QUERIES = 64, 4  # sizes of the packed foreground, and of the widest image, that are told apart


@dataclass
class Outputs:
    """What a loss may look at.

    Attributes:
        batch: B views.
        points: `(M, 3)` sphere points of their foreground tokens.
        reconstruction: `(M, D)`, what the prototypes make of them.
        config: numbers of triplets, margin, threshold, backend and the like.
        key: `(3,)` int64 on the batch's device, see `spheremap.kernels.draw_key`; what is drawn depends on it
            alone, on every device and with every backend.
    """

    batch: Batch
    points: Tensor
    reconstruction: Tensor
    config: TrainConfig
    key: Tensor

    _pairs: tuple[Tensor, Tensor] | None = field(default=None, init=False)
    _over_triplets: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Pairs `(P, 2)` of foreground tokens of one view, rows of `points`, and which of them count.

        The sides of triplets, drawn apart from those of the losses over triplets.
        """
        if self._pairs is None:
            foreground = self.batch.foreground
            triplets, drawn = draw_triplets(
                foreground.offsets, foreground.counts, self.config.triplets, self.key, len(STREAMS)
            )
            sides = torch.cat([triplets[:, [0, 1]], triplets[:, [1, 2]], triplets[:, [2, 0]]])
            self._pairs = sides, drawn.repeat(3)
        return self._pairs

    def over_triplets(self, name: str) -> tuple[Tensor, Tensor]:
        """Mean and count of the loss `distance` or `orientation`; one operator evaluates both, once."""
        if self._over_triplets:  # by the other loss
            return self._over_triplets[name]
        foreground, config = self.batch.foreground, self.config
        means, counts = sphere_geometry(
            self.points,
            self.batch.coordinates[foreground.patch],
            foreground.offsets,
            foreground.counts,
            self.key,
            per_image=config.triplets,
            margin=config.distance_margin,
            threshold=config.orientation_threshold,
            backend=config.backend,
        )
        self._over_triplets |= zip(STREAMS, zip(means.unbind(), counts.unbind(), strict=True), strict=True)
        return self._over_triplets[name]


class Networks(nn.Module):
    """Mapper and prototypes: the foreground's sphere points `(M, 3)` and their reconstruction `(M, D)`."""

    def __init__(self, head: Head, config: TrainConfig) -> None:
        super().__init__()
        self.mapper, self.prototypes = head.mapper, head.prototypes
        # settled, see `spheremap.base.device`
        self.reduced = {"float32": False, "bfloat16": True}[config.precision]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=self.reduced):
            points = self.mapper(batch.seen, batch.foreground)
            return points, self.prototypes(points, batch.category)


class Losses(nn.Module):
    """The losses that `config.weights` names. Nothing here waits for the device."""

    def __init__(self, head: Head, config: TrainConfig) -> None:
        super().__init__()
        self.networks, self.config = Networks(head, config), config
        self.terms = {name: find_loss(name) for name in config.weights}

    def forward(self, batch: Batch, key: Tensor) -> tuple[Tensor, Tensor]:
        """Means of the K losses, unweighted, and over how many things each is one; both `(K,)`."""
        points, reconstruction = self.networks(batch)
        outputs = Outputs(batch, points, reconstruction, self.config, key)
        losses = {name: loss(outputs) for name, loss in self.terms.items()}
        means = torch.stack([mean for mean, _ in losses.values()])
        return means, torch.stack([count.to(means.dtype) for _, count in losses.values()])


def build_losses(
    head: Head, config: TrainConfig, *, batch: int, patches: int
) -> tuple[nn.Module, tuple[int, int]]:
    """The module that trains `head`, and the multiples to pad to (`Foreground.from_masks`).

    A GPU gets it compiled, unless the backend is `reference`; to compile takes what Triton takes. New shapes
    cost: a GPU records a graph of each, a CPU's oneDNN generates code for each, which took half of a step.
    Padding leaves few of them, for 1 / 128 of all tokens, on average, that are computed in vain. Of several
    processes each has its own; what they exchange within the losses is not compiled.

    Args:
        head: on its device.
        config: see `TrainConfig`.
        batch: views that this process has of every batch.
        patches: per view.
    """
    losses = Losses(head, config)
    by_graphs = head.device.type == "cuda" and use_triton(config.backend, torch.empty(0, device=head.device))
    if by_graphs:
        require_compiler()
        compile_for_cuda_graphs(losses if world_size() == 1 else losses.networks)
    pad_to = (max(1, batch * patches // _TOKENS), max(1, patches // _QUERIES) if by_graphs else 1)
    return (losses if world_size() == 1 else DistributedDataParallel(losses)), pad_to


def compile_for_cuda_graphs(module: nn.Module, *, in_one_piece: bool = False) -> None:
    """Compile a module together with its gradient; its next call overwrites its results.

    Args:
        module: its parameters are on a GPU.
        in_one_piece: refuse what cannot be compiled; else that runs as it is, between the pieces.
    """
    # a graph for each of some thirty shapes is meant, and no reason for PyTorch to warn
    options = {"triton.cudagraphs": True, "triton.cudagraph_dynamic_shape_warn_limit": None}
    module.compile(fullgraph=in_one_piece, options=options)

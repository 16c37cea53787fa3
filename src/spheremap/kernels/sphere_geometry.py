"""Relative distance and orientation losses on the sphere, fused with the drawing of their triplets.

One launch draws the triplets of all images, gathers their points and evaluates both losses; the backward
launch draws the same triplets again. Each image is one program's own, so that its gradients are summed in a
fixed order, without atomics: a run repeats bit by bit.
"""

from typing import Any

import torch
from torch import Tensor

from spheremap.base.errors import InputError
from spheremap.kernels.dispatch import Backend, use_triton
from spheremap.kernels.philox import below, philox, split_words
from spheremap.model.losses import orientation_loss, relative_distance_loss

STREAMS = ("distance", "orientation")  # each loss draws its own triplets


def draw_key(seed: int, step: int, device: torch.device | str = "cpu", first: int = 0) -> Tensor:
    """What triplets depend on besides image and draw: `(3,)` int64, seed (64 bits), step and first (32 bits).

    `first` is the number of image 0 in the batch that it is counted in: a process that has a share of a batch
    draws what one that has all of it draws for the same images.

    A tensor, so that a captured or compiled step draws anew each time it runs: raise `key[1]` in place
    between two steps, never between forward and backward.
    """
    return torch.tensor([seed, step, first], dtype=torch.int64, device=device)


def draw_triplets(
    offsets: Tensor, counts: Tensor, per_image: int, key: Tensor, stream: int
) -> tuple[Tensor, Tensor]:
    """Draw patches (a, b, c) uniformly and with replacement from each image's foreground.

    The triplet number t of image i is a function of (seed, step, first + i, t, stream) alone: Philox4x32-10
    with the seed as key and (t, first + i, step, stream) as counter, three of whose four words choose a, b
    and c, each patch with the probability 1 / count to within 2**-32.

    Args:
        offsets: `(B,)` int64, position of each image's first foreground patch in the packed list.
        counts: `(B,)` int64, foreground patches per image, below 2**31.
        per_image: T, triplets per image.
        key: `(3,)` int64, see `draw_key`.
        stream: which sequence to draw from; index into `STREAMS`.

    Returns:
        `(B * T, 3)` int64 positions in the packed list, image after image, and `(B * T,)` bool: false (and
        position 0) for an image without foreground.
    """
    image = torch.arange(len(counts), device=counts.device).unsqueeze(-1)  # (B, 1)
    draw = torch.arange(per_image, device=counts.device)
    seed, step, first = key.unbind()
    counter = (draw, split_words(image + first)[0], split_words(step)[0], torch.full_like(step, stream))
    words = philox(counter, split_words(seed))
    size = counts.view(-1, 1, 1)
    has_foreground = size > 0
    position = below(torch.stack(words[:3], dim=-1), size) + offsets.view(-1, 1, 1)  # (B, T, 3)
    triplets = torch.where(has_foreground, position, 0).flatten(0, 1)
    return triplets, has_foreground.expand(-1, per_image, 1).flatten()


def sphere_geometry(
    points: Tensor,
    coordinates: Tensor,
    offsets: Tensor,
    counts: Tensor,
    key: Tensor,
    *,
    per_image: int = 32,
    margin: float = 0.5,
    threshold: float = 0.7,
    backend: Backend = "auto",
) -> Tensor:
    """Relative distance and orientation losses, each over its own draw of triplets.

    Mariotti et al. 2024, Section 3.2; `spheremap.model.losses` has the losses, `draw_triplets` the draw.

    Args:
        points: `(M, 3)` packed unit vectors, float16, bfloat16 or float32. Rows of no image are padding.
        coordinates: `(M, 2)` float32 image positions (row, column) of the same patches, on any common scale.
        offsets: `(B,)` int64, position of each image's first point; images must not overlap.
        counts: `(B,)` int64, points per image; 0 where an image has none.
        key: `(3,)` int64, see `draw_key`.
        per_image: T, triplets per image and loss.
        margin: of the distance loss.
        threshold: on |det|, of the orientation loss.
        backend: see `dispatch.use_triton`.

    Returns:
        `(2,)` float32, the losses in the order of `STREAMS`; 0 where no triplet counts. The gradient is that
        of the points alone.

    Raises:
        InputError: if the shapes do not fit together, or the backend cannot run on these tensors.
    """
    shapes = [tuple(tensor.shape) for tensor in (points, coordinates, offsets, counts, key)]
    (total, images) = points.shape[0], counts.shape[0]
    if shapes != [(total, 3), (total, 2), (images,), (images,), (3,)]:
        raise InputError(
            "the packed points and their index do not fit together",
            expected="points (M, 3), coordinates (M, 2), offsets (B,), counts (B,), key (3,)",
            found=", ".join(map(str, shapes)),
        )
    if use_triton(backend, points, coordinates):
        return _sphere_geometry(
            points, coordinates.float(), offsets, counts, key, per_image, margin, threshold
        )[0]
    return reference(points, coordinates, offsets, counts, key, per_image, margin, threshold)


def reference(
    points: Tensor,
    coordinates: Tensor,
    offsets: Tensor,
    counts: Tensor,
    key: Tensor,
    per_image: int,
    margin: float,
    threshold: float,
) -> Tensor:
    """Define the kernel: same arguments and result as `sphere_geometry`. Takes float64 as well."""
    points = points.to(torch.promote_types(points.dtype, torch.float32))
    near_far, turning = (draw_triplets(offsets, counts, per_image, key, stream) for stream in range(2))
    return torch.stack(
        [
            relative_distance_loss(points, coordinates, *near_far, margin),
            orientation_loss(points, coordinates, *turning, threshold),
        ]
    )


@torch.library.custom_op("spheremap::sphere_geometry", mutates_args=())
def _sphere_geometry(
    points: Tensor,
    coordinates: Tensor,
    offsets: Tensor,
    counts: Tensor,
    key: Tensor,
    per_image: int,
    margin: float,
    threshold: float,
) -> tuple[Tensor, Tensor]:
    """Losses `(2,)` and 1 / number of triplets that count `(2,)`."""
    from spheremap.kernels.programs import sphere_geometry as programs

    return programs.forward(points, coordinates, offsets, counts, key, per_image, margin, threshold)


@_sphere_geometry.register_fake
def _(
    points: Tensor,
    coordinates: Tensor,
    offsets: Tensor,
    counts: Tensor,
    key: Tensor,
    per_image: int,
    margin: float,
    threshold: float,
) -> tuple[Tensor, Tensor]:
    return points.new_empty(2, dtype=torch.float32), points.new_empty(2, dtype=torch.float32)


@torch.library.custom_op("spheremap::sphere_geometry_backward", mutates_args=())
def _sphere_geometry_backward(
    gradient: Tensor,
    points: Tensor,
    coordinates: Tensor,
    offsets: Tensor,
    counts: Tensor,
    key: Tensor,
    inverse_counts: Tensor,
    per_image: int,
    margin: float,
    threshold: float,
) -> Tensor:
    """Gradient `(M, 3)` with respect to the points of the losses weighted by `gradient` `(2,)`."""
    from spheremap.kernels.programs import sphere_geometry as programs

    return programs.backward(
        gradient, points, coordinates, offsets, counts, key, inverse_counts, per_image, margin, threshold
    )


@_sphere_geometry_backward.register_fake
def _(
    gradient: Tensor,
    points: Tensor,
    coordinates: Tensor,
    offsets: Tensor,
    counts: Tensor,
    key: Tensor,
    inverse_counts: Tensor,
    per_image: int,
    margin: float,
    threshold: float,
) -> Tensor:
    return torch.empty_like(points, memory_format=torch.contiguous_format)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.per_image, ctx.margin, ctx.threshold = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, output[1])


def _differentiate(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    rest = (None,) * 7
    if not ctx.needs_input_grad[0]:
        return None, *rest
    result = _sphere_geometry_backward(gradient, *ctx.saved_tensors, ctx.per_image, ctx.margin, ctx.threshold)
    return result, *rest


_sphere_geometry.register_autograd(_differentiate, setup_context=_remember)


@torch.library.custom_op("spheremap::draw_triplets", mutates_args=())
def _draw_triplets(offsets: Tensor, counts: Tensor, per_image: int, key: Tensor, stream: int) -> Tensor:
    """The triplets that the kernel draws, `(B * T, 3)` int64; `draw_triplets` defines them."""
    from spheremap.kernels.programs import sphere_geometry as programs

    return programs.draw(offsets, counts, per_image, key, stream)


@_draw_triplets.register_fake
def _(offsets: Tensor, counts: Tensor, per_image: int, key: Tensor, stream: int) -> Tensor:
    return offsets.new_empty(offsets.shape[0] * per_image, 3)

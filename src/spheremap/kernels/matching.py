"""Matching without similarity matrices: what metrics need of them, from tiles that never leave the chip.

For the source keypoints of many pairs at once, all patches of each pair's target are compared tile by tile;
of every row of similarities only the best patch, the range, and the best inside and outside a radius remain.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from spheremap.base.errors import InputError
from spheremap.kernels.dispatch import Backend, use_triton
from spheremap.methods.descriptors import mix, unit
from spheremap.metrics.kap import extremes, inside_radius


@dataclass(frozen=True)
class Whereabouts:
    """Where keypoints lie in their targets, for the statistics of KAP.

    Attributes:
        xy: `(Q, 2)` float64 place of each keypoint in its target; NaN where it is not visible.
        places: `(I, N, 2)` float64 places of each target's patches, in the same unit.
        radius: `(P, A)` float64, the A radii of each pair.
    """

    xy: Tensor
    places: Tensor
    radius: Tensor


@dataclass(frozen=True)
class Matches:
    """What remains of the similarities of Q source keypoints to all N patches of their targets.

    Where a descriptor that takes part is not finite, `best` is -1 and all else is NaN.

    Attributes:
        best: `(Q,)` int64, the patch of highest similarity, row-major; the first one of a tie.
        position: `(Q, 2)` float32 (row, column) in patches: mean of the patches in a window about the best,
            weighted by the softmax of their similarities; the best patch itself with a window of 1.
        low: `(Q,)` float32, lowest similarity; `high` the highest.
        inside: `(A, Q)` float32, highest similarity to a patch closer than the radius, the nearest patch
            always counting as one; `outside` to any other. -inf where there is none: a keypoint that is not
            visible has all patches outside.
    """

    best: Tensor
    position: Tensor
    low: Tensor
    high: Tensor
    inside: Tensor
    outside: Tensor


def match(
    source: Tensor,
    source_points: Tensor,
    target: Tensor,
    target_points: Tensor,
    first: Tensor,
    image: Tensor,
    grid: tuple[int, int],
    *,
    weights: tuple[float, float] = (0.8, 0.2),
    window: int = 1,
    temperature: float = 0.05,
    whereabouts: Whereabouts | None = None,
    longest: int | None = None,
    backend: Backend = "auto",
) -> Matches:
    """Match the keypoints of P pairs: similarity `w_f cos(features) + w_s cos(sphere)` to all target patches.

    Matching and KAP as in Mariotti et al. 2024; the window as in the soft-argmax of Zhang et al., "Telling
    left from right" (CVPR 2024). No gradients.

    Args:
        source: `(Q, D)` features of the source keypoints' patches, pair after pair, of any length; float16,
            bfloat16 or float32. `source_points` `(Q, 3)`: their sphere points.
        target: `(I, N, D)` features of all patches of I targets, of the type of `source`; `target_points`
            `(I, N, 3)`.
        first: `(P + 1,)` int64, keypoints of pair p: first[p] to first[p + 1]; may be none.
        image: `(P,)` int64, index of each pair's target.
        grid: patches per column and row, N in all.
        weights: w_f and w_s.
        window: odd side of the window of the soft-argmax, in patches, up to 31.
        temperature: of the softmax.
        whereabouts: for `inside` and `outside`; without it A = 0.
        longest: an upper bound on the keypoints of a pair. Without it, the host waits for `first`.
        backend: see `dispatch.use_triton`.

    Raises:
        InputError: if shapes or parameters do not fit, or the backend cannot run on these tensors.
    """
    _check(source, source_points, target, target_points, first, image, grid, window, temperature, whereabouts)
    if longest is None:
        longest = max((stop - start for start, stop in pairwise(first.tolist())), default=0)
    xy, places, radius = None, None, None
    if whereabouts is not None:
        xy, places, radius = (
            tensor.to(torch.float64) for tensor in (whereabouts.xy, whereabouts.places, whereabouts.radius)
        )
    source, source_points = source.detach(), source_points.detach()
    target, target_points = target.detach(), target_points.detach()
    run = _match if use_triton(backend, source, source_points, target, target_points) else reference
    fields = run(
        source,
        source_points,
        target,
        target_points,
        first,
        image,
        xy,
        places,
        radius,
        grid[1],
        *weights,
        window,
        temperature,
        longest,
    )
    return Matches(*fields)


def reference(
    source: Tensor,
    source_points: Tensor,
    target: Tensor,
    target_points: Tensor,
    first: Tensor,
    image: Tensor,
    xy: Tensor | None,
    places: Tensor | None,
    radius: Tensor | None,
    columns: int,
    feature_weight: float,
    sphere_weight: float,
    window: int,
    temperature: float,
    longest: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Define the kernel, pair by pair with whole similarity matrices: the fields of `Matches`.

    `longest` plays no part here.
    """
    best, position, low, high, inside, outside = _empty(source, radius)
    for pair, (start, stop) in enumerate(pairwise(first.tolist())):
        rows, which = slice(start, stop), int(image[pair])
        if start == stop:
            continue
        on_features = unit(source[rows]) @ unit(target[which]).T  # (K, N)
        on_sphere = unit(source_points[rows]) @ unit(target_points[which]).T
        similarity = mix(on_features, on_sphere, (feature_weight, sphere_weight))
        best[rows] = similarity.argmax(dim=1)
        position[rows] = soft_argmax(similarity, best[rows], columns, window, temperature)
        low[rows], high[rows] = similarity.amin(dim=1), similarity.amax(dim=1)
        if xy is not None and places is not None and radius is not None:
            radii = tuple(radius[pair].tolist())
            near = inside_radius(xy[rows].cpu().numpy(), places[which].cpu().numpy(), radii)
            near_mask = torch.from_numpy(near).to(source.device)  # (A, K, N)
            inside[:, rows], outside[:, rows] = extremes(similarity, near_mask)
        broken = ~similarity.isfinite().all(dim=1)
        best[rows] = best[rows].masked_fill(broken, -1)
        for field in (position[rows].T, low[rows], high[rows], inside[:, rows], outside[:, rows]):
            field.masked_fill_(broken, torch.nan)
    return best, position, low, high, inside, outside


def soft_argmax(similarity: Tensor, best: Tensor, columns: int, window: int, temperature: float) -> Tensor:
    """Mean (row, column) `(K, 2)` in the window about `best` `(K,)`, by softmax of similarities `(K, N)`."""
    patch = torch.arange(similarity.shape[1], device=similarity.device)
    row, column = patch // columns, patch % columns
    reach = window // 2
    near = (row - (best // columns).unsqueeze(1)).abs() <= reach
    near &= (column - (best % columns).unsqueeze(1)).abs() <= reach
    weight = torch.softmax((similarity / temperature).masked_fill(~near, -torch.inf), dim=1)
    return weight @ torch.stack([row, column], dim=1).to(weight.dtype)


def _check(
    source: Tensor,
    source_points: Tensor,
    target: Tensor,
    target_points: Tensor,
    first: Tensor,
    image: Tensor,
    grid: tuple[int, int],
    window: int,
    temperature: float,
    whereabouts: Whereabouts | None,
) -> None:
    queries, dim = source.shape
    images, patches, _ = target.shape
    pairs = len(image)
    tensors = [source_points, target, target_points, first]
    expected = [(queries, 3), (images, patches, dim), (images, patches, 3), (pairs + 1,)]
    if whereabouts is not None:
        tensors += [whereabouts.xy, whereabouts.places, whereabouts.radius]
        expected += [(queries, 2), (images, patches, 2), (pairs, whereabouts.radius.shape[-1])]
    found = [tuple(tensor.shape) for tensor in tensors]
    if found != expected or patches == 0:
        raise InputError(
            "descriptors and pairs do not fit together",
            expected=", ".join(map(str, expected)),
            found=", ".join(map(str, found)),
        )
    if source.dtype != target.dtype:
        raise InputError(
            "descriptors differ in precision", expected=str(source.dtype), found=str(target.dtype)
        )
    if grid[0] * grid[1] != patches:
        raise InputError("the grid does not have as many patches as the target", found=f"{grid}, {patches}")
    if not (1 <= window <= 31 and window % 2 == 1):
        raise InputError("bad window of the soft-argmax", expected="1, 3, 5, ... 31", found=str(window))
    if not temperature > 0:
        raise InputError("bad temperature of the soft-argmax", expected="more than 0", found=str(temperature))


def _empty(source: Tensor, radius: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Room for the fields of `Matches`."""
    queries, radii = source.shape[0], 0 if radius is None else radius.shape[1]

    def floats(*shape: int) -> Tensor:
        return source.new_empty(shape, dtype=torch.float32)

    best = source.new_empty(queries, dtype=torch.int64)
    return (
        best,
        floats(queries, 2),
        floats(queries),
        floats(queries),
        floats(radii, queries),
        floats(radii, queries),
    )


@torch.library.custom_op("spheremap::match", mutates_args=())
def _match(
    source: Tensor,
    source_points: Tensor,
    target: Tensor,
    target_points: Tensor,
    first: Tensor,
    image: Tensor,
    xy: Tensor | None,
    places: Tensor | None,
    radius: Tensor | None,
    columns: int,
    feature_weight: float,
    sphere_weight: float,
    window: int,
    temperature: float,
    longest: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The fields of `Matches`."""
    from spheremap.kernels.programs import matching as programs

    fields = _empty(source, radius)
    programs.run(
        fields,
        source,
        source_points,
        target,
        target_points,
        first,
        image,
        xy,
        places,
        radius,
        columns,
        (feature_weight, sphere_weight),
        window,
        temperature,
        longest,
    )
    return fields


@_match.register_fake
def _(
    source: Tensor,
    source_points: Tensor,
    target: Tensor,
    target_points: Tensor,
    first: Tensor,
    image: Tensor,
    xy: Tensor | None,
    places: Tensor | None,
    radius: Tensor | None,
    columns: int,
    feature_weight: float,
    sphere_weight: float,
    window: int,
    temperature: float,
    longest: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _empty(source, radius)

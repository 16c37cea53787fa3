"""Relative distance and orientation losses on the sphere, fused with the drawing of their triplets.

One launch draws the triplets of all images, gathers their points and evaluates both losses; the backward
launch draws the same triplets again. Each image is one program's own, so that its gradients are summed in a
fixed order, without atomics: a run repeats bit by bit. In the programs vectors are three blocks x, y, z over
the T triplets.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spheremap.base.choices import Backend
from spheremap.kernels.dispatch import launch, reduce_partials, storage_type, tl, triton, use_triton
from spheremap.kernels.philox import below, philox, split_words
from spheremap.kernels.vectors import EPSILON, masked_mean, unit

STREAMS = ("distance", "orientation")  # each loss draws its own triplets


def patch_coordinates(grid: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """Image coordinates (row, column) of all patches, row-major: `(rows * columns, 2)` float32.

    Proportional to `linspace(0, 1)` on each axis, but in whole numbers. The losses compare distances and take
    angles, for which the common factor does not matter; in whole numbers equal distances are exactly equal.
    """
    rows, columns = grid
    common = math.lcm(max(rows - 1, 1), max(columns - 1, 1))
    row = torch.arange(rows) * (common // max(rows - 1, 1))
    column = torch.arange(columns) * (common // max(columns - 1, 1))
    return torch.cartesian_prod(row, column).to(device, torch.float32)


def draw_key(seed: int, step: int, device: torch.device | str = "cpu", first: int = 0) -> Tensor:
    """What triplets depend on besides image and draw: `(3,)` int64, seed (64 bits), step and first (32 bits).

    `first` is the number of image 0 in the batch that it is counted in: a process that has a part of a batch
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
) -> tuple[Tensor, Tensor]:
    """Relative distance and orientation losses, each over its own draw of triplets, and how many these are.

    Mariotti et al. 2024, Section 3.2: `distance_loss` and `orientation_loss` over what `draw_triplets` draws.

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
        Losses `(2,)` float32 in the order of `STREAMS`, 0 where no triplet counts; and the numbers `(2,)` of
        triplets that count. The gradient is that of the points alone.

    Raises:
        InputError: if the backend cannot run on these tensors.
    """
    shapes = [tuple(tensor.shape) for tensor in (points, coordinates, offsets, counts, key)]
    (total, images) = points.shape[0], counts.shape[0]
    assert shapes == [(total, 3), (total, 2), (images,), (images,), (3,)]
    if use_triton(backend, points, coordinates):
        return fused(points, coordinates.float(), offsets, counts, key, per_image, margin, threshold)
    return reference(points, coordinates, offsets, counts, key, per_image, margin, threshold)


# --- the torch twin


def reference(
    points: Tensor,
    coordinates: Tensor,
    offsets: Tensor,
    counts: Tensor,
    key: Tensor,
    per_image: int,
    margin: float,
    threshold: float,
) -> tuple[Tensor, Tensor]:
    """Define the operator: same arguments and results as `sphere_geometry`. Takes float64 as well."""
    points = points.to(torch.promote_types(points.dtype, torch.float32))
    near_far, turning = (draw_triplets(offsets, counts, per_image, key, stream) for stream in range(2))
    means, numbers = zip(
        distance_loss(points, coordinates, *near_far, margin),
        orientation_loss(points, coordinates, *turning, threshold),
        strict=True,
    )
    return torch.stack(means), torch.stack(numbers)


def distance_loss(
    points: Tensor, coordinates: Tensor, triplets: Tensor, valid: Tensor, margin: float = 0.5
) -> tuple[Tensor, Tensor]:
    """What is nearer in the image shall be nearer on the sphere (Mariotti et al. 2024, Section 3.2).

    For a triplet (a, b, c) the positive is whichever of b and c is nearer to a in the image, c if they are
    equally near; the loss is `max(0, d(a, positive) - d(a, negative) + margin)` with `d = 1 - cos`.

    Args:
        points: `(P, 3)` unit vectors.
        coordinates: `(P, 2)` image positions of the same patches (row, column), see `patch_coordinates`.
        triplets: `(K, 3)` int64, rows of `points`; each triplet within one image.
        valid: `(K,)` bool, triplets that count.
        margin: in units of d.

    Returns:
        Scalar mean over the valid triplets, 0 without any; and their number.
    """
    if not len(points):
        return points.sum(), valid.sum()
    a, b, c = F.embedding(triplets, points).unbind(-2)  # each (K, 3)
    at_a, at_b, at_c = coordinates[triplets].unbind(-2)  # each (K, 2)
    b_is_nearer = (at_b - at_a).square().sum(-1) < (at_c - at_a).square().sum(-1)
    excess = torch.linalg.vecdot(a, c) - torch.linalg.vecdot(a, b)  # d(a, b) - d(a, c)
    excess = torch.where(b_is_nearer, excess, -excess)
    return masked_mean(F.relu(excess + margin), valid)


def orientation_loss(
    points: Tensor, coordinates: Tensor, triplets: Tensor, valid: Tensor, threshold: float = 0.7
) -> tuple[Tensor, Tensor]:
    """What turns one way in the image shall turn the same way on the sphere (Section 3.2).

    For a triplet (a, b, c), det is that of the unit vectors from a to b and from a to c in the image; those
    with `|det| > threshold` count. In the tangent plane of s_a, with (p, q) = (b, c) if det > 0 and (c, b)
    otherwise, the loss is `max(0, 1 - <t_p × t_q, s_a>)²`.

    Args:
        points, coordinates, triplets: as for `distance_loss`.
        valid: `(K,)` bool, triplets that may count.
        threshold: in [0, 1).

    Returns:
        Scalar mean over the triplets that count, 0 without any; and their number.
    """
    if not len(points):
        return points.sum(), valid.sum()
    turn = image_turn(coordinates, triplets)
    # exchanging p and q only changes the sign of their cross product
    agreement = sphere_turn(points, triplets) * turn.sign()
    return masked_mean(F.relu(1 - agreement).square(), valid & (turn.abs() > threshold))


def image_turn(coordinates: Tensor, triplets: Tensor) -> Tensor:
    """`(K,)` determinant of the unit vectors (row, column) from a to b and from a to c; 0 if one is zero."""
    at_a, at_b, at_c = coordinates[triplets].unbind(-2)
    u, w = unit(at_b - at_a), unit(at_c - at_a)
    return u[..., 0] * w[..., 1] - u[..., 1] * w[..., 0]


def sphere_turn(points: Tensor, triplets: Tensor) -> Tensor:
    """`(K,)` sine of the angle from s_b to s_c as seen from outside above s_a; 0 where it is undefined."""
    a, b, c = F.embedding(triplets, points).unbind(-2)
    t_b, t_c = (unit(x - a - a * torch.linalg.vecdot(a, x - a).unsqueeze(-1)) for x in (b, c))
    return (torch.linalg.cross(t_b, t_c) * a).sum(-1)


# --- Triton

_EPSILON: tl.constexpr = tl.constexpr(EPSILON)
SPLIT = 4  # programs that share the backward pass of an image, each with its own points
TILE = 1024  # points x triplets compared at once in the backward pass
WARPS = 4


@triton.jit
def draw_positions(
    key: tl.tensor,
    offset: tl.tensor,
    count: tl.tensor,
    image: tl.tensor,
    draw: tl.tensor,
    STREAM: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Packed positions a, b, c of the triplets `draw` of an image; as `draw_triplets` defines them."""
    zero = draw * 0
    step = tl.load(key + 1).to(tl.int32)
    number = image + tl.load(key + 2).to(tl.int32)  # in the batch that it is counted in
    word_a, word_b, word_c, _ = tl.philox(tl.load(key), draw, zero + number, zero + step, zero + STREAM)
    size = (zero + count.to(tl.int32)).to(tl.uint32)
    a = offset + tl.umulhi(word_a, size).to(tl.int64)
    b = offset + tl.umulhi(word_b, size).to(tl.int64)
    c = offset + tl.umulhi(word_c, size).to(tl.int64)
    return a, b, c


@triton.jit
def load_point(points: tl.tensor, at: tl.tensor, mask: tl.tensor) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """A block of vectors, in float32."""
    x = tl.load(points + at * 3, mask=mask, other=0.0).to(tl.float32)
    y = tl.load(points + at * 3 + 1, mask=mask, other=0.0).to(tl.float32)
    z = tl.load(points + at * 3 + 2, mask=mask, other=0.0).to(tl.float32)
    return x, y, z


@triton.jit
def dot(
    ax: tl.tensor, ay: tl.tensor, az: tl.tensor, bx: tl.tensor, by: tl.tensor, bz: tl.tensor
) -> tl.tensor:
    return ax * bx + ay * by + az * bz


@triton.jit
def cross(
    ax: tl.tensor, ay: tl.tensor, az: tl.tensor, bx: tl.tensor, by: tl.tensor, bz: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@triton.jit
def inverse_length(length: tl.tensor) -> tl.tensor:
    """1 / length; 0 for vectors of (almost) no length. NaN stays NaN."""
    none = length <= _EPSILON
    return tl.where(none, 0.0, tl.div_rn(1.0, tl.where(none, 1.0, length)))


@triton.jit
def offset_in_image(
    coordinates: tl.tensor, start: tl.tensor, end: tl.tensor, mask: tl.tensor
) -> tuple[tl.tensor, tl.tensor]:
    """(row, column) from one patch to another."""
    row = tl.load(coordinates + end * 2, mask=mask, other=0.0)
    column = tl.load(coordinates + end * 2 + 1, mask=mask, other=0.0)
    row -= tl.load(coordinates + start * 2, mask=mask, other=0.0)
    column -= tl.load(coordinates + start * 2 + 1, mask=mask, other=0.0)
    return row, column


@triton.jit
def nearer_sign(
    coordinates: tl.tensor, a: tl.tensor, b: tl.tensor, c: tl.tensor, mask: tl.tensor
) -> tl.tensor:
    """+1 where b is nearer to a in the image, else -1."""
    b_row, b_column = offset_in_image(coordinates, a, b, mask)
    c_row, c_column = offset_in_image(coordinates, a, c, mask)
    b_is_nearer = b_row * b_row + b_column * b_column < c_row * c_row + c_column * c_column
    return tl.where(b_is_nearer, 1.0, -1.0)


@triton.jit
def turn_in_image(
    coordinates: tl.tensor, a: tl.tensor, b: tl.tensor, c: tl.tensor, mask: tl.tensor
) -> tl.tensor:
    """Determinant of the unit vectors from a to b and from a to c in the image."""
    b_row, b_column = offset_in_image(coordinates, a, b, mask)
    c_row, c_column = offset_in_image(coordinates, a, c, mask)
    b_length = tl.sqrt_rn(b_row * b_row + b_column * b_column)
    c_length = tl.sqrt_rn(c_row * c_row + c_column * c_column)
    b_none = b_length <= _EPSILON
    c_none = c_length <= _EPSILON
    b_length = tl.where(b_none, 1.0, b_length)
    c_length = tl.where(c_none, 1.0, c_length)
    turn = tl.div_rn(b_row, b_length) * tl.div_rn(c_column, c_length)
    turn -= tl.div_rn(b_column, b_length) * tl.div_rn(c_row, c_length)
    return tl.where(b_none | c_none, 0.0, turn)


@triton.jit
def tangent(
    ax: tl.tensor, ay: tl.tensor, az: tl.tensor, bx: tl.tensor, by: tl.tensor, bz: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Unit tangent at a towards b, 1 / its former length (0: degenerate), and `<a, b - a>`."""
    dx, dy, dz = bx - ax, by - ay, bz - az
    along = dot(ax, ay, az, dx, dy, dz)
    vx, vy, vz = dx - ax * along, dy - ay * along, dz - az * along
    inverse = inverse_length(tl.sqrt_rn(dot(vx, vy, vz, vx, vy, vz)))
    return vx * inverse, vy * inverse, vz * inverse, inverse, along


@triton.jit
def tangent_backward(
    gx: tl.tensor,
    gy: tl.tensor,
    gz: tl.tensor,
    tx: tl.tensor,
    ty: tl.tensor,
    tz: tl.tensor,
    inverse: tl.tensor,
    along: tl.tensor,
    ax: tl.tensor,
    ay: tl.tensor,
    az: tl.tensor,
    bx: tl.tensor,
    by: tl.tensor,
    bz: tl.tensor,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """From the gradient g of a tangent t to those of a and b.

    t = v / |v| gives g_v = (g - t <t, g>) / |v|; v = d - a <a, d> with d = b - a gives
    g_d = g_v - a <a, g_v> and, for a itself, - g_v <a, d> - d <a, g_v>; d gives g_d to b and -g_d to a.
    """
    tg = dot(tx, ty, tz, gx, gy, gz)
    vx, vy, vz = (gx - tx * tg) * inverse, (gy - ty * tg) * inverse, (gz - tz * tg) * inverse
    av = dot(ax, ay, az, vx, vy, vz)
    dx, dy, dz = vx - ax * av, vy - ay * av, vz - az * av
    a_x = -vx * along - (bx - ax) * av - dx
    a_y = -vy * along - (by - ay) * av - dy
    a_z = -vz * along - (bz - az) * av - dz
    return a_x, a_y, a_z, dx, dy, dz


@triton.jit
def geometry_forward(
    points: tl.tensor,
    coordinates: tl.tensor,
    offsets: tl.tensor,
    counts: tl.tensor,
    key: tl.tensor,
    partials: tl.tensor,
    margin: tl.tensor,
    threshold: tl.tensor,
    T: tl.constexpr,
    BLOCK_T: tl.constexpr,
) -> None:
    """Sums of both losses over an image's triplets, and how many of these count: `(B, 2, 2)`."""
    image = tl.program_id(0)
    offset = tl.load(offsets + image)
    count = tl.load(counts + image)
    draw = tl.arange(0, BLOCK_T)
    drawn = draw < tl.minimum(count, 1) * T  # none without foreground

    a, b, c = draw_positions(key, offset, count, image, draw, 0)
    ax, ay, az = load_point(points, a, drawn)
    bx, by, bz = load_point(points, b, drawn)
    cx, cy, cz = load_point(points, c, drawn)
    sign = nearer_sign(coordinates, a, b, c, drawn)
    hinge = sign * (dot(ax, ay, az, cx, cy, cz) - dot(ax, ay, az, bx, by, bz)) + margin
    hinge = tl.where(drawn, tl.where(hinge <= 0.0, 0.0, hinge), 0.0)  # NaN is not <= 0 and stays
    tl.store(partials + image * 4, tl.sum(hinge))
    tl.store(partials + image * 4 + 1, tl.sum(drawn.to(tl.float32)))

    a, b, c = draw_positions(key, offset, count, image, draw, 1)
    turn = turn_in_image(coordinates, a, b, c, drawn)
    kept = drawn & (tl.abs(turn) > threshold)
    ax, ay, az = load_point(points, a, kept)
    bx, by, bz = load_point(points, b, kept)
    cx, cy, cz = load_point(points, c, kept)
    tx, ty, tz, _, _ = tangent(ax, ay, az, bx, by, bz)
    ux, uy, uz, _, _ = tangent(ax, ay, az, cx, cy, cz)
    nx, ny, nz = cross(tx, ty, tz, ux, uy, uz)
    hinge = 1.0 - dot(nx, ny, nz, ax, ay, az) * tl.where(turn > 0.0, 1.0, -1.0)
    hinge = tl.where(kept, tl.where(hinge <= 0.0, 0.0, hinge), 0.0)
    tl.store(partials + image * 4 + 2, tl.sum(hinge * hinge))
    tl.store(partials + image * 4 + 3, tl.sum(kept.to(tl.float32)))


@triton.jit
def scatter(
    tile_x: tl.tensor,
    tile_y: tl.tensor,
    tile_z: tl.tensor,
    position: tl.tensor,
    at: tl.tensor,
    gx: tl.tensor,
    gy: tl.tensor,
    gz: tl.tensor,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Add each triplet's gradient to a tile (points, triplets) in the row of the point that it belongs to."""
    here = position[:, None] == at[None, :]
    tile_x += tl.where(here, gx[None, :], 0.0)
    tile_y += tl.where(here, gy[None, :], 0.0)
    tile_z += tl.where(here, gz[None, :], 0.0)
    return tile_x, tile_y, tile_z


@triton.jit
def geometry_backward(
    gradient: tl.tensor,
    points: tl.tensor,
    coordinates: tl.tensor,
    offsets: tl.tensor,
    counts: tl.tensor,
    key: tl.tensor,
    numbers: tl.tensor,
    result: tl.tensor,
    margin: tl.tensor,
    threshold: tl.tensor,
    T: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_P: tl.constexpr,
    SPLIT: tl.constexpr,
) -> None:
    """Gradients of every SPLIT-th block of an image's points."""
    image = tl.program_id(0)
    offset = tl.load(offsets + image)
    count = tl.load(counts + image)
    draw = tl.arange(0, BLOCK_T)
    drawn = draw < tl.minimum(count, 1) * T  # none without foreground
    of_distance = tl.load(gradient).to(tl.float32) * (1.0 / tl.maximum(tl.load(numbers), 1.0))
    of_orientation = tl.load(gradient + 1).to(tl.float32) * (1.0 / tl.maximum(tl.load(numbers + 1), 1.0))

    # distance: hinge = sign (<a, c> - <a, b>) + margin
    a, b, c = draw_positions(key, offset, count, image, draw, 0)
    ax, ay, az = load_point(points, a, drawn)
    bx, by, bz = load_point(points, b, drawn)
    cx, cy, cz = load_point(points, c, drawn)
    sign = nearer_sign(coordinates, a, b, c, drawn)
    hinge = sign * (dot(ax, ay, az, cx, cy, cz) - dot(ax, ay, az, bx, by, bz)) + margin
    slope = tl.where(drawn, tl.where(hinge <= 0.0, 0.0, sign * of_distance), 0.0)
    gax, gay, gaz = slope * (cx - bx), slope * (cy - by), slope * (cz - bz)
    gcx, gcy, gcz = slope * ax, slope * ay, slope * az

    # orientation: hinge = 1 - sign <t_b x t_c, a>
    p, q, r = draw_positions(key, offset, count, image, draw, 1)
    turn = turn_in_image(coordinates, p, q, r, drawn)
    kept = drawn & (tl.abs(turn) > threshold)
    px, py, pz = load_point(points, p, kept)
    qx, qy, qz = load_point(points, q, kept)
    rx, ry, rz = load_point(points, r, kept)
    tx, ty, tz, t_inverse, t_along = tangent(px, py, pz, qx, qy, qz)
    ux, uy, uz, u_inverse, u_along = tangent(px, py, pz, rx, ry, rz)
    nx, ny, nz = cross(tx, ty, tz, ux, uy, uz)
    sign = tl.where(turn > 0.0, 1.0, -1.0)
    hinge = 1.0 - dot(nx, ny, nz, px, py, pz) * sign
    slope = tl.where(kept, tl.where(hinge <= 0.0, 0.0, -2.0 * hinge * sign * of_orientation), 0.0)
    gx, gy, gz = cross(ux, uy, uz, px, py, pz)  # of t
    vx, vy, vz, gqx, gqy, gqz = tangent_backward(
        slope * gx, slope * gy, slope * gz, tx, ty, tz, t_inverse, t_along, px, py, pz, qx, qy, qz
    )
    gx, gy, gz = cross(px, py, pz, tx, ty, tz)  # of u
    wx, wy, wz, grx, gry, grz = tangent_backward(
        slope * gx, slope * gy, slope * gz, ux, uy, uz, u_inverse, u_along, px, py, pz, rx, ry, rz
    )
    gpx, gpy, gpz = slope * nx + vx + wx, slope * ny + vy + wy, slope * nz + vz + wz

    for first in range(tl.program_id(1) * BLOCK_P, count.to(tl.int32), SPLIT * BLOCK_P):
        position = offset + first + tl.arange(0, BLOCK_P)
        tile_x = tl.zeros((BLOCK_P, BLOCK_T), tl.float32)
        tile_y = tl.zeros((BLOCK_P, BLOCK_T), tl.float32)
        tile_z = tl.zeros((BLOCK_P, BLOCK_T), tl.float32)
        tile_x, tile_y, tile_z = scatter(tile_x, tile_y, tile_z, position, a, gax, gay, gaz)
        tile_x, tile_y, tile_z = scatter(tile_x, tile_y, tile_z, position, b, -gcx, -gcy, -gcz)
        tile_x, tile_y, tile_z = scatter(tile_x, tile_y, tile_z, position, c, gcx, gcy, gcz)
        tile_x, tile_y, tile_z = scatter(tile_x, tile_y, tile_z, position, p, gpx, gpy, gpz)
        tile_x, tile_y, tile_z = scatter(tile_x, tile_y, tile_z, position, q, gqx, gqy, gqz)
        tile_x, tile_y, tile_z = scatter(tile_x, tile_y, tile_z, position, r, grx, gry, grz)
        own = position < offset + count
        kind = result.dtype.element_ty
        tl.store(result + position * 3, tl.sum(tile_x, 1).to(kind), mask=own)
        tl.store(result + position * 3 + 1, tl.sum(tile_y, 1).to(kind), mask=own)
        tl.store(result + position * 3 + 2, tl.sum(tile_z, 1).to(kind), mask=own)


@triton.jit
def geometry_draw(
    offsets: tl.tensor,
    counts: tl.tensor,
    key: tl.tensor,
    triplets: tl.tensor,
    T: tl.constexpr,
    BLOCK_T: tl.constexpr,
    STREAM: tl.constexpr,
) -> None:
    """Write down an image's triplets; position 0 where it has no foreground."""
    image = tl.program_id(0)
    count = tl.load(counts + image)
    draw = tl.arange(0, BLOCK_T)
    a, b, c = draw_positions(key, tl.load(offsets + image), count, image, draw, STREAM)
    at = triplets + (image * T + draw) * 3
    tl.store(at, tl.where(count > 0, a, 0), mask=draw < T)
    tl.store(at + 1, tl.where(count > 0, b, 0), mask=draw < T)
    tl.store(at + 2, tl.where(count > 0, c, 0), mask=draw < T)


def _options(per_image: int, **options: Any) -> dict[str, Any]:
    block = triton.next_power_of_2(per_image)
    # more than four triplets to a thread do not fit its registers; most runs need one warp
    warps = max(1, min(8, block // 128))
    # which triplets count must not depend on how a sum is rounded
    return {"T": per_image, "BLOCK_T": block, "num_warps": warps, "enable_fp_fusion": False, **options}


def forward(
    points: Tensor,
    coordinates: Tensor,
    offsets: Tensor,
    counts: Tensor,
    key: Tensor,
    per_image: int,
    margin: float,
    threshold: float,
) -> tuple[Tensor, Tensor]:
    """Losses `(2,)` and numbers of triplets that count `(2,)` float32."""
    partials = torch.empty(len(counts), 2, 2, dtype=torch.float32, device=points.device)
    launch(
        geometry_forward, (len(counts),), points, coordinates, offsets, counts, key, partials, margin,
        threshold, **_options(per_image),
    )  # fmt: skip
    return reduce_partials(partials)


def backward(
    gradient: Tensor,
    points: Tensor,
    coordinates: Tensor,
    offsets: Tensor,
    counts: Tensor,
    key: Tensor,
    numbers: Tensor,
    per_image: int,
    margin: float,
    threshold: float,
) -> Tensor:
    """Gradient `(M, 3)` with respect to the points of the losses weighted by `gradient` `(2,)`."""
    # zeros: points of no image are written by no program
    result = torch.zeros(points.shape, dtype=storage_type(points), device=points.device)
    options = _options(per_image, SPLIT=SPLIT, num_warps=WARPS)
    launch(
        geometry_backward, (len(counts), SPLIT), gradient, points, coordinates, offsets, counts, key, numbers,
        result, margin, threshold, BLOCK_P=max(TILE // options["BLOCK_T"], 1), **options,
    )  # fmt: skip
    return result.to(points.dtype)


def draw(offsets: Tensor, counts: Tensor, per_image: int, key: Tensor, stream: int) -> Tensor:
    """The triplets that the programs draw, `(B * T, 3)` int64; `draw_triplets` defines them."""
    triplets = torch.empty(len(counts) * per_image, 3, dtype=torch.int64, device=offsets.device)
    launch(
        geometry_draw, (len(counts),), offsets, counts, key, triplets,
        **_options(per_image, STREAM=stream),
    )  # fmt: skip
    return triplets


# --- the operators

fused = torch.library.custom_op("spheremap::sphere_geometry", forward, mutates_args=())
_backward = torch.library.custom_op("spheremap::sphere_geometry_backward", backward, mutates_args=())
drawn = torch.library.custom_op("spheremap::draw_triplets", draw, mutates_args=())


@fused.register_fake
def _(points: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return points.new_empty(2, dtype=torch.float32), points.new_empty(2, dtype=torch.float32)


@_backward.register_fake
def _(gradient: Tensor, points: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(points, memory_format=torch.contiguous_format)


@drawn.register_fake
def _(offsets: Tensor, counts: Tensor, per_image: int, *_: Any) -> Tensor:
    return offsets.new_empty(offsets.shape[0] * per_image, 3)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.per_image, ctx.margin, ctx.threshold = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, output[1])


def _differentiate(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    rest = (None,) * 7
    if not ctx.needs_input_grad[0]:
        return None, *rest
    return _backward(gradient, *ctx.saved_tensors, ctx.per_image, ctx.margin, ctx.threshold), *rest


fused.register_autograd(_differentiate, setup_context=_remember)

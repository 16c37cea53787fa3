"""Triton programs of the losses on triplets. Vectors are kept as three blocks x, y, z over the T triplets."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from spheremap.kernels.programs.launch import launch, storage_type
from spheremap.kernels.programs.reduction import reduce_partials

EPSILON: tl.constexpr = tl.constexpr(1e-6)  # as in spheremap.model.losses.vectors
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
    none = length <= EPSILON
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
def image_turn(
    coordinates: tl.tensor, a: tl.tensor, b: tl.tensor, c: tl.tensor, mask: tl.tensor
) -> tl.tensor:
    """Determinant of the unit vectors from a to b and from a to c in the image."""
    b_row, b_column = offset_in_image(coordinates, a, b, mask)
    c_row, c_column = offset_in_image(coordinates, a, c, mask)
    b_length = tl.sqrt_rn(b_row * b_row + b_column * b_column)
    c_length = tl.sqrt_rn(c_row * c_row + c_column * c_column)
    b_none = b_length <= EPSILON
    c_none = c_length <= EPSILON
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
    turn = image_turn(coordinates, a, b, c, drawn)
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
    inverse_counts: tl.tensor,
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
    of_distance = tl.load(gradient).to(tl.float32) * tl.load(inverse_counts)
    of_orientation = tl.load(gradient + 1).to(tl.float32) * tl.load(inverse_counts + 1)

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
    turn = image_turn(coordinates, p, q, r, drawn)
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
    """Losses `(2,)` and 1 / counts `(2,)`."""
    images = len(counts)
    losses = torch.empty(2, dtype=torch.float32, device=points.device)
    partials = torch.empty(images, 2, 2, dtype=torch.float32, device=points.device)
    launch(
        geometry_forward,
        (images,),
        points.contiguous(),
        coordinates.contiguous(),
        offsets.contiguous(),
        counts.contiguous(),
        key.contiguous(),
        partials,
        margin,
        threshold,
        T=per_image,
        BLOCK_T=triton.next_power_of_2(per_image),
        num_warps=1,
        enable_fp_fusion=False,  # which triplets count must not depend on how a sum is rounded
    )
    return losses, reduce_partials(partials, losses)


def backward(
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
    """Gradient `(M, 3)` in the type of the points."""
    # zeros: points of no image are written by no program
    result = torch.zeros(points.shape, dtype=storage_type(points), device=points.device)
    block = triton.next_power_of_2(per_image)
    launch(
        geometry_backward,
        (len(counts), SPLIT),
        gradient.contiguous(),
        points.contiguous(),
        coordinates.contiguous(),
        offsets.contiguous(),
        counts.contiguous(),
        key.contiguous(),
        inverse_counts,
        result,
        margin,
        threshold,
        T=per_image,
        BLOCK_T=block,
        BLOCK_P=max(TILE // block, 1),
        SPLIT=SPLIT,
        num_warps=WARPS,
        enable_fp_fusion=False,
    )
    return result.to(points.dtype)


def draw(offsets: Tensor, counts: Tensor, per_image: int, key: Tensor, stream: int) -> Tensor:
    """Triplets `(B * T, 3)` int64."""
    triplets = torch.empty(len(counts) * per_image, 3, dtype=torch.int64, device=offsets.device)
    launch(
        geometry_draw,
        (len(counts),),
        offsets.contiguous(),
        counts.contiguous(),
        key.contiguous(),
        triplets,
        T=per_image,
        BLOCK_T=triton.next_power_of_2(per_image),
        STREAM=stream,
        num_warps=1,
        enable_fp_fusion=False,
    )
    return triplets

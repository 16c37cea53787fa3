"""Triton programs of matching: prepare the queries, scan the targets tile by tile, join what was found.

A tile of similarities has target patches down and queries across: few queries share a target, so that the
long side of the tensor cores' product goes to the patches. The patches of a target are shared out among
several programs (`SPLITS`) to occupy the device; each leaves one set of results per query.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from spheremap.kernels.programs.launch import launch

TILE = 64  # patches per tile, and channels per step of the product
TILE_SINGLE = 32  # the same in float32
WAVES = 4  # programs per multiprocessor to aim for
INFINITY: tl.constexpr = tl.constexpr(float("inf"))
TINY: tl.constexpr = tl.constexpr(1e-12)  # as in torch.nn.functional.normalize


@triton.jit
def inverse_norm(square: tl.tensor) -> tl.tensor:
    """1 / length from squared lengths; NaN where these are not finite."""
    return 1.0 / tl.maximum(tl.sqrt_rn(square), TINY) + square * 0.0


@triton.jit
def square_limit(radius: tl.tensor) -> tl.tensor:
    """The least float64 whose rounded root is not below `radius`: `sqrt(x) < radius` just if `x < limit`."""
    # rounding the root and the square moves the limit by less than 4 units in the last place
    limit = ((radius * radius).to(tl.int64, bitcast=True) - 4).to(tl.float64, bitcast=True)
    limit = tl.where(radius > 0.0, limit, 0.0)
    for _ in tl.static_range(8):
        above = (limit.to(tl.int64, bitcast=True) + 1).to(tl.float64, bitcast=True)
        limit = tl.where(tl.sqrt(limit) < radius, above, limit)
    return limit


@triton.jit
def prepare_queries(
    source: tl.tensor,
    first: tl.tensor,
    image: tl.tensor,
    xy: tl.tensor,
    places: tl.tensor,
    radius: tl.tensor,
    scale: tl.tensor,
    nearest: tl.tensor,
    limits: tl.tensor,
    N: tl.tensor,
    D: tl.constexpr,
    RADII: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
) -> None:
    """What the scan needs besides: 1 / length of each source descriptor, the patch nearest to its keypoint
    (-1: not visible), and a pair's radii as limits on squared distances.
    """
    pair = tl.program_id(0)
    start = tl.load(first + pair) + tl.program_id(1) * BLOCK_K
    stop = tl.load(first + pair + 1)
    if start >= stop:
        return
    query = start + tl.arange(0, BLOCK_K)
    squares = tl.zeros((BLOCK_K, BLOCK_D), tl.float32)
    for channel in range(0, D, BLOCK_D):
        column = channel + tl.arange(0, BLOCK_D)
        here = (query < stop)[:, None] & (column < D)[None, :]
        x = tl.load(source + query[:, None] * D + column[None, :], mask=here, other=0.0).to(tl.float32)
        squares += x * x
    tl.store(scale + query, inverse_norm(tl.sum(squares, 1)), mask=query < stop)

    if RADII > 0:
        for a in tl.static_range(RADII):
            tl.store(limits + pair * RADII + a, square_limit(tl.load(radius + pair * RADII + a)))
        x = tl.load(xy + query * 2, mask=query < stop, other=0.0)
        y = tl.load(xy + query * 2 + 1, mask=query < stop, other=0.0)
        shortest = tl.full((BLOCK_K,), INFINITY, tl.float64)
        closest = tl.full((BLOCK_K,), -1, tl.int32)
        base = places + tl.load(image + pair) * N * 2
        for begin in range(0, N, BLOCK_N):
            patch = begin + tl.arange(0, BLOCK_N)
            dx = tl.load(base + patch * 2, mask=patch < N, other=0.0)[:, None] - x[None, :]
            dy = tl.load(base + patch * 2 + 1, mask=patch < N, other=0.0)[:, None] - y[None, :]
            distance = tl.sqrt(dx * dx + dy * dy)
            # a keypoint that is not visible has NaN distances, which are nowhere shorter
            distance = tl.where((patch < N)[:, None] & (distance < INFINITY), distance, INFINITY)
            shortest_here, at = tl.min(distance, 0, return_indices=True)
            closest = tl.where(shortest_here < shortest, begin + at, closest)
            shortest = tl.minimum(shortest_here, shortest)
        tl.store(nearest + query, closest, mask=query < stop)


@triton.jit(do_not_specialize=["queries"])
def scan_targets(
    source: tl.tensor,
    source_points: tl.tensor,
    target: tl.tensor,
    target_points: tl.tensor,
    first: tl.tensor,
    image: tl.tensor,
    xy: tl.tensor,
    places: tl.tensor,
    scale: tl.tensor,
    nearest: tl.tensor,
    limits: tl.tensor,
    found: tl.tensor,
    found_at: tl.tensor,
    queries: tl.tensor,
    N: tl.tensor,
    feature_weight: tl.tensor,
    sphere_weight: tl.tensor,
    D: tl.constexpr,
    RADII: tl.constexpr,
    RADII_PAD: tl.constexpr,
    SPLITS: tl.constexpr,
    ON_FEATURES: tl.constexpr,
    ON_SPHERE: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """Highest, lowest, and best inside and outside each radius, over every SPLITS-th tile of a target.

    `found` `(SPLITS, 2 + 2 RADII, queries)` takes high, low, inside and outside, `found_at`
    `(SPLITS, queries)` the patch of the highest.
    """
    pair = tl.program_id(0)
    split = tl.program_id(2)
    start = tl.load(first + pair) + tl.program_id(1) * BLOCK_K
    stop = tl.load(first + pair + 1)
    if start >= stop:
        return
    query = start + tl.arange(0, BLOCK_K)
    mine = query < stop
    at_image = tl.load(image + pair)

    high = tl.full((BLOCK_K,), -INFINITY, tl.float32)
    low = tl.full((BLOCK_K,), INFINITY, tl.float32)
    best = tl.zeros((BLOCK_K,), tl.int32)
    check = tl.zeros((BLOCK_K,), tl.float32)
    kind = tl.arange(0, RADII_PAD)
    inside = tl.full((BLOCK_K, RADII_PAD), -INFINITY, tl.float32)
    outside = tl.full((BLOCK_K, RADII_PAD), -INFINITY, tl.float32)

    # what belongs to queries is read again for each tile: moved out of the loop, it would fill the registers
    for begin in tl.range(split * BLOCK_N, N, SPLITS * BLOCK_N, disable_licm=True):
        patch = begin + tl.arange(0, BLOCK_N)
        exists = patch < N
        at = at_image * N + patch
        product = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
        squares = tl.zeros((BLOCK_N,), tl.float32)
        for channel in range(0, D if ON_FEATURES else 0, BLOCK_D):
            column = channel + tl.arange(0, BLOCK_D)
            there = exists[:, None] & (column < D)[None, :]
            t = tl.load(target + at[:, None] * D + column[None, :], mask=there, other=0.0)
            here = (column < D)[:, None] & mine[None, :]
            s = tl.load(source + query[None, :] * D + column[:, None], mask=here, other=0.0)
            long = t.to(tl.float32)
            if UPCAST:
                product = tl.dot(long, s.to(tl.float32), product, input_precision="ieee")
            else:
                product = tl.dot(t, s, product, input_precision="ieee")
            squares += tl.sum(long * long, 1)
        # `check` is NaN as soon as a descriptor that takes part is not finite: comparisons would pass over it
        similarity = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
        if ON_FEATURES:
            scales = tl.load(scale + query, mask=mine, other=0.0)
            target_scales = inverse_norm(squares)
            similarity += feature_weight * (product * (target_scales[:, None] * scales[None, :]))
            check += scales * 0.0 + tl.sum(tl.where(exists, target_scales * 0.0, 0.0))
        if ON_SPHERE:
            sx, sy, sz = unit_points(source_points, query, mine)
            tx, ty, tz = unit_points(target_points, at, exists)
            on_sphere = tx[:, None] * sx[None, :] + ty[:, None] * sy[None, :] + tz[:, None] * sz[None, :]
            similarity += sphere_weight * on_sphere
            check += (sx + sy + sz) * 0.0 + tl.sum(tl.where(exists, (tx + ty + tz) * 0.0, 0.0))

        similarity = tl.where(similarity == similarity, similarity, 0.0)  # NaN has no rank
        candidates = tl.where(exists[:, None], similarity, -INFINITY)
        high_here, best_here = tl.max(candidates, 0, return_indices=True)
        best = tl.where(high_here > high, begin + best_here, best)  # tiles come in order: the first of a tie
        high = tl.maximum(high, high_here)
        low = tl.minimum(low, tl.min(tl.where(exists[:, None], similarity, INFINITY), 0))
        if RADII > 0:
            x = tl.load(xy + query * 2, mask=mine, other=0.0)
            y = tl.load(xy + query * 2 + 1, mask=mine, other=0.0)
            closest = tl.load(nearest + query, mask=mine, other=-1)
            dx = tl.load(places + at * 2, mask=exists, other=0.0)[:, None] - x[None, :]
            dy = tl.load(places + at * 2 + 1, mask=exists, other=0.0)[:, None] - y[None, :]
            square = dx * dx + dy * dy
            always = patch[:, None] == closest[None, :]
            for a in tl.static_range(RADII):
                near = (square < tl.load(limits + pair * RADII + a)) | always
                inside_here = tl.max(tl.where(near, candidates, -INFINITY), 0)
                outside_here = tl.max(tl.where(near, -INFINITY, candidates), 0)
                own = kind[None, :] == a
                inside = tl.where(own, tl.maximum(inside, inside_here[:, None]), inside)
                outside = tl.where(own, tl.maximum(outside, outside_here[:, None]), outside)

    broken = check != check
    row = found + split * (2 + 2 * RADII) * queries + query
    tl.store(row, tl.where(broken, float("nan"), high), mask=mine)
    tl.store(row + queries, low, mask=mine)
    tl.store(found_at + split * queries + query, best, mask=mine)
    if RADII > 0:
        row = row[:, None] + (2 + kind[None, :]) * queries
        here = mine[:, None] & (kind < RADII)[None, :]
        tl.store(row, inside, mask=here)
        tl.store(row + RADII * queries, outside, mask=here)


@triton.jit
def unit_points(points: tl.tensor, at: tl.tensor, mask: tl.tensor) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """A block of sphere points at unit length, in float32."""
    x = tl.load(points + at * 3, mask=mask, other=0.0).to(tl.float32)
    y = tl.load(points + at * 3 + 1, mask=mask, other=0.0).to(tl.float32)
    z = tl.load(points + at * 3 + 2, mask=mask, other=0.0).to(tl.float32)
    inverse = inverse_norm(x * x + y * y + z * z)
    return x * inverse, y * inverse, z * inverse


@triton.jit(do_not_specialize=["queries"])
def join_splits(
    source: tl.tensor,
    source_points: tl.tensor,
    target: tl.tensor,
    target_points: tl.tensor,
    first: tl.tensor,
    image: tl.tensor,
    scale: tl.tensor,
    found: tl.tensor,
    found_at: tl.tensor,
    best: tl.tensor,
    position: tl.tensor,
    low: tl.tensor,
    high: tl.tensor,
    inside: tl.tensor,
    outside: tl.tensor,
    queries: tl.tensor,
    N: tl.tensor,
    columns: tl.tensor,
    feature_weight: tl.tensor,
    sphere_weight: tl.tensor,
    temperature: tl.tensor,
    D: tl.constexpr,
    RADII: tl.constexpr,
    SPLITS: tl.constexpr,
    ON_FEATURES: tl.constexpr,
    ON_SPHERE: tl.constexpr,
    WINDOW: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """One program per query: join what the splits found, and average the window about the best patch."""
    pair = tl.program_id(0)
    query = tl.load(first + pair) + tl.program_id(1)
    if query >= tl.load(first + pair + 1):
        return
    split = tl.arange(0, SPLITS)
    row = found + split * (2 + 2 * RADII) * queries + query
    highs = tl.load(row)
    broken = tl.max((highs != highs).to(tl.int32)) > 0
    top = tl.max(highs)
    patches = tl.load(found_at + split * queries + query)
    first_best = tl.min(tl.where(highs == top, patches, N))
    nan = float("nan")
    tl.store(best + query, tl.where(broken, -1, first_best).to(tl.int64))
    tl.store(high + query, tl.where(broken, nan, top))
    tl.store(low + query, tl.where(broken, nan, tl.min(tl.load(row + queries))))
    for a in tl.static_range(RADII):
        inside_all = tl.load(row + (2 + a) * queries)
        outside_all = tl.load(row + (2 + RADII + a) * queries)
        tl.store(inside + a * queries + query, tl.where(broken, nan, tl.max(inside_all)))
        tl.store(outside + a * queries + query, tl.where(broken, nan, tl.max(outside_all)))

    centre = tl.where(broken, 0, first_best)
    mean_row = (centre // columns).to(tl.float32)
    mean_column = (centre % columns).to(tl.float32)
    if WINDOW > 1:
        cell = tl.arange(0, BLOCK_W)
        at_row = centre // columns + cell // WINDOW - WINDOW // 2
        at_column = centre % columns + cell % WINDOW - WINDOW // 2
        patch = at_row * columns + at_column
        exists = (cell < WINDOW * WINDOW) & (at_column >= 0) & (at_column < columns)
        exists = exists & (patch >= 0) & (patch < N)
        at = tl.load(image + pair) * N + patch
        products = tl.zeros((BLOCK_W,), tl.float32)
        squares = tl.zeros((BLOCK_W,), tl.float32)
        for channel in range(0, D if ON_FEATURES else 0, BLOCK_D):
            column = channel + tl.arange(0, BLOCK_D)
            there = exists[:, None] & (column < D)[None, :]
            t = tl.load(target + at[:, None] * D + column[None, :], mask=there, other=0.0).to(tl.float32)
            s = tl.load(source + query * D + column, mask=column < D, other=0.0).to(tl.float32)
            products += tl.sum(t * s[None, :], 1)
            squares += tl.sum(t * t, 1)
        similarity = tl.zeros((BLOCK_W,), tl.float32)
        if ON_FEATURES:
            similarity += feature_weight * (products * inverse_norm(squares) * tl.load(scale + query))
        if ON_SPHERE:
            tx, ty, tz = unit_points(target_points, at, exists)
            sx, sy, sz = unit_points(source_points, query + cell * 0, exists)
            similarity += sphere_weight * (tx * sx + ty * sy + tz * sz)
        similarity = tl.where(exists, similarity, -INFINITY)
        weight = tl.exp((similarity - tl.max(similarity)) / temperature)
        weight = tl.where(exists, weight, 0.0)
        total = tl.sum(weight)
        mean_row = tl.sum(weight * at_row.to(tl.float32)) / total
        mean_column = tl.sum(weight * at_column.to(tl.float32)) / total
    tl.store(position + query * 2, tl.where(broken, nan, mean_row))
    tl.store(position + query * 2 + 1, tl.where(broken, nan, mean_column))


def run(
    fields: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
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
    weights: tuple[float, float],
    window: int,
    temperature: float,
    longest: int,
) -> None:
    """Fill `fields`, those of `Matches`."""
    (queries, dim), (_, patches, _) = source.shape, target.shape
    pairs, radii = len(image), 0 if radius is None else radius.shape[1]
    device = source.device
    source, source_points, target, target_points, first, image = (
        tensor.contiguous() for tensor in (source, source_points, target, target_points, first, image)
    )
    if xy is not None and places is not None and radius is not None:
        xy, places, radius = xy.contiguous(), places.contiguous(), radius.contiguous()

    block = 16 if longest <= 16 else 32  # with 64, registers spill on some architectures
    blocks = triton.cdiv(longest, block)
    tile = TILE_SINGLE if source.dtype == torch.float32 else TILE
    wanted = triton.cdiv(WAVES * _multiprocessors(device), max(pairs * blocks, 1))
    # a power of two, so that few variants are compiled; a split may be left without a tile
    splits = triton.next_power_of_2(min(triton.cdiv(patches, tile), wanted))
    parts = {"ON_FEATURES": weights[0] != 0, "ON_SPHERE": weights[1] != 0}  # a weight of 0 takes no part
    scale = torch.empty(queries, dtype=torch.float32, device=device)
    nearest = torch.empty(queries, dtype=torch.int32, device=device)
    limits = torch.empty(pairs, radii, dtype=torch.float64, device=device)
    found = torch.empty(splits, 2 + 2 * radii, queries, dtype=torch.float32, device=device)
    found_at = torch.empty(splits, queries, dtype=torch.int32, device=device)

    launch(
        prepare_queries,
        (pairs, triton.cdiv(longest, 16)),
        source,
        first,
        image,
        xy,
        places,
        radius,
        scale,
        nearest,
        limits,
        patches,
        D=dim,
        RADII=radii,
        BLOCK_K=16,
        BLOCK_D=128,
        BLOCK_N=32,
        num_warps=4,
        enable_fp_fusion=False,  # which patch is nearest must not depend on how a sum is rounded
    )
    launch(
        scan_targets,
        (pairs, blocks, splits),
        source,
        source_points,
        target,
        target_points,
        first,
        image,
        xy,
        places,
        scale,
        nearest,
        limits,
        found,
        found_at,
        queries,
        patches,
        *weights,
        D=dim,
        RADII=radii,
        RADII_PAD=triton.next_power_of_2(max(radii, 1)),
        SPLITS=splits,
        **parts,
        # Triton's interpreter, which is what runs on a CPU, multiplies the bits of bfloat16 as integers
        UPCAST=source.dtype == torch.bfloat16 and not source.is_cuda,
        BLOCK_N=tile,
        BLOCK_K=block,
        BLOCK_D=tile,
        num_warps=4 if block == 16 else 8,
        num_stages=2 if source.dtype == torch.float32 else 4,
        enable_fp_fusion=False,  # nor which patches are inside a radius
    )
    launch(
        join_splits,
        (pairs, longest),
        source,
        source_points,
        target,
        target_points,
        first,
        image,
        scale,
        found,
        found_at,
        *fields,
        queries,
        patches,
        columns,
        *weights,
        temperature,
        D=dim,
        RADII=radii,
        SPLITS=splits,
        **parts,
        WINDOW=window,
        BLOCK_W=triton.next_power_of_2(window * window),
        BLOCK_D=32,
        num_warps=4 if window <= 15 else 8,
        enable_fp_fusion=True,
    )


def _multiprocessors(device: torch.device) -> int:
    """Of a CUDA device; 1 for the interpreter, which runs one program after another."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1

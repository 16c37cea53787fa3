"""The four losses in float64: by hand, against a transcription image by image, in degenerate geometry."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spheremap.kernels import draw_key, draw_triplets, patch_coordinates
from spheremap.kernels.cosine_reconstruction import reference
from spheremap.kernels.sphere_geometry import distance_loss, orientation_loss, sphere_turn
from spheremap.kernels.vectors import masked_mean, unit
from spheremap.model.head import Foreground
from spheremap.model.losses.anchor import anchored
from spheremap.model.losses.order import MARGIN, ordered
from spheremap.model.losses.upright import MARGIN as UP_MARGIN
from spheremap.model.losses.upright import upright
from spheremap.model.losses.viewpoint import mean_directions, relative_viewpoint

X, Y, Z = torch.eye(3, dtype=torch.float64)
YES = torch.tensor([True])
SEEDS = st.integers(0, 2**31)


def rows(*vectors: Tensor | list[float]) -> Tensor:
    return torch.stack([torch.as_tensor(vector, dtype=torch.float64) for vector in vectors])


def one_triplet(
    points: Tensor, places: list[list[float]], loss: Callable[..., tuple[Tensor, Tensor]], **options: float
) -> float:
    return float(loss(points, rows(*places), torch.tensor([[0, 1, 2]]), YES, **options)[0])


class Scene:
    """A random batch: images with ragged (also empty) foreground, unit points, triplets."""

    def __init__(
        self, seed: int, images: int = 5, grid: tuple[int, int] = (6, 7), per_image: int = 40
    ) -> None:
        rng = np.random.default_rng(seed)
        self.masks = rng.random((images, grid[0] * grid[1])) < rng.uniform(0.1, 0.9, (images, 1))
        self.masks[rng.integers(images)] = False
        self.foreground = Foreground.from_masks(self.masks)
        generator = torch.Generator().manual_seed(seed)
        total = int(self.masks.sum())
        self.points = F.normalize(torch.randn(total, 3, dtype=torch.float64, generator=generator), dim=-1)
        self.places = patch_coordinates(grid).double()[self.foreground.patch]
        self.triplets, self.valid = draw_triplets(
            self.foreground.offsets, self.foreground.counts, per_image, draw_key(seed, 1), stream=0
        )
        self.azimuth = torch.from_numpy(rng.integers(0, 8, images) * np.pi / 4)
        self.grid, self.images, self.per_image = grid, images, per_image

    def of_image(self, i: int) -> tuple[Tensor, list[list[int]]]:
        """Masked points `(N, 3)` of one image and its triplets as patch indices."""
        dense = torch.zeros(self.masks.shape[1], 3, dtype=torch.float64)
        own = self.foreground.image == i
        dense[self.foreground.patch[own]] = self.points[own]
        triplets = self.triplets.view(self.images, self.per_image, 3)[i]
        return dense, self.foreground.patch[triplets].tolist()

    def terms(self, points: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Mean and count of each."""
        directions = mean_directions(points, self.foreground.image, self.images)
        triplets = (self.places, self.triplets, self.valid)
        return [
            distance_loss(points, *triplets),
            orientation_loss(points, *triplets),
            relative_viewpoint(directions, self.azimuth, self.foreground.counts > 0),
        ]

    def losses(self, points: Tensor) -> Tensor:
        return torch.stack([mean for mean, _ in self.terms(points)])


def naive_losses(scene: Scene) -> list[list[float]]:
    """All terms of each, word by word: a loop over images and triplets, coordinates in linspace(0, 1)."""
    n_rows, n_columns = scene.grid
    row, column = np.linspace(0, 1, n_rows), np.linspace(0, 1, n_columns)
    place = [np.array([row[i], column[j]]) for i in range(n_rows) for j in range(n_columns)]
    distance, orientation, mean = [], [], {}
    for i in range(scene.images):
        if not scene.masks[i].any():
            continue
        s_torch, triplets = scene.of_image(i)
        s = s_torch.numpy()

        def cosine_distance(p: np.ndarray, q: np.ndarray) -> float:
            return 1 - p @ q / np.linalg.norm(p) / np.linalg.norm(q)

        for a, b, c in triplets:
            to_b, to_c = (((place[x] - place[a]) ** 2).sum() for x in (b, c))
            near, far = (b, c) if to_b < to_c - 1e-12 else (c, b)
            distance.append(max(0, cosine_distance(s[a], s[near]) - cosine_distance(s[a], s[far]) + 0.5))

            u, w = place[b] - place[a], place[c] - place[a]
            if not (u.any() and w.any()):
                continue
            det = np.linalg.det(np.stack([u / np.linalg.norm(u), w / np.linalg.norm(w)], axis=1))
            if abs(det) > 0.7:
                tangents = []
                for x in (b, c) if det > 0 else (c, b):
                    t = (s[x] - s[a]) - s[a] * (s[a] @ (s[x] - s[a]))
                    tangents.append(t / np.linalg.norm(t))
                orientation.append(max(0, 1 - np.cross(*tangents) @ s[a]) ** 2)
        average = s.mean(axis=0)
        mean[i] = average / np.linalg.norm(average)
    viewpoint = [
        (mean[i] @ mean[j] - math.cos(scene.azimuth[i] - scene.azimuth[j])) ** 2
        for i, j in itertools.product(mean, repeat=2)
    ]
    return [distance, orientation, viewpoint]


@given(SEEDS, st.integers(2, 6), st.tuples(st.integers(1, 7), st.integers(1, 7)))
@settings(max_examples=40, deadline=None)
def test_losses_equal_the_transcription(seed: int, images: int, grid: tuple[int, int]) -> None:
    scene = Scene(seed, images, grid, per_image=12)
    for (mean, count), expected in zip(scene.terms(scene.points), naive_losses(scene), strict=True):
        assert count == len(expected)
        np.testing.assert_allclose(mean.numpy(), np.mean(expected or [0.0]), rtol=1e-9, atol=1e-12)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_losses_do_not_see_a_common_rotation(seed: int) -> None:
    scene = Scene(seed)
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    rotation = torch.from_numpy(q * np.linalg.det(q))  # a proper one: mirrors turn orientation round
    before, after = scene.losses(scene.points), scene.losses(scene.points @ rotation.T)
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-12)


def test_a_mirror_changes_orientation_and_nothing_else() -> None:
    scene = Scene(3)
    before, after = scene.losses(scene.points), scene.losses(scene.points * torch.tensor([1.0, 1.0, -1.0]))
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]])
    assert abs(after[1] - before[1]) > 1e-3


def test_losses_do_not_depend_on_the_order_of_images() -> None:
    scene = Scene(4)
    order = torch.randperm(scene.images, generator=torch.Generator().manual_seed(0))
    other = Scene(4)
    other.masks = scene.masks[order.numpy()]
    other.foreground = Foreground.from_masks(other.masks)
    pieces = scene.points.split(scene.foreground.counts.tolist())
    places = scene.places.split(scene.foreground.counts.tolist())
    shift = torch.zeros(scene.images, dtype=torch.int64)
    shift[order] = other.foreground.offsets
    moved = (
        scene.triplets.view(scene.images, -1, 3)
        - scene.foreground.offsets.view(-1, 1, 1)
        + shift.view(-1, 1, 1)
    )
    kept = scene.valid.view(scene.images, -1)[order].flatten()
    other.triplets = torch.where(kept.unsqueeze(-1), moved[order].flatten(0, 1), 0)
    other.valid, other.azimuth = kept, scene.azimuth[order]
    other.places = torch.cat([places[i] for i in order])
    points = torch.cat([pieces[i] for i in order])
    torch.testing.assert_close(other.losses(points), scene.losses(scene.points))


def test_gradients() -> None:
    scene = Scene(5, images=3, grid=(4, 4), per_image=6)
    raw = (scene.points * 1.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: scene.losses(F.normalize(x, dim=-1)), raw)
    assert (
        torch.autograd.functional.jacobian(scene.losses, scene.points).flatten(1).norm(dim=1) > 1e-3
    ).all()


# --- reconstruction


def test_reconstruction_by_hand() -> None:
    features = rows([3, 4, 0], [1, 0, 0], [0, 2, 0])
    reconstruction = rows([4, 3, 0], [-5, 0, 0], [0, 0, 1])
    # cosines 24 / 25, -1 and 0
    assert float(reference(features, reconstruction)[0]) == pytest.approx((1 / 25 + 2 + 1) / 3, abs=1e-15)


def test_reconstruction_ignores_length_and_takes_half_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 16, generator=generator).half()
    y = torch.randn(30, 16, generator=generator)
    expected = (1 - F.cosine_similarity(x.double(), y.double())).mean()
    found = reference(x, y * 7)[0]
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_reconstruction_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(5, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    assert torch.autograd.gradcheck(lambda z: reference(x, z)[0], y.requires_grad_())


def test_reconstruction_of_nothing_and_of_zero_vectors() -> None:
    empty = torch.zeros(0, 4, requires_grad=True)
    loss = reference(torch.zeros(0, 4), empty)[0]
    loss.backward()
    assert float(loss.detach()) == 0
    features = rows([1, 0], [0, 0], [1, 0]).float()
    zero = torch.tensor([[0.0, 0], [1, 0], [1, 0]], requires_grad=True)
    loss = reference(features, zero)[0]
    loss.backward()
    assert float(loss.detach()) == pytest.approx(2 / 3)
    assert torch.equal(zero.grad, torch.zeros(3, 2))


# --- relative distance


def test_distance_by_hand() -> None:
    points = rows(X, [0.6, 0.8, 0], Y)  # d(a, b) = 0.4, d(a, c) = 1
    near_b = one_triplet(points, [[0, 0], [0, 1], [0, 3]], distance_loss, margin=0.5)
    near_c = one_triplet(points, [[0, 0], [0, 3], [1, 1]], distance_loss, margin=0.5)
    assert near_b == pytest.approx(0)  # 0.4 - 1 + 0.5 < 0
    assert near_c == pytest.approx(1.1)  # 1 - 0.4 + 0.5
    assert one_triplet(points, [[0, 0], [0, 1], [0, 3]], distance_loss, margin=0.7) == pytest.approx(0.1)


def test_at_equal_distances_c_is_the_positive() -> None:
    points = rows(X, [0.6, 0.8, 0], Y)
    assert one_triplet(points, [[0, 0], [0, 2], [2, 0]], distance_loss) == pytest.approx(1.1)
    # patches as far right as down, in a grid whose linspace cannot be represented exactly
    places = patch_coordinates((11, 11)).double()[[0, 3 * 11, 3]]
    assert one_triplet(points, places.tolist(), distance_loss) == pytest.approx(1.1)


# --- orientation


def test_orientation_by_hand() -> None:
    # a at the pole, b and c at the angles 0 and 60° around it
    b, c = rows([0.6, 0, 0.8]), rows([0.3, 0.3 * 3**0.5, 0.8])
    points = torch.cat([Z[None], b, c])
    sine = math.sin(math.radians(60))
    # (row, column) vectors with det = +1, then -1
    turn_alike = one_triplet(points, [[0, 0], [1, 0], [0, 1]], orientation_loss)
    turn_against = one_triplet(points, [[0, 0], [0, 1], [1, 0]], orientation_loss)
    assert turn_alike == pytest.approx((1 - sine) ** 2)
    assert turn_against == pytest.approx((1 + sine) ** 2)


def test_only_clear_turns_count() -> None:
    points = rows(Z, [0.6, 0, 0.8], [0, 0.6, 0.8])

    def at(degrees: float) -> float:
        places = [[0, 0], [1, 0], [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]]
        return one_triplet(points, places, orientation_loss)

    assert math.degrees(math.asin(0.7)) == pytest.approx(44.427, abs=1e-3)
    assert at(-44) == 0  # not kept
    assert at(-45) == pytest.approx(4)  # kept and turned the wrong way: (1 + 1)²
    assert at(-136) == 0
    assert at(-135) == pytest.approx(4)


def test_image_orientation_is_that_of_row_and_column() -> None:
    # seen from outside, b towards x and c towards y turn counter-clockwise above z
    assert float(sphere_turn(rows(Z, X, Y), torch.tensor([[0, 1, 2]]))) == pytest.approx(1)


def test_no_kept_triplet_gives_zero_not_nan() -> None:
    points = rows(Z, X, Y).requires_grad_()
    in_line = rows([0, 0], [0, 1], [0, 2])
    loss, _ = orientation_loss(points, in_line, torch.tensor([[0, 1, 2]]), YES)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(points.grad, torch.zeros(3, 3, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_triplets_keep_gradients_finite(dtype: torch.dtype) -> None:
    """Same patch twice, same point at different patches, opposite points, zero vectors."""
    near = F.normalize(Z + 1e-9 * X, dim=-1)
    raw = rows(Z, Z, near, -Z, torch.zeros(3), X).to(dtype)
    places = rows([0, 0], [0, 1], [1, 0], [1, 1], [2, 1], [1, 2]).to(dtype)
    triplets = torch.tensor(list(itertools.product(range(6), repeat=3)))
    for transform in (lambda x: x, lambda x: F.normalize(x, dim=-1)):
        points = raw.clone().requires_grad_()
        every = torch.ones(len(triplets), dtype=torch.bool)
        args = (transform(points), places, triplets, every)
        loss = distance_loss(*args)[0] + orientation_loss(*args)[0]
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(points.grad).all()
        assert (points.grad[[0, 1, 3, 5]].norm(dim=1) < 10).all()


def test_triplets_of_empty_images_do_not_count() -> None:
    points = rows(X, [0.6, 0.8, 0], Y)
    places = rows([0, 0], [0, 3], [1, 1])
    triplets, valid = torch.tensor([[0, 1, 2], [0, 0, 0]]), torch.tensor([True, False])
    mean, count = distance_loss(points, places, triplets, valid)
    assert (float(mean), int(count)) == (pytest.approx(1.1), 1)
    assert float(distance_loss(points, places, triplets, ~valid)[0]) == pytest.approx(0.5)
    none = torch.zeros(2, dtype=torch.bool)
    nothing, nowhere = torch.zeros(0, 3, requires_grad=True), torch.zeros(0, 2)
    for loss in (distance_loss, orientation_loss):
        assert [float(value) for value in loss(points, places, triplets, none)] == [0, 0]
        empty, count = loss(nothing, nowhere, torch.zeros(2, 3, dtype=torch.int64), none)
        empty.backward()
        assert float(empty.detach()) == float(count) == 0


# --- relative viewpoint


def test_viewpoint_by_hand() -> None:
    azimuth = torch.tensor([0, math.pi / 2, math.pi], dtype=torch.float64)
    every = torch.ones(3, dtype=torch.bool)
    assert float(relative_viewpoint(rows(X, Y, -X), azimuth, every)[0]) == pytest.approx(0)
    # all in one direction: dots 1, wanted [1 0 -1; 0 1 0; -1 0 1]; four errors of 1 and two of 2 in nine
    assert float(relative_viewpoint(rows(X, X, X), azimuth, every)[0]) == pytest.approx((4 * 1 + 2 * 4) / 9)


def test_pairs_of_anchored_images_sit_out() -> None:
    azimuth, every = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.bool)
    anchored = torch.tensor([True, True, False])
    loss, count = relative_viewpoint(rows(X, Y, -X), azimuth, every, anchored)
    assert int(count) == 5
    assert float(loss) == pytest.approx((2 * 4 + 2 * 1 + 0) / 5)
    assert relative_viewpoint(rows(X, Y, -X), azimuth, every, every) == (0, 0)


def test_images_of_unknown_azimuth_or_without_foreground_sit_out() -> None:
    azimuth = torch.tensor([0, math.nan, math.pi / 2, 1], dtype=torch.float64)
    directions = rows(X, Z, X, [0, 0, 0]).requires_grad_()
    loss, count = relative_viewpoint(directions, azimuth, torch.tensor([True, True, True, False]))
    loss.backward()
    assert (float(loss.detach()), int(count)) == (pytest.approx(2 / 4), 4)
    assert torch.equal(directions.grad[[1, 3]], torch.zeros(2, 3, dtype=torch.float64))
    assert torch.isfinite(directions.grad).all()
    unknown = torch.full_like(azimuth, math.nan)
    assert float(relative_viewpoint(directions.detach(), unknown, torch.ones(4, dtype=torch.bool))[0]) == 0


def test_anchor_by_hand() -> None:
    azimuth = torch.tensor([0, math.pi / 2, math.pi, math.nan, 0], dtype=torch.float64)
    counts = torch.tensor([True, True, True, True, False])

    def loss(*directions: object) -> float:
        return float(anchored(rows(*directions), azimuth, counts)[0])

    assert loss(X, Y, -X, Z, Z) == pytest.approx(0)
    assert loss(X, X, X, X, X) == pytest.approx((0 + 1 + 2) / 3)
    assert loss(Z, Z, Z, X, X) == pytest.approx(1)
    # its minimum is one of the relative loss, which allows any rotation
    turned = rows(Y, -X, -Y, Z, Z)
    assert float(relative_viewpoint(turned, azimuth, counts)[0]) == pytest.approx(0)
    assert float(anchored(turned, azimuth, counts)[0]) == pytest.approx(1)


def test_order_by_hand() -> None:
    def at(longitude: float, height: float = 0.0) -> list[float]:
        flat = math.sqrt(1 - height**2)
        return [flat * math.cos(longitude), flat * math.sin(longitude), height]

    points = rows(at(0), at(0.3), at(0.05), at(2), at(0.3, 0.8))
    column = torch.tensor([0.0, 1.0, 1.0, 0.0, 3.0])

    def loss(*pairs: tuple[int, int], valid: bool = True) -> tuple[float, int]:
        mean, count = ordered(points, column, torch.tensor(pairs), torch.full((len(pairs),), valid))
        return float(mean), int(count)

    assert loss((0, 1)) == loss((1, 0)) == (0, 1)  # further right, and further along by enough
    assert loss((0, 2)) == (pytest.approx(MARGIN - math.sin(0.05)), 1)
    assert loss((3, 1)) == (pytest.approx(MARGIN + math.sin(1.7)), 1)  # further right, but less far along
    assert loss((0, 4))[0] == pytest.approx(max(0, MARGIN - 0.6 * math.sin(0.3)))  # nearer to the axis
    assert loss((0, 3)) == loss((1, 2)) == (0, 0)  # in one column
    assert loss((0, 2), (3, 1), (0, 3)) == (
        pytest.approx((2 * MARGIN - math.sin(0.05) + math.sin(1.7)) / 2),
        2,
    )
    assert loss((0, 2), valid=False) == (0, 0)


@pytest.mark.parametrize("loss", [ordered, upright])
def test_gradient_of_losses_over_pairs(loss: Callable[..., tuple[Tensor, Tensor]]) -> None:
    scene = Scene(6)
    points = scene.points.double().requires_grad_()
    place = torch.randn(len(points), dtype=torch.float64)
    pairs = torch.randint(len(points), (20, 2))
    keep = torch.arange(20) % 3 > 0
    assert torch.autograd.gradcheck(lambda x: loss(x, place, pairs, keep)[0], points)


def test_upright_by_hand() -> None:
    points = rows(Z, X, [0.6, 0, 0.8], [1, 0, 0.05])
    row = torch.tensor([0.0, 2.0, 0.0, 1.0])

    def loss(*pairs: tuple[int, int], valid: bool = True) -> tuple[float, int]:
        mean, count = upright(points, row, torch.tensor(pairs), torch.full((len(pairs),), valid))
        return float(mean), int(count)

    assert loss((0, 1)) == loss((1, 0)) == (0, 1)  # higher up, by enough
    assert loss((3, 1)) == loss((1, 3)) == (pytest.approx(UP_MARGIN - 0.05), 1)
    assert loss((0, 2)) == (0, 0)  # in one row
    assert loss((0, 1), (3, 1), (0, 2)) == (pytest.approx((UP_MARGIN - 0.05) / 2), 2)
    assert loss((3, 1), valid=False) == (0, 0)
    assert float(upright(-points, row, torch.tensor([(0, 1)]), torch.tensor([True]))[0]) == UP_MARGIN + 1


def test_the_papers_losses_do_not_see_a_view_that_is_turned() -> None:
    """By half a turn about its mean direction; that is what `upright` is for."""
    scene = Scene(6)
    points, image = scene.points.double(), scene.foreground.image
    mean = mean_directions(points, image, scene.images)[image]
    turned = 2 * (points * mean).sum(-1, keepdim=True) * mean - points
    turned = torch.where((image == 1).unsqueeze(-1), turned, points)
    assert not torch.allclose(turned, points)
    torch.testing.assert_close(scene.losses(turned), scene.losses(points))


def test_mean_direction_is_that_of_all_tokens_with_zero_background() -> None:
    scene = Scene(6)
    found = mean_directions(scene.points, scene.foreground.image, scene.images)
    for i in range(scene.images):
        dense, _ = scene.of_image(i)
        expected = F.normalize(dense.mean(dim=0), dim=0)
        torch.testing.assert_close(found[i], expected)
    assert (found.norm(dim=1) < 0.5).sum() == 1  # the image without foreground


def test_opposite_points_have_no_mean_direction() -> None:
    points = rows(X, -X).requires_grad_()
    direction = mean_directions(points, torch.tensor([0, 0]), 1)
    direction.sum().backward()
    assert torch.equal(direction.detach(), torch.zeros(1, 3, dtype=torch.float64))
    assert torch.equal(points.grad, torch.zeros(2, 3, dtype=torch.float64))


# --- helpers


def test_unit_and_masked_mean() -> None:
    vectors = rows([3, 0, 4], [0, 0, 0], [1e-8, 0, 0])
    assert unit(vectors).tolist() == [[0.6, 0, 0.8], [0, 0, 0], [0, 0, 0]]
    values = torch.tensor([1.0, 5.0, math.nan])
    assert [float(x) for x in masked_mean(values, torch.tensor([True, True, False]))] == [3, 2]
    assert [float(x) for x in masked_mean(values, torch.tensor([False, False, False]))] == [0, 0]


def test_nan_is_never_hidden() -> None:
    features, reconstruction = torch.randn(3, 4), torch.randn(3, 4)
    reconstruction[1, 2] = torch.nan
    assert reference(features, reconstruction)[0].isnan()
    assert unit(reconstruction)[1].isnan().all()

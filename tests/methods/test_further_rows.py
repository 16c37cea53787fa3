"""Methods beyond the paper against plain loops in float64, and that they leave the others alone."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import world
from hypothesis import given, settings
from hypothesis import strategies as st
from test_protocols import PARAMS, WEIGHT, AxisHead, exact_world, scored, slow_cosines
from world import FURTHER, PAPER, FakeCache, FakeHead, leaves_of, make_world, random_rotation

from spheremap.base.errors import InputError
from spheremap.data.tables import Tables
from spheremap.methods import make_methods
from spheremap.methods.engine.comparison import Comparison
from spheremap.methods.engine.descriptors import unit
from spheremap.methods.engine.queries import Queries, build_queries
from spheremap.methods.fused import FEATURES, SPHERE
from spheremap.methods.fused_viewpoint import FusedViewpoint
from spheremap.methods.mutual import Mutual
from spheremap.methods.subpatch import quadratic_peak
from spheremap.metrics.evaluate import evaluate
from spheremap.model.head import mean_directions

ALL = (*PAPER[:-1], *FURTHER, PAPER[-1])
EVERY = replace(PARAMS, methods=ALL)


def methods(**changes):
    return world.methods(sphere_weight=WEIGHT, **changes)


def similarities(cache, tables, head, changes=(), **options) -> tuple[dict[str, np.ndarray], Queries]:
    queries = build_queries(cache, tables, tables.pairs)
    made = methods(**dict(changes))
    blocks = list(Comparison(cache, made.values(), head, **options).blocks(queries))
    return {name: torch.cat([m.compare(b) for b in blocks]).numpy() for name, m in made.items()}, queries


class CornerHead(AxisHead):
    """An `AxisHead` with prototypes: a corner of a cube in D dimensions for each point and category."""

    def __init__(self, categories: list[str]) -> None:
        super().__init__()
        self.categories = categories
        self.back = np.random.default_rng(3).choice([-1.0, 1.0], size=(len(categories), 3, self.dim))

    def prototypes(self, points: torch.Tensor, category: torch.Tensor) -> torch.Tensor:
        return (points.double().unsqueeze(1) @ torch.from_numpy(self.back)[category]).squeeze(1)


def tied_world(seed: int) -> tuple[FakeCache, Tables, CornerHead]:
    """Data on which float32 is exact, so that best patches tie in both directions."""
    cache, tables, _ = exact_world(seed, stretched=False)
    return cache, tables, CornerHead(["a", "b"])


# --- the same, slowly


def slow_direction(head, tokens, points, category: int) -> list[float]:
    likeness = []
    for token, point in zip(tokens, points, strict=True):
        rebuilt = [sum(point[i] * head.back[category][i][d] for i in range(3)) for d in range(len(token))]
        likeness += slow_cosines(token, [rebuilt])
    average = sum(likeness) / len(likeness)
    total = [0.0, 0.0, 0.0]
    for value, point in zip(likeness, points, strict=True):
        total = [t + max(0.0, value - average) * p for t, p in zip(total, point, strict=True)]
    length = math.sqrt(sum(t * t for t in total))
    return [t / length for t in total]


def slow_rows(cache, head, queries, q: int, made, known: dict) -> dict[str, list[float]]:
    """Similarities of one query to all patches of its target."""
    pair, columns = int(queries.pair[q]), cache.grid[1]
    source, target = int(queries.source[pair]), int(queries.target[pair])
    patch = int(queries.patch[q])
    tokens = cache.data.astype(np.float64)
    points = head.mapper(torch.from_numpy(tokens)).double().numpy()

    def fused(own: int, one: int, other: int, w: float) -> list[float]:
        f = slow_cosines(tokens[one][own], tokens[other])
        s = slow_cosines(points[one][own], points[other])
        return [(1 - w) * a + w * b for a, b in zip(f, s, strict=True)]

    plain = fused(patch, source, target, WEIGHT)
    if (source, target) not in known:
        back = [fused(n, target, source, WEIGHT) for n in range(len(plain))]
        category = head.categories.index(queries.category[pair])
        directions = [slow_direction(head, tokens[i], points[i], category) for i in (source, target)]
        cosine = sum(a * b for a, b in zip(*directions, strict=True))
        known[source, target] = [values.index(max(values)) for values in back], cosine
    best, cosine = known[source, target]
    doubted = [
        value - (math.hypot(b // columns - patch // columns, b % columns - patch % columns)
                 > made["fused_mutual"].radius) * made["fused_mutual"].penalty
        for value, b in zip(plain, best, strict=True)
    ]  # fmt: skip
    near, far = made["fused_viewpoint"].near, made["fused_viewpoint"].far
    w = near + (far - near) * (1 - cosine) / 2
    return {
        "fused_subpatch": plain,
        "fused_mutual": doubted,
        "fused_viewpoint": fused(patch, source, target, w),
    }


def slow_peak(similarity: list[float], grid: tuple[int, int]) -> tuple[float, float]:
    """The peak of the least-squares quadratic about the first best patch, by NumPy's solvers."""
    rows, columns = grid
    best = similarity.index(max(similarity))
    row, column = best // columns, best % columns
    if row in (0, rows - 1) or column in (0, columns - 1):
        return row, column
    around = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    z = [similarity[(row + y) * columns + column + x] for y, x in around]
    design = [[1, x, y, x * x, y * y, x * y] for y, x in around]
    _, b, c, d, e, f = np.linalg.lstsq(np.array(design, dtype=float), np.array(z), rcond=None)[0]
    hessian = np.array([[2 * d, f], [f, 2 * e]])
    if np.linalg.eigvalsh(hessian).max() > -1e-12:  # not a maximum
        return row, column
    x, y = np.clip(np.linalg.solve(hessian, [-b, -c]), -0.5, 0.5)
    return row + y, column + x


@pytest.mark.parametrize(("seed", "radius"), [(0, 0.0), (1, 1.5)])
def test_similarities_equal_plain_loops_with_ties(seed: int, radius: float) -> None:
    cache, tables, head = tied_world(seed)
    changes = {"fused_mutual": {"radius": radius, "penalty": 0.25}}
    found, queries = similarities(cache, tables, head, changes)
    made = methods(**changes)
    known: dict = {}
    for q in np.flatnonzero(queries.pair % 4 == seed).tolist():
        for row, expected in slow_rows(cache, head, queries, q, made, known).items():
            np.testing.assert_allclose(found[row][q], expected, atol=1e-6, err_msg=row)
    lowered = found["fused_mutual"] < found["fused"]
    assert 0.05 < lowered.mean() < 1


def test_ties_of_the_fixture_decide_who_looks_back() -> None:
    cache, _, _ = tied_world(0)
    similarity = cache.data[1].astype(np.float64) @ cache.data[0].astype(np.float64).T
    assert ((similarity == similarity.max(axis=1, keepdims=True)).sum(axis=1) > 1).mean() > 0.5


# --- sub-patch refinement


@pytest.mark.parametrize("grid", [(1, 1), (1, 6), (2, 2), (2, 5), (3, 3), (6, 7)])
def test_peaks_equal_least_squares(grid: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1, 1, (300, grid[0] * grid[1])).astype(np.float32)
    noise[:20] = 0.5  # flat
    noise[20:60] = rng.integers(0, 3, (40, noise.shape[1])) / 4  # ties
    similarity = torch.from_numpy(noise)
    found = quadratic_peak(similarity, similarity.argmax(dim=1), grid)
    expected = [slow_peak(row, grid) for row in noise.astype(np.float64).tolist()]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    if min(grid) == 6:
        assert (found % 1 != 0).any(axis=1).mean() > 0.1


@given(st.floats(-0.49, 0.49), st.floats(-0.49, 0.49), st.floats(-0.9, 0.9))
def test_the_peak_of_a_quadratic_is_found_exactly(y: float, x: float, shear: float) -> None:
    rows, columns = np.mgrid[0:5, 0:6].astype(np.float64)
    dy, dx = rows - 2 - y, columns - 3 - x
    surface = -(dy**2) - dx**2 - shear * dx * dy
    best = int(surface.argmax())
    found = quadratic_peak(torch.from_numpy(surface.reshape(1, -1)), torch.tensor([best]), (5, 6))
    expected = np.clip([2 + y, 3 + x], np.array(divmod(best, 6)) - 0.5, np.array(divmod(best, 6)) + 0.5)
    np.testing.assert_allclose(found[0], expected, atol=1e-9)


def test_no_peak_no_refinement() -> None:
    flat = torch.zeros(1, 25)
    saddle = torch.zeros(1, 25)
    saddle[0, [7, 12, 17]] = torch.tensor([0.2, 0.3, 0.2])
    saddle[0, [6, 8, 16, 18]] = torch.tensor([0.3, -0.9, -0.9, 0.3])  # along one diagonal it curves upwards
    ridge = torch.zeros(1, 25)
    ridge[0, [2, 7, 12, 17, 22]] = 1.0  # no place along it is best
    for surface in (flat, saddle, ridge):
        assert quadratic_peak(surface, torch.tensor([12]), (5, 5)).tolist() == [[2, 2]]


def test_refinement_leaves_kap_alone() -> None:
    cache, tables, head = make_world(1, grid=(8, 8))
    results = scored(cache, tables, head, EVERY)
    own, fused = (leaves_of(results)[name] for name in ("fused_subpatch", "fused"))
    changed = {name.partition("@")[0] for name in own if own[name] != fused[name]}
    assert changed
    assert not changed & {"kap", "kap_pair"}
    places = results.predictions.set_index(["method", "source", "target", "keypoint_id"])[["x", "y"]]
    moved = (places.loc["fused_subpatch"] - places.loc["fused"]).abs().to_numpy().max(axis=0)
    patch = (cache.boxes[:, 2:] - cache.boxes[:, :2]).max(axis=0) / 8
    assert (moved <= patch / 2 + 1e-6).all()


# --- mutual filter


def test_candidates_by_hand() -> None:
    similarity = torch.tensor([[0.5, 0.25, 0.75, 0.0]])
    back = torch.tensor([5, 4, 0, 10])  # on 3 x 4: (1, 1), (1, 0), (0, 0), (2, 2)
    patch = torch.tensor([5])
    expected = {0.0: [0], 1.0: [0, 1], 1.5: [0, 1, 2, 3]}
    for radius, candidates in expected.items():
        found = Mutual(FEATURES, radius, penalty=0.5).lower(similarity, patch, back, (3, 4))
        assert (found == similarity)[0].nonzero().flatten().tolist() == candidates
        assert torch.equal(similarity - found, torch.where(found == similarity, 0.0, 0.5))


def test_best_sources_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, tables, head = make_world(0, grid=(6, 6))
    expected, _ = similarities(cache, tables, head)
    monkeypatch.setattr("spheremap.methods.mutual.BLOCK", 7)
    found, _ = similarities(cache, tables, head)
    np.testing.assert_array_equal(found["fused_mutual"], expected["fused_mutual"])


# --- by viewpoint


def test_the_weight_grows_with_the_gap() -> None:
    method = FusedViewpoint((FEATURES, SPHERE), near=0.25, far=0.75)
    found = [method.weight(cosine) for cosine in (1.0, 0.0, -1.0, 1.0001, -1.0001)]
    assert found == [0.25, 0.5, 0.75, 0.25, 0.75]


@given(st.integers(0, 10**6))
@settings(max_examples=10)
def test_rotating_the_sphere_changes_nothing(seed: int) -> None:
    cache, tables, head = make_world(seed % 5)
    rotated = FakeHead(head.dim, head.categories, random_rotation(seed))
    (expected, _), (found, _) = (similarities(cache, tables, own) for own in (head, rotated))
    for row in ("sphere", "fused", "fused_viewpoint"):
        np.testing.assert_allclose(found[row], expected[row], atol=3e-6)


def test_directions_count_what_the_prototypes_know() -> None:
    """Half of the tokens are the prototypes' own, the other half their opposites: only the first count."""
    head = FakeHead(6, ["c"])
    points = torch.nn.functional.normalize(torch.from_numpy(np.random.default_rng(0).normal(size=(1, 8, 3))))
    points = unit(points)
    tokens = head.prototypes(points[0], torch.zeros(8, dtype=torch.long))[None].numpy()
    tokens[:, 4:] *= -1
    found = mean_directions(head, tokens, points, "c")
    torch.testing.assert_close(found, unit(points[:, :4].sum(dim=1)), atol=1e-5, rtol=0)


def test_a_category_without_prototypes_is_refused() -> None:
    cache, tables, _ = make_world(0)
    head = FakeHead(cache.dim, ["category0"])
    without = replace(EVERY, methods=(*PAPER, "fused_mutual"))
    assert leaves_of(scored(cache, tables, head, without))
    with pytest.raises(InputError, match=r"knows the category(.|\n)*category1"):
        scored(cache, tables, head, EVERY)


# --- all of them


def test_further_rows_stand_beside_the_others_and_change_none() -> None:
    cache, tables, head = make_world(0)
    resampled = replace(PARAMS, bootstrap=20)
    without, found = (scored(cache, tables, head, replace(resampled, methods=own)) for own in (PAPER, ALL))
    few, every = leaves_of(without), leaves_of(found)
    assert set(every) - set(few) == set(FURTHER)
    assert {name: every[name] for name in few} == few
    for name in ("scores", "predictions"):
        own, table = getattr(without, name), getattr(found, name)
        assert set(table["method"]) == {*own["method"], *FURTHER}
        assert table[~table["method"].isin(FURTHER)].reset_index(drop=True).equals(own)
    for row in FURTHER:
        assert every[row].keys() == every["fused"].keys()
        assert {f"pck_point@0.25{end}" for end in ("_low", "_gain", "_gain_low")} <= set(every[row])


def test_any_method_can_be_the_baseline_and_stands_where_it_is_listed() -> None:
    listed = ("fused", "fused_subpatch", "features")
    params = replace(PARAMS, methods=listed, baseline="fused_subpatch", bootstrap=10)
    results = scored(*make_world(0), params)
    found = leaves_of(results)
    assert "pck_point@0.25_gain" in found["fused"]
    assert "pck_point@0.25_gain" not in found["fused_subpatch"]
    assert list(found) == results.scores["method"].unique().tolist() == list(listed)


def test_variants_can_be_nested() -> None:
    cache, tables, head = make_world(0)
    section = world.entries() | {"nested": {"kind": "subpatch", "of": "fused_mutual"}}
    names = ("fused", "fused_mutual", "fused_subpatch", "nested")
    made = make_methods(section, names)
    params = replace(PARAMS, methods=names, baseline="fused")
    found = leaves_of(evaluate(cache, tables, head, params, dataset="x", methods=made))
    kap = [name for name in found["fused"] if name.startswith("kap")]
    assert [found["nested"][name] for name in kap] == [found["fused_mutual"][name] for name in kap]
    assert found["nested"] not in (found["fused_mutual"], found["fused_subpatch"])


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.randoms())
def test_order_of_pairs_images_and_records_does_not_matter(seed: int, random) -> None:
    cache, tables, head = make_world(seed % 3, images=3)
    order = list(range(len(cache)))
    random.shuffle(order)
    parts = (tables.images, tables.keypoints, tables.pairs)
    shuffled = Tables(*(part.sample(frac=1, random_state=seed) for part in parts))
    expected = scored(cache, tables, head, EVERY)
    found = scored(cache.permuted(order), shuffled, head, EVERY)
    for name in ("scores", "predictions"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name), check_exact=True)


@pytest.mark.parametrize(
    "options", [{"max_rows": 1}, {"max_rows": 20}, {"batch": 1}, {"batch": 3}, {"kept_bytes": 0}]
)
def test_blocking_does_not_change_the_result(options: dict[str, int]) -> None:
    cache, tables, head = make_world(2)
    expected, _ = similarities(cache, tables, head)
    found, _ = similarities(cache, tables, head, **options)
    for row in ALL:
        np.testing.assert_allclose(found[row], expected[row], atol=1e-6 if row != "chance" else 0)


def test_images_are_still_read_once() -> None:
    cache, tables, head = make_world(1, categories=3, images=5)
    scored(cache, tables, head, replace(EVERY, source="bilinear"))
    assert set(cache.reads.values()) == {1}

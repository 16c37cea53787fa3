"""Matching: descriptors, queries, and the blockwise matcher against plain float64 loops."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from world import FakeCache, FakeHead, image_row, keypoint_row, make_tables, make_world, random_rotation

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.data.tables import Tables
from spheremap.methods.descriptors import chance_similarity, mix, row_weights, unit
from spheremap.methods.matcher import Matcher
from spheremap.methods.queries import build_queries, with_common_keypoint
from spheremap.methods.rows import Row, paper_rows
from spheremap.model.head import sphere_points


def collect(matcher, queries):
    """All similarities by row, after checking that every query comes exactly once and in order."""
    blocks = list(matcher.blocks(queries))
    bounds = [(block.queries.start, block.queries.stop) for block in blocks]
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == len(queries.patch)
    return {
        row: torch.cat([block.similarity[row] for block in blocks]).numpy() for row in blocks[0].similarity
    }


def make_matcher(cache, head, **options):
    return Matcher(cache, paper_rows(0.2), partial(sphere_points, head), chance_seed=0, **options)


# --- descriptors ---


def test_unit_handles_half_precision_and_zero() -> None:
    vectors = torch.tensor([[3, 4], [0, 0], [6e-8, 0], [60000, 60000]], dtype=torch.float16)
    expected = [[0.6, 0.8], [0, 0], [1, 0], [math.sqrt(0.5), math.sqrt(0.5)]]
    torch.testing.assert_close(unit(vectors), torch.tensor(expected))


@given(st.floats(0, 1), st.integers(0, 100))
def test_a_row_is_the_dot_product_of_the_concatenated_descriptors(weight: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, 4, 6)))
    s, t = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, 4, 3)))
    source = np.hstack([np.sqrt(1 - weight) * x, np.sqrt(weight) * s])
    target = np.hstack([np.sqrt(1 - weight) * y, np.sqrt(weight) * t])
    found = mix(torch.from_numpy(x @ y.T), torch.from_numpy(s @ t.T), row_weights(weight)["fused"])
    np.testing.assert_allclose(found.numpy(), source @ target.T, atol=1e-12)


def test_rows_alone_do_not_mix() -> None:
    rows = row_weights(0.3)
    f, s = torch.tensor([[0.5]]), torch.tensor([[-1.0]])
    assert {row: mix(f, s, weights).item() for row, weights in rows.items()} == pytest.approx(
        {"features": 0.5, "sphere": -1.0, "fused": 0.7 * 0.5 - 0.3}
    )
    assert mix(f, s, (2.0, 0.0)).item() == 1.0
    assert mix(f, s, (0.0, 0.5)).item() == -0.5


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_mixing_weight_outside_its_range_is_refused(weight: float) -> None:
    with pytest.raises(InputError, match="mixing weight"):
        row_weights(weight)


def test_chance_depends_on_seed_and_pair_alone() -> None:
    first = chance_similarity(0, "a", "b", (3, 500))
    assert torch.equal(first, chance_similarity(0, "a", "b", (3, 500)))
    for other in [(1, "a", "b"), (0, "b", "a"), (0, "a", "c")]:
        assert not torch.equal(first, chance_similarity(*other, (3, 500)))
    assert 0 <= first.min() < 0.02
    assert 0.98 < first.max() < 1
    assert first.mean().item() == pytest.approx(0.5, abs=0.03)


# --- queries ---


@pytest.fixture
def tiny():
    """Two 40 x 20 images, padded to 40 x 40, on 4 x 4 patches of 10 px; the box starts at y = -10."""
    images = [image_row(f"c/{name}", 40, 20, (0, 0, 40, 20)) for name in "ab"]
    keypoints = [
        keypoint_row("c/a", "10", (40, 20)),  # the image's far corner
        keypoint_row("c/a", "2", (0, 0)),
        keypoint_row("c/a", "3", (10, 5)),  # on the border of two patches
        keypoint_row("c/a", "4", None),
        keypoint_row("c/b", "10", None),
        keypoint_row("c/b", "2", (7.5, 2.5)),
        keypoint_row("c/b", "4", (1, 1)),
    ]
    tables = make_tables(images, keypoints, [("c/b", "c/a"), ("c/a", "c/b")])
    data = np.random.default_rng(0).normal(size=(2, 16, 4)).astype(np.float16)
    cache = FakeCache(["c/b", "c/a"], data, np.array([[0.0, -10, 40, 30]] * 2), (4, 4))
    return cache, tables


def test_queries_are_the_keypoints_visible_in_the_source(tiny) -> None:
    cache, tables = tiny
    queries = build_queries(cache, tables, tables.pairs)
    assert queries.target_id.tolist() == ["c/a", "c/b"]
    assert queries.source_id.tolist() == ["c/b", "c/a"]
    assert queries.source.tolist() == [0, 1]
    assert queries.keypoint_id.tolist() == ["2", "4", "2", "3", "10"]
    assert queries.first.tolist() == [0, 2, 5]
    assert queries.pair.tolist() == [0, 0, 1, 1, 1]
    # rows 1 and 2 of the grid hold the image; a corner at x = 40 belongs to the last column
    assert queries.patch.tolist() == [4, 4, 4, 5, 15]
    assert queries.common.tolist() == [True, False, True, False, False]
    assert queries.xy[0].tolist() == [0, 0]
    assert queries.xy[2].tolist() == [7.5, 2.5]
    assert np.isnan(queries.xy[[1, 3, 4]]).all()


def test_pairs_without_a_source_keypoint_are_left_out(tiny) -> None:
    cache, tables = tiny
    images = pd.concat([tables.images, pd.DataFrame([image_row("c/empty", 40, 20, (0, 0, 40, 20))])])
    tables = make_tables(images.to_dict("records"), tables.keypoints.to_dict("records"), [("c/empty", "c/a")])
    queries = build_queries(cache, tables, tables.pairs)
    assert len(queries.source) == len(queries.patch) == 0
    assert list(Matcher(cache, {"features": Row((1.0, 0.0))}).blocks(queries)) == []


def test_image_missing_from_the_cache_is_named(tiny) -> None:
    cache, tables = tiny
    cache.image_ids[0] = "c/other"
    with pytest.raises(InputError, match="c/b"):
        build_queries(cache, tables, tables.pairs)


def test_pairs_with_a_common_keypoint(tiny) -> None:
    _, tables = tiny
    assert with_common_keypoint(tables, tables.pairs, "here").to_numpy().tolist() == [
        ["c/a", "c/b"],
        ["c/b", "c/a"],
    ]
    hidden = tables.keypoints.assign(visible=(tables.keypoints["image_id"] == "c/a").astype(int))
    with pytest.raises(InputError, match=r"no pair has a keypoint visible in both images(.|\n)*split x"):
        with_common_keypoint(
            make_tables([], hidden.to_dict("records"), [("c/a", "c/b")]), tables.pairs, "split x"
        )


# --- matcher ---


def cosine(a, b) -> float:
    dot, aa, bb = (
        sum(float(p) * float(q) for p, q in zip(u, v, strict=True)) for u, v in ((a, b), (a, a), (b, b))
    )
    return dot / math.sqrt(aa * bb) if aa and bb else 0.0


def test_similarities_equal_plain_loops() -> None:
    cache, tables, head = make_world(0, categories=2, images=3, grid=(3, 4))
    cache.data[1, 5] = 0  # a zero token
    queries = build_queries(cache, tables, tables.pairs)
    found = collect(make_matcher(cache, head), queries)
    points = cache.data.astype(np.float64) @ head.matrix
    for q in range(len(queries.patch)):
        source, target = queries.source[queries.pair[q]], queries.target[queries.pair[q]]
        for n in range(12):
            f = cosine(cache.data[source, queries.patch[q]], cache.data[target, n])
            s = cosine(points[source, queries.patch[q]], points[target, n])
            assert found["features"][q, n] == pytest.approx(f, abs=1e-5)
            assert found["sphere"][q, n] == pytest.approx(s, abs=1e-5)
            assert found["fused"][q, n] == pytest.approx(0.8 * f + 0.2 * s, abs=1e-5)


def test_a_tie_goes_to_the_first_patch() -> None:
    images = [image_row(f"c/{name}", 30, 30, (0, 0, 30, 30)) for name in "ab"]
    keypoints = [keypoint_row(f"c/{name}", "0", (1, 1)) for name in "ab"]
    tables = make_tables(images, keypoints, [("c/a", "c/b")])
    data = np.zeros((2, 9, 2), dtype=np.float16)
    data[0, 0] = [2, 0]
    data[1] = [0, 1]
    data[1, [4, 7, 8]] = [5, 0]
    cache = FakeCache(["c/a", "c/b"], data, np.array([[0.0, 0, 30, 30]] * 2), (3, 3))
    (block,) = Matcher(cache, {"features": Row((1.0, 0.0))}).blocks(
        build_queries(cache, tables, tables.pairs)
    )
    assert block.similarity["features"].tolist() == [[0, 0, 0, 0, 1, 0, 0, 1, 1]]
    assert block.similarity["features"].argmax(dim=1).tolist() == [4]


def test_a_single_patch_is_a_grid_too() -> None:
    cache, tables, head = make_world(3, grid=(1, 1))
    found = collect(make_matcher(cache, head), build_queries(cache, tables, tables.pairs))
    assert found["fused"].shape[1] == 1


def test_each_image_is_read_and_mapped_once() -> None:
    cache, tables, head = make_world(1, categories=3, images=5)
    queries = build_queries(cache, tables, tables.pairs)
    mapped = []

    def sphere(tokens):
        mapped.append(len(tokens))
        return sphere_points(head, tokens)

    list(Matcher(cache, paper_rows(0.2), sphere, batch=2).blocks(queries))
    assert set(cache.reads) == set(cache.image_ids)
    assert set(cache.reads.values()) == {1}
    assert sum(mapped) == len(cache)
    assert max(mapped) == 2


def test_without_memory_each_image_is_read_twice_at_most() -> None:
    cache, tables, head = make_world(1, categories=3, images=5)
    queries = build_queries(cache, tables, tables.pairs)
    list(make_matcher(cache, head, kept_bytes=0).blocks(queries))
    assert max(cache.reads.values()) == 2


def test_memory_for_one_image_spares_one_reading() -> None:
    cache, tables, head = make_world(1, categories=1, images=5)
    queries = build_queries(cache, tables, tables.pairs)
    list(make_matcher(cache, head, kept_bytes=0).blocks(queries))
    without, cache.reads = sum(cache.reads.values()), {}
    list(make_matcher(cache, head, kept_bytes=int(1.5 * cache.data[0].nbytes)).blocks(queries))
    assert sum(cache.reads.values()) == without - 1


@pytest.mark.parametrize(
    "options", [{"max_rows": 1}, {"max_rows": 20}, {"batch": 1}, {"batch": 3}, {"kept_bytes": 0}]
)
def test_blocking_does_not_change_the_result(options: dict[str, int]) -> None:
    cache, tables, head = make_world(2, categories=2, images=5)
    queries = build_queries(cache, tables, tables.pairs)
    expected = collect(make_matcher(cache, head), queries)
    found = collect(make_matcher(cache, head, **options), queries)
    for row in expected:
        np.testing.assert_allclose(found[row], expected[row], atol=1e-6)
    np.testing.assert_array_equal(found["chance"], expected["chance"])


def test_blocks_hold_whole_pairs_of_one_target() -> None:
    cache, tables, head = make_world(2, categories=2, images=6)
    queries = build_queries(cache, tables, tables.pairs)
    for block in make_matcher(cache, head, max_rows=20).blocks(queries):
        assert block.queries.start in queries.first
        assert block.queries.stop in queries.first
        pairs = np.unique(queries.pair[block.queries])
        assert set(queries.target[pairs]) == {block.target}
        assert len(pairs) == 1 or block.queries.stop - block.queries.start <= 20


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.randoms())
def test_order_of_pairs_and_images_does_not_matter(seed: int, random) -> None:
    cache, tables, head = make_world(seed % 3)
    expected = collect(make_matcher(cache, head), build_queries(cache, tables, tables.pairs))
    order = list(range(len(cache)))
    random.shuffle(order)
    shuffled = cache.permuted(order)
    parts = (tables.images, tables.keypoints, tables.pairs)
    moved = Tables(*(part.sample(frac=1, random_state=seed) for part in parts))
    found = collect(make_matcher(shuffled, head), build_queries(shuffled, moved, moved.pairs))
    for row in expected:
        np.testing.assert_array_equal(found[row], expected[row])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_rotating_the_sphere_changes_nothing(seed: int) -> None:
    cache, tables, head = make_world(seed % 5)
    queries = build_queries(cache, tables, tables.pairs)
    rotated = FakeHead(head.dim, rotation=random_rotation(seed))
    expected, found = (collect(make_matcher(cache, h), queries) for h in (head, rotated))
    np.testing.assert_allclose(found["sphere"], expected["sphere"], atol=2e-6)
    np.testing.assert_allclose(found["fused"], expected["fused"], atol=2e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_tokens_that_are_not_finite_are_refused(bad: float) -> None:
    cache, tables, head = make_world(0)
    cache.data[5, 3, 1] = bad
    with pytest.raises(ProvenanceError, match=rf"feature cache(.|\n)*{cache.image_ids[5]}"):
        collect(make_matcher(cache, head), build_queries(cache, tables, tables.pairs))


def test_a_broken_head_is_refused() -> None:
    cache, tables, head = make_world(0)
    head.matrix[:] = np.nan
    with pytest.raises(ProvenanceError, match="head gives"):
        collect(make_matcher(cache, head), build_queries(cache, tables, tables.pairs))


def test_rows_on_the_sphere_need_a_head() -> None:
    cache, _, _ = make_world(0)
    with pytest.raises(InputError, match="needs sphere points"):
        Matcher(cache, paper_rows(0.2))

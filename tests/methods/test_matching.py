"""Matching: descriptors, queries, and the blockwise matcher against plain float64 loops."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from world import (
    PAPER,
    FakeCache,
    entries,
    image_row,
    keypoint_row,
    make_tables,
    make_world,
    methods,
)

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.config import methods as config
from spheremap.config.methods import KINDS, companions_of, learning
from spheremap.methods import make_methods
from spheremap.methods.chance import Chance
from spheremap.methods.engine.comparison import Comparison
from spheremap.methods.engine.descriptors import unit, weighted_sum
from spheremap.methods.engine.queries import build_queries, with_common_keypoint
from spheremap.methods.fused import FEATURES, SPHERE, Fused, paper
from spheremap.methods.fused_viewpoint import FusedViewpoint
from spheremap.methods.mutual import Mutual
from spheremap.methods.transport import Transport


def collect(comparison, queries, names=PAPER):
    """All similarities by method, after checking that every query comes exactly once and in order."""
    blocks = list(comparison.blocks(queries))
    bounds = [(block.queries.start, block.queries.stop) for block in blocks]
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == len(queries.patch)
    return {
        name: torch.cat([method.compare(block) for block in blocks]).numpy()
        for name, method in methods(*names).items()
    }


def compare(cache, head, **options):
    return Comparison(cache, methods(*PAPER).values(), head, **options)


# --- methods from parameters ---


def test_every_kind_can_be_made_and_is_made_of_others() -> None:
    made = methods(*entries())
    assert {entry["kind"] for entry in entries().values()} == set(KINDS)
    assert made["adapted_fused"] == Fused((made["adapted"], SPHERE), 0.2)
    assert made["fused_mutual"].of == made["fused"]
    assert learning(entries(), entries()) == ["adapted", "fused_in_domain", "supervised"]
    assert learning(entries(), ["adapted_fused"]) == ["adapted"]
    assert learning(entries(), ["fused", "fused_mutual"]) == []
    assert companions_of(entries(), ["fused", "adapted"]) == []
    assert companions_of(entries(), ["debiased_fused", "fused_flip"]) == ["blank", "mirrored"]
    nested = entries() | {"both": {"kind": "subpatch", "of": "fused_mutual"}}
    both = make_methods(nested, ["both"])["both"]
    assert both.parts() == made["fused"].parts()
    assert [type(each).__name__ for each in both.made_of()][-3:] == ["Fused", "Mutual", "Subpatch"]


@pytest.mark.parametrize(
    ("name", "entry", "said"),
    [
        ("x", {"kind": "magic"}, "magic"),
        ("x", {}, "kind"),
        ("x", {"kind": "subpatch", "of": "nothing"}, "methods.nothing"),
        ("x", {"kind": "subpatch", "of": "x"}, "made of itself"),
        ("x", {"kind": "features", "of": "fused"}, "methods.x: .*'of'"),
        ("x", {"kind": "subpatch", "of": ["fused", "sphere"]}, "methods.x.of"),
        ("x", {"kind": "fused", "of": "features", "sphere_weight": 0.2}, "methods.x.of"),
        *(
            ("x", {"kind": kind, "of": [of, "sphere"], **own}, name)
            for kind, own in (
                ("fused", {"sphere_weight": 0.2}),
                ("fused_viewpoint", {"near": 0.1, "far": 0.2}),
                ("in_domain", {"sphere_weight": 0.2, "components": 2}),
            )
            for of, name in (("fused_mutual", "Mutual"), ("fused_kernel", "Kernel"), ("chance", "Chance"))
        ),
        ("fused", {"sphere_wait": 0.2}, "methods.fused: .*'sphere_wait'"),
        ("fused", {"sphere_weight": 1.1}, "sphere_weight"),
        ("fused", {"sphere_weight": "much"}, "methods.fused.sphere_weight"),
        ("fused_mutual", {"radius": -1.0}, "radius"),
        ("fused_viewpoint", {"far": 1.5}, "far"),
        ("adapted", {"chain": 1}, "methods.adapted.chain"),
        ("adapted", {"validation": {}}, "methods.adapted.validation.alpha: missing"),
    ],
)
def test_bad_entries_are_named(name: str, entry: dict, said: str) -> None:
    section = entries()
    section[name] = {**section.get(name, {}), **entry}
    with pytest.raises(InputError, match=said):
        make_methods(section, [name])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def helper(): ...", "none"),
        ("class A(Method): ...\nclass B(Method): ...", "A, B"),
        ("class A(Method):\n    mode: Mode", "'Mode'"),
    ],
)
def test_a_file_that_is_no_method_is_named(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd.py").write_text(text)
    monkeypatch.setattr(config, "_FOLDER", tmp_path)
    with pytest.raises(InputError, match=rf"odd\.py(.|\n)*{said}"):
        config._entry_of("odd")


# --- descriptors ---


def test_unit_handles_half_precision_and_zero() -> None:
    vectors = torch.tensor([[3, 4], [0, 0], [6e-8, 0], [60000, 60000]], dtype=torch.float16)
    expected = [[0.6, 0.8], [0, 0], [1, 0], [math.sqrt(0.5), math.sqrt(0.5)]]
    torch.testing.assert_close(unit(vectors), torch.tensor(expected))


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 100))
def test_fused_is_the_dot_product_of_the_concatenated_descriptors(w: float, v: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, 4, 6)))
    s, t = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, 4, 3)))
    source = np.hstack([np.sqrt(1 - w) * x, np.sqrt(w) * s])
    target = np.hstack([np.sqrt(1 - w) * y, np.sqrt(w) * t])
    products = {FEATURES: torch.from_numpy(x @ y.T), SPHERE: torch.from_numpy(s @ t.T)}

    def similarity(method):
        return weighted_sum((weight, products[part]) for part, weight in method.parts().items())

    fused = Fused((FEATURES, SPHERE), w)
    np.testing.assert_allclose(similarity(fused).numpy(), source @ target.T, atol=1e-12)
    again = Fused((fused, SPHERE), v)  # of a method that is fused itself
    expected = (1 - v) * source @ target.T + v * s @ t.T
    np.testing.assert_allclose(similarity(again).numpy(), expected, atol=1e-12)


def test_a_weight_of_zero_costs_nothing() -> None:
    f, s = torch.tensor([[0.5]]), torch.tensor([[torch.nan]])
    assert weighted_sum([(1.0, f), (0.0, s)]) is f
    assert weighted_sum([(0.0, s), (0.5, f)]).item() == 0.25


def test_chance_depends_on_seed_and_pair_alone() -> None:
    first = Chance(0).draw("a", "b", (3, 500))
    assert torch.equal(first, Chance(0).draw("a", "b", (3, 500)))
    for seed, *pair in [(1, "a", "b"), (0, "b", "a"), (0, "a", "c")]:
        assert not torch.equal(first, Chance(seed).draw(*pair, (3, 500)))
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
    assert list(Comparison(cache, [FEATURES]).blocks(queries)) == []


def test_image_missing_from_the_cache_is_named(tiny) -> None:
    cache, tables = tiny
    cache.image_ids[0] = "c/other"
    with pytest.raises(InputError, match="c/b"):
        build_queries(cache, tables, tables.pairs)


def test_pairs_with_a_common_keypoint(tiny) -> None:
    _, tables = tiny
    found = with_common_keypoint(tables, tables.pairs, "here")
    assert found.to_numpy().tolist() == [["c/a", "c/b"], ["c/b", "c/a"]]
    tables.keypoints["visible"] = (tables.keypoints["image_id"] == "c/a").astype(int)
    with pytest.raises(InputError, match=r"no pair has a keypoint visible in both images(.|\n)*split x"):
        with_common_keypoint(tables, tables.pairs, "split x")


# --- comparison ---


def test_a_single_patch_is_a_grid_too() -> None:
    cache, tables, head = make_world(3, grid=(1, 1))
    found = collect(compare(cache, head), build_queries(cache, tables, tables.pairs))
    assert found["fused"].shape[1] == 1


def test_each_image_is_read_and_mapped_once() -> None:
    cache, tables, head = make_world(1, categories=3, images=5)
    queries = build_queries(cache, tables, tables.pairs)
    mapped, mapper = [], head.mapper
    head.mapper = lambda tokens: (mapped.append(len(tokens)), mapper(tokens))[1]
    list(compare(cache, head, batch=2).blocks(queries))
    assert set(cache.reads) == set(cache.image_ids)
    assert set(cache.reads.values()) == {1}
    assert sum(mapped) == len(cache)
    assert max(mapped) == 2


def test_without_memory_each_image_is_read_twice_at_most() -> None:
    cache, tables, head = make_world(1, categories=1, images=5)
    queries = build_queries(cache, tables, tables.pairs)

    def readings(kept_bytes: int) -> int:
        cache.reads = {}
        for block in compare(cache, head, kept_bytes=kept_bytes).blocks(queries):
            for method in methods(*PAPER).values():
                method.compare(block)
        assert max(cache.reads.values()) == 2
        return sum(cache.reads.values())

    # memory for one image spares one reading
    assert readings(int(1.5 * cache.data[0].nbytes)) == readings(0) - 1


def test_blocks_hold_whole_pairs_of_one_target() -> None:
    cache, tables, head = make_world(2, categories=2, images=6)
    queries = build_queries(cache, tables, tables.pairs)
    for block in compare(cache, head, max_rows=20).blocks(queries):
        assert block.queries.start in queries.first
        assert block.queries.stop in queries.first
        pairs = np.unique(queries.pair[block.queries])
        assert set(queries.target[pairs]) == {block.target}
        assert len(pairs) == 1 or block.queries.stop - block.queries.start <= 20


def test_a_broken_head_is_refused() -> None:
    cache, tables, head = make_world(0)
    head.matrix[:] = np.nan
    with pytest.raises(ProvenanceError, match="Sphere gives"):
        collect(compare(cache, head), build_queries(cache, tables, tables.pairs))


def test_methods_need_what_they_use() -> None:
    cache, tables, head = make_world(0)
    queries = build_queries(cache, tables, tables.pairs)
    for name, own in (("sphere", None), ("fused_viewpoint", None), ("adapted", head)):
        with pytest.raises(InputError, match="fitted .*first" if own else "sphere"):
            list(Comparison(cache, methods(name).values(), own).blocks(queries))
    blind = [Mutual(Chance(0), 1.0, 0.1), Transport(Chance(0), 2, 0.0, 0.1, 2)]
    for method in (*blind, FusedViewpoint((SPHERE, FEATURES), 0.1, 0.2)):
        with pytest.raises(InputError, match=r"descriptors|Features with 8"):
            [method.compare(block) for block in Comparison(cache, [method], head).blocks(queries)]


def test_the_paper_s_methods_are_those_of_its_parameters() -> None:
    assert paper(0.2) == methods("features", "sphere", "fused")

"""Photographs of one's own: reading them, bundles, and answers equal to the evaluation's."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from studio import Studio, draw, make_studio, parsed, run, tables_of, write_head
from tiny import BACKBONE

import spheremap
from spheremap.api.bundle import read_bundle, write_bundle
from spheremap.api.drawing import draw_points
from spheremap.api.matcher import Matcher, load
from spheremap.api.protocol import Protocol
from spheremap.base.errors import InputError, ProvenanceError, SpheremapError
from spheremap.base.tensors import read_tensors, write_tensors
from spheremap.data import images
from spheremap.data.images import load_rgb
from spheremap.model.head import Head, load_head, save_head

ROWS = ("features", "sphere", "fused")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """Its input is as large as the largest photograph."""
    backbone = {**BACKBONE, "image_size": {"train": 64, "eval": 208}}
    return make_studio(tmp_path_factory.mktemp("wide"), backbone)


# ---- the answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fit", "source", "readout"),  # any two of a kind meet
    [
        *(("pad", "patch", "argmax"), ("pad", "bilinear", "window")),
        *(("stretch", "patch", "window"), ("stretch", "bilinear", "argmax")),
        *(("original", "patch", "argmax"), ("original", "bilinear", "window")),
    ],
)
def test_answers_are_those_of_the_evaluation(wide: Studio, fit: str, source: str, readout: str) -> None:
    protocol = {"fit": fit, "source": source, "readout": readout, "window": 5, "temperature": 0.05}
    rng = np.random.default_rng(0)
    points = []
    for path in wide.photographs:
        with Image.open(path) as image:
            inside = rng.uniform(0, 1, (7, 2)) * image.size
            points.append([(0.0, 0.0), *map(tuple, inside.tolist()), image.size])  # the corners as well
    predictions = wide.evaluate(tables_of(wide.photographs, points), **protocol)
    places = predictions.set_index(["method", "source", "target", "keypoint_id"])[["x", "y"]]
    matcher = load(wide.bundle, device="cpu", **protocol)
    for a, b in itertools.permutations(wide.photographs, 2):
        xy = points[wide.photographs.index(a)]
        found = matcher.match(a, b, xy, padding=True)
        for row in ROWS:
            asked = [(row, f"dog/{a.stem}", f"dog/{b.stem}", str(k)) for k in range(len(xy))]
            np.testing.assert_allclose(found.target_xy[row], places.loc[asked].to_numpy(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("fit", "squeeze"), ("source", "nearest"), ("readout", "mean"), ("window", 4), ("temperature", 0.0)],
)
def test_bad_protocols_are_named(studio: Studio, setting: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"{setting}[\s\S]*{value}"):
        load(studio.bundle, device="cpu", **{setting: value})


def test_a_photograph_larger_than_the_input_is_named(studio: Studio) -> None:
    matcher = load(studio.bundle, device="cpu", fit="original")
    with pytest.raises(InputError, match=r"0\.png[\s\S]*--size\) to 128"):
        matcher.describe(studio.photographs[0])
    with pytest.raises(InputError, match="array"):
        matcher.describe(np.zeros((20, 97, 3), np.uint8))
    assert load(studio.bundle, device="cpu", fit="original", size=128).describe(studio.photographs[0])


def test_a_photograph_matches_itself(studio: Studio, matcher: Matcher) -> None:
    a = matcher.describe(studio.photographs[0])
    found = matcher.match(a, a, a.centres[(a.centres[:, 1] > 0) & (a.centres[:, 1] < 90)])
    np.testing.assert_array_equal(found.target_xy["features"], found.source_xy)
    np.testing.assert_array_equal(found.xy, found.source_xy)
    np.testing.assert_allclose(found.similarity["fused"], 1, atol=1e-5)


def test_path_array_and_description_are_the_same_photograph(studio: Studio, matcher: Matcher) -> None:
    a, b = studio.photographs[:2]
    answers = [
        matcher.match(source, target, [(30, 40)])
        for source, target in ((a, b), (str(a), load_rgb(b)), (matcher.describe(a), matcher.describe(b)))
    ]
    for other in answers[1:]:
        for row in ROWS:
            np.testing.assert_array_equal(other.target_xy[row], answers[0].target_xy[row])
            np.testing.assert_array_equal(other.similarity[row], answers[0].similarity[row])


@pytest.mark.parametrize(("weight", "row"), [(0.0, "features"), (1.0, "sphere")])
def test_the_weight_leads_from_features_to_sphere(
    studio: Studio, matcher: Matcher, weight: float, row: str
) -> None:
    found = matcher.match(*studio.photographs[:2], [(30, 40), (80, 20)], sphere_weight=weight)
    np.testing.assert_array_equal(found.xy, found.target_xy[row])
    np.testing.assert_array_equal(found.similarity["fused"], found.similarity[row])


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(30, 40), (121, 3)], r"point 2[\s\S]*x <= 120[\s\S]*121,3"),
        ([(float("nan"), 3)], "point 1"),
        ([], r"found: \(0,\)"),
        ([1, 2], r"found: \(2,\)"),
        ([("a", "b")], "'a'"),
    ],
)
def test_bad_points_are_named(studio: Studio, matcher: Matcher, points: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        matcher.match(*studio.photographs[:2], points)


@pytest.mark.parametrize(
    "pixels", [np.zeros((20, 20), np.uint8), np.zeros((20, 20, 3)), np.zeros((0, 20, 3), np.uint8)]
)
def test_an_array_that_is_no_picture_is_refused(matcher: Matcher, pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match="not an RGB image"):
        matcher.describe(pixels)


def test_arrays_and_images_have_the_limits_of_files(
    matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    for size, problem in (((15, 40), "too small"), ((40, 50), "too large")):
        for photo in (np.zeros((*size, 3), np.uint8), Image.new("RGB", size)):
            with pytest.raises(InputError, match=problem):
                matcher.describe(photo)


def test_returns_is_how_far_the_match_of_the_match_is_off(studio: Studio) -> None:
    matcher = load(studio.bundle, device="cpu", fit="stretch")
    a, b = (matcher.describe(path) for path in studio.photographs[:2])
    xy = np.array([(30.0, 40.0), (80.0, 20.0), (5.0, 85.0)])
    found = matcher.match(a, b, xy)
    for method, places in found.target_xy.items():
        back = matcher.match(b, a, places).target_xy[method]
        off = np.hypot(*((back - xy) / (120 / 6, 90 / 6)).T)  # 6 × 6 patches of 120 × 90 px
        np.testing.assert_allclose(found.returns[method], off)
    assert max(off) > 1
    with pytest.raises(InputError, match="features, sphere, fused"):
        found.picture(method="nonsense")


def test_warp_is_the_match_of_every_patch(studio: Studio, matcher: Matcher, tmp_path: Path) -> None:
    a, b = (matcher.describe(path) for path in studio.photographs[:2])
    warp = matcher.warp(a, b)
    rows, columns = a.grid
    np.testing.assert_array_equal(warp.source_xy.reshape(-1, 2), a.centres)
    # 120 × 90 in a square of 120: of 6 rows of 20 px the outer two have their centres 5 px beyond the border
    np.testing.assert_array_equal(warp.inside, [[0 < row < rows - 1] * columns for row in range(rows)])
    found = matcher.match(a, b, warp.source_xy[warp.inside])
    np.testing.assert_array_equal(warp.target_xy[warp.inside], found.xy)
    np.testing.assert_allclose(warp.similarity[warp.inside], found.similarity["fused"], atol=1e-5)
    back = matcher.warp(b, a)
    for row, column in np.ndindex(rows, columns):
        there = np.argmin(np.linalg.norm(b.centres - warp.target_xy[row, column], axis=1))
        here = back.target_xy.reshape(-1, 2)[there]
        assert warp.mutual[row, column] == np.array_equal(here, warp.source_xy[row, column])
    np.testing.assert_array_equal(found.returns["fused"] < 1e-9, warp.mutual[warp.inside])
    assert warp.mutual.any()
    assert not warp.mutual.all()
    warp.save(tmp_path / "warp.npz")
    with np.load(tmp_path / "warp.npz") as saved:
        np.testing.assert_array_equal(saved["target_xy"], warp.target_xy)
        np.testing.assert_array_equal(saved["target_size"], [70, 141])


@pytest.mark.parametrize("fit", ["pad", "stretch", "original"])
def test_warps_lie_where_the_photograph_does(wide: Studio, fit: str) -> None:
    matcher = load(wide.bundle, device="cpu", fit=fit, source="bilinear")
    for path in wide.photographs[:2]:
        warp = matcher.warp(path, path)
        with Image.open(path) as photograph:
            width = round(208 * photograph.width / max(photograph.size))
        picture = np.asarray(warp.picture(side=208)).astype(float)
        left, right = picture[16:-16, 16 : width - 16], picture[16:-16, 16 - width : -16]  # but for a patch
        assert np.abs(left - right).mean() < 10
        assert np.abs(left - right[:, ::-1]).mean() > 20
        found = matcher.match(path, path, warp.source_xy[warp.inside])
        np.testing.assert_allclose(warp.target_xy[warp.inside], found.xy)


def test_map_is_coloured_by_the_sphere(studio: Studio, matcher: Matcher) -> None:
    found = matcher.map(studio.photographs[2])
    np.testing.assert_allclose(np.linalg.norm(found.points, axis=-1), 1, atol=1e-5)
    rows, columns = found.points.shape[:2]
    picture = np.asarray(found.picture(side=rows * 31)).astype(float)  # odd: patch centres are pixel centres
    centres = picture[15::31, 15::31]
    colour = (found.points + 1) / 2 * 255
    # at most the share of grey lies between
    assert centres.shape == (rows, columns, 3)
    assert np.abs(centres - (0.85 * colour + 0.15 * 127.5)).max() < 0.15 * 127.5 + 3
    mask = np.zeros((64, 64), dtype=bool)
    mask[:, :32] = True
    masked = np.asarray(found.picture(mask, side=64)).astype(int)
    np.testing.assert_array_equal(masked[:, :31], np.asarray(found.picture(side=64)).astype(int)[:, :31])
    assert masked[:, 33:].max() <= 0.3 * 255 + 1
    np.testing.assert_array_equal(np.asarray(found.picture(mask * np.uint8(255), side=64)), masked)
    with pytest.raises(InputError, match=r"mask is not of[\s\S]*\(64, 64\)"):
        found.picture(mask[:5])


def test_points_are_drawn_where_they_are() -> None:
    points = np.array([[100.0, 50.0], [100.0, 50.0], [999.0, 100.0]])
    seen = np.asarray(draw_points(Image.new("RGB", (400, 200)), points)).max(axis=2) > 60
    rows, columns = np.nonzero(seen[:, :200])
    assert abs(columns.mean() - 100) < 2  # two side by side
    assert columns.max() - columns.min() > 1.6 * (rows.max() - rows.min())
    assert abs(rows.mean() - 50) < 2
    assert seen[:, 380:].any()  # one outside, at the border


def test_coordinates_of_a_reduced_photograph_are_those_of_the_whole(
    matcher: Matcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(0, (400, 300)).save(tmp_path / "a.jpg", quality=95)
    whole = matcher.describe(tmp_path / "a.jpg")
    monkeypatch.setattr(images, "MAX_PIXELS", 300 * 200)
    reduced = matcher.describe(tmp_path / "a.jpg")
    assert reduced.photograph.pixels.shape == (150, 200, 3)
    np.testing.assert_array_equal(reduced.box, whole.box)
    assert (reduced.features * whole.features).sum(dim=1).min() > 0.98


# ---- bundles -----------------------------------------------------------------------------------------------


def test_a_bundle_with_weights_needs_nothing_else(
    studio: Studio, matcher: Matcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "elsewhere.bin"
    moved.write_bytes(studio.bundle.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = load(moved, device="cpu").match(*studio.photographs[:2], [(30, 40)])
    np.testing.assert_array_equal(found.xy, matcher.match(*studio.photographs[:2], [(30, 40)]).xy)
    assert not (tmp_path / "cache").exists()


def test_a_bundle_without_weights_fetches_them_once(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = tmp_path / "small.spheremap"
    run("bundle", "--params", studio.params, "--out", bundle)
    assert bundle.stat().st_size < studio.bundle.stat().st_size - studio.weights.stat().st_size * 0.9
    load(bundle, device="cpu")
    (fetched,) = (tmp_path / "cache" / "spheremap").iterdir()
    assert fetched.read_bytes() == studio.weights.read_bytes()
    before = fetched.stat().st_mtime_ns
    load(bundle, device="cpu")
    assert fetched.stat().st_mtime_ns == before
    fetched.write_bytes(b"something else")
    with pytest.raises(ProvenanceError, match="not the weights"):
        load(bundle, device="cpu")
    load(bundle, weights=studio.weights, device="cpu")  # those given come first


def test_other_weights_are_refused(studio: Studio, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"patch_embed.proj.bias": torch.zeros(384)}, other)
    with pytest.raises(ProvenanceError, match=r"not the weights of the backbone[\s\S]*vit_small_patch16_224"):
        load(studio.bundle, weights=other, device="cpu")
    with pytest.raises(InputError, match="do not exist"):
        load(studio.bundle, weights=tmp_path / "nowhere", device="cpu")
    parts = load_head(studio.head), parsed(studio.backbone), other
    with pytest.raises(ProvenanceError, match="trained on other features"):
        write_bundle(tmp_path / "b", *parts, where=studio.head)
    assert not (tmp_path / "b").exists()


def test_a_head_of_another_layer_is_not_bundled(studio: Studio, tmp_path: Path) -> None:
    for change in ({"block": 2}, {"facet": "key"}, {"norm": True}, {"model": "vit_tiny_patch16_224"}):
        parts = load_head(studio.head), parsed({**studio.backbone, **change}), studio.weights
        with pytest.raises(ProvenanceError, match="trained on other features"):
            write_bundle(tmp_path / "b", *parts, where=studio.head)


def test_a_head_without_provenance_is_held_to_its_width(studio: Studio, tmp_path: Path) -> None:
    def bundle_of(dim: int) -> Path:
        save_head(tmp_path / "head", Head.initialise(dim, ["dog"], 0), {})
        parts = load_head(tmp_path / "head"), parsed(studio.backbone), studio.weights
        write_bundle(tmp_path / "b", *parts, where=tmp_path, embed=True)
        return tmp_path / "b"

    assert load(bundle_of(384), device="cpu").categories == ["dog"]
    with pytest.raises(ProvenanceError, match=r"does not fit the backbone[\s\S]*384[\s\S]*192"):
        load(bundle_of(192), device="cpu")


def test_equal_parts_are_equal_bytes(studio: Studio, tmp_path: Path) -> None:
    run("bundle", "--params", studio.params, "--out", tmp_path / "again", "--embed")
    assert (tmp_path / "again").read_bytes() == studio.bundle.read_bytes()


def test_bundle_returns_the_head(studio: Studio) -> None:
    bundle, head = read_bundle(studio.bundle), load_head(studio.head)
    assert bundle.about.categories == head.categories == ["cat", "dog"]
    assert bundle.about.backbone == parsed(studio.backbone)
    assert bundle.head.provenance == head.provenance
    torch.testing.assert_close(bundle.head.state_dict(), head.state_dict(), rtol=0, atol=0)


def test_a_compact_bundle_is_small_and_matches_alike(
    studio: Studio, matcher: Matcher, tmp_path: Path
) -> None:
    compact = tmp_path / "compact.spheremap"
    run("bundle", "--params", studio.params, "--out", compact, "--compact")
    assert compact.stat().st_size < studio.head.stat().st_size / 7
    bundle, head = read_bundle(compact), load_head(studio.head)
    for name, parameter in head.mapper.state_dict().items():
        assert torch.equal(bundle.head.mapper.state_dict()[name], parameter.half().float())
    with pytest.raises(ProvenanceError, match="no prototypes"):
        bundle.head.prototypes(torch.zeros(1, 3), torch.zeros(1, dtype=torch.long))
    pair = [matcher.describe(photograph) for photograph in studio.photographs[:2]]
    small = load(compact, weights=studio.weights, device="cpu").describe(studio.photographs[0])
    assert (small.points * pair[0].points).sum(dim=1).min() > 0.9999


def test_weights_that_the_workflow_fetched_are_taken(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run("bundle", "--params", studio.params, "--out", tmp_path / "b", "--compact")
    monkeypatch.chdir(studio.folder)
    load(tmp_path / "b", device="cpu")
    assert not (tmp_path / "cache").exists()


def test_a_bundle_answers_by_its_project_s_protocol(wide: Studio, tmp_path: Path) -> None:
    params = json.loads(wide.params.read_text())
    params["features"]["fit"] = "stretch"
    params["evaluate"] |= {"source": "bilinear", "readout": "window", "window": 3, "temperature": 0.1}
    (tmp_path / "params.yaml").write_text(json.dumps(params))
    parts = ("--head", wide.head, "--weights", wide.weights)
    run("bundle", "--params", tmp_path / "params.yaml", "--out", tmp_path / "b", "--embed", *parts)
    protocol = {"fit": "stretch", "source": "bilinear", "readout": "window", "window": 3, "temperature": 0.1}
    assert read_bundle(tmp_path / "b").about.protocol == Protocol(**protocol)
    pair = (*wide.photographs[:2], [(30, 40), (80, 20)])
    found = load(tmp_path / "b", device="cpu").match(*pair)
    expected = load(wide.bundle, device="cpu", **protocol).match(*pair)
    np.testing.assert_array_equal(found.xy, expected.xy)
    usual = load(tmp_path / "b", device="cpu", fit="pad", source="patch", readout="argmax").match(*pair)
    np.testing.assert_array_equal(usual.xy, load(wide.bundle, device="cpu").match(*pair).xy)


def test_older_bundles_answer_as_they_did(studio: Studio, matcher: Matcher, tmp_path: Path) -> None:
    """One of version 1 has no protocol, one that names no head has the paper's."""
    state, metadata = read_tensors(studio.bundle)
    assert metadata is not None
    del metadata["protocol"]
    assert metadata.pop("head") == "spherical_map"
    write_tensors(tmp_path / "old", state, metadata | {"schema": "spheremap-bundle-1"})
    assert read_bundle(tmp_path / "old").head.name == "spherical_map"
    old = load(tmp_path / "old", device="cpu")
    assert (old.protocol.fit, old.protocol.source, old.protocol.readout) == ("pad", "patch", "argmax")
    found, expected = (own.match(*studio.photographs[:2], [(30, 40)]) for own in (old, matcher))
    np.testing.assert_array_equal(found.xy, expected.xy)


def test_size_is_checked_against_the_patch(studio: Studio) -> None:
    with pytest.raises(InputError, match="multiple of 16"):
        load(studio.bundle, device="cpu", size=100)
    assert load(studio.bundle, device="cpu", size=64).describe(studio.photographs[0]).grid == (4, 4)


def test_a_head_that_gives_no_numbers_is_refused(studio: Studio, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    write_head(path, studio.backbone, studio.weights)
    head = load_head(path)
    with torch.no_grad():
        head.mapper[0].weight.fill_(float("nan"))
    write_bundle(tmp_path / "b", head, parsed(studio.backbone), studio.weights, where=path, embed=True)
    with pytest.raises(SpheremapError, match="not finite"):
        load(tmp_path / "b", device="cpu").describe(studio.photographs[0])


# ---- the package -------------------------------------------------------------------------------------------


def test_the_public_names_are_documented() -> None:
    assert spheremap.load is load
    for name in spheremap.__all__:
        assert getattr(spheremap, name).__doc__
        assert name in (spheremap.__doc__ or "")
    with pytest.raises(AttributeError, match="nonsense"):
        _ = spheremap.nonsense

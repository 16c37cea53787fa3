"""The feature cache from pictures to reader: geometry of views, HDF5, damage, bounded queues."""

import dataclasses
import itertools
import json
import shutil
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.files import sha256_file
from spheremap.cli import main
from spheremap.config.backbone import Backbone as BackboneSpec
from spheremap.config.backbone import ImageSizes, WeightsSpec
from spheremap.data.subjects import Subject
from spheremap.data.tables import Tables, write_tables
from spheremap.features.backbones.extractor import Extractor
from spheremap.features.backbones.weights import fetch_weights
from spheremap.features.cache import FeatureCache, builder, views
from spheremap.features.cache.builder import (
    CacheSpec,
    FeaturesSpec,
    Summary,
    build_shard,
    select_sources,
)
from spheremap.features.cache.index import write_index
from spheremap.features.cache.shards import shard_range
from spheremap.features.cache.views import make_view, random_resized_crop, view_generator
from spheremap.features.geometry import patch_centres, square_box

BACKBONE = BackboneSpec("test_vit", WeightsSpec("random", seed=0), 1, False, "token", ImageSizes(32, 48))
FEATURES = FeaturesSpec("tiny", 3, False, (0.5, 1.5), (0.75, 4 / 3), 0, 4, "float32", 1, "pad")
SPEC = CacheSpec(FEATURES, BACKBONE, "toys")
SIZES = [(40, 30), (31, 50), (64, 64), (33, 48), (50, 20), (27, 27)]


# ---- a world of six pictures -------------------------------------------------------------------------------


def make_sources(folder: Path, count: int = len(SIZES)) -> list[Subject]:
    """Pictures of noise with a rectangle as the object; every third one has no mask."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    sources = []
    for i in range(count):
        width, height = SIZES[i % len(SIZES)]
        path, mask_path = folder / f"{i}.png", folder / f"{i}.mask.png"
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[5:-5, 3:-3] = 12
        Image.fromarray(mask).save(mask_path)
        box = (3.0, 5.0, width - 3.0, height - 5.0)
        sources.append(
            Subject(f"toy/{i:04}", "toy", path, None if i % 3 == 2 else mask_path, 12, box, (width, height))
        )
    return sources


def make_tables(sources: list[Subject]) -> Tables:
    """Images 0-3 are the train pairs' sources, 4 and 5 the test pair; val reuses them."""
    rows = [
        world.image_row(source.image_id, *source.size, source.box, 0.0)
        | {"path": str(source.path), "mask_path": str(source.mask_path or ""), "mask_value": 12}
        for source in sources
    ]
    ids = [s.image_id for s in sources]
    pairs = [("train", ids[i], ids[j]) for i in (3, 1, 0, 2) for j in (0, 5) if i != j]
    pairs += [("val", ids[5], ids[4]), ("test", ids[4], ids[5])]
    tables = world.make_tables(rows, [world.keypoint_row(ids[0], "0", (9.0, 9.0))], [])
    return dataclasses.replace(tables, pairs=pd.DataFrame(pairs, columns=["split", "source", "target"]))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weights") / "w.safetensors"
    fetch_weights(BACKBONE, out)
    return out


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    return make_sources(tmp_path_factory.mktemp("pictures"))


Build = Callable[..., Summary]


@pytest.fixture(scope="module")
def build(weights: Path, sources: list[Subject]) -> Build:
    def run(out: Path, **changes: Any) -> Summary:
        options: dict[str, Any] = {
            "spec": SPEC, "sources": sources, "weights": weights, "kind": "views", "shard": (0, 1),
            "provenance": {"step": "cache", "params": {"block": 1}}, "out": out,
        }  # fmt: skip
        return build_shard(**{**options, **changes})

    return run


@pytest.fixture(scope="module")
def cache_file(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cache of training views."""
    out = tmp_path_factory.mktemp("cache") / "views.h5"
    build(out)
    return out


# ---- views -------------------------------------------------------------------------------------------------


class TorchNumbers:
    """Draws the numbers that torchvision would draw."""

    def uniform(self, low: float, high: float) -> float:
        return torch.empty(1).uniform_(low, high).item()

    def integers(self, low: int, high: int) -> int:
        return int(torch.randint(low, high, size=(1,)).item())


@pytest.mark.parametrize(("width", "height"), [(500, 375), (40, 400), (900, 100), (224, 224)])
@pytest.mark.parametrize("scale", [(0.5, 1.5), (0.08, 1.0), (1.2, 1.5)])
def test_crop_is_torchvisions(width: int, height: int, scale: tuple[float, float]) -> None:
    ratio, image = (0.75, 4 / 3), torch.zeros(3, height, width)
    with torch.random.fork_rng():
        for seed in range(20):
            torch.manual_seed(seed)
            y0, x0, h, w = RandomResizedCrop.get_params(image, list(scale), list(ratio))
            torch.manual_seed(seed)
            box = random_resized_crop(width, height, scale, ratio, TorchNumbers())  # type: ignore[arg-type]
            assert box.tolist() == [x0, y0, x0 + w, y0 + h]


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**32))
def test_crop_stays_inside(width: int, height: int, seed: int) -> None:
    x0, y0, x1, y1 = random_resized_crop(
        width, height, (0.5, 1.5), (0.75, 4 / 3), np.random.default_rng(seed)
    )
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height


def test_every_view_has_its_own_numbers() -> None:
    keys = [(seed, image, view) for seed in (0, 1) for image in ("a/1", "a/11", "b/1") for view in (0, 1, 11)]
    draws = [view_generator(*key).integers(0, 2**62) for key in keys]
    assert len(set(draws)) == len(keys)
    assert [view_generator(*key).integers(0, 2**62) for key in reversed(keys)] == draws[::-1]


def test_views_of_a_square_by_hand() -> None:
    """One of the image's own size is the image itself; padding is centred, black, and background."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    view = make_view(image, np.ones((32, 32), bool), square_box(32, 32), 32, (2, 2))
    np.testing.assert_array_equal(view.pixels, image)
    assert view.mask.all()
    assert view.box.tolist() == [0, 0, 32, 32]
    wide = make_view(np.full((2, 4, 3), 200, np.uint8), np.ones((2, 4), bool), square_box(4, 2), 4, (4, 4))
    np.testing.assert_array_equal(wide.pixels[:, :, 0], [[0] * 4, [200] * 4, [200] * 4, [0] * 4])
    np.testing.assert_array_equal(wide.mask.reshape(4, 4), [[0] * 4, [1] * 4, [1] * 4, [0] * 4])
    assert wide.box.tolist() == [0, -1, 4, 3]


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_padding_by_hand_changes_nothing(half_width: int, half_height: int, seed: int) -> None:
    width, height = 2 * half_width, 2 * half_height
    side = max(width, height)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    left, top = (side - width) // 2, (side - height) // 2
    padded = np.zeros((side, side, 3), dtype=np.uint8)
    padded[top : top + height, left : left + width] = image
    mask = np.zeros((side, side), dtype=bool)
    mask[top : top + height, left : left + width] = image[:, :, 0] > 127
    bare = make_view(image, image[:, :, 0] > 127, square_box(width, height), 48, (3, 3))
    whole = make_view(padded, mask, square_box(side, side), 48, (3, 3))
    np.testing.assert_array_equal(bare.pixels, whole.pixels)
    np.testing.assert_array_equal(bare.mask, whole.mask)


def test_half_pixel_padding_is_exact() -> None:
    """Width 4, height 3: the image begins half a pixel below the square's top edge."""
    image = np.full((3, 4, 3), 100, dtype=np.uint8)
    view = make_view(image, np.ones((3, 4), bool), square_box(4, 3), 4, (4, 4))
    rows = view.pixels[:, :, 0].astype(int)
    assert view.box.tolist() == [0, -0.5, 4, 3.5]
    np.testing.assert_array_equal(rows, rows[::-1])  # symmetric about the centre
    assert abs(rows[:, 0].sum() - 300) <= 30  # three rows of light spread over four


def test_a_huge_square_is_cut_out_of_a_reduced_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a panorama: Pillow refuses squares of 13,378 px and more."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 20, 3), dtype=np.uint8))
    image = np.asarray(coarse.resize((601, 119), Image.Resampling.BICUBIC))
    arguments = (image, image[:, :, 0] > 127, square_box(601, 119), 48, (3, 3))
    whole = make_view(*arguments)
    monkeypatch.setattr(views, "_LARGEST", 250)
    reduced = make_view(*arguments)
    assert np.abs(reduced.pixels.astype(int) - whole.pixels).mean() < 1
    np.testing.assert_array_equal(reduced.mask, whole.mask)
    np.testing.assert_array_equal(reduced.box, whole.box)


def test_mask_is_sampled_at_patch_centres() -> None:
    mask = np.zeros((4, 4), dtype=bool)
    mask[1, 3] = True
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    # centres of the box's 2 × 2 patches: x = 2.5, 3.5 and y = 1.5, 2.5: pixel (row 1, column 3) is the second
    view = make_view(image, mask, np.array([2.0, 1.0, 4.0, 3.0]), 32, (2, 2))
    assert view.mask.tolist() == [False, True, False, False]


# ---- choosing images ---------------------------------------------------------------------------------------


def test_views_take_train_sources_and_images_the_rest(sources: list[Subject]) -> None:
    tables = make_tables(sources)
    assert select_sources(tables, "views") == sources[:4]
    assert select_sources(tables, "images") == sources[4:]


def test_more_shards_than_images(sources: list[Subject]) -> None:
    message = r"too few images[\s\S]*at least 5[\s\S]*found: 4[\s\S]*set features.shards to 4 or less"
    with pytest.raises(InputError, match=message):
        select_sources(make_tables(sources), "views", (0, 5))
    tables = make_tables(sources)
    trained = dataclasses.replace(tables, pairs=tables.pairs[tables.pairs["split"] == "train"])
    assert select_sources(trained, "images", (1, 3)) == []
    measured = dataclasses.replace(tables, pairs=tables.pairs[tables.pairs["split"] == "test"])
    with pytest.raises(InputError, match=r"too few images[\s\S]*found: 0[\s\S]*add pairs of these splits"):
        select_sources(measured, "views")


@pytest.mark.parametrize("count", [1, 2])
def test_a_cache_of_nothing_where_nothing_is_measured(build: Build, tmp_path: Path, count: int) -> None:
    size = BACKBONE.image_size.eval // 16
    patches = size * size
    shards = [tmp_path / f"images-{i}of{count}.h5" for i in range(count)]
    for i, shard in enumerate(shards):
        assert build(shard, sources=[], kind="images", shard=(i, count)).records == 0
    index = tmp_path / "images.h5"
    assert write_index(shards, index) == 0
    for paths in (shards, [index]):
        with FeatureCache.open(paths) as cache:
            assert (len(cache), cache.kind, cache.masks.shape) == (0, "images", (0, patches))
            assert cache.tokens([]).shape == (0, patches, cache.dim)
            with pytest.raises(InputError, match=r"toy/0000[\s\S]*no image at all"):
                cache.index("toy/0000")
    with h5py.File(index) as file:
        assert file["tokens"].shape == (0, patches, cache.dim)


def test_shards_are_a_partition_in_order_by_category() -> None:
    names = ["cow", "ant", "bee"] * 4 + ["ant", "ant"]
    box = (0.0, 0.0, 1.0, 1.0)
    sources = [Subject(f"{n}/{i:02}", n, Path(f"{i}"), None, 12, box, (1, 1)) for i, n in enumerate(names)]
    tables, ids = make_tables(sources), [source.image_id for source in sources]
    tables = dataclasses.replace(tables, pairs=pd.DataFrame({"split": "train", "source": ids, "target": ids}))
    for count in (1, 2, 5, 3):
        parts = [select_sources(tables, "views", (i, count)) for i in range(count)]
        assert [source for part in parts for source in part] == select_sources(tables, "views")
    assert [[source.image_id[:3] for source in part] for part in parts] == [
        ["ant"] * 6, ["bee"] * 4, ["cow"] * 4,
    ]  # fmt: skip


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.data())
def test_no_shard_mixes_parts_of_categories(sizes: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, sum(sizes)))
    parts = [shard_range(sizes, i, count) for i in range(count)]
    assert [position for part in parts for position in part] == list(range(sum(sizes)))
    assert all(parts)
    category = np.repeat(np.arange(len(sizes)), sizes)
    held = [set(category[part.start : part.stop].tolist()) for part in parts]
    if count < len(sizes):  # whole categories
        assert sum(map(len, held)) == len(sizes)
    else:  # parts of one, as even as whole images can be
        assert all(len(one) == 1 for one in held)
        for k in range(len(sizes)):
            lengths = [len(part) for part, one in zip(parts, held, strict=True) if one == {k}]
            assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("sizes", "edges"),
    [
        ([100] * 18, [0, 300, 600, 900, 1200, 1500, 1800]),  # groups about equally large
        ([10, 10, 80, 10, 10], [0, 20, 100, 120]),
        ([30, 10], [0, 10, 20, 30, 40]),  # the larger category is cut into more parts
    ],
)
def test_cuts_by_hand(sizes: list[int], edges: list[int]) -> None:
    parts = [shard_range(sizes, i, len(edges) - 1) for i in range(len(edges) - 1)]
    assert parts == [range(*ends) for ends in itertools.pairwise(edges)]


# ---- what is in a cache ------------------------------------------------------------------------------------


def test_records_are_what_the_extractor_says(cache_file: Path, sources: list[Subject], weights: Path) -> None:
    extractor = Extractor(BACKBONE, weights)
    with FeatureCache.open([cache_file]) as cache:
        assert (cache.kind, cache.grid, cache.dim, len(cache)) == ("views", (2, 2), 64, 18)
        assert cache.image_ids == [source.image_id for source in sources for _ in range(3)]
        assert cache.view.tolist() == [0, 1, 2] * 6
        tokens = cache.tokens(range(18))
        for i, source in enumerate(sources):
            for j, view in enumerate(builder.decode_views(source, FEATURES, "views", 32, (2, 2))):
                expected = extractor(torch.from_numpy(view.pixels.copy())[None])[0]
                np.testing.assert_allclose(tokens[3 * i + j], expected.numpy(), atol=2e-3, rtol=2e-3)
                np.testing.assert_array_equal(cache.boxes[3 * i + j], view.box)
                np.testing.assert_array_equal(cache.masks[3 * i + j], view.mask)
    assert tokens.dtype == np.float16
    assert cache.masks.dtype == bool
    assert 0 < cache.masks.mean() < 1


def test_mirrored_views_follow_those_that_they_mirror(sources: list[Subject]) -> None:
    mirror = dataclasses.replace(FEATURES, mirror=True)
    for source in sources:
        plain = builder.decode_views(source, FEATURES, "views", 32, (2, 2))
        made = builder.decode_views(source, mirror, "views", 32, (2, 2))
        assert len(made) == mirror.views_per_image == 6
        for view, same, mirrored in zip(plain, made[:3], made[3:], strict=True):
            np.testing.assert_array_equal(same.pixels, view.pixels)
            np.testing.assert_array_equal(mirrored.pixels, view.pixels[:, ::-1])
            np.testing.assert_array_equal(mirrored.mask.reshape(2, 2), view.mask.reshape(2, 2)[:, ::-1])
            # each patch is said to show the place that it shows
            centres = patch_centres(view.box, (2, 2)).reshape(2, 2, 2)
            np.testing.assert_allclose(patch_centres(mirrored.box, (2, 2)).reshape(2, 2, 2), centres[:, ::-1])


def test_a_cache_knows_its_mirrored_views(build: Build, tmp_path: Path) -> None:
    build(
        tmp_path / "views.h5",
        spec=dataclasses.replace(SPEC, features=dataclasses.replace(FEATURES, mirror=True)),
    )
    with FeatureCache.open([tmp_path / "views.h5"]) as cache:
        assert cache.mirrored.tolist() == [False, False, False, True, True, True] * 6
        assert cache.view.tolist() == [0, 1, 2, 3, 4, 5] * 6


def test_whole_images(build: Build, tmp_path: Path, sources: list[Subject]) -> None:
    build(tmp_path / "images.h5", kind="images")
    with FeatureCache.open([tmp_path / "images.h5"]) as cache:
        assert (cache.kind, cache.grid, len(cache)) == ("images", (3, 3), 6)
        assert cache.view.tolist() == [0] * 6
        np.testing.assert_array_equal(cache.boxes, [square_box(*source.size) for source in sources])


def test_the_largest_image_is_named_before_anything_is_computed(
    build: Build, tmp_path: Path, sources: list[Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dataclasses.replace(SPEC, features=dataclasses.replace(FEATURES, fit="original"))
    larger = dataclasses.replace(sources[3], size=(1000, 20))
    monkeypatch.setattr(builder, "decode_views", None)
    with pytest.raises(InputError, match=rf"{larger.path.name}[\s\S]*48×48[\s\S]*1000×20[\s\S]*1008"):
        build(tmp_path / "images.h5", kind="images", spec=spec, sources=[*sources[:3], larger, *sources[4:]])
    assert not (tmp_path / "images.h5").exists()


def test_without_mask_the_box_is_the_object(sources: list[Subject]) -> None:
    source = dataclasses.replace(sources[0], mask_path=None, box=(10.2, 0.0, 20.0, 9.5), size=(40, 30))
    mask = builder._object_mask(source)
    expected = np.zeros((30, 40), dtype=bool)
    expected[0:10, 10:20] = True
    np.testing.assert_array_equal(mask, expected)


def test_bytes_depend_on_nothing_but_the_work(build: Build, cache_file: Path, tmp_path: Path) -> None:
    time.sleep(1.1)  # time stamps in HDF5 would have a resolution of a second
    build(tmp_path / "views.h5", threads=3)
    assert (tmp_path / "views.h5").read_bytes() == cache_file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["views.h5"]


# ---- reader ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shard_files(build: Build, sources: list[Subject], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("shards")
    for i, part in enumerate((sources[:1], sources[1:4], sources[4:])):
        build(folder / f"{i}.h5", sources=part, shard=(i, 3))
    return sorted(folder.glob("*.h5"))


def test_shards_read_as_one(cache_file: Path, shard_files: list[Path]) -> None:
    with FeatureCache.open([cache_file]) as whole, FeatureCache.open(shard_files[::-1]) as parts:
        assert parts.image_ids == whole.image_ids
        np.testing.assert_array_equal(parts.boxes, whole.boxes)
        np.testing.assert_array_equal(parts.masks, whole.masks)
        np.testing.assert_array_equal(parts.view, whole.view)
        np.testing.assert_allclose(parts.tokens(range(18)), whole.tokens(range(18)), atol=2e-3)


@given(st.lists(st.integers(0, 17), max_size=40))
@settings(max_examples=50, deadline=None)
def test_tokens_come_in_the_order_asked(shard_files: list[Path], indices: list[int]) -> None:
    with FeatureCache.open(shard_files) as cache:
        found, each = cache.tokens(indices), {i: cache.tokens([i])[0] for i in set(indices)}
    assert len(found) == len(indices)
    for tokens, i in zip(found, indices, strict=True):
        np.testing.assert_array_equal(tokens, each[i])


def test_index_finds_the_first_record(cache_file: Path) -> None:
    with FeatureCache.open([cache_file]) as cache:
        assert cache.index("toy/0002") == 6
        with pytest.raises(InputError, match="'toy/9' is not in the feature cache"):
            cache.index("toy/9")
        for bad in ([-1], [18]):
            with pytest.raises(IndexError):
                cache.tokens(bad)


def test_incomplete_set_of_shards(shard_files: list[Path], cache_file: Path) -> None:
    with pytest.raises(ProvenanceError, match=r"not the whole[\s\S]*0 to 2[\s\S]*found: 0, 2"):
        FeatureCache.open([shard_files[0], shard_files[2]])
    with pytest.raises(ProvenanceError, match="not the whole"):
        FeatureCache.open([shard_files[0], *shard_files])
    with pytest.raises(ProvenanceError, match="different count"):
        FeatureCache.open([cache_file, *shard_files[1:]])
    with pytest.raises(InputError, match="no feature cache given"):
        FeatureCache.open([])


def test_provenance_is_compared(cache_file: Path) -> None:
    with FeatureCache.open([cache_file], expect={"params": {"block": 1}}) as cache:
        assert cache.provenance["step"] == "cache"
    message = r"views\.h5[\s\S]*params\.block = 9[\s\S]*params\.block = 1[\s\S]*snakemake"
    with pytest.raises(ProvenanceError, match=message):
        FeatureCache.open([cache_file], expect={"params": {"block": 9}})


@pytest.fixture(scope="module")
def foreign_shards(build: Build, sources: list[Subject], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files in place of the second shard: made with other settings, and of fewer images."""
    folder = tmp_path_factory.mktemp("foreign_shards")
    made = {"step": "cache", "params": {"block": 2}}
    build(folder / "foreign.h5", sources=sources[1:4], shard=(1, 3), provenance=made)
    build(folder / "short.h5", sources=sources[1:3], shard=(1, 3))
    return folder


def test_shards_made_otherwise_do_not_mix(shard_files: list[Path], foreign_shards: Path) -> None:
    with pytest.raises(ProvenanceError, match=r"foreign\.h5[\s\S]*block = 1[\s\S]*block = 2"):
        FeatureCache.open([shard_files[0], foreign_shards / "foreign.h5", shard_files[2]])


@given(st.lists(st.integers(0, 17), min_size=8, max_size=40))
@settings(max_examples=20, deadline=None)
@pytest.mark.usefixtures("traced")
def test_reading_takes_no_memory_beside_the_result(large_records: FeatureCache, indices: list[int]) -> None:
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    found = large_records.tokens(indices)
    assert tracemalloc.get_traced_memory()[1] - before < found.nbytes + found[0].nbytes


@pytest.fixture(scope="module")
def large_records(
    build: Build, sources: list[Subject], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FeatureCache]:
    """A cache with 128 KiB of tokens per record."""
    backbone = dataclasses.replace(BACKBONE, image_size=ImageSizes(512, 48))
    out = tmp_path_factory.mktemp("large") / "views.h5"
    build(out, spec=dataclasses.replace(SPEC, backbone=backbone), sources=sources)
    with FeatureCache.open([out]) as cache:
        yield cache


# ---- the index ---------------------------------------------------------------------------------------------


@pytest.fixture
def indexed(shard_files: list[Path], tmp_path: Path) -> Path:
    """A copy of the three shards in a folder of their own, with an index."""
    folder = tmp_path / "cache"
    folder.mkdir()
    shards = [Path(shutil.copy(path, folder)) for path in shard_files]
    write_index(shards[::-1], folder / "views.h5")
    return folder / "views.h5"


def test_the_index_reads_as_the_shards(indexed: Path, shard_files: list[Path]) -> None:
    assert indexed.stat().st_size < 20_000
    assert everything(indexed) == everything(*shard_files)
    with FeatureCache.open([indexed], expect={"params": {"block": 1}}) as cache:
        assert [(path.name, records) for path, records in cache.files] == [
            ("0.h5", range(3)),
            ("1.h5", range(3, 12)),
            ("2.h5", range(12, 18)),
        ]
    with pytest.raises(ProvenanceError, match=r"params\.block = 9"):
        FeatureCache.open([indexed], expect={"params": {"block": 9}})


def test_any_program_reads_the_shards_as_one(
    indexed: Path, shard_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved"
    indexed.parent.rename(moved)
    monkeypatch.chdir("/")
    with h5py.File(moved / indexed.name) as file, FeatureCache.open(shard_files) as cache:
        np.testing.assert_array_equal(file["tokens"][...], cache.tokens(range(18)))
        np.testing.assert_array_equal(file["masks"][...], cache.masks)
        np.testing.assert_array_equal(file["boxes"][...], cache.boxes)
        np.testing.assert_array_equal(file["view"][...], cache.view)
        assert [name.decode() for name in file["image_id"][...]] == cache.image_ids
        assert file["tokens"].dtype == np.float16
        assert file.attrs["kind"] == b"views"
        assert json.loads(file.attrs["provenance"]) == cache.provenance


def test_image_ids_of_any_length_share_an_index(build: Build, sources: list[Subject], tmp_path: Path) -> None:
    names = ["a", "a longer näme 象"]
    for i, name in enumerate(names):
        build(tmp_path / f"{i}.h5", sources=[dataclasses.replace(sources[i], image_id=name)], shard=(i, 2))
    write_index([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "views.h5")
    with FeatureCache.open([tmp_path / "views.h5"]) as cache, h5py.File(tmp_path / "views.h5") as file:
        assert cache.image_ids == [name for name in names for _ in range(3)]
        assert [name.decode() for name in file["image_id"][...]] == cache.image_ids


def test_a_program_sees_which_records_are_missing(indexed: Path) -> None:
    (indexed.parent / "1.h5").unlink()
    with h5py.File(indexed) as file:
        here = np.array([True] * 3 + [False] * 9 + [True] * 6)
        np.testing.assert_array_equal(~np.isnan(file["tokens"][...]).any(axis=(1, 2)), here)
        np.testing.assert_array_equal(~np.isnan(file["boxes"][...]).any(axis=1), here)
        np.testing.assert_array_equal((file["masks"][...] != 255).all(axis=1), here)
        np.testing.assert_array_equal(file["view"][...] != -1, here)
        np.testing.assert_array_equal(file["image_id"][...] != b"", here)


def test_equal_shards_give_equal_indices(indexed: Path) -> None:
    before = indexed.read_bytes()
    time.sleep(1.1)  # time stamps in HDF5 would have a resolution of a second
    write_index(sorted(indexed.parent.glob("?.h5")), indexed)
    assert indexed.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "by", "message"),
    [
        ("1.h5", None, r"does not exist[\s\S]*1\.h5[\s\S]*snakemake --cores all"),
        ("1.h5", "foreign.h5", r"other settings[\s\S]*1\.h5[\s\S]*block = 1[\s\S]*block = 2"),
        ("1.h5", "views.h5", r"the index of a feature cache where a shard is expected[\s\S]*1\.h5"),
        ("0.h5", "1.h5", r"do not agree[\s\S]*0\.h5[\s\S]*expected: shard 0"),
        ("1.h5", "short.h5", r"do not agree[\s\S]*1\.h5[\s\S]*records 3 to 11[\s\S]*records 3 to 8"),
    ],
)
def test_the_index_refuses_other_shards(
    indexed: Path, foreign_shards: Path, name: str, by: str | None, message: str
) -> None:
    folder = indexed.parent
    (folder / name).unlink()
    if by is not None:
        shutil.copy(foreign_shards / by if (foreign_shards / by).exists() else folder / by, folder / name)
    with pytest.raises(ProvenanceError, match=message):
        FeatureCache.open([indexed])


def test_index_and_shards_are_not_given_together(indexed: Path) -> None:
    with pytest.raises(ProvenanceError, match=r"views\.h5[\s\S]*name the index alone"):
        FeatureCache.open(sorted(indexed.parent.glob("*.h5")))


def test_no_index_of_half_a_cache(shard_files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ProvenanceError, match="not the whole feature cache"):
        write_index(shard_files[:2], tmp_path / "views.h5")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_index(
    indexed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = indexed.read_bytes()
    indexed.unlink()
    shards = [str(path) for path in sorted(indexed.parent.glob("?.h5"))]
    assert main(["cache-index", "--out", str(indexed), "--shards", *shards]) == 0
    assert "18 records in 3 shards" in capsys.readouterr().out
    assert indexed.read_bytes() == before
    elsewhere = tmp_path / "index" / "views.h5"
    assert main(["cache-index", "--out", str(elsewhere), "--shards", *shards]) == 1
    assert not elsewhere.exists()
    capsys.readouterr()
    Path(shards[0]).unlink()
    assert main(["cache-index", "--out", str(indexed), "--shards", *shards]) == 1
    assert "does not exist" in capsys.readouterr().err


# ---- damage ------------------------------------------------------------------------------------------------


def everything(*paths: Path) -> list[Any]:
    with FeatureCache.open(paths) as cache:
        arrays = [cache.tokens(range(len(cache))), cache.masks, cache.boxes, cache.view]
        return [cache.kind, cache.grid, cache.image_ids, cache.provenance, *(a.tobytes() for a in arrays)]


@pytest.mark.parametrize("what", ["shard", "index"])
@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_byte_goes_unnoticed(
    cache_file: Path, indexed: Path, what: str, data: st.DataObject
) -> None:
    """Either the reader complains, or the byte was unused and everything reads the same."""
    path = cache_file if what == "shard" else indexed
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    damaged = path.with_name("damaged.h5")
    damaged.write_bytes(content)
    try:
        outcome: Any = everything(damaged)
    except ProvenanceError as error:
        outcome = str(error)
    if isinstance(outcome, str):
        # a flipped name in the index is that of a shard
        assert str(damaged if what == "shard" else indexed.parent) in outcome
        assert "snakemake --cores all" in outcome
    else:
        assert outcome == everything(path)


def test_the_reader_does_not_need_the_list_of_sources(indexed: Path) -> None:
    """HDF5 keeps it in a heap without checksums, and can read a damaged one forever."""
    expected = everything(indexed)
    content = indexed.read_bytes()
    assert content.count(b"GCOL") == 1
    start = content.index(b"GCOL")
    indexed.write_bytes(content[:start] + b"\x04" * 200 + content[start + 200 :])
    assert everything(indexed) == expected


@pytest.mark.parametrize("share", [None, 0.0, 0.01, 0.5, 0.99])
def test_missing_or_truncated_file(cache_file: Path, tmp_path: Path, share: float | None) -> None:
    message = r"does not exist[\s\S]*v\.h5"
    if share is not None:
        content = cache_file.read_bytes()
        (tmp_path / "v.h5").write_bytes(content[: int(share * len(content))])
        message = r"damaged[\s\S]*v\.h5[\s\S]*delete the file and run"
    with pytest.raises(ProvenanceError, match=message):
        FeatureCache.open([tmp_path / "v.h5"])


def drop_checksums(file: h5py.File) -> None:
    del file["boxes"]
    file["boxes"] = np.ones((18, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.update(complete=False), "incomplete"),
        (lambda file: file.attrs.update(schema=b"other-9"), r"not a feature cache[\s\S]*other-9"),
        (lambda file: file.attrs.update(kind=b"films"), "unknown kind 'films'"),
        (lambda file: file.attrs.update(grid=[3, 3]), "'tokens'"),
        (lambda file: file.pop("masks"), r"'masks'[\s\S]*not as it should be"),
        (drop_checksums, r"'boxes'[\s\S]*without fletcher32"),
    ],
)
def test_another_structure_is_refused(
    cache_file: Path, tmp_path: Path, change: Callable[[h5py.File], None], message: str
) -> None:
    path = shutil.copy(cache_file, tmp_path / "v.h5")
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ProvenanceError, match=message):
        FeatureCache.open([path])


# ---- bad pictures ------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("3.png", Path.unlink, "the image does not exist"),
        ("3.png", cut, "cannot read the image"),
        ("3.png", Image.new("RGB", (5, 6)).save, r"'toy/0003' is not of the size in the tables(.|\n)*33×48"),
        ("3.mask.png", Image.new("L", (5, 6), 12).save, "mask is not of its image's size"),
        ("3.mask.png", Image.new("L", (33, 48), 11).save, "image 'toy/0003' has no foreground"),
    ],
)
def test_bad_picture(
    build: Build, tmp_path: Path, name: str, spoil: Callable[[Path], None], message: str
) -> None:
    sources = make_sources(tmp_path / "pictures")
    spoil(tmp_path / "pictures" / name)
    with pytest.raises(InputError, match=message) as caught:
        build(tmp_path / "v.h5", sources=sources)
    assert name in str(caught.value)
    assert not list(tmp_path.glob("*v*.h5"))


@pytest.mark.parametrize(
    ("which", "name", "other"),
    [
        ("image", "3.png", Image.new("RGB", (33, 48), "red")),
        ("mask", "3.mask.png", Image.new("L", (33, 48), 12)),
    ],
)
def test_a_picture_that_changed_since_it_was_listed(
    build: Build, tmp_path: Path, which: str, name: str, other: Image.Image
) -> None:
    """Still a picture of the right size, but another one."""
    sources = make_sources(tmp_path / "pictures")
    third = sources[3]
    assert third.mask_path is not None
    sources[3] = dataclasses.replace(third, sha256=(sha256_file(third.path), sha256_file(third.mask_path)))
    build(tmp_path / "whole.h5", sources=sources, kind="images")
    other.save(tmp_path / "pictures" / name)
    with pytest.raises(ProvenanceError, match=rf"the {which} is not the file[\s\S]*{name}[\s\S]*to do"):
        build(tmp_path / "v.h5", sources=sources, kind="images")
    assert not (tmp_path / "v.h5").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_tokens_that_are_not_finite_are_refused(cache_file: Path, tmp_path: Path, value: float) -> None:
    path = shutil.copyfile(cache_file, tmp_path / "v.h5")
    with h5py.File(path, "r+") as file:
        file["tokens"][7, 1, 2] = value
    with FeatureCache.open([path]) as cache:
        cache.tokens([6, 8])
        for _ in range(2):
            with pytest.raises(ProvenanceError, match=r"not finite[\s\S]*v\.h5[\s\S]*to do"):
                cache.tokens([6, 7, 8])


def test_tokens_too_large_for_float16(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Extractor.__call__
    monkeypatch.setattr(Extractor, "__call__", lambda self, images: call(self, images) * 1e9)
    with pytest.raises(InputError, match="do not fit float16"):
        build(tmp_path / "v.h5")
    assert not (tmp_path / "v.h5").exists()


# ---- command line ------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, weights: Path, sources: list[Subject]) -> list[str]:
    """Arguments of a `spheremap cache`."""
    spec = json.loads(json.dumps(dataclasses.asdict(SPEC)))
    spec["backbone"]["weights"] = {"source": "random", "seed": 0}
    (tmp_path / "params.json").write_text(json.dumps(spec))
    write_tables(tmp_path / "tables", make_tables(sources), {})
    return [
        *("cache", "--device=cpu", "--kind=views", f"--weights={weights}"),
        *(f"--params={tmp_path / 'params.json'}", f"--tables={tmp_path / 'tables'}"),
    ]


def set_features(folder: Path, **changes: Any) -> None:
    """Change section `features` of the command's parameters."""
    params = json.loads((folder / "params.json").read_text())
    params["features"] |= changes
    (folder / "params.json").write_text(json.dumps(params))


def test_command_records_provenance(tmp_path: Path, command: list[str]) -> None:
    assert main([*command, f"--out={tmp_path / 'v.h5'}"]) == 0
    expect = {"step": "cache", "params": {"dataset": "toys"}}
    with FeatureCache.open([tmp_path / "v.h5"], expect=expect) as cache:
        found = cache.provenance
    assert found["params"]["backbone"]["block"] == 1
    assert set(found["inputs"]) == {"weights", "images.csv", "keypoints.csv", "pairs.csv", "pictures.csv"}
    assert {"torch", "timm", "spheremap"} <= set(found["versions"])


def test_command_records_the_precision_that_was_used(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_features(tmp_path, views=1, precision="auto")
    for able, expected in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"amx_bf16": able})
        assert main([*command, f"--out={tmp_path / 'v.h5'}"]) == 0
        with FeatureCache.open([tmp_path / "v.h5"]) as cache:
            assert cache.provenance["params"]["features"]["precision"] == expected


def test_command_reports_bad_parameters(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    set_features(tmp_path, view=3)
    assert main([*command, f"--out={tmp_path / 'v.h5'}"]) == 1
    assert "features: unknown parameter 'view'" in capsys.readouterr().err
    assert not (tmp_path / "v.h5").exists()


@pytest.mark.parametrize("name", ["weights", "tables", "params"])
def test_command_names_a_missing_input(
    tmp_path: Path, command: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, f"--{name}={tmp_path / 'nowhere'}", f"--out={tmp_path / 'v.h5'}"]) == 1
    assert str(tmp_path / "nowhere") in capsys.readouterr().err


@pytest.mark.parametrize("text", ["2/2", "0", "a/b", "-1/2"])
def test_malformed_shard(command: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--out=x.h5", f"--shard={text}"])
    assert "expected I/N" in capsys.readouterr().err


# ---- memory ------------------------------------------------------------------------------------------------


class Counter:
    """How many decoded images have not been written yet, now and at most."""

    def __init__(self) -> None:
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def add(self, count: int) -> None:
        with self.lock:
            self.now += count
            self.most = max(self.most, self.now)


def test_queues_are_bounded(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk makes decoding wait: never more in memory than the queues hold, however many images."""
    counter, write, decode = Counter(), h5py.Dataset.__setitem__, builder.decode_views

    def slow(self: h5py.Dataset, args: Any, values: Any) -> None:
        write(self, args, values)
        if self.name == "/masks":  # the last of a record
            time.sleep(0.0025)
            counter.add(-1)

    def counting(*args: Any) -> list[Any]:
        result = decode(*args)
        counter.add(len(result))
        return result

    monkeypatch.setattr(h5py.Dataset, "__setitem__", slow)
    monkeypatch.setattr(builder, "decode_views", counting)
    build(tmp_path / "images.h5", kind="images", sources=make_sources(tmp_path / "pictures", 120), threads=2)
    assert counter.now == 0
    # before the backbone 2 batches, one image per thread and one on the way; in it 1 batch; behind it 3
    assert counter.most <= (2 + 1 + 3) * 4 + 2 + 1


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_crops_are_those_of_the_parameters(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(path)
    source = Subject("a/1", "a", path, None, 1, (0.0, 0.0, 60.0, 40.0), (60, 40), (None, None))
    features = dataclasses.replace(FEATURES, seed=7, crop_scale=(0.1, 0.2), crop_ratio=(1.5, 2.0), views=4)
    found = [view.box.tolist() for view in builder.decode_views(source, features, "views", 32, (2, 2))]
    expected = [
        random_resized_crop(60, 40, (0.1, 0.2), (1.5, 2.0), view_generator(7, "a/1", view)).tolist()
        for view in range(4)
    ]
    assert found == expected


# ---- other kinds -------------------------------------------------------------------------------------------


def test_mirror_images_and_a_blank_picture(
    build: Build, tmp_path: Path, weights: Path, sources: list[Subject]
) -> None:
    record = {"step": "cache", "params": {"block": 1}, "inputs": {"weights": "a"}}
    for kind in ("images", "mirrored", "blank"):
        own = [builder.BLANK] if kind == "blank" else sources
        build(tmp_path / f"{kind}.h5", kind=kind, sources=own, provenance=record)
    extractor = Extractor(SPEC.backbone, weights)
    with FeatureCache.open([tmp_path / "images.h5"], expect={"step": "cache"}) as cache:
        mirrored, blank = cache.companion("mirrored"), cache.companion("blank")
        assert mirrored is cache.companion("mirrored")
        assert (mirrored.image_ids, blank.image_ids) == (cache.image_ids, ["blank"])
        np.testing.assert_array_equal(mirrored.boxes, cache.boxes)
        masks = cache.masks.reshape(-1, *cache.grid)
        np.testing.assert_array_equal(mirrored.masks.reshape(masks.shape), masks[:, :, ::-1])
        side = SPEC.backbone.image_size.eval
        (view,) = builder.decode_views(sources[0], FEATURES, "images", side, cache.grid)
        flipped = torch.from_numpy(view.pixels[:, ::-1].copy())[None]
        zeros = torch.tensor(extractor.mean_colour, dtype=torch.uint8).expand(1, side, side, 3)
        for found, pixels in ((mirrored, flipped), (blank, zeros)):
            expected = extractor(pixels)[0].numpy()
            np.testing.assert_allclose(found.tokens([0])[0], expected, atol=2e-3, rtol=2e-3)


def test_a_companion_must_be_there_and_made_alike(build: Build, tmp_path: Path) -> None:
    record = {"step": "cache", "params": {"block": 1}, "inputs": {"weights": "a"}}
    build(tmp_path / "images.h5", kind="images", provenance=record)
    elsewhere = tmp_path / "elsewhere"
    build(elsewhere / "mirrored.h5", kind="mirrored", provenance=record | {"inputs": {"weights": "b"}})
    build(elsewhere / "blank.h5", kind="images", provenance=record)
    for folder, kind, message in (
        (elsewhere, "mirrored", r"inputs.weights = a(.|\n)*inputs.weights = b"),
        (elsewhere, "blank", "another kind"),
        (None, "mirrored", r"does not exist(.|\n)*mirrored\.h5"),
    ):
        with (
            FeatureCache.open([tmp_path / "images.h5"], companions=folder) as cache,
            pytest.raises(ProvenanceError, match=message),
        ):
            cache.companion(kind)

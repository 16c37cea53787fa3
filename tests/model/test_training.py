"""Training: batches, the loop, resuming to the same bytes, diagnostics, and the command."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from caches import write_cache
from diffs import diff_of, new_file
from safetensors.torch import load_file
from training import Interrupted, scripted
from world import image_row, keypoint_row, make_tables

from spheremap.base.device import settle_precision
from spheremap.base.errors import InputError, ProvenanceError, SpheremapError
from spheremap.base.provenance import provenance
from spheremap.cli import main
from spheremap.config import learning
from spheremap.config.learning import LOSS_WEIGHTS, PAPERS_TRAIN, Validation
from spheremap.data.tables import Tables, tables_digest, write_tables
from spheremap.kernels import cosine_reconstruction, draw_key, draw_triplets, patch_coordinates
from spheremap.kernels.sphere_geometry import distance_loss, orientation_loss
from spheremap.model import losses
from spheremap.model.head import Head, load_head
from spheremap.model.head.foreground import Foreground
from spheremap.model.losses.viewpoint import mean_directions, relative_viewpoint
from spheremap.model.training import (
    TrainConfig,
    TrainResult,
    Views,
    store,
    train,
)
from spheremap.model.training.batches import Batch, batches, noisy, records_of_step
from spheremap.model.training.diagnostics import Diagnostics, cell_of
from spheremap.model.training.step import Losses, Networks, build_losses, compile_for_cuda_graphs

GRID, DIM = (6, 6), 128
CATEGORIES = ["box", "cone"]
CONFIG = dataclasses.replace(
    PAPERS_TRAIN, keep="best", steps=12, batch=4, triplets=8, log_every=5, validate_every=4, save_every=3
)


class FakeCache:
    """What training needs of a feature cache, in memory; counts the records read."""

    def __init__(self, images: int = 6, views: int = 2, seed: int = 0) -> None:
        """Views of a made-up object: a token is its position on a sphere turned by its azimuth, and noise."""
        rng = np.random.default_rng(seed)
        names = [f"{CATEGORIES[i % 2]}/{i:02d}" for i in range(images)]
        self.azimuths = dict(zip(names, rng.integers(0, 8, images) * 45.0, strict=True))
        self.image_ids = [name for name in names for _ in range(views)]
        self.view = np.tile(np.arange(views), images)
        self.mirrored = np.zeros(images * views, dtype=bool)
        self.grid, self.dim, self.reads = GRID, DIM, 0
        basis = rng.normal(size=(2, 3, DIM))
        places = patch_coordinates(GRID).numpy() / 5 * 2 - 1  # (row, column) in [-1, 1]
        self.masks = np.zeros((len(self.image_ids), len(places)), dtype=bool)
        self.data = np.zeros((*self.masks.shape, DIM), dtype=np.float16)
        for record, name in enumerate(self.image_ids):
            radius = rng.uniform(0.6, 1.0)
            self.masks[record] = (places**2).sum(1) < radius**2
            depth = np.sqrt(np.maximum(0, 1 - (places**2).sum(1)))
            angle = np.radians(self.azimuths[name])
            x = np.cos(angle) * depth - np.sin(angle) * places[:, 1]
            y = np.sin(angle) * depth + np.cos(angle) * places[:, 1]
            position = np.stack([x, y, -places[:, 0]], axis=1) * self.masks[record][:, None]
            tokens = position @ basis[CATEGORIES.index(name.split("/")[0])]
            self.data[record] = tokens + 0.3 * rng.normal(size=tokens.shape)

    def tokens(self, indices: Any) -> np.ndarray:
        self.reads += len(indices)
        return self.data[np.asarray(indices)]

    def tables(self) -> Tables:
        rng, names = np.random.default_rng(0), list(self.azimuths)
        images = [
            image_row(name, 60, 60, (0, 0, 60, 60), self.azimuths[name]) | {"split": "train+val"}
            for name in names
        ]
        keypoints = [keypoint_row(name, str(k), rng.uniform(10, 50, 2)) for name in names for k in range(4)]
        pairs = [(a, b) for a, b in itertools.permutations(names, 2) if a[0] == b[0]]
        train, val = (make_tables(images, keypoints, pairs, split) for split in ("train", "val"))
        return dataclasses.replace(train, pairs=pd.concat([train.pairs, val.pairs], ignore_index=True))


def make_views(cache: FakeCache | None = None, memory: float = 1.0, tables: Tables | None = None) -> Views:
    cache = cache or FakeCache()
    return Views(cache, tables or cache.tables(), CATEGORIES, bins=8, memory=memory)


def run(
    tmp_path: Path,
    config: TrainConfig = CONFIG,
    *,
    views: Views | None = None,
    scores: list[float] | None = None,
    stop_at: int | None = None,
    identity: str = "same",
    head: Head | None = None,
) -> tuple[Head, TrainResult]:
    """Train with the validation scores given, one per call; a run can be stopped at one of the calls."""
    head = head or Head.initialise(DIM, CATEGORIES, config.seed)
    state, validator = tmp_path / "state.safetensors", scripted(scores, stop_at)
    result = train(
        head, views or make_views(), config, state_path=state, identity=identity, validator=validator
    )
    return head, result


def compute_losses(
    head: Head, batch: Batch, config: TrainConfig, key: torch.Tensor, compiled: bool = False
) -> torch.Tensor:
    """Means of the losses of one step, `(4,)`."""
    losses = Losses(head, config)
    if compiled:
        compile_for_cuda_graphs(losses, in_one_piece=True)
    return losses(batch, key)[0]


def same_head(a: Head, b: Head) -> bool:
    other = b.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in a.state_dict().items())


# --- parameters


def test_parameters_have_the_papers_weights() -> None:
    weights = {"reconstruction": 1.0, "distance": 0.3, "orientation": 0.3, "viewpoint": 0.1}
    assert list(PAPERS_TRAIN.weights.items()) == list(weights.items()) == list(LOSS_WEIGHTS.items())
    assert set(weights) <= set(learning.loss_files())


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        (LOSS_WEIGHTS | {"viewpoint": -1.0}, ["viewpoint"]),
        (LOSS_WEIGHTS | {"distanse": 1.0}, ["distanse", "'distance'"]),
    ],
)
def test_impossible_weights(weights: dict[str, float], named: list[str]) -> None:
    with pytest.raises(ValueError, match="weights") as error:
        dataclasses.replace(CONFIG, weights=LOSS_WEIGHTS | weights)
    assert all(word in str(error.value) for word in named)


# --- batches


def test_an_epoch_is_a_permutation_of_its_own() -> None:
    usable = np.array([3, 5, 8, 9, 11, 12, 20])

    def epoch(number: int, seed: int = 0) -> list[int]:
        steps = range(3 * number + 1, 3 * number + 4)
        return [int(r) for step in steps for r in records_of_step(step, usable, 2, seed)]

    assert len(set(epoch(0))) == 6
    assert set(epoch(0)) < set(usable.tolist())
    assert epoch(0) == epoch(0)
    assert len({tuple(epoch(n, seed)) for n in range(3) for seed in range(2)}) == 6
    # every view has its turn, though an epoch leaves one out
    assert {r for n in range(20) for r in epoch(n)} == set(usable.tolist())


def test_batches_hold_what_the_cache_and_the_tables_say() -> None:
    cache = FakeCache()
    cache.masks[5] = False
    tables = cache.tables()
    tables.images.loc[0, "azimuth"] = np.nan
    views = make_views(cache, tables=tables)
    assert 5 not in views.usable
    records = np.array([0, 5, 2, 11])
    batch = views.batch(records)
    assert torch.equal(batch.tokens, torch.from_numpy(cache.data[records]))
    assert batch.foreground.counts.tolist() == cache.masks[records].sum(1).tolist()
    names = [cache.image_ids[r] for r in records]
    assert batch.category.tolist() == [
        CATEGORIES.index(name.split("/")[0])
        for name, n in zip(names, batch.foreground.counts, strict=True)
        for _ in range(n)
    ]
    expected = [np.nan] + [np.radians(cache.azimuths[name]) for name in names[1:]]
    np.testing.assert_allclose(batch.azimuth.numpy(), expected, rtol=1e-6)


def test_a_mirrored_view_is_seen_from_the_other_side() -> None:
    cache = FakeCache()
    cache.mirrored[1::2] = True
    of_view = make_views(cache).azimuth.reshape(-1, 2)
    seen_from = np.radians(list(cache.azimuths.values()))
    np.testing.assert_allclose(of_view[:, 0], seen_from)
    np.testing.assert_allclose(of_view[:, 1], -seen_from % (2 * np.pi), atol=1e-9)


def test_mirrored_views_show_a_category_from_more_sides() -> None:
    cache = FakeCache()
    tables = cache.tables()
    of_azimuths = dataclasses.replace(
        tables, images=tables.images.assign(azimuth=np.repeat([45.0, 135.0, 45.0], 2))
    )
    assert not make_views(cache, tables=of_azimuths).all_round.any()
    cache.mirrored[1::2] = True
    assert make_views(cache, tables=of_azimuths).all_round.all()


def test_features_beyond_the_budget_are_read_batch_by_batch() -> None:
    held, streamed = FakeCache(), FakeCache()
    size = streamed.data.nbytes / 2**30
    in_memory, from_disk = make_views(held, memory=size), make_views(streamed, memory=0.99 * size)
    assert (in_memory.held, from_disk.held) == ("held in memory", "read from disk batch by batch")
    assert (held.reads, streamed.reads) == (12, 0)
    options: dict[str, Any] = {"batch": 4, "seed": 0, "first": 2, "last": 7}
    pairs = list(zip(batches(in_memory, **options), batches(from_disk, **options), strict=True))
    assert len(pairs) == 6
    assert all(torch.equal(a.tokens, b.tokens) for a, b in pairs)
    assert (held.reads, streamed.reads) == (12, 24)


def test_pinned_blocks_hold_every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FakeCache()
    empty = torch.empty
    sizes: list[int] = []

    def unpinned(*shape: int, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        sizes.append(shape[0])
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", unpinned)
    monkeypatch.setattr(store, "_BLOCK", 5 * cache.data[0].nbytes + 1)
    pinned = store.Pinned(cache, torch.device("cpu"))
    assert sizes == [5, 5, 2]
    records = np.array([11, 0, 4, 5, 10, 4])
    assert torch.equal(pinned.gather(records), torch.from_numpy(cache.data[records]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "place", ["held on the GPU", "held in pinned memory", "read from disk batch by batch"]
)
def test_a_gpu_gets_the_batches_of_the_cpu(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    cache = FakeCache()
    if place != "held on the GPU":
        monkeypatch.setattr(store, "DEVICE_SHARE", 0.0)
    memory = 0.0 if place.startswith("read") else 1.0
    views = Views(cache, cache.tables(), CATEGORIES, bins=8, memory=memory, device="cuda")
    assert views.held == place
    options: dict[str, Any] = {"batch": 4, "seed": 0, "first": 1, "last": 7}
    for found, expected in zip(batches(views, **options), batches(make_views(), **options), strict=True):
        assert found.tokens.device.type == "cuda"
        for name in ("tokens", "category", "azimuth"):
            assert torch.equal(getattr(found, name).cpu(), getattr(expected, name))
        for name, value in vars(expected.foreground).items():
            other = getattr(found.foreground, name)
            assert torch.equal(other.cpu(), value) if isinstance(value, torch.Tensor) else other == value


def test_unusable_training_sets() -> None:
    cache = FakeCache()
    with pytest.raises(InputError, match="the head lacks categories"):
        Views(cache, cache.tables(), ["box"], bins=8, memory=1)
    tables = cache.tables()
    with pytest.raises(ProvenanceError, match="images that the tables do not"):
        make_views(cache, tables=dataclasses.replace(tables, images=tables.images.iloc[1:]))
    cache.masks[:] = False
    with pytest.raises(InputError, match="no training view has any foreground"):
        make_views(cache)


# --- one step


def losses_and_gradient(
    batch: Batch, config: TrainConfig, compiled: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    head = Head.initialise(DIM, CATEGORIES, seed=0)
    losses = compute_losses(head, batch, config, draw_key(3, 7), compiled)
    gradients = torch.autograd.grad(losses.sum(), list(head.trainable().values()))
    return losses.detach(), torch.cat([gradient.flatten() for gradient in gradients])


def assert_close(
    found: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor], limit: float
) -> None:
    """Losses to 1e-5, the gradient to `limit` in the norm."""
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
    assert float((found[1] - expected[1]).norm() / expected[1].norm()) < limit


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_backends_agree_in_losses_and_gradients(precision: Any) -> None:
    batch = make_views().batch(np.arange(5))
    expected, automatic, found = (
        losses_and_gradient(batch, dataclasses.replace(CONFIG, backend=backend, precision=precision))
        for backend in ("reference", "auto", "triton")
    )
    # in bfloat16 the mapper's backward pass rounds what the losses hand it
    assert_close(found, expected, 1e-5 if precision == "float32" else 1e-2)
    if not torch.cuda.is_available():
        assert all(map(torch.equal, automatic, expected))


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_padding_changes_neither_losses_nor_gradients(backend: Any) -> None:
    cache = FakeCache()
    cache.masks[3] = False
    views, records = make_views(cache), np.array([0, 3, 4, 7, 9])
    config = dataclasses.replace(CONFIG, backend=backend)
    padded = views.batch(records, pad_to=(40, 9))
    assert padded.foreground.rows[-1] == -1
    assert_close(losses_and_gradient(padded, config), losses_and_gradient(views.batch(records), CONFIG), 1e-5)


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.slow
def test_the_step_compiles_in_one_piece_to_the_same_losses_and_gradients() -> None:
    cache = FakeCache()
    tables = cache.tables()
    images = tables.images.assign(azimuth=np.repeat([0.0, 90.0, 180.0], 2))  # of two categories in turn
    views = make_views(cache, tables=dataclasses.replace(tables, images=images))
    records = np.arange(4)
    config = dataclasses.replace(CONFIG, weights=LOSS_WEIGHTS | {"anchor": 0.5, "order": 0.3})
    assert views.all_round[records].any()
    expected = losses_and_gradient(views.batch(records), config)
    found = losses_and_gradient(views.batch(records, pad_to=(40, 9)), config, compiled=True)
    assert_close(found, expected, 1e-4)


def test_few_shapes_reach_a_compiled_step() -> None:
    masks = np.random.default_rng(0).random((200, 36)) < 0.3
    shapes = set()
    for start in range(0, 200, 8):
        foreground = Foreground.from_masks(masks[start : start + 8], pad_to=(36, 9))
        shapes.add((len(foreground.rows), foreground.width))
        assert len(foreground.rows) % 36 == foreground.width % 9 == 0
    assert len(shapes) < 8


def test_a_cpu_takes_the_plain_step_in_few_shapes() -> None:
    head = Head.initialise(DIM, CATEGORIES, seed=0)
    for batch, patches, expected in ((32, 256, (128, 1)), (1, 36, (1, 1))):
        losses, pad_to = build_losses(head, CONFIG, batch=batch, patches=patches)
        assert isinstance(losses, Losses)
        assert losses._compiled_call_impl is None
        assert pad_to == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_by_graphs_to_the_losses_of_the_plain_step(tmp_path: Path) -> None:
    def curves(backend: Any) -> pd.DataFrame:
        cache = FakeCache()
        views = Views(cache, cache.tables(), CATEGORIES, bins=8, memory=1.0, device="cuda")
        config = dataclasses.replace(CONFIG, backend=backend)
        head = Head.initialise(DIM, CATEGORIES, config.seed).to("cuda")
        path = tmp_path / f"{backend}.safetensors"
        return train(head, views, config, state_path=path, identity="", validator=None).losses

    pd.testing.assert_frame_equal(curves("auto"), curves("reference"), rtol=1e-3, atol=1e-4)


# --- the loop


def test_bfloat16_rounds_products_but_neither_points_nor_losses() -> None:
    views = make_views()
    head = Head.initialise(DIM, CATEGORIES, seed=0)
    batch = views.batch(np.arange(4))
    rounded = dataclasses.replace(CONFIG, precision="bfloat16")
    exact, found = (compute_losses(head, batch, config, draw_key(0, 1)) for config in (CONFIG, rounded))
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert torch.allclose(found, exact, rtol=0.02, atol=0.02)
    with torch.autocast("cpu", torch.bfloat16):
        points = head.mapper(batch.tokens, batch.foreground)
    assert points.dtype == torch.float32
    assert torch.allclose(points.norm(dim=1), torch.ones(len(points)), atol=1e-6)


def test_training_lowers_every_loss_and_keeps_orientation(tmp_path: Path) -> None:
    config = dataclasses.replace(
        CONFIG, steps=120, batch=12, log_every=20, validate_every=120, save_every=200
    )
    views = make_views(FakeCache(images=12, views=2))
    _, result = run(tmp_path, config, views=views)
    first, last = result.losses.iloc[0], result.losses.iloc[-1]
    for name in ("total", "reconstruction", "distance", "orientation", "viewpoint"):
        assert last[name] < 0.8 * first[name], name
    before, after = result.diagnostics.iloc[0], result.diagnostics.iloc[-1]
    assert after["orientation_kept"] > max(0.9, before["orientation_kept"])
    assert after["coverage"] > 1.5 * before["coverage"]


SCORES = [9.0, 1.0, 3.0, 3.0]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Head, TrainResult]:
    """A run without validation."""
    return run(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Head, TrainResult]:
    """A run with the validation scores `SCORES`."""
    return run(tmp_path_factory.mktemp("scored"), scores=SCORES)


def test_rows_of_the_tables(scored: tuple[Head, TrainResult]) -> None:
    _, result = scored
    assert result.losses["step"].tolist() == [5, 10, 12]
    assert result.losses["epoch"].tolist() == [2, 4, 4]  # 12 views, batches of 4
    total = result.losses[["reconstruction", "distance", "orientation", "viewpoint"]] @ [1, 0.3, 0.3, 0.1]
    np.testing.assert_allclose(result.losses["total"], total, rtol=1e-6)
    assert result.diagnostics["step"].tolist() == [0, 4, 8, 12]
    assert result.validation.to_dict("list") == {"step": [0, 4, 8, 12], "pck_point": [9, 1, 3, 3]}
    assert result.losses.notna().all(axis=None)


def test_losses_are_means_over_the_interval(tmp_path: Path, plain: tuple[Head, TrainResult]) -> None:
    _, each = run(tmp_path, dataclasses.replace(CONFIG, log_every=1))
    mean = each.losses["orientation"].iloc[5:10].mean()
    assert plain[1].losses["orientation"].iloc[1] == pytest.approx(mean, rel=1e-6)


def test_the_best_trained_head_is_kept(tmp_path: Path, scored: tuple[Head, TrainResult]) -> None:
    # the untrained head's score does not count, of equals the first is kept
    best, result = scored
    assert result.best_step == 8
    until_then, _ = run(tmp_path, dataclasses.replace(CONFIG, steps=8))
    assert same_head(best, until_then)


def test_without_validation_the_last_head_is_kept(plain: tuple[Head, TrainResult]) -> None:
    _, result = plain
    assert result.best_step == 12
    assert result.validation.empty


@pytest.mark.parametrize(
    ("changes", "scores"),
    [
        ({"keep": "last"}, SCORES),  # it is validated all the same
        ({}, [0.0, 0.0, 0.0, 1.0]),
        ({"validate_every": 12, "log_every": 12, "save_every": 12}, [0.0, 1.0]),
    ],
)
def test_neither_scores_nor_their_intervals_change_the_last_head(
    tmp_path: Path, plain: tuple[Head, TrainResult], changes: dict[str, Any], scores: list[float]
) -> None:
    last, result = run(tmp_path, dataclasses.replace(CONFIG, **changes), scores=scores)
    assert result.best_step == 12
    assert list(result.validation["pck_point"]) == scores
    assert same_head(last, plain[0])


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_a_stopped_run_goes_on_to_the_same_result(
    tmp_path: Path, stop_at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = [0.0, 7.0, 5.0, 6.0]
    whole, expected = run(tmp_path / "whole", scores=scores)
    with pytest.raises(Interrupted):
        run(tmp_path, scores=scores, stop_at=stop_at)
    # validation at 4, 8, 12 is stopped; states are saved at 3, 6, 9; scores continue where the state was
    capsys.readouterr()
    resumed, found = run(tmp_path, scores=scores[stop_at:])
    assert f"going on from step {3 * stop_at if stop_at < 3 else 9}" in capsys.readouterr().err
    assert same_head(resumed, whole)
    assert found.best_step == expected.best_step == 4
    for name in ("losses", "diagnostics", "validation"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name), check_exact=True)


def test_a_finished_state_gives_the_result_at_once(tmp_path: Path) -> None:
    first, expected = run(tmp_path, scores=[0.0, 7.0, 5.0, 6.0])
    again, found = run(tmp_path, scores=[])
    assert same_head(first, again)
    pd.testing.assert_frame_equal(found.losses, expected.losses, check_exact=True)


@pytest.mark.parametrize("damage", ["identity", "garbage"])
def test_a_foreign_state_is_ignored(
    tmp_path: Path, plain: tuple[Head, TrainResult], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, stop_at=2, identity="other" if damage == "identity" else "same")
    if damage == "garbage":
        (tmp_path / "state.safetensors").write_bytes(b"\0" * 100)
    head, result = run(tmp_path)
    assert "starting anew" in capsys.readouterr().err
    assert same_head(head, plain[0])
    assert len(result.losses) == 3


def test_training_is_adam_on_the_weighted_losses(tmp_path: Path) -> None:
    """Weights, noise, rate, margin, threshold, seed and step of the configuration reach the optimiser."""
    weights = {"reconstruction": 1.0, "distance": 0.2, "orientation": 0.7, "viewpoint": 0.4}
    config = dataclasses.replace(
        CONFIG, steps=4, batch=4, learning_rate=2e-3, warmup=2, decay="cosine", gradient_clip=None, seed=5,
        weights=weights, noise=0.3, distance_margin=0.15, orientation_threshold=0.3, triplets=6,
    )  # fmt: skip
    found, result = run(tmp_path, config)

    views, head = make_views(), Head.initialise(DIM, CATEGORIES, config.seed)
    optimiser = torch.optim.Adam(head.trainable().values(), lr=1.0)
    rates = [1e-3, 2e-3, 2e-3, 1e-3]  # by hand
    rows = []
    for step in range(1, 5):
        batch = views.batch(records_of_step(step, views.usable, 4, config.seed))
        own = batch.foreground
        points = head.mapper(noisy(batch.tokens, 0.3, (config.seed, step), 0))[own.image, own.patch]
        key = draw_key(config.seed, step)
        triplets = [draw_triplets(own.offsets, own.counts, 6, key, stream) for stream in (0, 1)]
        places = patch_coordinates(GRID)[own.patch]
        losses = (
            cosine_reconstruction(
                batch.tokens[own.image, own.patch],
                head.prototypes(points, batch.category),
                backend="reference",
            )[0],
            distance_loss(points, places, *triplets[0], 0.15)[0],
            orientation_loss(points, places, *triplets[1], 0.3)[0],
            relative_viewpoint(mean_directions(points, own.image, 4), batch.azimuth, own.counts > 0)[0],
        )
        total = losses[0] + 0.2 * losses[1] + 0.7 * losses[2] + 0.4 * losses[3]
        rows.append([float(loss.detach()) for loss in losses])
        optimiser.param_groups[0]["lr"] = rates[step - 1]
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    np.testing.assert_allclose(
        result.losses[["reconstruction", "distance", "orientation", "viewpoint"]].iloc[-1],
        np.mean(rows, axis=0),
        rtol=1e-4,
    )  # one row: the mean of the four steps (log_every 5)
    for name, parameter in head.trainable().items():
        torch.testing.assert_close(found.trainable()[name], parameter, rtol=0, atol=2e-4, msg=name)


def test_long_gradients_are_shortened_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[torch.Tensor] = []  # gradients that the optimiser sees

    class Watched(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            parameters = self.param_groups[0]["params"]
            used.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Watched)
    free, _ = run(tmp_path / "free")
    lengths = [float(gradient.norm()) for gradient in used]
    first, limit = used[0], min(lengths) / 2
    used.clear()
    run(tmp_path / "short", dataclasses.replace(CONFIG, gradient_clip=limit))
    assert [float(gradient.norm()) for gradient in used] == pytest.approx([limit] * CONFIG.steps, rel=1e-4)
    torch.testing.assert_close(used[0] * (lengths[0] / limit), first, rtol=1e-3, atol=1e-6)
    loose, _ = run(tmp_path / "loose", dataclasses.replace(CONFIG, gradient_clip=2 * max(lengths)))
    assert same_head(loose, free)  # shorter ones stay as they are


def test_divergence_stops_with_a_message_and_leaves_no_bad_state(tmp_path: Path) -> None:
    cache = FakeCache()
    cache.data[7, 20] = np.inf
    with pytest.raises(SpheremapError, match=r"(?s)training diverged: the loss is not finite.*learning_rate"):
        run(tmp_path, dataclasses.replace(CONFIG, save_every=1), views=make_views(cache))
    state = tmp_path / "state.safetensors"
    if state.exists():
        assert all(tensor.isfinite().all() for tensor in load_file(state).values())


def test_a_validation_score_must_be_a_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="validation score is not a number"):
        run(tmp_path, scores=[0.0, float("nan")])


def test_a_loss_is_a_file_and_a_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/contributing.md, with no other change."""
    (tmp_path / "spread.py").write_text(new_file(diff_of("loss")))
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    known = learning.loss_files()
    monkeypatch.setattr(learning, "loss_files", lambda: [*known, "spread"])
    with_it = dataclasses.replace(CONFIG, weights=LOSS_WEIGHTS | {"spread": 0.5}, log_every=1)
    head, result = run(tmp_path / "with", with_it)
    plain, without = run(tmp_path / "without", dataclasses.replace(CONFIG, log_every=1))
    assert result.losses.columns.tolist() == [*without.losses.columns, "spread"]
    first, expected = result.losses.iloc[0], without.losses.iloc[0]
    assert 0 < first["spread"] <= 1
    assert first["total"] == pytest.approx(expected["total"] + 0.5 * first["spread"], rel=1e-6)
    assert not same_head(head, plain)
    measured, _ = run(
        tmp_path / "measured", dataclasses.replace(with_it, weights=LOSS_WEIGHTS | {"spread": 0.0})
    )
    assert same_head(measured, plain)


# --- diagnostics


class FixedMapper(torch.nn.Module):
    """Maps by a given function of the foreground's patch positions."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, _: torch.Tensor, foreground: Any) -> torch.Tensor:
        return torch.nn.functional.normalize(self.function(patch_coordinates(GRID)[foreground.patch]), dim=-1)


def diagnostics_of(function: Any) -> dict[str, float]:
    head = Head.initialise(DIM, CATEGORIES, 0)
    head.mapper = FixedMapper(function)  # type: ignore[assignment]
    return Diagnostics(make_views(), 0.7, 0)(head)


def test_diagnostics_of_a_collapse_and_of_a_faithful_map() -> None:
    collapsed = diagnostics_of(lambda at: torch.tensor([[0.1, 0.2, 0.9]]).expand(len(at), 3))
    assert collapsed["resultant_length"] == pytest.approx(1)
    assert collapsed["coverage"] == pytest.approx(1 / 128)
    assert collapsed["orientation_kept"] == 0

    def flat(at: torch.Tensor) -> torch.Tensor:
        return torch.cat([at - 2.5, torch.full((len(at), 1), 2.0)], dim=1)  # row, column, up

    faithful, mirrored = diagnostics_of(flat), diagnostics_of(lambda at: flat(at.flip(1)))
    assert faithful["orientation_kept"] == 1
    assert mirrored["orientation_kept"] == 0
    assert 0.5 < faithful["resultant_length"] < 0.95
    assert 4 / 128 < faithful["coverage"] < 0.6


def test_cells_have_equal_area() -> None:
    points = torch.nn.functional.normalize(
        torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0)), dim=1
    )
    counts = torch.bincount(cell_of(points), minlength=128).double()
    assert len(counts) == 128
    chi_square = float(((counts - counts.mean()) ** 2).sum() / counts.mean())
    assert chi_square < 127 + 4 * 254**0.5
    poles = torch.tensor([[0.0, 0, 1], [0, 0, -1], [-1, 0, 0], [-1, -1e-9, 0]])
    assert ((cell_of(poles) >= 0) & (cell_of(poles) < 128)).all()


# --- the command


MADE = {"backbone": {"model": "made up", "block": 1, "norm": False, "facet": "token"}, "views": 2}


class Project:
    """A folder with everything that the command reads."""

    outputs = ("head.safetensors", "losses.csv", "diagnostics.csv", "validation.csv")

    def __init__(self, folder: Path, steps: int = 12, **train: Any) -> None:
        self.folder = folder
        write_tables(folder / "tables", FakeCache().tables(), provenance("test", {}))
        self.caches()
        self.params(steps=steps, **train)

    def caches(self, *names: str, kind: str = "", inputs: dict[str, str] | None = None, **made: Any) -> None:
        """Write the caches named, or both; `inputs` and the rest are changes of their provenance."""
        cache, inputs = (
            FakeCache(),
            {"weights": "0", **tables_digest(self.folder / "tables"), **(inputs or {})},
        )
        for name in names or ("views", "images"):
            records = np.flatnonzero(cache.view == 0) if (kind or name) == "images" else np.arange(12)
            write_cache(
                self.folder / f"{name}.h5", cache.data[records], [cache.image_ids[r] for r in records],
                np.tile([0.0, 0, 60, 60], (len(records), 1)), GRID, provenance("cache", MADE | made, inputs),
                kind=kind or name, masks=cache.masks[records], view=cache.view[records],
            )  # fmt: skip

    def params(self, **train: Any) -> None:
        values = dataclasses.asdict(PAPERS_TRAIN)
        values |= {"keep": "best", "batch": 4, "triplets": 8}
        values |= {"log_every": 5, "validate_every": 4, "save_every": 2} | train
        (self.folder / "params.json").write_text(json.dumps({"train": values, "dataset": "fake"}))

    def arguments(self, out: str, *extra: str) -> list[str]:
        f, o = self.folder, self.folder / out
        return [
            "train", f"--params={f / 'params.json'}", f"--tables={f / 'tables'}",
            f"--views={f / 'views.h5'}", f"--images={f / 'images.h5'}", f"--out={o / self.outputs[0]}",
            f"--losses={o / self.outputs[1]}", f"--diagnostics={o / self.outputs[2]}",
            f"--validation={o / self.outputs[3]}", f"--work={o / 'work'}", "--device=cpu", *extra,
        ]  # fmt: skip

    def run(self, out: str, *extra: str) -> int:
        threads = torch.get_num_threads()
        try:
            return main(self.arguments(out, *extra))
        finally:
            torch.set_num_threads(threads)

    def bytes(self, out: str) -> list[bytes]:
        return [(self.folder / out / name).read_bytes() for name in self.outputs]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_command_writes_head_and_curves(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    deterministic = torch.are_deterministic_algorithms_enabled()
    assert project.run("out") == 0
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    head = load_head(project.folder / "out/head.safetensors")
    assert head.categories == CATEGORIES
    assert head.provenance["params"]["train"]["learning_rate"] == 1e-3
    of_tables = {"images.csv", "keypoints.csv", "pairs.csv", "pictures.csv"}
    assert set(head.provenance["inputs"]) == of_tables | {"views", "images", "features"}
    validation = pd.read_csv(project.folder / "out/validation.csv")
    assert validation["step"].tolist() == [0, 4, 8, 12]
    best = validation.iloc[1:].set_index("step")["pck_point"].idxmax()
    assert head.provenance["best_step"] == best
    assert f"keeping the head of step {best}" in capsys.readouterr().err
    assert not (project.folder / "out" / "work" / "state.safetensors").exists()


def test_equal_commands_write_equal_bytes_from_memory_or_disk(project: Project) -> None:
    assert project.run("a") == 0
    torch.rand(3)
    assert project.run("b", "--memory=0") == 0
    assert project.bytes("a") == project.bytes("b")
    project.params(steps=12, seed=1)
    assert project.run("c") == 0
    assert project.bytes("a")[0] != project.bytes("c")[0]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Views, str]]:
    """What the command asks of `train`, which then fails: views and identity."""
    seen: list[tuple[Views, str]] = []

    def watched(_: Head, views: Views, *__: Any, identity: str, **___: Any) -> Any:
        seen.append((views, identity))
        raise SpheremapError("enough")

    monkeypatch.setattr("spheremap.model.training.train", watched)
    return seen


def test_a_state_belongs_to_its_parameters_and_features(
    project: Project, asked: list[tuple[Views, str]]
) -> None:
    project.run("a")
    project.run("b")  # where things lie does not matter
    project.params(steps=12, learning_rate=5e-4)
    project.run("c")
    project.params(steps=12)
    for key, value in (("views", 3), ("seed", 9)):
        project.caches(**{key: value})
        project.run(key)
    identities = [identity for _, identity in asked]
    assert len(identities) == 5
    assert identities[0] == identities[1]
    assert len(set(identities)) == 4


def test_the_command_bins_viewpoints_as_the_parameters_say(
    project: Project, asked: list[tuple[Views, str]]
) -> None:
    project.params(steps=2, viewpoint_bins=2)
    assert project.run("watched") == 1
    assert set(asked[0][0].azimuth) == {0, np.pi}


def test_the_command_validates_as_the_parameters_say(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def watched(cache: Any, tables: Any, *settings: Any, split: str) -> Any:
        seen.extend([*settings, split])
        return lambda head: 0.0

    monkeypatch.setattr("spheremap.metrics.validation.make_validation", watched)
    project.params(steps=2, seed=3, validation={"sphere_weight": 0.45, "alpha": 0.07, "pairs": 5})
    assert project.run("watched") == 0
    assert seen == [Validation(0.45, 0.07, 5), 3, "val"]


def test_without_validation_pairs_the_command_says_so(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = FakeCache().tables()
    tables = dataclasses.replace(tables, pairs=tables.pairs[tables.pairs["split"] == "train"])
    write_tables(project.folder / "tables", tables, provenance("test", {}))
    project.caches()
    assert project.run("out") == 0
    assert "the last head is kept" in capsys.readouterr().err
    assert load_head(project.folder / "out/head.safetensors").provenance["best_step"] == 12
    assert (project.folder / "out/validation.csv").read_text() == "step,pck_point\n"


def test_caches_made_otherwise_are_refused(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*words: str) -> None:
        assert project.run("out") == 1
        message = capsys.readouterr().err
        assert all(word in message for word in words), message
        assert not (project.folder / "out/head.safetensors").exists()

    project.caches("images", inputs={"weights": "1"})
    refused("made with other settings", "inputs.weights", "images.h5")
    project.caches("views", inputs={"images.csv": "changed"})
    refused("made with other settings", "inputs.images.csv", "views.h5")
    project.caches("views", kind="images")
    refused("another kind", "views")


def test_bad_arguments(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert project.run("out", "--device=gpu") == 1
    assert "device 'gpu' cannot be used" in capsys.readouterr().err
    project.params(steps=12, stepz=3)
    assert project.run("out") == 1
    assert "did you mean 'steps'" in capsys.readouterr().err


def test_a_small_training_set_is_one_batch(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.params(steps=3, batch=100)
    assert project.run("out") == 0
    assert "all 12 training views make one batch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, "bfloat16"),
        ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, "float32"),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, "bfloat16"),
        ({"bf16": True}, "bfloat16"),
        ({"avx2": True}, "float32"),
    ],
)
def test_automatic_precision_is_that_of_the_processor(
    able: dict[str, bool | str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert settle_precision("auto", torch.device("cpu")) == expected
    assert settle_precision("bfloat16", torch.device("cpu")) == "bfloat16"


def test_rate_rises_and_falls() -> None:
    config = dataclasses.replace(CONFIG, steps=10, learning_rate=8.0, warmup=4)
    assert [config.rate(step) for step in range(1, 7)] == [2, 4, 6, 8, 8, 8]
    cosine = dataclasses.replace(config, decay="cosine")
    falling = [cosine.rate(step) for step in range(1, 11)]
    assert falling[:5] == [2, 4, 6, 8, 8]
    assert falling[7] == pytest.approx(4)  # half way from step 5 to the end
    assert 0 < falling[9] < falling[8] < 4


def test_terms_that_need_all_round_views_are_silent_without() -> None:
    """From two opposite azimuths nobody can tell which way azimuth rises."""
    cache = FakeCache()
    tables = cache.tables()
    head = Head.initialise(DIM, CATEGORIES, seed=0)
    config = dataclasses.replace(CONFIG, weights=LOSS_WEIGHTS | {"anchor": 0.5, "order": 0.3})
    of_category = tables.images["category"] == CATEGORIES[0]

    def losses(azimuths: list[float]) -> torch.Tensor:
        images = tables.images.assign(azimuth=np.resize(azimuths, len(tables.images)))
        images.loc[~of_category, "azimuth"] = np.nan
        views = make_views(cache, tables=dataclasses.replace(tables, images=images))
        batch = views.batch(views.usable[:5])
        return compute_losses(head, batch, config, draw_key(0, 1))[4:]

    assert (losses([0.0, 90.0, 180.0]) > 0).all()
    for few in ([0.0, 180.0], [90.0], [90.0, np.nan], [np.nan]):
        assert torch.equal(losses(few), torch.zeros(2))


def test_upright_needs_no_viewpoint() -> None:
    """The loss falls, and with it views agree on what is up, though no azimuth is known."""
    cache = FakeCache()
    tables = cache.tables()
    tables = dataclasses.replace(tables, images=tables.images.assign(azimuth=np.nan))
    views = make_views(cache, tables=tables)
    batch = views.batch(views.usable[:5])
    config = dataclasses.replace(CONFIG, weights=LOSS_WEIGHTS | {"upright": 1.0})
    head = Head.initialise(DIM, CATEGORIES, seed=0)
    diagnostics = Diagnostics(views, CONFIG.orientation_threshold, seed=0)
    assert set(diagnostics.upright(head)) == set(CATEGORIES)
    assert diagnostics.chirality(head) == {}
    before = diagnostics(head)["upright"]
    assert before == min(diagnostics.upright(head).values())
    optimiser = torch.optim.Adam(head.mapper.parameters(), lr=1e-3)
    found = []
    for step in range(20):
        loss = compute_losses(head, batch, config, draw_key(0, step))[4]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        found.append(loss.item())
    assert found[-1] < 0.5 * found[0]
    assert before < diagnostics(head)["upright"] <= 1


def test_a_collapsed_sphere_is_warned_of(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One point has no chirality; the other categories must not speak for it."""
    head = Head.initialise(DIM, CATEGORIES, seed=0)
    for parameter in head.mapper.parameters():
        torch.nn.init.zeros_(parameter)
    config = dataclasses.replace(CONFIG, steps=1, learning_rate=1e-12)
    state = tmp_path / "state.safetensors"
    train(head, make_views(), config, state_path=state, identity="a", validator=None)
    text = capsys.readouterr().err
    assert f"warning: chirality is undefined ({', '.join(CATEGORIES)})" in text
    assert "or more" not in text


def test_noise_depends_on_seed_step_and_view_alone() -> None:
    tokens = torch.randn(4, 50, 60).half() * torch.tensor([1.0, 2.0, 3.0, 0.0]).view(4, 1, 1).half()
    seen = noisy(tokens, 0.5, (7, 3), first=0)
    drawn = (seen.float() - tokens.float()).std(dim=(1, 2))
    torch.testing.assert_close(drawn, torch.tensor([0.5, 1.0, 1.5, 0.0]), rtol=0.05, atol=1e-3)
    assert torch.equal(seen[2:], noisy(tokens[2:], 0.5, (7, 3), first=2))
    assert not torch.equal(seen, noisy(tokens, 0.5, (7, 4), first=0))
    assert not torch.equal(seen, noisy(tokens, 0.5, (8, 3), first=0))


def test_the_mapper_alone_sees_noise() -> None:
    views = make_views()
    (batch,) = batches(views, batch=5, seed=0, first=1, last=1, noise=0.5)
    clean = views.batch(records_of_step(1, views.usable, 5, 0))
    assert torch.equal(batch.tokens, clean.tokens)
    assert torch.equal(clean.seen, clean.tokens)
    assert torch.equal(batch.seen, noisy(clean.tokens, 0.5, (0, 1), 0))
    head = Head.initialise(DIM, CATEGORIES, seed=0)
    points, _ = Networks(head, CONFIG)(batch)
    assert torch.equal(points, head.mapper(batch.seen, batch.foreground))

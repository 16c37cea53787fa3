"""The upper bound with labels: losses against plain loops, schedule, and that it learns from points alone."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from training import Interrupted, scripted
from world import FakeCache, image_row, keypoint_row, make_tables, methods

from spheremap.base.errors import InputError
from spheremap.data.tables import Tables
from spheremap.methods.adaptation.labelled import losses, one_cycle, points_of, view_pairs
from spheremap.methods.engine.descriptors import unit
from spheremap.methods.engine.fitting import Fitted, Fitting, save_fitted
from spheremap.methods.supervised import Labelled, Supervised

GRID, DIM, PARTS = (4, 5), 16, 6
(CONFIG,) = methods("supervised").values()


def labelled_world(images: int = 20, cropped: float = 0.0, seed: int = 0) -> tuple[FakeCache, Tables]:
    """Views of a toy whose parts look alike in pairs, but for the patch to the right of each.

    All parts lie at centres of patches; a share of the views show the left two columns alone.
    """
    rng = np.random.default_rng(seed)
    looks, marks = rng.normal(size=(PARTS // 2, DIM)), rng.normal(size=(PARTS, DIM))
    rows, points, boxes = [], [], []
    data = 0.3 * rng.normal(size=(images, *GRID, DIM))
    for i in range(images):
        image_id = f"toy/{i:02d}"
        rows.append(image_row(image_id, 50, 40, [0, 0, 50, 40]) | {"split": "train"})
        boxes.append([0.0, 0.0, 50.0, 40.0])
        places = rng.choice(GRID[0] * 2, PARTS, replace=False)
        for part, place in enumerate(places.tolist()):
            row, column = place // 2, 2 * (place % 2)
            data[i, row, column] += looks[part // 2]
            data[i, row, column + 1] += marks[part]
            seen = rng.random() < 0.9
            points.append(
                keypoint_row(image_id, str(part), (10 * column + 5, 10 * row + 5) if seen else None)
            )
        if rng.random() < cropped:
            boxes[-1][2] = 20.0
    ids = [row["image_id"] for row in rows]
    pairs = [(a, b) for a in ids for b in ids if a != b]
    cache = FakeCache(
        ids, data.reshape(images, -1, DIM).astype(np.float16), np.array(boxes), GRID, kind="views"
    )
    return cache, make_tables(rows, points, pairs, split="train")


def fit(
    folder: Path,
    config: Supervised = CONFIG,
    *,
    scores: list[float] | None = None,
    stop_at: int | None = None,
) -> Fitted:
    cache, tables = labelled_world()
    fitting = Fitting(
        tables, cache, cache, None, torch.device("cpu"), 1.0, folder / "state.safetensors", "same",
        lambda *_: scripted(scores, stop_at),
    )  # fmt: skip
    return config.fit(fitting)


def test_points_are_those_that_a_view_shows() -> None:
    cache, tables = labelled_world(cropped=0.5)
    found = points_of(cache, tables)
    visible = tables.keypoints[tables.keypoints["visible"] == 1]
    for points, image_id, box in zip(found, cache.image_ids, cache.boxes, strict=True):
        own = visible[(visible["image_id"] == image_id) & (visible["x"] < box[2])]
        assert points.ids.tolist() == own["keypoint_id"].tolist()
        np.testing.assert_allclose(points.share.sum(axis=1), 1, atol=1e-6)
        x = (points.place[:, 1] + 0.5) / GRID[1] * (box[2] - box[0])
        np.testing.assert_allclose(x, own["x"])
        np.testing.assert_allclose((points.place[:, 0] + 0.5) * 10, own["y"])
    assert len({len(points.ids) for points in found}) > 3


def test_points_of_a_mirrored_view_are_mirrored() -> None:
    cache, tables = labelled_world(cropped=0.5)
    plain = points_of(cache, tables)
    cache.boxes = cache.boxes[:, [2, 1, 0, 3]]
    for points, mirrored in zip(plain, points_of(cache, tables), strict=True):
        assert mirrored.ids.tolist() == points.ids.tolist()
        row, column = points.place.T
        np.testing.assert_allclose(mirrored.place, np.stack([row, GRID[1] - 1 - column], axis=1), atol=1e-9)
        np.testing.assert_allclose(mirrored.share.sum(axis=1), 1, atol=1e-6)


def slow_losses(
    network: Labelled,
    refined: np.ndarray,
    records: np.ndarray,
    cache: FakeCache,
    tables: Tables,
    temperature: float,
) -> tuple[float, float]:
    """Pair by pair, point by point; all points lie at centres of patches."""
    visible = tables.keypoints[tables.keypoints["visible"] == 1]
    entropies, distances = [], []
    scale = math.exp(network.logit_scale.item())
    for b, (source, target) in enumerate(records.tolist()):
        places = [
            {k.keypoint_id: (int(k.y // 10), int(k.x // 10)) for k in
             visible[visible["image_id"] == cache.image_ids[r]].itertuples()}
            for r in (source, target)
        ]  # fmt: skip
        common = sorted(set(places[0]) & set(places[1]))
        maps = refined[b].reshape(*GRID, -1), refined[len(records) + b].reshape(*GRID, -1)
        for here, there in ((0, 1), (1, 0)):
            for k in common:
                own = maps[here][places[here][k]]
                logits = {other: scale * float(own @ maps[there][places[there][other]]) for other in common}
                entropies.append(math.log(sum(map(math.exp, logits.values()))) - logits[k])
                weights = np.exp(maps[there] @ own / temperature)
                weights /= weights.sum()
                mean = [(weights * axis).sum() for axis in np.indices(GRID)]
                distances.append(math.dist(mean, places[there][k]) / max(GRID))
    return float(np.mean(entropies)), float(np.mean(distances))


def test_losses_equal_plain_loops() -> None:
    cache, tables = labelled_world()
    records = view_pairs(cache, tables, points_of(cache, tables))[[3, 50, 111]]
    network = CONFIG.untrained(DIM)
    refined = unit(torch.from_numpy(cache.data[records.T.reshape(-1)]))
    found = losses(network, refined, records, points_of(cache, tables), GRID, 0.1)
    expected = slow_losses(network, refined.double().numpy(), records, cache, tables, 0.1)
    np.testing.assert_allclose([value.item() for value in found], expected, rtol=1e-5)


def test_one_cycle_is_pytorch_s() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=1.0, total_steps=101, pct_start=31 / 101, cycle_momentum=False
    )
    for step in range(1, 101):
        optimiser.step()
        theirs.step()
        assert one_cycle(step, 100) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
    assert one_cycle(30, 100) == 1


def test_it_learns_from_points_what_tells_parts_apart(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=60, batch=8, log_every=20, noise=0.0, dropout=0.0)
    result = fit(tmp_path, config)
    assert result.curve.columns.tolist() == ["step", "loss", "contrastive", "dense", "pck_point"]
    assert result.curve["contrastive"].iloc[-1] < 0.3 * result.curve["contrastive"].iloc[0]
    assert result.curve["dense"].iloc[-1] < 0.7 * result.curve["dense"].iloc[0]
    new, tables = labelled_world(seed=0, images=30)  # the first are those of training
    points, records = points_of(new, tables), view_pairs(new, tables, points_of(new, tables))
    records = records[(records >= 20).all(axis=1)][:20]
    tokens = torch.from_numpy(new.data[records.T.reshape(-1)])
    with torch.no_grad():
        before, after = (
            losses(net, unit(net.of_tokens(tokens, GRID)), records, points, GRID, 0.1)[0].item()
            for net in (CONFIG.untrained(DIM), result.network)
        )
    assert after < 0.7 * before


@pytest.mark.parametrize("stop_at", [1, 2])
def test_a_stopped_run_of_it_goes_on_to_the_same_bytes(tmp_path: Path, stop_at: int) -> None:
    scores = [1.0, 5.0, 3.0]
    expected = fit(tmp_path / "whole", scores=scores)
    with pytest.raises(Interrupted):
        fit(tmp_path, scores=scores, stop_at=stop_at)
    # the state is kept after the validation of its step: none before the first, two before the second
    found = fit(tmp_path, scores=scores[2:] if stop_at == 2 else scores)
    assert found.best_step == expected.best_step == 2
    pd.testing.assert_frame_equal(found.curve, expected.curve, check_exact=True)
    for folder, fitted in ((tmp_path / "whole", expected), (tmp_path, found)):
        save_fitted(folder / "s.safetensors", fitted.network, {})
    assert (tmp_path / "whole/s.safetensors").read_bytes() == (tmp_path / "s.safetensors").read_bytes()


def test_without_points_in_common_there_is_nothing_to_learn() -> None:
    cache, tables = labelled_world()
    tables.keypoints["visible"] = 0
    with pytest.raises(InputError, match="no pair of training views shows keypoints in common"):
        view_pairs(cache, tables, points_of(cache, tables))


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch", 1), ("learning_rate", 1e-4), ("weight_decay", 0.9), ("noise", 0.0), ("dropout", 0.0),
     ("temperature", 1.0), ("dense_weight", 5.0), ("seed", 1)],
)  # fmt: skip
def test_every_parameter_reaches_the_network(tmp_path: Path, name: str, value: Any) -> None:
    before = fit(tmp_path / "a", dataclasses.replace(CONFIG, steps=2)).network.state_dict()
    after = fit(tmp_path / "b", dataclasses.replace(CONFIG, steps=2, **{name: value})).network.state_dict()
    assert any(not torch.equal(tensor, after[key]) for key, tensor in before.items())

"""The feature adapter: chains, pseudo-labels against slow loops, the loss, training, resuming."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from training import Interrupted, scripted
from world import methods

from spheremap.base.errors import InputError, SpheremapError
from spheremap.data.tables import Tables
from spheremap.data.viewpoint_bins import UNKNOWN
from spheremap.methods.adaptation.adapter import Bottleneck
from spheremap.methods.adaptation.chains import Chains
from spheremap.methods.adaptation.loss import contrastive_loss, soft_targets
from spheremap.methods.adaptation.pseudo_labels import Matches, Rules, pseudo_labels
from spheremap.methods.adapted import Adapted
from spheremap.methods.engine.fitting import Fitted, Fitting, save_fitted
from spheremap.model.head import Foreground

GRID = (5, 6)
PATCHES = GRID[0] * GRID[1]
CHANGES = {"steps": 12, "width": 16, "log_every": 5, "validate_every": 4, "save_every": 3}
(CONFIG,) = methods("adapted", adapted=CHANGES).values()


# --- chains


def make_chains(**options: Any) -> tuple[Chains, dict[str, np.ndarray]]:
    """Sixty views of thirty images in two categories, some of unknown azimuth."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(30), 2)
    known = {
        "category": image % 2,
        "azimuth_bin": np.where(rng.random(30) < 0.1, UNKNOWN, rng.integers(0, 8, 30))[image],
        "image": image,
    }
    usable = np.delete(np.arange(60), [3, 40])
    return Chains(usable, **known, **{"bins": 8, "length": 4, "hop": 1} | options), known


@pytest.mark.parametrize("hop", [0, 1, 2])
def test_neighbours_in_a_chain_lie_a_small_step_apart(hop: int) -> None:
    chains, known = make_chains(hop=hop)
    drawn = [chain for step in range(200) for chain in chains.of_step(step, 3, seed=1)]
    assert {len(chain) for chain in drawn} <= {2, 3, 4}
    turns = set()
    for chain in drawn:
        assert len(set(known["category"][chain])) == 1
        assert len(set(known["image"][chain])) == len(chain)
        assert not {3, 40} & set(chain)
        bins = known["azimuth_bin"][chain]
        assert (bins != UNKNOWN).all()
        steps = (np.diff(bins) + 4) % 8 - 4
        assert (np.abs(steps) <= hop).all()
        assert not ((steps > 0).any() and (steps < 0).any())  # in one direction
        turns |= set(np.sign(steps).tolist())
    assert turns == ({-1, 0, 1} if hop else {0})
    assert {chain[0] for chain in drawn} == set(chains.starts.tolist())


def test_chains_depend_on_seed_and_step_alone() -> None:
    first, second = make_chains()[0], make_chains()[0]
    second.of_step(7, 5, seed=0)
    assert first.of_step(3, 4, seed=0) == second.of_step(3, 4, seed=0)
    assert first.of_step(3, 4, seed=0) != first.of_step(4, 4, seed=0)
    assert first.of_step(3, 4, seed=0) != first.of_step(3, 4, seed=1)


def test_a_chain_ends_where_there_is_no_further_view() -> None:
    chains = Chains(
        np.arange(4), np.zeros(4, int), np.array([0, 1, 2, 5]), np.arange(4), bins=8, length=4, hop=1
    )
    assert chains.starts.tolist() == [0, 1, 2]  # the view of bin 5 has no neighbour
    drawn = {tuple(chain) for step in range(40) for chain in chains.of_step(step, 2, seed=0)}
    assert drawn == {(0, 1, 2), (1, 2), (1, 0), (2, 1, 0)}


def test_without_neighbours_there_is_no_chain() -> None:
    alone = {"category": np.zeros(3, int), "azimuth_bin": np.array([0, 2, UNKNOWN]), "image": np.arange(3)}
    with pytest.raises(InputError, match=r"(?s)no chain.*2 views.*hop of the method"):
        Chains(np.arange(3), **alone, bins=8, length=3, hop=1)


# --- pseudo-labels


def slow_match(
    similarity: Callable[[int, int, int, int], float],
    near: Callable[[int, int, int, int], bool],
    masks: np.ndarray,
    a: int,
    b: int,
    radius: float,
) -> dict[int, int]:
    """Confirmed matches from view a to view b, patch by patch."""
    result = {}
    for p in np.flatnonzero(masks[a]).tolist():
        q = max(np.flatnonzero(masks[b]).tolist(), key=lambda q: similarity(a, p, b, q))
        back = max(np.flatnonzero(masks[a]).tolist(), key=lambda r: similarity(a, r, b, q))
        away = math.dist(divmod(p, GRID[1]), divmod(back, GRID[1]))
        if away <= radius and near(a, p, b, q):
            result[p] = q
    return result


@pytest.mark.parametrize("weight", [0.0, 0.4])
@pytest.mark.parametrize("radius", [0.0, 1.5])
def test_pseudo_labels_equal_slow_loops(weight: float, radius: float) -> None:
    rng = np.random.default_rng(1)
    views, angle, dim = 7, 60.0, 6
    masks = rng.random((views, PATCHES)) < 0.6
    parts = rng.normal(size=(PATCHES, dim))
    tokens = parts + 0.5 * rng.normal(size=(views, PATCHES, dim))
    tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    points = tokens[:, :, :3] + 0.1 * rng.normal(size=(views, PATCHES, 3))
    points /= np.linalg.norm(points, axis=2, keepdims=True)

    def similarity(a: int, p: int, b: int, q: int) -> float:
        return float((1 - weight) * tokens[a, p] @ tokens[b, q] + weight * points[a, p] @ points[b, q])

    def near(a: int, p: int, b: int, q: int) -> bool:
        return math.degrees(math.acos(np.clip(points[a, p] @ points[b, q], -1, 1))) <= angle

    expected, asked = set(), 0
    chains = [range(0, 4), range(4, 7)]
    for chain in chains:
        hops = {a: slow_match(similarity, near, masks, a, a + 1, radius) for a in chain[:-1]}
        for a in chain:
            for b in chain[chain.index(a) + 1 :]:
                for p in np.flatnonzero(masks[a]).tolist():
                    asked += 1
                    q = p
                    for view in range(a, b):
                        q = hops[view].get(q) if q is not None else None
                    if q is not None and near(a, p, b, q):
                        expected |= {(a * PATCHES + p, b, q), (b * PATCHES + q, a, p)}

    def labels(limit: int) -> tuple[Matches, set[tuple[int, int, int]]]:
        found = pseudo_labels(
            torch.from_numpy(tokens[masks]), torch.from_numpy(points[masks]), Foreground.from_masks(masks),
            chains, Rules(weight, radius, angle, GRID[1]), limit=limit, generator=np.random.default_rng(0),
        )  # fmt: skip
        triples = zip(found.source.tolist(), found.view.tolist(), found.patch.tolist(), strict=True)
        return found, set(triples)

    found, triples = labels(PATCHES)
    assert triples == expected
    assert len(expected) > 60
    assert (found.asked, 2 * found.found) == (asked, len(found.source))
    across = {(source // PATCHES, view) for source, view, _ in triples}
    assert {(0, 3), (3, 0), (4, 6)} <= across  # through the views between
    assert not any((a < 4) != (b < 4) for a, b in across)
    thinned, some = labels(2)
    pairs = pd.Series(list(zip((thinned.source // PATCHES).tolist(), thinned.view.tolist(), strict=True)))
    assert pairs.value_counts().max() == 2
    assert some < expected
    assert thinned.found == found.found


# --- the loss


def test_soft_targets_spread_about_their_patch() -> None:
    assert torch.equal(soft_targets(GRID, 0), torch.eye(PATCHES))
    places = [divmod(p, GRID[1]) for p in range(PATCHES)]
    expected = np.array([[math.exp(-(math.dist(p, q) ** 2) / (2 * 0.64)) for p in places] for q in places])
    np.testing.assert_allclose(
        soft_targets(GRID, 0.8), expected / expected.sum(axis=1, keepdims=True), atol=1e-6
    )


def test_the_loss_equals_a_loop_over_matches() -> None:
    generator = torch.Generator().manual_seed(0)
    adapted = torch.nn.functional.normalize(torch.randn(3, PATCHES, 8, generator=generator), dim=-1)
    matches = Matches(
        torch.tensor([4, 40, 70, 2]), torch.tensor([1, 0, 1, 2]), torch.tensor([7, 7, 0, 29]), 9, 4
    )
    targets = soft_targets(GRID, 1.0)
    expected = 0.0
    for source, view, patch in zip(matches.source, matches.view, matches.patch, strict=True):
        logits = adapted[view] @ adapted[source // PATCHES, source % PATCHES] / 0.2
        for q in range(PATCHES):
            expected -= float(targets[patch, q] * (logits[q] - torch.logsumexp(logits, 0)))
    found = contrastive_loss(adapted, matches, targets, 0.2)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    nothing = Matches(*(torch.empty(0, dtype=torch.int64),) * 3, 9, 0)
    assert float(contrastive_loss(adapted, nothing, targets, 0.2)) == 0


# --- the adapter


def adapter(dim: int = 32) -> Bottleneck:
    """One that was trained."""
    network = dataclasses.replace(CONFIG, width=8).untrained(dim)
    with torch.no_grad():
        network.up.weight.copy_(torch.randn(dim, 8, generator=torch.Generator().manual_seed(1)))
    return network.requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_an_untrained_adapter_is_the_identity(dtype: Any) -> None:
    tokens = (30 * torch.randn(2, PATCHES, 32, generator=torch.Generator().manual_seed(0))).to(dtype)
    tokens[0, 3] = 0
    adapted = CONFIG.untrained(32)(tokens)
    assert adapted.dtype == torch.float32
    assert torch.equal(adapted, tokens.float())


def test_the_length_of_a_token_does_not_matter() -> None:
    tokens = torch.randn(1, PATCHES, 32, generator=torch.Generator().manual_seed(0))
    network = adapter()
    assert not torch.allclose(network(tokens), tokens, atol=0.1)
    assert torch.allclose(network(7 * tokens), 7 * network(tokens), rtol=1e-3, atol=1e-3)


# --- training


class Toy:
    """Views of a toy whose parts come in pairs: alike but for a weak mark, which the sphere reads.

    A token is the look of its part (the same for both of a pair), noise, and its place on the sphere, small.
    """

    def __init__(self, images: int = 24, dim: int = 32, mark: float = 0.4) -> None:
        rng = np.random.default_rng(0)
        pairs = 6
        self.grid, self.dim, self.mark = GRID, dim, mark
        self.image_ids = [f"toy/{i:02d}" for i in range(images)]
        self.mirrored = np.zeros(images, dtype=bool)
        looks = rng.normal(size=(pairs, dim - 3))
        place = rng.normal(size=(2 * pairs, 3))
        place /= np.linalg.norm(place, axis=1, keepdims=True)
        self.part = np.full((images, PATCHES), -1)
        self.data = np.zeros((images, PATCHES, dim), dtype=np.float16)
        for i in range(images):
            where = rng.choice(PATCHES, 2 * pairs, replace=False)
            self.part[i, where] = np.arange(2 * pairs)
            self.data[i] = np.pad(rng.normal(size=(PATCHES, dim - 3)), ((0, 0), (0, 3)))
            token = np.concatenate([looks[np.arange(2 * pairs) // 2], mark * place], axis=1)
            token[:, :-3] += 0.3 * rng.normal(size=(2 * pairs, dim - 3))
            self.data[i, where] = token
        self.masks = self.part >= 0

    def tokens(self, indices: Any) -> np.ndarray:
        return self.data[np.asarray(indices)]

    def tables(self) -> Tables:
        azimuth = np.random.default_rng(1).integers(0, 8, len(self.image_ids)) * 45.0
        images = pd.DataFrame({"image_id": self.image_ids, "category": "toy", "azimuth": azimuth})
        return Tables(images, pd.DataFrame(), pd.DataFrame())

    def head(self) -> Any:
        class Reader:
            """Stands for a head: the place on the sphere is written in the token."""

            categories = ("toy",)

            @staticmethod
            def mapper(tokens: torch.Tensor, foreground: Foreground) -> torch.Tensor:
                return tokens.flatten(0, 1)[foreground.rows, -3:]

        return Reader()

    @torch.no_grad()
    def right(self, network: Bottleneck, first: int, last: int) -> float:
        """Share of the parts that find themselves in another image, among images `first` to `last`."""
        tokens = torch.from_numpy(self.data[first:last])
        adapted = torch.nn.functional.normalize(network(tokens), dim=-1)
        right = []
        for a in range(last - first):
            for b in range(last - first):
                if a != b:
                    source = np.flatnonzero(self.masks[first + a])
                    best = (adapted[a, source] @ adapted[b].T).argmax(dim=1).numpy()
                    right += (self.part[first + b, best] == self.part[first + a, source]).tolist()
        return float(np.mean(right))


def run(
    folder: Path,
    config: Adapted = CONFIG,
    *,
    toy: Toy | None = None,
    scores: list[float] | None = None,
    stop_at: int | None = None,
    identity: str = "same",
) -> Fitted:
    """Train with the validation scores given, one per call; a run can be stopped at one of the calls."""
    toy = toy or Toy()

    def validation(*given: Any) -> Any:
        assert given == (config, config.validation, config.seed)
        return scripted(scores, stop_at)

    state, device = folder / "state.safetensors", torch.device("cpu")
    fitting = Fitting(toy.tables(), toy, None, toy.head(), device, 1.0, state, identity, validation)
    return config.fit(fitting)


def same(a: Bottleneck, b: Bottleneck) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_the_adapter_learns_to_tell_repeated_parts_apart(tmp_path: Path) -> None:
    """Trained on some of the images, tried on the others; no label but what the rules confirm."""
    toy, seen = Toy(images=30), 20
    masks = toy.masks
    toy.masks = masks & (np.arange(len(masks)) < seen)[:, None]  # a view without foreground is not used
    config = dataclasses.replace(
        CONFIG, steps=60, batch=4, learning_rate=2e-2, hop=2, log_every=20, save_every=100
    )
    result = run(tmp_path, config, toy=toy)
    toy.masks = masks
    before = toy.right(config.untrained(toy.dim), seen, len(masks))
    after = toy.right(result.network, seen, len(masks))
    assert before < 0.6  # about as often as not
    assert after > 0.8
    assert result.curve["loss"].iloc[-1] < 0.5 * result.curve["loss"].iloc[0]


def test_rows_of_the_curve(tmp_path: Path) -> None:
    result = run(tmp_path, scores=[2.0, 1.0, 3.0, 3.0])
    assert result.curve.columns.tolist() == ["step", "loss", "matches", "kept", "pck_point"]
    assert result.curve["step"].tolist() == [0, 4, 5, 8, 10, 12]
    assert result.curve["pck_point"].dropna().tolist() == [2, 1, 3, 3]
    logged = result.curve[result.curve["step"].isin([5, 10, 12])]
    assert logged.drop(columns="pck_point").notna().all(axis=None)
    assert (logged["kept"].between(0.05, 1) & logged["matches"].between(1, 2 * 6 * 20)).all()


def test_the_best_is_kept_and_be_it_the_identity(tmp_path: Path) -> None:
    best = run(tmp_path / "a", scores=[2.0, 1.0, 3.0, 3.0])
    assert best.best_step == 8
    until_then = run(tmp_path / "b", dataclasses.replace(CONFIG, steps=8))
    assert same(best.network, until_then.network)
    untouched = run(tmp_path / "c", scores=[2.0, 1.0, 1.0, 1.0])
    assert untouched.best_step == 0
    assert same(untouched.network, CONFIG.untrained(32))


def test_without_validation_the_last_is_kept(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.best_step == 12
    assert result.curve["pck_point"].isna().all()


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_a_stopped_run_goes_on_to_the_same_bytes(
    tmp_path: Path, stop_at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = [0.0, 7.0, 5.0, 8.0]
    expected = run(tmp_path / "whole", scores=scores)
    with pytest.raises(Interrupted):
        run(tmp_path, scores=scores, stop_at=stop_at)
    capsys.readouterr()
    found = run(tmp_path, scores=scores[stop_at:])
    assert f"going on from step {3 * stop_at if stop_at < 3 else 9}" in capsys.readouterr().err
    assert found.best_step == expected.best_step == 12
    pd.testing.assert_frame_equal(found.curve, expected.curve, check_exact=True)
    files = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    for path, fitted in zip(files, (expected, found), strict=True):
        save_fitted(path, fitted.network, {})
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_foreign_state_is_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = run(tmp_path / "whole")
    run(tmp_path, identity="other")
    found = run(tmp_path)
    assert "starting anew" in capsys.readouterr().err
    assert same(found.network, whole.network)


def test_no_pseudo_label_at_all_is_an_error(tmp_path: Path) -> None:
    toy = Toy()
    toy.data[:, :, -3:] = np.random.default_rng(3).normal(size=(*toy.data.shape[:2], 3))  # a senseless sphere
    with pytest.raises(SpheremapError, match=r"(?s)no match passed.*none in 5 steps.*raise angle"):
        run(tmp_path, dataclasses.replace(CONFIG, angle=0.01), toy=toy)


def test_divergence_stops_with_a_message(tmp_path: Path) -> None:
    toy = Toy()
    toy.data[:, 20] = np.inf
    with pytest.raises(SpheremapError, match=r"(?s)training diverged.*lower learning_rate"):
        run(tmp_path, toy=toy)
    assert not (tmp_path / "state.safetensors").exists()


def test_a_validation_score_must_be_a_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="validation score is not a number"):
        run(tmp_path, scores=[math.nan])


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 0.5), ("matches", 1), ("sphere_weight", 1.0), ("cycle_radius", 100.0),
     ("spread", 2.0), ("chain", 2), ("hop", 0), ("viewpoint_bins", 2), ("batch", 1), ("learning_rate", 1e-5)],
)  # fmt: skip
def test_every_parameter_reaches_the_adapter(tmp_path: Path, name: str, value: Any) -> None:
    config = dataclasses.replace(CONFIG, steps=3, sphere_weight=0.1, angle=90.0)
    assert getattr(config, name) != value
    before = run(tmp_path / "a", config).network
    after = run(tmp_path / "b", dataclasses.replace(config, **{name: value})).network
    assert not same(before, after)

"""Methods that others have published, against plain loops and against what the authors' code returned."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from faulty_server import FaultyServer, Resource, faulty_server
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from world import FakeCache, make_world, methods

from spheremap.base.errors import InputError
from spheremap.base.files import sha256_file, write_json
from spheremap.data.tables import Tables
from spheremap.methods.adaptation import published_adapters
from spheremap.methods.adaptation.bottleneck import GridBottleneck
from spheremap.methods.adaptation.published_adapters import load_adapter
from spheremap.methods.adaptive_flip import AdaptiveFlip, flips
from spheremap.methods.debiased import Debiased
from spheremap.methods.diy_sc import DiySc
from spheremap.methods.engine.comparison import Comparison
from spheremap.methods.engine.fitting import load_published
from spheremap.methods.engine.method import Method
from spheremap.methods.engine.queries import Queries, build_queries
from spheremap.methods.engine.samples import evenly
from spheremap.methods.fused import FEATURES, SPHERE, Fused
from spheremap.methods.transport import Transport

GRID = (4, 5)


def world(seed: int) -> tuple[FakeCache, Tables, object]:
    """A made-up data set whose mirror images are no mere mirrors in feature space, and a blank picture."""
    cache, tables, head = make_world(seed, images=3, grid=GRID)
    rng = np.random.default_rng(seed)
    flipped = cache.data.reshape(len(cache), *GRID, -1)[:, :, ::-1].reshape(cache.data.shape)
    mirrored = (flipped + rng.normal(size=flipped.shape)).astype(np.float16)
    blank = rng.normal(size=(1, GRID[0] * GRID[1], cache.dim)).astype(np.float16)
    cache.companions = {
        "mirrored": replace(cache, data=mirrored, kind="mirrored", reads={}),
        "blank": FakeCache(["blank"], blank, np.array([[0.0, 0.0, 8.0, 8.0]]), GRID, kind="blank"),
    }
    return cache, tables, head


def compared(
    cache: FakeCache, tables: Tables, head: object, method: Method, sampling: str = "patch"
) -> tuple[np.ndarray, Queries]:
    queries = build_queries(cache, tables, tables.pairs, sampling)
    blocks = Comparison(cache, [method], head, batch=2).blocks(queries)
    return torch.cat([method.compare(block) for block in blocks]).numpy(), queries


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def concatenation(cache: FakeCache, head, weight: float) -> np.ndarray:
    """`[√(1 - w) x, √w s]` of all records `(n, N, D + 3)`."""
    tokens = cache.data.astype(np.float64)
    points = head.mapper(torch.from_numpy(tokens)).numpy()
    return np.concatenate([math.sqrt(1 - weight) * unit(tokens), math.sqrt(weight) * points], axis=2)


# --- debiased features


def slow_debiased(cache: FakeCache, components: int) -> np.ndarray:
    blank = unit(cache.companions["blank"].data[0].astype(np.float64))
    _, directions = np.linalg.eigh(np.cov(blank.T))
    basis = directions[:, ::-1][:, :components]
    tokens = unit(cache.data.astype(np.float64))
    return unit(tokens - tokens @ basis @ basis.T)


@pytest.mark.parametrize("components", [1, 3])
def test_debiased_features_equal_another_way_to_them(components: int) -> None:
    cache, tables, head = world(0)
    found, queries = compared(cache, tables, head, Debiased(FEATURES, components))
    expected = slow_debiased(cache, components)
    for q, pair in enumerate(queries.pair.tolist()):
        own = expected[queries.source[pair], queries.patch[q]]
        np.testing.assert_allclose(found[q], expected[queries.target[pair]] @ own, atol=2e-3)  # float16
    assert cache.companions["blank"].reads == {"blank": 1}
    assert set(cache.reads.values()) == {1}


def test_what_is_projected_out_no_longer_counts() -> None:
    cache, _, _ = world(1)
    method = Debiased(FEATURES, 2)
    basis = method.basis(torch.from_numpy(cache.companions["blank"].data[0]))
    torch.testing.assert_close(basis.T @ basis, torch.eye(2))
    shift = torch.from_numpy(cache.data).float() + 5 * basis[:, 0]
    before = torch.from_numpy(cache.data).float() - torch.from_numpy(cache.data).float() @ basis @ basis.T
    torch.testing.assert_close(shift - shift @ basis @ basis.T, before, atol=1e-4, rtol=0)


def test_fused_of_debiased_features_is_a_matter_of_configuration() -> None:
    cache, tables, head = world(2)
    made = methods("debiased_fused", "debiased", "sphere", sphere_weight=0.25)
    found, _ = compared(cache, tables, head, made["debiased_fused"])
    features, sphere = (compared(cache, tables, head, made[name])[0] for name in ("debiased", "sphere"))
    np.testing.assert_allclose(found, 0.75 * features + 0.25 * sphere, atol=1e-6)


def test_debiased_features_can_be_debiased_again_and_flipped() -> None:
    cache, tables, head = world(0)
    once, _ = compared(cache, tables, head, Debiased(FEATURES, 3))
    twice, _ = compared(cache, tables, head, Debiased(Debiased(FEATURES, 3), 1))
    assert np.abs(once - twice).max() > 0.01  # another direction of what is left
    flipped, _ = compared(cache, tables, head, AdaptiveFlip(Debiased(FEATURES, 3), 2))
    assert flipped.shape == once.shape


def test_only_descriptors_can_be_debiased() -> None:
    cache, tables, head = world(0)
    with pytest.raises(InputError, match=r"no descriptors of its own(.|\n)*Fused"):
        compared(cache, tables, head, Debiased(Fused((FEATURES, SPHERE), 0.2), 1))
    with pytest.raises(InputError, match=r"3 dimensions of Sphere"):
        compared(cache, tables, head, Debiased(SPHERE, 3))


# --- adaptive flip


def slow_flip(
    cache: FakeCache, head, queries: Queries, weight: float, most: int
) -> tuple[np.ndarray, list[bool]]:
    columns = GRID[1]
    plain = concatenation(cache, head, weight)
    mirrored = concatenation(cache.companions["mirrored"], head, weight)
    result, flipped = [], []
    for q, pair in enumerate(queries.pair.tolist()):
        source, target = int(queries.source[pair]), int(queries.target[pair])
        patches = np.flatnonzero(cache.masks[source]).tolist()
        patches = [patches[int((i + 0.5) * len(patches) / most)] for i in range(most)][: len(patches)]
        distances = []
        for described, turned in ((plain, False), (mirrored, True)):
            nearest = []
            for patch in patches:
                row, column = divmod(patch, columns)
                own = described[source][row * columns + (columns - 1 - column if turned else column)]
                nearest.append(min(float(np.linalg.norm(own - other)) for other in plain[target]))
            distances.append(sum(nearest) / len(nearest))
        turned = distances[1] < distances[0]
        row, column = divmod(int(queries.patch[q]), columns)
        own = (mirrored if turned else plain)[source][
            row * columns + (columns - 1 - column if turned else column)
        ]
        result.append(plain[target] @ own)
        flipped.append(turned)
    return np.array(result), flipped


@pytest.mark.parametrize("seed", range(3))
def test_flips_equal_plain_loops(seed: int) -> None:
    cache, tables, head = world(seed)
    found, queries = compared(cache, tables, head, AdaptiveFlip(Fused((FEATURES, SPHERE), 0.25), 3))
    expected, flipped = slow_flip(cache, head, queries, 0.25, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert seed or 0 < sum(flipped) < len(flipped)


def test_a_mirror_image_in_feature_space_changes_nothing_between_patches_either() -> None:
    cache, tables, head = world(0)
    flipped = cache.data.reshape(len(cache), *GRID, -1)[:, :, ::-1].reshape(cache.data.shape)
    cache.companions["mirrored"] = replace(cache, data=flipped)
    plain, _ = compared(cache, tables, head, FEATURES, "bilinear")
    found, _ = compared(cache, tables, head, AdaptiveFlip(FEATURES, 2), "bilinear")
    np.testing.assert_allclose(found, plain, atol=1e-6)


def test_without_an_object_nothing_is_flipped() -> None:
    assert [flips(torch.tensor(values)) for values in ([], [0.5, 0.6], [0.6, 0.5], [0.5, 0.5])] == [
        False, True, False, False,
    ]  # fmt: skip


@given(st.integers(0, 30), st.integers(1, 20), st.integers(0, 5))
def test_patches_are_spread_evenly(count: int, most: int, seed: int) -> None:
    among = np.zeros(40, dtype=bool)
    among[np.random.default_rng(seed).choice(40, count, replace=False)] = True
    found = evenly(among, most).numpy()
    assert len(set(found.tolist())) == len(found) == min(count, most)
    assert among[found].all()
    steps = np.diff(np.searchsorted(np.flatnonzero(among), found))
    assert (steps <= math.ceil(count / max(len(found), 1))).all()


# --- optimal transport


def slow_transport(similarity: np.ndarray, method: Transport) -> np.ndarray:
    """Sinkhorn in log space, one number at a time."""
    rows, columns = similarity.shape
    scores = [[*row, method.dustbin] for row in similarity.tolist()] + [[method.dustbin] * (columns + 1)]
    scores = [[value / method.regularisation for value in row] for row in scores]
    to, of = [0.0] * rows + [math.log(columns)], [0.0] * columns + [math.log(rows)]
    left, right = [0.0] * (rows + 1), [0.0] * (columns + 1)

    def logarithm_of_sum(values: list[float]) -> float:
        top = max(values)
        return top + math.log(sum(math.exp(value - top) for value in values))

    for _ in range(method.iterations):
        for i in range(rows + 1):
            left[i] = to[i] - logarithm_of_sum([scores[i][j] + right[j] for j in range(columns + 1)])
        for j in range(columns + 1):
            right[j] = of[j] - logarithm_of_sum([scores[i][j] + left[i] for i in range(rows + 1)])
    plan = [[scores[i][j] + left[i] + right[j] for j in range(columns)] for i in range(rows)]
    return method.regularisation * np.array(plan)


@settings(max_examples=30)
@given(
    st.integers(1, 5),
    st.integers(1, 7),
    st.floats(-1, 1),
    st.sampled_from([0.05, 0.1, 1.0]),
    st.integers(0, 9),
)
def test_transport_equals_plain_loops(
    rows: int, columns: int, dustbin: float, regularisation: float, seed: int
) -> None:
    similarity = np.random.default_rng(seed).uniform(-1, 1, (rows, columns))
    method = Transport(FEATURES, 0, dustbin, regularisation, 10)
    found = method.transported(torch.from_numpy(similarity).float())
    np.testing.assert_allclose(found.numpy(), slow_transport(similarity, method), atol=1e-4)


def test_two_keypoints_share_two_patches() -> None:
    """Both resemble the first patch more; the one that resembles the second less by less moves there."""
    similarity = torch.tensor([[0.9, 0.2, -0.9], [0.85, 0.8, -0.9]])
    assert similarity.argmax(dim=1).tolist() == [0, 0]
    assert Transport(FEATURES, 0, -1.0, 0.1, 50).transported(similarity).argmax(dim=1).tolist() == [0, 1]


@pytest.mark.parametrize("rivals", [0, 4])
def test_rivals_are_patches_of_the_source(rivals: int) -> None:
    cache, tables, head = world(0)
    method = Transport(Fused((FEATURES, SPHERE), 0.25), rivals, 0.25, 0.1, 10)
    found, queries = compared(cache, tables, head, method)
    described = concatenation(cache, head, 0.25)
    for pair in range(len(queries.source)):
        own = slice(int(queries.first[pair]), int(queries.first[pair + 1]))
        source, target = described[queries.source[pair]], described[queries.target[pair]]
        box = cache.boxes[queries.source[pair]]
        inside = [
            n
            for n in range(len(source))
            if all(
                0 <= low + (place + 0.5) / count * (high - low) <= low + high
                for low, high, place, count in (
                    (box[0], box[2], n % GRID[1], GRID[1]),
                    (box[1], box[3], n // GRID[1], GRID[0]),
                )
            )
        ]
        chosen = [inside[int((i + 0.5) * len(inside) / rivals)] for i in range(rivals)]
        rows = source[[*queries.patch[own].tolist(), *chosen]]
        expected = slow_transport(rows @ target.T, method)[: own.stop - own.start]
        np.testing.assert_allclose(found[own], expected, atol=2e-3)  # rivals are kept in float16


# --- the published adapter


@pytest.fixture
def reference(root: Path) -> Path:
    folder = root.parent / "shared" / "reference"
    if not (folder / "diy_sc_io.npz").exists():
        pytest.skip(f"the authors' answers are not at {folder}")
    return folder


def test_the_adapter_answers_as_the_authors(reference: Path) -> None:
    (network,) = load_published([DiySc(str(reference / "diy_sc_dinov2b_spair.pth"))], 768, "cpu").values()
    known = np.load(reference / "diy_sc_io.npz")
    with torch.inference_mode():
        found = network(torch.from_numpy(known["x"])).numpy()
    np.testing.assert_allclose(found, known["y"], atol=1e-5, rtol=0)


def test_a_bottleneck_by_hand() -> None:
    """Four channels, so that one is left between; a group is a channel: it is normalised over the grid."""
    network = GridBottleneck(4)
    with torch.no_grad():
        for conv in (network.conv1, network.conv2, network.conv3):
            conv.weight.fill_(0.0)
        network.conv1.weight[0, 1] = 2.0
        network.conv2.weight[0, 0, 1, 2] = 1.0  # the patch to the right
        network.conv3.weight[3, 0] = 1.0
        found = network(torch.arange(24.0).view(1, 4, 2, 3) - 12)
    x = np.arange(24.0).reshape(4, 2, 3) - 12

    def normalised(values: np.ndarray) -> np.ndarray:
        return (values - values.mean()) / np.sqrt(values.var() + 1e-5)

    one = np.maximum(normalised(2 * x[1]), 0)
    two = np.maximum(normalised(np.pad(one, ((0, 0), (0, 1)))[:, 1:]), 0)
    x[3] += normalised(two)
    np.testing.assert_allclose(found[0], np.maximum(x, 0), atol=1e-5)


def saved(path: Path, network: nn.Module) -> Path:
    state = {f"bottleneck_layers.0.0.{name}": t for name, t in network.state_dict().items()}
    torch.save(state | {"mixing_weights": torch.ones(1)}, path)
    return path


def test_refined_tokens_are_compared(tmp_path: Path) -> None:
    cache, tables, head = world(0)
    torch.manual_seed(0)
    network = GridBottleneck(cache.dim)
    method = DiySc(str(saved(tmp_path / "a.pth", network)))
    queries = build_queries(cache, tables, tables.pairs)
    fitted = load_published([Fused((method, SPHERE), 0.2)], cache.dim, "cpu")
    found = torch.cat(
        [method.compare(block) for block in Comparison(cache, [method], head, fitted).blocks(queries)]
    )
    maps = torch.from_numpy(cache.data).float().transpose(1, 2).unflatten(2, GRID)
    with torch.inference_mode():
        refined = unit(network(maps).flatten(2).transpose(1, 2).double().numpy())
    for q, pair in enumerate(queries.pair.tolist()):
        own = refined[queries.source[pair], queries.patch[q]]
        np.testing.assert_allclose(found[q], refined[queries.target[pair]] @ own, atol=2e-3)


def test_what_is_no_such_adapter_is_refused(tmp_path: Path) -> None:
    path, empty, sound = (tmp_path / name for name in ("a.pth", "b.pth", "c.pth"))
    torch.save({"a": torch.zeros(1)}, empty)
    path.write_bytes(b"nothing")
    saved(sound, GridBottleneck(8))
    for file, width, message in (
        (tmp_path / "nowhere.pth", 8, r"no such weights(.|\n)*diy-sc-dinov2-b14-spair"),
        (sound, 16, r"another width(.|\n)*expected: 8(.|\n)*found: 16"),
        (empty, 8, "not an adapter"),
        (path, 8, "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            load_adapter(str(file), width)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with faulty_server() as running:
        yield running


def test_a_name_is_fetched_once_and_its_licence_shown(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = GridBottleneck(8)
    path = saved(tmp_path / "a.pth", network)
    entry = {"urls": [server.url("/best.pth")], "sha256": sha256_file(path), "licence": "to be had by all",
             "citation": "A. Uthor", "homepage": "https://example.org"}  # fmt: skip
    write_json(tmp_path / "registry.yaml", {"theirs": entry})
    monkeypatch.setattr(published_adapters, "REGISTRY", tmp_path / "registry.yaml")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server.resources["/best.pth"] = Resource(path.read_bytes())
    for _ in range(2):
        found = load_adapter("theirs", 8)
    assert all(torch.equal(t, found.state_dict()[name]) for name, t in network.state_dict().items())
    assert capsys.readouterr().err.count("to be had by all") == 1
    write_json(tmp_path / "registry.yaml", {"theirs": entry | {"sha256": "0" * 64}})
    with pytest.raises(InputError, match="0000"):
        load_adapter("theirs", 8)

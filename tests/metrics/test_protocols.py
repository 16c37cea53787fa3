"""Every protocol of the evaluation against plain loops, to 1e-6, with ties and points on the circle."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import world
from PIL import Image
from test_kap import slow_average_precision
from world import FakeCache, groups_of, image_row, keypoint_row, leaves_of, make_tables, make_world

from spheremap.base.errors import InputError
from spheremap.config.scoring import Sweep
from spheremap.data.subjects import Subject
from spheremap.data.tables import Tables
from spheremap.features.cache.builder import FeaturesSpec, decode_views
from spheremap.features.geometry import patch_centres, square_box
from spheremap.methods.engine.readout import Readout, best_patch, place
from spheremap.methods.engine.sampling import sample_patches

ALPHAS = (0.25, 0.125, 0.03)
PARAMS = replace(world.PARAMS, alphas=ALPHAS, window=3, temperature=0.1, confidence=0.95)
WEIGHT = 0.25  # of the sphere


def scored(cache, tables, head, params=PARAMS, **options):
    return world.scored(cache, tables, head, params, sphere_weight=WEIGHT, **options)


ROWS = ("features", "sphere", "fused")


# --- made-up data on which float32 is exact: ties are ties in any arithmetic


class AxisHead:
    """Maps tokens to the six directions along the axes."""

    def __init__(self) -> None:
        self.device, self.categories, self.dim = torch.device("cpu"), [], 16

    def mapper(self, tokens: torch.Tensor) -> torch.Tensor:
        """Points `(B, N, 3)` of tokens `(B, N, D)` of plus and minus ones."""
        axis = (tokens[..., 0] > 0).long() + (tokens[..., 1] > 0).long()
        return torch.nn.functional.one_hot(axis, 3) * tokens[..., 2:3].sign()


def exact_world(seed: int, stretched: bool) -> tuple[FakeCache, Tables, AxisHead]:
    """Pictures of 64 x 32 and 32 x 64 pixels with tokens of length 4 made of ±1.

    A few tokens occur many times, so that maxima tie within pictures. Keypoints lie at multiples of 4 pixels:
    on borders of patches and of pictures, and at just the radius from the centres of others.
    """
    rng = np.random.default_rng(seed)
    grid = (8, 8)
    vocabulary = rng.choice([-1.0, 1.0], size=(20, 16))
    images, keypoints, pairs, boxes, ids = [], [], [], [], []
    for category in ("a", "b"):
        own = [f"{category}/{i}" for i in range(3)]
        pairs += list(itertools.permutations(own, 2))[: 6 if category == "a" else 4]
        for image_id in own:
            width, height = (64, 32) if rng.random() < 0.5 else (32, 64)
            box = [8, 4, 8 + 16, 4 + 24] if rng.random() < 0.3 else [0, 0, 32, 16]
            images.append(image_row(image_id, width, height, box, float(rng.integers(0, 8) * 45)))
            for k in range(7):
                xy = (4 * rng.integers((0, 0), (width // 4 + 1, height // 4 + 1))).tolist()
                keypoints.append(keypoint_row(image_id, str(k), xy if rng.random() < 0.8 else None))
            boxes.append([0, 0, width, height] if stretched else square_box(width, height))
            ids.append(image_id)
    tokens = vocabulary[rng.integers(0, len(vocabulary), size=(len(ids), grid[0] * grid[1]))]
    cache = FakeCache(ids, tokens.astype(np.float16), np.array(boxes, dtype=np.float64), grid)
    return cache, make_tables(images, keypoints, pairs), AxisHead()


# --- the same, slowly


def slow_descriptor(vectors, xy, box, grid, source: str) -> list[float]:
    """Descriptor of a keypoint: that of its patch, or interpolated between patch centres."""
    rows, columns = grid
    across = (xy[0] - box[0]) / (box[2] - box[0]) * columns
    down = (xy[1] - box[1]) / (box[3] - box[1]) * rows
    if source == "patch":
        row, column = min(int(down), rows - 1), min(int(across), columns - 1)
        return list(vectors[row * columns + column])
    across, down = min(max(across - 0.5, 0), columns - 1), min(max(down - 0.5, 0), rows - 1)
    result = [0.0] * len(vectors[0])
    for row in range(rows):
        for column in range(columns):
            share = max(0.0, 1 - abs(row - down)) * max(0.0, 1 - abs(column - across))
            result = [r + share * v for r, v in zip(result, vectors[row * columns + column], strict=True)]
    return result


def slow_unit(vector) -> list[float]:
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length if length else 0.0 for v in vector]


def slow_cosines(descriptor, vectors) -> list[float]:
    own = slow_unit(descriptor)
    return [sum(p * q for p, q in zip(own, slow_unit(v), strict=True)) for v in vectors]


def slow_prediction(similarity, box, grid, params) -> tuple[float, float]:
    rows, columns = grid
    best = similarity.index(max(similarity))
    row, column = best // columns, best % columns
    if params.readout == "window":
        reach = params.window // 2
        near = [
            (r, c)
            for r in range(rows)
            for c in range(columns)
            if abs(r - best // columns) <= reach and abs(c - best % columns) <= reach
        ]
        top = max(similarity)
        weights = [math.exp((similarity[r * columns + c] - top) / params.temperature) for r, c in near]
        row = sum(w * r for w, (r, _) in zip(weights, near, strict=True)) / sum(weights)
        column = sum(w * c for w, (_, c) in zip(weights, near, strict=True)) / sum(weights)
    if params.readout == "kernel":
        weights = []
        for n, value in enumerate(similarity):
            apart = (n // columns - best // columns) ** 2 + (n % columns - best % columns) ** 2
            near = math.exp(-apart / (2 * params.sigma**2)) * value
            weights.append(math.exp(near / params.temperature))
        row = sum(w * (n // columns) for n, w in enumerate(weights)) / sum(weights)
        column = sum(w * (n % columns) for n, w in enumerate(weights)) / sum(weights)
    width, height = (box[2] - box[0]) / columns, (box[3] - box[1]) / rows
    return box[0] + (column + 0.5) * width, box[1] + (row + 0.5) * height


def slow_scores(cache, tables, head, params) -> dict[str, dict[str, float]]:
    """All metrics of the deterministic rows, one keypoint of one pair at a time."""
    rows, columns = cache.grid
    tokens = cache.data.astype(np.float64)
    points = head.mapper(torch.from_numpy(tokens)).numpy()
    images = {image.image_id: image for image in tables.images.itertuples()}
    visible = [kp for kp in tables.keypoints.itertuples() if kp.visible]
    places = {i: {kp.keypoint_id: (kp.x, kp.y) for kp in visible if kp.image_id == i} for i in images}
    hits: dict[str, list[dict]] = {row: [] for row in ROWS}
    maps: dict[str, dict[str, list]] = {row: {} for row in ROWS}
    for pair, (source_id, target_id) in enumerate(tables.pairs[["source", "target"]].to_numpy().tolist()):
        source, target = cache.image_ids.index(source_id), cache.image_ids.index(target_id)
        image, box = images[target_id], cache.boxes[target]
        gap = apart_in_bins(images[source_id].azimuth, image.azimuth)
        sx, sy = (1.0, 1.0)
        if params.frame == "input":
            sx, sy = 1 / (box[2] - box[0]), 1 / (box[3] - box[1])
        width, height = (image.x2 - image.x1, image.y2 - image.y1)
        if params.threshold == "image":
            width, height = image.width, image.height
        side = max(width * sx, height * sy)

        def apart(p, q, sx=sx, sy=sy) -> float:
            return math.sqrt(((p[0] - q[0]) * sx) ** 2 + ((p[1] - q[1]) * sy) ** 2)

        shift = 0.5 if params.kap_labels == "centre" else 0.0
        labels = [
            (box[0] + (c + shift) * (box[2] - box[0]) / columns,
             box[1] + (r + shift) * (box[3] - box[1]) / rows)
            for r in range(rows)
            for c in range(columns)
        ]  # fmt: skip
        step = (0.5 - shift) * (box[2] - box[0]) / columns, (0.5 - shift) * (box[3] - box[1]) / rows
        centres = [(x + step[0], y + step[1]) for x, y in labels]
        kept = [n for n, (x, y) in enumerate(centres) if params.candidates == "all" or
                (0 <= x <= image.width and 0 <= y <= image.height)]  # fmt: skip
        gathered: dict[str, list] = {row: [] for row in ROWS}
        for keypoint, xy in places[source_id].items():
            own_box = cache.boxes[source]
            features, sphere = (
                slow_cosines(
                    slow_descriptor(vectors[source], xy, own_box, cache.grid, params.source), vectors[target]
                )
                for vectors in (tokens, points)
            )
            fused = [(1 - WEIGHT) * f + WEIGHT * s for f, s in zip(features, sphere, strict=True)]
            truth = places[target_id].get(keypoint)
            for row, similarity in zip(ROWS, (features, sphere, fused), strict=True):
                gathered[row].append((
                    [similarity[n] for n in kept],
                    None if truth is None else [apart(labels[n], truth) for n in kept],
                ))  # fmt: skip
                if truth is None:
                    continue
                allowed = [v if n in kept else -math.inf for n, v in enumerate(similarity)]
                found = slow_prediction(allowed, box, cache.grid, params)
                others = [apart(found, p) for k, p in places[target_id].items() if k != keypoint]
                point = {"pair": pair, "category": image.category, "side": side, "gap": gap}
                point |= {"error": apart(found, truth), "other": min(others, default=math.inf)}
                hits[row].append(point)
        for row, found_maps in gathered.items():
            if found_maps:
                maps[row].setdefault(image.category, []).append((found_maps, side))

    result = {}
    for row in ROWS:
        scores = {}
        for alpha in ALPHAS:
            name = f"{alpha:.2f}" if alpha != 0.125 else "0.125"
            for metric, key in (("pck_point", None), ("pck_image", "pair"), ("pck_category", "category")):
                shares = slow_shares(hits[row], alpha, key)
                scores[f"{metric}@{name}"] = sum(shares.values()) / len(shares)
            confused = [p["error"] >= alpha * p["side"] and p["other"] < alpha * p["side"] for p in hits[row]]
            scores[f"confusion@{name}"] = 100 * sum(confused) / len(confused)
            for key in ("gap", "category"):
                scores |= {
                    (f"pck_point@{name}", part): v for part, v in slow_shares(hits[row], alpha, key).items()
                }
            kaps = {category: slow_kap(pairs, alpha) for category, pairs in maps[row].items()}
            scores |= {(f"kap@{name}", category): value for category, value in kaps.items()}
            scores[f"kap@{name}"] = sum(kaps.values()) / len(kaps)
            counts = {category: len(pairs) for category, pairs in maps[row].items()}
            scores[f"kap_pair@{name}"] = sum(kaps[c] * counts[c] for c in kaps) / sum(counts.values())
        result[row] = scores
    return result


def slow_shares(points, alpha: float, key: str | None) -> dict:
    """Percent right of the points that agree in something."""
    groups: dict = {}
    for point in points:
        groups.setdefault(point.get(key), []).append(point["error"] < alpha * point["side"])
    return {part: 100 * sum(group) / len(group) for part, group in groups.items()}


def apart_in_bins(one: float, other: float) -> int | None:
    """Azimuth gap in eight bins; None if it is unknown."""
    if math.isnan(one) or math.isnan(other):
        return None
    steps = abs(math.floor(one / 45 + 0.5) - math.floor(other / 45 + 0.5)) % 8
    return min(steps, 8 - steps)


def slow_kap(pairs, alpha: float) -> float:
    """KAP of one category: whole maps are normalised, then extremes taken inside and outside."""
    scores, positives = [], []
    for maps, side in pairs:
        low, high = min(min(m) for m, _ in maps), max(max(m) for m, _ in maps)
        for similarity, distance in maps:
            values = [(v - low) / (high - low) if high > low else 0.0 for v in similarity]
            inside = set()
            if distance is not None:
                inside = {n for n, d in enumerate(distance) if d < alpha * side}
                inside.add(distance.index(min(distance)))
            for label, group in (
                (True, [values[n] for n in inside]),
                (False, [v for n, v in enumerate(values) if n not in inside]),
            ):
                if group:
                    scores.append(max(group))
                    positives.append(label)
    return 100 * slow_average_precision(scores, positives)


def assert_equal(results, expected) -> None:
    lines = pd.concat([groups_of(results, by) for by in ("azimuth_gap", "category")])
    lines["group"] = [int(group) if group.isdigit() else group for group in lines["group"]]
    lines = lines.set_index(["method", "group"])
    for row, scores in expected.items():
        known = {key: value for key, value in scores.items() if key[1] is not None}
        for key, value in known.items():
            found = leaves_of(results)[row][key] if isinstance(key, str) else lines.loc[(row, key[1]), key[0]]
            assert found == pytest.approx(value, abs=1e-6), (row, key)
        assert {key[1] for key in known if isinstance(key, tuple)} == set(lines.loc[row].index)


@pytest.mark.parametrize(
    ("fit", "frame", "threshold", "readout", "kap_labels", "candidates"),
    [  # each value of a column with each of any other but the last three, which go together
        ("padded", "original", "box", "argmax", "corner", "all"),
        ("stretched", "input", "image", "argmax", "corner", "all"),
        ("stretched", "original", "image", "window", "centre", "inside"),
        ("padded", "input", "box", "window", "centre", "inside"),
        ("stretched", "input", "box", "kernel", "centre", "all"),
        ("padded", "original", "image", "kernel", "centre", "all"),
    ],
)
def test_each_protocol_equals_plain_loops(fit, frame, threshold, readout, kap_labels, candidates) -> None:
    params = replace(PARAMS, frame=frame, threshold=threshold, readout=readout, kap_labels=kap_labels)
    params = replace(params, candidates=candidates)
    for seed in range(2):
        cache, tables, head = exact_world(seed, fit == "stretched")
        results = scored(cache, tables, head, params)
        assert_equal(results, slow_scores(cache, tables, head, params))


def test_the_fixture_has_ties_and_points_on_the_circle() -> None:
    cache, tables, head = exact_world(0, stretched=False)
    errors = scored(cache, tables, head).predictions["error"]
    assert (errors == 0.25).any()
    similarity = cache.data[0].astype(np.float64) @ cache.data[1].astype(np.float64).T
    assert ((similarity == similarity.max(axis=1, keepdims=True)).sum(axis=1) > 1).mean() > 0.5


@pytest.mark.parametrize("readout", ["argmax", "window", "kernel"])
@pytest.mark.parametrize("seed", range(3))
def test_bilinear_sources_equal_plain_loops(seed: int, readout: str) -> None:
    cache, tables, head = make_world(seed, images=3, grid=(4, 5))
    params = replace(PARAMS, source="bilinear", readout=readout)
    results = scored(cache, tables, head, params)
    assert_equal(results, slow_scores(cache, tables, head, params))


@pytest.mark.parametrize(
    "change",
    [
        *({"readout": "window"}, {"readout": "kernel"}, {"frame": "input"}, {"threshold": "image"}),
        *({"kap_labels": "corner"}, {"candidates": "inside"}, {"source": "bilinear"}),
    ],
)
def test_each_setting_makes_a_difference(change: dict[str, str]) -> None:
    world = exact_world(1, stretched="candidates" not in change)
    usual, other = (scored(*world, params) for params in (PARAMS, replace(PARAMS, **change)))
    assert leaves_of(usual)["fused"] != leaves_of(other)["fused"]


def test_padding_makes_frames_equal() -> None:
    world = make_world(0)
    original, in_input = (
        leaves_of(scored(*world, replace(PARAMS, frame=frame))) for frame in ("original", "input")
    )
    for row in ROWS:
        assert in_input[row] == pytest.approx(original[row], abs=1e-6)


# --- parts


def test_bilinear_shares_by_hand() -> None:
    box, grid = np.array([0.0, 0, 40, 20]), (2, 4)  # patches of 10 x 10, centres at 5, 15, ...
    xy = np.array([[15.0, 5], [17.5, 5], [10, 10], [0, 0], [40, 20], [20, 30]])
    patches, shares = sample_patches(xy, box, grid, "bilinear")
    found = [
        {p: s for p, s in zip(own, share, strict=True) if s > 0}
        for own, share in zip(patches.tolist(), shares.tolist(), strict=True)
    ]
    assert found == [
        {1: 1.0},
        {1: 0.75, 2: 0.25},
        {0: 0.25, 1: 0.25, 4: 0.25, 5: 0.25},
        {0: 1.0},
        {7: 1.0},
        {5: 0.5, 6: 0.5},  # beyond the last row of centres
    ]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    patches, shares = sample_patches(xy[:1], np.array([0.0, 0, 20, 20]), (1, 1), "bilinear")
    assert (patches.tolist(), shares.sum()) == ([[0, 0, 0, 0]], 1)  # a single patch takes all


def test_window_stops_at_the_border() -> None:
    similarity = torch.zeros(1, 12)
    similarity[0, 3] = 1.0  # upper right corner of 3 x 4
    found = Readout("window", 3, 1e6)(similarity, torch.tensor([3]), (3, 4))
    np.testing.assert_allclose(found, [[0.5, 2.5]], atol=1e-5)  # the mean of four patches


def test_a_cold_window_is_the_argmax_and_ties_are_averaged() -> None:
    similarity = torch.tensor([[0.0, 1.0, 0.9, 0.0], [0.0, 1.0, 1.0, 0.0]])
    best = similarity.argmax(dim=1)
    found = Readout("window", 3, 1e-3)(similarity, best, (1, 4))
    np.testing.assert_allclose(found, [[0, 1], [0, 1.5]], atol=1e-9)
    assert Readout("argmax")(similarity, best, (1, 4)).tolist() == [[0, 1], [0, 1]]


def test_a_kernel_by_hand() -> None:
    similarity = torch.tensor([[0.0, 1.0, 0.0, 0.5]])
    found = Readout("kernel", temperature=0.5, sigma=1.0)(similarity, torch.tensor([1]), (1, 4))
    weights = np.exp(np.array([0.0, 1.0, 0.0, 0.5 * math.exp(-2)]) / 0.5)
    np.testing.assert_allclose(found, [[0, (weights * range(4)).sum() / weights.sum()]], atol=1e-12)
    cold = Readout("kernel", temperature=1e-3, sigma=1e9)(similarity, torch.tensor([1]), (1, 4))
    np.testing.assert_allclose(cold, [[0, 1]], atol=1e-9)
    barred = torch.tensor([[1.0] + [0.0] * 30 + [-torch.inf] * 30])  # so far away that the Gaussian is 0
    found = Readout("kernel", temperature=0.01, sigma=0.5)(barred, torch.tensor([0]), (1, 61))
    np.testing.assert_allclose(found, [[0, 0]], atol=1e-9)


def test_the_best_patch_is_the_first_of_equals() -> None:
    similarity = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (50, 333)).astype(np.float32))
    similarity[0] = -1
    expected = [row.index(max(row)) for row in similarity.tolist()]
    assert best_patch(similarity).tolist() == expected


def test_whole_positions_are_the_patch_centres() -> None:
    grid, box = (3, 4), np.array([-1.5, 2, 40, 33])
    position = np.array([[r, c] for r in range(3) for c in range(4)], dtype=np.float64)
    np.testing.assert_array_equal(place(position, box, grid), patch_centres(box, grid))


def test_the_protocol_is_written_down() -> None:
    cache, tables, head = make_world(0)
    params = replace(PARAMS, readout="window", source="bilinear", threshold="image", kap_labels="corner")
    found = scored(cache, tables, head, params).facts["protocol"]
    assert found == (
        "read-out window 3×3, temperature 0.1; candidates all; source bilinear; thresholds of the image; "
        "original pixels; KAP at patch corners"
    )
    assert "temperature" not in PARAMS.protocol


# --- sweep of the mixing weight


def test_the_sweep_scores_validation_at_each_weight() -> None:
    cache, tables, head = make_world(0)
    moved = replace(tables, pairs=tables.pairs.assign(split=np.where(tables.pairs.index % 2, "val", "test")))
    params = replace(PARAMS, sweep=Sweep("fused", "sphere_weight", (1.0, 0.0, 0.3)))
    found = scored(cache, moved, head, params).weight_sweep
    assert found["sphere_weight"].tolist() == [0, 0.3, 1]
    on_val = world.scored(cache, moved, head, replace(params, split="val"), sphere_weight=0.3)
    for line, row in zip(found.to_dict("records"), ("features", "fused", "sphere"), strict=True):
        assert line["n_points"] == on_val.facts["n_points"]
        expected = {key: value for key, value in leaves_of(on_val)[row].items() if "_gain" not in key}
        assert {key: line[key] for key in expected} == pytest.approx(expected, abs=1e-6)


def test_the_sweep_says_what_each_weight_gains() -> None:
    cache, tables, head = make_world(0)
    moved = replace(tables, pairs=tables.pairs.assign(split="val"))
    sweep = Sweep("fused", "sphere_weight", (0.3, 0.0, 1.0))
    params = replace(PARAMS, split="val", bootstrap=40, sweep=sweep)
    results = world.scored(cache, moved, head, params, sphere_weight=0.3)
    lines = results.weight_sweep.set_index("sphere_weight")
    found = leaves_of(results)
    gains = [name for name in found["fused"] if name.startswith("pck_point@") and "_gain" in name]
    assert len(gains) == 3 * len(ALPHAS)
    for weight, row in ((0.3, "fused"), (1.0, "sphere")):
        # the samples are those of the paired bootstrap in metrics.json
        expected = {name: found[row][name] for name in gains}
        assert lines.loc[weight, gains].to_dict() == pytest.approx(expected, abs=1e-6)
    assert (lines.loc[0.0, gains] == 0).all()
    assert lines[gains].abs().to_numpy().max() > 1
    for other in (replace(params, bootstrap=0), replace(params, sweep=replace(sweep, values=(0.3, 1.0)))):
        assert not [name for name in scored(cache, moved, head, other).weight_sweep if "_gain" in name]


def test_a_sweep_may_be_of_whole_numbers() -> None:
    cache, tables, head = make_world(0)
    moved = replace(tables, pairs=tables.pairs.assign(split="val"))
    params = replace(PARAMS, split="val", sweep=Sweep("fused_transport", "iterations", (3.0, 1.0)))
    assert scored(cache, moved, head, params).weight_sweep["iterations"].tolist() == [1, 3]


def test_a_sweep_needs_a_parameter_of_the_method() -> None:
    with pytest.raises(InputError, match=r"evaluate\.sweep\.parameter"):
        scored(*make_world(0), replace(PARAMS, sweep=Sweep("fused", "radius", ())))


def test_nothing_to_sweep_gives_an_empty_table() -> None:
    cache, tables, head = make_world(0)  # no validation pairs
    for weights in ((), (0.2, 0.4)):
        sweep = Sweep("fused", "sphere_weight", weights)
        found = scored(cache, tables, head, replace(PARAMS, sweep=sweep)).weight_sweep
        assert found.empty
        assert list(found.columns[:3]) == ["sphere_weight", "n_points", "pck_point@0.25"]


# --- how pictures become square


def test_images_are_padded_or_stretched(tmp_path) -> None:
    picture = np.zeros((20, 40, 3), dtype=np.uint8)
    picture[:, 20:] = 200
    Image.fromarray(picture).save(tmp_path / "a.png")
    source = Subject("c/a", "c", tmp_path / "a.png", None, 1, (20, 0, 40, 20), (40, 20))
    features = FeaturesSpec("any", 1, False, (0.5, 1.5), (0.75, 1.33), 0, 1, "float32", 1, "pad")
    (padded,), (stretched,) = (
        decode_views(source, replace(features, fit=fit), "images", 16, (4, 4)) for fit in ("pad", "stretch")
    )
    assert padded.box.tolist() == [0, -10, 40, 30]
    assert stretched.box.tolist() == [0, 0, 40, 20]
    assert (padded.pixels[:2] == 0).all()  # the black border
    assert (stretched.pixels[:, 12:] == 200).all()
    assert (stretched.pixels[:, :4] == 0).all()
    assert padded.mask.reshape(4, 4).tolist() == [[0] * 4, [0, 0, 1, 1], [0, 0, 1, 1], [0] * 4]
    assert stretched.mask.reshape(4, 4).tolist() == [[0, 0, 1, 1]] * 4


@pytest.mark.parametrize(("width", "height"), [(40, 21), (48, 48), (1, 30)])
def test_images_keep_their_resolution(tmp_path, width: int, height: int) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(1, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    source = Subject("c/a", "c", tmp_path / "a.png", None, 1, (0, 0, width, height), (width, height))
    features = FeaturesSpec("any", 1, False, (0.5, 1.5), (0.75, 1.33), 0, 1, "float32", 1, "original")
    (view,) = decode_views(source, features, "images", 48, (3, 3))
    assert view.pixels.shape == (48, 48, 3)
    assert (view.box[2:] - view.box[:2]).tolist() == [48, 48]
    left, top = (-view.box[:2]).astype(int).tolist()
    np.testing.assert_array_equal(view.pixels[top : top + height, left : left + width], picture)
    assert np.count_nonzero(view.pixels.any(axis=2)) == width * height  # black all around
    assert abs(48 - width - 2 * left) <= 1
    assert abs(48 - height - 2 * top) <= 1

"""The commands bundle, match and map."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_checks import stored_turned
from PIL import Image
from studio import Studio, run

from spheremap.api.matcher import Matcher, load
from spheremap.api.points import read_points
from spheremap.base.errors import InputError
from spheremap.cli import main

Capture = pytest.CaptureFixture[str]

POINTS = [(30.0, 40.0), (80.5, 20.0)]


def match(studio: Studio, *arguments: object) -> int:
    names = [*studio.photographs[:2], "--model", studio.bundle, "--device", "cpu", *arguments]
    return main(["match", *map(str, names)])


def test_matches_are_printed(studio: Studio, matcher: Matcher, capsys: Capture) -> None:
    found = matcher.match(*studio.photographs[:2], POINTS)
    assert match(studio, "--points", "30,40 80.5,20") == 0
    answer = json.loads(capsys.readouterr().out)
    names = {"source": str(studio.photographs[0]), "target": str(studio.photographs[1])}
    assert answer == names | json.loads(json.dumps(found.to_json()))
    assert answer["target_size"] == [70, 141]
    assert [(p["x"], p["y"]) for p in answer["points"]] == POINTS
    assert [(p["fused"]["x"], p["fused"]["y"]) for p in answer["points"]] == [tuple(xy) for xy in found.xy]

    assert match(studio, "--points", "30,40 80.5,20", "--format", "csv") == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(table.columns) == [
        "method",
        "point",
        "source_x",
        "source_y",
        "x",
        "y",
        "similarity",
        "returns",
    ]
    assert list(table["method"]) == ["features"] * 2 + ["sphere"] * 2 + ["fused"] * 2
    assert list(table["point"]) == [1, 2] * 3
    np.testing.assert_allclose(table[["x", "y"]], np.concatenate(list(found.target_xy.values())))
    similarity = np.concatenate(list(found.similarity.values()))
    np.testing.assert_allclose(table["similarity"], similarity, rtol=1e-6)
    np.testing.assert_allclose(table["returns"], np.concatenate(list(found.returns.values())))


def test_files_on_request(studio: Studio, tmp_path: Path, capsys: Capture) -> None:
    points = tmp_path / "points.csv"
    points.write_text("x,y\n30,40\n80.5,20\n")
    shared = ("--points", points, "--sphere-weight", "1")
    assert match(studio, *shared, "--out", tmp_path / "m.csv", "--picture", tmp_path / "m.png") == 0
    assert match(studio, *shared, "--out", tmp_path / "m.json", "--warp", tmp_path / "w.npz") == 0
    assert match(studio, "--warp", tmp_path / "w.jpg") == 0
    assert match(studio, "--warp", tmp_path / "W.NPZ") == 0
    assert capsys.readouterr().out == ""
    table = pd.read_csv(tmp_path / "m.csv").set_index("method")
    np.testing.assert_array_equal(table.loc["fused", "x"], table.loc["sphere", "x"])
    answer = json.loads((tmp_path / "m.json").read_text())
    assert [p["fused"]["x"] for p in answer["points"]] == list(table.loc["fused", "x"])
    for name in ("w.npz", "W.NPZ"):
        with np.load(tmp_path / name) as warp:
            assert warp["target_xy"].shape == (6, 6, 2)
    for name in ("m.png", "w.jpg"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > picture.height


def test_the_protocol_is_chosen_by_options(studio: Studio, capsys: Capture) -> None:
    protocol = {"fit": "stretch", "source": "bilinear", "readout": "window", "window": 3, "temperature": 0.1}
    options = [part for name, value in protocol.items() for part in (f"--{name}", value)]
    assert match(studio, "--points", "30,40 80.5,20", *options) == 0
    answer = json.loads(capsys.readouterr().out)
    found = load(studio.bundle, device="cpu", **protocol).match(*studio.photographs[:2], POINTS)
    assert answer["points"] == json.loads(json.dumps(found.to_json()["points"]))


def test_map(studio: Studio, matcher: Matcher, tmp_path: Path) -> None:
    model = ("--model", studio.bundle, "--device", "cpu")
    run("map", studio.photographs[0], "--out", tmp_path / "map.png", "--side", 200, *model)
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.size == (200, 150)
        plain = np.asarray(picture)
    expected = matcher.map(studio.photographs[0]).picture(side=200)
    np.testing.assert_array_equal(plain, np.asarray(expected))
    mask = np.zeros((90, 120), dtype=np.uint8)
    mask[:, 60:] = 1
    cut_out = np.dstack([np.full((90, 120, 3), 200, np.uint8), 255 * mask])
    for stored, orientation in (
        (255 * mask, 1), (mask.astype(np.uint16), 1), (cut_out, 1), (255 * mask[:, ::-1], 3),
    ):  # fmt: skip
        stored_turned(tmp_path / "mask.png", orientation, Image.fromarray(stored))
        run("map", studio.photographs[0], "--out", tmp_path / "masked.png", "--side", 200,
            "--mask", tmp_path / "mask.png", *model)  # fmt: skip
        with Image.open(tmp_path / "masked.png") as picture:
            masked = np.asarray(picture)
        np.testing.assert_array_equal(masked[:, 105:], plain[:, 105:])
        assert masked[:, :95].max() <= 77


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" 1.5,2  -3,.5 ", [[1.5, 2], [-3, 0.5]]),
        ("1, 2 3 ,4", [[1, 2], [3, 4]]),
        ("1,2;3,4; 1e2,0", [[1, 2], [3, 4], [100, 0]]),
    ],
)
def test_points_of_a_text(text: str, expected: list) -> None:
    np.testing.assert_array_equal(read_points(text), expected)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "x,y\n1,2\n3.5,4\n"),
        ("a.txt", "\ufeff1, 2\r\n\r\n3.5,4"),
        ("a.json", "[[1, 2], [3.5, 4]]"),
    ],
)
def test_points_of_a_file(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    np.testing.assert_array_equal(read_points(str(tmp_path / name)), [[1, 2], [3.5, 4]])


@pytest.mark.parametrize(
    "text", ["", "1", "1,2 3", "1,2,3", "a,b", "nan,1", "inf,1", "1,2\0", "x" * 9000, "1,2 3.e"]
)
def test_bad_points(text: str) -> None:
    with pytest.raises(InputError, match="point"):
        read_points(text)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("nowhere.csv", None), ("my points.csv", None), ("no/where", None), ("1,2.json", None), (".", None),
        ("a.csv", "x,y\n"), ("a.csv", "1,2\n3\n"), ("a.json", "[1, 2]"), ("a.json", '[["a", 1]]'),
        ("a.json", "{"), ("a.json", "[[1, 2], [3]]"), ("a.csv", b"\xff\xfe\x00"),
    ],
)  # fmt: skip
def test_bad_point_files_are_named(tmp_path: Path, name: str, content: str | bytes | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=re.escape(f"in: {path}")):
        read_points(str(path))


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that are no photographs."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "text.jpg").write_text("hello")
    (folder / "folder").mkdir()
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.effect_noise((64, 64), 50).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:-900])
    # 20,000 × 20,000 in the header alone: nothing needs to be decoded to refuse it
    jpeg = bytearray((folder / "whole.jpg").read_bytes())
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = (20000).to_bytes(2, "big") * 2
    (folder / "huge.jpg").write_bytes(jpeg)
    return folder


def told(capsys: Capture, *arguments: object) -> str:
    """The message of a command that must fail."""
    assert main([str(argument) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"spheremap {arguments[0]}: ")
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *(
            ("match", name)
            for name in ("text.jpg", "folder", "dot.png", "cut.jpg", "huge.jpg", "nowhere.jpg")
        ),
        *((command, "cut.jpg") for command in ("map", "explore")),
    ],
)
def test_bad_photographs_are_named(
    studio: Studio, bad: Path, capsys: Capture, tmp_path: Path, command: str, name: str
) -> None:
    options = {
        "match": [bad / name, studio.photographs[0], "--points", "1,2", "--picture", tmp_path / "p.png"],
        "map": [bad / name, "--out", tmp_path / "p.png"],
        "explore": [studio.photographs[0], bad / name, "--no-browser"],
    }
    model = ("--model", studio.bundle, "--device", "cpu")
    assert str(bad / name) in told(capsys, command, *options[command], *model)
    assert not (tmp_path / "p.png").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--points", "1,2 999,1"], "point 2"),
        (["--points", "1,2", "--sphere-weight", "2"], "found 2.0"),
        (["--points", "1,2", "--device", "gpu"], "--device"),
        (["--points", "1,2", "--device", "mps"], "Apple"),
        (["--points", "1,2", "--size", "97"], "97"),
        (["--points", "1,2", "--window", "4"], "found 4"),
        (["--points", "1,2", "--fit", "original"], "0.png"),
        (["--points", "1,2", "--picture", "p.nonsense"], "p.nonsense"),
        (["--warp", "p"], "in: p"),
        (["--warp", "p.xbm"], "p.xbm"),
        (["--points", "1,2", "--out", "p"], "in: p"),
        (["--points", "1,2", "--out", "p.jpg"], "p.jpg"),
        (["--points", "1,2", "--picture", "p.png", "--warp", "./p.png"], "--warp would overwrite"),
        (["--points", "1,2", "--out", "/proc/p.json"], "/proc/p.json"),
        (["--points", "1,2", "--model", "nowhere"], "nowhere"),
        (["--points", "1,2", "--weights", "nowhere"], "nowhere"),
        ([], "--points"),
        (["--warp", "p.png", "--out", "p.json"], "--points"),
    ],
)
def test_bad_options_are_named(
    studio: Studio, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], named: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shared = ("match", *studio.photographs[:2], "--model", studio.bundle, "--device", "cpu")
    assert named in told(capsys, *shared, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--out", "--picture", "--warp"])
def test_outputs_do_not_overwrite_inputs(
    studio: Studio, tmp_path: Path, capsys: Capture, option: str
) -> None:
    points = tmp_path / "points.csv"
    points.write_text("30,40\n")
    inputs = [*studio.photographs[:2], studio.bundle, points]
    before = [path.read_bytes() for path in inputs]
    shared = ("match", *inputs[:2], "--model", studio.bundle, "--points", points, "--format", "json")
    for path in inputs if option == "--out" else inputs[:2]:
        error = told(capsys, *shared, option, path)
        assert f"{option} would overwrite" in error
        assert f"in: {path}" in error
    assert [path.read_bytes() for path in inputs] == before


def test_other_commands_do_not_overwrite_their_inputs(
    studio: Studio, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spheremap.api.arguments.load_model", lambda _: pytest.fail("worked"))
    photograph, params = studio.photographs[0], studio.params
    before = {path: path.read_bytes() for path in (photograph, params, studio.head, studio.weights)}
    for command, out in (
        (["map", photograph, "--model", studio.bundle], photograph),
        (["bundle", "--params", params], studio.head),
        (["bundle", "--params", params], studio.weights),
        (["bundle", "--params", params], params),
        (["export-onnx", "--head", studio.head], studio.head),
    ):
        error = told(capsys, *command, "--out", out)
        assert "--out would overwrite" in error
        assert f"in: {out}" in error
    assert "p.nonsense" in told(capsys, "map", photograph, "--model", studio.bundle, "--out", "p.nonsense")
    assert {path: path.read_bytes() for path in before} == before


def test_outputs_in_the_place_of_folders(studio: Studio, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").write_text("mine")
    shared = ("match", *studio.photographs[:2], "--model", studio.bundle, "--points", "30,40")
    for option, name in (("--out", "folder.json"), ("--out", "file/m.json"), ("--picture", "file/m.png")):
        assert f"in: {tmp_path / name}" in told(capsys, *shared, option, tmp_path / name)
    assert f"in: {tmp_path}\n" in told(capsys, "bundle", "--params", studio.params, "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.json"]
    assert (tmp_path / "file").read_text() == "mine"


def test_bad_models_are_named(studio: Studio, capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    (tmp_path / "cut").write_bytes(studio.bundle.read_bytes()[:1000])
    shared = ("match", *studio.photographs[:2], "--points", "1,2", "--device", "cpu")
    for path, message in {
        tmp_path / "text": "cannot be read",
        tmp_path / "cut": "cannot be read",
        tmp_path: "cannot be read",
        studio.head: "not a bundle",
        studio.weights: "not a bundle",
    }.items():
        error = told(capsys, *shared, "--model", path)
        assert message in error
        assert f"in: {path}\n" in error
        assert "to do: name a file that `spheremap bundle` wrote" in error


def test_bundle_of_what_is_no_trained_project(studio: Studio, tmp_path: Path, capsys: Capture) -> None:
    params, head = tmp_path / "params.yaml", "models/own/head.safetensors"
    untrained = studio.params.read_text()
    for content, named in ((None, params), ("a: [", params), ("dataset: a", "features"), (untrained, head)):
        if content is not None:
            params.write_text(content)
        assert str(named) in told(capsys, "bundle", "--out", tmp_path / "b", "--params", params)
        assert not (tmp_path / "b").exists()

"""The commands bundle, match and map."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file
from studio import Studio, make_studio, run

from spheremap.api import load
from spheremap.api.points import read_points
from spheremap.base.errors import InputError
from spheremap.cli import main

POINTS = [(30.0, 40.0), (80.5, 20.0)]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return make_studio(tmp_path_factory.mktemp("studio"))


def match(studio: Studio, *arguments: object) -> int:
    names = [*studio.photographs[:2], "--model", studio.bundle, "--device", "cpu", *arguments]
    return main(["match", *map(str, names)])


def test_matches_are_printed_as_json(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    assert match(studio, "--points", "30,40 80.5,20") == 0
    answer = json.loads(capsys.readouterr().out)
    found = load(studio.bundle, device="cpu").match(*studio.photographs[:2], POINTS)
    assert answer == {
        "source": str(studio.photographs[0]),
        "target": str(studio.photographs[1]),
        **json.loads(json.dumps(found.to_json())),
    }
    assert answer["target_size"] == [70, 141]
    assert [(p["x"], p["y"]) for p in answer["points"]] == POINTS
    assert [(p["fused"]["x"], p["fused"]["y"]) for p in answer["points"]] == [tuple(xy) for xy in found.xy]


def test_matches_are_printed_as_csv(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    assert match(studio, "--points", "30,40 80.5,20", "--format", "csv") == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(table.columns) == ["row", "point", "source_x", "source_y", "x", "y", "similarity"]
    assert list(table["row"]) == ["features"] * 2 + ["sphere"] * 2 + ["fused"] * 2
    assert list(table["point"]) == [1, 2] * 3
    found = load(studio.bundle, device="cpu").match(*studio.photographs[:2], POINTS)
    np.testing.assert_allclose(table[["x", "y"]], np.concatenate(list(found.target_xy.values())))
    np.testing.assert_allclose(
        table["similarity"], np.concatenate(list(found.similarity.values())), rtol=1e-6
    )


def test_files_on_request(studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = tmp_path / "points.csv"
    points.write_text("x,y\n30,40\n80.5,20\n")
    shared = ("--points", points, "--sphere-weight", "1")
    assert match(studio, *shared, "--out", tmp_path / "m.csv", "--picture", tmp_path / "m.png") == 0
    assert match(studio, *shared, "--out", tmp_path / "m.json", "--warp", tmp_path / "w.npz") == 0
    assert match(studio, "--warp", tmp_path / "w.jpg") == 0
    assert capsys.readouterr().out == ""
    table = pd.read_csv(tmp_path / "m.csv").set_index("row")
    np.testing.assert_array_equal(table.loc["fused", "x"], table.loc["sphere", "x"])
    answer = json.loads((tmp_path / "m.json").read_text())
    assert [p["fused"]["x"] for p in answer["points"]] == list(table.loc["fused", "x"])
    with np.load(tmp_path / "w.npz") as warp:
        assert warp["target_xy"].shape == (6, 6, 2)
    for name in ("m.png", "w.jpg"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > picture.height


def test_the_protocol_is_chosen_by_options(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = {"fit": "stretch", "source": "bilinear", "readout": "window", "window": 3, "temperature": 0.1}
    options = [part for name, value in protocol.items() for part in (f"--{name}", value)]
    assert match(studio, "--points", "30,40 80.5,20", *options) == 0
    answer = json.loads(capsys.readouterr().out)
    found = load(studio.bundle, device="cpu", **protocol).match(*studio.photographs[:2], POINTS)
    assert answer["points"] == json.loads(json.dumps(found.to_json()["points"]))
    assert match(studio, "--points", "30,40", "--window", "4") == 1
    assert "window: " in capsys.readouterr().err
    assert match(studio, "--points", "30,40", "--fit", "original") == 1
    assert "larger than the network's input" in capsys.readouterr().err.splitlines()[0]


def test_map(studio: Studio, tmp_path: Path) -> None:
    model = ("--model", studio.bundle, "--device", "cpu")
    run("map", studio.photographs[0], "--out", tmp_path / "map.png", "--side", 200, *model)
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.size == (200, 150)
        plain = np.asarray(picture)
    expected = load(studio.bundle, device="cpu").map(studio.photographs[0]).picture(side=200)
    np.testing.assert_array_equal(plain, np.asarray(expected))
    mask = np.zeros((90, 120), dtype=np.uint8)
    mask[:, 60:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    run("map", studio.photographs[0], "--out", tmp_path / "masked.png", "--side", 200,
        "--mask", tmp_path / "mask.png", *model)  # fmt: skip
    with Image.open(tmp_path / "masked.png") as picture:
        masked = np.asarray(picture)
    np.testing.assert_array_equal(masked[:, 105:], plain[:, 105:])
    assert masked[:, :95].max() <= 77


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2", [[1, 2]]),
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
    with pytest.raises(InputError, match=r"not a point|no points|no such file"):
        read_points(text)


def test_points_of_a_file_that_is_none(tmp_path: Path) -> None:
    for text in ("nowhere.csv", "my points.csv", "no/where", str(tmp_path / "1,2.json")):
        with pytest.raises(InputError, match=r"(?s)no such file of points.*in: " + text):
            read_points(text)
    with pytest.raises(InputError, match=r"(?s)cannot read the points.*found: Is a directory"):
        read_points(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "x,y\n"), ("a.csv", "1,2\n3\n"), ("a.json", "[1, 2]"), ("a.json", '[["a", 1]]'),
     ("a.json", "{"), ("a.json", "[[1, 2], [3]]"), ("a.csv", b"\xff\xfe\x00")],
)  # fmt: skip
def test_bad_point_files_are_named(tmp_path: Path, name: str, content: str | bytes) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=name):
        read_points(str(tmp_path / name))


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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text.jpg", "not an image"),
        ("folder", "cannot read the photograph"),
        ("dot.png", "too small"),
        ("cut.jpg", "cannot read the photograph"),
        ("huge.jpg", "too large"),
        ("nowhere.jpg", "does not exist"),
    ],
)
@pytest.mark.parametrize("command", ["match", "map"])
def test_bad_photographs_give_one_message(
    studio: Studio, bad: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    command: str, name: str, message: str,
) -> None:  # fmt: skip
    options = {
        "match": [bad / name, studio.photographs[0], "--points", "1,2", "--picture", tmp_path / "p.png"],
        "map": [bad / name, "--out", tmp_path / "p.png"],
    }
    arguments = [command, *options[command], "--model", studio.bundle, "--device", "cpu"]
    assert main([str(argument) for argument in arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"spheremap {command}: ")
    assert message in printed.err.splitlines()[0]
    assert str(bad / name) in printed.err
    assert "Traceback" not in printed.err
    assert not (tmp_path / "p.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--points", "1,2 999,1"], "point 2 lies outside"),
        (["--points", "1,2", "--sphere-weight", "2"], "bad mixing weight"),
        (["--points", "1,2", "--device", "nonsense"], "device 'nonsense'"),
        (["--points", "1,2", "--size", "97"], "does not fit patches"),
        (["--points", "1,2", "--picture", "p.nonsense"], "kind of picture"),
        (["--warp", "p"], "kind of picture"),
        (["--warp", "p.xbm"], "kind of picture"),
        (["--points", "1,2", "--out", "p"], "format of the matches is unknown"),
        (["--points", "1,2", "--out", "p.jpg"], "format of the matches is unknown"),
        (["--points", "1,2", "--picture", "p.png", "--warp", "./p.png"], "--warp would overwrite"),
        (["--points", "1,2", "--out", "/proc/p.json"], "cannot write to this path"),
        ([], "no points"),
        (["--warp", "p.png", "--out", "p.json"], "no points"),
    ],
)
def test_bad_options_give_one_message(
    studio: Studio, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert match(studio, *arguments) == 1
    assert message in capsys.readouterr().err.splitlines()[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--out", "--picture", "--warp"])
def test_outputs_do_not_overwrite_inputs(
    studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    points = tmp_path / "points.csv"
    points.write_text("30,40\n")
    inputs = [*studio.photographs[:2], studio.bundle, points]
    before = [path.read_bytes() for path in inputs]
    shared = ("--points", points, "--format", "json")
    for path in inputs if option == "--out" else studio.photographs[:2]:
        assert match(studio, *shared, option, path) == 1
        error = capsys.readouterr().err
        assert f"{option} would overwrite" in error.splitlines()[0]
        assert f"in: {path}" in error
    assert [path.read_bytes() for path in inputs] == before


def test_other_commands_do_not_overwrite_their_inputs(
    studio: Studio, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spheremap.api.arguments.load_model", lambda _: pytest.fail("worked"))
    photograph, params = studio.photographs[0], studio.params
    before = {path: path.read_bytes() for path in (photograph, params, studio.head, studio.weights)}
    for arguments, message in (
        (["map", photograph, "--model", studio.bundle, "--out", photograph], "--out would overwrite"),
        (["map", photograph, "--model", studio.bundle, "--out", "p.nonsense"], "kind of picture"),
        (["bundle", "--params", params, "--out", studio.head], "--out would overwrite"),
        (["bundle", "--params", params, "--out", studio.weights], "--out would overwrite"),
        (["bundle", "--params", params, "--out", params], "--out would overwrite"),
        (["export-onnx", "--head", studio.head, "--out", studio.head], "--out would overwrite"),
    ):
        assert main([str(argument) for argument in arguments]) == 1
        assert message in capsys.readouterr().err.splitlines()[0]
    assert {path: path.read_bytes() for path in before} == before


def test_outputs_in_the_place_of_folders(
    studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.json").mkdir()
    for option, name in (("--out", "folder.json"), ("--out", "file/m.json"), ("--picture", "file/m.png")):
        (tmp_path / "file").write_text("mine")
        assert match(studio, "--points", "30,40", option, tmp_path / name) == 1
        error = capsys.readouterr().err
        assert "cannot write to this path" in error.splitlines()[0]
        assert f"in: {tmp_path / name}" in error
    assert main(["bundle", "--params", str(studio.params), "--out", str(tmp_path)]) == 1
    assert f"in: {tmp_path}\n" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.json"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_warp_whose_ending_is_in_capitals(studio: Studio, tmp_path: Path) -> None:
    assert match(studio, "--warp", tmp_path / "w.NPZ") == 0
    with np.load(tmp_path / "w.NPZ") as warp:
        assert warp["target_xy"].shape == (6, 6, 2)


@pytest.mark.parametrize(
    ("model", "message"), [("nowhere", "does not exist"), ("head", "not a bundle"), ("cut", "cannot be read")]
)
def test_bad_models_give_one_message(
    studio: Studio, capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, message: str
) -> None:
    (tmp_path / "cut").write_bytes(studio.bundle.read_bytes()[:1000])
    path = studio.head if model == "head" else tmp_path / model
    assert match(studio, "--points", "1,2", "--model", path) == 1
    assert message in capsys.readouterr().err.splitlines()[0]


def test_a_folder_as_model(studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert match(studio, "--points", "1,2", "--model", tmp_path) == 1
    error = capsys.readouterr().err
    assert f"in: {tmp_path}\n" in error
    assert "found: a folder" in error
    assert "to do: name a file that `spheremap bundle` wrote" in error


def test_an_unknown_device_is_corrected_where_it_was_named(
    studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    assert match(studio, "--points", "1,2", "--device", "gpu") == 1
    assert "to do: correct --device" in capsys.readouterr().err


def test_weights_of_another_backbone_give_one_message(
    studio: Studio, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"patch_embed.proj.bias": np.zeros(384, dtype=np.float32)}, other)
    for path, message in ((other, "not the weights of the backbone"), (tmp_path / "nowhere", "do not exist")):
        assert match(studio, "--points", "1,2", "--weights", path) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert message in printed.err.splitlines()[0]
        assert str(path) in printed.err
    # a head trained on features of other weights cannot be bundled with these
    arguments = ["bundle", "--out", tmp_path / "b", "--params", studio.params, "--weights", other]
    assert main([str(argument) for argument in arguments]) == 1
    assert "trained on other features" in capsys.readouterr().err.splitlines()[0]
    assert not (tmp_path / "b").exists()


def test_bundle_of_a_project_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for content, message in (
        (None, "cannot read the parameters"),
        ("a: [", "not a YAML file"),
        ("dataset: a", "features: missing"),
    ):
        if content is not None:
            (tmp_path / "params.yaml").write_text(content)
        assert main(["bundle", "--out", "b"]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_bundle_of_an_untrained_project(
    studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").write_text(studio.params.read_text())
    assert main(["bundle", "--out", str(tmp_path / "b"), "--params", str(tmp_path / "params.yaml")]) == 1
    assert str(Path("models") / "own" / "head.safetensors") in capsys.readouterr().err

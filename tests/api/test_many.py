"""Many pairs at once, other forms of photographs, matches inside the photograph, and what notebooks show."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from studio import Studio, run

from spheremap.api.matcher import Matcher, load
from spheremap.api.pairs import pairs_with, read_pairs
from spheremap.base.errors import InputError
from spheremap.cli import main
from spheremap.data.images import load_photograph
from spheremap.features.geometry import patch_centres, patches_of_picture, square_box


def model(studio: Studio) -> tuple[object, ...]:
    return ("--model", studio.bundle, "--device", "cpu")


def test_a_folder(studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("match", studio.photographs[0], studio.folder, "--points", "30,40 80,20", *model(studio),
        "--format", "csv", "--picture", tmp_path / "drawn")  # fmt: skip
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(dict.fromkeys(table["target"])) == [str(path) for path in studio.photographs[1:]]
    assert set(table["source"]) == {str(studio.photographs[0])}
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        "001-0-1.png", "002-0-2.png", "003-0-3.png",
    ]  # fmt: skip
    matcher = load(studio.bundle, device="cpu")
    found = [matcher.match(studio.photographs[0], b, [(30, 40), (80, 20)]).xy for b in studio.photographs[1:]]
    np.testing.assert_allclose(table[table["method"] == "fused"][["x", "y"]], np.concatenate(found))


def test_what_cannot_be_read_is_said_and_the_rest_is_matched(
    studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("a.png", "z.png"):
        (folder / name).write_bytes(studio.photographs[1].read_bytes())
    (folder / "cut.png").write_bytes(studio.photographs[1].read_bytes()[:-500])
    (folder / "._a.png").write_text("hidden")
    asked = ["match", studio.photographs[0], folder, "--points", "30,40", *model(studio)]
    assert main([str(word) for word in (*asked, "--out", tmp_path / "m.csv")]) == 1
    assert list(pd.read_csv(tmp_path / "m.csv")["target"].unique()) == [
        str(folder / "a.png"), str(folder / "z.png"),
    ]  # fmt: skip
    said = capsys.readouterr().err
    assert said.count(str(folder / "cut.png")) == 2  # the pair, and the file that cannot be read
    assert "._a.png" not in said
    assert "found: 2" in said
    before = sorted(folder.iterdir())
    assert main([str(word) for word in (*asked, "--picture", folder)]) == 1
    assert f"in: {folder}" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


def test_a_table_of_pairs(studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (path.name for path in studio.photographs[:2])
    (studio.folder / "points.csv").write_text(
        f"source,target,x,y\n{a},{b},30,40\n{a},{b},80,20\n{b},{a},5,6\n"
    )
    run("match", "--pairs", studio.folder / "points.csv", *model(studio))
    answers = json.loads(capsys.readouterr().out)
    assert [len(answer["points"]) for answer in answers] == [2, 1]
    (studio.folder / "pairs.csv").write_text(f"source,target\n{a},{b}\n")
    run("match", "--pairs", studio.folder / "pairs.csv", *model(studio), "--points", "30,40 80,20")
    assert json.loads(capsys.readouterr().out) == answers[:1]


@pytest.mark.parametrize("text", ["", "source,target\n", "a,b\n1,2\n", "source,target\na\n",
                                  "source,target,x,y\na,b,1,z\n"])  # fmt: skip
def test_bad_tables_of_pairs_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match="pair") as caught:
        read_pairs(tmp_path / "p.csv")
    assert str(tmp_path / "p.csv") in str(caught.value)
    with pytest.raises(InputError, match="no photographs"):
        pairs_with(Path("a.png"), tmp_path)


# --- forms of photographs


def test_an_image_of_pillow_is_read_as_its_file(studio: Studio, matcher: Matcher, tmp_path: Path) -> None:
    path = tmp_path / "turned.png"
    with Image.open(studio.photographs[0]) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.convert("RGBA").save(path, exif=exif)
    with Image.open(path) as image:
        found, expected = matcher.describe(image), matcher.describe(path)
    assert found.photograph.size == expected.photograph.size == (90, 120)
    np.testing.assert_array_equal(found.points, expected.points)
    (tmp_path / "cut.png").write_bytes(path.read_bytes()[:-500])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(InputError, match="cannot read"):
        matcher.describe(cut)


def test_heic_has_a_hint_or_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match="pip install pillow-heif"):
        load_photograph(path)
    # as if it were installed: what it registers is asked
    decoded = Image.new("RGB", (20, 30), "red")
    stand_in = SimpleNamespace(
        register_heif_opener=lambda: Image.register_open(
            "HEIF", lambda file, name: decoded.copy(), lambda start: start[4:12] == b"ftypheic"
        )
    )
    monkeypatch.setitem(sys.modules, "pillow_heif", stand_in)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    assert load_photograph(path).size == (20, 30)


# --- matches inside the photograph


@pytest.mark.parametrize("readout", ["argmax", "window"])
def test_matches_lie_in_the_photograph(studio: Studio, readout: str) -> None:
    """As the evaluation has it, some lie beyond the narrow photograph; not so by default."""
    matcher = load(studio.bundle, device="cpu", readout=readout, window=5)
    source = matcher.describe(studio.photographs[0])
    target = matcher.describe(studio.photographs[3])  # so narrow that no patch has its centre in it
    width, height = target.photograph.size
    inside = source.centres[patches_of_picture(source.box, source.grid, source.photograph.size)]
    beyond = matcher.match(source, target, inside, padding=True)
    found = matcher.match(source, target, inside)
    for method, xy in found.target_xy.items():
        assert ((xy >= 0) & (xy <= (width, height))).all()
        assert (found.similarity[method] <= beyond.similarity[method]).all()
    assert any(((xy < 0) | (xy > (width, height))).any() for xy in beyond.target_xy.values())
    warp = matcher.warp(source, target)
    assert ((warp.target_xy >= 0) & (warp.target_xy <= (width, height))).all()


def test_without_padding_nothing_changes(studio: Studio) -> None:
    matcher = load(studio.bundle, device="cpu", fit="stretch")
    pair = (*studio.photographs[:2], [(30, 40), (80, 20)])
    np.testing.assert_array_equal(matcher.match(*pair).xy, matcher.match(*pair, padding=True).xy)


@pytest.mark.parametrize("size", [(100, 50), (50, 100), (64, 64)])
def test_patches_of_a_picture_are_those_inside(size: tuple[int, int]) -> None:
    box = square_box(*size)
    centres = patch_centres(box, (8, 8))
    inside = np.all((centres >= 0) & (centres <= size), axis=1)
    np.testing.assert_array_equal(patches_of_picture(box, (8, 8), size), inside)


def test_a_picture_narrower_than_a_patch_has_its_nearest_patches() -> None:
    # 4 × 4 patches of 50 px; the picture is 10 px high about y = 100, where two rows meet
    found = patches_of_picture(square_box(200, 10), (4, 4), (200, 10)).reshape(4, 4)
    np.testing.assert_array_equal(found.any(axis=1), [False, True, True, False])


# --- in a notebook


def test_answers_are_short_and_shown_as_pictures(studio: Studio, matcher: Matcher) -> None:
    a, b = (matcher.describe(path) for path in studio.photographs[:2])
    matches, warp, sphere = matcher.match(a, b, [(30, 40)]), matcher.warp(a, b), matcher.map(a)
    assert repr(a.photograph) == "<Photograph 120×90>"
    assert repr(a) == "<Description of <Photograph 120×90> by 6×6 patches>"
    assert repr(matches) == "<Matches of 1 points, <Photograph 120×90> to <Photograph 70×141>>"
    assert repr(sphere) == "<SphereMap of 6×6 patches, <Photograph 120×90>>"
    assert repr(matcher).startswith("<Matcher of 2 categories, vit_small_patch16_224 at 96 px, sphere weight")
    assert repr(warp).startswith("<Warp of ")
    for answer in (matches, warp, sphere):
        with Image.open(io.BytesIO(answer._repr_png_())) as shown:
            np.testing.assert_array_equal(np.asarray(shown), np.asarray(answer.picture()))

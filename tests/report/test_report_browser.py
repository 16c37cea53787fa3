"""The report page in a browser: quiet, offline, and an explorer that answers to mouse and keyboard."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import chromium
from PIL import Image
from test_report import EVALUATE, GRID, KEYS, REPORT, ROWS, SLICE, Project, data_of, unpacked

from spheremap.config import Report as ReportParams
from spheremap.config import ReportSlice
from spheremap.features.geometry import patch_centres, patch_of
from spheremap.metrics.score_table import leaves, read_scores

# through a copy: reading a canvas of the page itself several times makes the browser complain
READ_CANVAS = """(row) => {
  const canvas = document.querySelector(`figure[data-method=${row}] canvas`);
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return [...copy.getImageData(0, 0, width, height).data];
}"""
METHODS = (*ROWS, "fused_subpatch", "fused_mutual", "fused_kernel", "chance")
SHOWN = METHODS[:5]  # at first
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as instance:
        yield instance


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    params = replace(EVALUATE, methods=METHODS, bootstrap=40)
    project = Project(tmp_path_factory.mktemp("browser"), azimuths=[0.0, 90.0, 180.0], params=params)
    report = ReportParams(**REPORT | {"explorer_mb": 1.0})  # all directions of the features
    project.build(project.folder / "report.html", ReportSlice("toy", report, params, SLICE.methods))
    return project.folder / "report.html"


@pytest.fixture(scope="module")
def data(path: Path) -> dict[str, Any]:
    return data_of(path.read_text(encoding="utf-8"))


class Watched:
    """A page that remembers what it said and what it asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": DESKTOP, **options})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            self.page.locator("#explorer-app").wait_for()
        self.address = path.as_uri()

    def assert_quiet(self) -> None:
        assert self.said == []
        assert [url for url in self.asked if not url.startswith("data:")] == [self.address]

    def match(self, row: str) -> list[float]:
        """Where the cross of a row stands, as the page says, in original pixels of the target."""
        return [float(v) for v in self.page.get_attribute(f"figure[data-method={row}]", "data-match").split()]

    def cross(self, row: str, picture: dict[str, Any]) -> np.ndarray:
        """Where the cross of a row is drawn, in original pixels of the target."""
        stage = self.page.locator(f"figure[data-method={row}] .stage").bounding_box()
        cross = self.page.locator(f"figure[data-method={row}] .match.line").bounding_box()
        middle = np.array([cross["x"] + cross["width"] / 2, cross["y"] + cross["height"] / 2])
        share = (middle - [stage["x"], stage["y"]]) / [stage["width"], stage["height"]]
        return share * [picture["width"], picture["height"]]

    def click(self, xy: list[float], picture: dict[str, Any]) -> None:
        """Click a place of the source, in original pixels."""
        stage = self.page.locator("[data-role=source] .stage")
        box = stage.bounding_box()
        stage.click(
            position={
                "x": xy[0] / picture["width"] * box["width"],
                "y": xy[1] / picture["height"] * box["height"],
            }
        )


@pytest.fixture
def watched(browser: Any, path: Path) -> Iterator[Watched]:
    view = Watched(browser, path)
    yield view
    view.assert_quiet()
    view.context.close()


def answers(pair: dict[str, Any], patch: int) -> dict[str, np.ndarray]:
    """The stored answers to a source patch, as places in the target."""
    centres = patch_centres(np.array(pair["target"]["box"]), GRID)
    best = {row: np.frombuffer(base64.b64decode(pair["best"][row]), dtype="<u2") for row in ROWS}
    return {row: centres[best[row][patch]] for row in ROWS}


def free_patches(pair: dict[str, Any]) -> dict[int, list[float]]:
    """Source patches whose centres lie in the picture and on no keypoint's mark."""
    picture = pair["source"]
    centres = patch_centres(np.array(picture["box"]), GRID)
    marks = np.array([point["source"] for point in pair["keypoints"]])
    distance = np.linalg.norm(centres[:, None] - marks, axis=2).min(axis=1)
    free = (centres >= 1).all(axis=1) & (centres <= np.array([picture["width"], picture["height"]]) - 1).all(
        axis=1
    )
    free &= distance > 0.03 * max(picture["width"], picture["height"])
    return {int(i): centres[i].tolist() for i in np.flatnonzero(free)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_loads_without_a_word_and_fits(
    browser: Any, path: Path, viewport: dict[str, int], scheme: str
) -> None:
    view = Watched(browser, path, viewport=viewport, color_scheme=scheme)
    assert view.page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    red, green, blue = view.page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (red + green + blue > 384) == (scheme == "light")
    assert not view.page.locator("#explorer-absent").is_visible()
    for summary in view.page.locator("summary").all():
        summary.click()
    assert view.page.locator("details:not([open])").count() <= 1  # the first matrices were open
    assert all(
        view.page.evaluate("[...document.images].map((image) => image.complete && image.naturalWidth > 0)")
    )
    view.assert_quiet()
    view.context.close()


def test_the_page_can_ask_for_nothing(watched: Watched) -> None:
    """Even a script that tries gets nowhere: the page's own policy forbids it."""
    refused = watched.page.evaluate("fetch('http://127.0.0.1:9/').then(() => false, () => true)")
    assert refused
    assert any("Content Security Policy" in text for text in watched.said)
    watched.said.clear()  # the rest of the page stays quiet


def test_a_click_moves_the_match(watched: Watched, data: dict[str, Any]) -> None:
    pair = data["pairs"][0]
    patches = list(free_patches(pair).items())
    assert len(patches) >= 4
    seen = set()
    for patch, xy in patches[:: -(-len(patches) // 10)]:
        watched.click(xy, pair["source"])
        for row, expected in answers(pair, patch).items():
            np.testing.assert_allclose(watched.match(row), expected)
            inside = np.clip(expected, 0, [pair["target"]["width"], pair["target"]["height"]])
            np.testing.assert_allclose(watched.cross(row, pair["target"]), inside, atol=0.25)
        seen.add(tuple(watched.match("features")))
        assert watched.page.locator(".truth").count() == 0
        assert watched.page.locator("button[aria-pressed=true]").count() == 0
    assert len(seen) > 1


def test_keypoints_show_what_was_evaluated(watched: Watched, data: dict[str, Any]) -> None:
    for number, pair in enumerate(data["pairs"]):
        watched.page.select_option("#explorer-pair", str(number))
        buttons = watched.page.locator("#explorer-keypoints button")
        assert buttons.all_text_contents() == [point["name"] for point in pair["keypoints"]]
        for i, point in enumerate(pair["keypoints"][:4]):
            buttons.nth(i).click()
            assert buttons.nth(i).get_attribute("aria-pressed") == "true"
            status = watched.page.locator("#explorer-status").text_content()
            assert status.startswith(point["name"])
            for row in ROWS:
                assert watched.match(row) == point["predicted"][row]
                answer = watched.page.locator(f"figure[data-method={row}] [data-role=answer]").text_content()
                assert answer.endswith("right" if point["right"][row] else "wrong")
                assert f"{row} {answer}" in status
                ring = watched.page.locator(f"figure[data-method={row}] .truth.line")
                assert [float(ring.get_attribute(name)) for name in ("cx", "cy")] == point["truth"]


def test_a_click_on_a_keypoint_chooses_it(watched: Watched, data: dict[str, Any]) -> None:
    pair = data["pairs"][0]
    places = np.array([point["source"] for point in pair["keypoints"]])
    apart = np.linalg.norm(places[:, None] - places, axis=2) + 1e9 * np.eye(len(places))
    loneliest = int(apart.min(axis=1).argmax())
    watched.click(next(iter(free_patches(pair).values())), pair["source"])
    watched.click(places[loneliest].tolist(), pair["source"])
    pressed = watched.page.locator("button[aria-pressed=true]")
    assert pressed.all_text_contents() == [pair["keypoints"][loneliest]["name"]]
    assert watched.match("fused") == pair["keypoints"][loneliest]["predicted"]["fused"]


def test_the_keyboard_is_enough(watched: Watched, data: dict[str, Any]) -> None:
    page, pair = watched.page, data["pairs"][0]
    page.locator("#explorer-pair").focus()
    page.keyboard.press("Tab")  # the slider
    page.keyboard.press("Home")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('figure[data-method] canvas')).opacity") == "0"
    )
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Point of the source"
    box, (rows, columns) = np.array(pair["source"]["box"]), GRID
    patch = int(patch_of(np.array([pair["keypoints"][0]["source"]]), box, GRID)[0])
    centres = patch_centres(box, GRID)
    moved = 0
    steps = {"Right": (0, 1), "Down": (1, 0), "Left": (0, -1), "Up": (-1, 0)}
    for key in ("Right", "Down", "Down", "Left", "Left", "Up", "Up", "Up"):
        row, column = patch // columns + steps[key][0], patch % columns + steps[key][1]
        page.keyboard.press(f"Arrow{key}")
        if 0 <= row < rows and 0 <= column < columns:
            xy = centres[row * columns + column]
            if (xy >= 0).all() and (xy <= [pair["source"]["width"], pair["source"]["height"]]).all():
                patch, moved = row * columns + column, moved + 1
        if moved:  # a step off the picture is not taken
            for name, expected in answers(pair, patch).items():
                np.testing.assert_allclose(watched.match(name), expected)
    assert moved >= 3
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the second keypoint
    assert watched.match("sphere") == pair["keypoints"][1]["predicted"]["sphere"]
    page.locator("#explorer-pair").focus()
    page.keyboard.press("ArrowDown")
    assert page.input_value("#explorer-pair") == "1"
    assert watched.match("fused") == data["pairs"][1]["keypoints"][0]["predicted"]["fused"]


def test_the_map_is_brightest_where_similarity_is_highest(watched: Watched, data: dict[str, Any]) -> None:
    pair = data["pairs"][0]
    codes = pair["step"] * unpacked(pair["features"], GRID[0] * GRID[1])
    points = [
        np.frombuffer(base64.b64decode(text), dtype="<i2").reshape(-1, 3) / 32767 for text in pair["points"]
    ]
    for patch, xy in list(free_patches(pair).items())[:3]:
        watched.click(xy, pair["source"])
        for row, (of_features, of_sphere) in data["weights"].items():
            similarity = (
                of_features * codes[0][:, patch] @ codes[1] + of_sphere * points[1] @ points[0][patch]
            )
            pixels = watched.page.evaluate(READ_CANVAS, row)
            strength = np.array(pixels).reshape(-1, 4)[:, 3]
            order = np.argsort(similarity)
            assert strength[order[-1]] == strength.max() == 230
            assert (np.diff(strength[order].astype(int)) >= 0).all()
            shown = watched.page.locator(f"figure[data-method={row}] [data-role=range]").text_content()
            expected = f"{similarity.min():.2f} to {similarity.max():.2f}".replace("-", "−")
            assert shown == f"similarity {expected}"


def test_a_drawn_pair_opens_in_the_explorer(watched: Watched, data: dict[str, Any]) -> None:
    link = watched.page.locator("a[data-explore]").last
    number = link.get_attribute("data-explore")
    assert number != "0"
    link.click()
    assert watched.page.input_value("#explorer-pair") == number
    source = watched.page.locator("[data-role=source] img")
    assert data["pairs"][int(number)]["source"]["id"] in source.get_attribute("alt")


def test_without_scripts_the_rest_of_the_page_stands(browser: Any, path: Path) -> None:
    view = Watched(browser, path, java_script_enabled=False)
    assert not view.page.locator("#explorer-app").is_visible()
    assert not view.page.locator("#methods").is_visible()
    assert view.page.locator("#methods-absent").is_visible()
    assert view.page.locator("#gains tbody tr:visible").count() == len(METHODS)
    assert view.page.locator("#explorer-absent").is_visible()
    assert view.page.locator("#matches img").first.is_visible()
    view.context.close()


def test_sections_are_photographed_for_the_documentation(
    root: Path, browser: Any, path: Path, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, root / "docs/screenshots.py", path, tmp_path], check=True)
    pictures = {file.stem: Image.open(file) for file in tmp_path.iterdir()}
    assert pictures.keys() == {"scores", "explorer"}
    for picture in pictures.values():
        assert picture.width > 1000
        assert len(picture.getcolors(1 << 20) or ()) > 100  # not a blank page


def shown(page: Any, place: str) -> list[str]:
    """The methods whose elements under a place are seen."""
    elements = page.locator(f"{place} [data-method]:visible").all()
    return [element.get_attribute("data-method") for element in elements]


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"]
)
def test_methods_are_ticked_by_keyboard(
    browser: Any, path: Path, viewport: dict[str, int], scheme: str
) -> None:
    view = Watched(browser, path, viewport=viewport, color_scheme=scheme)
    page, places = (
        view.page,
        ("#scores tbody", "#gains tbody", "#viewpoint tbody", "#explorer-answers"),
    )
    for place in (*places, "#viewpoint .legend-entries"):
        assert shown(page, place) == list(SHOWN)
    assert page.locator("#methods summary").text_content() == "Methods shown: 5 of 7; gains over features"
    page.locator("#methods summary").focus()
    page.keyboard.press("Enter")
    charts = page.locator("[data-by-method] img")
    before = [chart.screenshot() for chart in charts.all()]
    for method in METHODS:
        page.keyboard.press("Tab")
        focused = page.evaluate("[document.activeElement.value, document.activeElement.checked]")
        assert focused == [method, method in SHOWN]
        assert page.evaluate("document.activeElement.labels[0].textContent") == method
        if method not in ("sphere", "chance"):
            page.keyboard.press("Space")
    kept = ["sphere", "fused_kernel"]
    for place in places:
        assert shown(page, place) == kept
    assert shown(page, "#explorer [data-role=answers]") == kept
    assert shown(page, "#explorer .stages:not(.answers)") == ["sphere"]  # the map
    after = [chart.screenshot() for chart in charts.all()]
    assert len(after) == 4
    assert all(old != new for old, new in zip(before, after, strict=True))
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # all
    assert shown(page, "#scores tbody") == list(METHODS)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # none
    assert shown(page, "main") == []
    assert page.locator("#methods summary").text_content() == "Methods shown: 0 of 7; gains over features"
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    view.assert_quiet()
    view.context.close()


def test_the_best_of_the_methods_shown_is_marked(watched: Watched, path: Path) -> None:
    scores = leaves(read_scores(path.parent / "results" / "scores.csv"))
    watched.page.locator("#methods summary").click()
    for chosen in (METHODS, ("sphere", "chance"), ("fused_mutual",)):
        for method in METHODS:
            watched.page.locator(f"#methods input[value={method}]").set_checked(method in chosen)
        for i, key in enumerate(KEYS):
            best = max(scores[method][key] for method in chosen)
            for method in chosen:
                cell = watched.page.locator(f"#scores tr[data-method={method}] td").nth(i)
                assert ("best" in cell.get_attribute("class")) == (scores[method][key] == best)


def signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def test_gains_over_any_baseline_are_differences_of_scores(watched: Watched, path: Path) -> None:
    page, results = watched.page, path.parent / "results"
    scores = leaves(read_scores(results / "scores.csv"))
    html = path.read_text(encoding="utf-8")
    intervals = json.loads(html.partition('id="gain-intervals">')[2].partition("</script>")[0])
    category = page.locator("#categories table").first
    page.locator("#methods summary").click()
    page.locator("#methods button[value=all]").click()
    page.locator("#methods select").focus()
    for number, baseline in enumerate(METHODS):
        if number:
            page.keyboard.press("ArrowDown")
        assert page.input_value("#methods select") == baseline
        assert page.locator("#gains caption").text_content().endswith(f" Gain over {baseline}, in points.")
        for method in METHODS:
            line = page.locator(f"#gains tr[data-method={method}]")
            values = line.locator("data").all_text_contents()
            below = line.locator("small").all_text_contents()
            if method == baseline:
                assert (set(values), set(below)) == ({"–"}, {""})
                continue
            assert values == [signed(scores[method][key] - scores[baseline][key]) for key in KEYS]
            own = intervals[baseline][method]
            assert below == [" to ".join(map(signed, ends)) if ends else "no interval" for ends in own]
            assert ("no interval" in below) == (baseline != EVALUATE.baseline)
            if baseline == EVALUATE.baseline:
                ends = [[scores[method][f"{key}_gain_{end}"] for end in ("low", "high")] for key in KEYS]
                assert own == ends
            lines = [category.locator(f"tr[data-method={name}]") for name in (method, baseline)]
            found, base = (
                [float(cell.get_attribute("value")) for cell in one.locator("data").all()] for one in lines
            )
            expected = [signed(a - b) for a, b in zip(found, base, strict=True)]
            assert lines[0].locator("small").all_text_contents() == expected


def test_the_choice_is_kept_when_the_page_is_loaded_again(watched: Watched) -> None:
    page = watched.page
    page.locator("#methods summary").click()
    page.locator("#methods input[value=chance]").check()
    page.locator("#methods input[value=fused]").uncheck()
    page.select_option("#methods select", "sphere")
    page.reload()
    page.locator("#explorer-app").wait_for()
    assert shown(page, "#gains tbody") == ["features", "sphere", "fused_subpatch", "fused_mutual", "chance"]
    assert page.locator("#gains caption b").text_content() == "sphere"
    watched.asked.pop()  # the page once more


def test_the_explorer_draws_the_methods_shown(watched: Watched, data: dict[str, Any]) -> None:
    page, pair = watched.page, data["pairs"][0]
    answers = "[data-role=answers] .answer"
    point = pair["keypoints"][1]
    page.locator("#explorer-keypoints button").nth(1).click()
    assert [mark.get_attribute("data-method") for mark in page.locator(answers).all()] == list(SHOWN)
    for method in SHOWN:
        said = page.locator(f"#explorer-answers [data-method={method}] [data-role=answer]").text_content()
        assert said.endswith("right" if point["right"][method] else "wrong")
        assert f"{method} {said}" in page.locator("#explorer-status").text_content()
    page.locator("#methods summary").click()
    for method in METHODS:
        page.locator(f"#methods input[value={method}]").set_checked(method == "fused_kernel")
    (mark,) = page.locator(answers).all()
    picture = page.locator("[data-role=answers] .stage").bounding_box()
    box = mark.bounding_box()
    expected = np.clip(
        point["predicted"]["fused_kernel"], 0, [pair["target"][side] for side in ("width", "height")]
    )
    middle = np.array(
        [box["x"] + box["width"] / 2 - picture["x"], box["y"] + box["height"] / 2 - picture["y"]]
    )
    scale = picture["width"] / pair["target"]["width"]
    np.testing.assert_allclose(middle / scale, expected, atol=1)
    colour = page.locator("#explorer-answers [data-method=fused_kernel] polygon")
    fill = "(element) => getComputedStyle(element).fill"
    assert mark.evaluate(fill) == colour.evaluate(fill)
    page.locator("#methods summary").click()
    watched.click(next(iter(free_patches(pair).values())), pair["source"])
    assert page.locator(answers).count() == 0  # no mixture of features and sphere: known at keypoints only
    said = page.locator("#explorer-answers [data-method=fused_kernel] [data-role=answer]").text_content()
    assert said == "at keypoints only"


def test_answers_at_one_place_stand_side_by_side(watched: Watched, data: dict[str, Any]) -> None:
    target = data["pairs"][0]["target"]
    for number, point in enumerate(data["pairs"][0]["keypoints"]):
        places = [tuple(np.round(point["predicted"][method]).tolist()) for method in SHOWN]
        if len(set(places)) == len(places):
            continue
        watched.page.locator("#explorer-keypoints button").nth(number).click()
        marks = watched.page.locator("[data-role=answers] .answer")
        moved = [mark.get_attribute("transform") for mark in marks.all()]
        assert len(set(moved)) == len(SHOWN)
        for text in moved:
            x = float(text.removeprefix("translate(").split()[0])
            assert 0 <= x <= target["width"]
        return
    pytest.fail("no keypoint is found at one place by two methods")

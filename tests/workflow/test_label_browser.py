"""From pictures without tables, labelled in a browser, to a trained head and its score."""

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from layouts_folder import FOLDER, POINTS, draw
from project import Project
from tiny import TINY

COUNT = 8
ENTRY = FOLDER | {
    "root": "data/raw/mugs",
    "shares": {"train": 0.7, "val": 0.1, "test": 0.2},
    "min_shared_keypoints": 2,
    "masks": {"source": "none"},
}


@contextmanager
def labelling(project: Project, *arguments: str) -> Iterator[str]:
    """The address of the page while `spheremap label` runs; Ctrl-C ends it."""

    def heed() -> None:  # a suite that runs in the background hands on that the signal is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [sys.executable, "-m", "spheremap", "label", "data/raw/mugs", "--no-browser", *arguments]
    with subprocess.Popen(
        command, cwd=project.folder, stdout=subprocess.PIPE, text=True, preexec_fn=heed
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[0]
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


class Page:
    """The page as a person works on it."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(url)
        self.touch = options.get("has_touch", False)

    def point(self, x: float, y: float) -> None:
        """Click or tap a place, given in shares of the photograph's sides."""
        area = self.page.locator("#stage").bounding_box()
        press = self.page.touchscreen.tap if self.touch else self.page.mouse.click
        press(area["x"] + x * area["width"], area["y"] + y * area["height"])

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def saved(self, progress: str) -> None:
        """Wait until all is written; then so many photographs are done."""
        self.page.locator("#app[aria-busy=false]").wait_for()
        assert self.page.locator("#progress").inner_text() == f"{progress} photographs"
        assert not self.page.locator("#failure").is_visible()

    def close(self) -> None:
        assert self.said == []
        self.context.close()


def places(number: int) -> list[tuple[float, float] | None]:
    """Where the keypoints are; one is hidden in some pictures. Every second object faces the other way."""
    shown = [(1 - x if number % 2 else x, y) for x, y in POINTS.values()]
    return [None if k == number else place for k, place in enumerate(shown)]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_from_pictures_to_a_score(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data/raw/mugs"
    for number in range(COUNT):
        draw(folder, f"photos/{number}.png", 0, number, (64 + 2 * number, 48))
    project = Project.copy(root, tmp_path, TINY | {"datasets.mugs": ENTRY, "dataset": "mugs"})
    names = list(POINTS)
    with chromium() as browser:
        with labelling(project, "--keypoints", ",".join(names[:3])) as url:
            page = Page(browser, url, viewport={"width": 1280, "height": 900})
            assert "Name the category first" in page.page.locator("#hint").inner_text()
            page.page.keyboard.type("two words")
            page.press("Enter")  # refused
            page.press("ControlOrMeta+a")
            page.page.keyboard.type("mug")
            page.press("Enter", "k")
            page.page.keyboard.type(names[3])
            page.press("Enter", "Escape")
            for number in range(3):
                for place in places(number):
                    if place is None:
                        page.press("x")
                    else:
                        page.point(*place)
                page.press("v", "6" if number % 2 else "2")
                page.saved(f"{number + 1} of {COUNT}")
                page.press("n")
            page.point(0.5, 0.5)  # a mistake
            page.saved(f"3 of {COUNT}")
            page.press("z")
            page.saved(f"3 of {COUNT}")
            assert len(table(folder / "images.csv")) == 3
            page.close()
        assert {path.name for path in folder.iterdir() if path.is_file()} == {
            *("images.csv", "keypoints.csv", "keypoint_names.json")
        }

        with labelling(project) as url:  # goes on with the fourth
            phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
            page = Page(browser, url, color_scheme="dark", **phone)
            assert page.page.locator("#name").inner_text() == "photos/3.png"
            assert page.page.evaluate("document.documentElement.scrollWidth") == 390
            for number in range(3, COUNT):
                for place in places(number):
                    if place is None:
                        page.page.locator("#hidden").tap()
                    else:
                        page.page.locator("#stage").scroll_into_view_if_needed()
                        page.point(*place)
                page.page.locator(".view-6" if number % 2 else ".view-2").tap()
                page.saved(f"{number + 1} of {COUNT}")
                if number < COUNT - 1:
                    page.page.locator("#next").tap()
            page.page.locator("#draw").tap()
            page.page.locator("#stage").scroll_into_view_if_needed()
            area = page.page.locator("#stage").bounding_box()
            page.page.mouse.move(area["x"] + 0.1 * area["width"], area["y"] + 0.2 * area["height"])
            page.page.mouse.down()
            page.page.mouse.move(area["x"] + 0.9 * area["width"], area["y"] + 0.9 * area["height"])
            page.page.mouse.up()
            page.saved(f"{COUNT} of {COUNT}")
            page.close()

    images = table(folder / "images.csv")
    assert [row["split"] for row in images] == ["train", "val", "train", "test"] * 2
    assert [float(row["azimuth"]) for row in images] == [90.0, 270.0] * (COUNT // 2)
    assert [float(images[-1][side]) for side in ("x1", "y1", "x2", "y2")] == pytest.approx(
        [7.8, 9.6, 70.2, 43.2], abs=0.3
    )
    rows = iter(table(folder / "keypoints.csv"))
    for number in range(COUNT):
        for name, place in zip(names, places(number), strict=True):
            row = next(rows)
            assert (row["image"], row["keypoint"]) == (f"photos/{number}.png", name)
            if place is None:
                assert (row["x"], row["y"]) == ("", "")
            else:
                expected = [place[0] * (64 + 2 * number), place[1] * 48]
                assert [float(row["x"]), float(row["y"])] == pytest.approx(expected, abs=0.3)

    project.snakemake()
    assert (project.folder / "models/mugs/head.safetensors").exists()
    metrics = json.loads((project.folder / "results/metrics.json").read_text())
    assert (metrics["n_pairs"], metrics["n_points"]) == (2, 6)  # both ways, without what is hidden in one

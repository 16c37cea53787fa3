"""The documentation site: built strictly, at one address, and quiet in a browser."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pages
import pytest
from browser import chromium
from serving import serving

pytestmark = pytest.mark.slow
# columns of the leaderboard's tables
HEAD = ("method", *pages.SCORES, "supervision", "backbone", "trained on", "from")


def build(project: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    """As `make docs` does: a warning, such as a link or an anchor that leads nowhere, is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(root, out)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))) as server:
        yield f"http://127.0.0.1:{server.server_port}/"


def repository(root: Path) -> str:
    found = re.search(r"^repo_url: (\S+)", (root / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_home_page_is_the_readme(root: Path, site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="install/"' in home
    assert f'href="{repository(root)}/blob/main/CHANGELOG.md"' in home


def test_the_python_page_has_every_public_name(site: Path) -> None:
    page = (site / "reference/python/index.html").read_text(encoding="utf-8")
    for name in ("load", "Matcher.match", "Matches.to_frame", "SphereMap.picture"):
        assert re.search(rf'id="spheremap\.(\w+\.)*{re.escape(name)}"', page), name


def test_every_page_names_the_same_repository(root: Path) -> None:
    """Those that mkdocs.yml cannot reach: badges, and what a notebook installs."""
    path = repository(root).removeprefix("https://github.com/")
    texts = [p for p in [root / "README.md", *(root / "docs").rglob("*")] if p.suffix in (".md", ".ipynb")]
    named = [n for p in texts for n in re.findall(r"/github(?:\.com)?/([\w-]+/spheremap)\b", p.read_text())]
    assert named
    assert set(named) == {path}


@pytest.mark.parametrize("page", ["", "reference/python/"])
def test_pages_load_nothing_from_elsewhere(page: str, address: str) -> None:
    with chromium() as browser:
        tab = browser.new_page()
        asked, said = [], []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: said.append(message.text))
        tab.goto(address + page, wait_until="networkidle")
        assert "spheremap" in tab.title()
    assert asked
    assert [url for url in asked if not url.startswith(address)] == []
    assert said == []


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_leaderboard_is_sorted_and_chosen_by_keyboard(address: str, width: int, scheme: str) -> None:
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        failed: list[str] = []
        tab.on("pageerror", lambda error: failed.append(str(error)))
        tab.goto(address + "leaderboard/", wait_until="networkidle")
        first = tab.locator("table").first
        lines, shown = first.locator("tbody tr"), first.locator("tbody tr:visible")

        def methods() -> list[str]:
            return [str(name) for name in shown.locator("td:first-child").all_inner_texts()]

        count = lines.count()
        assert shown.count() == count > 5
        tab.get_by_label("keypoints", exact=True).focus()
        tab.keyboard.press("Space")
        assert 0 < shown.count() < count
        assert "keypoints" not in shown.locator(f"td:nth-child({len(HEAD) - 3})").all_inner_texts()
        by_name = first.get_by_role("button", name="method")
        by_name.focus()
        tab.keyboard.press("Enter")
        assert methods() == sorted(methods(), key=str.casefold)
        assert first.locator("th").first.get_attribute("aria-sort") == "ascending"
        first.get_by_role("button", name="per image").first.press("Enter")
        texts = shown.locator("td:nth-child(2)").all_inner_texts()
        values = [float(text.split()[0]) for text in texts if text != "–"]
        assert values == sorted(values, reverse=True)
        assert not first.get_by_text("geometry-aware, per image", exact=True).is_visible()
        tab.get_by_label("geometry-aware, per image").press("Space")
        assert first.get_by_text("geometry-aware, per image").is_visible()
        # the tables scroll, the page does not
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert failed == []

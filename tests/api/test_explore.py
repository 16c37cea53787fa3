"""The explorer: who may ask it what, and the page in a browser."""

import base64
import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest
from browser import chromium
from serving import ask, serving
from studio import Studio

from spheremap.api.matcher import Matcher, load
from spheremap.api.server import Explorer, ExplorerServer
from spheremap.base.errors import InputError

NAMES = ("a</script><b>.png", "b.png")
ROWS = ("features", "sphere", "fused")


@pytest.fixture(scope="module")
def server(studio: Studio, matcher: Matcher) -> Iterator[ExplorerServer]:
    explorer = Explorer(matcher, *(matcher.describe(path) for path in studio.photographs[:2]))
    with serving(ExplorerServer(explorer, NAMES)) as server:
        yield server


def query(server: ExplorerServer, **values: object) -> str:
    return f"{server.root}match?{urlencode(values)}"


def similarities(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def test_it_answers_by_the_protocol(studio: Studio) -> None:
    protocol = {"fit": "stretch", "source": "bilinear", "readout": "window", "temperature": 0.1}
    matcher = load(studio.bundle, device="cpu", **protocol)
    a, b = (matcher.describe(path) for path in studio.photographs[:2])
    explorer = Explorer(matcher, a, b)
    found = matcher.match(a, b, [(30, 40)], sphere_weight=0.3)
    for row, own in explorer.match(30, 40, 0.3).items():
        assert own["match"] == found.target_xy[row][0].tolist()
        assert similarities(own["map"]).max() == found.similarity[row][0]
    assert '"box": [0.0, 0.0, 70.0, 141.0]' in explorer.page(NAMES)[0]


def test_page_holds_all_it_needs_and_lets_in_nothing_else(server: ExplorerServer) -> None:
    status, content, headers = ask(server, server.root)
    page, policy = content.decode(), headers["content-security-policy"]
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        inside = page.rpartition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert page.count("data:image/jpeg;base64,") == 2
    assert not re.search("https?://", page)
    assert page.count("</script>") == 2  # a name does not end a script early
    assert re.search('id="explorer-weight"[^>]* step="any"', page)  # any weight is shown as it is
    assert NAMES[0] not in page
    (pair,) = json.loads(page.partition('id="explorer-data">')[2].partition("</script>")[0])["pairs"]
    assert (pair["source"]["id"], pair["target"]["id"]) == NAMES
    assert (pair["target"]["width"], pair["target"]["height"]) == (70, 141)


def test_answers_are_those_of_match(server: ExplorerServer, studio: Studio, matcher: Matcher) -> None:
    status, content, _ = ask(server, query(server, x=30, y=40, weight=0.3))
    assert status == 200
    answer = json.loads(content)
    a, b = (matcher.describe(path) for path in studio.photographs[:2])
    found = matcher.match(a, b, [(30, 40)], sphere_weight=0.3)
    expected = matcher.similarity(a, b, found.source_xy, 0.3)
    assert tuple(answer) == ROWS
    for row, own in answer.items():
        values = similarities(own["map"])
        padding, all_patches = b.padding.numpy(), expected[row][0].numpy()
        np.testing.assert_array_equal(values[~padding], all_patches[~padding])
        assert (values[padding] == all_patches[~padding].min()).all()
        best = np.where(padding, -np.inf, values).argmax()  # inside the photograph
        assert own["match"] == found.target_xy[row][0].tolist() == b.centres[best].tolist()


@pytest.mark.parametrize(
    "headers",
    [
        *({"Host": host} for host in ("evil.example", "evil.example:{port}", "127.0.0.1", "localhost:1")),
        *({"Origin": origin} for origin in ("http://evil.example", "null", "https://127.0.0.1:{port}")),
        {"Origin": "http://127.0.0.1"},
    ],
)
def test_other_hosts_and_origins_are_refused(server: ExplorerServer, headers: dict[str, str]) -> None:
    headers = {name: value.format(port=server.server_port) for name, value in headers.items()}
    for path in (server.root, query(server, x=1, y=1, weight=0)):
        assert ask(server, path, headers=headers)[:2] == (403, b"not from here")


def test_own_names_are_accepted(server: ExplorerServer) -> None:
    assert server.server_address[0] == urlsplit(server.url).hostname == "127.0.0.1"
    assert len(server.root) > 20
    for host in ("localhost", "127.0.0.1"):
        own = f"{host}:{server.server_port}"
        assert ask(server, server.root, headers={"Host": own, "Origin": f"http://{own}"})[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/match?x=1&y=1&weight=0", "/wrong-token/", "{root}explore.html", "{root}../", "{root}%2e%2e/",
     "{root}../../etc/passwd", "//etc/passwd", "{root}match/", "/favicon.ico"],
)  # fmt: skip
def test_no_other_address_answers(server: ExplorerServer, path: str) -> None:
    assert ask(server, path.format(root=server.root))[:2] == (404, b"nothing here")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_no_other_method_answers(server: ExplorerServer, method: str) -> None:
    status, _, headers = ask(server, query(server, x=1, y=1, weight=0), method=method)
    assert status == 501
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": 1, "y": 1}, "x, y and weight"),
        ({"x": "a", "y": 1, "weight": 0}, "x, y and weight"),
        ({"x": "nan", "y": 1, "weight": 0}, "x, y and weight"),
        ({"x": 1, "y": "1e999", "weight": 0}, "x, y and weight"),
        ({"x": 999, "y": 1, "weight": 0}, "999,1"),
        ({"x": 1, "y": 1, "weight": 2}, "found 2.0"),
    ],
)
def test_bad_questions_get_a_message(server: ExplorerServer, values: dict, message: str) -> None:
    status, content, _ = ask(server, query(server, **values))
    assert status == 400
    assert message in json.loads(content)["error"]


def test_a_taken_port_is_named(server: ExplorerServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port in (taken.getsockname()[1], 70000):
            with pytest.raises(InputError, match=str(port)):
                ExplorerServer(server.explorer, NAMES, port)


def test_in_a_browser(server: ExplorerServer) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(server.url)
        ready = page.locator("#explorer-app[aria-busy=false]")
        ready.wait_for()
        stage = page.locator("[data-role=source] .stage")

        def after(action: Callable[[], object]) -> dict[str, list[float]]:
            """Where the three crosses stand once the server has answered."""
            with page.expect_response(lambda response: "/match?" in response.url):
                action()
            ready.wait_for()
            found = {row: page.get_attribute(f"figure[data-method={row}]", "data-match") for row in ROWS}
            return {row: [float(value) for value in text.split()] for row, text in found.items()}

        def click(x: float, y: float) -> None:
            area = stage.bounding_box()
            page.mouse.click(area["x"] + x * area["width"], area["y"] + y * area["height"])

        assert after(lambda: click(0.1, 0.6)) != (shown := after(lambda: click(0.9, 0.6)))
        answer = json.loads(ask(server, query(server, x=0.9 * 120, y=0.6 * 90, weight=0.2))[1])
        assert shown == {row: own["match"] for row, own in answer.items()}
        before = page.locator("[data-role=source] [data-role=answer]").inner_text()
        stage.focus()
        after(lambda: page.keyboard.press("ArrowUp"))
        assert page.locator("[data-role=source] [data-role=answer]").inner_text() != before
        page.locator("#explorer-weight").focus()
        weighed = after(lambda: page.keyboard.press("End"))
        assert weighed["sphere"] == weighed["fused"]  # the sphere's weight is 1

        tick = page.get_by_role("checkbox", name="sphere")
        tick.focus()
        after(lambda: page.keyboard.press("Space"))
        shown = [row for row in ROWS if page.locator(f"figure[data-method={row}]").is_visible()]
        assert shown == ["features", "fused"]
        status = page.locator("#explorer-status").inner_text()
        assert "features" in status
        assert "sphere" not in status
        after(lambda: page.keyboard.press("Space"))
        assert page.locator("figure[data-method=sphere]").is_visible()

        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert complaints == []
        assert all(url.startswith((server.url, "data:")) for url in requests)

        page.route("**/match?*", lambda route: route.abort())
        stage.press("ArrowDown")
        page.locator("#explorer-status", has_text="spheremap explore").wait_for()
        assert page.locator("#explorer-status:not(.unseen)").is_visible()

"""The explorer: who may ask it what, and the page in a browser."""

import base64
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest
from browser import chromium
from studio import Studio, make_studio

from spheremap.api import Matcher, load
from spheremap.api.server import Explorer, ExplorerServer
from spheremap.base.errors import InputError
from spheremap.cli import main

NAMES = ("a</script><b>NONCE.png", "b.png")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return make_studio(tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="module")
def matcher(studio: Studio) -> Matcher:
    return load(studio.bundle, device="cpu")


@pytest.fixture(scope="module")
def server(studio: Studio, matcher: Matcher) -> Iterator[ExplorerServer]:
    explorer = Explorer(matcher, *(matcher.describe(path) for path in studio.photographs[:2]))
    with ExplorerServer(explorer, NAMES) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: ExplorerServer, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
    finally:
        connection.close()


def query(server: ExplorerServer, **values: object) -> str:
    return f"{server.root}match?{urlencode(values)}"


def test_it_answers_by_the_protocol(studio: Studio) -> None:
    matcher = load(
        studio.bundle, device="cpu", fit="stretch", source="bilinear", readout="window", temperature=0.1
    )
    a, b = (matcher.describe(path) for path in studio.photographs[:2])
    explorer = Explorer(matcher, a, b)
    found = matcher.match(a, b, [(30, 40)], sphere_weight=0.3)
    for row, own in explorer.match(30, 40, 0.3).items():
        assert (own["x"], own["y"]) == tuple(found.target_xy[row][0])
        assert own["high"] == own["similarity"] == float(found.similarity[row][0])
    assert b'"box": [0.0, 0.0, 70.0, 141.0]' in explorer.page("nonce", NAMES)


def test_page_holds_all_it_needs_and_lets_in_nothing_else(server: ExplorerServer) -> None:
    status, content, headers = ask(server, server.root)
    page = content.decode()
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert page.count("data:image/jpeg;base64,") == 2
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("</script>") == 2  # a name does not end a script early
    inside = json.loads(page.split(f'id="data" nonce="{server.nonce}">')[1].split("</script>")[0])
    assert inside["source"]["name"] == NAMES[0]
    assert inside["target"]["size"] == [70, 141]


def test_answers_are_those_of_match(server: ExplorerServer, studio: Studio, matcher: Matcher) -> None:
    status, content, _ = ask(server, query(server, x=30, y=40, weight=0.3))
    assert status == 200
    answer = json.loads(content)
    a, b = (matcher.describe(path) for path in studio.photographs[:2])
    found = matcher.match(a, b, [(30, 40)], sphere_weight=0.3)
    assert set(answer) == {"features", "sphere", "fused"}
    for row, own in answer.items():
        assert (own["x"], own["y"]) == tuple(found.target_xy[row][0])
        assert own["similarity"] == pytest.approx(float(found.similarity[row][0]))
        values = np.frombuffer(base64.b64decode(own["map"]), dtype=np.uint8)
        assert values.shape == (len(b.tokens),)
        assert (values.min(), values.max()) == (0, 255)
        assert own["high"] == pytest.approx(own["similarity"])
        np.testing.assert_array_equal(b.centres[values.argmax()], found.target_xy[row][0])


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost:1"]
)
def test_other_hosts_are_refused(server: ExplorerServer, host: str) -> None:
    for path in (server.root, query(server, x=1, y=1, weight=0)):
        status, content, _ = ask(server, path, {"Host": host.format(port=server.server_port)})
        assert (status, content) == (403, b"not from here")


def test_own_names_are_accepted(server: ExplorerServer) -> None:
    for host in ("localhost", "127.0.0.1"):
        own = f"{host}:{server.server_port}"
        assert ask(server, server.root, {"Host": own, "Origin": f"http://{own}"})[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1"]
)
def test_other_origins_are_refused(server: ExplorerServer, origin: str) -> None:
    headers = {"Origin": origin.format(port=server.server_port)}
    assert ask(server, query(server, x=1, y=1, weight=0), headers)[0] == 403


@pytest.mark.parametrize(
    "path",
    ["/", "/match?x=1&y=1&weight=0", "/wrong-token/", "{root}explorer.html", "{root}../", "{root}%2e%2e/",
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
        ({"x": 1, "y": 1}, "must be numbers"),
        ({"x": "a", "y": 1, "weight": 0}, "must be numbers"),
        ({"x": "nan", "y": 1, "weight": 0}, "must be numbers"),
        ({"x": 1, "y": "1e999", "weight": 0}, "must be numbers"),
        ({"x": 999, "y": 1, "weight": 0}, "outside the source"),
        ({"x": 1, "y": 1, "weight": 2}, "bad mixing weight"),
    ],
)
def test_bad_questions_get_a_message(server: ExplorerServer, values: dict, message: str) -> None:
    status, content, _ = ask(server, query(server, **values))
    assert status == 400
    assert message in json.loads(content)["error"]


def test_it_listens_on_the_loopback_address_alone(server: ExplorerServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert urlsplit(server.url).hostname == "127.0.0.1"
    assert len(server.root) > 20


def test_a_taken_port_is_a_message(server: ExplorerServer, studio: Studio) -> None:
    # without this option the system might hand the port out twice
    for port in (server.server_port, 70000):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            own = taken.getsockname()[1] if port == server.server_port else port
            with pytest.raises(InputError, match=f"cannot listen on port {own}"):
                ExplorerServer(server.explorer, NAMES, own)


def test_command_ends_on_ctrl_c(studio: Studio) -> None:
    command = [sys.executable, "-m", "spheremap", "explore", *map(str, studio.photographs[:2]),
               "--model", str(studio.bundle), "--device", "cpu", "--no-browser"]  # fmt: skip

    def heed() -> None:  # a suite that runs in the background hands on that the signal is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    ) as process:
        try:
            assert process.stdout is not None
            url = urlsplit(process.stdout.readline().split()[0])
            with closing(http.client.HTTPConnection("127.0.0.1", url.port or 0, timeout=60)) as connection:
                connection.request("GET", url.path)
                assert connection.getresponse().status == 200
                process.send_signal(signal.SIGINT)  # with the connection still open
                _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0
    assert errors == ""


def test_bad_photographs_give_one_message(
    studio: Studio, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["explore", str(tmp_path), str(studio.photographs[0]), "--model", str(studio.bundle)]
    assert main([*arguments, "--no-browser", "--device", "cpu"]) == 1
    assert "cannot read the photograph" in capsys.readouterr().err


def test_in_a_browser(server: ExplorerServer) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(server.url)
        ready = page.locator("main[aria-busy=false]")
        ready.wait_for()

        def after(action) -> list[str]:
            """What the three targets show once the server has answered."""
            with page.expect_response(lambda response: "/match?" in response.url):
                action()
            ready.wait_for()
            return [
                page.locator(f"#{row}").get_attribute("aria-label") for row in ("features", "sphere", "fused")
            ]

        area = page.locator("#source").bounding_box()
        shown = [
            after(
                lambda x=x: page.mouse.click(area["x"] + x * area["width"], area["y"] + area["height"] * 0.6)
            )
            for x in (0.1, 0.9)
        ]
        assert shown[0] != shown[1]
        status, content, _ = ask(server, query(server, x=0.9 * 120, y=0.6 * 90, weight=0.2))
        assert status == 200
        answer = json.loads(content)["fused"]
        assert f"match at ({answer['x']:.0f}, {answer['y']:.0f})" in shown[1][2]
        page.locator("#source").focus()
        before = page.locator("#at").inner_text()
        after(lambda: page.keyboard.press("ArrowUp"))
        assert page.locator("#at").inner_text() != before
        page.locator("#weight").focus()
        weighed = after(lambda: page.keyboard.press("End"))
        place = [label.split(",  ")[0].split("match at ")[1].split(")")[0] for label in weighed]
        assert place[1] == place[2]  # the sphere's weight is 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert complaints == []
    assert all(url.startswith((server.url, "data:")) for url in requests)

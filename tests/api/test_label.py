"""The server of `spheremap label`: who may ask it what, and what it writes."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from PIL import Image
from serving import ask, serving
from studio import draw

from spheremap.api.label_server import LabelServer
from spheremap.cli import main
from spheremap.data.labels import Labels

STEP = {
    "image": "a.png",
    "label": {"category": "mug", "instance": "", "azimuth": None, "split": None, "box": None, "points": {}},
    "names": {"mug": ["rim"]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.png", "b<!--<script>.png")):
        draw(number, (120, 90)).save(tmp_path / name)
    draw(2, (2000, 500)).save(tmp_path / "c.tif")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[LabelServer]:
    with serving(LabelServer(Labels(folder), ["rim", "foot"])) as server:
        yield server


def own(server: LabelServer, **changes: str) -> dict[str, str]:
    """Headers as the page sends them."""
    return {"Origin": f"http://127.0.0.1:{server.server_port}", "Content-Type": "application/json"} | changes


def save(server: LabelServer, step: Any = STEP, **changes: str) -> tuple[int, bytes]:
    return ask(server, f"{server.root}save", json.dumps(step).encode(), own(server, **changes))[:2]


def test_a_step_is_written(server: LabelServer, folder: Path) -> None:
    status, content = save(server)
    assert (status, json.loads(content)) == (200, {"split": "train"})
    assert (folder / "images.csv").read_text() == "image,category,split\na.png,mug,train\n"
    data = data_of(server)
    assert data["labels"]["a.png"]["split"] == "train"
    assert data["names"] == {"mug": ["rim"]}
    assert data["begin"] == ["rim", "foot"]


def data_of(server: LabelServer) -> dict[str, Any]:
    page = ask(server, server.root)[1].decode()
    assert page.count("</script>") == 2  # a name is no markup
    found: dict[str, Any] = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    return found


def test_photographs_are_served_by_number_alone(server: LabelServer) -> None:
    status, content, headers = ask(server, f"{server.root}photograph?number=2")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (1600, 400))
    for number in ("3", "-1", "", "a.png", "../a.png", "²", "9" * 400):
        path = f"{server.root}photograph?number=" + "".join(f"%{byte:02x}" for byte in number.encode())
        assert ask(server, path)[0] == 404
    for name in ("a.png", "../a.png"):
        assert ask(server, f"{server.root}{name}")[0] == 404


def test_a_photograph_that_is_gone_is_told(server: LabelServer, folder: Path) -> None:
    (folder / "a.png").unlink()
    status, content, _ = ask(server, f"{server.root}photograph?number=0")
    assert status == 400
    assert "a.png" in json.loads(content)["error"]


@pytest.mark.parametrize(
    "changes",
    [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Content-Type": "text/plain"},  # what a form of another page can send
    ],
)
def test_steps_from_elsewhere_are_refused(server: LabelServer, folder: Path, changes: dict[str, str]) -> None:
    assert save(server, **changes)[0] == 403
    assert not (folder / "images.csv").exists()


def test_steps_need_the_token_an_origin_and_a_size(server: LabelServer, folder: Path) -> None:
    body = json.dumps(STEP).encode()
    for path in ("/save", f"/{'x' * len(server.root[1:-1])}/save", server.root):
        assert ask(server, path, body, own(server))[0] == 404
    assert ask(server, f"{server.root}save", body, {"Content-Type": "application/json"})[0] == 403
    for length in ("1000001", "-1", "many", "9" * 40):
        assert ask(server, f"{server.root}save", b"", own(server, **{"Content-Length": length}))[0] == 413
    assert ask(server, f"{server.root}save", None, own(server, **{"Content-Length": "5"}))[0] == 400
    for method in ("PUT", "DELETE", "OPTIONS"):
        assert ask(server, f"{server.root}save", body, own(server), method)[0] == 501
    assert not (folder / "images.csv").exists()


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"{}", b'{"image": 1}'])
def test_bad_steps_get_a_message(server: LabelServer, body: bytes) -> None:
    status, content, _ = ask(server, f"{server.root}save", body, own(server))
    assert status == 400
    assert json.loads(content)["error"]


def test_a_full_disk_is_told(server: LabelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "images.csv")

    monkeypatch.setattr("spheremap.data.labels.write_csv", full)
    status, content = save(server)
    assert status == 507
    assert "disk is full" in json.loads(content)["error"]
    monkeypatch.undo()
    assert save(server)[0] == 200


def test_a_browser_that_goes_is_no_fault(server: LabelServer, capsys: Any) -> None:
    for error in (BrokenPipeError(), ConnectionResetError(), ValueError("a fault")):
        try:
            raise error
        except (ConnectionError, ValueError):
            server.handle_error(None, ("127.0.0.1", 1))
        assert ("a fault" in capsys.readouterr().err) == isinstance(error, ValueError)


def test_any_name_will_do(server: LabelServer) -> None:
    """Those too that objects of JavaScript have of themselves."""
    with chromium() as browser:
        page, said = browser.new_page(), []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(server.url)
        for form, name in (
            ("category", "constructor"),
            ("keypoint", "constructor"),
            ("keypoint", "__proto__"),
        ):
            page.locator(f"#add-{form} input").fill(name)
            page.keyboard.press("Enter")
        assert "rim" in page.locator("#hint").inner_text()
        for number in range(3, 5):
            page.locator("#keypoints button").nth(number - 1).click()
            page.locator("#stage").click(position={"x": 40 * number, "y": 20})
        page.locator("#app[aria-busy=false]").wait_for()
        assert server.labels.names["constructor"] == ("rim", "foot", "constructor", "__proto__")
        assert list(server.labels.labels["a.png"].points) == ["constructor", "__proto__"]
        assert said == []


def test_the_policy_lets_in_nothing_else(server: LabelServer) -> None:
    policy = ask(server, server.root)[2]["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "img-src data: 'self'" in policy


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nowhere"], "no such folder"),
        (["empty"], "no photographs"),
        ([".", "--keypoints", "rim,,foot"], "--keypoints"),
        ([".", "--port", "70000"], "70000"),
    ],
)
def test_the_command_says_in_a_line_what_is_wrong(
    folder: Path, arguments: list[str], part: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / ".cache"))
    assert main(["label", *arguments, "--no-browser"]) == 1
    assert part in capsys.readouterr().err

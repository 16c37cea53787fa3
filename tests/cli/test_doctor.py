"""`spheremap doctor`: one screen, and nothing of the user in it."""

import builtins
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
from studio import run

from spheremap.cli.doctor import _short


def test_one_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / ".cache" / "spheremap").mkdir(parents=True)
    (tmp_path / ".cache" / "spheremap" / "weights").write_bytes(bytes(2**20))

    def unreachable(*_: object, **__: object) -> None:
        raise requests.ConnectionError("of user:password@proxy")

    monkeypatch.setattr(requests, "head", unreachable)
    run("doctor")
    out = capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert len(out.splitlines()) < 24
    assert lines["torch"].startswith(torch.__version__)
    assert lines["cache"] == "~/.cache/spheremap, 1 files, 0.0 GiB"
    assert "does not answer: ConnectionError" in lines["network"]
    assert "snakemake 9" in lines["workflow"]
    assert str(tmp_path) not in out
    assert "password" not in out
    run("doctor", "--offline")
    assert "network" not in capsys.readouterr().out


def test_a_torch_that_cannot_be_loaded_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = builtins.__import__

    def broken(name: str, *rest: Any) -> Any:
        if name == "torch":
            raise OSError("libcublas.so.12: cannot open shared object file")
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", broken)
    run("doctor", "--offline")
    assert "cannot be imported: libcublas" in capsys.readouterr().out


def test_only_the_user_s_own_home_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert _short(Path("/home/ann/cache")) == "~/cache"
    assert _short(Path("/home/anna/cache")) == "/home/anna/cache"

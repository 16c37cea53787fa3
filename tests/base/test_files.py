"""Atomic files, digests and locks."""

import errno
import hashlib
import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spheremap.base.errors import InputError
from spheremap.base.files import (
    atomic_path,
    check_outputs,
    exclusive,
    read_json,
    refuse_foreign,
    scratch,
    sha256_file,
    write_csv,
    write_json,
)


def test_a_file_appears_only_when_complete(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "er" / "result.tar.gz"
    with atomic_path(final) as path:
        assert path.parent == final.parent
        assert path.suffix == final.suffix
        path.write_text("new")
        assert not final.exists()
    assert final.read_text() == "new"
    assert list(final.parent.iterdir()) == [final]


@pytest.mark.parametrize("folder", [False, True])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path, folder: bool) -> None:
    final = tmp_path / "result"
    old = final / "old" if folder else final
    old.parent.mkdir(exist_ok=True)
    old.write_text("old")

    def fail() -> None:
        with atomic_path(final) as path:
            half = path / "inner" / "half" if folder else path
            half.parent.mkdir(parents=True, exist_ok=True)
            half.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert old.read_text() == "old"
    assert list(tmp_path.rglob("*")) == ([final, old] if folder else [final])


def test_a_directory_replaces_a_directory(tmp_path: Path) -> None:
    final = tmp_path / "tables"
    for content in ("first", "second"):
        with atomic_path(final) as path:
            path.mkdir()
            (path / content).write_text(content)
    assert [p.name for p in final.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [final]


def test_writing_nothing_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    final = tmp_path / "result"
    final.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(final):
        pass
    assert final.read_text() == "old"


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    final = tmp_path / "result"
    final.write_text("old")
    code = (
        "import sys, os, signal; from pathlib import Path; from spheremap.base.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as path:\n"
        "    path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(final)], check=False, env=_environment())
    assert run.returncode == -signal.SIGKILL
    assert final.read_text() == "old"
    (left,) = (path for path in tmp_path.iterdir() if path != final)
    assert ".partial" in left.name
    with scratch(tmp_path / "another") as folder:
        folder.joinpath("file").touch()
        assert set(tmp_path.iterdir()) == {final, folder}, "a dead writer's rest is swept"
    assert list(tmp_path.iterdir()) == [final]


def test_files_of_living_writers_stay(tmp_path: Path) -> None:
    other = tmp_path / f".result.{platform.node()}-{os.getppid()}.partial"
    foreign = tmp_path / ".result.another-machine-1.partial"
    other.touch()
    foreign.touch()
    with atomic_path(tmp_path / "result") as path:
        path.touch()
    assert set(tmp_path.iterdir()) == {other, foreign, tmp_path / "result"}


def unusable_paths(folder: Path) -> list[Path]:
    """Paths at which no file can be made, whoever asks."""
    (folder / "file").touch()
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    return [
        folder / "folder",
        folder / "file" / "new",
        folder / "file" / "deep" / "new",
        folder / "pipe",
        folder / "loop" / "new",
        folder / ("x" * 300),
        folder / ("x" * 250),
        Path("/proc/new"),
        Path("/proc/deep/new"),
        Path("/dev/null"),
        Path("/"),
        Path(),
        Path(".."),
    ]


def test_paths_at_which_no_file_can_be_made(tmp_path: Path) -> None:
    for path in unusable_paths(tmp_path):
        with pytest.raises(InputError) as caught, atomic_path(path) as temporary:
            temporary.write_text("new")
        message = str(caught.value)
        assert message.startswith("cannot write to this path")
        assert f"in: {path}\n" in message
        assert "partial" not in message
        assert "to do: " in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "loop", "pipe"]
    assert not Path("/dev/null").is_file()


def test_a_directory_does_not_replace_a_file(tmp_path: Path) -> None:
    final = tmp_path / "file"
    final.write_text("old")
    with pytest.raises(InputError, match="cannot write to this path"), atomic_path(final) as temporary:
        temporary.mkdir()
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]
    for holder in (scratch, exclusive):
        with pytest.raises(InputError, match="file/new"), holder(final / "new"):
            pass


@pytest.mark.parametrize("inner", ["", "/images.csv"])
def test_errors_of_the_system_name_the_path_that_was_chosen(tmp_path: Path, inner: str) -> None:
    final = tmp_path / "result"
    with pytest.raises(PermissionError) as caught, atomic_path(final) as temporary:
        raise PermissionError(errno.EACCES, "Permission denied", f"{temporary}{inner}")
    assert str(caught.value) == f"[Errno 13] Permission denied: '{final}{inner}'"
    other = FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / "input"))
    with pytest.raises(FileNotFoundError) as untouched, atomic_path(final):
        raise other
    assert untouched.value is other


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk that cannot be written to."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_disk_is_told_by_the_path_that_was_chosen(read_only: Path) -> None:
    final = read_only / "result.csv"
    expected = f"[Errno {errno.EROFS}] {os.strerror(errno.EROFS)}: '{final}'"
    with pytest.raises(OSError, match="Read-only") as of_file, atomic_path(final) as temporary:
        temporary.write_text("new")
    with pytest.raises(OSError, match="Read-only") as of_scratch, scratch(final):
        pass
    assert (str(of_file.value), str(of_scratch.value)) == (expected, expected)


def test_outputs_that_would_replace_what_is_needed(tmp_path: Path) -> None:
    photograph, new = tmp_path / "a.jpg", tmp_path / "new"
    photograph.touch()
    (tmp_path / "link.jpg").symlink_to(photograph)
    check_outputs({"--out": new, "--warp": None}, [photograph, None])
    check_outputs({"--out": photograph}, [new])  # an earlier result is replaced
    for path in (photograph, tmp_path / "link.jpg", tmp_path / "." / "x" / ".." / "a.jpg"):
        with pytest.raises(InputError, match=r"--out would overwrite[\s\S]*the command reads"):
            check_outputs({"--out": path}, [photograph])
    with pytest.raises(InputError, match=r"--warp would overwrite[\s\S]*another output"):
        check_outputs({"--out": new, "--warp": new}, [photograph])
    for path in (tmp_path, Path("/dev/null"), Path()):
        with pytest.raises(InputError, match="cannot write to this path"):
            check_outputs({"--out": path}, [photograph])


def test_folders_of_others_are_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    refuse_foreign(out, ours=False)
    (out / "masks/cat").mkdir(parents=True)
    refuse_foreign(out, ours=False)  # as Snakemake makes them
    (out / "masks/cat/a.png").touch()
    refuse_foreign(out, ours=False, rest=("masks",))
    refuse_foreign(out, ours=True)
    (tmp_path / "link").symlink_to(out)
    for path in (out, out / "masks/cat/a.png", tmp_path / "link"):
        with pytest.raises(InputError, match="will not replace"):
            refuse_foreign(path, ours=False, rest=("masks/dog",))


def test_json_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": [1, 0.1, None, True], "a": {"ü": "„text“"}})
    assert read_json(path) == {"a": {"ü": "„text“"}, "b": [1, 0.1, None, True]}
    first = path.read_bytes()
    write_json(path, {"a": {"ü": "„text“"}, "b": [1, 0.1, None, True]})
    assert path.read_bytes() == first  # the order of the keys does not matter
    assert first.endswith(b"\n")
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_bytes() == first


@pytest.mark.parametrize("content", [b"", b"{", b"{'a': 1}", b"\xff\xfe", b"[1,]", b"[" * 10**5, b"1" * 5000])
def test_bad_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="expected") as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_missing_json_names_the_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path):  # absent, a directory
        with pytest.raises(InputError, match=rf"(?s)cannot read.*in: {path}"):
            read_json(path)


def test_csv_is_reproducible_and_exact(tmp_path: Path) -> None:
    values = [0.1, 1 / 3, 1e-300, math.pi, -0.0, 123456789.123456789, math.nan]
    frame = pd.DataFrame({"text": list("abcdefg"), "value": values}, index=range(7, 0, -1))
    write_csv(tmp_path / "a.csv", frame)
    content = (tmp_path / "a.csv").read_bytes()
    assert content.startswith(b"text,value\na,0.1\n")
    assert b"\r" not in content
    back = pd.read_csv(tmp_path / "a.csv", dtype="str", keep_default_na=False)["value"].replace("", "nan")
    np.testing.assert_array_equal(back.astype("float64"), values)


def test_sha256_of_known_contents(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")  # FIPS 180-2
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(bytes(3 * 10**6))
    assert sha256_file(path) == hashlib.sha256(bytes(3 * 10**6)).hexdigest()


# --- locks --------------------------------------------------------------------------------------------------


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


_HOLDER = """
import sys, time
from pathlib import Path
from spheremap.base.files import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
    Path(sys.argv[3]).write_text("done")
"""


def _hold(lock: Path, seconds: float, note: Path) -> "subprocess.Popen[str]":
    """Another process that holds the lock, once this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(lock), str(seconds), str(note)],
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_waits_for_the_first(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lock, note = tmp_path / "work" / "lock", tmp_path / "note"
    with _hold(lock, 0.5, note) as holder, exclusive(lock):
        assert note.read_text() == "done"  # the first had finished
        assert holder.wait(timeout=10) == 0
    error = capfd.readouterr().err
    assert "waiting for another run" in error
    assert str(lock) in error


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    lock, note = tmp_path / "lock", tmp_path / "note"
    with _hold(lock, 60, note) as holder:
        holder.kill()
        start = time.monotonic()
        with exclusive(lock):
            assert time.monotonic() - start < 10
    assert not note.exists()


def test_a_free_lock_is_taken_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with exclusive(tmp_path / "lock"):
            raise ValueError("stop")

    for _ in range(2):  # freed after an error, too
        with pytest.raises(ValueError, match="stop"):
            fail()
    assert capfd.readouterr().err == ""

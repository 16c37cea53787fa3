"""Errors of the machine: disk, permission, memory."""

import errno
import resource
import signal
from pathlib import Path

import pytest
import torch

from spheremap import cli
from spheremap.base.shortage import shortage_of
from spheremap.cli import weights as command


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG])
def test_errors_of_the_disk_name_file_and_remedy(number: int) -> None:
    text = str(shortage_of(OSError(number, "said the system", "some/file")))
    assert "in: some/file" in text
    assert "said the system" in text
    assert "to do: " in text


def test_an_error_behind_another_counts() -> None:
    error = RuntimeError("cannot close the file")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "the disk is full" in str(shortage_of(error))
    hdf5 = OSError("Can't write data (file write failed: errno = 28, error message = 'No space left')")
    assert "the disk is full" in str(shortage_of(hdf5))


def test_memory() -> None:
    assert "the GPU is out of memory" in str(shortage_of(torch.OutOfMemoryError("CUDA out of memory.")))
    assert "the machine is out of memory" in str(shortage_of(MemoryError()))


def test_other_errors_are_none() -> None:
    assert shortage_of(ValueError("errno is not in it")) is None
    assert shortage_of(FileNotFoundError(errno.ENOENT, "No such file")) is None


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), 1, "spheremap weights: the GPU is out of memory"),
        (KeyboardInterrupt(), 130, "spheremap weights: interrupted"),
    ],
)
def test_the_command_line_says_it_without_a_traceback(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(command, "run", fail)
    assert cli.main(["weights", "--params=p", "--out=o"]) == code
    assert capsys.readouterr().err.startswith(message)


def test_faults_of_the_program_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run", lambda _: {}["a fault"])
    with pytest.raises(KeyError):
        cli.main(["weights", "--params=p", "--out=o"])


def test_a_file_that_may_not_grow(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A real write that the system cuts off."""
    params = tmp_path / "params.json"
    params.write_text('{"model": "test_vit", "weights": {"source": "random", "seed": 0}}')
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        code = cli.main(["weights", f"--params={params}", f"--out={tmp_path / 'w.safetensors'}"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert code == 1
    errors = capsys.readouterr().err
    assert "a file would be larger than is allowed here" in errors
    assert f"in: {tmp_path / 'w.safetensors'}" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["params.json"]

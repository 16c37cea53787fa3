"""Which implementation runs, and that neither Triton nor a GPU is needed where it is not asked for."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from spheremap.base.errors import InputError
from spheremap.kernels import cosine_reconstruction, dispatch, require_compiler, use_triton

CPU = torch.ones(2, 3)


def test_auto_takes_the_reference_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert not use_triton("auto", CPU)
    assert not use_triton("reference", CPU)


def test_auto_takes_triton_on_a_gpu_if_it_reads_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch._subclasses.FakeTensorMode():
        half = torch.empty(2, 3, dtype=torch.float16, device="cuda")
        double = torch.empty(2, 3, dtype=torch.float64, device="cuda")
    monkeypatch.setattr(dispatch, "_TRITON_INSTALLED", True)
    assert use_triton("auto", half)
    assert use_triton("triton", half)
    assert not use_triton("reference", half)
    assert not use_triton("auto", half, CPU)
    assert not use_triton("auto", double)
    with pytest.raises(InputError, match="precision"):
        use_triton("triton", double)
    monkeypatch.setattr(dispatch, "_TRITON_INSTALLED", False)
    assert not use_triton("auto", half)


def test_triton_on_a_cpu_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_TRITON_INSTALLED", True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert use_triton("triton", CPU)
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(InputError, match=r"needs a CUDA device[\s\S]*TRITON_INTERPRET=1"):
        use_triton("triton", CPU)


def test_triton_must_be_installed_to_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_TRITON_INSTALLED", False)
    with pytest.raises(InputError, match="not installed"):
        cosine_reconstruction(CPU, CPU, backend="triton")
    assert cosine_reconstruction(CPU, CPU, backend="auto")[0] == 0


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(InputError, match="auto or reference or triton"):
        cosine_reconstruction(CPU, CPU, backend="cuda")  # type: ignore[arg-type]


def test_package_works_where_triton_is_missing(root: Path) -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch\n"
        "from spheremap.kernels import cosine_reconstruction, draw_key, sphere_geometry\n"
        "x = torch.eye(3)\n"
        "assert cosine_reconstruction(x, x)[0] < 1e-6\n"
        "index = torch.tensor([0]), torch.tensor([3])\n"
        "losses, _ = sphere_geometry(x, x[:, :2], *index, draw_key(0, 0))\n"
        "assert losses.isfinite().all()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(root / "src")})


def test_a_gpu_without_a_compiler_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match=r"C compiler.*Python\.h") as error:
        require_compiler()
    assert "train.backend" in str(error.value)
    (tmp_path / "Python.h").touch()
    (tmp_path / "gcc").touch(mode=0o755)
    require_compiler()

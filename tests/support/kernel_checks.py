"""How the tests of kernels compare, and how they break what they compare."""

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # a CPU means Triton's interpreter, see conftest.py
SINGLE_LIMIT = 1e-5  # relative, in the norm
ELEMENT_LIMIT = 1e-5  # of the largest element
ROUNDING = 1e-6  # of float32 sums: below this, which of two errors is the smaller is chance
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_NUMBER = itertools.count()


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over that of `expected`, in float64; infinite if NaNs or infinities differ."""
    actual, expected = actual.detach().cpu().double(), expected.detach().cpu().double()
    assert actual.shape == expected.shape
    finite = expected.isfinite()
    other, other_expected = actual[~finite], expected[~finite]
    alike = (other == other_expected) | (other.isnan() & other_expected.isnan())
    if not alike.all() or not actual[finite].isfinite().all():
        return float("inf")
    norm = float(expected[finite].norm())
    return float((actual[finite] - expected[finite]).norm()) / (norm or 1.0)


def assert_agrees(actual: Tensor, twin: Tensor, exact: Tensor, precision: torch.dtype) -> None:
    """Compare a kernel with its twin, or in half precision both with the result in float64.

    By norm, which bounds norm ratio and cosine as well, and in float32 by element: a small row that is wrong
    hides in the norm.

    Written so that NaN fails: `twin` is not to have any.
    """
    assert not twin.isnan().any(), "the twin gives NaN"
    assert actual.dtype == twin.dtype
    if precision == torch.float32:
        error = relative_error(actual, twin)
        assert error <= SINGLE_LIMIT, f"differs from the twin by {error:.2e}"
        largest = max(twin[twin.isfinite()].abs().flatten().tolist(), default=0.0)
        torch.testing.assert_close(actual, twin, rtol=1e-3, atol=ELEMENT_LIMIT * largest)
    else:
        error, of_twin = relative_error(actual, exact), relative_error(twin, exact)
        assert error <= 2 * of_twin + ROUNDING, f"{error:.2e} from the truth, the twin {of_twin:.2e}"


def broken(folder: Path, name: str, right: str, wrong: str) -> ModuleType:
    """An operator of its own in which one piece of the source of `spheremap.kernels.NAME` is replaced."""
    spec = importlib.util.find_spec(f"spheremap.kernels.{name}")
    assert spec is not None
    source = Path(str(spec.origin)).read_text()
    assert right in source, f"{name}.py has no {right!r} to break"
    file = folder / f"broken_{name}.py"  # Triton reads the source of its programs from a file
    file.write_text(source.replace(right, wrong).replace('"spheremap::', f'"broken_{next(_NUMBER)}::'))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

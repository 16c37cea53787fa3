"""Compile every Triton program, without a GPU, as the kernels would launch it there.

Run as a script with compute capabilities (80, 90, 100) as arguments, without TRITON_INTERPRET. The launches
are recorded from the kernels' own code, run on fake CUDA tensors at the paper's size: what is compiled is
what would run. Prints a JSON list: what the compiled objects say of their resources.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from spheremap.kernels.programs import cosine_reconstruction, reduction, sphere_geometry

STARVED = "given too few registers"
BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.int32: "i32",
    torch.int64: "i64",
}


def record_launches() -> list[tuple[str, Any, tuple[Any, ...], dict[str, Any]]]:
    """Every launch as (variant, program, arguments, options)."""
    launches: list[tuple[str, Any, tuple[Any, ...], dict[str, Any]]] = []
    variant = ""

    def launch(program: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        assert all(size > 0 for size in grid)
        launches.append((variant, program, arguments, options))

    for module in (cosine_reconstruction, reduction, sphere_geometry):
        module.launch = launch  # type: ignore[attr-defined]
    with FakeTensorMode():
        for variant, call in calls().items():  # noqa: B007 (read by `launch`)
            call()
    return launches


def calls() -> dict[str, Callable[[], object]]:
    """The kernels at the paper's size: 64 images of 32 x 32 patches, width 768."""

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="cuda")

    def index(*shape: int) -> Tensor:
        return empty(*shape, dtype=torch.int64)

    def cosine(features: torch.dtype, reconstruction: torch.dtype, *, picked: bool) -> None:
        inputs = (
            empty(65536, 768, dtype=features),
            empty(13000, 768, dtype=reconstruction),
            index(13000) if picked else None,
        )
        _, factors, inverse = cosine_reconstruction.forward(*inputs)
        cosine_reconstruction.backward(empty(), *inputs, factors, inverse)

    def geometry(points: torch.dtype, per_image: int) -> None:
        inputs = (empty(13000, 3, dtype=points), empty(13000, 2), index(64), index(64), index(3))
        options = (per_image, 0.5, 0.7)
        _, inverse = sphere_geometry.forward(*inputs, *options)
        sphere_geometry.backward(empty(2), *inputs, inverse, *options)
        sphere_geometry.draw(index(64), index(64), per_image, index(3), 1)

    half, brain, single = torch.float16, torch.bfloat16, torch.float32
    return {
        "float16, bfloat16, picked": lambda: cosine(half, brain, picked=True),
        "float16, float32": lambda: cosine(half, single, picked=False),
        "float32, 32 triplets": lambda: geometry(single, 32),
    }


def source_of(
    program: Any, arguments: tuple[Any, ...], options: dict[str, Any]
) -> tuple[ASTSource, dict[str, Any]]:
    """What Triton would compile for a launch, and with which options of its own."""
    names = program.arg_names
    values = dict(zip(names, arguments, strict=False))
    values.update({name: value for name, value in options.items() if name in names})
    own = {name: value for name, value in options.items() if name not in names}
    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(program.params):
        value = values[parameter.name]
        special = not parameter.do_not_specialize
        if parameter.is_constexpr or value is None or (special and isinstance(value, int) and value == 1):
            signature[parameter.name] = "constexpr"
            constants[parameter.name] = value
            continue
        if isinstance(value, Tensor):
            signature[parameter.name] = "*" + TYPES[value.dtype]
        else:
            signature[parameter.name] = "i32" if isinstance(value, int) else "fp32"
        if isinstance(value, Tensor) or (special and isinstance(value, int) and value % 16 == 0):
            attributes[(i,)] = [["tt.divisibility", 16]]
    return ASTSource(program, signature, constants, attributes), own


def resources(binary: bytes) -> dict[str, int]:
    """Registers per thread, and bytes of stack and local memory, from a compiled object.

    Spilled registers go to the stack, and nothing else in these programs does.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        command = [str(BIN / "cuobjdump"), "--dump-resource-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    fields = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", text))
    return {"registers": int(fields["REG"]), "stack": int(fields["STACK"]), "local": int(fields["LOCAL"])}


def compile_one(capability: int, variant: str, source: ASTSource, options: dict[str, Any]) -> dict[str, Any]:
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return {
        "capability": capability,
        "program": source.fn.__name__,
        "variant": variant,
        "shared": compiled.metadata.shared,
        **resources(compiled.asm["cubin"]),
    }


def main(capabilities: list[int]) -> None:
    different: dict[str, tuple[str, ASTSource, dict[str, Any]]] = {}
    for variant, program, arguments, options in record_launches():
        source, own = source_of(program, arguments, options)
        different.setdefault(source.hash() + str(own), (variant, source, own))
        if program is sphere_geometry.geometry_backward:  # must spill, or spills cannot be seen
            different[STARVED] = (STARVED, source, {**own, "maxnreg": 32})
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(compile_one, c, *what) for c in capabilities for what in different.values()]
        json.dump([future.result() for future in futures], sys.stdout)


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])

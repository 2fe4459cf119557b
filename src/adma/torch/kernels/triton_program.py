"""A member's program as a Triton function: generated once for each formula, with its constants as arguments."""

from __future__ import annotations

import hashlib
import linecache
import struct
from functools import lru_cache
from typing import Any

import triton
import triton.language as tl

from adma.torch.kernels import triton_math
from adma.torch.kernels.program import Program

_EXPRESSIONS = {
    "neg": "-{}", "exp": "tl.exp({})", "expm1": "expm1({})", "log": "tl.log({})", "log1p": "log1p({})",
    "abs": "tl.abs({})", "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "div": "{} / {}", "pow": "power({}, {})",
    "less": "{} < {}", "less_equal": "{} <= {}", "where": "tl.where({}, {}, {})",
}  # fmt: skip
_COMPARISONS = ("less", "less_equal")


def source(program: Program) -> str:
    """Triton source of `psi_slope(t, constants)` -> (psi, slope), both of t's shape and type."""
    count = len(program.constants)
    lines = [f"c{i} = constant(constants[{2 * i}], constants[{2 * i + 1}], t)" for i in range(count)]
    truths = set()

    def name(value: int) -> str:
        if value == 0:
            return "t"
        return f"c{value - 1}" if value <= count else f"v{value}"

    def number(value: int) -> str:
        return f"{name(value)}.to(t.dtype)" if value in truths else name(value)

    for i, step in enumerate(program.code, 1 + count):
        operands = [number(o) for o in step.operands]
        if step.operation == "where":
            test = step.operands[0]
            operands[0] = name(test) if test in truths else f"{name(test)} != 0.0"
        if step.operation in _COMPARISONS:
            truths.add(i)
        lines.append(f"v{i} = {_EXPRESSIONS[step.operation].format(*operands)}")

    def result(value: int) -> str:  # a constant gets t's shape
        return f"{number(value)} + 0.0 * tl.exp(-t)" if 0 < value <= count else number(value)

    lines.append(f"return {result(program.psi)}, {result(program.slope)}")
    return "def psi_slope(t, constants):\n" + "".join(f"    {line}\n" for line in lines)


@lru_cache(maxsize=4096)
def function(program: Program) -> Any:
    """`source`, compiled by Triton; programs that differ in their constants only share it."""
    return _compiled(source(program))


@lru_cache(maxsize=256)
def _compiled(text: str) -> Any:
    name = f"<adma member {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)  # Triton reads its source there
    namespace: dict[str, Any] = {
        "tl": tl, "constant": triton_math.constant, "expm1": triton_math.expm1, "log1p": triton_math.log1p,
        "power": triton_math.power, "__name__": __name__,
    }  # fmt: skip
    exec(compile(text, name, "exec"), namespace)
    return triton.jit(namespace["psi_slope"])


@lru_cache(maxsize=4096)
def arguments(constants: tuple[float, ...]) -> tuple[int, ...]:
    """The constants as a kernel takes them: the bits of each float64 as two signed integers of 32.

    Triton would round a float argument to float32; a tensor of them would have to be copied to the device, which
    waits for it and cannot be done while a CUDA graph is captured.
    """
    bits = struct.pack(f">{len(constants)}d", *constants)
    return struct.unpack(f">{2 * len(constants)}i", bits) or (0,)

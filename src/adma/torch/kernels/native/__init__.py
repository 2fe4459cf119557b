"""The compiled CPU kernel: loss and gradient of any member in one walk over the logits."""

from __future__ import annotations

import ctypes
import struct
import threading
from functools import lru_cache

import torch
from torch import Tensor

from adma.torch.kernels.native.library import SETS, Library, UnavailableError, load
from adma.torch.kernels.program import OPERATIONS, Program, program_of
from adma.torch.kernels.terms import Shape

__all__ = ["reason_against", "rows_and_gradient", "values"]

_CALL = struct.Struct("=5P10qd2P4i".replace("P", "q"))  # the struct Call of call.hpp
_TYPE = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
_NUMBER = {name: i for i, name in enumerate(OPERATIONS)}


class _Held(threading.local):
    """One double a thread for the kernel to write into."""

    def __init__(self) -> None:
        self.value = ctypes.c_double()
        self.address = ctypes.addressof(self.value)


_held = _Held()


class _Packed:
    """A program as the last six fields of a call."""

    def __init__(self, program: Program) -> None:
        code = [n for step in program.code for n in (_NUMBER[step.operation], *step.operands, *(0, 0))[:4]]
        self._instructions = (ctypes.c_int32 * max(1, len(code)))(*code)
        self._constants = (ctypes.c_double * max(1, len(program.constants)))(*program.constants)
        self.fields = (
            ctypes.addressof(self._instructions), ctypes.addressof(self._constants), len(program.code),
            len(program.constants), program.psi, program.slope,
        )  # fmt: skip


def _pack(member: Shape | Program) -> _Packed | None:
    program = member if isinstance(member, Program) else program_of(member)
    return None if program is None else _Packed(program)


_remembered = lru_cache(maxsize=1024)(_pack)
_last: tuple[object, _Packed | None] = (None, None)


def _packed(member: Shape | Program) -> _Packed | None:
    """The program of a member, remembered; None if it has none."""
    global _last
    known, found = _last
    if known is member:  # the same loss as in the step before: not even hashed
        return found
    try:
        found = _remembered(member)  # type: ignore[arg-type]
    except TypeError:  # it cannot be hashed
        return _pack(member)
    _last = member, found
    return found


def reason_against(z: Tensor, member: Shape | Program) -> str:
    """Why this kernel does not serve a call; empty if it does."""
    if z.device.type != "cpu":
        return f"the compiled kernel runs on the CPU, not on {z.device.type}"
    if z.dtype not in _TYPE:
        return f"the compiled kernel has no {z.dtype}"
    library = load()
    if isinstance(library, str):
        return library
    if _packed(member) is None:
        return f"{type(member).__name__} has no program: its formula uses more than adma.torch.kernels.program knows"
    return ""


def serves(member: Shape) -> bool:
    """Whether a member has a program, and there is a kernel to run it."""
    return not isinstance(load(), str) and _packed(member) is not None


def rows_and_gradient(
    z: Tensor,
    target: Tensor,
    member: Shape | Program,
    scale: Tensor | float,
    *,
    out: Tensor | None,
    rows: Tensor | None = None,
    instructions: str | None = None,
    threads: int | None = None,
) -> float:
    """Loss rows, the gradient of `sum(scale * rows)` in the logits, and that sum, in one walk. Without a graph.

    Args:
        z: logits (N, C, M) on the CPU, of any strides.
        target: class indices (N, M) in [0, C) where `scale` is not 0, int64.
        member: psi and slope, with a program; or that itself.
        scale: (N, M) float64, or one number for all rows; a row with scale 0 has loss 0 and gradient 0, whatever its
            logits.
        out: where the gradient is written, of z's shape and type; it may be z. None: no gradient is asked for.
        rows: where the loss rows (N, M) are written, float64 and contiguous. None: they are not asked for.
        instructions: an instruction set by name instead of the machine's best.
        threads: instead of torch's number.

    Returns:
        `sum(scale * rows)`. It and all else do not depend on the number of threads.

    Raises:
        UnavailableError: `reason_against` says why.
        MemoryError: there is none for the threads' scratch.
    """
    library, program = load(), _packed(member)
    if isinstance(library, str) or program is None:
        raise UnavailableError(reason_against(z, member))
    target = target.contiguous()
    every = 0.0
    if isinstance(scale, Tensor):
        scale = scale.contiguous()
        at = scale.data_ptr()
        if at == 0:  # no rows
            return 0.0
    else:
        every, at = scale, 0
    n, c, m = z.shape
    call = _CALL.pack(
        z.data_ptr(), 0 if out is None else out.data_ptr(), target.data_ptr(), at,
        0 if rows is None else rows.data_ptr(),
        n, c, m, *z.stride(), *((0, 0, 0) if out is None else out.stride()), _TYPE[z.dtype], every, *program.fields,
    )  # fmt: skip
    failed = library.handle.adma_native_rows_and_gradient(
        call,
        library.number if instructions is None else SETS.index(instructions),
        torch.get_num_threads() if threads is None else threads,
        _held.address,
    )
    if failed:
        raise MemoryError("no memory for the scratch of the compiled kernel")
    return _held.value.value


def reduced(
    z: Tensor, target: Tensor, member: Shape, ignore_index: int, mean: bool, *, out: Tensor | None
) -> float | None:
    """The mean or the sum of the rows, and its gradient in the logits, with all that a target asks for in one call.

    Args:
        z: logits (N, C) of any strides or (N, C, d1, ..., dK) contiguous, on the CPU, not empty.
        target: class indices (N, d1, ..., dK), int64 and contiguous.
        member: psi and slope; it has a program.
        ignore_index: a target that counts nothing; its row's gradient is 0, whatever its logits.
        mean: over the targets that count, 0 if none does; else the sum.
        out: where the gradient is written, of z's shape and type; it may be z. None: no gradient is asked for.

    Returns:
        The mean or sum; None, and nothing is written, if a target is no class and not `ignore_index`.

    Raises:
        UnavailableError: `reason_against` says why.
        MemoryError: there is none for the threads' scratch.
    """
    library, program = load(), _packed(member)
    if isinstance(library, str) or program is None:
        raise UnavailableError(reason_against(z, member))
    n, c, m, zn, zc, zm = _extent(z)
    on, oc, om = (0, 0, 0) if out is None else _extent(out)[3:]
    call = _CALL.pack(
        z.data_ptr(), 0 if out is None else out.data_ptr(), target.data_ptr(), 0, 0,
        n, c, m, zn, zc, zm, on, oc, om, _TYPE[z.dtype], 0.0, *program.fields,
    )  # fmt: skip
    failed = library.handle.adma_native_reduced(
        call, library.number, torch.get_num_threads(), ignore_index, mean, _held.address
    )
    if failed == 1:
        raise MemoryError("no memory for the scratch of the compiled kernel")
    return None if failed else _held.value.value


def _extent(z: Tensor) -> tuple[int, int, int, int, int, int]:
    """N, C, M and their strides, of (N, C) or contiguous (N, C, d1, ..., dK)."""
    shape = z.shape
    n, c = shape[0], shape[1]
    if len(shape) == 2:
        return n, c, 1, *z.stride(), 1  # type: ignore[return-value]
    m = z.numel() // (n * c)
    return n, c, m, c * m, m, 1


def survey(target: Tensor, classes: int, ignore_index: int) -> tuple[int, int] | None:
    """What an index target holds.

    Args:
        target: int64, on the CPU.
        classes: how many there are.
        ignore_index: what is no class and means that a row does not count.

    Returns:
        The first position outside [0, classes) that is not `ignore_index`, or -1, and how many are `ignore_index`;
        None where there is no compiled kernel.
    """
    library = load()
    if isinstance(library, str):
        return None
    target = target.contiguous()
    ignored = ctypes.c_int64()
    wrong = library.handle.adma_native_survey(
        target.data_ptr(), target.numel(), classes, ignore_index, ctypes.addressof(ignored)
    )
    return wrong, ignored.value


def values(program: Program, t: Tensor, *, instructions: str | None = None) -> tuple[Tensor, Tensor]:
    """Psi and slope of t (any shape, float64), as the kernel interprets a program."""
    library = load()
    if isinstance(library, str):
        raise UnavailableError(library)
    t = t.contiguous()
    psi, slope = torch.empty_like(t), torch.empty_like(t)
    held = _Packed(program)
    number = library.number if instructions is None else SETS.index(instructions)
    packed = struct.pack("=2q4i", *held.fields)
    if library.handle.adma_native_values(packed, number, t.data_ptr(), psi.data_ptr(), slope.data_ptr(), t.numel()):
        raise MemoryError("no memory for the scratch of the compiled kernel")
    return psi, slope


def instruction_sets(library: Library) -> list[str]:
    """Those that this machine can run."""
    able = library.handle.adma_native_sets()
    return [name for i, name in enumerate(SETS) if able >> i & 1]

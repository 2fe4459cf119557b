"""The compiled CPU kernel for targets that give every class a weight: label smoothing, and class probabilities."""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from adma.torch.kernels import native
from adma.torch.kernels.native.library import SETS, UnavailableError, load
from adma.torch.kernels.program import program_of
from adma.torch.kernels.terms import Shape

_DENSE = struct.Struct("=6qdq")  # what the struct Dense of call.hpp has behind its Call
_POINTS = np.concatenate([[0.0], np.logspace(-12, 3, 61), [np.inf]])


def _identity(member: Shape) -> bool:
    program = program_of(member)
    if program is None or program.psi != 0:
        return False
    with np.errstate(all="ignore"):
        return bool((member.slope(_POINTS, np) == 1.0).all())


_remembered = lru_cache(maxsize=1024)(_identity)


def identity(member: Shape) -> bool:
    """Whether psi is t itself, as its program has it, and its slope 1."""
    try:
        return _remembered(member)  # type: ignore[arg-type]
    except TypeError:  # it cannot be hashed
        return _identity(member)


def reason_against(z: Tensor, target: Tensor, member: Shape) -> str:
    """Why this kernel does not serve a call; empty if it does."""
    if target.is_floating_point() and target.dtype not in native._TYPE:
        return f"the compiled kernel has no {target.dtype}"
    return native.reason_against(z, member)


def rows_and_gradient(
    z: Tensor,
    target: Tensor,
    member: Shape,
    scale: Tensor | float,
    *,
    smoothing: float,
    weight: Tensor | None,
    out: Tensor | None,
    rows: Tensor | None = None,
    instructions: str | None = None,
    threads: int | None = None,
) -> float:
    """Rows `sum_j w_j psi(t_j)`, the gradient of `sum(scale * rows)` in the logits, and that sum, in one walk.

    t_j is the negative log-likelihood of class j, `w_j = weight_j ((1 - smoothing) y_j + smoothing / C)`.

    Args:
        z: logits (N, C, M) on the CPU, of any strides.
        target: class indices (N, M) in [0, C) where `scale` is not 0, int64, whose y is 1 there and 0 elsewhere; or
            y itself (N, C, M), of any floating type and any strides.
        member: psi and slope; it has a program.
        scale, out, rows, instructions, threads: as `native.rows_and_gradient` has them.
        smoothing: in [0, 1].
        weight: (C), of the classes; None: all 1.

    Raises:
        UnavailableError: `reason_against` says why.
        MemoryError: there is none for the threads' scratch.
    """
    library, program = load(), native._packed(member)
    if isinstance(library, str) or program is None:
        raise UnavailableError(reason_against(z, target, member))
    every, at = 0.0, 0
    if isinstance(scale, Tensor):
        scale = scale.contiguous()
        at = scale.data_ptr()
        if at == 0:  # no rows
            return 0.0
    else:
        every = scale
    hard = target.dim() == 2
    target = target.contiguous() if hard else target
    weight = None if weight is None else weight.detach().double().contiguous()
    n, c, m = z.shape
    call = native._CALL.pack(
        z.data_ptr(), 0 if out is None else out.data_ptr(), target.data_ptr() if hard else 0, at,
        0 if rows is None else rows.data_ptr(),
        n, c, m, *z.stride(), *((0, 0, 0) if out is None else out.stride()), native._TYPE[z.dtype], every,
        *program.fields,
    ) + _DENSE.pack(
        0 if hard else target.data_ptr(), 0 if weight is None else weight.data_ptr(),
        *((0, 0, 0, 0) if hard else (native._TYPE[target.dtype], *target.stride())), smoothing, identity(member),
    )  # fmt: skip
    failed = library.handle.adma_native_dense_rows_and_gradient(
        call,
        library.number if instructions is None else SETS.index(instructions),
        torch.get_num_threads() if threads is None else threads,
        native._held.address,
    )
    if failed:
        raise MemoryError("no memory for the scratch of the compiled kernel")
    return native._held.value.value

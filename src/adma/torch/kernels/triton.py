"""The GPU engine: rows and gradients of any member by one Triton kernel (CUDA, ROCm).

Triton is imported when the first kernel is launched; without it, everything else works.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from adma.torch.kernels import terms
from adma.torch.kernels.program import Program, program_of

OLDEST = (3, 4)  # of Triton: the one of torch 2.8


@dataclass(frozen=True)
class Plan:
    """How a kernel is cut and launched.

    by_row: a program has `lanes` rows, `neighbours` classes of each at a step; else it has one row.
    lanes, neighbours: what one step of a walk over one row takes is lanes x neighbours logits.
    hold: lanes whose logits stay in registers between the two walks of one row; 0 holds none.
    warps: per program.
    resident: with a number, a persistent grid of that many programs a multiprocessor; 0 is a program for each tile.
    ahead: whether a step is loaded while the one before is computed.
    evict: the cache's policy for what the first walk reads and the second reads again.
    shared: so many programs take a part of a row each (`triton_split`); needs `resident`, and classes side by side.
    """

    by_row: bool
    lanes: int
    neighbours: int
    warps: int
    hold: int = 0
    resident: int = 0
    ahead: bool = True
    evict: str = "evict_last"
    shared: bool = False


def _power(n: int) -> int:
    """The least power of two that is not less than n."""
    return 1 << max(0, n - 1).bit_length()


# The most classes of a row that one program keeps in registers, by the logits' bytes
_LONGEST_HELD = {2: 16384, 4: 8192, 8: 4096}
# Logits of several rows that one program has in registers at a time
_TILE = 2048
# Rows of no more classes than this have a thread each, which walks through its row twice by way of the L1 cache: the
# terms of a row would otherwise be computed by every thread that has a part of it
_LONGEST_THREAD = 64
# Rows of no more classes than this share a program
_LONGEST_SHARED = 512


def plan(classes: int, inner: int, contiguous: bool, itemsize: int) -> Plan:
    """The plan for rows of `classes` logits, `inner` neighbouring rows, `contiguous` along the classes or not."""
    vector = 16 // itemsize
    width = _power(classes)
    if not contiguous:
        lanes = min(256, _power(inner))
        if width * 32 <= _TILE:
            lanes = min(lanes, _TILE // width)
            return Plan(True, lanes, width, max(1, min(4, lanes * width // 512)))
        return Plan(True, lanes, max(1, _TILE // lanes), 4)
    if classes <= _LONGEST_THREAD:
        divisor = classes & -classes
        return Plan(True, min(128, _power(inner)), min(vector, divisor), 4)
    if classes <= _LONGEST_SHARED:
        lanes = min(max(1, _TILE // width), _power(inner))
        return Plan(True, lanes, width, max(1, min(4, lanes * width // 512)))
    if classes <= _LONGEST_HELD[itemsize]:
        # where the length is no number of vectors, rows begin between two
        hold = _power(classes + (vector - 1 if classes % vector else 0)) // vector
        return Plan(False, 32, vector, max(1, min(16, width // 1024)), hold)
    return Plan(False, 1024, vector, 32)


def rows_and_gradient(
    z: Tensor, target: Tensor, program: Program, scale: Tensor, *, out: Tensor | None = None, plan: Plan | None = None
) -> tuple[Tensor, Tensor]:
    """The loss of each row, and the gradient of `sum(scale * rows)` in the logits, by one kernel.

    Args:
        z: logits (N, C, M), any strides.
        target: class indices (N, M) in [0, C), int64; a row whose target is outside has loss and gradient NaN.
        program: the member's.
        scale: (N, M), float; a row with scale 0 has loss 0 and gradient 0, whatever its logits, which are not read.
        out: where to write the gradient, of z's shape and type; it may be z. By default new memory.
        plan: how to launch; by default what was found fast.

    Returns:
        The rows (N, M), in `terms.row_dtype`, not scaled; and the gradient (N, C, M), in z's type.
    """
    out = torch.empty_like(z) if out is None else out
    rows = torch.empty(target.shape, dtype=terms.row_dtype(z.device), device=z.device)
    if plan is not None and plan.shared:
        _launch_split(z, out, target, scale, rows, program, plan)
    else:
        _launch(z, out, target, scale, rows, (rows, rows, rows), program, True, True, plan)
    return rows, out


def rows(
    z: Tensor, target: Tensor, program: Program, keep: Tensor | None, *, plan: Plan | None = None
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """The loss of each row, and what `gradient` wants to know of it: level, total, log-odds, (N, M) each.

    keep: (N, M) bool; rows where it is False have loss 0 and are not read.
    """
    kind = row_dtype(z.dtype)
    losses = torch.empty(target.shape, dtype=terms.row_dtype(z.device), device=z.device)
    level, total, odds = (torch.empty(target.shape, dtype=kind, device=z.device) for _ in range(3))
    counts = torch.ones((), dtype=torch.uint8, device=z.device).expand(target.shape) if keep is None else keep
    if counts.dtype == torch.bool:
        counts = counts.view(torch.uint8)
    _launch(z, z, target, counts, losses, (level, total, odds), program, True, False, plan)
    return losses, (level, total, odds)


def gradient(
    z: Tensor,
    target: Tensor,
    saved: tuple[Tensor, Tensor, Tensor],
    program: Program,
    grad_rows: Tensor,
    *,
    out: Tensor | None = None,
    plan: Plan | None = None,
) -> Tensor:
    """The gradient of `sum(grad_rows * rows)` in the logits, from what `rows` saved; 0 where `grad_rows` is 0.

    grad_rows: (N, M), 0 in rows that `rows` did not keep. out: as `rows_and_gradient` has it.
    """
    out = torch.empty_like(z) if out is None else out
    _launch(z, out, target, grad_rows, saved[2], saved, program, False, True, plan)
    return out


def dense_rows(
    z: Tensor, target: Tensor, program: Program, scale: Tensor, smoothing: float, weight: Tensor | None,
    *, backward: bool = True, out: Tensor | None = None, block: int | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Rows `sum_j w_j psi(t_j)`, `w_j = weight_j ((1 - smoothing) y_j + smoothing / C)`, and a gradient, by one kernel.

    Args:
        z: logits (N, C, M), any strides.
        target: class indices (N, M) in [0, C), int64 (outside, loss and gradient are NaN); or y (N, C, M), floating.
        program: the member's.
        scale: (N, M), float; a row with scale 0 has loss 0 and gradient 0, whatever its logits, which are not read.
        smoothing: in [0, 1].
        weight: (C), of the classes; None: all 1.
        backward: whether the gradient of `sum(scale * rows)` is asked for.
        out: where to write it, of z's shape and type; it may be z. By default new memory.
        block: classes of a step, a power of two; by default what was found fast.

    Returns:
        The rows (N, M), in `terms.row_dtype`, not scaled; and the gradient (N, C, M), in z's type, or None.
    """
    n, classes, m = z.shape
    losses = torch.empty((n, m), dtype=terms.row_dtype(z.device), device=z.device)
    out = (torch.empty_like(z) if out is None else out) if backward else None
    if n * m == 0 or classes == 0:
        return losses, out
    import triton.language as tl

    from adma.torch.kernels import triton_dense, triton_program

    soft, into = target.dim() == 3, z if out is None else out
    shares, classes_weight = target if soft else z, scale if weight is None else weight.detach().contiguous()
    index, index_strides = (losses, (0, 0)) if soft else (target, target.stride())
    with _on(z.device):
        triton_dense.dense_kernel[(n * m,)](
            z, into, index, shares, classes_weight, scale, losses, m, classes,
            *_strides(z), *_strides(into), *index_strides, *_strides(shares),
            *scale.stride(), triton_program.arguments((smoothing / classes, 1.0 - smoothing)),
            triton_program.arguments(program.constants), PSI_SLOPE=triton_program.function(program), SOFT=soft,
            WEIGHTED=weight is not None, BACKWARD=backward, V=block or min(2048, _power(classes)),
            ROW=tl.float64 if row_dtype(z.dtype) == torch.float64 else tl.float32,
        )  # fmt: skip
    return losses, out


def _strides(tensor: Tensor) -> tuple[int, int, int]:
    """Over rows, positions and classes, of (N, C, M)."""
    return tensor.stride(0), tensor.stride(2), tensor.stride(1)


def scale_(gradient: Tensor, factor: Tensor) -> Tensor:
    """Multiplies a gradient, in place, by a tensor of one number that the device alone has to know.

    Where it is 1, as in most backward passes, the memory is not touched.
    """
    span = 1 + sum((n - 1) * stride for n, stride in zip(gradient.shape, gradient.stride(), strict=True))
    if gradient.numel() and span != gradient.numel():  # something else lies in between
        return gradient.mul_(factor)
    if gradient.numel():
        import triton.language as tl

        from adma.torch.kernels import triton_kernels

        work = tl.float64 if gradient.dtype == torch.float64 else tl.float32
        size = 4096
        with _on(gradient.device):
            triton_kernels.scale_kernel[(-(-gradient.numel() // size),)](
                gradient, factor, gradient.numel(), SIZE=size, WORK=work
            )
    return gradient


def row_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of a row's arithmetic: float64 is slow on many GPUs, and a half type's own rounding hides float32's."""
    return torch.float64 if dtype in (torch.float32, torch.float64) else torch.float32


def _launch(
    z: Tensor,
    out: Tensor,
    target: Tensor,
    scale: Tensor,
    losses: Tensor,
    saved: tuple[Tensor, Tensor, Tensor],
    program: Program,
    forward: bool,
    backward: bool,
    chosen: Plan | None,
) -> None:
    n, classes, m = z.shape
    if n * m == 0 or classes == 0:
        return
    import triton.language as tl

    from adma.torch.kernels import triton_kernels, triton_program

    types = {torch.float32: tl.float32, torch.float64: tl.float64}

    def outer_inner(tensor: Tensor) -> tuple[int, int]:
        return (0, tensor.stride(0)) if m == 1 else (tensor.stride(0), tensor.stride(-1))

    outer, inner = (1, n) if m == 1 else (n, m)
    cut = chosen or plan(classes, inner, z.stride(1) == 1, z.element_size())
    z_outer, z_inner, out_outer, out_inner = *outer_inner(z), *outer_inner(out)
    vector, unit, shifted = cut.neighbours, 1, False
    if z.stride(1) == 1 and out.stride(1) == 1:  # the kernel takes its row strides in units
        while unit < 16 and all(x % (2 * unit) == 0 for x in (classes, z_outer, z_inner, out_outer, out_inner)):
            unit *= 2
        shifted = not cut.by_row and unit < vector and (z_outer, z_inner) == (out_outer, out_inner)
        shifted = shifted and z.data_ptr() % 16 == out.data_ptr() % 16 == 0
    widest = (classes + (cut.lanes + cut.hold) * vector) * max(z.stride(1), out.stride(1))
    tiles = outer * -(-inner // cut.lanes) if cut.by_row else outer * inner
    grid = min(tiles, _processors(z.device) * cut.resident) if cut.resident else tiles
    longest = classes + (vector - 1 if shifted else 0)
    with _on(z.device):
        triton_kernels.row_kernel[(grid,)](
            z, out, target, scale, losses, *saved, tiles, inner, classes // unit,
            z_outer // unit, z_inner // unit, z.stride(1), out_outer // unit, out_inner // unit, out.stride(1),
            *outer_inner(target), *outer_inner(scale), triton_program.arguments(program.constants),
            PSI_SLOPE=triton_program.function(program), FORWARD=forward, BACKWARD=backward, BY_ROW=cut.by_row,
            HOLD=cut.hold, WALK=longest > (1 if cut.by_row else cut.hold) * vector, A=cut.lanes, V=vector, UNIT=unit,
            SHIFTED=shifted, WIDE=widest >= 1 << 31, WORK=types[terms.compute_dtype(z.dtype)],
            ROW=types[row_dtype(z.dtype)], EXACT=z.dtype == torch.float32, EVICT=cut.evict, AHEAD=cut.ahead,
            PERSISTENT=bool(cut.resident), num_warps=cut.warps,
        )  # fmt: skip


def _on(device: torch.device) -> AbstractContextManager[object]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _launch_split(
    z: Tensor, out: Tensor, target: Tensor, scale: Tensor, losses: Tensor, program: Program, cut: Plan
) -> None:
    n, classes, _ = z.shape
    if n == 0:
        return
    import triton.language as tl

    from adma.torch.kernels import triton_program, triton_split

    types = {torch.float32: tl.float32, torch.float64: tl.float64}
    parts = -(-classes // (cut.lanes * cut.neighbours))
    unit, z_row, out_row = 1, z.stride(0), out.stride(0)
    while unit < 16 and all(x % (2 * unit) == 0 for x in (classes, z_row, out_row)):
        unit *= 2
    work = terms.compute_dtype(z.dtype)
    tops, sums = torch.empty(2, n, parts, dtype=work, device=z.device)
    arrived = torch.zeros(n, dtype=torch.int32, device=z.device)
    room = max(1, _processors(z.device) * cut.resident // parts) * parts
    with _on(z.device):
        triton_split.split_kernel[(min(n * parts, room),)](
            z, out, target, scale, losses, tops, sums, arrived, n * parts, classes // unit, z_row // unit,
            out_row // unit, target.stride(0), scale.stride(0), triton_program.arguments(program.constants),
            PSI_SLOPE=triton_program.function(program), PARTS=parts, WIDTH=_power(parts), A=cut.lanes,
            V=cut.neighbours, UNIT=unit, WORK=types[work], ROW=types[row_dtype(z.dtype)],
            EXACT=z.dtype == torch.float32, num_warps=cut.warps, launch_cooperative_grid=z.is_cuda,
        )  # fmt: skip


@lru_cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def program(shape: terms.Shape) -> Program:
    """The program of a member that `reason_against` has nothing against."""
    found = program_of(shape)
    assert found is not None
    return found


def reason_against(z: Tensor, shape: terms.Shape) -> str:
    """Why the kernels do not serve logits z with a member, in words; empty if they do."""
    if z.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        return f"no kernel for {z.dtype}"
    return why_not(z.device) or ("" if program_of(shape) else f"{type(shape).__name__} has no program")


@lru_cache
def why_not(device: torch.device) -> str:
    """Why no kernel runs on a device, in words; empty if one does."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if device.type != "cuda" and not (device.type == "cpu" and interpreted()):
        return f"Triton has no kernels for {device.type}"
    import triton

    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST:
        return f"Triton {triton.__version__} is older than {OLDEST[0]}.{OLDEST[1]}"
    if device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) < (7, 0):
        return "Triton needs compute capability 7.0 or newer"
    return ""


def interpreted() -> bool:
    """Whether Triton's interpreter stands in for a GPU (TRITON_INTERPRET=1), on CPU tensors.

    Triton is not imported for it: a training on the CPU does without.
    """
    knobs: Any = sys.modules.get("triton.knobs")
    if knobs is not None:
        return bool(knobs.runtime.interpret)
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on")

"""Loss and gradient in one walk over the logits, for a loss that will be summed: the engine's way to the kernels.

A "mean" or "sum" of rows is known before the rows are: the gradient of row i is its own times a factor that depends on
targets and class weights alone. So the forward pass writes it, beside the loss, while the row is in the cache, and the
backward pass hands it out. Rows that are not reduced, and float16 logits (whose gradient would vanish before a loss
scale reaches it), are walked once in each pass instead.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from adma.torch.kernels import eager, native, operators, triton
from adma.torch.kernels.choose import batched, choose_rows, lazy, ordinary, transforming
from adma.torch.kernels.program import formula
from adma.torch.kernels.terms import Shape


def rows_and_gradient(
    z: Tensor, target: Tensor, shape: Shape, scale: Tensor, *, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`eager.rows_and_gradient` by the fastest kernel for these tensors; arguments and result as there."""
    engine = choose_rows(z, target, shape).engine
    if engine == "triton":
        return triton.rows_and_gradient(z, target, triton.program(shape), scale, out=out)
    if engine != "native":
        return eager.rows_and_gradient(z, target, shape, scale, out=out)
    out = torch.empty_like(z) if out is None else out
    rows = torch.empty(target.shape, dtype=torch.float64, device=z.device)
    native.rows_and_gradient(z, target, shape, scale, out=out, rows=rows)
    return rows, out


def index_rows(
    z: Tensor, target: Tensor, shape: Shape, keep: Tensor | None, engine: str, *, inplace: bool = False
) -> Tensor:
    """`eager.index_rows` by an engine; in place, the backward pass leaves the gradient in the logits' memory.

    Args:
        z: logits (N, C, M).
        target: class indices (N, M) in [0, C).
        shape: psi and slope.
        keep: (N, M) bool; rows where it is False count 0, with gradient 0 whatever their logits. None: all count.
        engine: what `choose_rows` says of them.
        inplace: see above; the caller has made sure that this can be done.

    Returns:
        (N, M), in `terms.row_dtype`.
    """
    if (engine == "triton" and not inplace) or (engine == "native" and torch.compiler.is_compiling()):
        code, constants = formula(shape)
        found: Tensor = operators.rows(z, target, keep, code, list(constants))[0]
        return found
    if engine == "native" or (engine in ("eager", "triton") and inplace):
        rows: Tensor = _Rows.apply(z, target, shape, keep, inplace)
        return rows
    return eager.index_rows(z, target, shape, keep)


def one_walk(engine: str, dtype: torch.dtype) -> bool:
    """Whether `reduced` serves: plain autograd by a compiled kernel, in a type that a factor cannot empty.

    Without a compiled kernel the eager engine's two passes stay: from 1000 classes on they are faster than its one.
    """
    return engine in ("native", "triton") and dtype != torch.float16


def reduced(
    z: Tensor, target: Tensor, shape: Shape, scale: Tensor | float, dtype: torch.dtype, *, inplace: bool = False
) -> Tensor:
    """`sum(scale * rows)` (), of a type, with the gradient made on the way.

    Args:
        z: logits (N, C, M).
        target: class indices (N, M) in [0, C), valid also where `scale` is 0.
        shape: psi and slope.
        scale: (N, M) float64, no gradient; or one number for all rows.
        dtype: of the result, which is summed in float64.
        inplace: write the gradient into the logits' memory; the caller has made sure that this can be done.
    """
    graph = z.requires_grad and torch.is_grad_enabled()
    compiling = torch.compiler.is_compiling()
    if z.device.type != "cpu" or compiling:
        if not isinstance(scale, Tensor):  # filled on the device: a copy from here would wait for it
            scale = torch.full((), scale, dtype=torch.float64, device=z.device).expand(target.shape)
        if compiling:
            code, constants = formula(shape)
            if graph:
                return operators.loss_and_gradient(z, target, scale, code, list(constants))[0].to(dtype)
            return _weighed(scale, operators.rows(z, target, scale != 0, code, list(constants))[0]).to(dtype)
        if graph:
            found: Tensor = _ReducedOnDevice.apply(z, target, shape, scale, inplace)
            return found.to(dtype)
        rows, _ = triton.rows(z, target, triton.program(shape), scale != 0)
        return _weighed(scale, rows).to(dtype)
    if graph:
        total: Tensor = _Reduced.apply(z, target, shape, scale, dtype, inplace)
        return total
    alone = native.rows_and_gradient(z, target, shape, scale, out=None)
    return torch.scalar_tensor(alone, dtype=dtype, device=z.device)


def direct(
    z: Tensor, target: Tensor, shape: Shape, ignore_index: int, mean: bool, *, inplace: bool = False
) -> Tensor | None:
    """The loss of the most usual call by the shortest way: plain tensors on the CPU, class indices, mean or sum.

    What a small batch costs is mostly what is asked about it in Python, so this asks little, and gives up on any doubt.

    Args:
        z: logits (N, C) or (N, C, d1, ..., dK).
        target: class indices (N, d1, ..., dK).
        shape: psi and slope.
        ignore_index: a target that counts nothing.
        mean: over the targets that count; else the sum.
        inplace: write the gradient into the logits' memory.

    Returns:
        (), in the logits' type; None where the call is not of this kind, or is not valid: the checks say why.
    """
    if not (ordinary() and type(z) in _PLAIN and type(target) is Tensor and z.is_cpu and target.is_cpu):
        return None
    dtype, size = z.dtype, z.shape
    if dtype not in _DIRECT or target.dtype is not torch.int64 or len(size) < 2 or 0 in size:
        return None
    if target.shape != (size[:1] if len(size) == 2 else size[:1] + size[2:]) or not target.is_contiguous():
        return None
    if (len(size) > 2 and not z.is_contiguous()) or lazy(z) or not native.serves(shape):
        return None
    if dtype is torch.bfloat16 and torch.is_autocast_enabled("cpu"):  # where a loss is float32
        return None
    graph = z.requires_grad and torch.is_grad_enabled()
    if inplace and graph and (z.is_leaf or z._is_view() or not z.is_contiguous()):
        return None
    gradient = None if not graph else z.detach() if inplace else torch.empty_like(z, requires_grad=False)
    total = native.reduced(z, target, shape, ignore_index, mean, out=gradient)
    if total is None:
        return None
    if graph:
        found: Tensor = _apply_direct(z, target, total, gradient, (shape, ignore_index, mean), inplace)
        return found
    return torch.scalar_tensor(total, dtype=dtype, device=z.device)


_PLAIN = (Tensor, torch.nn.Parameter)
_DIRECT = (torch.float32, torch.float64, torch.bfloat16)


_ONCE = (
    "inplace=True: the gradient lies where the logits were, so this loss can be differentiated once only; "
    "leave inplace out for a second backward pass or for derivatives of higher order"
)


class _Reduced(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, target: Tensor, shape: Shape, scale: Tensor | float, dtype: torch.dtype, inplace: bool
    ) -> Tensor:
        gradient = z.detach() if inplace else torch.empty_like(z)
        total = native.rows_and_gradient(z, target, shape, scale, out=gradient)
        if inplace:
            torch.autograd.graph.increment_version(z)
        else:
            ctx.save_for_backward(z, target)
        ctx.gradient, ctx.shape, ctx.scale, ctx.inplace = gradient, shape, scale, inplace
        return torch.scalar_tensor(total, dtype=dtype, device=z.device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, None, None]:
        again = _again(grad)
        gradient, ctx.gradient = (None, ctx.gradient) if again else (ctx.gradient, None)
        if gradient is not None:
            factor = float(grad)
            if ctx.inplace or _bears(gradient, factor):
                return gradient if factor == 1.0 else gradient.mul_(factor), None, None, None, None, None
        if ctx.inplace:
            raise RuntimeError(_ONCE)
        z, target = ctx.saved_tensors
        if again:
            keep = ctx.scale != 0 if isinstance(ctx.scale, Tensor) else None
            seed = (grad.to(torch.float64) * ctx.scale).expand(target.shape)
            return eager.composed_gradient(z, target, ctx.shape, keep, seed), None, None, None, None, None
        out = torch.empty_like(z) if gradient is None else gradient
        native.rows_and_gradient(z, target, ctx.shape, ctx.scale * float(grad), out=out)
        return out, None, None, None, None, None


class _Direct(torch.autograd.Function):
    """`_Reduced` where the forward pass is done already, and what a second backward pass needs is made there."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, target: Tensor, total: float, gradient: Tensor, call: tuple[Shape, int, bool],
        inplace: bool,
    ) -> Tensor:  # fmt: skip
        if inplace:
            torch.autograd.graph.increment_version(z)
        else:
            ctx.save_for_backward(z, target)
        ctx.gradient, ctx.call, ctx.inplace = gradient, call, inplace
        return torch.scalar_tensor(total, dtype=z.dtype, device=z.device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, None, None]:
        again = _again(grad)
        gradient, ctx.gradient = (None, ctx.gradient) if again else (ctx.gradient, None)
        if gradient is not None:
            factor = float(grad)
            if ctx.inplace or _bears(gradient, factor):
                return gradient if factor == 1.0 else gradient.mul_(factor), None, None, None, None, None
        if ctx.inplace:
            raise RuntimeError(_ONCE)
        shape, ignore_index, mean = ctx.call
        z, target = ctx.saved_tensors
        rows, y = z.reshape(*z.shape[:2], -1), target.reshape(target.shape[0], -1)
        keep = y != ignore_index
        scale = keep.double()
        if mean:
            scale = scale / scale.sum().clamp(min=1.0)
        y = torch.where(keep, y, 0)
        if again:
            found = eager.composed_gradient(rows, y, shape, keep, (grad.double() * scale).expand(y.shape))
        else:
            found = torch.empty_like(rows)
            native.rows_and_gradient(rows, y, shape, scale * float(grad), out=found)
        return found.reshape(z.shape), None, None, None, None, None


# `_Direct.apply` without its questions about torch.func, which `direct` has asked
_apply_direct = super(torch.autograd.Function, _Direct).apply


def _again(grad: Tensor) -> bool:
    """Whether a gradient is to be differentiated itself, or mapped."""
    return torch.is_grad_enabled() or transforming() or batched(grad)


def _bears(gradient: Tensor, factor: float) -> bool:
    """Whether a gradient may be multiplied: by a power of 2, or in a type where one rounding more is of no account."""
    return gradient.dtype != torch.bfloat16 or abs(math.frexp(factor)[0]) == 0.5


def _weighed(scale: Tensor, rows: Tensor) -> Tensor:
    """`sum(scale * rows)`; a row whose loss is 0 because it does not count stays 0."""
    return (scale * rows).sum()


class _ReducedOnDevice(torch.autograd.Function):
    """`_Reduced` by the GPU's kernel: what the gradient is multiplied by is known there alone, and nothing waits.

    The product is rounded to the logits' type once more than the gradient was.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, target: Tensor, shape: Shape, scale: Tensor, inplace: bool) -> Tensor:
        program = triton.program(shape)
        rows, ctx.gradient = triton.rows_and_gradient(z, target, program, scale, out=z.detach() if inplace else None)
        if inplace:
            torch.autograd.graph.increment_version(z)
        else:
            ctx.save_for_backward(z, target)
        ctx.shape, ctx.scale, ctx.inplace = shape, scale, inplace
        return _weighed(scale, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        again = _again(grad)
        gradient, ctx.gradient = (None, ctx.gradient) if again else (ctx.gradient, None)
        if gradient is not None:
            return triton.scale_(gradient, grad), None, None, None, None
        if ctx.inplace:
            raise RuntimeError(_ONCE)
        z, target = ctx.saved_tensors
        if again:
            found = eager.composed_gradient(z, target, ctx.shape, ctx.scale != 0, grad * ctx.scale)
        else:
            found = triton.rows_and_gradient(z, target, triton.program(ctx.shape), grad * ctx.scale)[1]
        return found, None, None, None, None


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, target: Tensor, shape: Shape, keep: Tensor | None, inplace: bool) -> Tensor:
        ctx.save_for_backward(z, target, *([] if keep is None else [keep]))
        ctx.shape, ctx.inplace = shape, inplace
        engine = choose_rows(z, target, shape).engine
        if engine == "triton":
            return triton.rows(z, target, triton.program(shape), keep)[0]
        if engine != "native":
            return eager.index_rows(z, target, shape, keep)
        rows = torch.empty(target.shape, dtype=torch.float64, device=z.device)
        native.rows_and_gradient(z, target, shape, 1.0 if keep is None else keep.double(), out=None, rows=rows)
        return rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        z, target, *rest = ctx.saved_tensors
        keep = rest[0] if rest else None
        if _again(grad):
            return eager.composed_gradient(z, target, ctx.shape, keep, grad), None, None, None, None
        scale = grad if keep is None else torch.where(keep, grad, torch.zeros_like(grad))
        _, gradient = rows_and_gradient(z, target, ctx.shape, scale, out=z.detach() if ctx.inplace else None)
        if ctx.inplace:
            torch.autograd.graph.increment_version(z)
        return gradient, None, None, None, None

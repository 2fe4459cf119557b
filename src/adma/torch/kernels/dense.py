"""Targets that give every class a weight (label smoothing, class probabilities): rows and gradients by a kernel.

A row's loss is `sum_j w_j psi(t_j)`, t_j the negative log-likelihood of class j. As for class indices (`fused.py`), a
"mean" or "sum" is made with its gradient in one walk over the logits, and rows that are not reduced, or float16 logits,
are walked once in each pass. What is differentiated again, or mapped, goes through plain operators. What a backward
pass reads again, class weights too, is saved with autograd, which refuses it if it was changed in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adma.torch.kernels import terms, triton
from adma.torch.kernels.choose import batched, transforming
from adma.torch.kernels.fused import _ONCE as ONCE
from adma.torch.kernels.native import dense as native
from adma.torch.kernels.terms import Shape


@dataclass(frozen=True)
class Shares:
    """Which weights a target gives to the classes: `w_j = weight_j ((1 - smoothing) y_j + smoothing / C)`.

    smoothing: in [0, 1]. weight: (C), of the classes, or None.
    """

    smoothing: float
    weight: Tensor | None

    def of(self, target: Tensor, z: Tensor) -> Tensor:
        """The weights (N, C, M), of class indices (N, M) or probabilities (N, C, M)."""
        y = smoothed(target, z, self.smoothing).to(_cost_dtype(z))
        return y if self.weight is None else y * self.weight.to(y.dtype).unsqueeze(1)


def smoothed(y: Tensor, z: Tensor, label_smoothing: float) -> Tensor:
    """Indices or probabilities as probabilities (n, C, m), label smoothing applied."""
    if y.dim() == 2:
        work = terms.compute_dtype(z.dtype)
        y = torch.zeros(z.shape, dtype=work, device=z.device).scatter(1, y.unsqueeze(1), 1.0)
    if not label_smoothing:
        return y
    # a half type would round the smoothed shares
    return y.to(terms.compute_dtype(y.dtype)) * (1 - label_smoothing) + label_smoothing / z.shape[1]


def _cost_dtype(z: Tensor) -> torch.dtype:
    """What `terms.nll_all` computes in."""
    return terms.row_dtype(z.device) if z.dtype in (torch.float32, torch.float64) else torch.float32


def composed(shape: Shape, shares: Shares) -> Callable[[Tensor, Tensor], Tensor]:
    """The rows (n, m) of logits (n, C, m) and a target, by plain operators."""

    def function(z: Tensor, target: Tensor) -> Tensor:
        cost = shape.psi(terms.nll_all(z), terms.xp)
        return terms.weighed(shares.of(target, z).to(cost.dtype), cost).sum(1)

    return function


def even_where_not(keep: Tensor | None, z: Tensor) -> Tensor:
    """Logits with an even row, which is also one of probabilities, where a row does not count."""
    return z if keep is None else torch.where(keep.unsqueeze(1), z, 1.0 / z.shape[1])


def _composed_gradient(
    z: Tensor, target: Tensor, shape: Shape, shares: Shares, keep: Tensor | None, seed: Tensor
) -> Tensor:
    """The gradient of `sum(seed * rows)` by plain operators, to be differentiated again."""
    with torch.enable_grad():
        rows = composed(shape, shares)(even_where_not(keep, z), target)
        if keep is not None:
            rows = torch.where(keep, rows, torch.zeros_like(rows))
        (found,) = torch.autograd.grad(rows, z, seed.to(rows.dtype), create_graph=True)
    return found


def rows_and_gradient(
    z: Tensor, target: Tensor, shape: Shape, shares: Shares, scale: Tensor, *, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Rows (N, M), not scaled, and the gradient of `sum(scale * rows)`, for tensors that a kernel serves.

    Without a graph. scale: (N, M) float64. out: of z's shape and type, and may be z; by default new memory.
    """
    if _on_device(z):
        rows, gradient = _triton(z, target, shape, shares, scale, out=out)
        assert gradient is not None
        return rows, gradient
    out = torch.empty_like(z) if out is None else out
    rows = torch.empty((z.shape[0], z.shape[2]), dtype=torch.float64, device=z.device)
    _native(z, target, shape, shares, scale, out=out, rows=rows)
    return rows, out


def _native(
    z: Tensor, target: Tensor, shape: Shape, shares: Shares, scale: Tensor | float, *, out: Tensor | None,
    rows: Tensor | None = None,
) -> float:  # fmt: skip
    return native.rows_and_gradient(
        z, target, shape, scale, smoothing=shares.smoothing, weight=shares.weight, out=out, rows=rows
    )


def _on_device(z: Tensor) -> bool:
    """Whether the GPU's kernel serves logits, and not the CPU's."""
    return z.device.type == "cuda"


def _triton(
    z: Tensor, target: Tensor, shape: Shape, shares: Shares, scale: Tensor, *, backward: bool = True,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    program = triton.program(shape)
    return triton.dense_rows(z, target, program, scale, shares.smoothing, shares.weight, backward=backward, out=out)


def index_or_soft_rows(
    z: Tensor, target: Tensor, shape: Shape, shares: Shares, keep: Tensor | None, *, inplace: bool = False
) -> Tensor:
    """The loss of each row (N, M), in float64; a row where `keep` (N, M) is False has loss 0 and gradient 0.

    inplace: the backward pass leaves the gradient in the logits' memory.
    """
    rows: Tensor = _Rows.apply(z, target, shape, shares, keep, inplace)
    return rows


def reduced(
    z: Tensor, target: Tensor, shape: Shape, shares: Shares, scale: Tensor | float, dtype: torch.dtype,
    *, inplace: bool = False,
) -> Tensor:  # fmt: skip
    """`sum(scale * rows)` (), of a type, with the gradient made on the way.

    Args:
        z: logits (N, C, M).
        target: class indices (N, M) in [0, C), valid also where `scale` is 0; or probabilities (N, C, M).
        shape: psi and slope.
        shares: see there.
        scale: (N, M) float64, no gradient; or one number for all rows.
        dtype: of the result, which is summed in float64.
        inplace: write the gradient into the logits' memory; the caller has made sure that this can be done.
    """
    graph = z.requires_grad and torch.is_grad_enabled()
    if _on_device(z):
        if not isinstance(scale, Tensor):  # filled on the device: a copy from here would wait for it
            scale = torch.full((), scale, dtype=torch.float64, device=z.device).expand(z.shape[0], z.shape[2])
        if graph:
            found: Tensor = _ReducedOnDevice.apply(z, target, shape, shares, scale, inplace)
            return found.to(dtype)
        rows, _ = _triton(z, target, shape, shares, scale, backward=False)
        return (scale * rows).sum().to(dtype)
    if graph:
        total: Tensor = _Reduced.apply(z, target, shape, shares, scale, dtype, inplace)
        return total
    alone = _native(z, target, shape, shares, scale, out=None)
    return torch.scalar_tensor(alone, dtype=dtype, device=z.device)


class _Reduced(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, target: Tensor, shape: Shape, shares: Shares, scale: Tensor | float, dtype: torch.dtype,
        inplace: bool,
    ) -> Tensor:  # fmt: skip
        gradient = z.detach() if inplace else torch.empty_like(z)
        total = _native(z, target, shape, shares, scale, out=gradient)
        if inplace:
            torch.autograd.graph.increment_version(z)
        else:
            ctx.save_for_backward(z, target, shares.weight)
        ctx.gradient, ctx.scale, ctx.inplace = gradient, scale, inplace
        ctx.shape, ctx.shares = shape, shares
        return torch.scalar_tensor(total, dtype=dtype, device=z.device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, None, None, None]:
        again = torch.is_grad_enabled() or transforming() or batched(grad)
        gradient, ctx.gradient = (None, ctx.gradient) if again else (ctx.gradient, None)
        if gradient is not None:
            factor = float(grad)
            if factor == 1.0:
                return gradient, None, None, None, None, None, None
            # by a power of two, or in a type where one rounding more is of no account
            exact = abs(math.frexp(factor)[0]) == 0.5 or gradient.dtype != torch.bfloat16
            if exact or ctx.inplace:
                return gradient.mul_(factor), None, None, None, None, None, None
        if ctx.inplace:
            raise RuntimeError(ONCE)
        z, target, weight = ctx.saved_tensors
        shares = replace(ctx.shares, weight=weight)
        if again:
            keep = ctx.scale != 0 if isinstance(ctx.scale, Tensor) else None
            seed = (grad.to(torch.float64) * ctx.scale).expand(z.shape[0], z.shape[2])
            found = _composed_gradient(z, target, ctx.shape, shares, keep, seed)
            return found, None, None, None, None, None, None
        out = torch.empty_like(z) if gradient is None else gradient
        _native(z, target, ctx.shape, shares, ctx.scale * float(grad), out=out)
        return out, None, None, None, None, None, None


class _ReducedOnDevice(torch.autograd.Function):
    """`_Reduced` by the GPU's kernel: what the gradient is multiplied by is known there alone, and nothing waits."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, target: Tensor, shape: Shape, shares: Shares, scale: Tensor, inplace: bool
    ) -> Tensor:
        rows, ctx.gradient = _triton(z, target, shape, shares, scale, out=z.detach() if inplace else None)
        if inplace:
            torch.autograd.graph.increment_version(z)
        else:
            ctx.save_for_backward(z, target, shares.weight)
        ctx.shape, ctx.shares, ctx.scale, ctx.inplace = shape, shares, scale, inplace
        return (scale * rows).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, None, None]:
        again = torch.is_grad_enabled() or transforming() or batched(grad)
        gradient, ctx.gradient = (None, ctx.gradient) if again else (ctx.gradient, None)
        if gradient is not None:
            return triton.scale_(gradient, grad), None, None, None, None, None
        if ctx.inplace:
            raise RuntimeError(ONCE)
        z, target, weight = ctx.saved_tensors
        shares = replace(ctx.shares, weight=weight)
        found: Tensor | None
        if again:
            seed = grad * ctx.scale
            found = _composed_gradient(z, target, ctx.shape, shares, ctx.scale != 0, seed)
        else:
            found = _triton(z, target, ctx.shape, shares, grad * ctx.scale)[1]
        return found, None, None, None, None, None


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, target: Tensor, shape: Shape, shares: Shares, keep: Tensor | None, inplace: bool
    ) -> Tensor:
        ctx.save_for_backward(z, target, shares.weight, keep)
        ctx.shape, ctx.shares, ctx.inplace = shape, shares, inplace
        if _on_device(z):
            counts = torch.ones((), dtype=torch.float32, device=z.device).expand(z.shape[0], z.shape[2])
            counts = counts if keep is None else keep.float()
            return _triton(z, target, shape, shares, counts, backward=False)[0]
        rows = torch.empty((z.shape[0], z.shape[2]), dtype=torch.float64, device=z.device)
        _native(z, target, shape, shares, 1.0 if keep is None else keep.double(), out=None, rows=rows)
        return rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, None, None]:
        z, target, weight, keep = ctx.saved_tensors
        shares = replace(ctx.shares, weight=weight)
        if torch.is_grad_enabled() or transforming() or batched(grad):
            found = _composed_gradient(z, target, ctx.shape, shares, keep, grad)
            return found, None, None, None, None, None
        scale = grad if keep is None else torch.where(keep, grad, torch.zeros_like(grad))
        out = z.detach() if ctx.inplace else torch.empty_like(z)
        if _on_device(z):
            _triton(z, target, ctx.shape, shares, scale, out=out)
        else:
            _native(z, target, ctx.shape, shares, scale, out=out)
        if ctx.inplace:
            torch.autograd.graph.increment_version(z)
        return out, None, None, None, None, None

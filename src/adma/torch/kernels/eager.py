"""The eager engine: one pass over the logits for the loss, one for the gradient, in blocks that fit the cache.

It saves the logits (which live anyway) and two numbers a row; where composed operators would write five arrays
of the logits' size to memory, a block's stay in the cache. The gradient is written by hand from the member's
slope. When the gradient is itself differentiated, or mapped, it is taken from the composed operators instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from adma.torch.kernels import terms
from adma.torch.kernels.choose import batched, choose, choose_dense, transforming
from adma.torch.kernels.terms import Shape

# elements of a block: 1 MiB of float32, within 6% of the best of 2^15 to 2^19 on a 2-core AMD EPYC; a GPU wants few
# launches instead
_BLOCK_CPU, _BLOCK_DEVICE = 1 << 18, 1 << 27

RowFunction = Callable[[Tensor, Tensor], Tensor]


def index_rows(z: Tensor, target: Tensor, shape: Shape, keep: Tensor | None = None) -> Tensor:
    """`psi(t)` a row, t the true class's negative log-likelihood.

    Args:
        z: logits (N, C, M).
        target: class indices (N, M) in [0, C).
        shape: psi and slope.
        keep: (N, M) bool; rows where it is False count 0, with gradient 0 whatever their logits.

    Returns:
        (N, M), in `terms.row_dtype`.
    """
    # the engine first: torch.compile would make a guard of what is asked about a parameter
    if choose(z, target).engine == "eager" and not any(isinstance(v, Tensor) for v in vars(shape).values()):
        return _IndexRows.apply(z, target, shape, keep)
    return composed_index_rows(z, target, shape, keep)


def composed_index_rows(z: Tensor, target: Tensor, shape: Shape, keep: Tensor | None = None) -> Tensor:
    """`index_rows` by plain operators."""
    if keep is not None:
        z = torch.where(keep.unsqueeze(1), z, torch.zeros((), dtype=z.dtype, device=z.device))
    rows = shape.psi(terms.softplus(terms.log_odds(z, target)), terms.xp)
    return rows if keep is None else torch.where(keep, rows, torch.zeros_like(rows))


def composed_gradient(z: Tensor, target: Tensor, shape: Shape, keep: Tensor | None, grad: Tensor) -> Tensor:
    """The gradient of `index_rows` by plain operators, to be differentiated again."""
    dtype = z.dtype
    if keep is not None:
        z = torch.where(keep.unsqueeze(1), z, torch.zeros((), dtype=z.dtype, device=z.device))
        grad = torch.where(keep, grad, torch.zeros_like(grad))
    odds = terms.log_odds(z, target)
    weight = grad * shape.slope(terms.softplus(odds), terms.xp) * torch.sigmoid(odds)
    share = terms.log_odds_gradient(z, target)
    return (weight.to(share.dtype).unsqueeze(1) * share).to(dtype)


class _IndexRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, target: Tensor, shape: Shape, keep: Tensor | None) -> Tensor:
        work, rows = terms.compute_dtype(z.dtype), terms.row_dtype(z.device)
        index = target.unsqueeze(1)
        true = z.gather(1, index).to(rows)
        level = torch.empty(true.shape, dtype=work, device=z.device)
        total = torch.empty_like(level)
        for block in _blocks(z):
            others = z[block].to(work) if z.dtype != work else z[block]
            others = others.scatter(1, index[block], float("-inf"))
            top = others.amax(1, keepdim=True)
            top = torch.where(top == float("-inf"), torch.zeros_like(top), top)
            level[block] = top
            # one expression a line: each reuses the block's memory
            total[block] = others.sub_(top).exp_().sum(1, keepdim=True)
        odds = (level.to(rows) - true + torch.log(total.to(rows))).squeeze(1)
        loss: Tensor = shape.psi(_nll(odds), terms.plain_xp)
        if keep is not None:
            loss = torch.where(keep, loss, torch.zeros_like(loss))
        ctx.save_for_backward(z, target, level, total, odds, *([] if keep is None else [keep]))
        ctx.shape = shape
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None]:
        z, target, level, total, odds, *rest = ctx.saved_tensors
        keep = rest[0] if rest else None
        if torch.is_grad_enabled() or transforming() or batched(grad):  # to be differentiated again, or batched
            return composed_gradient(z, target, ctx.shape, keep, grad), None, None, None
        work = level.dtype
        # dL/du = psi'(t) (1 - p); du/dz_j = exp(z_j - level) / total for j != y, and -1 for j = y
        weight = grad * ctx.shape.slope(_nll(odds), terms.plain_xp) * torch.sigmoid(odds)
        if keep is not None:
            weight = torch.where(keep, weight, torch.zeros_like(weight))
        weight = weight.unsqueeze(1)
        rate = torch.where(total == 0, torch.zeros_like(weight), weight / total.to(weight.dtype)).to(work)
        out = torch.empty_like(z)
        index = target.unsqueeze(1)
        for block in _blocks(z):
            logits = z[block].to(work) if z.dtype != work else z[block]
            e = logits - level[block]
            if work == torch.float32:
                error = terms.gap_error(logits, level[block], e)
                e.exp_()
                e.addcmul_(e, error)
            else:
                e.exp_()
            e.mul_(rate[block])
            e.scatter_(1, index[block], -weight[block].to(work))
            if keep is not None:
                e.masked_fill_(~keep.unsqueeze(1)[block], 0.0)
            out[block] = e
        return out, None, None, None


def _nll(odds: Tensor) -> Tensor:
    """`terms.softplus` in one operator, where no derivative is asked of it."""
    return torch.logaddexp(odds, torch.zeros((), dtype=odds.dtype, device=odds.device))


def rows_and_gradient(
    z: Tensor, target: Tensor, shape: Shape, scale: Tensor, *, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The loss of each row, and the gradient of `sum(scale * rows)` in the logits, in one walk over them.

    Without a graph: for callers that know already how the rows will be summed.

    Args:
        z: logits (N, C, M).
        target: class indices (N, M) in [0, C), valid also where `scale` is 0.
        shape: psi and slope.
        scale: (N, M), in `terms.row_dtype`; a row with scale 0 has loss 0 and gradient 0, whatever its logits.
        out: where to write the gradient, of z's shape and type; it may be z. By default new memory.

    Returns:
        The rows (N, M), in `terms.row_dtype`, not scaled; and the gradient (N, C, M), in z's type.
    """
    work, kind = terms.compute_dtype(z.dtype), terms.row_dtype(z.device)
    out = torch.empty_like(z) if out is None else out
    rows = torch.empty(target.shape, dtype=kind, device=z.device)
    for block in _blocks(z):
        logits = z[block].to(work) if z.dtype != work else z[block]
        index, share = _cut(target, block).unsqueeze(1), _cut(scale, block)
        true = logits.gather(1, index).to(kind)
        others = logits.scatter(1, index, float("-inf"))
        top = others.amax(1, keepdim=True)
        top = torch.where(top == float("-inf"), torch.zeros_like(top), top)
        gap = others.sub_(top)
        if work == torch.float32:
            error = terms.gap_error(logits, top, gap)
            e = gap.exp_()
            e.addcmul_(e, error)
        else:
            e = gap.exp_()
        total = e.sum(1, keepdim=True)
        odds = (top.to(kind) - true + torch.log(total.to(kind))).squeeze(1)
        t, counts = _nll(odds), share != 0
        _cut(rows, block).copy_(torch.where(counts, shape.psi(t, terms.plain_xp), 0.0))
        weight = torch.where(counts, share * shape.slope(t, terms.plain_xp) * torch.sigmoid(odds), 0.0).unsqueeze(1)
        e.mul_(torch.where(total == 0, torch.zeros_like(weight), weight / total.to(kind)).to(work))
        e.scatter_(1, index, -weight.to(work))
        out[block] = e.masked_fill_(~counts.unsqueeze(1), 0.0)
    return rows, out


def dense_rows(z: Tensor, target: Tensor, function: RowFunction, *, weights: tuple[Tensor, ...] = ()) -> Tensor:
    """`function(z, target)` a row, for losses that need every class's probability; block by block.

    Args:
        z: logits (N, C, M).
        target: class indices (N, M) or class probabilities (N, C, M).
        function: plain operators, (n, C, m) and its target to (n, m), each row by itself.
        weights: tensors that `function` closes over; if one of them wants a gradient, nothing is blocked.
    """
    closed = any(w.requires_grad for w in weights)
    # the engine first: asked of a graph's changing size, the block's would become a guard on it
    if closed or choose_dense(z, target).engine != "eager" or z.numel() <= _block_size(z):
        return function(z, target)
    return _DenseRows.apply(z, target, function, weights)


class _DenseRows(torch.autograd.Function):
    """Keeps no intermediate array: the backward pass computes each block again."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, target: Tensor, function: RowFunction, weights: tuple[Tensor, ...]) -> Tensor:
        ctx.save_for_backward(z, target, *weights)  # which `function` has: autograd refuses them if they change
        ctx.function = function
        out: Tensor | None = None
        for block in _blocks(z):
            rows = function(z[block], _cut(target, block))
            if out is None:
                out = rows.new_empty((z.shape[0], z.shape[2]))
            _cut(out, block).copy_(rows)
        assert out is not None  # an empty batch takes the composed way
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        z, target, *_ = ctx.saved_tensors
        wanted = [t for t, needs in zip((z, target), ctx.needs_input_grad, strict=False) if needs]
        if torch.is_grad_enabled() or transforming() or batched(grad):
            with torch.enable_grad():
                found = torch.autograd.grad(ctx.function(z, target), wanted, grad, create_graph=True)
        else:
            found = tuple(torch.empty_like(t) for t in wanted)
            for block in _blocks(z):
                with torch.enable_grad():
                    parts = [_cut(t, block).detach().requires_grad_(t.is_floating_point()) for t in (z, target)]
                    rows = ctx.function(*parts)
                    inputs = [p for p, needs in zip(parts, ctx.needs_input_grad, strict=False) if needs]
                for whole, part in zip(found, torch.autograd.grad(rows, inputs, _cut(grad, block)), strict=True):
                    _cut(whole, block).copy_(part)
        result = iter(found)
        first, second = (next(result) if needs else None for needs in ctx.needs_input_grad[:2])
        return first, second, None, None


def _block_size(z: Tensor) -> int:
    return _BLOCK_CPU if z.device.type == "cpu" else _BLOCK_DEVICE


Block = tuple[slice, ...]


def _blocks(z: Tensor) -> Iterator[Block]:
    """Slices of (N, C, M) that hold about a block's elements each.

    The class axis is whole in every one, and its slice is `:`, so the same block cuts (N, 1, M) too.
    """
    n, c, m = z.shape
    size = _block_size(z)
    if c * m <= size:
        step = max(1, size // max(1, c * m))
        for start in range(0, n, step):
            yield slice(start, start + step), slice(None), slice(None)
    else:
        step = max(1, size // max(1, c))
        for row in range(n):
            for start in range(0, m, step):
                yield slice(row, row + 1), slice(None), slice(start, start + step)


def _cut(tensor: Tensor, block: Block) -> Tensor:
    """A block of (N, C, M), or of (N, M)."""
    return tensor[block] if tensor.dim() == 3 else tensor[block[0], block[2]]

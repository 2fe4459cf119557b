"""The walk of the last layer and the loss over chunks of rows: logits, their gradient in place, three gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from adma.torch.engine import flexible_loss
from adma.torch.kernels import dense, terms, triton
from adma.torch.kernels.choose import choose_dense, choose_rows
from adma.torch.kernels.fused import index_rows, rows_and_gradient
from adma.torch.linear_checks import LinearCall

Where = slice | Tensor  # rows of (N, ...)
_SCALED = 1 << 23  # elements of a half type that are scaled at once


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """The products' type is decided already."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def product(share: Tensor, rows: Tensor) -> Tensor:
    """`share * rows`; a row that does not count is 0, whatever its loss."""
    return torch.where(share == 0, torch.zeros_like(rows), share.to(rows.dtype) * rows)


def logits_rows(call: LinearCall, logits: Tensor, target: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Rows (n) of the loss, and of the z-loss, from logits (n, C); only `_dense_rows` has class weights in them."""
    if keep is not None:
        logits = torch.where(keep.unsqueeze(1), logits, torch.zeros((), dtype=logits.dtype, device=logits.device))
    if call.reshaped:
        logits = logits.to(terms.compute_dtype(logits.dtype))
    if call.softcap is not None:
        logits = call.softcap * torch.tanh(logits / call.softcap)
    extra = call.z_loss * torch.logsumexp(logits, 1).square() if call.z_loss else None
    if call.by_index:
        z, y = logits.unsqueeze(2), target.unsqueeze(1)
        return index_rows(z, y, call.member, None, choose_rows(z, y, call.member).engine).squeeze(1), extra
    return _dense_rows(call, logits, target), extra


def _dense_rows(call: LinearCall, logits: Tensor, target: Tensor) -> Tensor:
    logits = logits.to(terms.compute_dtype(logits.dtype))  # so that its rows are not rounded to a half type
    weight = None if call.weight is None else call.weight.to(logits.dtype)
    return flexible_loss(
        call.member, logits, target, weight, reduction="none", label_smoothing=call.label_smoothing
    )  # fmt: skip


class Walk:
    """Chunk after chunk of the rows that are computed, their logits in one buffer."""

    def __init__(self, call: LinearCall, x: Tensor, linear_weight: Tensor, linear_bias: Tensor | None) -> None:
        self.call, self.x = call, x
        self.w = linear_weight.to(call.compute)
        self.b = None if linear_bias is None else linear_bias.to(call.compute)
        self.count = x.shape[0] if call.rows is None else call.rows.shape[0]
        self.size = call.chunk_size(self.count)
        self.buffer = torch.empty((self.size, self.w.shape[0]), dtype=call.compute, device=x.device)

    def __iter__(self) -> Iterator[tuple[Where, Tensor, Tensor]]:
        """Yields (where, hidden states, logits), `where` for indexing what has one entry a row."""
        for start in range(0, self.count, self.size):
            stop = min(start + self.size, self.count)
            where: Where = slice(start, stop) if self.call.rows is None else self.call.rows[start:stop]
            x = self.x[where].to(self.call.compute)
            z = self.buffer[: stop - start]
            if self.b is None:
                torch.mm(x, self.w.t(), out=z)
            else:
                torch.addmm(self.b, x, self.w.t(), out=z)
            yield where, x, z


class Gradients:
    """What is accumulated over the chunks, for the tensors that want it."""

    def __init__(self, walk: Walk, x: Tensor, linear_weight: Tensor, linear_bias: Tensor | None,
                 wanted: tuple[bool, ...]) -> None:  # fmt: skip
        self.walk = walk
        self.call = call = walk.call
        every = call.rows is None
        self.x = (torch.empty_like(x) if every else torch.zeros_like(x)) if wanted[0] else None
        self.weight, self.bias, self.bias_dtype = None, None, None
        if wanted[1]:
            self.weight_dtype = linear_weight.dtype
            chunks = -(-walk.count // walk.size) if walk.count else 0
            kind = call.accumulator(linear_weight.dtype, chunks)
            self.weight = torch.empty_like(linear_weight, dtype=kind)
            if chunks == 0 or kind != call.compute:
                self.weight.zero_()
        if linear_bias is not None and wanted[2]:
            self.bias_dtype = linear_bias.dtype
            self.bias = torch.zeros_like(linear_bias, dtype=terms.compute_dtype(call.compute))
        self.first = True

    def add(self, where: Where, x: Tensor, dz: Tensor) -> None:
        if self.x is not None:
            if isinstance(where, slice) and self.x.dtype == dz.dtype:
                torch.mm(dz, self.walk.w, out=self.x[where])
            else:
                self.x[where] = torch.mm(dz, self.walk.w).to(self.x.dtype)
        if self.weight is not None:
            if self.weight.dtype != dz.dtype:
                # in blocks of classes, so that the product in the other type is never whole
                step = max(1, self.walk.buffer.numel() // max(1, 4 * x.shape[1]))
                for start in range(0, dz.shape[1], step):
                    self.weight[start : start + step].add_(torch.mm(dz[:, start : start + step].t(), x))
            elif self.first:
                torch.mm(dz.t(), x, out=self.weight)
            else:
                self.weight.addmm_(dz.t(), x)
        if self.bias is not None:
            self.bias.add_(dz.sum(0, dtype=self.bias.dtype))
        self.first = False

    def result(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Of the input, the weight and the bias; what was summed in float16 or for it is still in float32."""
        if self.call.compute == torch.float16:
            return self.x, self.weight, self.bias
        weight = None if self.weight is None else self.weight.to(self.weight_dtype)
        return self.x, weight, None if self.bias is None else self.bias.to(self.bias_dtype)


def scale_(made: Tensor, factor: Tensor) -> None:
    """`made *= factor`, in place; the factor () is not rounded to a half type, and not read by the program."""
    if made.device.type == "cuda" and not triton.why_not(made.device):
        triton.scale_(made, factor)
        return
    if made.dtype not in (torch.float16, torch.bfloat16):
        made.mul_(factor.to(made.dtype))
        return
    factor = factor.float()
    for part in made.split(max(1, _SCALED // max(1, made[0].numel()))) if made.numel() else ():
        part.copy_(part * factor.reshape((1,) * part.dim()))


def loss_and_gradients(
    call: LinearCall, x: Tensor, linear_weight: Tensor, linear_bias: Tensor | None, share: Tensor, z_share: Tensor,
    wanted: tuple[bool, ...],
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None, Tensor | None]]:  # fmt: skip
    """`sum(share * rows)` and its gradients, by one walk."""
    with no_autocast(x.device):
        walk = Walk(call, x, linear_weight, linear_bias)
        gradients = Gradients(walk, x, linear_weight, linear_bias, wanted)
        total = torch.zeros((), dtype=share.dtype, device=x.device)
        for where, hidden, z in walk:
            loss, dz = _chunk(call, z, call.target[where], share[where], z_share[where])
            total += loss
            gradients.add(where, hidden, dz)
        return total, gradients.result()


def _chunk(call: LinearCall, z: Tensor, target: Tensor, share: Tensor, z_share: Tensor) -> tuple[Tensor, Tensor]:
    """The weighed sum of a chunk's rows, and the gradient in its logits (n, C), in the logits' memory where it fits."""
    if not call.reshaped:
        return _member_chunk(call, z, target, share)
    work = z.to(terms.compute_dtype(z.dtype))
    if call.softcap is not None:
        squashed = torch.tanh_(torch.div(work, call.softcap, out=work))
        work = squashed * call.softcap
    pull = None
    if call.z_loss:
        level = torch.logsumexp(work, 1)
        rate = torch.where(z_share == 0, 0.0, 2 * call.z_loss * z_share * level).to(work.dtype)
        pull = (work - level.unsqueeze(1)).exp_().mul_(rate.unsqueeze(1)).masked_fill_((z_share == 0).unsqueeze(1), 0)
    loss, dz = _member_chunk(call, work, target, share)
    if pull is not None:
        loss = loss + product(z_share, call.z_loss * level.to(loss.dtype).square()).sum()
        dz.add_(pull)
    if call.softcap is not None:
        dz.mul_(squashed.square_().neg_().add_(1))
    return loss, dz.to(z.dtype)


def _member_chunk(call: LinearCall, z: Tensor, target: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    if call.by_index:
        view, scale = z.unsqueeze(2), share.unsqueeze(1)
        rows, _ = rows_and_gradient(view, target.unsqueeze(1), call.member, scale, out=view)
        return product(scale, rows).sum(), z
    y = target.unsqueeze(1) if call.hard else target.unsqueeze(2)
    if choose_dense(z.unsqueeze(2), y, call.member, call.weight).engine in ("native", "triton"):
        view, scale, shares = z.unsqueeze(2), share.unsqueeze(1), dense.Shares(call.label_smoothing, call.weight)
        rows, _ = dense.rows_and_gradient(view, y, call.member, shares, scale.contiguous(), out=view)
        return product(scale, rows).sum(), z
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        rows = _dense_rows(call, leaf, target)
        (dz,) = torch.autograd.grad(rows, leaf, share.to(rows.dtype))
    return product(share, rows.detach().to(share.dtype)).sum(), dz

"""The last layer and the loss together: no array of rows x classes is ever whole in memory.

The forward pass walks over chunks of rows: a chunk's logits go into one buffer, the kernel puts their gradient in
their place, and the gradients of the hidden states, the weight and the bias are taken from it at once. The backward
pass hands them over. So there are three matrix products, as with separate layers, and one chunk of logits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adma.family import Member
from adma.torch import checks
from adma.torch.kernels import terms
from adma.torch.kernels.choose import batched, choose, keeps_graph, transforming
from adma.torch.linear_checks import LinearCall, LinearLossOptions, canonical
from adma.torch.linear_walk import Walk, logits_rows, loss_and_gradients, no_autocast, product, scale_


def linear_flexible_loss(
    member: Member,
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    options: LinearLossOptions | None = None,
) -> Tensor:
    """Any member of the family on `input @ linear_weight.T + linear_bias`, without the logits in memory.

    The same numbers as `flexible_loss(member, F.linear(input, linear_weight, linear_bias), target, ...)`, classes last
    in `input`. The call is that of `torch.nn.functional.linear_cross_entropy` (torch 2.13), with these differences:
    any number of leading dimensions, but no dimensions between classes and features in `linear_weight`; `softcap` and
    `z_loss`; always in chunks, for `label_smoothing` and probabilities too; backward may run twice; a mean over nothing
    is 0; `options` is `LinearLossOptions`.

    Gradients are computed in the forward pass and live until the backward pass ("none" computes the logits again
    there); those of tensors that want none are not computed. `torch.compile`, `torch.func`, forward mode and double
    backward take plain operators, with the logits whole.

    Args:
        member: psi and slope (`adma.family`).
        input: hidden states (H) or (..., H), float16 to float64.
        linear_weight: (C, H), of the input's type (under autocast both are cast to its type). It may be a parameter
            that is used elsewhere too, as tied embeddings are.
        target: class indices (...), int64; or class probabilities (..., C).
        linear_bias: (C).
        weight: (C), a factor for each class.
        reduction: "none", "mean" (over the weights of the targets that count; over the rows for probabilities) or
            "sum".
        ignore_index: index targets with this value count nothing and get no gradient; None is -100. Their logits are
            not computed where the targets can be read without waiting for a device (`LinearLossOptions.skip_ignored`).
        label_smoothing: in [0, 1], the share of the target that is spread evenly over the classes.
        softcap: the loss sees `softcap * tanh(logits / softcap)` (Gemma 2, arXiv 2408.00118); in (0, inf).
        z_loss: this factor times the squared log of the softmax's denominator is added to each row that counts (PaLM,
            arXiv 2204.02311, Sec. 5: 1e-4). Class weights do not apply to it: "mean" divides it by the number of rows
            that count. In [0, inf).
        options: chunk size and accumulation.

    Returns:
        A scalar, or for "none" the targets' shape without classes; the input's type (float32 under autocast).

    Raises:
        TypeError, ValueError, IndexError: an argument that does not fit; the message names it.
    """
    reduction = checks.reduction_name(reduction, None, None)
    call, x = canonical(
        member, input, linear_weight, target, linear_bias, weight, ignore_index, label_smoothing, softcap, z_loss,
        options,
    )  # fmt: skip
    tensors = [t for t in (x, linear_weight, linear_bias) if t is not None]
    fixed = [t for t in (call.target, weight) if t is not None]
    plain = not any(isinstance(v, Tensor) for v in vars(member).values()) and not any(t.requires_grad for t in fixed)
    if not plain or choose(*tensors, *fixed).engine != "eager":
        logits = composed_logits(call, x, linear_weight, linear_bias)
        return _finish(*logits_rows(call, logits, call.target, call.keep), call, reduction)
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if wanted and reduction != "none":
        loss: Tensor = _Reduced.apply(x, linear_weight, linear_bias, *call.shares(reduction), call)
        return loss.to(call.dtype)
    rows = _Rows.apply(x, linear_weight, linear_bias, call)
    return _finish(rows[0], rows[1], call, reduction)


def _finish(rows: Tensor, extra: Tensor | None, call: LinearCall, reduction: str) -> Tensor:
    """Rows (N) of the loss and of the z-loss, neither weighed nor summed, to the result."""
    if reduction == "none":
        share, z_share = call.shares("sum")
        whole = product(share, rows) + (0.0 if extra is None else product(z_share, extra))
        return whole.to(call.dtype).reshape(call.shape)
    share, z_share = call.shares(reduction)
    total = product(share, rows).sum() + (0.0 if extra is None else product(z_share, extra).sum())
    return total.to(call.dtype)


def composed_logits(call: LinearCall, x: Tensor, linear_weight: Tensor, linear_bias: Tensor | None) -> Tensor:
    """The logits (N, C), whole, by plain operators."""
    with no_autocast(x.device):
        bias = None if linear_bias is None else linear_bias.to(call.compute)
        return F.linear(x.to(call.compute), linear_weight.to(call.compute), bias)


class _Reduced(torch.autograd.Function):
    """`sum(share * rows)`, the gradients made in the forward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear_weight: Tensor, linear_bias: Tensor | None, share: Tensor,
                z_share: Tensor, call: LinearCall) -> Tensor:  # fmt: skip
        lift = _lift(share) if call.compute == torch.float16 else None
        shares = (share, z_share) if lift is None else (share * lift, z_share * lift)
        loss, made = loss_and_gradients(call, x, linear_weight, linear_bias, *shares, ctx.needs_input_grad[:3])
        ctx.call = call
        ctx.save_for_backward(x, linear_weight, linear_bias, share, z_share, lift, *made)
        return loss if lift is None else loss / lift

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, linear_weight, linear_bias, share, z_share, lift, *made = ctx.saved_tensors
        if torch.is_grad_enabled() or transforming() or batched(grad):  # to be differentiated again, or batched
            return (*_differentiable(ctx, grad * share, grad * z_share), None, None, None)
        factor = grad if lift is None else grad / lift
        one = factor.device.type == "cpu" and bool(factor == 1)
        # handed over where they lie, unless the graph is kept: then a copy, since the next backward needs them
        if keeps_graph():
            made = [None if m is None else m.clone() for m in made]
        for m in made:
            if m is not None and not one:
                scale_(m, factor)
        kinds = [None if t is None else t.dtype for t in (x, linear_weight, linear_bias)]
        return (*(None if m is None else m.to(k) for m, k in zip(made, kinds, strict=True)), None, None, None)


def _lift(share: Tensor) -> Tensor:
    """What brings the largest share to 1: float16 would lose the gradient of a mean before a loss scale reaches it."""
    if share.numel() == 0:
        return torch.ones((), dtype=share.dtype, device=share.device)
    top = share.abs().amax()
    return torch.where(top == 0, torch.ones_like(top), 1 / top)


class _Rows(torch.autograd.Function):
    """The rows (N) of the loss and of the z-loss (an empty tensor without one); their gradient by a second walk."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear_weight: Tensor, linear_bias: Tensor | None,
                call: LinearCall) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        ctx.call = call
        ctx.save_for_backward(x, linear_weight, linear_bias, call.target, call.weight)
        rows = torch.zeros(x.shape[0], dtype=terms.row_dtype(x.device), device=x.device)
        extra = torch.zeros_like(rows) if call.z_loss else None
        with no_autocast(x.device):
            for where, _, z in Walk(call, x, linear_weight, linear_bias):
                keep = None if call.keep is None or call.rows is not None else call.keep[where]
                loss, pull = logits_rows(call, z, call.target[where], keep)
                rows[where] = loss.to(rows.dtype)
                if extra is not None and pull is not None:
                    extra[where] = pull.to(extra.dtype)
        return rows, extra

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, linear_weight, linear_bias, target, weight = ctx.saved_tensors
        call = replace(ctx.call, target=target, weight=weight)  # unchanged, as autograd has made sure
        grad = grads[0] if grads[0] is not None else x.new_zeros(x.shape[0], dtype=terms.row_dtype(x.device))
        extra = grads[1] if grads[1] is not None else torch.zeros_like(grad)
        if torch.is_grad_enabled() or transforming() or batched(grad):
            return (*_differentiable(ctx, grad, extra), None)
        _, made = loss_and_gradients(
            call, x, linear_weight, linear_bias, grad.contiguous(), extra.contiguous(), ctx.needs_input_grad[:3]
        )
        kinds = [None if t is None else t.dtype for t in (x, linear_weight, linear_bias)]
        return (*(None if m is None else m.to(k) for m, k in zip(made, kinds, strict=True)), None)


def _differentiable(ctx: Any, share: Tensor, z_share: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of `sum(share * rows)` by plain operators, to be differentiated again."""
    call, (x, linear_weight, linear_bias) = ctx.call, ctx.saved_tensors[:3]
    with torch.enable_grad():
        logits = composed_logits(call, x, linear_weight, linear_bias)
        rows, extra = logits_rows(call, logits, call.target, call.keep)
        results, grads = [rows], [share.to(rows.dtype)]
        if extra is not None:
            results, grads = [rows, extra], [grads[0], z_share.to(extra.dtype)]
        (dz,) = torch.autograd.grad(results, logits, grads, create_graph=True)
        # the products by hand: input may itself be made from the weight (tied embeddings), which is not asked here
        first, second, third = ctx.needs_input_grad[:3]
        return (
            (dz @ linear_weight.to(dz.dtype)).to(x.dtype) if first else None,
            (dz.t() @ x.to(dz.dtype)).to(linear_weight.dtype) if second else None,
            dz.sum(0).to(linear_bias.dtype) if third else None,
        )

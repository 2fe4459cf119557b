"""From a checked call to a loss: rows by a kernel, weights, reduction. Every loss of this half goes through here."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adma.family import Member
from adma.torch import checks
from adma.torch.kernels import dense, eager, fused, terms
from adma.torch.kernels.choose import choose_dense, choose_rows

# (t, y) -> rows: from every class's negative log-likelihood and probability (n, C, m), the loss (n, m)
DenseLoss = Callable[[Tensor, Tensor], Tensor]
# logits (n, C, m) -> t = -log probability of every class
Head = Callable[[Tensor], Tensor]


def flexible_loss(
    member: Member,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    from_probabilities: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Any member of the family, with the call of `torch.nn.functional.cross_entropy`.

    With class indices y the loss of a row is `w_y psi(t_y)`, with probabilities (also those that label smoothing
    makes) `sum_j w_j y_j psi(t_j)`, t the negative log-likelihood. `adma_loss` and its kind are this with one
    member; use it for a member of your own.

    Args:
        member: psi and slope (`adma.family`).
        input: logits (C), (N, C) or (N, C, d1, ..., dK), float16 to float64.
        target: class indices (), (N) or (N, d1, ..., dK), int64; or class probabilities of the input's shape.
        weight: (C), a factor for each class.
        size_average: deprecated, as in torch.
        ignore_index: index targets with this value count nothing and get no gradient.
        reduce: deprecated, as in torch.
        reduction: "none", "mean" (over the weights of the targets that count; over the rows for probabilities)
            or "sum".
        label_smoothing: in [0, 1], the share of the target that is spread evenly over the classes.
        from_probabilities: whether `input` holds posteriors instead of logits: in [0, 1], summing to 1. Logits
            are exact where posteriors have already been rounded to 0 or 1; prefer them.
        inplace: write the gradient into the memory of `input`, which saves an array of its size. The logits are
            destroyed: for logits that nothing else needs, such as the output of a last linear layer. Of what used them
            before, autograd raises an error in the backward pass if it needs them; what reads them after the call, an
            accuracy or a second loss, reads the gradient unnoticed. For one backward pass; with label smoothing or
            probabilities where a kernel serves the call (`adma doctor`).

    Returns:
        A scalar, or for "none" the targets' shape without classes; the input's type (float32 under autocast).
        If nothing counts (an empty batch, every target ignored), "mean" is 0 with zero gradients, not NaN.

    Raises:
        TypeError, ValueError, IndexError: as `adma.torch.checks.canonical` says.
        ValueError: `inplace` is asked for and cannot be done.
        RuntimeError: in the backward pass, what `inplace` destroyed is needed.
    """
    usual = weight is None and type(label_smoothing) in (float, int) and label_smoothing == 0 and not from_probabilities
    if usual and reduction in ("mean", "sum") and size_average is None and reduce is None and type(ignore_index) is int:
        found = fused.direct(input, target, member, ignore_index, reduction == "mean", inplace=inplace)
        if found is not None:
            return found
    reduction = checks.reduction_name(reduction, size_average, reduce)
    call = checks.canonical(input, target, weight, ignore_index, label_smoothing, from_probabilities)
    by_index = call.hard and label_smoothing == 0
    choice = (
        choose_rows(call.z, call.target, member)
        if by_index
        else choose_dense(call.z, call.target, None if from_probabilities else member, weight)
    )
    if inplace:
        checks.in_place(input, call, choice, label_smoothing, from_probabilities)

    def psi(t: Tensor) -> Tensor:
        value: Tensor = member.psi(t, terms.xp)
        return value

    if by_index:
        if from_probabilities:
            p = call.z.gather(1, call.target.unsqueeze(1)).squeeze(1)
            rows = terms.at_probability(psi, p)
            rows = _only(call.keep, rows)
        elif reduction != "none" and not _learned(weight) and fused.one_walk(choice.engine, call.z.dtype):
            scale = _scale(call, weight, reduction)
            return fused.reduced(call.z, call.target, member, scale, call.dtype, inplace=inplace)
        else:
            rows = fused.index_rows(call.z, call.target, member, call.keep, choice.engine, inplace=inplace)
        if weight is not None:
            rows = rows * weight[call.target].to(rows.dtype)
        return _reduce(rows, call, weight, reduction)

    shares = dense.Shares(label_smoothing, weight)
    if choice.engine in ("native", "triton"):
        if reduction != "none" and fused.one_walk(choice.engine, call.z.dtype):
            scale = _dense_scale(call, weight, reduction)
            return dense.reduced(call.z, call.target, member, shares, scale, call.dtype, inplace=inplace)
        rows = dense.index_or_soft_rows(call.z, call.target, member, shares, call.keep, inplace=inplace)
        return _reduce(rows, call, weight, reduction)

    def at_probabilities(z: Tensor, y: Tensor) -> Tensor:
        cost = terms.at_probability(psi, z)
        return terms.weighed(shares.of(y, z).to(cost.dtype), cost).sum(1)

    function = at_probabilities if from_probabilities else dense.composed(member, shares)
    closed: tuple[Tensor, ...] = ()
    if not torch.compiler.is_compiling():  # torch 2.6 cannot put this question into a graph, which has no blocks
        closed = tuple(value for value in (weight, *vars(member).values()) if isinstance(value, Tensor))
    return _reduce(_dense_rows(call, function, closed), call, weight, reduction)


def dense_loss(
    loss: DenseLoss,
    head: Head,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    size_average: bool | None,
    ignore_index: int,
    reduce: bool | None,
    reduction: str,
    label_smoothing: float,
    from_probabilities: bool,
    inplace: bool,
) -> Tensor:
    """A loss outside the family, with the same call; a row's weight is `sum_j w_j y_j`, y before smoothing.

    Raises:
        TypeError, ValueError, IndexError: as `adma.torch.checks.canonical` says.
        ValueError: `inplace` is asked for, which only members of the family have.
    """
    if inplace:
        raise ValueError("inplace=True cannot be done: this loss needs every class's probability; leave inplace out")
    reduction = checks.reduction_name(reduction, size_average, reduce)
    call = checks.canonical(input, target, weight, ignore_index, label_smoothing, from_probabilities)

    def rows(z: Tensor, y: Tensor) -> Tensor:
        share = dense.smoothed(y, z, label_smoothing).to(terms.row_dtype(z.device))

        def of_nll(t: Tensor) -> Tensor:
            return loss(t, share.to(t.dtype))

        found = terms.at_probability(of_nll, z) if from_probabilities else of_nll(head(z))
        if weight is None:
            return found
        w = weight.to(found.dtype)
        return found * (w[y] if y.dim() == 2 else (w.unsqueeze(1) * y.to(found.dtype)).sum(1))

    closed = () if weight is None else (weight,)
    return _reduce(_dense_rows(call, rows, closed), call, weight, reduction)


def _dense_rows(call: checks.Call, function: eager.RowFunction, closed: tuple[Tensor, ...]) -> Tensor:
    z = dense.even_where_not(call.keep, call.z)
    return _only(call.keep, eager.dense_rows(z, call.target, function, weights=closed))


def _only(keep: Tensor | None, rows: Tensor) -> Tensor:
    return rows if keep is None else torch.where(keep, rows, torch.zeros_like(rows))


def _learned(weight: Tensor | None) -> bool:
    return weight is not None and weight.requires_grad


def _scale(call: checks.Call, weight: Tensor | None, reduction: str) -> Tensor | float:
    """The factor of each row in a "mean" or "sum": (n, m) in float64, or one number."""
    if weight is None and call.keep is None:
        return 1.0 if reduction == "sum" else 1.0 / max(1, call.z.shape[0] * call.z.shape[2])
    if weight is None:
        assert call.keep is not None
        scale = call.keep.double()
    else:
        scale = weight.double()[call.target]
        scale = scale if call.keep is None else torch.where(call.keep, scale, 0.0)
    if reduction == "mean":
        count = scale.sum()
        scale = scale / torch.where(count == 0, 1.0, count)
    return scale


def _dense_scale(call: checks.Call, weight: Tensor | None, reduction: str) -> Tensor | float:
    """The factor of each row in a "mean" or "sum" where the classes' weights are in the row already."""
    if weight is None or not call.hard:
        return _scale(call, None, reduction)
    scale = torch.ones_like(call.target, dtype=torch.float64) if call.keep is None else call.keep.double()
    if reduction == "mean":
        count = (scale * weight.double()[call.target]).sum()
        scale = scale / torch.where(count == 0, 1.0, count)
    return scale


def _reduce(rows: Tensor, call: checks.Call, weight: Tensor | None, reduction: str) -> Tensor:
    if reduction == "none":
        return rows.to(call.dtype).reshape(call.shape)
    total = rows.sum()
    if reduction == "mean":
        if not call.hard or (call.keep is None and weight is None):
            total = total / max(1, rows.numel())
        else:
            counts = torch.ones_like(rows) if call.keep is None else call.keep.to(rows.dtype)
            if weight is not None:
                counts = counts * weight[call.target].to(rows.dtype)
            count = counts.sum()
            total = total / torch.where(count == 0, torch.ones_like(count), count)
    return total.to(call.dtype)

"""What a held-out loss would gain by another shape: the look-ahead hypergradient, from one product in forward mode.

With `v` the gradient of the held-out score in the weights and P the optimizer's preconditioner, one step of training
with the per-sample weights `r_i = psi'(t_i) / mean psi'` changes the score by `-H`, where

    H = sum_i psi'(t_i) tdot_i / sum_i psi'(t_i),    tdot_i = dt_i/dw . P v

is the mean of the samples' usefulness `tdot_i` (how much going against t_i goes against the held-out score), weighed
by the slope. So `d score / d a = -dH/da`. The weights are relative to their batch mean on purpose: with `psi'` itself a
smaller `a` also means a longer step, and that is all that would be learned.

`tdot` comes from one product of the network's Jacobian with P v: `tdot_y = sum_k s_k (zdot_k - zdot_y)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adma.family import Member
from adma.torch import checks
from adma.torch.flexible import BinaryFlexibleLoss, FlexibleLoss
from adma.torch.kernels import terms


@dataclass(frozen=True)
class Terms:
    """Of every sample that counts: t (nats), its change along a direction of the weights, and its share; all (K)."""

    t: Tensor
    tdot: Tensor
    share: Tensor


def terms_of(loss_fn: FlexibleLoss | BinaryFlexibleLoss, z: Tensor, zdot: Tensor, target: Tensor) -> Terms:
    """The terms of a batch, as the loss sees it: its class weights, ignored targets and label smoothing count.

    Args:
        loss_fn: whose `member` is to be learned.
        z: logits as `loss_fn` takes them.
        zdot: their change along the direction, of the same shape.
        target: as `loss_fn` takes it.

    Raises:
        TypeError, ValueError, IndexError: as the loss itself.
    """
    if isinstance(loss_fn, BinaryFlexibleLoss):
        return _binary_terms(loss_fn, z, zdot, target)
    call = checks.canonical(z, target, loss_fn.weight, loss_fn.ignore_index, loss_fn.label_smoothing, False)
    rows = terms.row_dtype(z.device)
    logits, change = call.z.to(rows), zdot.reshape(call.z.shape).to(rows)
    s = torch.softmax(logits, 1)
    weight = None if loss_fn.weight is None else loss_fn.weight.to(rows)
    if call.hard and not loss_fn.label_smoothing:
        index = call.target.unsqueeze(1)
        t = terms.softplus(terms.log_odds(call.z, call.target))
        tdot = terms.weighed(s, change - change.gather(1, index)).sum(1)
        share = torch.ones_like(t) if weight is None else weight[call.target]
        if call.keep is not None:
            t, tdot, share = t[call.keep], tdot[call.keep], share[call.keep]
        return Terms(t.flatten(), tdot.flatten(), share.flatten())
    y = call.target
    if call.hard:
        y = torch.zeros_like(s).scatter(1, y.unsqueeze(1), 1.0)
        if call.keep is not None:
            y = y * call.keep.unsqueeze(1)
            # of an ignored row no class has a share, smoothed or not
    y = y.to(rows) * (1 - loss_fn.label_smoothing)
    if loss_fn.label_smoothing:
        even = torch.full_like(y, loss_fn.label_smoothing / y.shape[1])
        y = y + (even if call.keep is None else even * call.keep.unsqueeze(1))
    share = y if weight is None else y * weight.reshape(1, -1, 1)
    t = terms.nll_all(call.z).to(rows)
    tdot = terms.weighed(s, change).sum(1, keepdim=True) - change
    counts = share > 0
    return Terms(t[counts], tdot[counts], share[counts])


def _binary_terms(loss_fn: BinaryFlexibleLoss, z: Tensor, zdot: Tensor, target: Tensor) -> Terms:
    rows = terms.row_dtype(z.device)
    z, zdot, y = z.to(rows), zdot.to(rows), target.to(rows)
    on = y if loss_fn.pos_weight is None else y * loss_fn.pos_weight.to(rows)
    factor = 1.0 if loss_fn.weight is None else loss_fn.weight.to(rows)
    t = torch.stack([terms.softplus(-z), terms.softplus(z)])
    tdot = torch.stack([-torch.sigmoid(-z) * zdot, torch.sigmoid(z) * zdot])
    share = torch.stack([on, 1 - y]) * factor
    counts = share > 0
    return Terms(t[counts], tdot[counts], share[counts])


def sums(member: Member, names: Sequence[str], parts: Sequence[Terms]) -> Tensor:
    """What H and its derivatives are made of, added up over batches (and, by the caller, over processes).

    Args:
        member: its parameters `names` are read as they are.
        names: of the parameters, P of them.
        parts: the terms of each batch.

    Returns:
        (2, 1 + P): `sum share psi'` and `sum share psi' tdot`, each with its derivatives in the parameters.
    """
    device, rows = parts[0].t.device, parts[0].t.dtype
    values = [torch.tensor(float(member.parameters()[n]), dtype=rows, device=device) for n in names]
    values = [v.requires_grad_() for v in values]
    with torch.enable_grad():
        bound = member.bind(**dict(zip(names, values, strict=True)))
        t, tdot, share = (torch.cat([getattr(p, key) for p in parts]) for key in ("t", "tdot", "share"))
        weight = share * bound.slope(t, terms.xp)
        found = []
        for total in (weight.sum(), (weight * tdot).sum()):
            slopes = torch.autograd.grad(total, values, retain_graph=True, allow_unused=True)
            found.append(torch.stack([total.detach(), *(total.new_zeros(()) if g is None else g for g in slopes)]))
    return torch.stack(found)


def hypergradient(added: Tensor) -> Tensor:
    """`d score / d parameter = -dH/d parameter`, (P), from `sums`; NaN if no sample has any weight.

    Of one sample H does not depend on the shape. What rounding leaves of that 0 would move it as far as any other
    gradient, since the shape's steps do not know its scale.
    """
    a, b, da, db = added[0, 0], added[1, 0], added[0, 1:], added[1, 1:]
    left, right = db * a, b * da
    noise = 16 * torch.finfo(added.dtype).eps * (left.abs() + right.abs())
    change = left - right
    change = torch.where((change.abs() <= noise) & noise.isfinite(), 0.0, change)
    return -change / (a * a)

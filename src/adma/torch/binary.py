"""One logit a label: binary and multi-label losses, with the call of `nn.BCEWithLogitsLoss`."""

from __future__ import annotations

import torch
from torch import Tensor

from adma.family import Member
from adma.torch import checks
from adma.torch.kernels import terms


def binary_flexible_loss(
    member: Member,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`y psi(softplus(-z)) + (1 - y) psi(softplus(z))`, for any member of the family.

    Args:
        member: psi and slope (`adma.family`).
        input: logits z of any shape.
        target: labels y in [0, 1], of the input's shape and a floating-point type.
        weight: a factor for each element, broadcast to the input's shape.
        size_average: deprecated, as in torch.
        reduce: deprecated, as in torch.
        reduction: "none", "mean" (over all elements) or "sum".
        pos_weight: a factor for the positive part, broadcast to the input's shape.

    Returns:
        A scalar, or the input's shape for "none". An empty input has mean 0, not NaN.

    Raises:
        TypeError: an argument that is no floating-point tensor.
        ValueError: shapes that differ or do not broadcast, a label outside [0, 1].
    """
    reduction = checks.reduction_name(reduction, size_average, reduce)
    checks.floating("input", input)
    checks.floating("target", target)
    if target.shape != input.shape:
        raise ValueError(f"target must have the input's shape {tuple(input.shape)}, got {tuple(target.shape)}")
    for name, factor in (("weight", weight), ("pos_weight", pos_weight)):
        if factor is not None:
            checks.floating(name, factor)
            try:
                fits = torch.broadcast_shapes(factor.shape, input.shape) == input.shape
            except RuntimeError:
                fits = False
            if not fits:
                raise ValueError(
                    f"{name} must broadcast to the input's shape {tuple(input.shape)}, got {tuple(factor.shape)}"
                )
    if checks.values_readable(target) and bool(((target < 0) | (target > 1)).any()):
        bad = target[(target < 0) | (target > 1)][0].item()
        raise ValueError(f"target must hold labels in [0, 1], got {bad:g}")

    rows = terms.row_dtype(input.device)
    z, y = input.to(rows), target.to(rows)
    on = member.psi(terms.softplus(-z), terms.xp)
    off = member.psi(terms.softplus(z), terms.xp)
    share = y if pos_weight is None else y * pos_weight.to(rows)
    loss = terms.weighed(share, on) + terms.weighed(1 - y, off)
    if weight is not None:
        loss = loss * weight.to(rows)
    if reduction == "mean":
        loss = loss.sum() / max(1, loss.numel())
    elif reduction == "sum":
        loss = loss.sum()
    return loss.to(checks.result_dtype(input))

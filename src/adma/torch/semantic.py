"""The semantic loss: how improbable it is that independent labels satisfy a constraint (Xu et al. 2018).

`-log P(constraint)`, the labels independent with probabilities `sigmoid(z_j)`. It needs no target, so it also learns
from samples without labels, beside a loss for those that have one.

>>> import torch, adma
>>> logits = torch.tensor([[4.0, -4.0, -4.0], [0.0, 0.0, 0.0]])
>>> adma.SemanticLoss("exactly_one", reduction="none")(logits)
tensor([0.0540, 0.9808])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adma import constraints
from adma.constraints import Constraint
from adma.torch import checks
from adma.torch.kernels import terms


def semantic_loss(input: Tensor, constraint: str | Constraint = "exactly_one", *, reduction: str = "mean") -> Tensor:
    """`-log P(constraint)` of labels that are true with probability `sigmoid(input)`, independently.

    Args:
        input: logits (C), (N, C) or (N, C, d1, ..., dK), one a label. Float types; the arithmetic is float64.
        constraint: by name ("exactly_one", "at_most_2", ..., or what `adma.constraints.register` knows), or compiled.
        reduction: "none", "mean" over the rows or "sum".

    Returns:
        A scalar, or for "none" the input's shape without dim 1 (without any for (C)); the input's type. Infinite where
        a logit of +-inf excludes the constraint. A mean over no rows is 0.

    Raises:
        TypeError, ValueError: not such an input, or the constraint is not known or has another number of variables.
    """
    checks.reduction_name(reduction, None, None)
    if not isinstance(input, Tensor) or not input.is_floating_point():
        said = input.dtype if isinstance(input, Tensor) else type(input).__name__
        raise TypeError(f"input must be a tensor of a float type, got {said}")
    if input.dim() == 0:
        raise ValueError("input must be (C), (N, C) or (N, C, d1, ...), got a scalar")
    dim = 0 if input.dim() == 1 else 1
    rule = constraint_of(constraint, input.shape[dim])
    rows = rule_rows(input.movedim(dim, 0), rule, exactly_one=constraint == "exactly_one")
    if reduction == "none":
        return rows.to(input.dtype)
    total = rows.sum()
    return (total if reduction == "sum" else total / max(1, rows.numel())).to(input.dtype)


def constraint_of(constraint: str | Constraint, variables: int) -> Constraint:
    """A constraint on so many labels, by its name or as it is."""
    if isinstance(constraint, str):
        return constraints.named(constraint, int(variables))  # under torch.jit.trace a size is a tensor
    if not isinstance(constraint, Constraint):
        raise TypeError(f"constraint must be a name or an adma.constraints.Constraint, got {type(constraint).__name__}")
    if constraint.variables != variables:
        raise ValueError(f"constraint has {constraint.variables} variables, input has {variables} labels on dim 1")
    return constraint


def rule_rows(logits: Tensor, rule: Constraint, *, exactly_one: bool) -> Tensor:
    """`-log P(rule)` of logits (n, ...), of shape (...), in float64 where the device has it.

    Args:
        exactly_one: whether the rule is this one, which has a closed form.
    """
    z = logits.to(terms.row_dtype(logits.device))
    # a probability that rounding has brought above 1 is 1
    return (_exactly_one(z) if exactly_one else 0.0 - _log_probability(z, rule)).clamp(min=0.0)


def _exactly_one(z: Tensor) -> Tensor:
    """`-log sum_j s_j prod_(k != j) (1 - s_k) = sum_k softplus(z_k) - logsumexp(z)`.

    The likeliest label's own terms are taken together, so that a constraint that nearly holds keeps its small loss.
    """
    top, place = z.max(0, keepdim=True)
    others = z.scatter(0, place, float("-inf"))
    top = torch.where(top == float("-inf"), 0.0, top)  # no label is possible: the rest's sum is 0 then
    rest = _softplus(others).sum(0)
    below = torch.where(torch.isposinf(others), 0.0, others) - top  # a second certain label: the rest is infinite
    gap = torch.logsumexp(torch.cat([torch.zeros_like(top), below]), 0)
    none = torch.isneginf(z).all(0)
    found = _softplus(-top).squeeze(0) + rest - gap
    return torch.where(none, float("inf"), found)


def _log_probability(z: Tensor, rule: Constraint) -> Tensor:
    """From the last variable to the first, one sum a node."""
    never = torch.full((1, *z.shape[1:]), float("-inf"), dtype=z.dtype, device=z.device)
    values = torch.zeros_like(never)
    for index in range(rule.variables - 1, -1, -1):
        children = torch.from_numpy(rule.levels[index]).to(z.device)
        children = torch.where(children < 0, len(values), children)
        values = torch.cat([values, never])
        off, on = -_softplus(z[index]), -_softplus(-z[index])
        values = _log_add(off + values[children[:, 0]], on + values[children[:, 1]])
    return values[0]


def _softplus(z: Tensor) -> Tensor:
    return _log_add(z, torch.zeros_like(z))


def _log_add(x: Tensor, y: Tensor) -> Tensor:
    """`log(exp x + exp y)`, with finite derivatives of every order also where one of them, or both, is log 0."""
    top, low = torch.maximum(x, y), torch.minimum(x, y)
    never = torch.isneginf(low)
    gap = torch.where(never, 0.0, low) - torch.where(never, 0.0, top)
    return top + torch.where(never, 0.0, torch.log1p(torch.exp(gap)))


class SemanticLoss(nn.Module):
    """The semantic loss as a module: `-log P(constraint)` of labels that are independently true by `sigmoid(input)`.

    Add it to a loss of labelled samples, `loss_fn(z, y) + 0.05 * semantic(all_z)`; `SemanticCrossEntropyLoss`, the spec
    `semantic:strength=0.05`, is that sum with cross-entropy on the same samples.

    Args:
        constraint: by name ("exactly_one", "at_most_2", ..., or what `adma.constraints.register` knows), or compiled.
        reduction: "none", "mean" or "sum".

    Shape:
        input (C), (N, C) or (N, C, d1, ...), logits; the result is a scalar, or for "none" the input's without dim 1.
    """

    def __init__(self, constraint: str | Constraint = "exactly_one", reduction: str = "mean") -> None:
        super().__init__()
        if isinstance(constraint, str):
            constraints.check_name(constraint)
        elif not isinstance(constraint, Constraint):
            raise TypeError(
                f"constraint must be a name or an adma.constraints.Constraint, got {type(constraint).__name__}"
            )
        self.constraint = constraint
        self.reduction = checks.reduction_name(reduction, None, None)

    def extra_repr(self) -> str:
        return f"{self.constraint!r}" + ("" if self.reduction == "mean" else f", reduction={self.reduction!r}")

    def forward(self, input: Tensor) -> Tensor:
        return semantic_loss(input, self.constraint, reduction=self.reduction)

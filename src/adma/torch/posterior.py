"""Class posteriors back from a network that was trained with a flexible loss.

Where the loss is strictly convex in p, the minimiser of the risk at a point with class posteriors eta satisfies
`w_j eta_j psi'(-log p_j) proportional to p_j`. The map below solves it for eta, with nothing to fit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adma.family import Member
from adma.torch import checks
from adma.torch.kernels import terms
from adma.torch.kernels.choose import recording

# A slope of 0 at p = 1 makes that class certain; a number that float32 has too, as ONNX may write it in that type.
_CERTAIN = 1e30


def posterior(
    member: Member, input: Tensor, *, weight: Tensor | None = None, from_probabilities: bool = False
) -> Tensor:
    """`eta_j proportional to p_j / (w_j psi'(-log p_j))`, normalised over the classes.

    Args:
        member: the loss that the network was trained with.
        input: logits (C), (N, C) or (N, C, d1, ...); posteriors of the softmax if `from_probabilities`.
        weight: (C), the class weights of training: they tilt what the network estimates, and are taken out here.
        from_probabilities: whether `input` holds probabilities.

    Returns:
        Probabilities of the input's shape. With label smoothing or label noise they estimate the smoothed, the
        noisy posteriors: what the targets showed.

    Raises:
        ValueError: the loss does not determine the posteriors, a class weight is 0, or shapes do not fit.
        TypeError: `input` is no floating-point tensor.
    """
    return normalised(log_eta(member, input, weight=weight, from_probabilities=from_probabilities), input)


def log_eta(member: Member, input: Tensor, *, weight: Tensor | None = None, from_probabilities: bool = False) -> Tensor:
    """Logarithms of `posterior` up to a constant a sample, (N, C, ...); arguments and errors are the same."""
    refuse(member.no_posterior or no_trace(weight))
    t = class_nll(input, from_probabilities)
    # where torch records, a size is a tensor; a graph of torch.compile cannot ask whether it does
    plain = not (torch.compiler.is_compiling() or recording())
    if weight is not None and plain and weight.shape != t.shape[1:2]:
        raise ValueError(f"weight must have shape ({t.shape[1]},), one a class, got {tuple(weight.shape)}")
    possible = t < torch.inf  # a masked class stays impossible; its own terms are inf - inf
    finite = torch.where(possible, t, torch.ones_like(t))
    found = torch.where(possible, -finite - member.log_slope(finite, terms.xp), float("-inf"))
    if weight is not None:
        found = found - torch.log(weight.to(t.dtype)).reshape((1, -1) + (1,) * (t.dim() - 2))
    return found.clamp(max=_CERTAIN)


def binary_posterior(member: Member, input: Tensor, *, pos_weight: Tensor | None = None) -> Tensor:
    """The posterior of the positive label, from one logit a label (any shape); as `posterior` for two classes."""
    refuse(member.no_posterior or no_trace(pos_weight))
    checks.floating("input", input)
    z = input.to(terms.row_dtype(input.device))
    on, off = terms.softplus(-z), terms.softplus(z)
    odds = z - member.log_slope(on, terms.xp) + member.log_slope(off, terms.xp)
    odds = torch.where(z.isinf(), z, odds)  # where the terms are inf - inf
    if pos_weight is not None:
        odds = odds - torch.log(pos_weight.to(z.dtype))
    return torch.sigmoid(odds).to(checks.result_dtype(input))


def no_trace(weight: Tensor | None) -> str:
    """Why weights keep the posteriors from being recovered; empty if they do not, or inside a graph, which has none."""
    if weight is None or not checks.values_there(weight) or not bool((weight <= 0).any()):
        return ""
    return "a class with weight 0 leaves no trace in the network"


def refuse(reason: str) -> None:
    """Raise a ValueError for a reason that is not empty."""
    if reason:
        raise ValueError(f"no posteriors: {reason}")


def class_nll(input: Tensor, from_probabilities: bool = False) -> Tensor:
    """`t = -log p` of every class, (N, C, ...), from logits or probabilities of shape (C), (N, C) or (N, C, ...)."""
    checks.floating("input", input)
    if input.dim() == 0:
        raise ValueError("input must have a class dimension: (C), (N, C) or (N, C, d1, ...), got a scalar")
    z = input.unsqueeze(0) if input.dim() == 1 else input
    z = z.to(terms.row_dtype(z.device))
    return -torch.log(z) if from_probabilities else terms.nll_all(z)


def normalised(log_p: Tensor, like: Tensor) -> Tensor:
    """Unnormalised log-probabilities (N, C, ...) as probabilities of the shape and type of `like`."""
    return torch.exp(-terms.nll_all(log_p)).reshape(like.shape).to(checks.result_dtype(like))


def log_normalised(log_p: Tensor) -> Tensor:
    """The same as logarithms, which tell apart what is too small for a probability; -inf beside a certain class."""
    t = terms.nll_all(log_p)
    return torch.where(t < _CERTAIN / 2, -t, float("-inf"))

"""How an optimizer turns a gradient into a step, as far as the direction of a look-ahead needs it.

A look-ahead step of the training loss moves the weights by `-P g`, g its gradient; P is diagonal for every optimizer
here. Momentum (Nesterov's too) repeats a gradient over the next steps, `1 / (1 - momentum)` of it in all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

# (a tensor like the weights, the optimizer's state of these weights, its parameter group) -> P times the tensor
Preconditioner = Callable[[Tensor, Mapping[str, Any], Mapping[str, Any]], Tensor]


def gradient_descent(v: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    """SGD: the learning rate, and what momentum makes of it."""
    momentum = group.get("momentum") or 0.0
    gain = (1.0 - (group.get("dampening") or 0.0)) / (1.0 - momentum) if momentum else 1.0
    return v * (group["lr"] * gain)


def adam(v: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    """Adam, AdamW and their kind: the learning rate over the root of the second moment, corrected for its start."""
    moment = state.get("max_exp_avg_sq") if group.get("amsgrad") else state.get("exp_avg_sq")
    if moment is None:
        return torch.zeros_like(v)  # no step was taken with these weights
    step = state["step"]
    corrected = moment / (1.0 - group["betas"][1] ** step)
    return v * group["lr"] / (corrected.sqrt() + group["eps"]).to(v.dtype)


def rmsprop(v: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    """RMSprop: the learning rate over the root of the running square (about the mean if centered)."""
    if "square_avg" not in state:
        return torch.zeros_like(v)
    square = state["square_avg"]
    if group.get("centered"):
        square = square - state["grad_avg"] ** 2
    gain = 1.0 / (1.0 - (group.get("momentum") or 0.0))
    return v * (group["lr"] * gain) / (square.sqrt() + group["eps"])


def adagrad(v: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    """Adagrad: the learning rate over the root of the sum of squares."""
    if "sum" not in state:
        return torch.zeros_like(v)
    return v * group["lr"] / (state["sum"].sqrt() + group["eps"])


_KNOWN: dict[str, Preconditioner] = {
    "SGD": gradient_descent,
    "Adam": adam,
    "AdamW": adam,
    "NAdam": adam,
    "RAdam": adam,
    "RMSprop": rmsprop,
    "Adagrad": adagrad,
}
SCALE_FREE = (adam, rmsprop, adagrad)  # a factor on the loss leaves their steps as they are


def of_optimizer(optimizer: torch.optim.Optimizer) -> Preconditioner:
    """The preconditioner of an optimizer of torch, or of a class derived from one.

    Raises:
        ValueError: it is of none that is known here.
    """
    for kind in type(optimizer).__mro__:
        if kind.__name__ in _KNOWN and kind.__module__.startswith("torch.optim"):
            return _KNOWN[kind.__name__]
    raise ValueError(
        f"precondition: how {type(optimizer).__name__} scales a gradient is not known; pass precondition=f with "
        "f(v, state, group) -> the step it makes of a gradient v, such as adma.flex.gradient_descent (learning rate "
        f"times v); known: {', '.join(_KNOWN)}"
    )

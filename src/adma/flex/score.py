"""What a shape is learned for: scores of held-out predictions, to be lowered."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adma.family import MeanAbsoluteError
from adma.torch.binary import binary_flexible_loss
from adma.torch.engine import flexible_loss
from adma.torch.flexible import BinaryFlexibleLoss, FlexibleLoss

Score = Callable[[Tensor, Tensor], Tensor]


def expected_error(loss_fn: FlexibleLoss | BinaryFlexibleLoss) -> Score:
    """The mean of 1 - p, the error of a class drawn by the network's own probabilities; class weights do not count.

    Args:
        loss_fn: says whether there is one logit a label, and which targets are ignored.
    """
    if isinstance(loss_fn, BinaryFlexibleLoss):
        return lambda logits, target: 0.5 * binary_flexible_loss(MeanAbsoluteError(), logits, target)
    ignored = loss_fn.ignore_index

    def score(logits: Tensor, target: Tensor) -> Tensor:
        return 0.5 * flexible_loss(MeanAbsoluteError(), logits, target, ignore_index=ignored)

    return score


def balanced_error(logits: Tensor, target: Tensor) -> Tensor:
    """The mean over classes of the mean of 1 - p within the class: for classes of unequal size.

    Args:
        logits: (N, C) or (N, C, d1, ...).
        target: class indices (N) or (N, d1, ...); -100 is ignored.
    """
    classes = logits.shape[1]
    counts = torch.bincount(target[target != -100].flatten(), minlength=classes)
    weight = torch.where(counts > 0, 1.0 / counts.clamp(min=1), 0.0).to(logits.dtype)
    return 0.5 * flexible_loss(MeanAbsoluteError(), logits, target, weight, reduction="mean")

"""Losses outside the family that the paper compares with, with the same call: functions and modules.

They see every class's probability `s`. Mean squared error and squared hinge are on probabilities, as Keras
defines them and the paper used them, not on logits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adma import classic
from adma.torch.engine import dense_loss
from adma.torch.flexible import CallLoss, Shape
from adma.torch.kernels import terms
from adma.torch.posterior import class_nll, normalised


def mean_squared_error(
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
) -> Tensor:
    """Mean squared error of the probabilities, `mean_j (s_j - y_j)^2` over the classes.

    Shapes, options and errors: as `adma.functional.flexible_loss`; a row's weight is `sum_j w_j y_j`.
    """
    return dense_loss(
        _squared_error, terms.nll_all, input, target, weight, size_average, ignore_index, reduce, reduction,
        label_smoothing, from_probabilities,
    )  # fmt: skip


def squared_hinge(
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
) -> Tensor:
    """Squared hinge on the probabilities, `mean_j max(0, 1 - (2 y_j - 1) s_j)^2` over the classes.

    Shapes, options and errors: as `adma.functional.flexible_loss`; a row's weight is `sum_j w_j y_j`.
    """
    return dense_loss(
        _squared_hinge, terms.nll_all, input, target, weight, size_average, ignore_index, reduce, reduction,
        label_smoothing, from_probabilities,
    )  # fmt: skip


def bi_tempered_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    t1: float = 0.8,
    t2: float = 1.2,
    from_probabilities: bool = False,
) -> Tensor:
    """Bi-tempered logistic loss (Amid, Warmuth, Anil & Koren 2019, eq. 5): a Bregman divergence of tempered softmax.

    Shapes, options and errors: as `adma.functional.flexible_loss`; a row's weight is `sum_j w_j y_j`; posteriors
    given by `from_probabilities` are those of the tempered softmax.

    Args:
        input: logits; the arguments up to `label_smoothing` are those of `flexible_loss`.
        target: class indices or class probabilities.
        weight: (C).
        size_average: deprecated.
        ignore_index: index targets with this value count nothing.
        reduce: deprecated.
        reduction: "none", "mean" or "sum".
        label_smoothing: in [0, 1].
        t1: temperature of the logarithm, in [0, 1]; below 1 the loss is bounded.
        t2: temperature of the softmax, in (0, 5]; above 1 heavy-tailed. t1 = t2 = 1 is cross-entropy.
        from_probabilities: whether `input` holds posteriors.
    """
    shape = classic.BiTempered(t1, t2)

    def loss(t: Tensor, y: Tensor) -> Tensor:
        return _bregman(t, y, shape.t1)

    def head(z: Tensor) -> Tensor:
        return tempered_nll(z, shape.t2)

    return dense_loss(
        loss, head, input, target, weight, size_average, ignore_index, reduce, reduction, label_smoothing,
        from_probabilities,
    )  # fmt: skip


def tempered_nll(z: Tensor, t2: float) -> Tensor:
    """`-log softmax_t2(z)` over dim 1 of (N, C, ...).

    `softmax_t(z) = exp_t(z - lambda)`, with lambda such that the probabilities sum to 1.

    Raises:
        ValueError: t2 is outside (0, 5].
    """
    t2 = classic.BiTempered(t2=t2).t2
    if t2 == 1:
        return terms.nll_all(z)
    k = t2 - 1
    z = z.to(terms.row_dtype(z.device))
    z = z - z.detach().amax(1, keepdim=True)

    def log_sum(level: Tensor) -> tuple[Tensor, Tensor]:
        """Log of sum exp_t, and its derivative in the level."""
        inner = k * (level - z)
        ended = inner <= -1  # for t2 < 1 exp_t is 0 from a point on
        log_s = torch.where(ended, float("-inf"), -torch.log1p(torch.where(ended, 0.0, inner)) / k)
        value = torch.logsumexp(log_s, 1, keepdim=True)
        slope = torch.where(ended, 0.0, -torch.exp(t2 * torch.where(ended, 0.0, log_s) - value))
        return value, slope.sum(1, keepdim=True)

    def newton(level: Tensor) -> Tensor:
        # Newton on (sum exp_t)^(-k) = 1, which is nearly linear in the level: from 0 it rises to the root, never past
        value, slope = log_sum(level)
        return level + torch.expm1(k * value) / (k * -slope)

    with torch.no_grad():
        level = torch.zeros_like(z[:, :1])
        for _ in range(_NEWTON_STEPS):
            level = newton(level)
    # two steps with a graph give the root's derivatives up to the third order
    level = newton(newton(level))
    inner = k * (level - z)
    ended = inner <= -1
    return torch.where(ended, float("inf"), torch.log1p(torch.where(ended, 0.0, inner)) / k)


_NEWTON_STEPS = 24


def _squared_error(t: Tensor, y: Tensor) -> Tensor:
    # near 1 the difference from y by expm1, which keeps the relative accuracy of a small error
    difference = torch.where(y > 0.5, (1 - y) + terms.xp.expm1(-t), torch.exp(-t) - y)
    return (difference * difference).mean(1)


def _squared_hinge(t: Tensor, y: Tensor) -> Tensor:
    margin = 1 - (2 * y - 1) * torch.exp(-t)
    return (margin.clamp(min=0.0) ** 2).mean(1)


def _bregman(t: Tensor, y: Tensor, t1: float) -> Tensor:
    """`sum_j y_j (log_t1 y_j - log_t1 s_j) - (y_j^(2 - t1) - s_j^(2 - t1)) / (2 - t1)`."""
    k = 1 - t1
    log_y = torch.log(torch.where(y > 0, y, torch.ones_like(y)))

    def log_t(x: Tensor) -> Tensor:
        return terms.xp.expm1(k * x) / k if k else x

    gain = torch.where(y > 0, y * (log_t(log_y) - log_t(-t)), torch.zeros_like(t))
    power = torch.where(y > 0, torch.exp((1 + k) * log_y), torch.zeros_like(y))
    return (gain - (power - torch.exp(-(1 + k) * t)) / (1 + k)).sum(1)


class MeanSquaredErrorLoss(CallLoss):
    """Mean squared error of the probabilities (Keras's), with the call of `torch.nn.CrossEntropyLoss`."""

    member = classic.MeanSquaredError()

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return mean_squared_error(input, target, **self._options())

    def posterior(self, input: Tensor) -> Tensor:
        """The softmax itself: squared error is a proper score, so its minimiser is the posterior."""
        return _weighted_posterior(class_nll(input, self.from_probabilities), self.weight, input)


class SquaredHingeLoss(CallLoss):
    """Squared hinge on the probabilities (Keras's), with the call of `torch.nn.CrossEntropyLoss`."""

    member = classic.SquaredHinge()

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return squared_hinge(input, target, **self._options())

    def posterior(self, input: Tensor) -> Tensor:
        """Refused.

        Raises:
            ValueError: the minimiser of this loss does not determine the posteriors.
        """
        raise ValueError(f"no posteriors: {self.member.no_posterior}")


class BiTemperedLoss(CallLoss):
    """Bi-tempered logistic loss (Amid 2019), with the call of `torch.nn.CrossEntropyLoss`.

    Arguments, shapes and errors: as `CallLoss`.

    Args:
        t1: temperature of the logarithm, in [0, 1].
        t2: temperature of the softmax, in (0, 5].
    """

    member: classic.BiTempered
    t1 = Shape[float]()
    t2 = Shape[float]()

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        t1: float = 0.8,
        t2: float = 1.2,
        from_probabilities: bool = False,
    ) -> None:
        super().__init__(
            weight, size_average, ignore_index, reduce, reduction, label_smoothing,
            from_probabilities=from_probabilities,
        )  # fmt: skip
        self.member = classic.BiTempered(t1, t2)

    def _shape_repr(self) -> list[str]:
        return [f"t1={self.t1!r}", f"t2={self.t2!r}"]

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return bi_tempered_loss(input, target, t1=self.t1, t2=self.t2, **self._options())

    def posterior(self, input: Tensor) -> Tensor:
        """The tempered softmax: the loss is a proper score of it."""
        if self.from_probabilities:
            return _weighted_posterior(class_nll(input, True), self.weight, input)
        z = input.unsqueeze(0) if input.dim() == 1 else input
        return _weighted_posterior(tempered_nll(z, self.t2), self.weight, input)


def _weighted_posterior(t: Tensor, weight: Tensor | None, like: Tensor) -> Tensor:
    if weight is not None:
        if bool((weight <= 0).any()):
            raise ValueError("no posteriors: a class with weight 0 leaves no trace in the network")
        t = t + torch.log(weight.to(t.dtype)).reshape((1, -1) + (1,) * (t.dim() - 2))
    return normalised(-t, like)

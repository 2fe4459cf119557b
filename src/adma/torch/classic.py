"""Losses outside the family, with the same call: they see every class's probability `s`, and `t = -log s`.

Mean squared error and squared hinge are on probabilities, as Keras defines them and the paper used them, not on
logits.

>>> import torch, adma
>>> adma.SymmetricCrossEntropyLoss(alpha=6.0, beta=0.1)
SymmetricCrossEntropyLoss(alpha=6.0, beta=0.1, clip=-4.0)
>>> adma.ActivePassiveLoss()(torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])).ndim
0
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from adma import _check, classic
from adma.family import CrossEntropy
from adma.torch.engine import DenseLoss, Head, dense_loss, flexible_loss
from adma.torch.flexible import CallLoss, Named, Shape
from adma.torch.kernels import terms
from adma.torch.posterior import class_nll, log_eta, refuse
from adma.torch.semantic import constraint_of, rule_rows


def classic_loss(
    loss: classic.Classic,
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
    """A loss outside the family, with the call of `torch.nn.functional.cross_entropy`.

    Shapes, options and errors: as `flexible_loss`; a row's weight is `sum_j w_j y_j`, y before smoothing, but for
    `smoothed_cce`, whose class weights are cross-entropy's. Posteriors given by `from_probabilities` are those of the
    loss's own softmax.

    Raises:
        TypeError: there are no rows for this loss here.
    """
    if isinstance(loss, classic.SmoothedCrossEntropy):
        smoothing = loss.combined(_check.real("label_smoothing", label_smoothing, low=0, high=1))
        return flexible_loss(
            CrossEntropy(), input, target, weight, size_average, ignore_index, reduce, reduction, smoothing,
            from_probabilities=from_probabilities, inplace=inplace,
        )  # fmt: skip
    if from_probabilities and isinstance(loss, classic.SemanticCrossEntropy):
        raise ValueError("from_probabilities has no meaning for semantic: the labels' probabilities are of the logits")
    return dense_loss(
        _rows(loss), _head(loss), input, target, weight, size_average, ignore_index, reduce, reduction,
        label_smoothing, from_probabilities, inplace,
    )  # fmt: skip


def _head(loss: classic.Classic) -> Head:
    if isinstance(loss, classic.SemanticCrossEntropy):
        return _as_they_are
    if isinstance(loss, classic.BiTempered):
        t2 = loss.t2
        return lambda z: tempered_nll(z, t2)
    return terms.nll_all


def _rows(loss: classic.Classic) -> DenseLoss:
    if isinstance(loss, classic.MeanSquaredError):
        return _squared_error
    if isinstance(loss, classic.SquaredHinge):
        return _squared_hinge
    if isinstance(loss, classic.BiTempered):
        t1 = loss.t1
        return lambda t, y: _bregman(t, y, t1)
    if isinstance(loss, (classic.SymmetricCrossEntropy, classic.ActivePassive)):
        forward = _cross_entropy if isinstance(loss, classic.SymmetricCrossEntropy) else _normalised_cross_entropy
        alpha, beta, clip = loss.alpha, loss.beta, loss.clip
        return lambda t, y: alpha * forward(t, y) + beta * _reverse_cross_entropy(t, y, clip)
    if isinstance(loss, classic.SemanticCrossEntropy):
        strength, name = loss.strength, loss.constraint

        def rows(z: Tensor, y: Tensor) -> Tensor:
            rule = constraint_of(name, z.shape[1])
            semantic = rule_rows(z.movedim(1, 0), rule, exactly_one=name == "exactly_one")
            return _cross_entropy(terms.nll_all(z), y.to(semantic.dtype)) + strength * semantic

        return rows
    raise TypeError(f"no rows are known for {loss!r}")


def _as_they_are(z: Tensor) -> Tensor:
    return z.to(terms.row_dtype(z.device))


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
    # near 1 the difference by expm1: half types have t in float32, where 1 less the sum of s is rounding
    near = (power - 1) - terms.xp.expm1(-(1 + k) * t)
    return (gain - torch.where(y > 0.5, near, power - torch.exp(-(1 + k) * t)) / (1 + k)).sum(1)


def _cross_entropy(t: Tensor, y: Tensor) -> Tensor:
    return terms.weighed(y, t).sum(1)


def _normalised_cross_entropy(t: Tensor, y: Tensor) -> Tensor:
    """`sum_j y_j t_j / sum_k t_k`, an impossible class left out of the second sum; as a target its quotient is 1."""
    impossible = t == float("inf")
    finite = torch.where(impossible, torch.zeros_like(t), t)
    largest = finite.detach().amax(1, keepdim=True)
    finite = finite / torch.where(largest == 0, torch.ones_like(largest), largest)  # so that the sum does not overflow
    total = finite.sum(1, keepdim=True)
    share = finite / torch.where(total == 0, torch.ones_like(total), total)  # a class that is alone costs nothing
    return (y * torch.where(impossible, torch.ones_like(share), share)).sum(1)


def _reverse_cross_entropy(t: Tensor, y: Tensor, clip: float) -> Tensor:
    """`-sum_j s_j max(log y_j, clip)`."""
    log_y = torch.log(torch.where(y > 0, y, torch.ones_like(y)))
    return -(torch.exp(-t) * torch.where(y > 0, log_y, torch.full_like(y, clip)).clamp(min=clip)).sum(1)


class ClassicLoss(Named, CallLoss):
    """A loss outside the family with a class of its own; arguments, shapes and errors as `CallLoss`, and its shape."""

    kind: ClassVar[type[classic.Classic]]
    member: classic.Classic

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        from_probabilities: bool = False,
        inplace: bool = False,
        **shape: float,
    ) -> None:
        super().__init__(
            weight, size_average, ignore_index, reduce, reduction, label_smoothing,
            from_probabilities=from_probabilities, inplace=inplace,
        )  # fmt: skip
        self.member = self.kind(**shape)

    def _shape_repr(self) -> list[str]:
        return [f"{key}={value!r}" for key, value in self.member.parameters().items()]

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return classic_loss(self.member, input, target, **self._options())

    def posterior(self, input: Tensor) -> Tensor:
        """Class probabilities from a network trained with this loss: its own softmax, where it is a proper score.

        Raises:
            ValueError: the minimiser of this loss does not determine the posteriors.
        """
        return super().posterior(input)

    def _log_eta(self, input: Tensor) -> Tensor:
        refuse(self.no_posterior)
        t = self._nll(input)
        if self.weight is not None:
            t = t + torch.log(self.weight.to(t.dtype)).reshape((1, -1) + (1,) * (t.dim() - 2))
        return -t

    def _nll(self, input: Tensor) -> Tensor:
        return class_nll(input, self.from_probabilities)


class MeanSquaredErrorLoss(ClassicLoss):
    """Mean squared error of the probabilities, `mean_j (s_j - y_j)^2` (Keras's)."""

    kind = classic.MeanSquaredError


class SquaredHingeLoss(ClassicLoss):
    """Squared hinge on the probabilities, `mean_j max(0, 1 - (2 y_j - 1) s_j)^2` (Keras's)."""

    kind = classic.SquaredHinge


class BiTemperedLoss(ClassicLoss):
    """Bi-tempered logistic loss (Amid, Warmuth, Anil & Koren 2019, eq. 5): a divergence of the tempered softmax.

    Args:
        t1: temperature of the logarithm, in [0, 1]; below 1 the loss is bounded.
        t2: temperature of the softmax, in (0, 5]; above 1 heavy-tailed. t1 = t2 = 1 is cross-entropy.
    """

    kind = classic.BiTempered
    member: classic.BiTempered
    t1 = Shape[float]()
    t2 = Shape[float]()

    def _nll(self, input: Tensor) -> Tensor:
        if self.from_probabilities:
            return class_nll(input, True)
        return tempered_nll(input.unsqueeze(0) if input.dim() == 1 else input, self.t2)


class SmoothedCrossEntropyLoss(ClassicLoss):
    """Cross-entropy with label smoothing (Szegedy 2016): `CrossEntropyLoss(label_smoothing=epsilon)` by a spec.

    Args:
        epsilon: in [0, 1]. With `label_smoothing` too it smooths twice: by `1 - (1 - epsilon) (1 - label_smoothing)`.
    """

    kind = classic.SmoothedCrossEntropy
    epsilon = Shape[float]()


class SymmetricCrossEntropyLoss(ClassicLoss):
    """Symmetric cross-entropy, `alpha sum_j y_j t_j - beta sum_j s_j max(log y_j, clip)` (Wang 2019).

    Args:
        alpha: of cross-entropy, in [0, inf).
        beta: of reverse cross-entropy, in [0, inf).
        clip: what log 0 is taken as, in (-inf, 0].
    """

    kind = classic.SymmetricCrossEntropy
    member: classic.SymmetricCrossEntropy
    alpha = Shape[float]()
    beta = Shape[float]()
    clip = Shape[float]()

    @property
    def no_posterior(self) -> str:
        if self.label_smoothing and self.member.beta * self.member.clip:
            return "sce is a function of p for class indices alone, and these were smoothed"
        return super().no_posterior

    def posterior(self, input: Tensor) -> Tensor:
        """Calibrated class probabilities from a network trained on class indices, by the map of Poly-1.

        Raises:
            ValueError: the loss is linear in p, or was used with label smoothing.
        """
        return super().posterior(input)

    def _log_eta(self, input: Tensor) -> Tensor:
        refuse(self.no_posterior)
        return log_eta(self.member.one_hot, input, weight=self.weight, from_probabilities=self.from_probabilities)


class ActivePassiveLoss(ClassicLoss):
    """Active-passive loss NCE + RCE, `alpha sum_j y_j t_j / sum_k t_k - beta sum_j s_j max(log y_j, clip)` (Ma 2020).

    Args:
        alpha: of normalised cross-entropy, in [0, inf).
        beta: of reverse cross-entropy, in [0, inf).
        clip: what log 0 is taken as, in (-inf, 0].
    """

    kind = classic.ActivePassive
    alpha = Shape[float]()
    beta = Shape[float]()
    clip = Shape[float]()


class SemanticCrossEntropyLoss(ClassicLoss):
    """Cross-entropy and semantic loss, `t + strength * -log P(constraint)` (Xu et al. 2018); see `SemanticLoss`.

    Args:
        strength: of the semantic loss, in [0, inf).
        constraint: on the classes as independent labels: "exactly_one", "at_most_2", ..., or a registered name.
    """

    kind = classic.SemanticCrossEntropy
    strength = Shape[float]()
    constraint = Shape[str]()

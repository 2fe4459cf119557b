"""Losses outside the family, as names with checked parameters.

They are not a function of the true class's probability alone, so each backend computes them by itself; here
stands only what a spec such as `bi_tempered:t1=0.8,t2=1.2` means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from adma import _check
from adma.family import LINEAR, NOT_STEEP, Loss, Poly1, Range


@dataclass(frozen=True)
class Classic(Loss):
    """A loss outside the family."""


@dataclass(frozen=True)
class MeanSquaredError(Classic):
    """Mean squared error of the probabilities, `mean_j (s_j - y_j)^2` (Keras's definition, the paper's)."""

    name: ClassVar[str] = "mse"
    aliases: ClassVar[tuple[str, ...]] = ("mean_squared_error", "brier")


@dataclass(frozen=True)
class SquaredHinge(Classic):
    """Squared hinge on the probabilities, `mean_j max(0, 1 - (2 y_j - 1) s_j)^2` (Keras's definition)."""

    name: ClassVar[str] = "squared_hinge"
    aliases: ClassVar[tuple[str, ...]] = ("squared-hinge",)

    @property
    def no_posterior(self) -> str:
        return NOT_STEEP.format(self.name)


@dataclass(frozen=True)
class BiTempered(Classic):
    """Bi-tempered logistic loss (Amid, Warmuth, Anil & Koren 2019); t1 = t2 = 1 is cross-entropy.

    Args:
        t1: temperature of the logarithm, in [0, 1]; below 1 the loss is bounded.
        t2: temperature of the softmax, in (0, 5]; above 1 its tail is heavy, below 1 it ends.
    """

    t1: float = 0.8
    t2: float = 1.2
    name: ClassVar[str] = "bi_tempered"
    aliases: ClassVar[tuple[str, ...]] = ("bitempered",)
    space: ClassVar[Mapping[str, Range]] = {"t1": Range(0.2, 1.0), "t2": Range(1.0, 4.0)}

    def __post_init__(self) -> None:
        object.__setattr__(self, "t1", _check.real("t1", self.t1, low=0, high=1))
        object.__setattr__(self, "t2", _check.real("t2", self.t2, low=0, high=5, open_low=True))


@dataclass(frozen=True)
class SmoothedCrossEntropy(Classic):
    """Cross-entropy with label smoothing, `sum_j ((1 - epsilon) y_j + epsilon / C) t_j` (Szegedy 2016).

    The loss `cce` with `label_smoothing=epsilon`, as a spec. With a label smoothing of its call it smooths twice,
    which is smoothing once by `combined`.

    Args:
        epsilon: in [0, 1], the share of the target that is spread evenly over the classes.
    """

    epsilon: float = 0.1
    name: ClassVar[str] = "smoothed_cce"
    aliases: ClassVar[tuple[str, ...]] = ("label_smoothing",)
    space: ClassVar[Mapping[str, Range]] = {"epsilon": Range(0.01, 0.5, log=True)}

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", _check.real("epsilon", self.epsilon, low=0, high=1))

    def combined(self, label_smoothing: float) -> float:
        """The share spread evenly in all, `1 - (1 - epsilon) (1 - label_smoothing)`."""
        return self.epsilon + label_smoothing - self.epsilon * label_smoothing

    @property
    def no_posterior(self) -> str:
        return (
            "smoothed_cce estimates (1 - epsilon) eta + epsilon / C of the posteriors eta, and a network's output may "
            "be below epsilon / C, which is of no posterior; the softmax is the estimate of the smoothed ones"
        )


@dataclass(frozen=True)
class _Reversed(Classic):
    """What the losses with a reverse cross-entropy share, `-sum_j s_j max(log y_j, clip)`."""

    alpha: float = 1.0
    beta: float = 1.0
    clip: float = -4.0

    def __post_init__(self) -> None:
        for key, high in (("alpha", math.inf), ("beta", math.inf), ("clip", 0.0)):
            low = -math.inf if key == "clip" else 0.0
            object.__setattr__(self, key, _check.real(key, getattr(self, key), low=low, high=high))
        if self.alpha == 0 and self.beta * self.clip == 0:
            raise ValueError(
                f"alpha must be above 0 where beta * clip is 0, got alpha = 0, beta = {self.beta:g}, clip = "
                f"{self.clip:g}: the loss is zero everywhere, so nothing is learned"
            )


@dataclass(frozen=True)
class SymmetricCrossEntropy(_Reversed):
    """Symmetric cross-entropy, `alpha sum_j y_j t_j - beta sum_j s_j max(log y_j, clip)` (Wang 2019).

    With a class index, or a one-hot target, it is `alpha t + beta |clip| (1 - p)`: Poly-1 cross-entropy.

    Args:
        alpha: of cross-entropy, in [0, inf). Published: 0.1 for CIFAR-10, 6 for CIFAR-100.
        beta: of reverse cross-entropy, in [0, inf). Published: 1 for CIFAR-10, 0.1 for CIFAR-100.
        clip: what log 0 is taken as, and the least that log y_j counts, in (-inf, 0]: A of the paper, -4. Its code
            clips y at 1e-4 instead, which is `clip=-9.21`.
    """

    alpha: float = 0.1
    name: ClassVar[str] = "sce"
    aliases: ClassVar[tuple[str, ...]] = ("symmetric_cross_entropy",)
    space: ClassVar[Mapping[str, Range]] = {
        "alpha": Range(0.01, 10.0, log=True),
        "beta": Range(0.01, 10.0, log=True),
        "clip": Range(-10.0, -1.0, optional=True),
    }

    @property
    def epsilon(self) -> float:
        """Of `alpha (t + epsilon (1 - p))`, what it is with a class index; inf where that is linear in p."""
        return -self.beta * self.clip / self.alpha if self.alpha else math.inf

    @property
    def one_hot(self) -> Poly1:
        """The member of the family that it is with a class index, but for the factor alpha.

        Raises:
            ValueError: alpha is 0, or so small that only the linear part is left.
        """
        return Poly1(self.epsilon)

    @property
    def no_posterior(self) -> str:
        return LINEAR.format(self) if math.isinf(self.epsilon) else ""


@dataclass(frozen=True)
class ActivePassive(_Reversed):
    """Active-passive loss NCE + RCE, `alpha sum_j y_j t_j / sum_k t_k - beta sum_j s_j max(log y_j, clip)` (Ma 2020).

    The first part is normalised cross-entropy, in [0, 1]. A class that is impossible (a logit of -inf) is left out
    of the sum over k, so it counts nothing, as if it were not there; where it is the target itself, its quotient
    is the limit 1.

    Args:
        alpha: of normalised cross-entropy, in [0, inf). Published: 1 for CIFAR-10, 10 for CIFAR-100.
        beta: of reverse cross-entropy, in [0, inf). Published: 1 for CIFAR-10, 0.1 for CIFAR-100.
        clip: what log 0 is taken as, and the least that log y_j counts, in (-inf, 0]: A of the paper, -4. Its code
            clips y at 1e-4 instead, which is `clip=-9.21`.
    """

    name: ClassVar[str] = "nce_rce"
    aliases: ClassVar[tuple[str, ...]] = ("active_passive",)
    space: ClassVar[Mapping[str, Range]] = {
        "alpha": Range(0.1, 100.0, log=True),
        "beta": Range(0.01, 100.0, log=True),
        "clip": Range(-10.0, -1.0, optional=True),
    }

    @property
    def no_posterior(self) -> str:
        return (
            "nce_rce is lowest in the limit that puts everything on the most probable class, whatever the other "
            "posteriors, so they cannot be recovered"
        )


@dataclass(frozen=True)
class SemanticCrossEntropy(Classic):
    """Cross-entropy and semantic loss, `t + strength * -log P(constraint)` (Xu et al. 2018, Sec. 4).

    The constraint is on the classes as independent labels, true with probability `sigmoid(z_j)`; with "exactly_one" it
    says that a sample has one class. t is of the softmax of the same logits.

    Args:
        strength: of the semantic loss, in [0, inf). Published: 0.0005 to 0.05.
        constraint: "exactly_one", "at_most_2", ..., or a name that `adma.constraints.register` knows.
    """

    strength: float = 0.05
    constraint: str = "exactly_one"
    name: ClassVar[str] = "semantic"
    aliases: ClassVar[tuple[str, ...]] = ("semantic_cce",)
    space: ClassVar[Mapping[str, Range]] = {"strength": Range(0.0005, 5.0, log=True)}

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", _check.real("strength", self.strength, low=0))
        from adma import constraints  # imported when it is asked for

        constraints.check_name(self.constraint)

    @property
    def no_posterior(self) -> str:
        return (
            "semantic adds to cross-entropy a loss of the sigmoids, so its minimiser is neither the softmax's nor the "
            "sigmoids' posterior"
        )


@dataclass(frozen=True)
class LargeMarginSoftmax(Classic):
    """Large-margin softmax, L-Softmax (Liu, Wen, Yu & Yang 2016): cross-entropy with an angular margin.

    It is no function of the logits: it needs the last layer's weight and input, too. Its module is attached to that
    layer, `adma.LargeMarginSoftmaxLoss(margin=2).attach(layer)`.

    Args:
        margin: m, a whole number from 1 (cross-entropy) to 8. Published: 2 to 4.
        lam: lambda >= 0 eases the margin; 0 is the whole of it.
    """

    margin: int = 2
    lam: float = 0.0
    name: ClassVar[str] = "l_softmax"
    aliases: ClassVar[tuple[str, ...]] = ("large_margin_softmax",)
    space: ClassVar[Mapping[str, Range]] = {
        "margin": Range(1, 4, whole=True),
        "lam": Range(0.0, 100.0, optional=True),
    }

    def __post_init__(self) -> None:
        object.__setattr__(self, "margin", _check.whole("margin", self.margin, low=1, high=8))
        object.__setattr__(self, "lam", _check.real("lam", self.lam, low=0))

    @property
    def no_posterior(self) -> str:
        if self.margin == 1:
            return ""
        return "l_softmax asks the true class for a margin, so the softmax of the plain logits is no posterior"

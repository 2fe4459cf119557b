"""Losses outside the family that the paper compares with, as names with checked parameters.

They are not a function of the true class's probability alone, so each backend computes them by itself; here
stands only what a spec such as `bi_tempered:t1=0.8,t2=1.2` means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from adma import _check
from adma.family import Loss, Range


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
        return (
            "squared_hinge gives the same minimiser, probability 0, for every class whose posterior is below a "
            "threshold, so the posteriors cannot be recovered"
        )


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

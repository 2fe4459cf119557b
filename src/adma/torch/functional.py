"""The losses as functions, each with the call of `torch.nn.functional.cross_entropy`.

`p` is the true class's probability, `t = -log p`. All take logits (C), (N, C) or (N, C, d1, ...), a target of
class indices or class probabilities, and torch's options; `flexible_loss`, which they all are, documents them.
The binary ones have the call of `torch.nn.functional.binary_cross_entropy_with_logits`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adma import family
from adma.torch.binary import binary_flexible_loss
from adma.torch.classic import bi_tempered_loss, mean_squared_error, squared_hinge
from adma.torch.engine import flexible_loss
from adma.torch.posterior import binary_posterior, posterior

__all__ = [
    "adma_loss",
    "bi_tempered_loss",
    "binary_adma_loss",
    "binary_cross_entropy",
    "binary_flexible_loss",
    "binary_focal_loss",
    "binary_generalized_cross_entropy",
    "binary_mean_absolute_error",
    "binary_poly1_loss",
    "binary_posterior",
    "cross_entropy",
    "flexible_loss",
    "focal_loss",
    "generalized_cross_entropy",
    "mean_absolute_error",
    "mean_squared_error",
    "poly1_loss",
    "posterior",
    "squared_hinge",
]


def _adma(a: float, base: float, normalize: bool) -> family.Adma:
    if torch.compiler.is_compiling():  # which cannot trace a warning
        return family.Adma().bind(**family.Adma.checked(a, base, normalize))
    return family.Adma(a, base, normalize)


def cross_entropy(
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
    """Cross-entropy, `t`.

    The same as torch's own, but for the mean over nothing, which is 0.

    Shapes, options, result and errors: as `flexible_loss`.
    """
    return flexible_loss(
        family.CrossEntropy(),
        input,
        target,
        weight,
        size_average,
        ignore_index,
        reduce,
        reduction,
        label_smoothing,
        from_probabilities=from_probabilities,
    )


def adma_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    a: float = 0.26,
    base: float = math.e,
    normalize: bool = False,
    from_probabilities: bool = False,
) -> Tensor:
    """Adma, `b - b^(p^a)` (A. Shrivastava 2020, eq. 5).

    Shapes, options, result and errors: as `flexible_loss`.

    Args:
        a: scaling factor, in (0, inf); convex in p up to `1 / (1 + ln base)`, 1/2 for base e.
        base: b, in (1, inf).
        normalize: divide by `a ln(b) b`, so that the slope at p = 1 is 1, as cross-entropy's.
    """
    return flexible_loss(
        _adma(a, base, normalize),
        input,
        target,
        weight,
        size_average,
        ignore_index,
        reduce,
        reduction,
        label_smoothing,
        from_probabilities=from_probabilities,
    )


def generalized_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    q: float = 0.7,
    from_probabilities: bool = False,
) -> Tensor:
    """Generalised cross-entropy, `(1 - p^q) / q` (Zhang & Sabuncu 2018).

    Shapes, options, result and errors: as `flexible_loss`.

    Args:
        q: in (0, 1].
    """
    return flexible_loss(
        family.GeneralizedCrossEntropy(q),
        input,
        target,
        weight,
        size_average,
        ignore_index,
        reduce,
        reduction,
        label_smoothing,
        from_probabilities=from_probabilities,
    )


def mean_absolute_error(
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
    """Mean absolute error of the probabilities, `2 (1 - p)` (Ghosh 2017).

    Shapes, options, result and errors: as `flexible_loss`.
    """
    return flexible_loss(
        family.MeanAbsoluteError(),
        input,
        target,
        weight,
        size_average,
        ignore_index,
        reduce,
        reduction,
        label_smoothing,
        from_probabilities=from_probabilities,
    )


def focal_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    gamma: float = 2.0,
    from_probabilities: bool = False,
) -> Tensor:
    """Focal loss, `(1 - p)^gamma t` (Lin 2017).

    Shapes, options, result and errors: as `flexible_loss`.

    Args:
        gamma: in [0, inf).
    """
    return flexible_loss(
        family.Focal(gamma),
        input,
        target,
        weight,
        size_average,
        ignore_index,
        reduce,
        reduction,
        label_smoothing,
        from_probabilities=from_probabilities,
    )


def poly1_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    epsilon: float = 1.0,
    from_probabilities: bool = False,
) -> Tensor:
    """Poly-1 cross-entropy, `t + epsilon (1 - p)` (Leng 2022).

    Shapes, options, result and errors: as `flexible_loss`.

    Args:
        epsilon: in [-1, inf).
    """
    return flexible_loss(
        family.Poly1(epsilon),
        input,
        target,
        weight,
        size_average,
        ignore_index,
        reduce,
        reduction,
        label_smoothing,
        from_probabilities=from_probabilities,
    )


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy, `t`, of binary labels with one logit each.

    Shapes, options, result and errors: as `binary_flexible_loss`.
    """
    member = family.CrossEntropy()
    return binary_flexible_loss(member, input, target, weight, size_average, reduce, reduction, pos_weight)


def binary_adma_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
    *,
    a: float = 0.26,
    base: float = math.e,
    normalize: bool = False,
) -> Tensor:
    """Adma, `b - b^(p^a)` (A. Shrivastava 2020, eq. 5), of binary labels with one logit each.

    Shapes, options, result and errors: as `binary_flexible_loss`.

    Args:
        a: scaling factor, in (0, inf); convex in p up to `1 / (1 + ln base)`, 1/2 for base e.
        base: b, in (1, inf).
        normalize: divide by `a ln(b) b`, so that the slope at p = 1 is 1, as cross-entropy's.
    """
    member = _adma(a, base, normalize)
    return binary_flexible_loss(member, input, target, weight, size_average, reduce, reduction, pos_weight)


def binary_generalized_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
    *,
    q: float = 0.7,
) -> Tensor:
    """Generalised cross-entropy, `(1 - p^q) / q` (Zhang & Sabuncu 2018), of binary labels with one logit each.

    Shapes, options, result and errors: as `binary_flexible_loss`.

    Args:
        q: in (0, 1].
    """
    member = family.GeneralizedCrossEntropy(q)
    return binary_flexible_loss(member, input, target, weight, size_average, reduce, reduction, pos_weight)


def binary_mean_absolute_error(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Mean absolute error of the probabilities, `2 (1 - p)` (Ghosh 2017), of binary labels with one logit each.

    Shapes, options, result and errors: as `binary_flexible_loss`.
    """
    member = family.MeanAbsoluteError()
    return binary_flexible_loss(member, input, target, weight, size_average, reduce, reduction, pos_weight)


def binary_focal_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
    *,
    gamma: float = 2.0,
) -> Tensor:
    """Focal loss, `(1 - p)^gamma t` (Lin 2017), of binary labels with one logit each.

    Shapes, options, result and errors: as `binary_flexible_loss`.

    Args:
        gamma: in [0, inf).
    """
    member = family.Focal(gamma)
    return binary_flexible_loss(member, input, target, weight, size_average, reduce, reduction, pos_weight)


def binary_poly1_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
    *,
    epsilon: float = 1.0,
) -> Tensor:
    """Poly-1 cross-entropy, `t + epsilon (1 - p)` (Leng 2022), of binary labels with one logit each.

    Shapes, options, result and errors: as `binary_flexible_loss`.

    Args:
        epsilon: in [-1, inf).
    """
    member = family.Poly1(epsilon)
    return binary_flexible_loss(member, input, target, weight, size_average, reduce, reduction, pos_weight)

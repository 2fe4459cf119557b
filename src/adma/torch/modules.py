"""The losses as modules: each a drop-in for `torch.nn.CrossEntropyLoss`, or `torch.nn.BCEWithLogitsLoss`.

>>> import torch, adma
>>> loss_fn = adma.AdmaLoss(a=0.26)
>>> loss_fn
AdmaLoss(a=0.26, base=2.718281828459045, normalize=False)
"""

from __future__ import annotations

import math

import torch  # noqa: F401  (used by the examples)
from torch import Tensor

from adma import family
from adma.torch.flexible import BinaryFlexibleLoss, FlexibleLoss, Shape


class CrossEntropyLoss(FlexibleLoss):
    """Cross-entropy, `t`; drop-in for `torch.nn.CrossEntropyLoss`.

    The same as torch's own, but for the mean over nothing, which is 0.

    Arguments, shapes and errors: as `FlexibleLoss`.

    Example:
        >>> loss_fn = CrossEntropyLoss()
        >>> loss_fn(torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])).ndim
        0
    """

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
    ) -> None:
        member = family.CrossEntropy()
        super().__init__(
            member, weight, size_average, ignore_index, reduce, reduction, label_smoothing,
            from_probabilities=from_probabilities,
        )  # fmt: skip


class AdmaLoss(FlexibleLoss):
    """Adma, `b - b^(p^a)` (A. Shrivastava 2020, eq. 5); drop-in for `torch.nn.CrossEntropyLoss`.

    Arguments, shapes and errors: as `FlexibleLoss`.

    Args:
        a: scaling factor, in (0, inf); convex in p up to `1 / (1 + ln base)`, 1/2 for base e.
        base: b, in (1, inf).
        normalize: divide by `a ln(b) b`, so that the slope at p = 1 is 1, as cross-entropy's.

    Example:
        >>> loss_fn = AdmaLoss(a=0.26)
        >>> loss_fn(torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])).ndim
        0
    """

    a = Shape[float]()
    base = Shape[float]()
    normalize = Shape[bool]()

    def __init__(
        self,
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
    ) -> None:
        member = family.Adma(a, base, normalize)
        super().__init__(
            member, weight, size_average, ignore_index, reduce, reduction, label_smoothing,
            from_probabilities=from_probabilities,
        )  # fmt: skip


class GeneralizedCrossEntropyLoss(FlexibleLoss):
    """Generalised cross-entropy, `(1 - p^q) / q` (Zhang & Sabuncu 2018); drop-in for `torch.nn.CrossEntropyLoss`.

    Arguments, shapes and errors: as `FlexibleLoss`.

    Args:
        q: in (0, 1].

    Example:
        >>> loss_fn = GeneralizedCrossEntropyLoss(q=0.7)
        >>> loss_fn(torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])).ndim
        0
    """

    q = Shape[float]()

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        q: float = 0.7,
        from_probabilities: bool = False,
    ) -> None:
        member = family.GeneralizedCrossEntropy(q)
        super().__init__(
            member, weight, size_average, ignore_index, reduce, reduction, label_smoothing,
            from_probabilities=from_probabilities,
        )  # fmt: skip


class MeanAbsoluteErrorLoss(FlexibleLoss):
    """Mean absolute error of the probabilities, `2 (1 - p)` (Ghosh 2017); drop-in for `torch.nn.CrossEntropyLoss`.

    Arguments, shapes and errors: as `FlexibleLoss`.

    Example:
        >>> loss_fn = MeanAbsoluteErrorLoss()
        >>> loss_fn(torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])).ndim
        0
    """

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
    ) -> None:
        member = family.MeanAbsoluteError()
        super().__init__(
            member, weight, size_average, ignore_index, reduce, reduction, label_smoothing,
            from_probabilities=from_probabilities,
        )  # fmt: skip


class FocalLoss(FlexibleLoss):
    """Focal loss, `(1 - p)^gamma t` (Lin 2017); drop-in for `torch.nn.CrossEntropyLoss`.

    Arguments, shapes and errors: as `FlexibleLoss`.

    Args:
        gamma: in [0, inf).

    Example:
        >>> loss_fn = FocalLoss(gamma=2.0)
        >>> loss_fn(torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])).ndim
        0
    """

    gamma = Shape[float]()

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        gamma: float = 2.0,
        from_probabilities: bool = False,
    ) -> None:
        member = family.Focal(gamma)
        super().__init__(
            member, weight, size_average, ignore_index, reduce, reduction, label_smoothing,
            from_probabilities=from_probabilities,
        )  # fmt: skip


class Poly1Loss(FlexibleLoss):
    """Poly-1 cross-entropy, `t + epsilon (1 - p)` (Leng 2022); drop-in for `torch.nn.CrossEntropyLoss`.

    Arguments, shapes and errors: as `FlexibleLoss`.

    Args:
        epsilon: in [-1, inf).

    Example:
        >>> loss_fn = Poly1Loss(epsilon=1.0)
        >>> loss_fn(torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])).ndim
        0
    """

    epsilon = Shape[float]()

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        epsilon: float = 1.0,
        from_probabilities: bool = False,
    ) -> None:
        member = family.Poly1(epsilon)
        super().__init__(
            member, weight, size_average, ignore_index, reduce, reduction, label_smoothing,
            from_probabilities=from_probabilities,
        )  # fmt: skip


class BinaryCrossEntropyLoss(BinaryFlexibleLoss):
    """Cross-entropy, `t`; one logit a label, as `BCEWithLogitsLoss`.

    Arguments, shapes and errors: as `BinaryFlexibleLoss`.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(family.CrossEntropy(), weight, size_average, reduce, reduction, pos_weight)


class BinaryAdmaLoss(BinaryFlexibleLoss):
    """Adma, `b - b^(p^a)` (A. Shrivastava 2020, eq. 5); one logit a label, as `BCEWithLogitsLoss`.

    Arguments, shapes and errors: as `BinaryFlexibleLoss`.

    Args:
        a: scaling factor, in (0, inf); convex in p up to `1 / (1 + ln base)`, 1/2 for base e.
        base: b, in (1, inf).
        normalize: divide by `a ln(b) b`, so that the slope at p = 1 is 1, as cross-entropy's.
    """

    a = Shape[float]()
    base = Shape[float]()
    normalize = Shape[bool]()

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
        *,
        a: float = 0.26,
        base: float = math.e,
        normalize: bool = False,
    ) -> None:
        super().__init__(family.Adma(a, base, normalize), weight, size_average, reduce, reduction, pos_weight)


class BinaryGeneralizedCrossEntropyLoss(BinaryFlexibleLoss):
    """Generalised cross-entropy, `(1 - p^q) / q` (Zhang & Sabuncu 2018); one logit a label, as `BCEWithLogitsLoss`.

    Arguments, shapes and errors: as `BinaryFlexibleLoss`.

    Args:
        q: in (0, 1].
    """

    q = Shape[float]()

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
        *,
        q: float = 0.7,
    ) -> None:
        super().__init__(family.GeneralizedCrossEntropy(q), weight, size_average, reduce, reduction, pos_weight)


class BinaryMeanAbsoluteErrorLoss(BinaryFlexibleLoss):
    """Mean absolute error of the probabilities, `2 (1 - p)` (Ghosh 2017); one logit a label, as `BCEWithLogitsLoss`.

    Arguments, shapes and errors: as `BinaryFlexibleLoss`.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(family.MeanAbsoluteError(), weight, size_average, reduce, reduction, pos_weight)


class BinaryFocalLoss(BinaryFlexibleLoss):
    """Focal loss, `(1 - p)^gamma t` (Lin 2017); one logit a label, as `BCEWithLogitsLoss`.

    Arguments, shapes and errors: as `BinaryFlexibleLoss`.

    Args:
        gamma: in [0, inf).
    """

    gamma = Shape[float]()

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
        *,
        gamma: float = 2.0,
    ) -> None:
        super().__init__(family.Focal(gamma), weight, size_average, reduce, reduction, pos_weight)


class BinaryPoly1Loss(BinaryFlexibleLoss):
    """Poly-1 cross-entropy, `t + epsilon (1 - p)` (Leng 2022); one logit a label, as `BCEWithLogitsLoss`.

    Arguments, shapes and errors: as `BinaryFlexibleLoss`.

    Args:
        epsilon: in [-1, inf).
    """

    epsilon = Shape[float]()

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
        *,
        epsilon: float = 1.0,
    ) -> None:
        super().__init__(family.Poly1(epsilon), weight, size_average, reduce, reduction, pos_weight)

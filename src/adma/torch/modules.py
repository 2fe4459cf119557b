"""The members of the family as modules: drop-ins for `torch.nn.CrossEntropyLoss`, or `torch.nn.BCEWithLogitsLoss`.

Their call, shapes and errors are those of `FlexibleLoss` and `BinaryFlexibleLoss`; the parameters of a member are
keyword arguments, and attributes to read and to set. `p` is the true class's probability, `t = -log p`.

>>> import torch, adma
>>> loss_fn = adma.AdmaLoss(a=0.26)
>>> loss_fn
AdmaLoss(a=0.26, base=2.718281828459045, normalize=False)
>>> loss_fn(torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])).ndim
0
>>> adma.BinaryTaylorCrossEntropyLoss(order=3)(torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0])).ndim
0
"""

from __future__ import annotations

from adma import asymmetric, family, taylor
from adma.torch.flexible import BinaryMemberLoss, MemberLoss, Shape


class CrossEntropyLoss(MemberLoss):
    """Cross-entropy, `t`: the same as torch's own, but for the mean over nothing, which is 0."""

    kind = family.CrossEntropy


class AdmaLoss(MemberLoss):
    """Adma, `b - b^(p^a)` (A. Shrivastava 2020, eq. 5).

    Args:
        a: scaling factor, in (0, inf); convex in p up to `1 / (1 + ln base)`, 1/2 for base e.
        base: b, in (1, inf).
        normalize: divide by `a ln(b) b`, so that the slope at p = 1 is 1, as cross-entropy's.
    """

    kind = family.Adma
    a = Shape[float]()
    base = Shape[float]()
    normalize = Shape[bool]()


class GeneralizedCrossEntropyLoss(MemberLoss):
    """Generalised cross-entropy, `(1 - p^q) / q` (Zhang & Sabuncu 2018).

    Args:
        q: in (0, 1].
    """

    kind = family.GeneralizedCrossEntropy
    q = Shape[float]()


class MeanAbsoluteErrorLoss(MemberLoss):
    """Mean absolute error of the probabilities, `2 (1 - p)` (Ghosh 2017)."""

    kind = family.MeanAbsoluteError


class FocalLoss(MemberLoss):
    """Focal loss, `(1 - p)^gamma t` (Lin 2017).

    Args:
        gamma: in [0, inf).
    """

    kind = family.Focal
    gamma = Shape[float]()


class Poly1Loss(MemberLoss):
    """Poly-1 cross-entropy, `t + epsilon (1 - p)` (Leng 2022).

    Args:
        epsilon: in [-1, inf).
    """

    kind = family.Poly1
    epsilon = Shape[float]()


class TaylorCrossEntropyLoss(MemberLoss):
    """Taylor cross-entropy, `sum_(i = 1..order) (1 - p)^i / i` (Feng 2020).

    Args:
        order: a whole number in [1, 1000].
    """

    kind = taylor.TaylorCrossEntropy
    order = Shape[int]()


class AsymmetricGeneralizedCrossEntropyLoss(MemberLoss):
    """Asymmetric generalised cross-entropy, `((a + 1)^q - (a + p)^q) / q` (Zhou 2021).

    Args:
        a: in (0, inf).
        q: in (0, inf); convex in p up to 1.
    """

    kind = asymmetric.AsymmetricGeneralizedCrossEntropy
    a = Shape[float]()
    q = Shape[float]()


class AsymmetricUnhingedLoss(MemberLoss):
    """Asymmetric unhinged loss, `((a - p)^q - (a - 1)^q) / q` (Zhou 2021).

    Args:
        a: in (1, inf).
        q: in (0, inf); convex in p from 1 on.
    """

    kind = asymmetric.AsymmetricUnhinged
    a = Shape[float]()
    q = Shape[float]()


class AsymmetricExponentialLoss(MemberLoss):
    """Asymmetric exponential loss, `exp(-p / a) - exp(-1 / a)` (Zhou 2021), less its value at p = 1.

    Args:
        a: in (0, inf).
    """

    kind = asymmetric.AsymmetricExponential
    a = Shape[float]()


class BinaryCrossEntropyLoss(BinaryMemberLoss):
    """Cross-entropy of binary labels, one logit each: torch's own, but for the mean over nothing, which is 0."""

    kind = family.CrossEntropy


class BinaryAdmaLoss(BinaryMemberLoss):
    """Adma of binary labels, one logit each; `a`, `base` and `normalize` as `AdmaLoss`."""

    kind = family.Adma
    a = Shape[float]()
    base = Shape[float]()
    normalize = Shape[bool]()


class BinaryGeneralizedCrossEntropyLoss(BinaryMemberLoss):
    """Generalised cross-entropy of binary labels, one logit each; `q` as `GeneralizedCrossEntropyLoss`."""

    kind = family.GeneralizedCrossEntropy
    q = Shape[float]()


class BinaryMeanAbsoluteErrorLoss(BinaryMemberLoss):
    """Mean absolute error, `2 (1 - p)`, of binary labels, one logit each."""

    kind = family.MeanAbsoluteError


class BinaryFocalLoss(BinaryMemberLoss):
    """Focal loss of binary labels, one logit each; `gamma` as `FocalLoss`."""

    kind = family.Focal
    gamma = Shape[float]()


class BinaryPoly1Loss(BinaryMemberLoss):
    """Poly-1 cross-entropy of binary labels, one logit each; `epsilon` as `Poly1Loss`."""

    kind = family.Poly1
    epsilon = Shape[float]()


class BinaryTaylorCrossEntropyLoss(BinaryMemberLoss):
    """Taylor cross-entropy of binary labels, one logit each; `order` as `TaylorCrossEntropyLoss`."""

    kind = taylor.TaylorCrossEntropy
    order = Shape[int]()


class BinaryAsymmetricGeneralizedCrossEntropyLoss(BinaryMemberLoss):
    """Asymmetric generalised cross-entropy of binary labels, one logit each.

    `a` and `q` as `AsymmetricGeneralizedCrossEntropyLoss`.
    """

    kind = asymmetric.AsymmetricGeneralizedCrossEntropy
    a = Shape[float]()
    q = Shape[float]()


class BinaryAsymmetricUnhingedLoss(BinaryMemberLoss):
    """Asymmetric unhinged loss of binary labels, one logit each; `a` and `q` as `AsymmetricUnhingedLoss`."""

    kind = asymmetric.AsymmetricUnhinged
    a = Shape[float]()
    q = Shape[float]()


class BinaryAsymmetricExponentialLoss(BinaryMemberLoss):
    """Asymmetric exponential loss of binary labels, one logit each; `a` as `AsymmetricExponentialLoss`."""

    kind = asymmetric.AsymmetricExponential
    a = Shape[float]()

"""Arithmetic to 120 digits, straight from the formulas in p, with none of the library's rearrangements."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from mpmath import mp, mpf

from adma import asymmetric, family, taylor

mp.dps = 120

TINY = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-14, "bfloat16": 2.0**-126}


def _members():
    yield family.CrossEntropy()
    yield family.MeanAbsoluteError()
    for base in (1 + 1e-9, 2.0, math.e, 100.0):
        for a in (1e-3, 0.01, 0.26, 0.5, 1.0):
            yield family.Adma(a, base)
            yield family.Adma(a, base, normalize=True)
    for q in (1e-3, 0.7, 1.0):
        yield family.GeneralizedCrossEntropy(q)
    for gamma in (0.0, 0.5, 1.0, 2.0, 5.0):
        yield family.Focal(gamma)
    for epsilon in (-1.0, -0.5, 0.0, 1.0, 10.0):
        yield family.Poly1(epsilon)
    for order in (1, 2, 5, 50):
        yield taylor.TaylorCrossEntropy(order)
    for a, q in ((1e-12, 0.3), (0.1, 0.1), (0.6, 0.6), (1.0, 1.0), (1.0, 2.0), (10.0, 4.0)):
        yield asymmetric.AsymmetricGeneralizedCrossEntropy(a, q)
    for a, q in ((1 + 1e-9, 0.1), (1.5, 0.9), (3.0, 1.0), (5.5, 3.0), (1.01, 4.0)):
        yield asymmetric.AsymmetricUnhinged(a, q)
    for a in (0.1, 2.5, 100.0):
        yield asymmetric.AsymmetricExponential(a)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # members past their convex range are here on purpose
    MEMBERS = list(_members())
    # one of each, for what does not depend on the parameters
    EACH = [
        family.CrossEntropy(),
        family.MeanAbsoluteError(),
        family.Adma(0.26),
        family.Adma(0.31, 2.0, normalize=True),
        family.GeneralizedCrossEntropy(0.7),
        family.Focal(2.0),
        family.Focal(0.5),
        family.Poly1(1.0),
        family.Poly1(-1.0),
        taylor.TaylorCrossEntropy(2),
        asymmetric.AsymmetricGeneralizedCrossEntropy(1.0, 2.0),
        asymmetric.AsymmetricGeneralizedCrossEntropy(0.6, 0.6),
        asymmetric.AsymmetricUnhinged(1.5, 0.9),
        asymmetric.AsymmetricExponential(2.5),
    ]


# specs of the losses outside the family, several settings of each
CLASSICS = [
    "mse",
    "squared_hinge",
    "bi_tempered:t1=0.8,t2=1.2",
    "bi_tempered:t1=0.5,t2=0.7",
    "bi_tempered:t1=1,t2=1",
    "smoothed_cce:epsilon=0.1",
    "sce:alpha=0.1,beta=1",
    "sce:alpha=6,beta=0.1,clip=-9.21",
    "nce_rce:alpha=1,beta=1",
    "nce_rce:alpha=10,beta=0.1",
    "semantic:strength=0.5",
    "semantic:strength=0.05,constraint=at_most_2",
]
# those that have posteriors
CLASSICS_MAPPED = [s for s in CLASSICS if s.split(":")[0] in ("mse", "bi_tempered", "sce")]


def name(member: object) -> str:
    """For test ids."""
    if isinstance(member, str):
        return member
    values = ",".join(f"{k}={v:.10g}" if isinstance(v, float) else f"{k}={v}" for k, v in vars(member).items())
    return f"{member.name}({values})"


def loss_of(member: family.Member, p: mpf) -> mpf:
    """The loss as its paper writes it, in the true class's probability."""
    if isinstance(member, family.CrossEntropy):
        return -mp.log(p)
    if isinstance(member, family.MeanAbsoluteError):
        return 2 * (1 - p)
    if isinstance(member, family.Adma):
        a, b = mpf(member.a), mpf(member.base)
        value = b - b ** (p**a)
        return value / (a * mp.log(b) * b) if member.normalize else value
    if isinstance(member, family.GeneralizedCrossEntropy):
        return (1 - p ** mpf(member.q)) / mpf(member.q)
    if isinstance(member, family.Focal):
        return (1 - p) ** mpf(member.gamma) * -mp.log(p)
    if isinstance(member, family.Poly1):
        return -mp.log(p) + mpf(member.epsilon) * (1 - p)
    if isinstance(member, taylor.TaylorCrossEntropy):
        return mp.fsum((1 - p) ** i / i for i in range(1, member.order + 1))
    if isinstance(member, asymmetric.AsymmetricGeneralizedCrossEntropy):
        a, q = mpf(member.a), mpf(member.q)
        return ((a + 1) ** q - (a + p) ** q) / q
    if isinstance(member, asymmetric.AsymmetricUnhinged):
        a, q = mpf(member.a), mpf(member.q)
        return ((a - p) ** q - (a - 1) ** q) / q
    if isinstance(member, asymmetric.AsymmetricExponential):
        return mp.exp(-p / mpf(member.a)) - mp.exp(-1 / mpf(member.a))
    raise TypeError(member)


def slope_of(member: family.Member, p: mpf) -> mpf:
    """`-p dL/dp`: the loss's derivative in t = -log p, each by hand."""
    if isinstance(member, family.CrossEntropy):
        return mpf(1)
    if isinstance(member, family.MeanAbsoluteError):
        return 2 * p
    if isinstance(member, family.Adma):
        a, b = mpf(member.a), mpf(member.base)
        value = a * mp.log(b) * p**a * b ** (p**a)
        return value / (a * mp.log(b) * b) if member.normalize else value
    if isinstance(member, family.GeneralizedCrossEntropy):
        return p ** mpf(member.q)
    if isinstance(member, family.Focal):
        g = mpf(member.gamma)
        return (1 - p) ** g - g * (1 - p) ** (g - 1) * p * mp.log(p)
    if isinstance(member, family.Poly1):
        return 1 + mpf(member.epsilon) * p
    if isinstance(member, taylor.TaylorCrossEntropy):
        return 1 - (1 - p) ** member.order
    if isinstance(member, asymmetric.AsymmetricGeneralizedCrossEntropy):
        return p * (mpf(member.a) + p) ** (mpf(member.q) - 1)
    if isinstance(member, asymmetric.AsymmetricUnhinged):
        return p * (mpf(member.a) - p) ** (mpf(member.q) - 1)
    if isinstance(member, asymmetric.AsymmetricExponential):
        return p * mp.exp(-p / mpf(member.a)) / mpf(member.a)
    raise TypeError(member)


@dataclass
class Truth:
    """Exact probabilities of rows of logits, and what follows for a member, rounded to float64 at the end."""

    s: list[list[mpf]]
    target: np.ndarray

    def rows(self, member: family.Member) -> np.ndarray:
        """(N): the loss."""
        return np.array([float(loss_of(member, s[y])) for s, y in zip(self.s, self.target, strict=True)])

    def gradient(self, member: family.Member) -> np.ndarray:
        """(N, C): of the sum of the rows, `psi'(t) (s_j - [j = y])`."""
        out = np.empty((len(self.s), len(self.s[0])))
        for i, (s, y) in enumerate(zip(self.s, self.target, strict=True)):
            slope = slope_of(member, s[y])
            out[i] = [float(slope * x) for x in s]
            out[i, y] = float(slope * (s[y] - 1))
        return out


def truth(logits: np.ndarray, target: np.ndarray) -> Truth:
    """Of float64 logits (N, C), which hold what the tested type has rounded already."""
    rows = []
    for z in logits:
        e = [mp.exp(mpf(float(x))) for x in z]
        total = mp.fsum(e)
        rows.append([x / total for x in e])
    return Truth(rows, target)


def hard_rows(classes: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits (count, classes) and targets with gaps to +-80, around true logits of any size."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, count)
    # evenly hard, surely right, surely wrong, near each other
    low = np.array([-80.0, -80.0, 0.0, -3.0])[np.arange(count) % 4, None]
    high = np.array([80.0, 0.0, 80.0, 3.0])[np.arange(count) % 4, None]
    gap = low + (high - low) * rng.random((count, classes))
    logits = rng.normal(scale=6.0, size=(count, 1)) + gap
    logits[np.arange(count), target] -= gap[np.arange(count), target]
    return logits, target


def excess(got: np.ndarray, true: np.ndarray, tiny: float) -> float:
    """The largest relative error where the true value is a normal number of the type."""
    normal = np.abs(true) >= tiny
    if not normal.any():
        return 0.0
    return float(np.max(np.abs(got[normal] - true[normal]) / np.abs(true[normal])))

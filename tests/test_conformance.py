"""`adma.testing.check_member`: it lets pass what is right, and says of each broken member what is wrong."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy
import pytest

import exact
from adma import asymmetric, family, spec, taylor
from adma.family import Member
from adma.testing import check_member


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(spec, "_REGISTRY", dict(spec._REGISTRY))
    monkeypatch.setattr(spec, "_ALIASES", dict(spec._ALIASES))


# -- what is right ------------------------------------------------------------------------------------------


def extremes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # past the convex range on purpose
        return [
            *exact.EACH,
            family.Adma(0.5),
            family.Adma(1e-3, 1.5),
            family.Adma(1.0, 10.0, normalize=True),
            family.Adma(0.26, 1 + 1e-9, normalize=True),
            family.GeneralizedCrossEntropy(1e-3),
            family.GeneralizedCrossEntropy(1.0),
            family.Focal(0.0),
            family.Focal(1.0),
            family.Focal(5.0),
            family.Poly1(-0.5),
            family.Poly1(0.0),
            family.Poly1(10.0),
            taylor.TaylorCrossEntropy(1),
            taylor.TaylorCrossEntropy(30),
            asymmetric.AsymmetricGeneralizedCrossEntropy(1e-3, 0.1),
            asymmetric.AsymmetricGeneralizedCrossEntropy(10.0, 4.0),
            asymmetric.AsymmetricUnhinged(1.01, 0.1),
            asymmetric.AsymmetricUnhinged(10.0, 4.0),
            asymmetric.AsymmetricExponential(0.05),
            asymmetric.AsymmetricExponential(100.0),
        ]


@pytest.mark.parametrize("member", extremes(), ids=exact.name)
def test_built_in_members_conform(member):
    check_member(member)


@pytest.mark.parametrize("member", exact.MEMBERS, ids=exact.name)
def test_built_in_members_conform_at_every_tested_parameter_without_a_framework(member):
    check_member(member, torch=False)


@dataclass(frozen=True)
class Half(Member):
    """Half of generalised cross-entropy: a member as a user writes it."""

    q: float = 0.5
    name: ClassVar[str] = "half"

    def psi(self, t, xp=numpy):
        return -0.5 * xp.expm1(-self.q * t) / self.q

    def slope(self, t, xp=numpy):
        return 0.5 * xp.exp(-self.q * t)


@pytest.mark.parametrize("q", [1e-3, 0.3, 1.0])
def test_an_own_member_conforms_registered_or_not(q):
    check_member(Half(q))
    spec.register(Half)
    check_member(Half(q))
    assert spec.parse(f"half:q={q!r}") == Half(q)


def test_a_member_may_leave_the_default_namespace_out():
    """As the read-me's example does."""

    @dataclass(frozen=True)
    class Bare(Member):
        q: float = 0.5
        name: ClassVar[str] = "bare"

        def psi(self, t, xp):
            return -0.5 * xp.expm1(-self.q * t) / self.q

        def slope(self, t, xp):
            return 0.5 * xp.exp(-self.q * t)

    check_member(Bare(0.3))
    assert Bare(0.5).supremum == 1.0
    assert Bare(0.5).slope_at_zero == 0.5
    assert Bare(0.5).convex


def test_what_a_member_does_not_say_of_itself_is_looked_at():
    assert Half(0.3).steep
    assert Half(0.3).no_posterior == ""
    assert not Half(1.0).steep  # linear in p
    assert "probability 0, for every class whose posterior is below a threshold" in Half(1.0).no_posterior
    for member in exact.MEMBERS:
        assert Member.steep.fget(member) == member.steep or not member.convex


# -- what is broken, each for its own reason ----------------------------------------------------------------


@dataclass(frozen=True)
class WrongSlope(Half):
    def slope(self, t, xp=numpy):
        return 0.6 * xp.exp(-self.q * t)


@dataclass(frozen=True)
class SlopeWrongInTheTail(Half):
    def slope(self, t, xp=numpy):
        return 0.5 * xp.exp(-self.q * t) * xp.where(t > 4.5, 0.999, 1.0)


@dataclass(frozen=True)
class NotZeroAtZero(Half):
    def psi(self, t, xp=numpy):
        return 0.1 - 0.5 * xp.expm1(-self.q * t) / self.q


@dataclass(frozen=True)
class Falling(Member):
    def psi(self, t, xp=numpy):
        return xp.expm1(-t)

    def slope(self, t, xp=numpy):
        return -xp.exp(-t)


@dataclass(frozen=True)
class NegativeSlope(Half):
    def slope(self, t, xp=numpy):
        return -0.5 * xp.exp(-self.q * t)


@dataclass(frozen=True)
class NanAtInfinity(Member):
    def psi(self, t, xp=numpy):
        return -xp.expm1(-t) - t * xp.exp(-t)

    def slope(self, t, xp=numpy):
        return xp.exp(-t) * xp.where(t < 800.0, t, 800.0)


@dataclass(frozen=True)
class NanAtZero(Half):
    def slope(self, t, xp=numpy):
        return 0.5 * xp.exp(-self.q * t) * t / t


@dataclass(frozen=True)
class InfiniteSlopeAtZero(Member):
    def psi(self, t, xp=numpy):
        return t**0.5

    def slope(self, t, xp=numpy):
        return 0.5 / t**0.5


@dataclass(frozen=True)
class Cancelling(Half):
    """`1 - exp(-q t)` instead of expm1: nothing is left for easy samples."""

    def psi(self, t, xp=numpy):
        return 0.5 * (1.0 - xp.exp(-self.q * t)) / self.q


class NotFrozen(Half):
    __setattr__ = object.__setattr__


class NotHashable(Half):
    __hash__ = None


class NotEqual(Half):
    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


@dataclass(frozen=True)
class OneNumber(Half):
    def slope(self, t, xp=numpy):
        return 0.5


@dataclass(frozen=True)
class WrongSupremum(Half):
    @property
    def supremum(self):
        return 0.5


@dataclass(frozen=True)
class WrongSlopeAtZero(Half):
    @property
    def slope_at_zero(self):
        return 1.0


@dataclass(frozen=True)
class WrongLogSlope(Half):
    def log_slope(self, t, xp=numpy):
        return -self.q * t


@dataclass(frozen=True)
class ClaimsConvex(Member):
    """`1 - p^2` is concave in p."""

    def psi(self, t, xp=numpy):
        return -xp.expm1(-2 * t)

    def slope(self, t, xp=numpy):
        return 2 * xp.exp(-2 * t)

    @property
    def convex(self):
        return True


@dataclass(frozen=True)
class ClaimsPosterior(Member):
    """`1 - p^2` again: without its claim the map does not lead back."""

    def psi(self, t, xp=numpy):
        return -xp.expm1(-2 * t)

    def slope(self, t, xp=numpy):
        return 2 * xp.exp(-2 * t)

    @property
    def no_posterior(self):
        return ""


@dataclass(frozen=True)
class ClaimsPosteriorBelowAThreshold(Member):
    """Taylor cross-entropy of order 2: convex, and its minimiser is 0 for every class of a small posterior."""

    def psi(self, t, xp=numpy):
        return -xp.expm1(-t) + 0.5 * xp.expm1(-t) ** 2

    def slope(self, t, xp=numpy):
        return xp.exp(-t) * (1.0 - xp.expm1(-t))

    def log_slope(self, t, xp=numpy):
        return xp.log(1.0 - xp.expm1(-t)) - t

    @property
    def no_posterior(self):
        return ""


@dataclass(frozen=True)
class NumpyOnly(Half):
    def psi(self, t, xp=numpy):
        return -0.5 * numpy.expm1(-self.q * numpy.asarray(t)) / self.q


BROKEN = [
    (WrongSlope(), r"slope must be the derivative of psi: between t = 0 "),
    (SlopeWrongInTheTail(), r"slope must be the derivative of psi: between t = 4 "),
    (NotZeroAtZero(), r"psi\(0\) must be 0: at t = 0 it is 0\.1"),
    (Falling(), r"psi must not fall: at t = 0 it is"),
    (NegativeSlope(), r"slope must not be negative: at t = 0 it is .*-0\.5.*less than 0"),
    (NanAtInfinity(), r"psi must never be NaN: at t = inf it is"),
    (NanAtZero(), r"slope must never be NaN: at t = 0 it is"),
    (InfiniteSlopeAtZero(), r"slope must be finite: at t = 0 it is"),
    (Cancelling(), r"slope must be the derivative of psi: between t = .*e-1"),
    (NotFrozen(), r"must be frozen: its parameter q can be set"),
    (NotHashable(), r"must be hashable"),
    (NotEqual(), r"two members with the same parameters must be equal"),
    (OneNumber(), r"slope must have the shape of t"),
    (WrongSupremum(), r"supremum must be the limit of psi"),
    (WrongSlopeAtZero(), r"slope_at_zero must be the limit of slope"),
    (WrongLogSlope(), r"log_slope must be the logarithm of slope: at t = "),
    (ClaimsConvex(), r"convex is claimed, but log\(-dL/dp\) falls with t"),
    (ClaimsPosterior(), r"the posterior map must lead back"),
    (ClaimsPosteriorBelowAThreshold(), r"posteriors are claimed, but -dL/dp stays bounded"),
]


@pytest.mark.parametrize(("member", "reason"), BROKEN, ids=[type(m).__name__ for m, _ in BROKEN])
def test_a_broken_member_is_refused_for_its_own_reason(member, reason):
    with pytest.raises(AssertionError, match=reason) as caught:
        check_member(member, torch=False)
    assert type(member).__name__ in str(caught.value)
    with pytest.raises(AssertionError, match=reason):
        check_member(member)


def test_a_member_without_tensors_is_refused_in_the_pytorch_half_only():
    check_member(NumpyOnly(), torch=False)
    with pytest.raises(AssertionError, match="on tensors must give a tensor"):
        check_member(NumpyOnly())


@dataclass(frozen=True)
class Moded(Half):
    mode: str = "plain"
    name: ClassVar[str] = "moded"


@pytest.mark.parametrize("mode", [" spaced", "two,parts", ""])
def test_a_spec_that_does_not_read_back_is_refused(mode):
    check_member(Moded(mode=mode), torch=False)  # not registered: no spec
    spec.register(Moded)
    check_member(Moded(mode="other"), torch=False)
    with pytest.raises(AssertionError, match="the spec must read back as the member"):
        check_member(Moded(mode=mode), torch=False)


def test_what_is_no_member_is_refused():
    for thing in (Half, None, "adma:a=0.3", spec.parse("mse")):
        with pytest.raises(TypeError, match=r"member must be an adma\.family\.Member"):
            check_member(thing)

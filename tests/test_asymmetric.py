"""The asymmetric losses and Taylor cross-entropy: their special cases, and why they tell no posteriors."""

import math

import numpy as np
import pytest

import exact
from adma import family
from adma.asymmetric import AsymmetricExponential, AsymmetricGeneralizedCrossEntropy, AsymmetricUnhinged
from adma.taylor import TaylorCrossEntropy

T = np.concatenate([[0.0], np.geomspace(1e-9, 60.0, 60), [np.inf]])
ERROR = -np.expm1(-T)  # 1 - p


@pytest.mark.parametrize("a", [0.01, 1.0, 7.0])
def test_with_q_of_one_they_are_linear_in_p(a):
    for member in (AsymmetricGeneralizedCrossEntropy(a, 1.0), AsymmetricUnhinged(1 + a, 1.0)):
        np.testing.assert_allclose(member.psi(T), ERROR, rtol=1e-13)
        np.testing.assert_allclose(member.slope(T), np.exp(-T), rtol=1e-13)
        assert "linear in p" in member.no_posterior


@pytest.mark.parametrize("q", [0.2, 0.7, 1.0, 2.5])
def test_agce_with_a_to_0_is_gce(q):
    member = AsymmetricGeneralizedCrossEntropy(1e-100, q)
    np.testing.assert_allclose(member.psi(T[:-1]), -np.expm1(-q * T[:-1]) / q, rtol=1e-13)
    np.testing.assert_allclose(member.slope(T[:-1]), np.exp(-q * T[:-1]), rtol=1e-13)


def test_aue_of_power_two_is_a_parabola_in_p():
    p = np.linspace(0, 1, 11)[1:]
    np.testing.assert_allclose(
        AsymmetricUnhinged(3.0, 2.0).psi(-np.log(p)), ((3 - p) ** 2 - 4) / 2, rtol=1e-13, atol=1e-15
    )


def test_aexp_times_a_with_a_to_infinity_is_linear_in_p():
    a = 1e9
    np.testing.assert_allclose(a * AsymmetricExponential(a).psi(T), ERROR, rtol=1e-8)
    np.testing.assert_allclose(a * AsymmetricExponential(a).slope(T), np.exp(-T), rtol=1e-8)


def test_taylor_of_order_one_is_linear_in_p_and_of_large_order_cross_entropy():
    np.testing.assert_allclose(TaylorCrossEntropy(1).psi(T), ERROR, rtol=1e-15)
    assert "linear in p" in TaylorCrossEntropy(1).no_posterior
    t = np.linspace(0.0, 3.0, 20)  # p from 1 to 0.05: what is left out is below (1 - p)^1001
    np.testing.assert_allclose(TaylorCrossEntropy(1000).psi(t), t, rtol=1e-13)
    np.testing.assert_allclose(TaylorCrossEntropy(1000).slope(t), 1.0, rtol=1e-13)


def test_taylor_rises_with_its_order_towards_cross_entropy():
    below = np.zeros_like(T)
    for order in (1, 2, 3, 10, 100):
        psi = TaylorCrossEntropy(order).psi(T)
        assert np.all(psi >= below * (1 - 1e-15))
        assert np.all(psi <= T * (1 + 1e-15))
        below = psi


@pytest.mark.parametrize("value", [2.0, "2", None, True, np.float64(2), [2]])
def test_an_order_that_is_no_whole_number_is_refused(value):
    with pytest.raises(TypeError, match=r"order must be a whole number in \[1, 1000\], got "):
        TaylorCrossEntropy(value)


@pytest.mark.parametrize("value", [0, -1, 1001, 10**400])
def test_an_order_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match=r"order must be a whole number in \[1, 1000\].*cross-entropy"):
        TaylorCrossEntropy(value)


def test_an_order_is_kept_as_an_int():
    for value in (3, np.int64(3), np.uint8(3)):
        assert type(TaylorCrossEntropy(value).order) is int
        assert TaylorCrossEntropy(value) == TaylorCrossEntropy(3)


def test_convexity_turns_at_q_of_one():
    look = family.Member.convex.fget
    for q in (0.5, 0.9, 1.1, 3.0):
        for a in (0.3, 2.0):
            agce, aue = AsymmetricGeneralizedCrossEntropy(a, q), AsymmetricUnhinged(1 + a, q)
            assert look(agce) == agce.convex == (q <= 1)
            assert look(aue) == aue.convex == (q >= 1)


@pytest.mark.parametrize(
    ("build", "a", "q"), [(AsymmetricGeneralizedCrossEntropy, 1e200, 2.0), (AsymmetricUnhinged, 2.0, 2000.0)]
)
def test_a_power_beyond_the_floats_is_refused(build, a, q):
    with pytest.raises(ValueError, match=r"\^q must be at most 1e304, got .*take a smaller q or a smaller a"):
        build(a, q)


EXTREMES = [
    AsymmetricGeneralizedCrossEntropy(5e-324, 1e-3),
    AsymmetricGeneralizedCrossEntropy(5e-324, 3.0),
    AsymmetricGeneralizedCrossEntropy(1e-20, 1e-3),
    AsymmetricGeneralizedCrossEntropy(1e6, 0.5),
    AsymmetricGeneralizedCrossEntropy(1e20, 3.0),
    AsymmetricUnhinged(math.nextafter(1, 2), 1e-3),
    AsymmetricUnhinged(math.nextafter(1, 2), 50.0),
    AsymmetricUnhinged(1e20, 3.0),
    AsymmetricExponential(1e-2),
    AsymmetricExponential(1e300),
    TaylorCrossEntropy(1000),
]


@pytest.mark.parametrize("member", EXTREMES, ids=exact.name)
def test_extreme_parameters_are_exact(member):
    for p in ("1e-30", "1e-6", "0.3", "0.7", "0.999999", "0.999999999999999"):
        p = exact.mpf(p)
        t = np.float64(-exact.mp.log(p))
        p = exact.mp.exp(-exact.mpf(float(t)))  # of the t that was rounded
        assert member.psi(t) == pytest.approx(float(exact.loss_of(member, p)), rel=1e-13)
        assert member.slope(t) == pytest.approx(float(exact.slope_of(member, p)), rel=1e-13)
    for t in (0.0, 800.0, np.inf):
        assert np.isfinite(member.psi(np.float64(t)))
        assert np.isfinite(member.slope(np.float64(t)))


THRESHOLDS = [
    # the loss, and the least -dL/dp over the greatest
    (TaylorCrossEntropy(2), 1 / 2),
    (TaylorCrossEntropy(5), 1 / 5),
    (AsymmetricGeneralizedCrossEntropy(0.6, 0.6), (1.6 / 0.6) ** -0.4),
    (AsymmetricUnhinged(5.5, 3.0), (4.5 / 5.5) ** 2),
    (AsymmetricExponential(2.5), math.exp(-1 / 2.5)),
]


@pytest.mark.parametrize(("member", "ratio"), THRESHOLDS, ids=[exact.name(m) for m, _ in THRESHOLDS])
def test_a_small_posterior_leaves_no_trace_in_the_minimiser(member, ratio):
    """Every eta whose other posteriors are below the ratio has one minimiser; one above it has another."""
    assert member.convex
    assert "posterior is below a threshold" in member.no_posterior
    others = np.random.default_rng(0).dirichlet(np.full(3, 0.5), 3000)
    near = np.array([0.999, 0.001, 0.0]) + np.linspace(0, 1, 50)[:, None] * [-0.3, 0.3, 0.0]  # towards the second
    t = -np.log(np.clip(np.concatenate([others, near]), 1e-300, None))
    vertex = -np.log(np.array([1.0, 1e-300, 1e-300]))
    for share in (0.1, 0.5, 0.98):
        eta = np.array([1.0, share * ratio, 0.5 * share * ratio])
        assert np.all(member.psi(t) @ eta >= member.psi(vertex) @ eta)
    eta = np.array([1.0, min(1.0, 1.05 * ratio), 0.0])
    assert np.min(member.psi(t) @ eta) < member.psi(vertex) @ eta

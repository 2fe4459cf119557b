"""The mathematics behind the losses: every formula and claim the library rests on, proved by number."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy.optimize import minimize

import adma
import exact
from adma import classic, family
from adma import numpy as reference

BASES = (1.5, 2.0, math.e, 10.0)
P = [mpf(x) for x in ("1e-30", "1e-6", "0.01", "0.2", "0.5", "0.8", "0.99", "0.999999", "1")]


def adma_member(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # past the convex range on purpose
        return family.Adma(*args, **kwargs)


def second(member, t):
    """psi'' at t, by differentiating the hand-written slope to 120 digits."""
    return float(mp.diff(lambda u: exact.slope_of(member, mp.exp(-u)), mpf(float(t))))


# -- one scalar function of t gives loss, gradient and Hessian ----------------------------------------------


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
def test_gradient_and_hessian_follow_from_slope_and_its_derivative(member):
    rng = np.random.default_rng(0)
    for classes in (2, 5):
        for scale in (0.3, 3.0):
            z, y = rng.normal(scale=scale, size=classes), int(rng.integers(classes))
            s = reference.softmax(z[None])[0]
            t = -math.log(s[y])
            slope = float(exact.slope_of(member, mp.exp(-mpf(t))))
            residual = s - np.eye(classes)[y]
            gradient = slope * residual
            hessian = slope * (np.diag(s) - np.outer(s, s)) + second(member, t) * np.outer(residual, residual)

            def loss(x, y=y):
                return adma.functional.flexible_loss(member, x[None], torch.tensor([y]))

            x = torch.tensor(z)
            np.testing.assert_allclose(torch.func.grad(loss)(x).numpy(), gradient, rtol=1e-11, atol=1e-14)
            np.testing.assert_allclose(torch.func.hessian(loss)(x).numpy(), hessian, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
def test_gradient_of_a_soft_target(member):
    rng = np.random.default_rng(1)
    z, y = rng.normal(scale=2.0, size=6), rng.dirichlet(np.ones(6))
    s = reference.softmax(z[None])[0]
    slopes = np.array([float(exact.slope_of(member, mpf(float(p)))) for p in s])
    expected = s * (y * slopes).sum() - y * slopes
    x = torch.tensor(z[None], requires_grad=True)
    adma.functional.flexible_loss(member, x, torch.tensor(y[None])).backward()
    np.testing.assert_allclose(x.grad.numpy()[0], expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
def test_a_binary_loss_is_the_two_class_loss(member):
    z = torch.linspace(-6, 6, 13, dtype=torch.float64)
    two = torch.stack([torch.zeros_like(z), z], 1)
    for y in (0.0, 0.3, 1.0):
        target = torch.full_like(z, y)
        binary = adma.functional.binary_flexible_loss(member, z, target, reduction="none")
        soft = torch.stack([1 - target, target], 1)
        torch.testing.assert_close(
            binary, adma.functional.flexible_loss(member, two, soft, reduction="none"), rtol=1e-12, atol=1e-15
        )


@pytest.mark.parametrize("member", exact.MEMBERS, ids=exact.name)
def test_slope_by_hand_is_the_derivative_of_the_loss_by_hand(member):
    for p in (mpf("0.01"), mpf("0.3"), mpf("0.9")):
        derived = mp.diff(lambda u: exact.loss_of(member, mp.exp(-u)), -mp.log(p))
        assert abs(derived - exact.slope_of(member, p)) <= mpf("1e-30") * (1 + abs(derived))


# -- range --------------------------------------------------------------------------------------------------


@given(
    logits=st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=5),
    a=st.floats(1e-3, 3.0),
    base=st.floats(1.001, 50.0),
)
def test_adma_stays_below_base_minus_one_whatever_the_logits(logits, a, base):
    value = float(reference.loss(adma_member(a, base), [logits], [0]))
    assert 0 <= value <= (base - 1) * (1 + 1e-14)


@pytest.mark.parametrize("base", BASES)
def test_adma_reaches_zero_only_at_p_1_and_comes_as_near_to_its_bound_as_one_likes(base):
    member = adma_member(0.3, base)
    assert member.psi(0.0) == 0
    assert member.psi(np.float64(1e-12)) > 0
    assert member.psi(np.float64(50.0)) < base - 1
    assert member.psi(np.float64(200.0)) == pytest.approx(base - 1, rel=1e-13)
    assert all(exact.loss_of(member, p) < mpf(base) - 1 for p in P)


def test_a_0_is_zero_everywhere_and_is_refused_with_that_reason():
    assert all(mp.e - mp.e ** (p ** mpf(0)) == 0 for p in P)
    with pytest.raises(ValueError, match=r"a must be in \(0, inf\), got 0; at a = 0 the loss .* is zero everywhere"):
        family.Adma(a=0)
    with pytest.raises(ValueError, match="zero everywhere, so nothing is learned"):
        adma.AdmaLoss(a=0.0)
    with pytest.raises(ValueError, match="zero everywhere, so nothing is learned"):
        adma.functional.adma_loss(torch.zeros(1, 2), torch.tensor([0]), a=0.0)


# -- convexity ----------------------------------------------------------------------------------------------


def curvature(member, p):
    return mp.diff(lambda x: exact.loss_of(member, x), p, 2)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("base", BASES)
def test_convex_in_p_exactly_up_to_1_over_1_plus_ln_base(base, normalize):
    limit = 1 / (1 + math.log(base))
    below, above = (adma_member(limit * f, base, normalize) for f in (1 - 1e-6, 1 + 1e-6))
    assert all(curvature(below, p) > 0 for p in P)
    assert curvature(above, mpf(1)) < 0  # it breaks first at p = 1 ...
    assert curvature(above, mpf("0.5")) > 0
    wide = adma_member(2.0, base, normalize)
    assert all(curvature(wide, p) < 0 for p in P if p > mpf("1e-6"))  # ... and for a > 1 everywhere
    assert below.convex
    assert not above.convex
    assert adma_member(limit, base, normalize).convex


def test_the_limit_for_base_e_is_one_half():
    assert family.Adma().convex_limit == 0.5
    assert family.Adma(0.5).convex


@pytest.mark.parametrize("base", BASES)
def test_the_look_on_a_grid_agrees_with_the_limit(base):
    limit = 1 / (1 + math.log(base))
    for factor in (0.5, 0.99, 1.01, 2.0):
        member = adma_member(limit * factor, base)
        assert family.Member.convex.fget(member) == (factor < 1)


@pytest.mark.parametrize("member", [m for m in exact.MEMBERS if m.convex], ids=exact.name)
def test_members_that_claim_convexity_have_it(member):
    worst = min(curvature(member, p) for p in P if p < 1)  # at 1 itself a power of 1 - p may have no derivative
    assert worst >= -mpf("1e-20")


# -- size of the gradient -----------------------------------------------------------------------------------


@given(
    logits=st.lists(st.floats(-100, 100), min_size=2, max_size=6),
    a=st.floats(1e-3, 2.0),
    base=st.floats(1.001, 50.0),
)
def test_the_gradient_in_the_logits_is_bounded_by_a_c_b(logits, a, base):
    gradient = reference.gradient(adma_member(a, base), [logits], [0])
    assert np.abs(gradient).max() <= a * math.log(base) * base * (1 + 1e-12)


def test_the_slope_in_p_has_no_bound():
    member = family.Adma(0.3)
    slopes = [exact.slope_of(member, mpf(10) ** -n) * mpf(10) ** n for n in (2, 10, 100)]
    assert slopes[0] < slopes[1] < slopes[2]
    assert slopes[2] > mpf(10) ** 60


def test_the_papers_gradient_in_p_eq_8():
    for a in (0.1, 0.2624, 0.5):
        for p in (0.01, 0.3, 0.9):
            paper = -a * p ** (a - 1) * math.exp(p**a)
            derived = mp.diff(lambda x, a=a: mp.e - mp.e ** (x ** mpf(a)), mpf(p))
            assert float(derived) == pytest.approx(paper, rel=1e-13)
            x = torch.tensor([[p, 1 - p]], dtype=torch.float64, requires_grad=True)
            adma.functional.adma_loss(x, torch.tensor([0]), a=a, from_probabilities=True).backward()
            assert x.grad[0, 0].item() == pytest.approx(paper, rel=1e-12)
            assert x.grad[0, 1].item() == 0


# -- how samples are weighed --------------------------------------------------------------------------------


@pytest.mark.parametrize("base", BASES)
def test_adma_is_a_concave_transform_of_gce(base):
    t = np.concatenate([np.geomspace(1e-12, 1, 30), np.linspace(1, 200, 50)])
    for a in (0.05, 0.26, 0.5, 1.0):
        g = family.GeneralizedCrossEntropy(a).psi(t)
        transformed = -base * np.expm1(-a * math.log(base) * g)
        np.testing.assert_allclose(adma_member(a, base).psi(t), transformed, rtol=1e-13)
        # concave: growing less and less with g
        growth = np.diff(transformed) / np.where(np.diff(g) > 0, np.diff(g), np.nan)
        growth = growth[np.isfinite(growth)][10:30]
        assert np.all(np.diff(growth) < 0)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("base", BASES)
def test_the_slope_always_falls_with_t(base, normalize):
    c = math.log(base)
    for a in (0.05, 0.26, 1.0):
        member = adma_member(a, base, normalize)
        for t in (1e-6, 0.1, 1.0, 10.0, 100.0):
            formula = -a * float(exact.slope_of(member, mp.exp(-mpf(t)))) * (1 + c * math.exp(-a * t))
            assert second(member, t) == pytest.approx(formula, rel=1e-12)
            assert formula < 0


def test_a_hard_sample_weighs_less_than_under_cross_entropy():
    member = family.Adma(0.2624)
    assert member.slope(-np.log(0.01)) / member.slope_at_zero == pytest.approx(0.15, abs=0.005)


def test_at_the_start_of_training_the_weight_is_a_tenth_of_cross_entropys():
    a, classes = 0.31, 100
    weight = family.Adma(a).slope(np.log(classes))
    assert weight == pytest.approx(a * classes**-a * math.exp(classes**-a), rel=1e-14)
    assert weight == pytest.approx(0.095, abs=0.0006)
    z, y = torch.zeros(1, classes, dtype=torch.float64, requires_grad=True), torch.tensor([3])
    (own,) = torch.autograd.grad(adma.functional.adma_loss(z, y, a=a), z)
    (plain,) = torch.autograd.grad(torch.nn.functional.cross_entropy(z, y), z)
    torch.testing.assert_close(own, weight * plain, rtol=1e-12, atol=0)


# -- normalised Adma and its limits -------------------------------------------------------------------------

T = np.concatenate([np.geomspace(1e-12, 1, 25), np.linspace(1, 60, 60)])


@pytest.mark.parametrize("base", BASES)
def test_normalised_is_adma_over_its_slope_at_zero(base):
    for a in (0.01, 0.26, 1.0):
        plain, unit = adma_member(a, base), adma_member(a, base, normalize=True)
        scale = a * math.log(base) * base
        np.testing.assert_allclose(unit.psi(T), plain.psi(T) / scale, rtol=1e-14)
        np.testing.assert_allclose(unit.slope(T), plain.slope(T) / scale, rtol=1e-14)
        assert unit.slope_at_zero == 1.0


@pytest.mark.parametrize("base", [1 + 1e-12, *BASES])
def test_normalised_with_a_to_0_is_cross_entropy(base):
    member = family.Adma(1e-12, base, normalize=True)
    np.testing.assert_allclose(member.psi(T), T, rtol=1e-9)
    np.testing.assert_allclose(member.slope(T), 1.0, rtol=1e-9)


@pytest.mark.parametrize("a", [0.01, 0.26, 0.7, 1.0])
def test_normalised_with_base_to_1_is_gce(a):
    member, gce = adma_member(a, 1 + 1e-12, normalize=True), family.GeneralizedCrossEntropy(a)
    np.testing.assert_allclose(member.psi(T), gce.psi(T), rtol=1e-11)
    np.testing.assert_allclose(member.slope(T), gce.slope(T), rtol=1e-11)


def test_normalised_with_a_1_and_base_to_1_is_the_error_probability():
    member = adma_member(1.0, 1 + 1e-12, normalize=True)
    np.testing.assert_allclose(member.psi(T), -np.expm1(-T), rtol=1e-11)


@pytest.mark.parametrize("base", BASES)
def test_the_limits_are_reached_smoothly(base):
    """The distance from cross-entropy shrinks in proportion to a, down to the smallest: no 0/0 on the way."""
    t = 3.0
    for a in 10.0 ** -np.arange(2, 15):
        distance = t - family.Adma(a, base, normalize=True).psi(np.float64(t))
        expected = a * t * t / 2 * (1 + math.log(base))
        assert distance == pytest.approx(expected, rel=0.1 * a / 0.01 + 1e-3, abs=5e-15)


# -- a cannot be learned by descending the training loss ----------------------------------------------------


@pytest.mark.parametrize("base", BASES)
def test_the_loss_grows_with_a_and_the_normalised_loss_falls(base):
    c = mp.log(mpf(base))
    for t in (mpf("1e-6"), mpf("0.1"), mpf(1), mpf(10)):
        p = mp.exp(-t)
        for a in (mpf("0.05"), mpf("0.26"), mpf(1)):
            grows = mp.diff(lambda x, p=p: mpf(base) - mpf(base) ** (p**x), a)
            formula = c * t * p**a * mpf(base) ** (p**a)
            assert abs(grows - formula) <= mpf("1e-30") * formula
            assert formula > 0
            assert mp.diff(lambda x, p=p: (mpf(base) - mpf(base) ** (p**x)) / (x * c * mpf(base)), a) < 0
    a = np.geomspace(1e-3, 3, 200)
    for t in (1e-6, 0.1, 1.0, 10.0):
        assert np.all(np.diff(family.Adma(base=base).bind(a=a).psi(t)) > 0)
        assert np.all(np.diff(family.Adma(base=base, normalize=True).bind(a=a).psi(t)) < 0)


# -- true posteriors back -----------------------------------------------------------------------------------

ETA = np.random.default_rng(7).dirichlet(np.ones(4), 50)


def minimiser(member, eta):
    """Logits (C) that minimise the risk `sum_j eta_j L(z, j)`, the last one held at 0."""
    classes = len(eta)

    def risk(x):
        rows = reference.loss(member, np.tile([*x, 0.0], (classes, 1)), np.arange(classes), reduction="none")
        return float(eta @ rows)

    if isinstance(member, family.Member):

        def gradient(x):
            return reference.gradient(member, np.array([[*x, 0.0]]), eta[None])[0, :-1]

        def hessian(x):
            step = 1e-5 * np.eye(len(x))
            half = np.array([(gradient(x + e) - gradient(x - e)) / 2e-5 for e in step])
            return 0.5 * (half + half.T)

        found = minimize(risk, np.zeros(classes - 1), jac=gradient, hess=hessian, method="trust-exact",
                         options={"gtol": 1e-13, "maxiter": 500})  # fmt: skip
        # trust-exact stops where the risk itself no longer resolves a step: the last digits by Newton's method
        x = found.x
        for _ in range(3):
            x = x - np.linalg.solve(hessian(x), gradient(x))
        assert risk(x) <= found.fun * (1 + 1e-12)
        return np.array([*x, 0.0])
    found = minimize(risk, np.zeros(classes - 1), method="BFGS", options={"gtol": 1e-9})
    return np.array([*found.x, 0.0])


RECOVERED = [
    (family.CrossEntropy(), 1e-6),
    (family.Adma(0.26), 1e-6),
    (family.Adma(0.5), 1e-6),
    (family.Adma(0.3, 2.0), 1e-6),
    (family.Adma(0.31, normalize=True), 1e-6),
    (family.Focal(2.0), 1e-6),
    (family.Poly1(1.0), 1e-6),
    (family.GeneralizedCrossEntropy(0.7), 5e-3),  # its optimum is flat
]


@pytest.mark.parametrize(("member", "tolerance"), RECOVERED, ids=[exact.name(m) for m, _ in RECOVERED])
def test_the_posterior_map_turns_the_minimiser_of_the_risk_into_the_posteriors(member, tolerance):
    logits = np.array([minimiser(member, eta) for eta in ETA])
    assert np.abs(reference.posterior(member, logits) - ETA).max() <= tolerance
    back = adma.functional.posterior(member, torch.tensor(logits)).numpy()
    assert np.abs(back - ETA).max() <= tolerance


def test_softmax_alone_is_biased():
    """What the map is for: without it the minimiser of Adma, focal and GCE is not the posterior."""
    for member in (family.Adma(0.26), family.Focal(2.0), family.GeneralizedCrossEntropy(0.7)):
        logits = np.array([minimiser(member, eta) for eta in ETA[:5]])
        assert np.abs(reference.softmax(logits) - ETA[:5]).max() > 0.05
    logits = np.array([minimiser(family.CrossEntropy(), eta) for eta in ETA[:5]])
    assert np.abs(reference.softmax(logits) - ETA[:5]).max() < 1e-6


@pytest.mark.parametrize("base", BASES)
def test_the_map_is_the_formula(base):
    c, a = math.log(base), 0.9 / (1 + math.log(base))
    z = np.random.default_rng(8).normal(scale=3, size=(20, 6))
    p = reference.softmax(z)
    weights = p ** (1 - a) * np.exp(-c * p**a)
    np.testing.assert_allclose(
        reference.posterior(family.Adma(a, base), z), weights / weights.sum(1, keepdims=True), rtol=1e-12
    )


@pytest.mark.parametrize("base", BASES)
def test_the_map_keeps_the_order_of_the_classes_up_to_the_convex_limit_and_not_past_it(base):
    limit, c = 1 / (1 + math.log(base)), math.log(base)
    z = np.random.default_rng(9).normal(scale=3, size=(500, 6))
    for a in (0.05, 0.5 * limit, limit):
        for normalize in (False, True):
            eta = reference.posterior(family.Adma(a, base, normalize), z)
            ordered = np.take_along_axis(eta, np.argsort(z, axis=1), 1)
            assert np.all(np.diff(ordered, axis=1) >= -1e-14)
    a = 2.0 * limit
    p = np.array([0.4, 0.6])
    assert np.diff((1 - a) * np.log(p) - c * p**a)[0] < 0  # the likelier class would come out less likely
    with pytest.raises(ValueError, match="not convex in p"):
        reference.posterior(adma_member(a, base), np.log(p))


def test_the_minimiser_of_mean_squared_error_is_the_posterior():
    loss = classic.MeanSquaredError()
    logits = np.array([minimiser(loss, eta) for eta in ETA[:20]])
    assert np.abs(reference.posterior(loss, logits) - ETA[:20]).max() <= 1e-5


def test_the_minimiser_of_squared_hinge_does_not_determine_the_posteriors():
    """Different posteriors, one minimiser: all the probability on the first class."""
    loss, rng = classic.SquaredHinge(), np.random.default_rng(10)

    def risks(eta, p):
        z = np.log(p)
        return sum(eta[j] * reference.loss(loss, z, np.full(len(z), j), reduction="none") for j in range(3))

    vertex = np.array([[1.0, 1e-300, 1e-300]])
    others = np.clip(rng.dirichlet(np.full(3, 0.5), 5000), 1e-300, None)
    for eta in ([0.7, 0.2, 0.1], [0.8, 0.1, 0.1], [0.95, 0.03, 0.02]):
        assert np.all(risks(eta, others) >= risks(eta, vertex)[0])
    for read in (reference.posterior, lambda m, z: adma.functional.posterior(m, torch.tensor(z))):
        with pytest.raises(ValueError, match="cannot be recovered"):
            read(loss, np.zeros((1, 3)))


def test_a_loss_linear_in_p_puts_everything_on_one_class():
    rng = np.random.default_rng(11)
    others = np.clip(rng.dirichlet(np.full(3, 0.5), 5000), 1e-300, None)
    for member in (family.MeanAbsoluteError(), family.GeneralizedCrossEntropy(1.0)):
        for eta in (np.array([0.4, 0.35, 0.25]), np.array([0.9, 0.05, 0.05])):
            best = float(eta @ member.psi(-np.log(np.array([1.0, 1e-300, 1e-300]))))
            assert np.all(member.psi(-np.log(others)) @ eta >= best - 1e-15)
        assert member.no_posterior

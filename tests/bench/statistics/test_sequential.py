"""The anytime-valid verdict: its formula, its error rates at a look after every seed, what it does at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from adma.bench.errors import BenchError
from adma.bench.statistics import BETTER, EQUIVALENT, UNDECIDED, WORSE, confidence_sequence, watch
from adma.bench.statistics.sequential import bayes_factor, half_width

ROPE = 0.002
REPEATS, LOOKS = 4000, 60
BOUND = stats.binom.ppf(0.999, REPEATS, 0.05) / REPEATS  # of a rate that is 5%


def test_the_bayes_factor_is_the_integral_over_the_prior():
    """Rouder's form: t given effect d is noncentral t(n - 1, sqrt(n) d); the prior of d is N(0, g)."""
    n, mean, sd, g = 7, 0.8, 1.1, 0.7
    t = math.sqrt(n) * mean / sd
    over, _ = integrate.quad(
        lambda d: stats.nct.pdf(t, n - 1, math.sqrt(n) * d) * stats.norm.pdf(d, 0, math.sqrt(g)), -8, 8
    )
    assert float(bayes_factor(n, mean, sd, g)) == pytest.approx(over / stats.t.pdf(t, n - 1), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.floats(1e-3, 10), st.sampled_from([0.05, 0.05 / 3, 0.01]), st.sampled_from([0.25, 1, 4]))
def test_the_ends_of_the_sequence_are_where_the_bayes_factor_reaches_1_over_alpha(n, sd, alpha, g):
    half = float(half_width(n, sd, alpha, g))
    if math.isinf(half):
        assert float(bayes_factor(n, 1e6 * sd, sd, g)) < 1 / alpha  # no mean is ever excluded
    else:
        assert float(bayes_factor(n, half, sd, g)) == pytest.approx(1 / alpha, rel=1e-6)


def test_the_bayes_factor_is_fair_under_no_difference():
    """A martingale with mean 1 at every n, whatever the scale."""
    x = 3.7 * np.random.default_rng(0).standard_normal((200_000, 6))
    factors = bayes_factor(6, x.mean(axis=1), x.std(axis=1, ddof=1))
    assert factors.mean() == pytest.approx(1.0, abs=0.05)


def verdicts(d: np.ndarray, *, alpha: float = 0.05, rope: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every row, whether the first decision within all looks is better, worse, equivalent; as `watch` decides."""
    low, high = confidence_sequence(d, alpha)
    better, worse, alike = low > 0, high < 0, (low > -rope) & (high < rope)
    decided = better | worse | alike
    first = np.where(decided.any(axis=1), decided.argmax(axis=1), d.shape[1] - 1)
    rows = np.arange(len(d))
    shown = better[rows, first] | worse[rows, first]
    return better[rows, first], worse[rows, first], alike[rows, first] & ~shown


def normal(rng, shape):
    return rng.standard_normal(shape)


def accuracies(p):
    return lambda rng, shape: (rng.binomial(360, p, shape) - rng.binomial(360, p, shape)) / 360


def counts(rate):
    return lambda rng, shape: (rng.poisson(rate, shape) - rng.poisson(rate, shape)) / 360


@pytest.mark.parametrize(
    "draw",
    [
        normal,
        accuracies(0.97),
        accuracies(0.995),
        counts(0.2),
        lambda rng, shape: rng.standard_t(2, shape),
        lambda rng, shape: rng.laplace(size=shape),
        lambda rng, shape: rng.random(shape) - 0.5,
    ],
    ids=["normal", "accuracy 97%", "accuracy 99.5%", "mostly ties", "t2", "laplace", "uniform"],
)
def test_equal_losses_are_called_different_at_most_5_times_in_100_at_any_look(draw):
    """A look after each of 3 to 60 seeds. A t test at each look errs more than four times as often."""
    d = draw(np.random.default_rng(5), (REPEATS, LOOKS))
    better, worse, _ = verdicts(d)
    assert np.mean(better | worse) <= BOUND


def test_t_at_every_look_would_err_far_more_often():
    d = np.random.default_rng(5).standard_normal((REPEATS, LOOKS))
    n = np.arange(1, LOOKS + 1)
    mean = np.cumsum(d, axis=1) / n
    with np.errstate(all="ignore"):
        sd = np.sqrt((np.cumsum(d**2, axis=1) - n * mean**2) / (n - 1))
        p = 2 * stats.t.sf(np.abs(mean) / (sd / np.sqrt(n)), n - 1)
    assert np.mean((p[:, 2:] < 0.05).any(axis=1)) > 0.2


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.0, 4.0])
def test_losses_at_the_ropes_edge_are_called_equivalent_at_most_5_times_in_100(spread):
    d = 1 + spread * np.random.default_rng(6).standard_normal((REPEATS, LOOKS))
    _, worse, alike = verdicts(d, rope=1.0)
    assert np.mean(alike | worse) <= BOUND


@pytest.mark.parametrize("rate", [0.05, 0.5, 2.0])
def test_counts_at_the_ropes_edge_are_called_equivalent_at_most_5_times_in_100(rate):
    """360 test samples: the rope of 0.2 points is 0.72 of a sample."""
    rng = np.random.default_rng(7)
    d = (rng.poisson(rate + 0.72, (REPEATS, LOOKS)) - rng.poisson(rate, (REPEATS, LOOKS))) / 360
    _, worse, alike = verdicts(d, rope=ROPE)
    assert np.mean(alike | worse) <= BOUND


def test_three_losses_share_alpha():
    d = np.random.default_rng(8).standard_normal((3, REPEATS, LOOKS))
    d += 0.5 * d[:1]  # they share the baseline's luck
    wrong = [np.logical_or(*verdicts(x, alpha=0.05 / 3)[:2]) for x in d]
    assert np.mean(np.any(wrong, axis=0)) <= BOUND


def test_skewed_differences_err_as_often_as_the_docstring_says():
    """A loss that collapses in one seed of ten: the method's limit, stated and held to."""
    rng = np.random.default_rng(9)
    shape = (REPEATS, LOOKS)
    collapse = np.where(rng.random(shape) < 0.1, -9.0, 1.0) + 0.3 * rng.standard_normal(shape)
    rates = [np.mean(np.logical_or(*verdicts(d)[:2])) for d in (rng.exponential(size=shape) - 1, collapse)]
    assert rates == pytest.approx([0.116, 0.57], abs=0.03)


def test_it_decides_with_the_seeds_that_the_docstring_promises():
    rng = np.random.default_rng(10)
    for effect, median in ((1.0, 15), (2.0, 8), (3.0, 7)):
        low, high = confidence_sequence(effect + rng.standard_normal((2000, 60)), 0.05 / 3)
        shown = (low > 0) | (high < 0)
        assert np.median(shown.argmax(axis=1) + 1) == pytest.approx(median, abs=1)
    assert np.isinf(half_width(5, 1.0, 0.05 / 3))
    assert np.isfinite(half_width(6, 1.0, 0.05 / 3))


# -- one sequence ------------------------------------------------------------------------------------------------


def test_watch_is_the_sequence_and_its_verdict_stays():
    rng = np.random.default_rng(11)
    d = np.concatenate([0.01 + 0.003 * rng.standard_normal(12), -0.01 + 0.003 * rng.standard_normal(4)])
    found = watch(d, rope=ROPE)
    low, high = confidence_sequence(d, 0.05)
    at = int(np.flatnonzero((low > 0) | (high < 0))[0]) + 1
    assert (found.verdict, found.decided_at) == (BETTER, at)
    assert at <= 12
    assert watch(d[: at - 1], rope=ROPE).verdict == UNDECIDED
    assert found.estimate.n == 16
    assert found.p < 0.05
    assert found.further == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=25), st.floats(0.001, 1000))
def test_swapping_flips_scaling_scales_and_p_agrees_with_the_verdict(counts, scale):
    d = np.array(counts, dtype=float)
    found, flipped = watch(d, rope=0.0), watch(-d, rope=0.0)
    swap = {BETTER: WORSE, WORSE: BETTER}
    assert flipped.verdict == swap.get(found.verdict, found.verdict)
    assert watch(d, rope=0.0, higher_is_better=False).verdict == flipped.verdict
    scaled = watch(scale * d, rope=0.0)
    assert (scaled.verdict, scaled.decided_at) == (found.verdict, found.decided_at)
    assert (found.p < 0.05 - 1e-9) <= found.decided <= (found.p < 0.05 + 1e-9)


def test_equivalent_within_the_rope_and_negligible():
    rng = np.random.default_rng(12)
    x = rng.standard_normal(40)
    x = (x - x.mean()) / x.std(ddof=1)
    assert watch(0.0005 * x, rope=ROPE).verdict == EQUIVALENT
    little = watch(0.001 + 0.0001 * x, rope=ROPE)
    assert (little.verdict, little.negligible) == (BETTER, True)


def test_equal_differences_show_no_spread_and_decide_nothing():
    for value in (0.0, 0.01):
        found = watch([value] * 30, rope=ROPE)
        assert (found.verdict, found.estimate.interval, found.constant, found.p) == (UNDECIDED, None, True, 1.0)
        assert found.further is None
    assert watch([0.01] * 5 + [0.011] * 9, rope=ROPE).verdict == BETTER


@pytest.mark.parametrize("n", [0, 1, 2])
def test_below_three_seeds_it_says_nothing(n):
    found = watch(np.arange(n) + 1.0, rope=ROPE)
    assert (found.verdict, found.estimate.interval, found.estimate.n, found.p) == (UNDECIDED, None, n, 1.0)


def test_an_empty_sequence_is_reported_not_hidden():
    """Differences that change their level are no draws from one distribution."""
    rng = np.random.default_rng(13)
    d = np.concatenate([rng.normal(1, 0.1, 20), rng.normal(-1, 0.1, 400)])
    found = watch(d, rope=0.01)
    assert (found.verdict, found.broken) == (BETTER, True)
    assert found.estimate.interval[0] <= found.estimate.interval[1]


def test_the_projection_is_where_the_sequence_would_decide():
    rng = np.random.default_rng(14)
    x = rng.standard_normal(8)
    d = 0.004 + 0.01 * (x - x.mean()) / x.std(ddof=1)
    found = watch(d, rope=ROPE)
    n = 8 + found.further
    assert half_width(n, 0.01, 0.05) < 0.004 <= half_width(n - 1, 0.01, 0.05)
    assert watch(d - 0.004 + 0.002, rope=ROPE).further is None  # at the rope's edge: never


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rope": -1.0}, "rope must be a number from 0"),
        ({"alpha": 0.0}, "alpha must lie between 0 and 1"),
        ({"g": 0.0}, "must be above 0"),
    ],
)
def test_bad_options_are_told(change, words):
    with pytest.raises(BenchError, match=words):
        watch([0.1, 0.2, 0.3], **{"rope": 0.1, **change})
    with pytest.raises(BenchError, match="finite"):
        watch([0.1, math.nan], rope=0.1)

"""The intervals of a mean: against scipy, by their coverage, and repeatable."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adma.bench.errors import BenchError
from adma.bench.statistics import bootstrap_interval
from adma.bench.statistics.estimates import expanded_tail

VALUES = [0.9125, 0.9313, 0.9211, 0.9502, 0.9187, 0.9333]


def test_the_expanded_tail_is_hesterbergs():
    """Hesterberg 2015, Sec. 4.2: Phi(-sqrt(n / (n - 1)) t) where the plain interval has alpha / 2."""
    expected = stats.norm.cdf(-math.sqrt(10 / 9) * stats.t.ppf(0.975, 9))
    assert expanded_tail(10, 0.95) == pytest.approx(expected)
    assert expanded_tail(10_000, 0.95) == pytest.approx(0.025, rel=1e-2)  # for many values the plain one
    assert expanded_tail(5, 0.95) < expanded_tail(10, 0.95) < 0.025


def test_it_is_scipys_percentile_interval_at_the_expanded_level():
    low, high = bootstrap_interval(VALUES, 0.95)
    level = 1 - 2 * expanded_tail(len(VALUES), 0.95)
    scipys = stats.bootstrap(
        (np.array(VALUES),), np.mean, n_resamples=200_000, confidence_level=level, method="percentile", rng=3
    ).confidence_interval
    assert (low, high) == pytest.approx((scipys.low, scipys.high), abs=4e-4)


def test_it_holds_the_mean_more_often_than_the_plain_percentiles():
    """300 samples of 6: nominal 95%; the plain interval holds the mean about 87% of the time."""
    draws = np.random.default_rng(1).standard_normal((300, 6))
    held = sum(low <= 0 <= high for low, high in (bootstrap_interval(d, 0.95) for d in draws)) / 300
    assert 0.90 < held < 0.975
    plain = stats.bootstrap((draws,), np.mean, axis=1, n_resamples=999, method="percentile", rng=0).confidence_interval
    assert np.mean((plain.low <= 0) & (plain.high >= 0)) < held - 0.02


def test_the_same_numbers_give_the_same_interval_in_whatever_order():
    assert bootstrap_interval(VALUES, 0.9) == bootstrap_interval(VALUES[::-1], 0.9)
    assert bootstrap_interval(VALUES, 0.9) != bootstrap_interval(VALUES, 0.9, seed=1)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.floats(-2, 2))
def test_it_lies_in_the_range_and_moves_with_the_values(values, shift):
    low, high = bootstrap_interval(values, 0.95)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12
    moved = bootstrap_interval([v + shift for v in values], 0.95)
    if len(set(values)) == len({v + shift for v in values}):
        assert moved == pytest.approx((low + shift, high + shift), abs=1e-9)


def test_equal_values_one_value_and_none():
    assert bootstrap_interval([0.1, 0.1, 0.1], 0.95) == (0.1, 0.1)
    assert bootstrap_interval([0.1], 0.95) is None
    assert bootstrap_interval([], 0.95) is None


def test_what_is_not_finite_is_refused_with_its_place():
    with pytest.raises(BenchError, match="values must be finite, got nan at place 1"):
        bootstrap_interval([0.1, math.nan], 0.95)
    with pytest.raises(BenchError, match="level must lie between 0 and 1"):
        bootstrap_interval([0.1, 0.2], 95)

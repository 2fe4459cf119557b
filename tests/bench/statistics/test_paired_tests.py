"""Tests of paired seeds: against brute force, scipy and R's rules; what swapping and shuffling must not change."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adma.bench.errors import BenchError
from adma.bench.statistics import compare_pairs
from adma.bench.statistics.paired import MONTE_CARLO, differences, effect_size, sign_flip, t_test, wilcoxon

ACCURACIES = st.lists(
    st.tuples(st.integers(300, 360), st.integers(300, 360)).map(lambda t: (t[0] / 360, t[1] / 360)),
    min_size=1,
    max_size=8,
)


def all_signs(d: np.ndarray) -> np.ndarray:
    return np.array(list(itertools.product((1, -1), repeat=len(d)))) * np.abs(d)


def brute_permutation(d: np.ndarray) -> float:
    """Every one of the 2^n means: twice the smaller tail, as the null is symmetric."""
    sums = all_signs(d).sum(axis=1)
    seen = d.sum()
    return min(1.0, 2 * min(np.mean(sums >= seen - 1e-12), np.mean(sums <= seen + 1e-12)))


def brute_wilcoxon(d: np.ndarray) -> float:
    """Zeros left out, mean ranks, every sign of them."""
    d = d[d != 0]
    ranks = stats.rankdata(np.round(np.abs(d), 12))
    seen = ranks[d > 0].sum()
    sums = np.array([ranks[np.array(s) > 0].sum() for s in itertools.product((1, -1), repeat=len(d))])
    return min(1.0, 2 * min(np.mean(sums >= seen - 1e-9), np.mean(sums <= seen + 1e-9)))


@settings(max_examples=25, deadline=None)
@given(ACCURACIES)
def test_exact_tests_are_the_enumeration_of_all_signs(pairs):
    """Accuracies on 360 samples: ties and zeros are the rule."""
    a, b = map(list, zip(*pairs, strict=True))
    d = differences(a, b)
    if not np.any(d):
        assert sign_flip(d).p is None
        assert wilcoxon(d).p is None
        return
    assert sign_flip(d).p == pytest.approx(brute_permutation(d))
    assert wilcoxon(d).p == pytest.approx(brute_wilcoxon(d))
    assert sign_flip(d).method == wilcoxon(d).method == "exact"


@settings(max_examples=10, deadline=None)
@given(ACCURACIES, st.randoms())
def test_swapping_the_losses_flips_signs_and_keeps_ps_and_the_seeds_order_does_not_matter(pairs, random):
    a, b = map(list, zip(*pairs, strict=True))
    there, back = compare_pairs(a, b), compare_pairs(b, a)
    assert back.estimate.mean == pytest.approx(-there.estimate.mean)
    assert [t.p for t in there.tests] == pytest.approx([t.p for t in back.tests], abs=1e-12)
    assert back.improvement.probability == pytest.approx(1 - there.improvement.probability)
    if there.effect:
        assert back.effect.g == pytest.approx(-there.effect.g)
    shuffled = list(pairs)
    random.shuffle(shuffled)
    other = compare_pairs(*map(list, zip(*shuffled, strict=True)))
    assert [t.p for t in other.tests] == pytest.approx([t.p for t in there.tests], abs=1e-12)
    assert other.bootstrap == pytest.approx(there.bootstrap)
    assert other.improvement.interval == pytest.approx(there.improvement.interval)


def test_a_shift_of_both_losses_changes_nothing():
    rng = np.random.default_rng(0)
    a, b = rng.random(7), rng.random(7)
    one, other = compare_pairs(a, b), compare_pairs(a + 5, b + 5)
    assert other.estimate.interval == pytest.approx(one.estimate.interval)
    assert other.bootstrap == pytest.approx(one.bootstrap)
    assert [t.p for t in other.tests] == pytest.approx([t.p for t in one.tests])


def test_rounding_makes_no_ties_and_breaks_none():
    """0.3 - 0.2 and 0.2 - 0.1 differ in their last bits, yet are one rank."""
    assert 0.3 - 0.2 != 0.2 - 0.1
    assert len(set(differences([0.3, 0.2, 0.4], [0.2, 0.1, 0.3]))) == 1
    assert len(set(differences([0.3, 0.2, 0.4], [0.2, 0.1, 0.3 + 1e-9]))) == 2


def test_p_values_agree_with_scipys_own_tests_without_ties():
    a = [0.91, 0.93, 0.92, 0.953, 0.94, 0.96, 0.931]
    b = [0.90, 0.934, 0.91, 0.95, 0.925, 0.93, 0.925]
    found = compare_pairs(a, b)
    assert found.t.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found.wilcoxon.p == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue)


def test_many_pairs_are_drawn_with_a_seed():
    rng = np.random.default_rng(2)
    d = np.round(rng.normal(0.004, 0.01, 25), 3)
    once, again, other = sign_flip(d), sign_flip(d), sign_flip(d, seed=1)
    assert once.method == "Monte Carlo"
    assert once.p == again.p != other.p
    assert once.p == pytest.approx(t_test(d).p, abs=0.02)  # 25 nearly normal differences
    assert wilcoxon(d).method == "Monte Carlo"  # tied
    assert wilcoxon(d).p == pytest.approx(stats.wilcoxon(d, method="approx").pvalue, abs=0.02)
    assert wilcoxon(rng.normal(size=25)).method == "exact"


def test_drawn_signs_agree_with_scipys_drawn_permutations():
    """Each p is of 2^14 draws: four standard errors of both apart at most."""
    rng = np.random.default_rng(5)
    for shift in (0.0, 0.2, 0.35):
        d = rng.normal(shift, 1.0, 40)
        theirs = stats.permutation_test(
            (d,), np.sum, permutation_type="samples", n_resamples=MONTE_CARLO - 1, rng=np.random.default_rng(1)
        ).pvalue
        ours = sign_flip(d)
        assert ours.method == "Monte Carlo"
        assert ours.p == pytest.approx(theirs, abs=4 * np.sqrt(2 * theirs * (1 - theirs) / MONTE_CARLO) + 1e-4)


def test_zeros_are_left_out_and_counted():
    test = wilcoxon([0.0, 0.0, 0.1, -0.2, 0.3])
    assert (test.n, test.left_out) == (3, 2)
    assert test.p == pytest.approx(stats.wilcoxon([0.1, -0.2, 0.3], method="exact").pvalue)


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 6), (0.1, 5), (0.01, 8), (0.05 / 3, 7)])
def test_a_test_says_how_many_pairs_it_needs(alpha, needed):
    """The least two-sided p of n signs is 2 / 2^n."""
    for n in (needed - 1, needed):
        test = wilcoxon(np.arange(1, n + 1) / 100, alpha=alpha)
        assert test.p == pytest.approx(test.least_p) == pytest.approx(2 / 2**n)
        assert test.needed == needed
        assert bool(test.too_few) == (n < needed)


@pytest.mark.parametrize("test", [wilcoxon, sign_flip])
def test_too_few_pairs_are_data_and_an_error_where_the_test_is_asked_for(test):
    words = r"cannot give p < 0.05 from 5 pairs: its least p there is 0.062; 6 pairs are needed"
    assert test([0.1, 0.2, 0.3, 0.4, 0.5]).p == pytest.approx(0.0625)
    with pytest.raises(BenchError, match=words):
        test([0.1, 0.2, 0.3, 0.4, 0.5], strict=True)
    assert test([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], strict=True).p < 0.05
    with pytest.raises(BenchError, match=r"from 5 pairs that differ \(1 do not\).*6 pairs that differ are needed"):
        test([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], strict=True)


def test_the_effect_size_is_hedges():
    """Hedges 1981: J(m) = Gamma(m / 2) / (sqrt(m / 2) Gamma((m - 1) / 2)), near 1 - 3 / (4 m - 1)."""
    d = [0.01, 0.03, 0.02, 0.05, 0.00]
    found = effect_size(d)
    d_z = np.mean(d) / np.std(d, ddof=1)
    assert found.d_z == pytest.approx(d_z)
    assert found.g == pytest.approx(d_z * math.gamma(2) / (math.sqrt(2) * math.gamma(1.5)))
    assert found.g == pytest.approx(d_z * (1 - 3 / (4 * 4 - 1)), rel=0.01)
    assert effect_size([0.1, 0.1, 0.1]) is None
    assert effect_size([0.1, 0.2]) is None


def test_hedges_correction_removes_the_bias_of_few_seeds():
    draws = np.random.default_rng(0).normal(1.0, 1.0, (20_000, 5))
    d_z = draws.mean(axis=1) / draws.std(axis=1, ddof=1)
    ratio = effect_size(draws[0]).g / effect_size(draws[0]).d_z
    assert np.mean(d_z) > 1.2
    assert ratio * np.mean(d_z) == pytest.approx(1.0, abs=0.03)


def test_probability_of_improvement_is_mann_whitneys_u_over_n_squared():
    a, b = [0.91, 0.93, 0.92, 0.95], [0.92, 0.90, 0.94, 0.93]
    found = compare_pairs(a, b).improvement
    assert found.probability == pytest.approx(stats.mannwhitneyu(a, b).statistic / 16)  # ties half
    assert found.interval[0] <= found.probability <= found.interval[1]
    lower_is_better = compare_pairs(a, b, higher_is_better=False).improvement
    assert lower_is_better.probability == pytest.approx(1 - found.probability)


def test_the_interval_of_improvement_redraws_seeds_together():
    """Brute force over all 3^3 redrawn seeds: the ends of so few are the extremes that can be drawn."""
    a, b = [0.5, 0.7, 0.9], [0.6, 0.65, 0.8]

    def value(places):
        return np.mean([(a[i] > b[j]) + 0.5 * (a[i] == b[j]) for i in places for j in places])

    drawn = [value(p) for p in itertools.product(range(3), repeat=3)]
    assert compare_pairs(a, b).improvement.interval == pytest.approx((min(drawn), max(drawn)), abs=1e-6)


def test_equal_losses_and_constant_differences():
    same = compare_pairs([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])
    assert (same.t.p, same.wilcoxon.p, same.permutation.p, same.effect) == (1.0, None, None, None)
    assert same.improvement.probability == 0.5
    shifted = compare_pairs([0.6, 0.7, 0.8], [0.5, 0.6, 0.7])
    assert shifted.t.p == 0.0
    assert shifted.permutation.p == pytest.approx(0.25)


def test_one_pair_and_none_have_no_p():
    assert compare_pairs([0.5], [0.6]).t.p is None
    nothing = compare_pairs([], [])
    assert (nothing.estimate.n, nothing.improvement, nothing.bootstrap) == (0, None, None)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([0.1, 0.2], [0.1], "same seeds, got 2 and 1"),
        ([0.1, math.nan], [0.1, 0.2], "a must be finite, got nan at place 1"),
        ([[0.1]], [0.1], "one list of numbers"),
    ],
)
def test_bad_input_is_told(a, b, words):
    with pytest.raises(BenchError, match=words):
        compare_pairs(a, b)

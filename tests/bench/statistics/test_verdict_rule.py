"""Better, worse, equivalent, undecided: the rule, Holm's levels, the seeds that would decide."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from adma.bench.errors import BenchError
from adma.bench.statistics import BETTER, EQUIVALENT, UNDECIDED, WORSE, holm, judge, rope_of
from adma.bench.statistics.verdicts import FURTHER_CAP

ROPE = 0.002


def draws(mean: float, sd: float, n: int = 8, seed: int = 0) -> list[float]:
    """n differences with exactly this mean and standard deviation."""
    x = np.random.default_rng(seed).standard_normal(n)
    return list(mean + sd * (x - x.mean()) / x.std(ddof=1))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_is_statsmodels_holm(ps, alpha):
    found = holm(ps, alpha)
    rejected, adjusted, *_ = multipletests(ps, alpha=alpha, method="holm")
    assert found.adjusted == pytest.approx(list(adjusted))
    if all(abs(p - b) > 1e-9 for p, b in zip(ps, found.bounds, strict=True)):
        assert list(found.rejected) == list(rejected)


def test_holm_by_hand():
    """0.01 < 0.05 / 3; 0.03 is not below 0.05 / 2, so it and all after it are held to that."""
    found = holm([0.04, 0.01, 0.03])
    assert found.rejected == (False, True, False)
    assert found.bounds == pytest.approx((0.025, 0.05 / 3, 0.025))
    assert found.adjusted == pytest.approx((0.06, 0.03, 0.06))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(-0.02, 0.02), st.floats(1e-3, 0.02)), min_size=1, max_size=5), st.integers(3, 9))
def test_a_verdict_is_better_or_worse_if_and_only_if_its_interval_excludes_0(parts, n):
    losses = {f"l{i}": draws(mean, sd, n, i) for i, (mean, sd) in enumerate(parts)}
    for judgement in judge(losses, rope=ROPE).values():
        low, high = judgement.estimate.interval
        assert (judgement.verdict in (BETTER, WORSE)) == (low > 0 or high < 0)
        assert (judgement.p_holm < 0.05) == (low > 0 or high < 0)
        assert (judgement.further == 0) == judgement.decided
        if judgement.verdict == EQUIVALENT:
            assert judgement.q_holm < 0.05


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-0.03, 0.03), min_size=3, max_size=8))
def test_swapping_loss_and_baseline_swaps_better_and_worse(d):
    swap = {BETTER: WORSE, WORSE: BETTER}
    there = judge({"x": d}, rope=ROPE)["x"]
    back = judge({"x": [-v for v in d]}, rope=ROPE)["x"]
    assert back.verdict == swap.get(there.verdict, there.verdict)
    assert judge({"x": d}, rope=ROPE, higher_is_better=False)["x"].verdict == back.verdict
    assert judge({"x": d[::-1]}, rope=ROPE)["x"].verdict == there.verdict


def test_the_ps_are_those_of_t_and_of_two_one_sided_tests():
    d = draws(0.0005, 0.001)
    found = judge({"x": d}, rope=ROPE)["x"]
    assert found.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert found.q == pytest.approx(DescrStatsW(d).ttost_mean(-ROPE, ROPE)[0])
    assert found.verdict == EQUIVALENT


def test_the_four_verdicts():
    found = judge(
        {
            "up": draws(0.02, 0.004),
            "down": draws(-0.02, 0.004),
            "same": draws(0.0001, 0.0008),
            "who knows": draws(0.003, 0.02),
        },
        rope=ROPE,
    )
    assert [j.verdict for j in found.values()] == [BETTER, WORSE, EQUIVALENT, UNDECIDED]


def test_equivalence_has_holms_bounds_of_its_own():
    """One loss that is alike at 0.05 is not among four that are not clear."""
    alike = draws(0.0005, 0.0018)
    assert judge({"x": alike}, rope=ROPE)["x"].verdict == EQUIVALENT
    others = {f"o{i}": draws(0.003, 0.02, seed=i) for i in range(3)}
    assert judge({"x": alike, **others}, rope=ROPE)["x"].verdict == UNDECIDED


def test_a_shown_difference_within_the_rope_is_negligible():
    found = judge({"x": draws(0.0008, 0.0004)}, rope=ROPE)["x"]
    assert (found.verdict, found.negligible) == (BETTER, True)
    assert not judge({"x": draws(0.02, 0.004)}, rope=ROPE)["x"].negligible


def test_two_seeds_decide_nothing_and_still_count_as_a_comparison():
    found = judge({"few": [0.1, 0.11], "x": draws(0.01, 0.01, 6)}, rope=ROPE)
    assert found["few"].verdict == UNDECIDED
    assert math.isnan(found["few"].p)
    assert found["few"].further is not None
    assert found["x"].estimate.level == pytest.approx(1 - 0.05 / 2)


def test_constant_differences_are_decided_and_marked():
    found = judge({"up": [0.01] * 3, "same": [0.0] * 3, "little": [0.001] * 3}, rope=ROPE)
    assert [j.verdict for j in found.values()] == [BETTER, EQUIVALENT, BETTER]
    assert all(j.constant for j in found.values())
    assert found["little"].negligible


def test_false_better_or_worse_of_three_equal_losses_is_at_most_alpha():
    """300 studies of 5 seeds: the binomial 99.9% bound of 5% is 9.4%."""
    d = 0.01 * np.random.default_rng(0).standard_normal((300, 3, 5))
    false = sum(
        any(
            j.verdict in (BETTER, WORSE) for j in judge(dict(zip("abc", map(list, x), strict=True)), rope=ROPE).values()
        )
        for x in d
    )
    assert false / 300 <= 0.094


def test_false_equivalence_at_the_ropes_edge_is_at_most_alpha():
    d = ROPE + 0.002 * np.random.default_rng(1).standard_normal((300, 3, 10))
    false = sum(
        any(j.verdict == EQUIVALENT for j in judge(dict(zip("abc", map(list, x), strict=True)), rope=ROPE).values())
        for x in d
    )
    assert false / 300 <= 0.094


@pytest.mark.parametrize(("mean", "sd"), [(0.01, 0.012), (0.005, 0.009), (0.0, 0.003), (0.0004, 0.0025)])
def test_so_many_further_seeds_decide_four_times_in_five(mean, sd):
    """Drawn anew from a normal with the observed mean and sd, at the projected number of seeds."""
    found = judge({"x": draws(mean, sd, 5)}, rope=ROPE)["x"]
    assert found.verdict == UNDECIDED
    n = 5 + found.further
    fresh = np.random.default_rng(3).normal(mean, sd, (300, n))
    decided = np.mean([judge({"x": list(x)}, rope=ROPE)["x"].decided for x in fresh])
    assert 0.7 < decided < 0.92
    fewer = np.random.default_rng(3).normal(mean, sd, (300, max(3, n // 2)))
    assert np.mean([judge({"x": list(x)}, rope=ROPE)["x"].decided for x in fewer]) < decided - 0.1


def test_what_no_reasonable_number_of_seeds_decides_is_said_so():
    assert judge({"x": draws(0.002, 0.05, 5)}, rope=ROPE)["x"].further is None
    assert judge({"x": [0.1]}, rope=ROPE)["x"].further is None
    assert FURTHER_CAP >= 100


def test_ropes_of_the_metrics():
    assert rope_of("test_accuracy") == 0.002
    assert rope_of("val_nll") == 0.01
    assert rope_of("test_ece_posterior") == 0.002
    with pytest.raises(BenchError, match="no rope is known for 'test_seconds'"):
        rope_of("test_seconds")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rope": -1}, "rope must be a number from 0"),
        ({"rope": math.nan}, "rope must be a number from 0"),
        ({"rope": 0.1, "level": 95}, "level must lie between 0 and 1"),
    ],
)
def test_bad_options_are_told(change, words):
    with pytest.raises(BenchError, match=words):
        judge({"x": [0.1, 0.2, 0.3]}, **change)
    with pytest.raises(BenchError, match="x must be finite"):
        judge({"x": [0.1, math.inf]}, rope=0.1)
    with pytest.raises(BenchError, match=r"p-values must lie in \[0, 1\]"):
        holm([0.1, 1.2])

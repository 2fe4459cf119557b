"""Losses over data sets: the paper's tables, autorank and brute force as references; gaps are named."""

from __future__ import annotations

import contextlib
import io
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adma.bench.errors import BenchError
from adma.bench.printed import PRINTED, ROLES
from adma.bench.statistics import compare_across
from adma.bench.statistics.across import critical_difference, friedman, interquartile, rank_matrix


def printed(table: int) -> dict[str, dict[str, list[float]]]:
    return {data: {role: [row.accuracy(role)] for role in ROLES} for data, row in PRINTED[table].items()}


@pytest.mark.parametrize(
    ("table", "p", "ranks"),
    [
        (1, 1.00, (1.75, 1.75, 3.75, 2.75)),
        (2, 0.55, (1.62, 1.38, 3.75, 3.25)),
        (3, 0.55, (1.50, 2.12, 3.62, 2.75)),
        (4, 1.00, (1.62, 1.50, 3.88, 3.00)),
    ],
)
def test_the_papers_printed_tables(table, p, ranks):
    """Adma and cross-entropy are not told apart in any of the four; both are from squared hinge."""
    found = compare_across(printed(table))
    assert found.pair("adma", "cce").wilcoxon.p == pytest.approx(p, abs=0.005)
    assert [found.mean_ranks[role] for role in ROLES] == pytest.approx(ranks, abs=0.0051)
    assert found.critical_difference == pytest.approx(1.66, abs=0.005)
    assert found.friedman.p < 0.05
    assert abs(found.pair("cce", "adma").rank_difference) < found.critical_difference
    assert any({"adma", "cce"} <= set(group) for group in found.groups)
    assert (found.left_out, found.omitted) == ((), ())


@pytest.mark.parametrize("table", PRINTED)
def test_autorank_finds_the_same(table):
    import pandas as pd
    from autorank import autorank

    frame = pd.DataFrame([{r: row.accuracy(r) for r in ROLES} for row in PRINTED[table].values()])
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        theirs = autorank(frame, alpha=0.05, verbose=False, force_mode="nonparametric")
    found = compare_across(printed(table))
    assert theirs.omnibus == "friedman"
    assert theirs.pvalue == pytest.approx(found.friedman.p)
    assert theirs.cd == pytest.approx(found.critical_difference, abs=1e-3)
    assert [theirs.rankdf["meanrank"][r] for r in ROLES] == pytest.approx([found.mean_ranks[r] for r in ROLES])


def test_demsars_own_example():
    """Demsar 2006, Sec. 3.2.2: 4 classifiers on 14 data sets, q = 2.569 at 0.05, CD 1.25."""
    assert critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.01)


def matrix_of(rng: np.random.Generator, datasets: int = 9, losses: int = 4) -> np.ndarray:
    return np.round(rng.random((datasets, 1)) + 0.05 * rng.random((datasets, losses)), 3)


def as_scores(matrix: np.ndarray) -> dict[str, dict[str, list[float]]]:
    return {f"d{i}": {f"l{j}": [v] for j, v in enumerate(row)} for i, row in enumerate(matrix)}


def test_friedman_ranks_and_pairs_are_scipys():
    m = np.random.default_rng(0).random((9, 4))
    found = compare_across(as_scores(m))
    expected = stats.friedmanchisquare(*m.T)
    assert (found.friedman.statistic, found.friedman.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.friedman.df == 3
    ps = [stats.wilcoxon(m[:, i], m[:, j], method="exact").pvalue for i in range(4) for j in range(i + 1, 4)]
    assert [p.wilcoxon.p for p in found.pairs] == pytest.approx(ps)
    assert all(p.p_holm >= p.wilcoxon.p for p in found.pairs)
    assert [p.wins + p.losses + p.wilcoxon.left_out for p in found.pairs] == [9] * 6


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(3, 5), st.floats(-3, 3))
def test_ranks_sum_up_and_move_with_nothing_but_the_order(seed, datasets, losses, shift):
    m = matrix_of(np.random.default_rng(seed), datasets, losses)
    ranks = rank_matrix(m)
    assert ranks.sum(axis=1) == pytest.approx(losses * (losses + 1) / 2)
    assert np.array_equal(rank_matrix(np.exp(m)), ranks)
    assert np.array_equal(rank_matrix(-m, higher_is_better=False), ranks)
    assert rank_matrix(m, higher_is_better=False) == pytest.approx(losses + 1 - ranks)
    one, other = compare_across(as_scores(m)), compare_across(as_scores(m + shift))
    assert other.mean_ranks == pytest.approx(one.mean_ranks)
    assert other.friedman.p == pytest.approx(one.friedman.p)


def test_ties_share_their_mean_rank_also_after_rounding():
    assert rank_matrix([[0.3, 0.1 + 0.2, 0.1]]).tolist() == [[1.5, 1.5, 3.0]]


def test_groups_join_what_the_critical_difference_does_not_part():
    found = compare_across(as_scores(np.array([[0.9, 0.8, 0.3, 0.2]] * 8)))
    assert found.mean_ranks == {"l0": 1.0, "l1": 2.0, "l2": 3.0, "l3": 4.0}
    assert found.groups == (("l0", "l1"), ("l1", "l2"), ("l2", "l3"))  # CD 1.66
    for pair in found.pairs:
        joined = any({pair.first, pair.second} <= set(g) for g in found.groups)
        assert joined == (pair.nemenyi_p > 0.05)


# -- gaps ----------------------------------------------------------------------------------------------------------


def test_a_data_set_with_a_gap_is_left_out_by_name_and_so_is_a_loss_without_any_number():
    scores = as_scores(matrix_of(np.random.default_rng(1), 6))
    scores["d2"]["l1"] = []
    scores["d4"]["l3"] = [math.nan]
    for of in scores.values():
        of["l9"] = []
    found = compare_across(scores)
    assert found.datasets == ("d0", "d1", "d3", "d5")
    assert [(item.name, item.reason) for item in found.left_out] == [
        ("l9", "has no number on any data set"),
        ("d2", "no number for l1"),
        ("d4", "no number for l3"),
    ]
    with pytest.raises(BenchError, match=r"no number for d0: l9; .*d2: l1, l9"):
        compare_across(scores, missing="refuse")


def test_a_loss_that_was_asked_for_and_never_occurs_is_named():
    found = compare_across(as_scores(matrix_of(np.random.default_rng(1))), losses=["l0", "l1", "l2", "mae"])
    assert [item.name for item in found.left_out] == ["mae"]
    assert found.losses == ("l0", "l1", "l2")


def test_too_few_data_sets_or_losses_are_told_with_what_was_left_out():
    scores = as_scores(matrix_of(np.random.default_rng(1), 2))
    scores["d1"]["l0"] = []
    with pytest.raises(BenchError, match=r"at least 2 data sets and 2 losses.*got 1 \(d0\).*d1 \(no number for l0\)"):
        compare_across(scores)
    with pytest.raises(BenchError, match=r"got 0 \(none\)"):
        compare_across({})
    with pytest.raises(BenchError, match=r"Friedman's test needs at least 2 data sets and 3 losses, got 4 and 2"):
        friedman(np.ones((4, 2)))
    with pytest.raises(BenchError, match=r"Nemenyi's test needs .*, got 1 and 4"):
        critical_difference(4, 1)
    with pytest.raises(BenchError, match="got nan in row 1, column 0"):
        rank_matrix([[1.0, 2.0], [math.nan, 1.0]])
    with pytest.raises(BenchError, match="missing must be"):
        compare_across(scores, missing="drop")


def test_two_losses_have_wilcoxon_and_the_rest_is_named_as_omitted():
    found = compare_across(as_scores(matrix_of(np.random.default_rng(2), 7, 2)))
    assert (found.friedman, found.critical_difference, found.groups) == (None, None, ())
    assert "at least 3 losses, there are 2" in found.omitted[0]
    assert found.pairs[0].nemenyi_p is None
    assert found.pairs[0].wilcoxon.p is not None


def test_too_few_data_sets_for_wilcoxon_are_named():
    found = compare_across(as_scores(matrix_of(np.random.default_rng(2), 4)))
    assert found.omitted == (
        "Wilcoxon's signed-rank test cannot give p < 0.05 over 4 data sets; 6 are needed",
    )  # once, not for every pair
    m = np.random.default_rng(2).random((7, 3))
    m[:3, 1] = m[:3, 0]
    found = compare_across(as_scores(m))
    assert len(found.omitted) == 1
    assert "l0, l1: Wilcoxon's signed-rank cannot give p < 0.05 from 4 pairs that differ (3 do not)" in found.omitted[0]


def test_losses_that_are_all_alike():
    found = compare_across(as_scores(np.full((5, 3), 0.5)))
    assert found.friedman.p == 1.0
    assert all(p.wilcoxon.p is None and math.isnan(p.p_holm) for p in found.pairs)
    assert set(found.mean_ranks.values()) == {2.0}


# -- interquartile mean ---------------------------------------------------------------------------------------------


def test_the_interquartile_mean_is_the_mean_of_the_middle_half():
    found = interquartile("x", [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 100.0]], 0.95)
    assert found.mean == pytest.approx(np.mean([2.0, 3.0, 4.0, 5.0]))
    assert found.runs == 8
    assert found.interval[0] < found.mean < found.interval[1]


def test_its_bootstrap_is_stratified_by_data_set():
    """Data sets far apart whose runs hardly vary: redrawing within each leaves a narrow interval; pooled it is wide."""
    rng = np.random.default_rng(3)
    strata = [list(level + 0.001 * rng.standard_normal(5)) for level in (0.2, 0.5, 0.8, 0.99)]
    low, high = interquartile("x", strata, 0.95).interval
    assert high - low < 0.002
    pooled = stats.bootstrap(
        (np.concatenate(strata),), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), n_resamples=999, rng=0
    ).confidence_interval
    assert pooled.high - pooled.low > 0.1
    assert interquartile("x", strata, 0.95).interval == (low, high)  # seeded
    assert interquartile("x", [s[::-1] for s in strata], 0.95).interval == (low, high)


def test_one_run_a_data_set_has_no_interval_and_uneven_runs_are_named():
    assert interquartile("x", [[0.1], [0.2]], 0.95).interval is None
    scores = {
        data: {loss: [0.1 * i + 0.01 * j, 0.2] for j, loss in enumerate("abc")}
        for i, data in enumerate(("u", "v", "w"))
    }
    scores["v"]["b"] = [0.3]
    found = compare_across(scores)
    assert found.uneven == ("v, b: 1 of 2 runs",)
    assert [item.interval is None for item in found.interquartile] == [False, True, False]
    with pytest.raises(BenchError, match="at least one run"):
        interquartile("x", [[0.1], []], 0.95)

"""What a user relies on in the numbers: means, intervals, paired differences, fairness and the verdict."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adma.bench.errors import BenchError
from adma.bench.folder import Results
from adma.bench.result import CellResult
from adma.bench.statistics import check_fairness, estimate, summarise
from adma.bench.study import Setting, Study

SHARED = {"split": "s", "init": "i", "order": "o"}


def make(finals: dict[str, list], **columns: list) -> Results:
    """Loss -> final test accuracy (or a status) of seeds 10, 11, ..."""
    seeds = tuple(range(10, 10 + max(map(len, finals.values()))))
    study = Study(Setting("d", "h"), tuple(finals), seeds)
    cells = []
    for cell in study.cells():
        value = finals[cell.loss][cell.seed - 10]
        if isinstance(value, str):
            cells.append(CellResult(cell, value, f"why {value}"))
            continue
        # the first epoch is a decoy: only the last may count
        epochs = {"test_accuracy": np.array([0.01, value]), "test_nll": np.array([9.0, 1 - value])}
        epochs |= {f"test_{m}": np.array([9.0, 0.25]) for m in ("ece", "nll_posterior", "ece_posterior")}
        epochs["val_accuracy"] = np.array([0.0, value + 0.01])
        if cell.loss == "mae":
            epochs |= {f"test_{m}_posterior": np.array([np.nan, np.nan]) for m in ("nll", "ece")}
        cells.append(CellResult(cell, "done", "", 7.5, epochs, {"shared": dict(SHARED)}))
    return Results(study, tuple(cells))


def one(comparison, loss):
    return next(s for s in comparison.losses if s.loss == loss)


def test_mean_and_interval_agree_with_scipy():
    values = [0.91, 0.93, 0.92, 0.95]
    summary = one(summarise(make({"cce": values, "mae": [0.5] * 4}), level=0.9), "cce")
    expected = stats.t.interval(0.9, 3, loc=np.mean(values), scale=stats.sem(values))
    assert summary.estimate.mean == pytest.approx(np.mean(values))
    assert summary.estimate.sd == pytest.approx(np.std(values, ddof=1))
    assert summary.estimate.interval == pytest.approx(expected)
    assert summary.values == dict(zip(range(10, 14), values, strict=True))


def test_differences_are_paired_and_agree_with_scipys_paired_test():
    cce, adma = [0.80, 0.90, 0.70, 0.85], [0.82, 0.91, 0.73, 0.86]
    difference = one(summarise(make({"adma": adma, "cce": cce})), "adma").to_baseline
    expected = stats.ttest_rel(adma, cce).confidence_interval(0.95)
    assert difference.estimate.interval == pytest.approx((expected.low, expected.high))
    assert difference.estimate.mean == pytest.approx(np.mean(adma) - np.mean(cce))


def test_a_difference_uses_only_seeds_that_both_finished():
    comparison = summarise(make({"cce": [0.5, "failed", 0.6, 0.7], "adma": [0.6, 0.9, "diverged", 0.8]}))
    difference = one(comparison, "adma").to_baseline
    assert difference.seeds == (10, 13)
    assert difference.estimate.mean == pytest.approx(0.1)


def test_baseline_is_cce_or_the_first_loss_or_what_is_asked_for():
    assert summarise(make({"mae": [0.1], "cce": [0.2]})).baseline == "cce"
    assert summarise(make({"mae": [0.1], "adma": [0.2]})).baseline == "mae"
    assert summarise(make({"mae": [0.1], "cce": [0.2]}), baseline="mae").baseline == "mae"
    with pytest.raises(BenchError, match=r"baseline 'maa' is not in the study, did you mean 'mae'"):
        summarise(make({"mae": [0.1], "cce": [0.2]}), baseline="maa")


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -1.0, math.nan])
def test_a_level_outside_0_and_1_is_refused(level):
    with pytest.raises(BenchError, match="level"):
        summarise(make({"cce": [0.1]}), level=level)


def test_an_unknown_metric_is_refused_with_the_nearest():
    with pytest.raises(BenchError, match="did you mean 'test_accuracy'"):
        summarise(make({"cce": [0.1]}), metric="test_acuracy")


def test_one_seed_has_a_mean_and_no_interval():
    summary = summarise(make({"cce": [0.4], "mae": [0.3]})).losses[0]
    assert summary.estimate.mean == 0.4
    assert summary.estimate.interval is None
    assert math.isnan(summary.estimate.sd)


def test_secondary_means_are_of_the_last_epoch_and_nan_where_undefined():
    comparison = summarise(make({"cce": [0.4, 0.6], "mae": [0.3, 0.5]}))
    cce, mae = one(comparison, "cce").secondary, one(comparison, "mae").secondary
    assert cce["test_nll"] == pytest.approx(0.5)
    assert cce["val_accuracy"] == pytest.approx(0.51)
    assert cce["test_ece_posterior"] == pytest.approx(0.25)
    assert cce["seconds"] == pytest.approx(7.5)
    assert math.isnan(mae["test_nll_posterior"])


def test_every_run_that_gives_no_number_is_counted_with_seed_and_reason():
    summary = one(summarise(make({"cce": [0.4] * 4, "mae": ["diverged", "failed", "missing", 0.5]})), "mae")
    assert [(t.seed, t.status, t.reason) for t in summary.troubles] == [
        (10, "diverged", "why diverged"),
        (11, "failed", "why failed"),
        (12, "missing", "not run yet"),
    ]
    assert (summary.n, summary.count("diverged"), summary.seeds_of("failed")) == (1, 1, [11])


def test_a_done_run_without_a_finite_number_is_counted_not_lost():
    summary = one(summarise(make({"cce": [0.4, math.nan], "mae": [0.5, 0.6]})), "cce")
    assert summary.n == 1
    assert [(t.seed, t.status) for t in summary.troubles] == [(11, "failed")]
    assert "nan" in summary.troubles[0].reason


# -- fairness ----------------------------------------------------------------------------------------------


def with_shared(results: Results, loss: str, seed: int, shared: dict) -> Results:
    cells = tuple(
        replace(c, env={"shared": shared}) if (c.cell.loss, c.cell.seed) == (loss, seed) else c for c in results.cells
    )
    return replace(results, cells=cells)


def test_another_initialisation_of_one_loss_stops_the_comparison():
    results = with_shared(make({"cce": [0.1, 0.2], "mae": [0.1, 0.3]}), "mae", 11, {**SHARED, "init": "other"})
    with pytest.raises(BenchError, match=r"seed 11.*init") as caught:
        summarise(results)
    assert "mae: other" in str(caught.value)
    assert "cce: i" in str(caught.value)


def test_a_finished_run_without_a_hash_stops_the_comparison():
    results = with_shared(make({"cce": [0.1], "mae": [0.1]}), "mae", 10, {"split": "s", "init": "i"})
    with pytest.raises(BenchError, match=r"seed 10.*order.*mae: no hash"):
        summarise(results)


def test_seeds_may_differ_and_an_early_failure_may_lack_hashes():
    results = with_shared(make({"cce": [0.1, 0.2], "mae": ["failed", 0.3]}), "mae", 10, {"split": "s"})
    other = dict.fromkeys(SHARED, "second")
    results = with_shared(with_shared(results, "cce", 11, other), "mae", 11, other)
    assert check_fairness(results) == {10: SHARED, 11: other}


# -- the verdict -------------------------------------------------------------------------------------------

CLEAR = {"cce": [0.80, 0.82, 0.81], "adma": [0.90, 0.921, 0.911]}


def test_a_clear_lead_wins():
    verdict = summarise(make(CLEAR)).verdict
    assert verdict.winner == "adma"
    assert "highest mean test accuracy" in verdict.reason


def test_a_noisy_lead_is_undecided_and_names_the_rival():
    verdict = summarise(make({"cce": [0.8, 0.9, 0.7], "adma": [0.9, 0.8, 0.8]})).verdict
    assert (verdict.winner, verdict.leader) == (None, "adma")
    assert "cce" in verdict.reason


def test_two_seeds_never_decide():
    verdict = summarise(make({"cce": [0.1, 0.1], "adma": [0.9, 0.9]})).verdict
    assert verdict.winner is None
    assert "3 are needed" in verdict.reason


def test_the_winner_must_beat_every_other_loss():
    assert summarise(make({**CLEAR, "mae": [0.90, 0.91, 0.915]})).winner is None


def test_more_losses_need_more_evidence():
    """A lead that two losses settle at 95% is not settled among five: Bonferroni's correction."""
    lead = np.array([0.010, 0.0165, 0.0035])  # its 95% interval is [-0.006, ...]: choose a lead just above
    lead = lead + 0.0075
    base = np.array([0.5, 0.5, 0.5])
    two = {"adma": list(base + lead), "cce": list(base)}
    assert summarise(make(two)).winner == "adma"
    five = {**two, "mse": list(base - 0.3), "mae": list(base - 0.3), "focal": list(base - 0.3)}
    comparison = summarise(make(five))
    assert comparison.winner is None
    assert comparison.verdict.differences[0].estimate.level == pytest.approx(1 - 0.05 / 4)


@pytest.mark.parametrize("status", ["diverged", "failed", "missing"])
def test_a_leader_with_an_unfinished_run_does_not_win(status):
    verdict = summarise(make({"cce": [0.1, 0.12, 0.11, 0.1], "adma": [0.9, 0.92, 0.91, status]})).verdict
    assert verdict.winner is None
    assert status in verdict.reason
    assert "13" in verdict.reason


def test_a_rival_that_diverged_is_named_when_another_loss_wins():
    verdict = summarise(make({"cce": [0.1, 0.12, 0.11, "diverged"], "adma": [0.9, 0.92, 0.91, 0.9]})).verdict
    assert verdict.winner == "adma"
    assert "cce has 1 diverged run (seed 13)" in verdict.reason


def test_a_rival_without_a_finished_run_leaves_it_undecided():
    verdict = summarise(make({**CLEAR, "mae": ["diverged"] * 3})).verdict
    assert verdict.winner is None
    assert "0 with mae" in verdict.reason


def test_constant_differences_need_no_variance():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert summarise(make({"cce": [0.5, 0.5, 0.5], "adma": [0.6, 0.6, 0.6]})).winner == "adma"
        tie = summarise(make({"cce": [0.5, 0.6, 0.7], "adma": [0.5, 0.6, 0.7]}))
    assert tie.winner is None
    assert tie.losses[1].to_baseline.estimate.interval == (0.0, 0.0)


def test_nothing_finished_or_a_single_loss_is_undecided():
    assert summarise(make({"cce": ["missing"] * 3, "mae": ["failed"] * 3})).verdict.leader is None
    assert summarise(make({"cce": [0.5] * 3})).winner is None


def test_for_nll_the_lowest_wins():
    comparison = summarise(make(CLEAR), metric="test_nll")
    assert comparison.winner == "adma"
    assert "lowest mean test NLL" in comparison.verdict.reason
    assert [s.loss for s in comparison.ranked] == ["adma", "cce"]


def test_a_partial_study_says_so():
    comparison = summarise(make({"cce": [0.5, "missing"], "mae": ["missing", "missing"]}))
    assert comparison.missing == 3
    assert [s.loss for s in comparison.ranked] == ["cce", "mae"]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.floats(0.5, 0.99))
def test_an_interval_holds_its_mean_and_is_finite(values, level):
    result = estimate(values, level)
    assert result.interval is not None
    assert result.interval[0] <= result.mean <= result.interval[1]
    assert math.isfinite(result.interval[1])


def test_among_equal_losses_a_winner_is_rare():
    """Wrong winners stay below the stated 5%, with room for the luck of 400 draws."""
    rng = np.random.default_rng(0)
    draws = 0.9 + 0.01 * rng.standard_normal((400, 3, 5))
    studies = [make(dict(zip("abc", map(list, draw), strict=True))) for draw in draws]
    named = sum(summarise(study).winner is not None for study in studies)
    assert named <= 32


# -- against the baseline ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(3, 8), st.floats(0, 0.05), st.booleans())
def test_the_winner_and_the_verdicts_never_contradict_each_other(seed, losses, seeds, apart, grown):
    """A winner is better than the baseline; a baseline that wins leaves every loss worse; both modes, any spread."""
    rng = np.random.default_rng(seed)
    finals = {f"l{i}": list(0.8 + apart * i + 0.01 * rng.standard_normal(seeds)) for i in range(losses)}
    results = make(finals)
    if grown:
        results = replace(results, about={"until_decided": {"start": 3, "step": 1, "max_seeds": 30}})
    comparison = summarise(results, baseline="l0")
    for summary in comparison.losses:
        if summary.loss == comparison.winner and summary.stands:
            assert summary.stands.verdict == "better"
        if comparison.winner == "l0" and summary.stands:
            assert summary.stands.verdict == "worse"
    assert one(comparison, "l0").stands is None


def test_a_study_that_grew_has_sequential_verdicts_and_counts_its_looks():
    results = make({"cce": [0.80, 0.82, 0.81, 0.83, 0.80, 0.82], "adma": [0.90, 0.921, 0.911, 0.93, 0.902, 0.919]})
    fixed = summarise(results)
    grown = summarise(replace(results, about={"until_decided": {"start": 3, "step": 2, "max_seeds": 30}}))
    assert fixed.growth is None
    assert (grown.growth.looks, grown.growth.seeds) == (3, 6)
    wide, narrow = one(grown, "adma").to_baseline.estimate, one(fixed, "adma").to_baseline.estimate
    assert wide.mean == narrow.mean
    assert wide.interval[0] < narrow.interval[0] < narrow.interval[1] < wide.interval[1]
    assert one(grown, "adma").stands is one(grown, "adma").watched
    assert one(fixed, "adma").stands is one(fixed, "adma").judgement


def test_the_rope_is_the_metrics_unless_given():
    results = make({"cce": [0.5, 0.6, 0.7], "mae": [0.5, 0.61, 0.7]})
    assert summarise(results).rope == 0.002
    assert summarise(results, metric="test_nll").rope == 0.01
    assert summarise(results, rope=0.1).losses[1].judgement.verdict == "equivalent"
    with pytest.raises(BenchError, match="rope must be a number from 0"):
        summarise(results, rope=-0.1)


def test_for_nll_better_means_lower():
    comparison = summarise(make(CLEAR), metric="test_nll")
    assert one(comparison, "adma").judgement.verdict == "better"
    assert one(comparison, "adma").judgement.estimate.mean < 0
    assert one(comparison, "adma").paired.improvement.probability == 1.0

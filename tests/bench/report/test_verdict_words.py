"""What a practitioner reads of each loss against the baseline, in the terminal and on the page."""

from __future__ import annotations

import html
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import report_fakes as fakes
from rich.console import Console

from adma.bench.report import comparison_table
from adma.bench.report.html import render
from adma.bench.report.verdict_words import GROWN_HEADINGS, HEADINGS, too_few, verdict_lines, verdict_rows
from adma.bench.statistics import summarise

RNG = np.random.default_rng(0)
BASE = 0.9 + 0.01 * RNG.standard_normal(8)


def exactly(mean: float, sd: float, seed: int = 1) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(8)
    return mean + sd * (x - x.mean()) / x.std(ddof=1)


STUDY = {
    "cce": list(BASE),
    "adma:a=0.26": list(BASE + exactly(0.02, 0.004)),
    "mse": list(BASE + exactly(-0.02, 0.004, 2)),
    "focal:gamma=2": list(BASE + exactly(0.0001, 0.0007, 3)),
    "mae": list(BASE + exactly(0.004, 0.012, 4)),
}
GROWN = {"until_decided": {"start": 4, "step": 2, "max_seeds": 8}}


def said(results, width: int = 200, **options) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(comparison_table(summarise(results, **options)))
    return " ".join(file.getvalue().split())


def text(page: str) -> str:
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", page).split()))


def test_the_terminal_says_the_verdict_of_every_loss():
    words = said(fakes.results(STUDY))
    assert "Against cce, seed by seed (less than 0.2 points is of no account):" in words
    assert "adma:a=0.26 better: by 2.00 points" in words
    assert "mse worse: by 2.00 points" in words
    assert "focal:gamma=2 equivalent: the difference is shown to be less than 0.2 points" in words
    assert re.search(
        r"mae undecided: may be anything from −\d\.\d\d to \+\d\.\d\d points; about \d+ further seeds", words
    )


def test_the_rope_and_the_baseline_are_the_users():
    words = said(fakes.results(STUDY), rope=0.05, baseline="mse")
    assert "Against mse, seed by seed (less than 5 points is of no account):" in words
    assert "adma:a=0.26 better: by 4.00 points; shown, but less than 5 points, so of no account" in words


def test_other_metrics_have_their_own_rope_and_words():
    words = said(fakes.results(STUDY), metric="test_nll")
    assert "(less than 0.01 nats is of no account)" in words


def test_calibration_error_is_in_per_cent_in_the_table_and_in_the_verdict():
    results = fakes.results({"cce": [0.9, 0.91, 0.92], "mse": [0.8, 0.83, 0.81]})
    comparison = summarise(results, metric="test_ece")
    best = comparison.ranked[0].estimate.mean
    assert f"lowest mean test ECE ({100 * best:.2f}%)" in comparison.verdict.reason
    assert re.search(r"points, 95% interval", summarise(results, metric="test_ece").verdict.reason)
    assert f"{100 * best:.2f} ± " in said(results, metric="test_ece")


def test_the_page_holds_the_numbers_behind_the_verdicts():
    results = fakes.results(STUDY)
    comparison = summarise(results)
    page = text(render(results, comparison))
    for heading in HEADINGS:
        assert heading in page
    assert "Each loss against cce" in page
    adma = next(row for row in verdict_rows(comparison) if row.loss == "adma:a=0.26")
    assert adma.verdict == "better"
    judgement = next(s.judgement for s in comparison.losses if s.loss == "adma:a=0.26")
    assert adma.cells[0][1].endswith(f", {100 * judgement.estimate.level:.4g}%")
    assert adma.cells[0][0] == "+2.00"
    assert [cell[0] for cell in adma.cells[4:6]] == ["0.0078", "0.0078"]  # 2 / 2^8
    for cell in adma.cells:
        assert cell[0] in page


def test_the_page_says_which_interval_a_verdict_rests_on():
    """With several losses one may be undecided though the interval of the comparison, at 95%, excludes 0."""
    x = exactly(0.0, 1.0)
    study = {"cce": list(BASE), "up": list(BASE + 0.006 + 0.006 * x)}
    others = {f"o{i}": list(BASE + exactly(0.0, 0.01, i)) for i in range(2, 6)}
    results = fakes.results({**study, **others})
    comparison = summarise(results)
    up = next(s for s in comparison.losses if s.loss == "up")
    assert up.to_baseline.estimate.interval[0] > 0 > up.judgement.estimate.interval[0]
    assert up.judgement.verdict == "undecided"
    page = text(render(results, comparison))
    assert "excludes 0 at the level that Holm's correction leaves to the loss" in page
    assert "wider than the comparison's 95% one" in page


def test_the_verdict_column_says_how_many_more():
    results = fakes.results(STUDY)
    page = text(render(results, summarise(results)))
    assert re.search(r"undecided ≈ \d+ more", page)


def test_a_study_that_grew_shows_its_sequence_and_no_fixed_p():
    results = replace(fakes.results(STUDY), about=GROWN)
    comparison = summarise(results)
    page = text(render(results, comparison))
    for heading in GROWN_HEADINGS:
        assert heading in page
    assert "3 looks, 8 seeds" in page
    assert "Wilcoxon: p" not in page
    assert "p, Holm" not in page
    assert too_few(comparison) == ""
    words = said(results)
    assert "3 looks, error rate held over all of them" in words
    assert re.search(r"adma:a=0.26 better: by 2.00 points, decided at \d seeds", words)
    assert "confidence seq." in words
    fixed = next(s for s in summarise(fakes.results(STUDY)).losses if s.loss == "mae").to_baseline.estimate
    grown = next(s for s in comparison.losses if s.loss == "mae").to_baseline.estimate
    assert grown.interval[0] < fixed.interval[0] < fixed.interval[1] < grown.interval[1]


def test_a_verdict_that_later_seeds_speak_against_says_so_and_not_by_how_much():
    """Decided at 6 seeds; the ninth collapses, which no verdict takes back: the mean then has the other sign."""
    base = np.append(BASE, 0.9)
    gains = exactly(0.02, 0.001)
    study = {
        "cce": list(base),
        "up": list(base + np.append(gains, -0.8)),
        "same": list(base + np.append(exactly(0.0, 0.0001, 2), -0.5)),
        "down": list(base - np.append(gains, -0.8)),
    }
    results = replace(fakes.results(study), about=GROWN)
    comparison = summarise(results)
    assert verdict_lines(comparison) == [
        (
            loss,
            verdict,
            f"decided at 6 seeds, but the mean over all 9 is {mean} points: the seeds since speak against it",
        )
        for loss, verdict, mean in (
            ("up", "better", "−7.11"),
            ("same", "equivalent", "−5.56"),
            ("down", "worse", "+7.11"),
        )
    ]
    assert text(render(results, comparison)).count(" seeds since speak against it") == 6  # in the table, and in words


@pytest.mark.parametrize("sign", [1, -1])
def test_a_leader_that_earlier_seeds_showed_to_be_worse_is_not_called_hard_to_tell_apart(sign):
    change = sign * np.append(exactly(0.02, 0.001), -0.8)
    study = {"cce": list(np.append(BASE, 0.9)), "other": list(np.append(BASE, 0.9) + change)}
    verdict = summarise(replace(fakes.results(study), about=GROWN)).verdict
    assert verdict.winner is None
    assert re.search(
        r"%\), but earlier seeds showed it to be worse than (cce|other), which all together do not bear out "
        r"\(\+7\.11 points, 95% confidence sequence −2\.15 to −1\.85\)\.$",
        verdict.reason,
    )
    assert "do not tell it apart from" in summarise(fakes.results(study)).verdict.reason


def test_seeds_that_change_their_level_are_hardly_draws_from_one_distribution():
    rng = np.random.default_rng(13)
    gains = np.concatenate([rng.normal(0.03, 0.001, 20), rng.normal(0.01, 0.001, 100)])
    study = {"cce": [0.9] * 120, "up": list(0.9 + gains), "down": list(0.9 - rng.normal(0.03, 0.001, 120))}
    results = replace(fakes.results(study), about=GROWN)
    lines = {loss: words for loss, _, words in verdict_lines(summarise(results))}
    words = "later seeds exclude all that earlier ones left: they are hardly draws from one normal distribution"
    assert lines["up"].startswith("by 1.3")
    assert lines["up"].endswith(f"decided at 6 seeds; {words}")
    assert words not in lines["down"]
    assert words in text(render(results, summarise(results)))


def test_the_projection_of_a_sequence_promises_less_than_that_of_fixed_seeds():
    fixed, grown = (
        {loss: words for loss, _, words in verdict_lines(summarise(replace(fakes.results(STUDY), about=about)))}["mae"]
        for about in ({}, GROWN)
    )
    assert re.search(r"; about \d+ further seeds would probably decide$", fixed)
    assert re.search(r"; about \d+ further seeds would decide if mean and spread stayed as they are$", grown)


def test_a_leader_by_easy_seeds_alone_is_not_called_hard_to_tell_apart():
    study = {"cce": [0.8, 0.81, 0.82, 0.99, 0.99], "other": [0.85, 0.862, 0.871, "diverged", "diverged"]}
    reason = summarise(fakes.results(study)).verdict.reason
    assert "over the seeds that both have it is worse than other (−5.10 points, 95% interval −5.35 to " in reason


def test_two_seeds_say_what_is_needed():
    lines = verdict_lines(summarise(fakes.results({"cce": [0.9, 0.91], "mse": [0.8, 0.83]})))
    ((loss, word, words),) = lines
    assert (loss, word) == ("mse", "undecided")
    assert "2 common seeds, at least 3 are needed" in words


@pytest.mark.parametrize("about", [{}, GROWN])
def test_two_seeds_that_differ_by_the_same_project_nothing(about):
    """They show no spread, so that nobody knows how many more are needed: three may decide."""
    results = replace(fakes.results({"cce": [0.9, 0.91], "same": [0.9, 0.91], "up": [0.95, 0.96]}), about=about)
    comparison = summarise(results)
    assert [words for _, _, words in verdict_lines(comparison)] == ["2 common seeds, at least 3 are needed"] * 2
    assert [row.cells[-1][0] for row in verdict_rows(comparison)] == ["unknown"] * 2
    assert "> 200" not in text(render(results, comparison))


def test_too_few_seeds_for_the_exact_tests_are_named():
    words = too_few(summarise(fakes.results({"cce": [0.9, 0.91, 0.92], "mse": [0.8, 0.83, 0.85]})))
    assert "fewer than 6 seeds" in words
    assert "mse has 3" in words
    assert too_few(summarise(fakes.results(STUDY))) == ""


@pytest.mark.parametrize("about", [{}, GROWN])
def test_equal_and_constant_differences_are_told(about):
    study = {"cce": [0.9, 0.91, 0.92, 0.9], "same": [0.9, 0.91, 0.92, 0.9], "up": [0.91, 0.92, 0.93, 0.91]}
    words = said(replace(fakes.results(study), about=about))
    if about:
        assert "same undecided: all 4 seeds differ by the same 0.00 points: no spread to judge by" in words
    else:
        assert "same equivalent: all 4 seeds are equal to the last digit, as are those of networks that" in words
        assert "up better: by 1.00 points; every seed differs by the same, so the spread is not known" in words


def test_a_diverged_loss_stands_undecided_with_what_is_needed():
    results = fakes.results({"cce": [0.9, 0.91, 0.92], "mae": ["diverged"] * 3})
    assert "mae undecided: 0 common seeds, at least 3 are needed" in said(results)
    assert "mae" in text(render(results, summarise(results)))


def test_hostile_names_are_shown_and_not_obeyed():
    results = fakes.hostile_results()
    page = render(results, summarise(results))
    assert "<script>alert" not in page
    assert "Each loss against" in page

"""Each loss against the baseline in words: for the terminal's caption, and for the page's table of details."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from adma.bench.report.cells import DASH, estimate_cell, is_fraction, p_words
from adma.bench.statistics import (
    BETTER,
    EQUIVALENT,
    MIN_SEEDS,
    UNDECIDED,
    WORSE,
    Comparison,
    Estimate,
    Judgement,
    LossSummary,
    Watched,
    percent,
    signed,
)
from adma.bench.statistics.comparison import direction
from adma.bench.statistics.verdicts import FURTHER_CAP


@dataclass(frozen=True)
class VerdictRow:
    """One loss's line of the table of details: headings are HEADINGS, or GROWN_HEADINGS where seeds were added."""

    loss: str
    verdict: str
    cells: tuple[tuple[str, str], ...]


HEADINGS = (
    "Difference, at Holm's level",
    "Bootstrap",
    "Student's t: p",
    "p, Holm",
    "Wilcoxon: p",
    "Permutation: p",
    "Not equivalent: p, Holm",
    "Effect size g",
    "P(improvement)",
    "Further seeds",
)
GROWN_HEADINGS = (
    "Difference, confidence sequence",
    "Decided at",
    "Anytime-valid p",
    "Effect size g",
    "P(improvement)",
    "Further seeds",
)

_BROKEN = "; later seeds exclude all that earlier ones left: they are hardly draws from one normal distribution"


def verdict_lines(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Loss, verdict and the rest of a sentence, for every loss but the baseline, in the study's order."""
    return [
        (summary.loss, stands.verdict, sentence(stands, comparison))
        for summary in comparison.losses
        if (stands := summary.stands) is not None
    ]


def rope_words(comparison: Comparison) -> str:
    """`0.2 points`, `0.01 nats`: what counts as no difference."""
    measure = comparison.metric.partition("_")[2]
    if is_fraction(comparison.metric):
        return f"{100 * comparison.rope:g} points"
    return f"{comparison.rope:g}{' nats' if measure.startswith('nll') else ''}"


def verdict_heading(comparison: Comparison) -> str:
    """What the verdicts are about."""
    against = f"Against {comparison.baseline}, seed by seed (less than {rope_words(comparison)} is of no account"
    growth = comparison.growth
    if growth is None:
        return f"{against}):"
    looks = f"{growth.looks} look{'s' * (growth.looks != 1)}"
    return f"{against}; {looks}, error rate held over all of them):"


def sentence(stands: Judgement | Watched, comparison: Comparison) -> str:
    """What a verdict means, after its word."""
    broken = isinstance(stands, Watched) and stands.broken
    return _sentence(stands, comparison) + (_BROKEN if broken else "")


def _sentence(stands: Judgement | Watched, comparison: Comparison) -> str:
    rope = rope_words(comparison)
    if isinstance(stands, Watched) and _disowned(stands, comparison):
        mean = estimate_cell(replace(stands.estimate, interval=None), comparison.metric).partition(" [")[0]
        unit = " points" if is_fraction(comparison.metric) else ""
        return (
            f"decided at {stands.decided_at} seeds, but the mean over all {stands.estimate.n} is {mean}{unit}: the "
            "seeds since speak against it"
        )
    if stands.verdict in (BETTER, WORSE):
        words = f"by {_size(stands.estimate.mean, comparison.metric)}{_at(stands)}"
        if stands.negligible:
            words += f"; shown, but less than {rope}, so of no account"
        elif stands.constant:
            words += "; every seed differs by the same, so the spread is not known"
        return words
    if stands.verdict == EQUIVALENT:
        if stands.constant:
            n = stands.estimate.n
            return f"all {n} seeds are equal to the last digit, as are those of networks that learned nothing"
        return f"the difference is shown to be less than {rope}{_at(stands)}"
    return f"{_doubt(stands, comparison)}{_further(stands)}"


def _disowned(watched: Watched, comparison: Comparison) -> bool:
    """Whether all seeds together have a mean that their verdict excludes.

    A verdict stays where seeds are added for other losses. A loss that gains a little and then collapses in one seed is
    such a case.
    """
    gain = direction(comparison.metric) * watched.estimate.mean
    if watched.verdict == EQUIVALENT:
        return abs(gain) >= watched.rope
    return (watched.verdict == BETTER and gain <= 0) or (watched.verdict == WORSE and gain >= 0)


def _doubt(stands: Judgement | Watched, comparison: Comparison) -> str:
    n = stands.estimate.n
    if n < MIN_SEEDS:
        return f"{n} common seed{'s' * (n != 1)}, at least {MIN_SEEDS} are needed"
    if stands.constant:
        return (
            f"all {n} seeds differ by the same {_size(stands.estimate.mean, comparison.metric)}: no spread to judge by"
        )
    if stands.estimate.interval is None:
        return f"{n} seeds are too few for this rule to tell"
    scale, digits = (100, 2) if is_fraction(comparison.metric) else (1, 4)
    low, high = (signed(scale * end, digits) for end in stands.estimate.interval)
    unit = " points" if is_fraction(comparison.metric) else ""
    return f"may be anything from {low} to {high}{unit}"


def _projected(stands: Judgement | Watched) -> bool:
    """Whether the seeds show a spread to project from: one seed does not, nor do two that differ by the same."""
    return stands.estimate.n >= 2 and stands.estimate.sd > 0


def _further(stands: Judgement | Watched) -> str:
    if not _projected(stands):
        return ""
    if stands.further is None:
        return f"; more than {FURTHER_CAP} further seeds would be needed"
    # The sequence is projected to where it ends at 0 or at the rope, the fixed rule to where its power is POWER.
    decide = "decide if mean and spread stayed as they are" if isinstance(stands, Watched) else "probably decide"
    return f"; about {stands.further} further seed{'s' * (stands.further != 1)} would {decide}"


def _at(stands: Judgement | Watched) -> str:
    return f", decided at {stands.decided_at} seeds" if isinstance(stands, Watched) else ""


def _size(mean: float, metric: str) -> str:
    return f"{100 * abs(mean):.2f} points" if is_fraction(metric) else f"{abs(mean):.4f}"


def verdict_rows(comparison: Comparison) -> list[VerdictRow]:
    """The table of details, in the study's order."""
    rows = []
    for summary in comparison.losses:
        judgement, watched, found = summary.judgement, summary.watched, summary.paired
        if judgement is None or found is None:
            continue
        g = DASH if found.effect is None else signed(found.effect.g, 2)
        improvement = (DASH, "")
        if found.improvement is not None:
            interval = found.improvement.interval
            improvement = (
                f"{found.improvement.probability:.2f}",
                "" if interval is None else f"[{interval[0]:.2f}, {interval[1]:.2f}]",
            )
        if watched is not None:
            cells: tuple[tuple[str, str], ...] = (
                _with_level(watched.estimate, comparison.metric),
                (f"{watched.decided_at} seeds" if watched.decided_at else DASH, ""),
                (p_words(watched.p), ""),
                (g, ""),
                improvement,
                (_further_cell(watched), ""),
            )
        else:
            redrawn = Estimate(summary.n, found.estimate.mean, math.nan, found.bootstrap, comparison.level)
            ends = estimate_cell(redrawn, comparison.metric).partition(" ")[2] if found.bootstrap else DASH
            cells = (
                _with_level(judgement.estimate, comparison.metric),
                ("", ends),
                *((p_words(p), "") for p in (judgement.p, judgement.p_holm)),
                *((p_words(test.p), "") for test in (found.wilcoxon, found.permutation)),
                (p_words(judgement.q_holm), ""),
                (g, ""),
                improvement,
                (_further_cell(judgement), ""),
            )
        stands = watched or judgement
        rows.append(VerdictRow(summary.loss, stands.verdict, cells))
    return rows


def _with_level(estimate: Estimate, metric: str) -> tuple[str, str]:
    value, bracket, interval = estimate_cell(estimate, metric).partition(" [")
    level = f", {percent(estimate.level)}" if estimate.interval is not None else ""
    return value, f"{bracket.strip()}{interval}{level}"


def _further_cell(stands: Judgement | Watched) -> str:
    if stands.verdict != UNDECIDED:
        return DASH
    if not _projected(stands):
        return "unknown"
    return f"> {FURTHER_CAP}" if stands.further is None else f"≈ {stands.further}"


def too_few(comparison: Comparison) -> str:
    """What the exact tests cannot say from so few seeds, with every loss that it concerns; empty if they can."""
    if comparison.growth is not None:
        return ""
    weak = [
        (summary.loss, summary.paired.wilcoxon)
        for summary in comparison.losses
        if summary.paired is not None and summary.paired.wilcoxon.too_few
    ]
    if not weak:
        return ""
    pairs = ", ".join(f"{loss} has {test.n}" for loss, test in weak)
    test = weak[0][1]
    return (
        f"Wilcoxon's test and the permutation test cannot fall below p = {test.alpha:.4g} from fewer than "
        f"{test.needed} seeds with a difference, whatever the values: {pairs}."
    )


def column_words(summary: LossSummary, comparison: Comparison) -> tuple[str, str]:
    """A loss's cell in the page's main table: the verdict, and what it leaves open."""
    stands = summary.stands
    if stands is None:
        return "baseline", ""
    if stands.verdict == UNDECIDED:
        cell = _further_cell(stands)
        return UNDECIDED, "" if cell == "unknown" else f"{cell} more"
    if isinstance(stands, Watched) and _disowned(stands, comparison):
        return stands.verdict, "seeds since speak against it"
    return stands.verdict, "of no account" if stands.negligible else ""

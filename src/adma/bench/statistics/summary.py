"""From results to a verdict: means, paired differences, and whether one loss is the best.

What the numbers speak of. A seed draws another split, other initial weights and another batch order from ONE
data set. The intervals say how the difference would vary over more such draws; they say nothing about other
data sets. The splits of different seeds share samples, so the draws are not quite independent and the
intervals are, if anything, too narrow for fresh data from the same source. Where the data set states its own
test part, every seed is judged on that one part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from adma._check import nearest
from adma.bench.errors import BenchError
from adma.bench.folder import UNTIL_DECIDED, Results
from adma.bench.result import DIVERGED, DONE, FAILED, MISSING, CellResult
from adma.bench.statistics.comparison import Comparison, Difference, Growth, LossSummary, Trouble, Verdict, direction
from adma.bench.statistics.estimates import check_level, estimate
from adma.bench.statistics.paired import differences
from adma.bench.statistics.sequential import Watched, watch
from adma.bench.statistics.verdicts import MIN_SEEDS, check_rope, judge, rope_of
from adma.bench.statistics.words import difference_in_words, percent, value_in_words

_MEASURES = ("accuracy", "mean_iou", "nll", "brier", "ece")
METRICS = tuple(f"{part}_{name}" for part in ("test", "val") for name in _MEASURES)
SECONDARY = (
    "val_accuracy",
    "test_accuracy",
    "test_mean_iou",
    *(f"test_{name}{kind}" for kind in ("", "_posterior", "_scaled") for name in ("nll", "brier", "ece")),
)


def summarise(
    results: Results,
    *,
    metric: str | None = None,
    baseline: str | None = None,
    level: float = 0.95,
    rope: float | None = None,
) -> Comparison:
    """Compare the losses of a study: each with the baseline (`verdicts`), and the best with all others.

    The loss with the best mean is the winner if every one of its cells is done and its paired difference to
    every other loss, over at least 3 common seeds, has an interval that excludes 0. These intervals are
    Bonferroni-corrected: for k losses their level is `1 - (1 - level) / (k - 1)`. Holm's bounds are never stricter, so
    a winner is better than the baseline by its own verdict, and every loss is worse than a baseline that wins.

    If the results' `about` holds UNTIL_DECIDED, seeds were added by looking: verdicts and the winner's differences are
    then confidence sequences (`sequential`), each at alpha / (k - 1), valid whenever the study stopped, for any metric.

    Args:
        metric: one of METRICS, at the last epoch. Accuracy and mean IoU are better high, nll, brier and ece are better
            low. By default "test_accuracy", or "test_mean_iou" where the data have a label for each pixel.
        baseline: the loss that differences are taken to; by default "cce", or else the study's first loss.
        level: of the intervals, in (0, 1).
        rope: half the width of the region of practical equivalence, in the metric's unit; by default `rope_of(metric)`.

    Raises:
        BenchError: an argument is unknown; the study lists a loss or seed twice; the losses of a seed did not
            share split, initial weights or batch order.
    """
    losses, seeds = results.study.losses, results.study.seeds
    metric = f"test_{results.measure}" if metric is None else metric
    if metric not in METRICS:
        raise BenchError(f"metric {metric!r} is not known{nearest(str(metric), METRICS)}; known: {', '.join(METRICS)}")
    check_level(level)
    rope = rope_of(metric) if rope is None else rope
    check_rope(rope)
    for name, items in (("losses", losses), ("seeds", seeds)):
        if not items:
            raise BenchError(f"the study has no {name}; name at least one")
        if len(set(items)) < len(items):
            raise BenchError(f"the study's {name} hold a value twice ({', '.join(map(str, items))}); name each once")
    baseline = baseline_of(losses, baseline)
    shared = check_fairness(results)
    growth = _growth(results)

    cells = {loss: results.of(loss) for loss in losses}
    values = {loss: _values(cells[loss], metric) for loss in losses}
    higher = direction(metric) > 0
    pairs = {loss: _pairs(values[loss], values[baseline]) for loss in losses if loss != baseline}
    apart = {loss: list(differences(*pair)) for loss, pair in pairs.items()}
    judged = judge(apart, higher_is_better=higher, rope=rope, level=level)
    strict = 1 - (1 - level) / max(1, len(losses) - 1)
    watched: dict[str, Watched] = {}
    if growth is not None:
        watched = {loss: watch(d, rope=rope, alpha=1 - strict, higher_is_better=higher) for loss, d in apart.items()}
    summaries = tuple(
        LossSummary(
            loss=loss,
            values=values[loss],
            estimate=estimate(list(values[loss].values()), level),
            secondary=_secondary([c for c in cells[loss] if c.cell.seed in values[loss]]),
            troubles=_troubles(cells[loss], seeds, values[loss], metric),
            to_baseline=None
            if loss == baseline
            else _difference(loss, baseline, values, level if growth is None else strict, growth is not None),
            judgement=judged.get(loss),
            watched=watched.get(loss),
            _pairs=pairs.get(loss, ((), ())),
            _higher=higher,
        )
        for loss in losses
    )
    verdict = _decide(summaries, values, metric, strict, growth is not None)
    return Comparison(metric, level, baseline, seeds, summaries, verdict, shared, rope, growth)


def baseline_of(losses: Sequence[str], baseline: str | None = None) -> str:
    """The baseline that was asked for, or "cce", or else the first loss.

    Raises:
        BenchError: it is not in the study.
    """
    if baseline is None:
        return "cce" if "cce" in losses else losses[0]
    if baseline not in losses:
        raise BenchError(
            f"baseline {baseline!r} is not in the study{nearest(str(baseline), losses)}; "
            f"its losses: {', '.join(losses)}"
        )
    return baseline


def _growth(results: Results) -> Growth | None:
    plan = results.about.get(UNTIL_DECIDED)
    if not plan:
        return None
    return Growth(plan["start"], plan["step"], plan["max_seeds"], len(results.study.seeds))


def check_fairness(results: Results) -> dict[int, dict[str, str]]:
    """Compare `env["shared"]` of all losses, seed by seed.

    A run that is not done may have ended before it drew everything; it is held to what it did record.

    Returns:
        seed -> hash name -> hash; a seed without any record is left out.

    Raises:
        BenchError: two losses of a seed differ, or a finished run lacks a hash that another one has.
    """
    agreed: dict[int, dict[str, str]] = {}
    of_seeds: dict[int, dict[str, tuple[bool, Mapping[str, Any]]]] = {seed: {} for seed in results.study.seeds}
    for c in results.cells:
        if c.cell.seed in of_seeds:
            of_seeds[c.cell.seed][c.cell.loss] = (c.status == DONE, c.env.get("shared") or {})
    for seed, records in of_seeds.items():
        names = sorted({name for _, shared in records.values() for name in shared})
        for name in names:
            by_hash: dict[str, list[str]] = {}
            for loss, (done, shared) in records.items():
                if name in shared or done:
                    by_hash.setdefault(str(shared.get(name, "no hash")), []).append(loss)
            if len(by_hash) > 1:
                listed = "; ".join(f"{', '.join(losses)}: {value}" for value, losses in by_hash.items())
                raise BenchError(
                    f"seed {seed}: the losses did not share the same {name} ({listed}), so their difference "
                    "may be luck; run the study again in an empty folder, with one version of adma on one machine"
                )
            agreed.setdefault(seed, {})[name] = next(iter(by_hash))
    return agreed


def _values(cells: Sequence[CellResult], metric: str) -> dict[int, float]:
    finals = {c.cell.seed: c.final(metric) for c in cells if c.status == DONE}
    return {seed: value for seed, value in finals.items() if math.isfinite(value)}


def _troubles(
    cells: Sequence[CellResult], seeds: Sequence[int], values: Mapping[int, float], metric: str
) -> tuple[Trouble, ...]:
    by_seed = {c.cell.seed: c for c in cells}
    troubles = []
    for seed in seeds:
        cell = by_seed.get(seed)
        if seed in values:
            continue
        if cell is None or cell.status == MISSING:
            troubles.append(Trouble(seed, MISSING, "not run yet"))
        elif cell.status == DONE:  # counted, so that it cannot vanish from the table
            troubles.append(Trouble(seed, FAILED, f"done, but its last {metric} is {cell.final(metric)}"))
        else:
            troubles.append(Trouble(seed, cell.status, cell.reason or "no reason recorded"))
    return tuple(troubles)


def _secondary(cells: Sequence[CellResult]) -> dict[str, float]:
    if not cells:
        return dict.fromkeys((*SECONDARY, "seconds"), math.nan)
    means = {name: math.fsum(c.final(name) for c in cells) / len(cells) for name in SECONDARY}
    return {**means, "seconds": math.fsum(c.seconds for c in cells) / len(cells)}


def _pairs(a: Mapping[int, float], b: Mapping[int, float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The two losses' values over their common seeds."""
    seeds = [seed for seed in a if seed in b]
    return tuple(a[s] for s in seeds), tuple(b[s] for s in seeds)


def _difference(
    loss: str, other: str, values: Mapping[str, Mapping[int, float]], level: float, grown: bool
) -> Difference:
    seeds = tuple(seed for seed in values[loss] if seed in values[other])
    d = list(differences(*_pairs(values[loss], values[other])))
    return Difference(loss, other, seeds, watch(d, rope=0.0, alpha=1 - level).estimate if grown else estimate(d, level))


def _decide(
    summaries: Sequence[LossSummary],
    values: Mapping[str, Mapping[int, float]],
    metric: str,
    strict: float,
    grown: bool,
) -> Verdict:
    """The winner, if there is one, by intervals at the level `strict`."""
    finished = [s for s in summaries if s.n]
    if not finished:
        return Verdict(None, None, "No run finished, so there is nothing to compare.")
    sign = direction(metric)
    best = max(finished, key=lambda s: sign * s.estimate.mean)
    if len(summaries) == 1:
        return Verdict(
            None, best.loss, f"{best.loss} is the study's only loss, so there is nothing to compare it with."
        )
    others = [s for s in summaries if s is not best]
    differences = tuple(_difference(best.loss, s.loss, values, strict, grown) for s in others)

    obstacles = [f"{best.loss} itself has {_in_words(best.troubles)}"] if best.troubles else []
    few = [d for d in differences if len(d.seeds) < MIN_SEEDS]
    if few:
        listed = ", ".join(f"{len(d.seeds)} with {d.other}" for d in few)
        obstacles.append(f"it has too few finished seeds in common with others ({listed}; {MIN_SEEDS} are needed)")
    unclear = [d for d in differences if d not in few and not _excludes_zero(d, sign)]
    # Shown to be worse: the other one lacks seeds, its hard ones; or a sequence, which keeps what it once excluded.
    worse = [d for d in unclear if _excludes_zero(d, -sign)]
    turned = [d for d in worse if sign * d.estimate.mean > 0]
    kind = "confidence sequence" if grown else "interval"
    for some, say in (
        ([d for d in unclear if d not in worse], "the seeds do not tell it apart from {}"),
        ([d for d in worse if d not in turned], "over the seeds that both have it is worse than {}"),
        (turned, "earlier seeds showed it to be worse than {}, which all together do not bear out"),
    ):
        if some:
            near = min(some, key=lambda d: sign * d.estimate.mean)
            more = f" and {len(some) - 1} more" if len(some) > 1 else ""
            obstacles.append(f"{say.format(near.other)} ({difference_in_words(near.estimate, metric, kind)}){more}")
    superlative = "highest" if sign > 0 else "lowest"
    name = metric.replace("_", " ")
    for short, written in (("nll", "NLL"), ("ece", "ECE"), ("brier", "Brier score"), ("iou", "IoU")):
        name = name.replace(short, written)
    found = f"{best.loss} has the {superlative} mean {name} ({value_in_words(best.estimate.mean, metric)})"
    ended = [(s.loss, [t for t in s.troubles if t.status != MISSING]) for s in others]
    notes = [f"{loss} has {_in_words(troubles)}" for loss, troubles in ended if troubles]
    waiting = sum(s.count(MISSING) for s in others)
    if waiting:
        notes.append(f"{waiting} {'run' if waiting == 1 else 'runs'} of the other losses not run yet")
    note = f" Note: {'; '.join(notes)}." if notes else ""
    if obstacles:
        return Verdict(None, best.loss, f"{found}, but {'; and '.join(obstacles)}.{note}", differences)
    n = min(len(d.seeds) for d in differences)
    against = f"each of the {len(others)} other losses" if len(others) > 1 else others[0].loss
    reason = (
        f"{found}, and the {percent(strict)} {kind} of its difference to {against}, taken seed by seed "
        f"over {'at least ' if n < best.n else ''}{n} seeds, lies wholly {'above' if sign > 0 else 'below'} 0."
    )
    return Verdict(best.loss, best.loss, reason + note, differences)


def _excludes_zero(difference: Difference, sign: int) -> bool:
    interval = difference.estimate.interval
    return interval is not None and min(sign * interval[0], sign * interval[1]) > 0


def _in_words(troubles: Sequence[Trouble]) -> str:
    parts = []
    for status in (DIVERGED, FAILED, MISSING):
        seeds = [str(t.seed) for t in troubles if t.status == status]
        if seeds:
            runs = "run" if len(seeds) == 1 else "runs"
            parts.append(f"{len(seeds)} {status} {runs} (seed{'s' * (len(seeds) > 1)} {', '.join(seeds)})")
    return ", ".join(parts)

"""What a study's variants change, paired by seed, and what the paper says of its experiments in words, beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adma.bench.folder import Results
from adma.bench.printed import DATASET_TITLES, FIRST_EPOCH_MNIST, LOW_RATE, RESNET34, ROLE_TITLES, ROLES, SPLIT
from adma.bench.report.replay import Effect
from adma.bench.result import DONE
from adma.bench.statistics import Estimate, estimate, signed
from adma.bench.study import Entry
from adma.bench.traits import measure

LEVEL = 0.95


def role_of(loss: str) -> str:
    """The paper's name of a loss if it is one of the paper's four, else its spec."""
    name = loss.partition(":")[0].partition(",")[0]
    return name if name in ROLES else loss


def finals(results: Results, metric: str | None = None) -> dict[str, dict[int, float]]:
    """Role -> seed -> a measure after the last epoch, by default what the study compares by.

    A second Adma of a study goes by its spec.
    """
    metric = f"test_{results.measure}" if metric is None else metric
    found: dict[str, dict[int, float]] = {}
    for loss in results.study.losses:
        role = role_of(loss)
        found[loss if role in found else role] = {
            c.cell.seed: c.final(metric) for c in results.of(loss) if c.status == DONE and np.isfinite(c.final(metric))
        }
    return found


def effects(
    entries: Sequence[Entry], all_results: Mapping[str, Results], metric: str | None = None
) -> tuple[Effect, ...]:
    """Every variant against the first of its data set: each loss, and Adma's lead over cross-entropy.

    Args:
        metric: that the document compares by; by default each study's own.
    """
    found = []
    for data in dict.fromkeys(e.data for e in entries):
        of = [e for e in entries if e.data == data and e.name in all_results]
        for other in of[1:]:
            here, base = (finals(all_results[e.name], metric) for e in (other, of[0]))
            rows = {role: (here[role], base[role]) for role in here if role in base}
            if {"adma", "cce"} <= set(rows):
                rows["adma minus cce"] = tuple(_lead(values) for values in (here, base))  # type: ignore[assignment]
            found += [
                Effect(DATASET_TITLES.get(data, data), other.variant, of[0].variant, role, _difference(*pair))
                for role, pair in rows.items()
            ]
    return tuple(found)


def claims(name: str, entries: Sequence[Entry], all_results: Mapping[str, Results]) -> tuple[tuple[str, str], ...]:
    """What the paper says in words of a published experiment, and ours; nothing for other studies.

    Args:
        name: of the document, such as "splits".
    """
    pairs = [(e, all_results[e.name]) for e in entries if e.name in all_results]
    return tuple(claim for entry, results in pairs for claim in _CLAIMS.get(name, _none)(entry, results))


def _none(entry: Entry, results: Results) -> list[tuple[str, str]]:
    return []


def _first_epoch(entry: Entry, results: Results) -> list[tuple[str, str]]:
    if entry.data != "mnist":
        return []
    found = []
    for loss in results.study.losses:
        role = role_of(loss)
        if role in FIRST_EPOCH_MNIST:
            values = [measure(c, "first_epoch") for c in results.of(loss) if c.status == DONE]
            said = f"MNIST, first epoch, {ROLE_TITLES[role]}: about {FIRST_EPOCH_MNIST[role]:g}%"
            found.append((said, _percent(estimate([v for v in values if np.isfinite(v)], LEVEL))))
    return found


def _resnet(entry: Entry, results: Results) -> list[tuple[str, str]]:
    values = finals(results).get("adma", {})
    if entry.data not in RESNET34 or entry.variant:
        return []
    ours = _percent(estimate([1 - v for v in values.values()], LEVEL))
    return [(f"{DATASET_TITLES[entry.data]}, ResNet34, error of Adma: {RESNET34[entry.data]:g}%", ours)]


def _split(entry: Entry, results: Results) -> list[tuple[str, str]]:
    if entry.variant != f"share_{SPLIT.at:.2f}":
        return []
    said = f"share {SPLIT.at:g}: Adma leads CCE by about {SPLIT.lead:g} points on average"
    return [(said, f"{DATASET_TITLES.get(entry.data, entry.data)}: {_points(_lead(finals(results)))}")]


def _low_rate(entry: Entry, results: Results) -> list[tuple[str, str]]:
    optimizer = results.study.setting.optimizer
    claimed = optimizer == "sgd" or entry.data in LOW_RATE.adam_leads
    if results.study.setting.lr != LOW_RATE.lr or not claimed:
        return []
    values = finals(results)
    rivals = {role: estimate(list(of.values()), LEVEL).mean for role, of in values.items() if role != "adma" and of}
    if not rivals:
        return []
    best = max(rivals, key=lambda role: rivals[role])
    said = f"learning rate {LOW_RATE.lr:g}, {optimizer}: Adma exceeds every other loss"
    lead = _points(_paired(values.get("adma", {}), values[best]))
    return [
        (said, f"{DATASET_TITLES.get(entry.data, entry.data)}: {lead} to {ROLE_TITLES.get(best, best)}, the best other")
    ]


_CLAIMS = {
    "table1": _first_epoch,
    "figure3": _first_epoch,
    "resnet34": _resnet,
    "splits": _split,
    "low_lr": _low_rate,
}


def _lead(values: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    return _paired(values.get("adma", {}), values.get("cce", {}))


def _paired(left: Mapping[int, float], right: Mapping[int, float]) -> dict[int, float]:
    return {seed: left[seed] - right[seed] for seed in left if seed in right}


def _difference(left: Mapping[int, float], right: Mapping[int, float]) -> Estimate:
    return estimate(list(_paired(left, right).values()), LEVEL)


def _points(values: Mapping[int, float]) -> str:
    e = estimate(list(values.values()), LEVEL)
    if e.n == 0:
        return "not measured"
    half = "" if e.interval is None else f" ± {50 * (e.interval[1] - e.interval[0]):.2f}"
    return f"{signed(100 * e.mean, 2)}{half} points (n = {e.n})"


def _percent(e: Estimate) -> str:
    if e.n == 0:
        return "not measured"
    half = "" if e.interval is None else f" ± {50 * (e.interval[1] - e.interval[0]):.2f}"
    return f"{100 * e.mean:.2f}{half}% (n = {e.n})"

"""What Optuna decides, made a function of plain trials: which points come next, and whether a trial goes on.

Trials are proposed in rounds. The points of a round follow from the trials of earlier rounds, from the seed and from
their own place, whatever the order in which this round's trials end, on however many processes: so a search that was
interrupted, or divided, tries what it would have tried anyway. Within a round a point is told of those before it as
running (Optuna's constant liar keeps it away from them).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from scipy.stats import qmc

from adma.bench import _options
from adma.bench.search.space import at, tidy
from adma.bench.search.trials import COMPLETE, PRUNED, Trial
from adma.bench.study import digest
from adma.family import Range

STARTUP = 10  # the loss at its defaults, then points spread evenly; after them Optuna's TPE
_STATES = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED}


@dataclass(frozen=True)
class NoPruning:
    """Every trial is measured with all seeds."""


@dataclass(frozen=True)
class Wilcoxon:
    """Optuna's WilcoxonPruner: a trial ends early if its replicates are worse than the best trial's, seed by seed."""

    p: float = _options.number(0.1, high=0.5, open_low=True, example="0.05")


Pruner = NoPruning | Wilcoxon
AUTO = "auto"
_PRUNERS: dict[str, type] = {"none": NoPruning, "wilcoxon": Wilcoxon}


def choose_pruner(text: str, seeds: int) -> tuple[str, Pruner, str]:
    """The pruner that `--pruner` means: its canonical spec, itself, and a note where "auto" does without.

    Raises:
        BenchError: an unknown one.
    """
    if text != AUTO:
        name, pruner = _options.parse("--pruner", text, _PRUNERS)
        return _options.format_spec(name, pruner), pruner, ""
    wilcoxon = Wilcoxon()
    if can_prune(wilcoxon, seeds):
        return "wilcoxon", wilcoxon, ""
    return "none", NoPruning(), f"no trial is pruned: {why_not(wilcoxon, seeds)}"


def first_decision(pruner: Pruner) -> int:
    """After how many seeds a trial can first be given up: the least n with 2^-n < p, where all n are worse."""
    return math.floor(-math.log2(pruner.p)) + 1 if isinstance(pruner, Wilcoxon) else 0


def can_prune(pruner: Pruner, seeds: int) -> bool:
    """Whether anything can be saved."""
    return isinstance(pruner, Wilcoxon) and seeds > first_decision(pruner)


def why_not(pruner: Pruner, seeds: int) -> str:
    needed = first_decision(pruner)
    p = pruner.p if isinstance(pruner, Wilcoxon) else 0.0
    return (
        f"Wilcoxon's test can fall below {p:g} after {needed} seeds at the earliest, so with {seeds} it would save "
        f"nothing; --seeds {needed + 1} or more can"
    )


def proposals(
    ranges: Mapping[str, Range],
    defaults: Mapping[str, float],
    history: Sequence[Trial],
    *,
    start: int,
    count: int,
    seed: int,
    label: str,
) -> list[dict[str, float]]:
    """The points of one round.

    Args:
        ranges: parameter -> range.
        defaults: the very first point.
        history: the trials of all earlier rounds, in their order.
        start: the index of the round's first trial.
        count: the round's size.
        seed: of the search.
        label: of the study; other losses draw other points.

    Returns:
        One point a trial, in three significant digits.
    """
    study = mirror(history, ranges)
    found: list[dict[str, float]] = []
    spaced = distributions(ranges)
    for index in range(start, start + count):
        if index == 0 or not ranges:
            params = dict(defaults)
        elif index < STARTUP:
            params = _spread(ranges, index, seed, label)
        else:
            study.sampler = _sampler(seed, label, index)
            asked = study.ask(dict(spaced)).params
            params = {key: tidy(r, asked[key]) for key, r in ranges.items()}
        found.append(params)
        if index < STARTUP:
            study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=dict(spaced)))
    return found


def gives_up(
    pruner: Pruner, ranges: Mapping[str, Range], history: Sequence[Trial], values: Mapping[int, float]
) -> bool:
    """Whether a trial is given up after some of its replicates.

    Args:
        ranges: parameter -> range.
        history: the trials of all earlier rounds.
        values: seed -> accuracy of the replicates so far.
    """
    if not isinstance(pruner, Wilcoxon) or len(values) < first_decision(pruner):
        return False
    trial = create_trial(state=TrialState.RUNNING, intermediate_values=dict(values))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        judge = optuna.pruners.WilcoxonPruner(p_threshold=pruner.p, n_startup_steps=first_decision(pruner))
    return judge.prune(mirror(history, ranges), trial)


def distributions(ranges: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """The ranges as Optuna knows them."""
    found: dict[str, BaseDistribution] = {}
    for key, r in ranges.items():
        if r.whole:
            found[key] = IntDistribution(int(r.low), int(r.high), log=r.log)
        else:
            found[key] = FloatDistribution(r.low, r.high, log=r.log)
    return found


def mirror(history: Sequence[Trial], ranges: Mapping[str, Range]) -> optuna.Study:
    """A study in memory that holds the complete and the pruned ones of some trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    known = distributions(ranges)
    for trial in history:
        if trial.state in _STATES:
            study.add_trial(
                create_trial(
                    state=_STATES[trial.state],
                    params=dict(trial.params),
                    distributions=dict(known),
                    intermediate_values=dict(trial.values),
                    value=trial.value if trial.state == COMPLETE else None,
                )
            )
    return study


def _spread(ranges: Mapping[str, Range], index: int, seed: int, label: str) -> dict[str, float]:
    """The point at a place of a scrambled Halton sequence: even over the space however few there are."""
    points = qmc.Halton(len(ranges), scramble=True, seed=_seed(seed, label)).random(index)
    return {key: tidy(r, at(r, float(u))) for (key, r), u in zip(ranges.items(), points[-1], strict=True)}


def _sampler(seed: int, label: str, index: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(
        seed=_seed(seed, label, index), n_startup_trials=STARTUP, multivariate=True, constant_liar=True
    )


def _seed(*names: int | str) -> int:
    return int(digest(list(names)), 16) % 2**32

"""The course of training in numbers: what the paper claims of it, measured from one study.

The paper reads off its Figure 3 that Adma starts better, fluctuates less and learns faster than other losses, and
from its splits that it overfits less. Each claim is here one number a run, a trait:

    first_epoch   validation accuracy after epoch 1
    fluctuation   standard deviation (n - 1 in the denominator) of the changes of validation accuracy from one epoch
                  to the next, over the changes that lead into an epoch e > E/2 of E epochs; a steady rise, however
                  steep, counts as no fluctuation; NaN for E < 4
    gap           training accuracy minus validation accuracy, both of the last epoch. The training accuracy is what
                  was met while training, before each step and with augmentation and dropout on, so a negative gap
                  is common: compare gaps between losses, not with 0
    auc           mean validation accuracy over all epochs, the area under the curve: high for what learns fast

Accuracies are fractions. Losses are compared seed by seed, as in `statistics`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adma._check import nearest
from adma.bench.errors import BenchError
from adma.bench.folder import Results
from adma.bench.result import DONE, CellResult
from adma.bench.statistics import Difference, Estimate, check_fairness, estimate

TRAITS = ("first_epoch", "fluctuation", "gap", "auc")
MIN_EPOCHS = 4  # for fluctuation: two changes


@dataclass(frozen=True)
class Trait:
    """One trait of one loss.

    name: one of TRAITS.
    part: "val", or "test" where the study has no validation part.
    values: seed -> value, for the runs that are done and have one.
    estimate: of their mean.
    to_baseline: the paired difference to the baseline; None for the baseline itself.
    not_done: how many cells of the loss diverged, failed or have not run: they have no value.
    undefined: how many are done, but have no finite value (too few epochs, an accuracy that was not measured).
    """

    name: str
    loss: str
    part: str
    values: Mapping[int, float]
    estimate: Estimate
    to_baseline: Difference | None
    not_done: int
    undefined: int


def traits(results: Results, baseline: str = "cce", level: float = 0.95) -> tuple[Trait, ...]:
    """Every trait of every loss of a study, trait by trait in the order of TRAITS, losses in the study's order.

    Args:
        baseline: the loss that differences are taken to, as the study spells it.
        level: of the t-intervals, in (0, 1).

    Raises:
        BenchError: the baseline is not in the study; the level is not in (0, 1); the losses of a seed did not share
            split, initial weights or batch order.
    """
    losses = results.study.losses
    if baseline not in losses:
        raise BenchError(
            f"baseline {baseline!r} is not in the study{nearest(str(baseline), losses)}; "
            f"its losses: {', '.join(losses)}"
        )
    if not 0.0 < level < 1.0:
        raise BenchError(f"level must lie between 0 and 1, both excluded, got {level!r}; usual is 0.95")
    check_fairness(results)
    part = _part(results)
    done = {loss: [c for c in results.of(loss) if c.status == DONE] for loss in losses}
    found = []
    for name in TRAITS:
        measured = {loss: {c.cell.seed: measure(c, name, part) for c in done[loss]} for loss in losses}
        values = {loss: {s: v for s, v in of.items() if math.isfinite(v)} for loss, of in measured.items()}
        for loss in losses:
            seeds = tuple(s for s in values[loss] if s in values[baseline])
            paired = estimate([values[loss][s] - values[baseline][s] for s in seeds], level)
            found.append(
                Trait(
                    name=name,
                    loss=loss,
                    part=part,
                    values=values[loss],
                    estimate=estimate(list(values[loss].values()), level),
                    to_baseline=None if loss == baseline else Difference(loss, baseline, seeds, paired),
                    not_done=len(results.study.seeds) - len(done[loss]),
                    undefined=len(done[loss]) - len(values[loss]),
                )
            )
    return tuple(found)


def measure(cell: CellResult, name: str, part: str = "val") -> float:
    """One trait of one finished run; NaN where it is not defined.

    Args:
        name: one of TRAITS.
        part: "val" or "test".

    Raises:
        BenchError: a name that is not known.
    """
    if name not in TRAITS:
        raise BenchError(f"trait {name!r} is not known{nearest(str(name), TRAITS)}; known: {', '.join(TRAITS)}")
    accuracy = np.asarray(cell.epochs.get(f"{part}_accuracy", []), dtype=np.float64)
    n = len(accuracy)
    if n == 0:
        return math.nan
    if name == "first_epoch":
        return float(accuracy[0])
    if name == "gap":
        return cell.final("train_accuracy") - cell.final(f"{part}_accuracy")
    if name == "auc":
        return float(accuracy.mean())
    if n < MIN_EPOCHS:
        return math.nan
    changes = np.diff(accuracy)  # changes[i] leads into epoch i + 2
    return float(changes[n // 2 - 1 :].std(ddof=1))


def _part(results: Results) -> str:
    """The validation part, unless no finished run was measured on one."""
    for part in ("val", "test"):
        column = f"{part}_accuracy"
        if any(np.isfinite(c.epochs.get(column, np.array([]))).any() for c in results.cells if c.status == DONE):
            return part
    return "val"

"""How good each loss's probabilities are over the seeds: of the softmax, recovered from it, at a fitted temperature.

Recovered: by the loss's own map, with nothing fitted. Scaled: the softmax at the temperature that the validation
part's labels ask for. Differences are taken seed by seed, so they are sharper than the means' intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adma.bench.folder import Results
from adma.bench.result import DONE, CellResult
from adma.bench.statistics import Estimate, estimate

MEASURES = ("nll", "brier", "ece")
KINDS: Mapping[str, str] = {"softmax": "", "recovered": "_posterior", "scaled": "_scaled"}  # -> suffix of a column
PAIRS = (("recovered", "softmax"), ("recovered", "scaled"))


@dataclass(frozen=True)
class Probabilities:
    """One loss's probabilities on the test part after the last epoch; every measure is better low.

    done: its finished runs.
    means: (kind, measure) -> the mean over those of them where it is finite; `n` says how many, 0 for a kind that
        the loss does not have.
    differences: (kind, other kind, measure) -> kind minus other, over the seeds that have both.
    """

    loss: str
    done: int
    means: Mapping[tuple[str, str], Estimate]
    differences: Mapping[tuple[str, str, str], Estimate]

    def partial(self, kind: str) -> bool:
        """Whether some finished run, but not every one, has this kind of probabilities with finite measures."""
        counts = [self.means[kind, measure].n for measure in MEASURES]
        return max(counts) > 0 and min(counts) < self.done


def probabilities(results: Results, *, level: float = 0.95) -> tuple[Probabilities, ...]:
    """The quality of every loss's probabilities, in the study's order.

    Args:
        results: of a study.
        level: of Student's t-intervals, in (0, 1).
    """
    return tuple(_of(loss, [c for c in results.of(loss) if c.status == DONE], level) for loss in results.study.losses)


def _of(loss: str, cells: Sequence[CellResult], level: float) -> Probabilities:
    finals = {
        (kind, measure): [c.final(f"test_{measure}{suffix}") for c in cells]
        for kind, suffix in KINDS.items()
        for measure in MEASURES
    }
    differences = {
        (kind, other, measure): [a - b for a, b in zip(finals[kind, measure], finals[other, measure], strict=True)]
        for kind, other in PAIRS
        for measure in MEASURES
    }
    return Probabilities(
        loss,
        len(cells),
        {key: _finite(values, level) for key, values in finals.items()},
        {key: _finite(values, level) for key, values in differences.items()},
    )


def _finite(values: Sequence[float], level: float) -> Estimate:
    return estimate([v for v in values if math.isfinite(v)], level)

"""A trial of a search, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

COMPLETE, PRUNED, FAILED, RUNNING = "complete", "pruned", "failed", "running"


@dataclass(frozen=True)
class Trial:
    """One point of the space with its replicates.

    index: its place in the search, from 0; the budget counts these.
    params: searched parameter -> value, the learning rate among them.
    values: seed -> validation accuracy after the last epoch, a fraction; 0 for a replicate that diverged.
    diverged: the seeds of those.
    epochs: of all its replicates, whether trained for it or found in the store.
    reason: why it failed.
    owner: the process that runs or ran it.
    number: in the storage, which also counts what was abandoned.
    """

    index: int
    params: Mapping[str, float]
    state: str
    values: Mapping[int, float] = field(default_factory=dict)
    diverged: tuple[int, ...] = ()
    epochs: int = 0
    reason: str = ""
    owner: str = ""
    number: int = -1

    @property
    def value(self) -> float:
        """What the search maximises: the mean over the replicates; NaN unless all of them are there."""
        return mean(self.values) if self.state == COMPLETE else math.nan


def mean(values: Mapping[int, float]) -> float:
    return math.fsum(values.values()) / len(values) if values else math.nan


def best(trials: list[Trial]) -> Trial | None:
    """The complete trial with the highest value, the first of equals: a pruned one was never measured in full."""
    complete = [t for t in trials if t.state == COMPLETE]
    return max(complete, key=lambda t: (t.value, -t.index)) if complete else None

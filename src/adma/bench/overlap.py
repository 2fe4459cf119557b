"""Intersection over union of each class over the seeds, beside the class's share of what is trained on."""

from __future__ import annotations

from dataclasses import dataclass

from adma.bench.folder import Results
from adma.bench.result import DONE, CellResult
from adma.bench.statistics import Estimate, estimate


@dataclass(frozen=True)
class ClassOverlap:
    """One class.

    share: of the training part's labels that count, in [0, 1]; the mean over the finished runs.
    iou: loss -> its intersection over union on the test part after the last epoch, over the finished seeds where the
        class is true or predicted anywhere; `n` says how many these are.
    """

    name: str
    share: float
    iou: dict[str, Estimate]


def overlaps(results: Results, *, level: float = 0.95) -> tuple[ClassOverlap, ...]:
    """Every class of the data, in its order; nothing where no run has measured it."""
    done = {
        loss: [c for c in results.of(loss) if c.status == DONE and c.env.get("iou")] for loss in results.study.losses
    }
    runs = [c for cells in done.values() for c in cells]
    if not runs:
        return ()
    names = [str(name) for name in (results.about.get("dataset") or {}).get("classes") or ()]
    number = len(runs[0].env["iou"]["test"])
    names = names if len(names) == number else [str(k) for k in range(number)]
    return tuple(
        ClassOverlap(
            name,
            sum(_share(c, k) for c in runs) / len(runs),
            {
                loss: estimate([v for c in cells if (v := c.env["iou"]["test"][k]) is not None], level)
                for loss, cells in done.items()
            },
        )
        for k, name in enumerate(names)
    )


def _share(cell: CellResult, k: int) -> float:
    counts = cell.env["conditions"]["class_counts"]
    return float(counts[k] / sum(counts))

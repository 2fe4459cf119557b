"""What one training leaves: how it ended, a row an epoch, what it was made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adma.bench.study import Cell

# One row an epoch. Accuracy and calibration error are fractions in [0, 1], nll is in nats, time in seconds.
# brier is sum_j (p_j - y_j)^2, in [0, 2]. Without a suffix a measure is of the softmax; "_posterior" of the
# probabilities that the loss's own map recovers (NaN where it has none); "_scaled" of the softmax at the temperature
# with the least NLL on the validation part (Guo 2017), so it is measured on the test part alone. Measures of the
# training part are by the labels that are trained on, false ones too, so with label noise a high train_accuracy is
# no merit; the test part's labels are always true, the validation part's unless the setting says noisy_val. Of dense
# targets every label that counts is one case. mean_iou is of images with a label for each pixel, else NaN: of each
# class intersection over union, over all pixels of the part, and their mean over the classes that are true or predicted
# anywhere in it.
COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    *(
        f"{part}_{measure}"
        for part in ("val", "test")
        for measure in ("accuracy", "nll", "ece", "nll_posterior", "ece_posterior")
    ),
    *(f"{part}_brier{kind}" for part in ("val", "test") for kind in ("", "_posterior")),
    *(f"test_{measure}_scaled" for measure in ("nll", "brier", "ece")),
    "temperature",
    *(f"{part}_mean_iou" for part in ("val", "test")),
    "seconds",
)
DONE, DIVERGED, FAILED, MISSING = "done", "diverged", "failed", "missing"


@dataclass(frozen=True)
class CellResult:
    """What the store holds of one cell.

    status: "done"; "diverged" (training reached a NaN or infinite loss: a result, never run again);
        "failed" (an error; runs again); "missing" (not run yet).
    epochs: column name -> array with one value an epoch (empty if there is none).
    trace: of a loss whose shape changes: "step" (steps of the optimizer done), "epoch" (the same in epochs, 0.5 in the
        middle of the first) and the value of each parameter from there on; empty for a fixed loss.
    """

    cell: Cell
    status: str
    reason: str = ""
    seconds: float = 0.0
    epochs: Mapping[str, np.ndarray] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    trace: Mapping[str, np.ndarray] = field(default_factory=dict)

    def final(self, column: str) -> float:
        """The last epoch's value, NaN if the cell is not done."""
        values = self.epochs.get(column) if self.status == DONE else None
        return float("nan") if values is None or not len(values) else float(values[-1])

"""What a network is worth on the parts that it was not trained on.

One label a sample: all logits are kept, and `calibration` measures them. Dense targets may have more logits than
memory: they are measured batch by batch, and only sums are kept. Of the logits of the validation part as many are kept
as fix a temperature, at the same positions of every sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from adma.bench.adapted import Adapted
from adma.bench.calibration import BINS, calibration_gaps, fit_temperature, measures, scaled_measures
from adma.bench.data.dataset import IGNORED, Kind
from adma.bench.parallel import Parallel
from adma.torch.flexible import CallLoss
from adma.torch.posterior import log_normalised

EVAL_BATCH = 128  # samples; bounds the memory of evaluation
_PARTS = ("val", "test")
_CHUNK = 2**21  # logits in double precision at a time
_FITTED = 2**18  # logits that a temperature is fitted on: for 10 classes 26,000 labels
_QUALITIES = ("nll", "brier", "ece")

Batch = Callable[[str, slice], Tensor]  # a part's name, places in it -> inputs


class Counts:
    """How many labels of each sample count.

    Args:
        y: (N) or dense (N, ...).
    """

    def __init__(self, y: Tensor) -> None:
        each = (y != IGNORED).flatten(1).sum(1) if y.dim() > 1 else torch.ones_like(y)
        # where all have as many, nothing is read from a GPU
        self.same = int(each[0]) if bool((each == each[0]).all()) else None
        self._each = each

    def of(self, index: Tensor) -> int:
        """Of the samples at these places together."""
        return len(index) * self.same if self.same is not None else int(self._each[index].sum())


class Measuring:
    """Measures a network on "val" and "test".

    Args:
        model: that is trained.
        loss_fn: that it is trained with; its posterior is measured beside the softmax.
        batch_of: the inputs of a part's samples.
        y: the labels of each part, on the device.
        num_classes: C.
        batch_size: of training; dense targets are measured in such batches, for which there is memory.
        seed: of the positions whose logits a temperature is fitted on.
        parallel: the processes that share the samples.
        pulse: a sign of life, after each batch.
    """

    def __init__(
        self, model: nn.Module, loss_fn: CallLoss | Adapted, batch_of: Batch, y: Mapping[str, Tensor], *,
        num_classes: int, batch_size: int, seed: int, parallel: Parallel, pulse: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._model, self._loss_fn, self._batch_of, self._y = model, loss_fn, batch_of, y
        self._num_classes, self._parallel, self._pulse = num_classes, parallel, pulse
        self._kind = Kind(tuple(y["val"].shape[1:]))
        self._size = min(EVAL_BATCH, batch_size) if self._kind.dense else EVAL_BATCH
        self.iou: dict[str, list[float | None]] = {}  # of each class, as measured last; None where it does not occur
        if self._kind.dense:
            each = max(1, _FITTED // num_classes // len(y["val"]))  # positions a sample
            order = torch.randperm(self._kind.positions, generator=torch.Generator().manual_seed(seed))
            self._positions = order[:each].sort().values.to(y["val"].device)

    @torch.no_grad()
    def row(self) -> tuple[dict[str, float], bool]:
        """All measures as columns of `result.COLUMNS`; whether all logits are finite."""
        self._model.eval()
        return self._of_labels() if self._kind.dense else self._of_samples()

    def _of_samples(self) -> tuple[dict[str, float], bool]:
        truth = {part: self._y[part].cpu() for part in _PARTS}
        logits = {
            part: self._parallel.gathered(torch.cat(list(self._logits(part))), len(truth[part])).cpu()
            for part in _PARTS
        }
        row = {
            f"{part}_{name}": value
            for part in _PARTS
            for name, value in measures(logits[part], truth[part], self._loss_fn).items()
        }
        row |= scaled_measures(logits["val"], truth["val"], logits["test"], truth["test"])
        return row, all(bool(torch.isfinite(some).all()) for some in logits.values())

    def _of_labels(self) -> tuple[dict[str, float], bool]:
        found: dict[str, float] = {}
        finite, temperature = True, math.nan
        for part in _PARTS:
            tally = Tally(self._num_classes, self._loss_fn, temperature)
            kept = []
            start = self._parallel.bounds(len(self._y[part]))[0]
            for logits in self._logits(part):
                tally.add(logits, self._y[part][start : start + len(logits)])
                start += len(logits)
                if part == "val":
                    kept.append(logits.flatten(2)[:, :, self._positions])
            tally.sums = self._parallel.summed(tally.sums)
            finite = finite and tally.finite
            found |= {f"{part}_{name}": value for name, value in tally.measures().items()}
            if self._kind.segments:
                iou = tally.iou()
                found[f"{part}_mean_iou"] = float(iou.nanmean())
                self.iou[part] = [None if math.isnan(value) else value for value in iou.tolist()]
            if part == "val":
                target = self._y[part].flatten(1)[:, self._positions].flatten()
                some = self._parallel.gathered(torch.cat(kept), len(self._y[part])).movedim(1, -1).flatten(0, 1)
                counts = target != IGNORED
                if bool(counts.any()):
                    temperature = fit_temperature(some[counts].cpu(), target[counts].cpu())
                found["temperature"] = temperature
        return found, finite

    def _logits(self, part: str) -> Iterator[Tensor]:
        """Of this process's samples, batch by batch; of none of them there are no rows, but as many columns."""
        start, stop = self._parallel.bounds(len(self._y[part]))
        inputs = partial(self._batch_of, part)
        for i in range(start, max(stop, start + 1), self._size):
            yield self._model(inputs(slice(i, min(i + self._size, stop))))
            self._pulse()


class Tally:
    """Accuracy, quality of probabilities and overlap of labels that come in pieces.

    Args:
        num_classes: C.
        loss_fn: whose recovered posterior is measured beside the softmax.
        temperature: of the scaled softmax, NaN for none.

    `sums` (float64) are added up over pieces and processes. Of the confusion matrix its diagonal and its two margins
    are kept, which is all that the overlap needs: (3 C) numbers and not C^2.
    """

    def __init__(self, num_classes: int, loss_fn: CallLoss | Adapted, temperature: float = math.nan) -> None:
        self._num_classes, self._loss_fn, self._temperature = num_classes, loss_fn, temperature
        self._kinds = [""] + ([] if loss_fn.no_posterior else ["_posterior"])
        self._kinds += [] if math.isnan(temperature) else ["_scaled"]
        self.sums = torch.zeros(1 + 3 * num_classes + len(self._kinds) * (2 + BINS), dtype=torch.float64)

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Take in logits (B, C, ...) with targets (B, ...)."""
        self.sums[0] += (~torch.isfinite(logits)).sum().cpu()
        if not self.finite:
            return
        counts = target.flatten() != IGNORED
        rows, labels = logits.movedim(1, -1).reshape(-1, self._num_classes)[counts], target.flatten()[counts]
        size = max(1, _CHUNK // self._num_classes)
        for some, true in zip(rows.split(size), labels.split(size), strict=True):
            self.sums[1:] += self._of(some.double(), true).cpu()

    def _of(self, logits: Tensor, target: Tensor) -> Tensor:
        predicted = logits.argmax(1)
        numbers = [
            torch.bincount(of, minlength=self._num_classes) for of in (target[predicted == target], target, predicted)
        ]
        found = [torch.cat(numbers).double()]
        for kind in self._kinds:
            if kind == "_posterior":
                assert isinstance(self._loss_fn, CallLoss)
                log_p = log_normalised(self._loss_fn._log_eta(logits))
            else:
                log_p = torch.log_softmax(logits / self._temperature if kind else logits, 1)
            p = log_p.exp()
            right = target[:, None]
            # sum_j (p_j - [j = y])^2 without a one-hot of all classes
            brier = p.square().sum(1) + 1 - 2 * p.gather(1, right).squeeze(1)
            found.append(torch.stack([-log_p.gather(1, right).sum(), brier.sum()]))
            found.append(calibration_gaps(p, target))
        return torch.cat(found)

    @property
    def finite(self) -> bool:
        """Whether all logits so far are."""
        return not bool(self.sums[0])

    def _overlaps(self) -> Tensor:
        """Right, true and predicted labels of each class, (3, C)."""
        return self.sums[1 : 1 + 3 * self._num_classes].reshape(3, -1)

    def measures(self) -> dict[str, float]:
        """As `calibration.measures`, and _scaled ones if there is a temperature; all NaN if a logit is not finite."""
        names = [f"{name}{kind}" for kind in self._kinds for name in _QUALITIES]
        if not self.finite:
            return dict.fromkeys(["accuracy", *names], math.nan)
        right, true, _ = self._overlaps()
        n = float(true.sum())
        of_kinds = self.sums[1 + 3 * self._num_classes :].reshape(len(self._kinds), -1)
        values = [
            float(value) / n for nll, brier, *gaps in of_kinds for value in (nll, brier, torch.stack(gaps).abs().sum())
        ]
        return {"accuracy": float(right.sum()) / n, **dict(zip(names, values, strict=True))}

    def iou(self) -> Tensor:
        """Intersection over union of each class over all labels, (C); NaN for a class neither true nor predicted."""
        right, true, predicted = self._overlaps()
        found = right / (true + predicted - right)  # 0 / 0 is NaN
        return found if self.finite else torch.full_like(found, math.nan)

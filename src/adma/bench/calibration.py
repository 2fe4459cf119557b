"""How good class probabilities are: of the softmax, of the posterior a loss recovers, at a fitted temperature.

Pure functions of tensors; they run after every epoch, so each is a few passes over the logits. The few lines of the
calibration error are written here because torchmetrics, which the tests hold them to, takes three seconds to import,
in every worker anew.
"""

from __future__ import annotations

import math

import torch
from scipy.optimize import brentq
from torch import Tensor

from adma.bench.adapted import Adapted
from adma.torch.flexible import CallLoss
from adma.torch.posterior import log_normalised

BINS = 15  # of the expected calibration error, as in Guo 2017
TEMPERATURES = (1e-4, 1e4)  # beyond them the labels do not fix a temperature: it runs to 0 or to infinity
_QUALITIES = ("nll", "brier", "ece")


def brier(p: Tensor, target: Tensor) -> Tensor:
    """The Brier score `mean_i sum_j (p_ij - [j = y_i])^2`, in [0, 2] (Brier 1950), a scalar.

    Args:
        p: probabilities (N, C).
        target: class indices (N).
    """
    return (p - torch.nn.functional.one_hot(target, p.shape[1])).square().sum(1).mean()


def calibration_error(p: Tensor, target: Tensor) -> Tensor:
    """The expected calibration error of the most probable class (Naeini 2015, Guo 2017), in [0, 1], a scalar.

    `sum_b |B_b| / N |accuracy(B_b) - mean confidence(B_b)|` over BINS bins of equal width; a confidence on an edge
    belongs to the bin above it.

    Args:
        p: probabilities (N, C).
        target: class indices (N).
    """
    return calibration_gaps(p, target).abs().sum() / len(target)


def calibration_gaps(p: Tensor, target: Tensor) -> Tensor:
    """Right answers minus confidence, summed over each bin of `calibration_error`, (BINS): pieces of data add up.

    Args:
        p: probabilities (N, C).
        target: class indices (N).
    """
    confidence, predicted = p.max(1)
    edges = torch.linspace(0, 1, BINS + 1, dtype=p.dtype, device=p.device)
    place = (torch.bucketize(confidence, edges, right=True) - 1).clamp(max=BINS - 1)
    gap = (predicted == target).to(p.dtype) - confidence
    return torch.zeros(BINS, dtype=p.dtype, device=p.device).index_add_(0, place, gap)


def quality(log_p: Tensor, target: Tensor) -> dict[str, float]:
    """NLL (nats), Brier score and expected calibration error (top label, 15 bins of equal width; a fraction).

    Args:
        log_p: logarithms of probabilities (N, C), so that one too small for a float still has its true NLL.
        target: class indices (N).
    """
    p = torch.exp(log_p)
    return {
        "nll": -float(log_p.gather(1, target[:, None]).mean()),
        "brier": float(brier(p, target)),
        "ece": float(calibration_error(p, target)),
    }


def measures(logits: Tensor, target: Tensor, loss_fn: CallLoss | Adapted) -> dict[str, float]:
    """Accuracy, and the quality of the probabilities: of the softmax, and of the posterior that the loss recovers.

    Args:
        logits: (N, C).
        target: class indices (N).
        loss_fn: a training's loss.

    Returns:
        accuracy; nll, brier and ece of the softmax; the same with the suffix _posterior, NaN if the loss determines
        no posterior. All NaN if a logit is not finite.
    """
    found = dict.fromkeys(("accuracy", *_QUALITIES, *(f"{name}_posterior" for name in _QUALITIES)), math.nan)
    if not bool(torch.isfinite(logits).all()):
        return found
    logits = logits.double()
    found["accuracy"] = float((logits.argmax(1) == target).double().mean())
    found |= quality(torch.log_softmax(logits, 1), target)
    if isinstance(loss_fn, CallLoss) and not loss_fn.no_posterior:
        recovered = quality(log_normalised(loss_fn._log_eta(logits)), target)
        found |= {f"{name}_posterior": value for name, value in recovered.items()}
    return found


def fit_temperature(logits: Tensor, target: Tensor) -> float:
    """The T for which `softmax(logits / T)` has the least NLL (Guo, Pleiss, Sun & Weinberger 2017).

    The NLL is convex in 1/T, so its derivative changes sign once; that place is found by Brent's method on log T,
    to a relative 1e-9.

    Args:
        logits: (N, C), held out from training.
        target: class indices (N).

    Returns:
        T, or NaN where no T in `TEMPERATURES` is the best: every label has the largest logit (T runs to 0), the
        logits say nothing or the opposite of the labels (T runs to infinity), or a logit is not finite.
    """
    if not bool(torch.isfinite(logits).all()):
        return math.nan
    logits = logits.double()
    # relative to the true class's: the derivative's sign then survives its rounding, also where it underflows
    gap = logits - logits.gather(1, target[:, None])

    def slope(log_t: float) -> float:
        """The derivative of the NLL in 1/T."""
        return float((torch.softmax(gap * math.exp(-log_t), 1) * gap).sum(1).mean())

    cold, hot = (math.log(t) for t in TEMPERATURES)
    if not (slope(cold) > 0 > slope(hot)):
        return math.nan
    return math.exp(brentq(slope, cold, hot, xtol=1e-9))


def scaled_measures(
    val_logits: Tensor, val_target: Tensor, test_logits: Tensor, test_target: Tensor
) -> dict[str, float]:
    """The temperature that the validation part asks for, and what it makes of the softmax on the test part.

    Args:
        val_logits: (N, C), what the temperature is fitted on.
        val_target: class indices (N).
        test_logits: (M, C), what is measured.
        test_target: class indices (M).

    Returns:
        temperature; test_nll_scaled, test_brier_scaled, test_ece_scaled. All NaN if no temperature is the best, or
        a logit is not finite.
    """
    found = {"temperature": fit_temperature(val_logits, val_target)}
    found |= {f"test_{name}_scaled": math.nan for name in _QUALITIES}
    if math.isfinite(found["temperature"]) and bool(torch.isfinite(test_logits).all()):
        scaled = quality(torch.log_softmax(test_logits.double() / found["temperature"], 1), test_target)
        found |= {f"test_{name}_scaled": value for name, value in scaled.items()}
    return found

"""The quality of probabilities against independent computations, and the temperature against other optimisers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

import adma
from adma.bench.calibration import (
    TEMPERATURES,
    brier,
    calibration_error,
    fit_temperature,
    measures,
    quality,
    scaled_measures,
)
from adma.bench.measuring import Tally

FITTED = ("temperature", "test_nll_scaled", "test_brier_scaled", "test_ece_scaled")


def drawn(scale: float, *, n: int = 500, classes: int = 4, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from the softmax of the logits divided by `scale`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    labels = np.array([rng.choice(classes, p=p) for p in softmax(logits, axis=1)])
    return logits * scale, labels


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def expected_calibration_error(p: np.ndarray, target: np.ndarray) -> float:
    confidence, right = p.max(1), p.argmax(1) == target
    bins = np.clip(np.ceil(confidence * 15) - 1, 0, 14)
    gaps = [abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins)]
    return float(sum(gaps))


def brier_score(p: np.ndarray, target: np.ndarray) -> float:
    return float(np.mean([sum((p[i, j] - (j == y)) ** 2 for j in range(p.shape[1])) for i, y in enumerate(target)]))


def test_measures_against_independent_computations() -> None:
    logits, target = drawn(1.6)
    found = measures(torch.tensor(logits), torch.tensor(target), adma.AdmaLoss(a=0.4))
    p = softmax(logits, axis=1)
    log_eta = (1 - 0.4) * np.log(p) - p**0.4  # THE map of Adma for base e
    eta = softmax(log_eta, axis=1)
    assert found["accuracy"] == pytest.approx((logits.argmax(1) == target).mean())
    for kind, probability in (("", p), ("_posterior", eta)):
        assert found[f"nll{kind}"] == pytest.approx(-np.log(probability[np.arange(500), target]).mean(), rel=1e-9)
        assert found[f"brier{kind}"] == pytest.approx(brier_score(probability, target), rel=1e-9)
        assert found[f"ece{kind}"] == pytest.approx(expected_calibration_error(probability, target), abs=1e-6)
    assert set(found) == {"accuracy", *(f"{m}{k}" for m in ("nll", "brier", "ece") for k in ("", "_posterior"))}


@pytest.mark.parametrize(
    ("loss", "gap", "expected"),
    [
        ("cce", 800.0, 800.0),
        ("poly1:epsilon=2", 800.0, 800.0 - np.log(3)),  # its slope is 1 + 2 p
        ("focal:gamma=2", 300.0, 900.0 - np.log(3)),  # its slope is 3 (1 - p)^2 near p = 1, and 1 near p = 0
    ],
)
def test_a_recovered_probability_that_is_too_small_for_a_float_has_its_nll(
    loss: str, gap: float, expected: float
) -> None:
    logits, target, made = torch.tensor([[gap, 0.0]]), torch.tensor([1]), adma.make_loss(loss)
    tally = Tally(2, made)
    tally.add(logits[:, :, None], target[:, None])
    for found in (measures(logits, target, made), tally.measures()):
        assert found["nll"] == pytest.approx(gap)
        assert found["nll_posterior"] == pytest.approx(expected)
        assert found["brier_posterior"] == pytest.approx(2.0)


def test_measures_have_no_posterior_where_the_loss_determines_none() -> None:
    found = measures(torch.randn(20, 3), torch.arange(20) % 3, adma.SquaredHingeLoss())
    assert all(np.isnan(found[f"{m}_posterior"]) for m in ("nll", "brier", "ece"))
    assert found["nll"] > 0


def test_measures_of_logits_that_are_not_finite_are_not_numbers() -> None:
    logits, target = torch.randn(20, 3), torch.arange(20) % 3
    logits[7, 1] = torch.inf
    assert all(np.isnan(v) for v in measures(logits, target, adma.AdmaLoss()).values())
    assert set(measures(logits, target, adma.AdmaLoss())) == set(measures(torch.randn(20, 3), target, adma.AdmaLoss()))


def test_the_ends_of_the_brier_score() -> None:
    right, wrong = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    target = torch.tensor([0, 1])
    assert brier(right, target) == 0
    assert brier(wrong, target) == 2
    assert brier(torch.full((2, 2), 0.5), target) == 0.5


def test_a_surely_wrong_sample_has_its_true_nll_and_not_infinity() -> None:
    log_p = torch.log_softmax(torch.tensor([[0.0, 2000.0]], dtype=torch.float64), 1)
    assert quality(log_p, torch.tensor([0]))["nll"] == 2000.0
    assert quality(log_p, torch.tensor([0]))["brier"] == 2.0


# -- temperature --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.003, 0.5, 1.0, 3.0, 200.0])
def test_the_temperature_is_the_one_that_another_optimiser_finds(scale: float) -> None:
    logits, target = drawn(scale)
    found = fit_temperature(torch.tensor(logits), torch.tensor(target))
    other = minimize_scalar(lambda u: nll(logits / math.exp(u), target), bracket=(math.log(scale) - 1, math.log(scale)))
    assert found == pytest.approx(math.exp(other.x), rel=1e-5)
    assert nll(logits / found, target) <= other.fun + 1e-12


def test_it_finds_the_temperature_that_the_labels_were_drawn_with() -> None:
    logits, target = drawn(2.5, n=20_000)
    assert fit_temperature(torch.tensor(logits), torch.tensor(target)) == pytest.approx(2.5, rel=0.03)


@given(st.integers(0, 10_000), st.floats(0.05, 20), st.floats(-50, 50))
@settings(max_examples=30)
def test_it_follows_the_scale_of_the_logits_and_ignores_their_level(seed: int, scale: float, level: float) -> None:
    logits, target = (torch.tensor(v) for v in drawn(1.0, n=60, seed=seed))
    plain = fit_temperature(logits, target)
    assert fit_temperature(scale * logits + level, target) == pytest.approx(scale * plain, rel=1e-6)


def test_float32_logits_are_fitted_in_float64() -> None:
    logits, target = drawn(1.6)
    single = torch.tensor(logits, dtype=torch.float32)
    assert fit_temperature(single, torch.tensor(target)) == fit_temperature(single.double(), torch.tensor(target))


def sure(n: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.arange(n) % 3
    return torch.nn.functional.one_hot(target, 3) + 0.3 * torch.rand(n, 3), target


def test_where_the_labels_fix_no_temperature_it_is_not_a_number() -> None:
    logits, target = sure()
    assert np.isnan(fit_temperature(logits, target))  # all right: sharper is always better
    assert np.isnan(fit_temperature(1e3 * logits, target))  # also where its derivative underflows
    assert np.isnan(fit_temperature(-logits, target))  # against the labels: flatter is always better
    assert np.isnan(fit_temperature(torch.zeros(30, 3), target))  # every temperature is the same
    logits[3, 2] = torch.nan
    assert np.isnan(fit_temperature(logits, target))


@pytest.mark.parametrize("end", [0, 1])
def test_a_temperature_beyond_the_bounds_is_not_replaced_by_the_bound(end: int) -> None:
    logits, target = drawn(1.0)
    for factor, inside in ((0.5, end == 1), (2.0, end == 0)):
        found = fit_temperature(torch.tensor(factor * TEMPERATURES[end] * logits), torch.tensor(target))
        assert np.isfinite(found) == inside


def test_scaled_measures_are_of_the_test_part_at_the_temperature_of_the_validation_part() -> None:
    val, val_target = drawn(3.0, seed=2)
    test, test_target = drawn(0.7, seed=3)
    found = scaled_measures(*map(torch.tensor, (val, val_target, test, test_target)))
    best = minimize_scalar(lambda u: nll(val / math.exp(u), val_target), bracket=(0, 1))
    p = softmax(test / math.exp(best.x), axis=1)
    assert found["temperature"] == pytest.approx(math.exp(best.x), rel=1e-5)
    assert found["test_nll_scaled"] == pytest.approx(nll(test / math.exp(best.x), test_target), rel=1e-5)
    assert found["test_brier_scaled"] == pytest.approx(brier_score(p, test_target), rel=1e-5)
    assert found["test_ece_scaled"] == pytest.approx(expected_calibration_error(p, test_target), abs=1e-5)


def test_without_a_temperature_nothing_is_scaled() -> None:
    logits, target = sure()
    found = scaled_measures(logits, target, torch.randn(5, 3), torch.arange(5) % 3)
    assert set(found) == set(FITTED)
    assert all(np.isnan(v) for v in found.values())
    val, val_target = map(torch.tensor, drawn(1.0))
    broken = scaled_measures(val, val_target, torch.full((5, 4), torch.nan), torch.arange(5) % 3)
    assert np.isfinite(broken["temperature"])
    assert all(np.isnan(broken[name]) for name in FITTED[1:])


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("scale", [0.0, 0.5, 5.0, 50.0])
def test_the_calibration_error_is_that_of_torchmetrics(classes: int, scale: float) -> None:
    """All-equal logits put every confidence on one value, large ones on 1: the edges of the bins too."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    g = torch.Generator().manual_seed(classes)
    p = torch.softmax(scale * torch.randn(500, classes, generator=g), 1)
    target = torch.randint(classes, (500,), generator=g)
    ours = calibration_error(p, target)
    assert float(ours) == pytest.approx(float(multiclass_calibration_error(p, target, classes, n_bins=15)), abs=1e-6)

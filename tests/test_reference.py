"""The NumPy reference against 120-digit arithmetic, and its options against plain sums."""

import warnings

import numpy as np
import pytest
from mpmath import mp, mpf

import exact
from adma import family
from adma import numpy as reference

ROWS = {classes: exact.hard_rows(classes, 12 if classes < 1000 else 4, seed=classes) for classes in (2, 3, 10, 1000)}


@pytest.fixture(scope="module")
def truths():
    return {classes: exact.truth(*rows) for classes, rows in ROWS.items()}


@pytest.mark.parametrize("member", exact.MEMBERS, ids=exact.name)
def test_loss_and_gradient_are_exact(member, truths):
    for classes, (logits, target) in ROWS.items():
        loss = reference.loss(member, logits, target, reduction="none")
        gradient = reference.gradient(member, logits, target, reduction="sum")
        tiny = exact.TINY["float64"]
        assert exact.excess(loss, truths[classes].rows(member), tiny) <= 1e-13
        assert exact.excess(gradient, truths[classes].gradient(member), tiny) <= 1e-13


@pytest.mark.parametrize("member", exact.MEMBERS, ids=exact.name)
def test_soft_targets_are_exact(member):
    rng = np.random.default_rng(3)
    logits, target = rng.uniform(-20, 20, (6, 5)), rng.dirichlet(np.ones(5), 6)
    target[0] = [0, 0, 1, 0, 0]
    weight = rng.uniform(0.5, 2, 5)
    truth = exact.truth(logits, np.zeros(6, dtype=int))
    y = [[mpf(w) * (mpf(v) * mpf("0.9") + mpf("0.1") / 5) for v, w in zip(row, weight, strict=True)] for row in target]
    loss, gradient, size = np.empty(6), np.empty((6, 5)), np.empty((6, 5))
    for i, s in enumerate(truth.s):
        loss[i] = float(mp.fsum(v * exact.loss_of(member, p) for v, p in zip(y[i], s, strict=True)))
        slopes = [v * exact.slope_of(member, p) for v, p in zip(y[i], s, strict=True)]
        total = mp.fsum(slopes)
        gradient[i] = [float(p * total - part) for p, part in zip(s, slopes, strict=True)]
        size[i] = [float(p * total + part) for p, part in zip(s, slopes, strict=True)]
    options = {"weight": weight, "label_smoothing": 0.1}
    got = reference.loss(member, logits, target, reduction="none", **options)
    np.testing.assert_allclose(got, loss, rtol=1e-13)
    # the two terms of a soft target's gradient may cancel: relative to them, not to their difference
    got = reference.gradient(member, logits, target, reduction="sum", **options)
    assert np.max(np.abs(got - gradient) / size) <= 1e-13


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
def test_binary_is_exact(member):
    rng = np.random.default_rng(4)
    logits, target = rng.uniform(-80, 80, 60), rng.integers(0, 2, 60).astype(float)
    loss = reference.binary_loss(member, logits, target, reduction="none")
    gradient = reference.binary_gradient(member, logits, target)
    two = np.stack([np.zeros(60), logits], 1)
    truth = exact.truth(two, target.astype(int))
    assert exact.excess(loss, truth.rows(member), exact.TINY["float64"]) <= 1e-13
    assert exact.excess(gradient, truth.gradient(member)[:, 1], exact.TINY["float64"]) <= 1e-13


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
def test_gradient_is_the_losses(member):
    rng = np.random.default_rng(5)
    logits, target = rng.normal(size=(4, 3, 2)), rng.integers(0, 3, (4, 2))
    target[1, 1] = -100
    options = {"weight": np.array([0.5, 1.0, 2.0]), "label_smoothing": 0.2}
    for reduction in ("mean", "sum"):
        for y in (target, rng.dirichlet(np.ones(3), (4, 2)).transpose(0, 2, 1)):
            gradient = reference.gradient(member, logits, y, reduction=reduction, **options)
            for index in np.ndindex(logits.shape):
                step = np.zeros_like(logits)
                step[index] = 1e-6
                pair = [reference.loss(member, logits + s, y, reduction=reduction, **options) for s in (step, -step)]
                assert gradient[index] == pytest.approx((pair[0] - pair[1]) / 2e-6, rel=1e-6, abs=1e-9)


def test_a_mean_weighs_indices_by_class_and_counts_probabilities_by_row():
    logits = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    rows = reference.loss(family.CrossEntropy(), logits, [0, 1, 0], reduction="none")
    weight = np.array([1.0, 3.0])
    indices = reference.loss(family.CrossEntropy(), logits, [0, 1, 0], weight=weight)
    assert indices == pytest.approx((rows[0] + 3 * rows[1] + rows[2]) / 5)
    hot = np.eye(2)[[0, 1, 0]]
    probabilities = reference.loss(family.CrossEntropy(), logits, hot, weight=weight)
    assert probabilities == pytest.approx((rows[0] + 3 * rows[1] + rows[2]) / 3)


def test_a_mean_over_nothing_is_zero():
    assert reference.loss(family.Adma(), np.zeros((2, 3)), [-100, -100]) == 0
    assert reference.loss(family.Adma(), np.zeros((0, 3)), np.zeros(0, dtype=int)) == 0
    assert not reference.gradient(family.Adma(), np.zeros((2, 3)), [-100, -100]).any()


def test_an_ignored_row_counts_nothing_whatever_it_holds():
    logits = np.array([[1.0, 0.0], [np.nan, np.inf]])
    for smoothing in (0.0, 0.1):
        loss = reference.loss(family.Adma(), logits, [0, -100], label_smoothing=smoothing)
        assert loss == reference.loss(family.Adma(), logits[:1], [0], label_smoothing=smoothing)
        gradient = reference.gradient(family.Adma(), logits, [0, -100], label_smoothing=smoothing)
        assert not gradient[1].any()


def test_an_impossible_target_costs_the_supremum():
    logits = np.array([[-np.inf, 0.0, 1.0], [0.0, -np.inf, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = reference.loss(family.Adma(0.3, 2.0), logits, [0, 0], reduction="none")
        gradient = reference.gradient(family.Adma(0.3, 2.0), logits, [0, 0], reduction="sum")
    assert loss[0] == 1.0  # base - 1
    assert not gradient[0].any()
    assert loss[1] == reference.loss(family.Adma(0.3, 2.0), logits[1:, [0, 2]], [0])


def test_reference_refuses_what_it_does_not_know():
    class Unknown(family.Loss):
        name = "unknown"

    with pytest.raises(TypeError, match="does not know"):
        reference.loss(Unknown(), np.zeros((1, 2)), [0])
    with pytest.raises(ValueError, match="linear in p"):
        reference.posterior(family.MeanAbsoluteError(), np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("error", "target", "options"),
    [
        (IndexError, [-1, 0], {}),
        (IndexError, [3, 0], {}),
        (ValueError, [[0], [1]], {}),
        (ValueError, [0, 1, 1], {}),
        (ValueError, [0, 1], {"reduction": "average"}),
        (ValueError, [0, 1], {"label_smoothing": 3.0}),
    ],
)
def test_reference_refuses_a_call_that_it_would_misread(error, target, options):
    for compute in (reference.loss, reference.gradient):
        with pytest.raises(error, match=next(iter(options), "target")):
            compute(family.Adma(), [[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]], target, **options)

"""Losses and every gradient entry against 120-digit arithmetic, for inputs of every type.

Truth is taken at the already rounded logits, so an error is the implementation's and not the input's.
"""

import numpy as np
import pytest
import torch
from mpmath import mp, mpf

import exact
from adma import functional
from adma.torch.kernels import eager

# the largest relative error of any entry; a half type's own rounding is 2^-9 and 2^-12
LIMIT = {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 4e-3, torch.bfloat16: 4e-3}
COUNT = {2: 24, 3: 24, 10: 24, 1000: 6}


def _tiny(dtype):
    return float(torch.finfo(dtype).tiny)


@pytest.fixture(scope="module")
def cases():
    """By type and number of classes: logits, targets and the truth."""
    found = {}
    for dtype in LIMIT:
        for classes, count in COUNT.items():
            logits, target = exact.hard_rows(classes, count, seed=classes + 1)
            z = torch.tensor(logits).to(dtype)
            found[dtype, classes] = z, torch.tensor(target), exact.truth(z.double().numpy(), target)
    return found


@pytest.mark.parametrize("member", exact.MEMBERS, ids=exact.name)
@pytest.mark.parametrize("dtype", LIMIT, ids=str)
def test_loss_and_gradient_are_exact(member, dtype, cases):
    for classes in COUNT:
        z, target, truth = cases[dtype, classes]
        z = z.clone().requires_grad_()
        rows = functional.flexible_loss(member, z, target, reduction="none")
        (gradient,) = torch.autograd.grad(rows.double().sum(), z)
        assert rows.dtype == gradient.dtype == dtype
        expected = truth.rows(member)
        assert exact.excess(rows.detach().double().numpy(), expected, _tiny(dtype)) <= LIMIT[dtype], classes
        assert exact.excess(gradient.double().numpy(), truth.gradient(member), _tiny(dtype)) <= LIMIT[dtype], classes
        for reduction, true in (("sum", expected.sum()), ("mean", expected.mean())):
            value = functional.flexible_loss(member, z, target, reduction=reduction).item()
            if abs(true) < torch.finfo(dtype).max:
                assert exact.excess(np.array([value]), np.array([true]), _tiny(dtype)) <= LIMIT[dtype], classes


@pytest.mark.parametrize("member", exact.MEMBERS[::3], ids=exact.name)
@pytest.mark.parametrize("dtype", LIMIT, ids=str)
def test_the_composed_engine_is_exact(member, dtype, cases):
    """What torch.compile and torch.func get."""
    for classes in COUNT:
        z, target, truth = cases[dtype, classes]
        z = z.clone().unsqueeze(2).requires_grad_()
        rows = eager.composed_index_rows(z, target.unsqueeze(1), member)
        (gradient,) = torch.autograd.grad(rows.sum(), z)
        rows, gradient = rows.detach().to(dtype).double().numpy()[:, 0], gradient.double().numpy()[:, :, 0]
        assert exact.excess(rows, truth.rows(member), _tiny(dtype)) <= LIMIT[dtype], classes
        assert exact.excess(gradient, truth.gradient(member), _tiny(dtype)) <= LIMIT[dtype], classes


@pytest.mark.parametrize("member", exact.MEMBERS, ids=exact.name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_no_false_zero(member, dtype):
    """From a margin of 80 nats for the true class to one of 80 against it, nat by nat."""
    margin = torch.arange(-80, 81, dtype=dtype)
    z = torch.stack([margin, torch.zeros_like(margin)], 1).requires_grad_()
    rows = functional.flexible_loss(member, z, torch.zeros(len(margin), dtype=torch.long), reduction="none")
    (gradient,) = torch.autograd.grad(rows.sum(), z)
    truth = exact.truth(z.detach().double().numpy(), np.zeros(len(margin), dtype=int))
    assert exact.excess(rows.detach().double().numpy(), truth.rows(member), _tiny(dtype)) <= LIMIT[dtype]
    assert exact.excess(gradient.double().numpy(), truth.gradient(member), _tiny(dtype)) <= LIMIT[dtype]


@pytest.mark.parametrize("member", exact.MEMBERS[::2], ids=exact.name)
@pytest.mark.parametrize("dtype", LIMIT, ids=str)
def test_soft_targets_are_exact(member, dtype):
    rng = np.random.default_rng(6)
    z = torch.tensor(rng.uniform(-20, 20, (6, 5))).to(dtype).requires_grad_()
    target = torch.tensor(rng.dirichlet(np.ones(5), 6)).to(dtype)
    target[0] = torch.tensor([0, 0, 1, 0, 0])
    weight = torch.tensor(rng.uniform(0.5, 2, 5)).to(dtype)
    share = [
        [mpf(w) * (mpf(v) * mpf(1 - 0.1) + mpf(0.1) / 5) for v, w in zip(row, weight.tolist(), strict=True)]
        for row in target.tolist()
    ]
    truth = exact.truth(z.detach().double().numpy(), np.zeros(6, dtype=int))
    loss, gradient, size = np.empty(6), np.empty((6, 5)), np.empty((6, 5))
    for i, s in enumerate(truth.s):
        loss[i] = float(mp.fsum(v * exact.loss_of(member, p) for v, p in zip(share[i], s, strict=True)))
        slopes = [v * exact.slope_of(member, p) for v, p in zip(share[i], s, strict=True)]
        total = mp.fsum(slopes)
        gradient[i] = [float(p * total - part) for p, part in zip(s, slopes, strict=True)]
        size[i] = [float(p * total + part) for p, part in zip(s, slopes, strict=True)]
    rows = functional.flexible_loss(member, z, target, weight, reduction="none", label_smoothing=0.1)
    (found,) = torch.autograd.grad(rows.double().sum(), z)
    assert exact.excess(rows.detach().double().numpy(), loss, _tiny(dtype)) <= LIMIT[dtype]
    # the two terms of a soft target's gradient may cancel: relative to them, not to their difference
    error = np.abs(found.double().numpy() - gradient) / size
    assert np.max(error, where=size >= _tiny(dtype), initial=0.0) <= LIMIT[dtype]


@pytest.mark.parametrize("member", exact.MEMBERS[::2], ids=exact.name)
@pytest.mark.parametrize("dtype", LIMIT, ids=str)
def test_binary_is_exact(member, dtype):
    rng = np.random.default_rng(7)
    z = torch.tensor(rng.uniform(-80, 80, 60)).to(dtype).requires_grad_()
    target = torch.tensor(rng.integers(0, 2, 60))
    rows = functional.binary_flexible_loss(member, z, target.to(dtype), reduction="none")
    (gradient,) = torch.autograd.grad(rows.double().sum(), z)
    two = np.stack([np.zeros(60), z.detach().double().numpy()], 1)
    truth = exact.truth(two, target.numpy())
    assert exact.excess(rows.detach().double().numpy(), truth.rows(member), _tiny(dtype)) <= LIMIT[dtype]
    assert exact.excess(gradient.double().numpy(), truth.gradient(member)[:, 1], _tiny(dtype)) <= LIMIT[dtype]


@pytest.mark.parametrize("member", exact.MEMBERS[::2], ids=exact.name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_from_probabilities_is_exact(member, dtype):
    rng = np.random.default_rng(8)
    low = torch.tensor(10.0 ** -rng.uniform(0.1, 30, 40)).to(dtype)
    p = torch.stack([low, 1 - low], 1).requires_grad_()
    rows = functional.flexible_loss(
        member, p, torch.zeros(40, dtype=torch.long), reduction="none", from_probabilities=True
    )
    (gradient,) = torch.autograd.grad(rows.sum(), p)
    exactly = [mpf(x) for x in low.tolist()]
    expected = np.array([float(exact.loss_of(member, x)) for x in exactly])
    slope = np.array([float(-exact.slope_of(member, x) / x) for x in exactly])
    assert exact.excess(rows.detach().double().numpy(), expected, _tiny(dtype)) <= LIMIT[dtype]
    largest = torch.finfo(dtype).max
    within = np.abs(slope) < largest
    assert exact.excess(gradient.double().numpy()[within, 0], slope[within], _tiny(dtype)) <= LIMIT[dtype]
    assert not gradient[:, 1].any()

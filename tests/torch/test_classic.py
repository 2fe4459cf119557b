"""Bi-tempered, squared error and squared hinge against 50-digit arithmetic and their plain formulas."""

import functools

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from torch.nn import functional as F

import adma
import exact
from adma import classic, functional
from adma import numpy as reference
from adma.torch.classic import tempered_nll

T1, T2 = [0.0, 0.3, 0.8, 1.0], [0.5, 0.9, 1.0, 1.2, 2.0, 4.0]
ROWS = [
    [0.0, 0.0, 0.0],
    [1.5, -0.25, 0.125],
    [80.0, 0.0, -80.0],
    [-80.0, 79.0, 80.0],
    [3.0, 2.9375, -5.0],
    [1e-3, 0.0, -1e-3],
    [12.0, -7.0, 1.0],
]


@functools.cache
def tempered(row, t2):
    """The tempered softmax of a row by bisection, to 50 digits."""
    with mp.workdps(50):
        z, t = [mpf(x) for x in row], mpf(t2)
        if t == 1:
            e = [mp.exp(x) for x in z]
            return [x / mp.fsum(e) for x in e]

        def exp_t(x):
            inner = 1 + (1 - t) * x
            return inner ** (1 / (1 - t)) if inner > 0 else mpf(0)

        low, top = max(z), max(z)
        while mp.fsum(exp_t(x - top) for x in z) > 1:
            top += 1 + (top - low)
        for _ in range(200):
            middle = (low + top) / 2
            if mp.fsum(exp_t(x - middle) for x in z) > 1:
                low = middle
            else:
                top = middle
        return [exp_t(x - low) for x in z]


def bregman(s, y, t1):
    """The loss of one row as its paper writes it, eq. 5."""
    with mp.workdps(50):
        t = mpf(t1)

        def log_t(x):
            return mp.log(x) if t == 1 else (x ** (1 - t) - 1) / (1 - t)

        total = mpf(0)
        for p, q in zip(s, y, strict=True):
            q = mpf(q)
            if q:
                total += q * (log_t(q) - log_t(p)) if p or t != 1 else mp.inf
            total -= (q ** (2 - t) - p ** (2 - t)) / (2 - t)
        return total


@pytest.mark.parametrize("t2", T2)
def test_the_tempered_softmax_is_exact(t2):
    z = torch.tensor(ROWS, dtype=torch.float64)
    t = tempered_nll(z, t2)
    p = torch.exp(-t)
    torch.testing.assert_close(p.sum(1), torch.ones(len(ROWS), dtype=torch.float64), rtol=1e-12, atol=0)
    for i, row in enumerate(ROWS):
        for j, true in enumerate(tempered(tuple(row), t2)):
            # where exp_t ends (t2 < 1) the probability is 0, or tiny with the rounding of its inner term
            assert abs(p[i, j].item() - true) <= 1e-12 * true + (1e-14 if t2 < 1 else 0), (row, j)


@pytest.mark.parametrize("t1", T1)
@pytest.mark.parametrize("t2", T2)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bi_tempered_is_exact(t1, t2, smoothing):
    z = torch.tensor(ROWS, dtype=torch.float64, requires_grad=True)
    for target in range(3):
        y = [(1 - smoothing) * (j == target) + smoothing / 3 for j in range(3)]
        rows = functional.bi_tempered_loss(
            z, torch.full((len(ROWS),), target), t1=t1, t2=t2, reduction="none", label_smoothing=smoothing
        )
        (gradient,) = torch.autograd.grad(rows, z, torch.ones_like(rows))
        assert not gradient.isnan().any()
        for i, row in enumerate(ROWS):
            true = bregman(tempered(tuple(row), t2), y, t1)
            if mp.isinf(true):
                assert rows[i].item() == float("inf")
                continue
            assert abs(rows[i].item() - true) <= 1e-11 * abs(true) + 1e-14, (row, target)


@pytest.mark.parametrize("t1", T1)
@pytest.mark.parametrize("t2", T2)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_big_gaps_give_no_nan(t1, t2, dtype):
    margin = torch.arange(-80, 81, dtype=dtype)
    z = torch.stack([margin, torch.zeros_like(margin), -margin], 1).requires_grad_()
    rows = functional.bi_tempered_loss(z, torch.zeros(161, dtype=torch.long), t1=t1, t2=t2, reduction="none")
    (gradient,) = torch.autograd.grad(rows, z, torch.ones_like(rows))
    assert not rows.isnan().any()
    assert gradient.isfinite().all()
    assert (rows >= -1e-12).all()
    if t1 < 1:
        # y = one-hot: (1 - 0)/(1 - t1) less the Bregman part, at most (0 - log_t1 0) - (1 - 1)/(2 - t1)
        assert (rows <= 1 / (1 - t1) + 1e-6).all()
        assert (rows.diff() <= 1e-6).all()  # falls with the margin
    # gradient in the direction of the true class never pushes it down
    assert (gradient[:, 0] <= 1e-12).all()


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"ignore_index": 1}, {"weighted": True}])
def test_temperatures_of_one_are_cross_entropy(options):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(8, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    y = torch.randint(4, (8,), generator=generator)
    weight = torch.rand(4, dtype=torch.float64, generator=generator) if options.pop("weighted", False) else None
    value = functional.bi_tempered_loss(z, y, weight, t1=1.0, t2=1.0, **options)
    expected = F.cross_entropy(z, y, weight, **options)
    if not options.get("label_smoothing"):
        torch.testing.assert_close(value, expected)
    else:  # a divergence: less the entropy of the smoothed target
        y = F.one_hot(y, 4) * 0.9 + 0.025
        torch.testing.assert_close(value, expected + (y * y.log()).sum(1).mean())
    torch.testing.assert_close(torch.autograd.grad(value, z), torch.autograd.grad(expected, z))


@pytest.mark.parametrize("t1", [0.0, 0.5, 0.9])
def test_bounded_below_one(t1):
    """One hopeless sample costs at most 1/(1 - t1), and at t1 = 1 without limit."""
    z = torch.tensor([[-1e6, 0.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([0])
    for t2 in T2:
        assert functional.bi_tempered_loss(z, y, t1=t1, t2=t2).item() <= 1 / (1 - t1) + 1e-12
    assert functional.bi_tempered_loss(z, y, t1=1.0, t2=1.0).item() > 1e5


@pytest.mark.parametrize("t1", [0.3, 1.0])
@pytest.mark.parametrize("t2", [0.5, 0.9, 1.0, 1.2, 2.0])
def test_derivatives_of_bi_tempered(t1, t2):
    if t1 == 1.0 and t2 < 1:
        scale = 0.3  # beyond, the true class's probability is 0, and so its loss infinite
    else:
        scale = 1.0
    z = scale * torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.tensor([0, 3, 1])

    def loss(x):
        return functional.bi_tempered_loss(x, y, t1=t1, t2=t2, reduction="none")

    assert torch.autograd.gradcheck(loss, z.requires_grad_())
    assert torch.autograd.gradgradcheck(loss, z)


def plain_mse(s, y):
    return ((s - y) ** 2).mean(1)


def plain_hinge(s, y):
    return (torch.clamp(1 - (2 * y - 1) * s, min=0) ** 2).mean(1)


def plain_reverse(s, y, clip):
    return -(s * torch.log(y).clamp(min=clip)).sum(1)


def plain_sce(s, y):
    """As the paper writes it, with the parameters for CIFAR-100."""
    return 6.0 * -(y * s.log()).sum(1) + 0.1 * plain_reverse(s, y, -4.0)


def plain_nce_rce(s, y):
    log_s = s.log()
    return 10.0 * (-(y * log_s).sum(1) / -log_s.sum(1)) + 0.1 * plain_reverse(s, y, -4.0)


SCE, NCE_RCE = classic.SymmetricCrossEntropy(6.0, 0.1), classic.ActivePassive(10.0, 0.1)


@pytest.mark.parametrize(
    ("function", "plain", "spec"),
    [
        (functools.partial(functional.symmetric_cross_entropy, alpha=6.0, beta=0.1), plain_sce, SCE),
        (functools.partial(functional.active_passive_loss, alpha=10.0, beta=0.1), plain_nce_rce, NCE_RCE),
        (functional.mean_squared_error, plain_mse, classic.MeanSquaredError()),
        (functional.squared_hinge, plain_hinge, classic.SquaredHinge()),
    ],
)
@pytest.mark.parametrize("target", ["hard", "soft"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_plain_formulas(function, plain, spec, target, smoothing, weighted):
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    y = torch.randint(4, (5, 3), generator=generator)
    hot = F.one_hot(y, 4).transpose(1, 2).double()
    if target == "soft":
        y = hot = torch.rand(5, 4, 3, generator=generator, dtype=torch.float64).softmax(1)
    weight = torch.rand(4, generator=generator, dtype=torch.float64) if weighted else None
    rows = function(z, y, weight, label_smoothing=smoothing, reduction="none")
    scale = (hot * weight[:, None]).sum(1) if weighted else torch.ones(5, 3, dtype=torch.float64)
    expected = scale * plain(z.softmax(1), hot * (1 - smoothing) + smoothing / 4)
    torch.testing.assert_close(rows, expected)
    torch.testing.assert_close(torch.autograd.grad(rows.sum(), z), torch.autograd.grad(expected.sum(), z))
    for reduction in ("none", "mean", "sum"):
        value = function(z, y, weight, label_smoothing=smoothing, reduction=reduction)
        w = None if weight is None else weight.numpy()
        true = reference.loss(
            spec, z.detach().numpy(), y.numpy(), weight=w, label_smoothing=smoothing, reduction=reduction
        )
        np.testing.assert_allclose(value.detach().numpy(), true, rtol=1e-12)


@pytest.mark.parametrize("spec", [classic.BiTempered(0.8, 1.2), classic.BiTempered(0.3, 0.7), classic.BiTempered(1, 2)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bi_tempered_is_the_reference(spec, smoothing):
    rng = np.random.default_rng(4)
    z, weight = rng.normal(size=(6, 5, 2)), rng.uniform(0.5, 2, 5)
    for y in (rng.integers(0, 5, (6, 2)), np.moveaxis(rng.dirichlet(np.ones(5), (6, 2)), -1, 1)):
        for reduction in ("none", "mean", "sum"):
            value = functional.bi_tempered_loss(
                torch.tensor(z), torch.tensor(y), torch.tensor(weight),
                reduction=reduction, label_smoothing=smoothing, t1=spec.t1, t2=spec.t2,
            )  # fmt: skip
            options = {"weight": weight, "reduction": reduction, "label_smoothing": smoothing}
            np.testing.assert_allclose(value.numpy(), reference.loss(spec, z, y, **options), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("function", [functional.mean_squared_error, functional.squared_hinge])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_tiny_error_keeps_its_accuracy(function, dtype):
    z = torch.tensor([[20.0, 0.0, -3.0], [40.0, 1.0, 0.0], [60.0, 0.5, 0.25]], dtype=dtype, requires_grad=True)
    rows = function(z, torch.zeros(3, dtype=torch.long), reduction="none")
    (gradient,) = torch.autograd.grad(rows.sum(), z)
    truth = exact.truth(z.detach().double().numpy(), np.zeros(3, dtype=int))
    tiny, y = torch.finfo(dtype).tiny, [1, 0, 0]
    for i, s in enumerate(truth.s):
        if function is functional.mean_squared_error:
            loss = mp.fsum((p - q) ** 2 for p, q in zip(s, y, strict=True)) / 3
            rate = [2 * (p - q) / 3 for p, q in zip(s, y, strict=True)]
        else:
            loss = mp.fsum(max(0, 1 - (2 * q - 1) * p) ** 2 for p, q in zip(s, y, strict=True)) / 3
            rate = [-2 * (2 * q - 1) * (1 - (2 * q - 1) * p) / 3 for p, q in zip(s, y, strict=True)]
        mean = mp.fsum(p * r for p, r in zip(s, rate, strict=True))
        slope = [float(p * (r - mean)) for p, r in zip(s, rate, strict=True)]
        limit = 1e-6 if dtype == torch.float32 else 1e-13
        assert exact.excess(rows.detach().double().numpy()[i : i + 1], np.array([float(loss)]), tiny) <= limit
        if function is functional.mean_squared_error:  # of the hinge's the terms cancel, as they may
            assert exact.excess(gradient[i].double().numpy(), np.array(slope), tiny) <= limit


def test_a_module_has_the_posterior_of_its_loss():
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(adma.MeanSquaredErrorLoss().posterior(z), z.softmax(1))
    torch.testing.assert_close(adma.BiTemperedLoss(t1=0.8, t2=1.0).posterior(z), z.softmax(1))
    torch.testing.assert_close(
        adma.BiTemperedLoss(t2=2.0).posterior(z).double(), torch.exp(-tempered_nll(z.double(), 2.0)), rtol=1e-6, atol=0
    )

"""Label smoothing, symmetric cross-entropy and the active-passive loss: identities, limits, tails, posteriors."""

import itertools

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from torch.nn import functional as F

import adma
import exact
from adma import classic, family, functional
from adma import numpy as reference

INF = float("inf")


def draw(*shape, seed=0, scale=2.0):
    return torch.tensor(np.random.default_rng(seed).normal(scale=scale, size=shape))


# -- label smoothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_smoothed_cce_is_torchs_label_smoothing(epsilon, smoothing, reduction):
    z, weight = draw(6, 4).requires_grad_(), draw(4, seed=1).abs()
    both = 1 - (1 - epsilon) * (1 - smoothing)  # smoothing twice
    for target in (torch.tensor([0, 1, -100, 3, 0, 2]), draw(6, 4, seed=2).softmax(1)):
        for w in (None, weight):
            options = {"weight": w, "reduction": reduction}
            got = functional.smoothed_cross_entropy(z, target, epsilon=epsilon, label_smoothing=smoothing, **options)
            true = F.cross_entropy(z, target, label_smoothing=both, **options)
            torch.testing.assert_close(got, true)
            torch.testing.assert_close(torch.autograd.grad(got.sum(), z), torch.autograd.grad(true.sum(), z))
            arrays = {"weight": None if w is None else w.numpy(), "reduction": reduction}
            expected = reference.loss(
                classic.SmoothedCrossEntropy(epsilon), z.detach().numpy(), target.numpy(),
                label_smoothing=smoothing, **arrays,
            )  # fmt: skip
            np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-12)


def test_a_label_smoothing_out_of_range_is_named_by_its_own_value():
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\], got 1\.5"):
        functional.smoothed_cross_entropy(draw(2, 3), torch.tensor([0, 1]), label_smoothing=1.5)


# -- symmetric cross-entropy --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "beta", "clip"), [(0.1, 1.0, -4.0), (6.0, 0.1, -9.21), (1.0, 0.0, -4.0), (0.0, 1.0, -4.0)]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_sce_of_an_index_is_a_function_of_p(alpha, beta, clip, dtype):
    """`alpha t + beta |clip| (1 - p)`, against 120 digits, for gaps to +-80."""
    logits, target = exact.hard_rows(5, 40, seed=3)
    z = torch.tensor(logits).to(dtype).requires_grad_()
    truth = exact.truth(z.detach().double().numpy(), target)
    limit, tiny = (1e-13, 1e-300) if dtype == torch.float64 else (1e-6, float(torch.finfo(dtype).tiny))
    p = [s[y] for s, y in zip(truth.s, target, strict=True)]
    rate = mpf(beta) * -mpf(clip)
    expected = np.array([float(-alpha * mp.log(x) + rate * (1 - x)) for x in p])
    slope = [mpf(alpha) + rate * x for x in p]
    gradient = np.array([[float(g * (s[j] - (j == y))) for j in range(5)]
                         for g, s, y in zip(slope, truth.s, target, strict=True)])  # fmt: skip
    for y in (torch.tensor(target), F.one_hot(torch.tensor(target), 5).to(dtype)):
        rows = functional.symmetric_cross_entropy(z, y, alpha=alpha, beta=beta, clip=clip, reduction="none")
        (found,) = torch.autograd.grad(rows.sum(), z)
        assert exact.excess(rows.detach().double().numpy(), expected, tiny) <= limit
        if alpha:  # without it what is left is 1 - p of far classes, whose terms cancel
            assert exact.excess(found.double().numpy(), gradient, tiny) <= 10 * limit


def test_sce_of_an_index_is_poly1():
    loss, z, y = classic.SymmetricCrossEntropy(0.5, 0.3), draw(30, 4), torch.arange(30) % 4
    assert loss.epsilon == pytest.approx(0.3 * 4 / 0.5)
    assert loss.one_hot == family.Poly1(loss.epsilon)
    torch.testing.assert_close(
        functional.symmetric_cross_entropy(z, y, alpha=0.5, beta=0.3),
        0.5 * functional.poly1_loss(z, y, epsilon=loss.epsilon),
    )


@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1}, {"ignore_index": 1}, {"weight": torch.tensor([1.0, 2.0, 3.0]).double()}]
)
def test_sce_without_beta_is_cross_entropy(options):
    z, y = draw(6, 3).requires_grad_(), torch.tensor([0, 1, 2, 0, 1, 2])
    if "label_smoothing" not in options or "weight" not in options:
        got = functional.symmetric_cross_entropy(z, y, alpha=0.7, beta=0.0, **options)
        true = 0.7 * functional.cross_entropy(z, y, **options)
        torch.testing.assert_close(got, true)
        torch.testing.assert_close(torch.autograd.grad(got, z), torch.autograd.grad(true, z))


def test_the_clip_is_what_log_0_is_taken_as():
    """The paper's A, and its code's clipping of the target at 1e-4."""
    z, y = draw(5, 3), torch.tensor([0, 1, 2, 0, 1])
    hot = F.one_hot(y, 3).double()
    coded = -(z.softmax(1) * hot.clamp(min=1e-4).log()).sum(1).mean()
    got = functional.symmetric_cross_entropy(z, y, alpha=0.0, beta=1.0, clip=float(np.log(1e-4)))
    torch.testing.assert_close(got, coded)
    soft = torch.tensor([[0.7, 0.299, 0.001]]).double()  # log 0.001 is below the clip too
    s = z[:1].softmax(1)
    expected = -(s[0, 0] * np.log(0.7) + s[0, 1] * np.log(0.299) + s[0, 2] * -4.0)
    torch.testing.assert_close(functional.symmetric_cross_entropy(z[:1], soft, alpha=0.0), expected)


def minimise(risk, classes):
    z = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [z], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def step():
        optimizer.zero_grad()
        value = risk(z)
        value.backward()
        return value

    optimizer.step(step)
    return z.detach()


@pytest.mark.parametrize(
    "shape", [{"alpha": 0.1, "beta": 1.0}, {"alpha": 6.0, "beta": 0.1}, {"alpha": 1.0, "beta": 0.0}]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_sce_tells_the_posteriors(shape, weighted):
    rng = np.random.default_rng(4)
    weight = torch.tensor(rng.uniform(0.5, 2, 3)) if weighted else None
    loss_fn = adma.SymmetricCrossEntropyLoss(weight, reduction="none", **shape)
    for eta in map(torch.tensor, rng.dirichlet(np.ones(3), 10) * 0.97 + 0.01):
        z = minimise(lambda z, eta=eta: (eta * loss_fn(z.expand(3, 3), torch.arange(3))).sum(), 3)
        torch.testing.assert_close(loss_fn.posterior(z), eta, rtol=0, atol=1e-5)
        if weight is None and shape["beta"] > 0.5:
            assert (z.softmax(0) - eta).abs().max() > 0.01 or (eta - 1 / 3).abs().max() < 0.05


def test_sce_has_no_posteriors_where_it_is_linear_or_smoothed():
    z = draw(2, 3)
    assert "linear in p" in adma.SymmetricCrossEntropyLoss(alpha=0.0).no_posterior
    assert "linear in p" in adma.SymmetricCrossEntropyLoss(alpha=5e-324).no_posterior
    smoothed = adma.SymmetricCrossEntropyLoss(label_smoothing=0.1)
    with pytest.raises(ValueError, match="no posteriors: sce is a function of p for class indices alone"):
        smoothed.posterior(z)
    assert adma.SymmetricCrossEntropyLoss(beta=0.0, label_smoothing=0.1).no_posterior == ""  # cross-entropy


# -- the active-passive loss --------------------------------------------------------------------------------


def nce(z, y, **options):
    return functional.active_passive_loss(z, y, alpha=1.0, beta=0.0, reduction="none", **options)


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_nce_is_in_0_1_and_sums_to_1_over_the_classes(classes):
    z = draw(200, classes, scale=20.0)
    each = torch.stack([nce(z, torch.full((200,), k)) for k in range(classes)])
    assert ((each >= 0) & (each <= 1)).all()
    torch.testing.assert_close(each.sum(0), torch.full((200,), float(classes > 1), dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_nce_rce_is_exact(dtype):
    """Against 120 digits, for gaps to +-80; gradients relative to the size of their terms, which may cancel."""
    logits, target = exact.hard_rows(4, 40, seed=5)
    z = torch.tensor(logits).to(dtype).requires_grad_()
    truth = exact.truth(z.detach().double().numpy(), target)
    rows = functional.active_passive_loss(z, torch.tensor(target), alpha=2.0, beta=0.5, reduction="none")
    (gradient,) = torch.autograd.grad(rows.sum(), z)
    limit, tiny = (1e-13, 1e-300) if dtype == torch.float64 else (1e-6, float(torch.finfo(dtype).tiny))
    for i, (s, y) in enumerate(zip(truth.s, target, strict=True)):
        t = [-mp.log(x) for x in s]
        total = mp.fsum(t)
        value = 2 * t[y] / total + mpf("0.5") * 4 * (1 - s[y])
        assert exact.excess(rows[i : i + 1].detach().double().numpy(), np.array([float(value)]), tiny) <= limit
        for k in range(4):  # dt_j/dz_k = s_k - [j = k]
            parts = [
                2 * (s[k] - (k == y)) / total,
                -2 * t[y] / total * (4 * s[k] - 1) / total,
                2 * s[y] * (s[k] - (k == y)),
            ]
            error = abs(mpf(gradient[i, k].item()) - mp.fsum(parts))
            assert error <= limit * mp.fsum(map(abs, parts)) + tiny


def test_nce_falls_to_0_for_a_sure_class_without_a_false_zero():
    margin = torch.arange(1.0, 81.0, dtype=torch.float64)
    z = torch.stack([margin, torch.zeros_like(margin)], 1)
    rows = nce(z, torch.zeros(80, dtype=torch.long))
    assert (rows > 0).all()
    assert (rows.diff() < 0).all()
    torch.testing.assert_close(rows, torch.log1p(torch.exp(-margin)) / (margin + 2 * torch.log1p(torch.exp(-margin))))


def test_an_impossible_class_is_as_if_it_were_not_there():
    z = draw(6, 3)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    masked = torch.cat([z, torch.full((6, 2), -INF)], 1).requires_grad_()
    plain = z.clone().requires_grad_()
    a = functional.active_passive_loss(masked, y, reduction="none")
    b = functional.active_passive_loss(plain, y, reduction="none")
    torch.testing.assert_close(a, b)
    (ga,), (gb,) = torch.autograd.grad(a.sum(), masked), torch.autograd.grad(b.sum(), plain)
    torch.testing.assert_close(ga[:, :3], gb)
    assert not ga[:, 3:].any()
    np.testing.assert_allclose(
        reference.loss(classic.ActivePassive(), masked.detach().numpy(), y.numpy(), reduction="none"),
        a.detach().numpy(),
    )


def test_an_impossible_target_costs_the_supremum_and_pulls_nothing():
    z = torch.tensor([[-INF, 0.0, 1.0], [-INF, -INF, 1.0]], requires_grad=True)
    for y in (torch.tensor([0, 1]), F.one_hot(torch.tensor([0, 1]), 3).float()):
        rows = functional.active_passive_loss(z, y, alpha=2.0, beta=0.5, reduction="none")
        torch.testing.assert_close(rows, torch.full((2,), 2.0 + 0.5 * 4))
        (gradient,) = torch.autograd.grad(rows.sum(), z)
        assert gradient.abs().max() < 1e-15
    # what it falls to, as the target's logit does
    near = functional.active_passive_loss(torch.tensor([[-1e7, 0.0, 1.0]]), torch.tensor([0]), alpha=2.0, beta=0.5)
    torch.testing.assert_close(near, torch.tensor(4.0))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_nce_of_a_soft_target_is_the_mean_of_its_classes_with_impossible_ones_too(smoothing):
    z, y = draw(5, 4), draw(5, 4, seed=6).softmax(1)
    z[1, 2] = z[3, 0] = z[3, 1] = -INF
    share = y * (1 - smoothing) + smoothing / 4
    each = torch.stack([nce(z, torch.full((5,), k)) for k in range(4)], 1)
    torch.testing.assert_close(nce(z, y, label_smoothing=smoothing), (share * each).sum(1))
    assert nce(z, y, label_smoothing=smoothing).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_gaps_at_the_border_of_the_type_do_not_overflow(dtype):
    largest = torch.finfo(dtype).max
    values = [largest, largest / 2, 0.0, -largest / 2, -largest]
    z = torch.tensor(list(itertools.product(values, repeat=3)), dtype=dtype, requires_grad=True)
    for k in range(3):
        rows = nce(z, torch.full((len(z),), k))
        (gradient,) = torch.autograd.grad(rows.sum(), z)
        assert ((rows >= 0) & (rows <= 1)).all()
        assert gradient.isfinite().all()


def test_nce_rce_falls_on_towards_the_most_probable_class_whatever_the_other_posteriors():
    """Its risk has the infimum alpha eta_min + beta |clip| (1 - eta_max), in the limit of a corner."""
    rng = np.random.default_rng(7)
    loss = classic.ActivePassive(2.0, 0.5)
    assert "most probable class" in loss.no_posterior
    corner = np.array([0.0, -1e4, -1e9])
    for eta in np.sort(rng.dirichlet(np.ones(3), 20))[:, ::-1]:
        target = np.arange(3)

        def risk(z, eta=eta, target=target):
            return float(eta @ reference.loss(loss, np.tile(z, (3, 1)), target, reduction="none"))

        lowest = 2.0 * eta[2] + 0.5 * 4 * (1 - eta[0])
        assert risk(corner) == pytest.approx(lowest, abs=1e-4)
        assert all(risk(z) >= lowest - 1e-12 for z in rng.normal(scale=5, size=(50, 3)))


@pytest.mark.parametrize("spec", ["sce", "nce_rce", "mse", "bi_tempered", "squared_hinge", "smoothed_cce"])
def test_posteriors_as_input_are_their_logits(spec):
    z, y = draw(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    p = z.softmax(1)
    if spec == "bi_tempered":
        spec = "bi_tempered:t2=1"
    torch.testing.assert_close(adma.make_loss(spec, from_probabilities=True)(p, y), adma.make_loss(spec)(z, y))
    loss_fn = adma.make_loss(spec, from_probabilities=True)
    if not loss_fn.no_posterior:
        torch.testing.assert_close(loss_fn.posterior(p), adma.make_loss(spec).posterior(z))

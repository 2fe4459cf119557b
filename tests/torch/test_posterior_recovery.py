"""Known class posteriors come back: exactly at the minimum of the risk, nearly from networks trained on samples."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import adma
from adma import spec
from adma.family import Range
from adma.torch.flexible import CallLoss

# -- exactly, at the minimum of the risk --------------------------------------------------------------------


OF_MORE_THAN_LOGITS = {"l_softmax", "semantic"}


def values(r: Range) -> tuple[float, float, float]:
    """Both ends of a range of a parameter, and its middle between them."""
    middle = math.sqrt(r.low * r.high) if r.log else (r.low + r.high) / 2
    return (int(r.low), round(middle), int(r.high)) if r.whole else (r.low, middle, r.high)


def offered() -> list[tuple[str, int]]:
    """Every registered loss that offers posteriors, with a number of classes.

    At its defaults for 2, 3 and 10 classes; at both ends and the middle of each range of its parameters for 3.
    """
    cases = [(text, 3) for text in ("adma:a=0.31,normalize=true", "gce:q=0.9", "bi_tempered:t1=0.5,t2=0.7")]
    for cls in spec.known().values():
        if not cls.__module__.startswith("adma.") or cls.name in OF_MORE_THAN_LOGITS:
            continue  # another test's own, or no function of the logits that a minimiser could move
        ranges = {name: values(r) for name, r in cls.space.items()}
        middle = {name: found[1] for name, found in ranges.items()}
        usual = {f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}
        base = {**middle, **usual}
        settings = [(base, classes) for classes in (2, 3, 10)]
        settings += [({**base, name: value}, 3) for name, found in ranges.items() for value in found]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is not convex is here only to be left out
            losses = [(cls(**setting), classes) for setting, classes in settings]
        cases += [(spec.format_spec(loss), classes) for loss, classes in losses if not loss.no_posterior]
    return list(dict.fromkeys(cases))


def minimiser(loss_fn: CallLoss, eta: Tensor) -> Tensor:
    """Logits (N, C) at which the population's risk `sum_j eta_j L(z, j)` is least, row by row, float64.

    Newton's method on the loss's own values and derivatives, in a trust region; |curvature| where it is negative.
    The last logit is held at 0. The start is even: nothing of the answer is put in.
    """
    n, classes = eta.shape
    every_class = torch.arange(classes).repeat(n)

    def full(x: Tensor) -> Tensor:
        return torch.cat([x, x.new_zeros(n, 1)], 1)

    def risk(x: Tensor) -> Tensor:
        return (eta * loss_fn(full(x).repeat_interleave(classes, 0), every_class).view(n, classes)).sum(1)

    x = torch.zeros(n, classes - 1, dtype=torch.float64)
    radius = torch.ones(n, 1, dtype=torch.float64)
    basis = torch.eye(classes - 1, dtype=torch.float64)[:, None, :].expand(-1, n, -1)
    for _ in range(100):
        at = x.clone().requires_grad_()
        value = risk(at)
        (gradient,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        (hessian,) = torch.autograd.grad(gradient, at, basis, is_grads_batched=True)
        hessian = 0.5 * (hessian.transpose(0, 1) + hessian.permute(1, 2, 0))
        curvature, axes = torch.linalg.eigh(hessian)
        along = (axes.mT @ gradient.detach()[:, :, None]) / curvature.abs().clamp(min=1e-300)[:, :, None]
        step = -(axes @ along)[:, :, 0]
        length = step.norm(dim=1, keepdim=True)
        step = step * (radius / length.clamp(min=1e-300)).clamp(max=1)
        lower = (risk(x + step) <= value * (1 + 1e-15))[:, None]
        x = torch.where(lower, x + step, x)
        radius = torch.where(lower, 2 * radius, radius / 4)
        small = 1e-7 * (1 + x.norm(dim=1, keepdim=True))  # its square is what the next step would leave
        if bool(((length <= small) | (radius <= small)).all()):
            break
    return full(x)


@pytest.mark.parametrize(("text", "classes"), offered(), ids=[f"{text}-{classes}" for text, classes in offered()])
def test_the_minimum_of_the_risk_maps_back_to_the_posteriors(text: str, classes: int) -> None:
    """To 1e-8: at a residual gradient G the map errs by about `G_k / psi'(-log p_k)`, most for a rare class."""
    eta = torch.tensor(np.random.default_rng(classes).dirichlet(np.ones(classes), 6))
    loss_fn = adma.make_loss(text, reduction="none")
    logits = minimiser(loss_fn, eta)
    recovered = loss_fn.posterior(logits)
    torch.testing.assert_close(recovered, eta, rtol=0, atol=1e-8)
    assert torch.equal(recovered.argmax(1), logits.argmax(1))  # decisions do not change


def test_every_loss_that_offers_posteriors_is_among_them() -> None:
    names = {text.partition(":")[0] for text, _ in offered()}
    assert {"cce", "adma", "gce", "focal", "poly1", "mse", "bi_tempered"} <= names
    assert not {"mae", "squared_hinge"} & names
    assert all(any(name == text.partition(":")[0] and c == 10 for text, c in offered()) for name in names)


# -- from networks that saw samples -------------------------------------------------------------------------

CENTRES = torch.tensor([[0.0, 1.2], [1.0, -0.6], [-1.0, -0.6], [0.0, 0.0]])
PRIOR = torch.tensor([0.4, 0.3, 0.2, 0.1])
SEEDS, BATCH, STEPS = 3, 512, 400


def sample(*shape: int) -> tuple[Tensor, Tensor]:
    """Points (..., 2) of four overlapping Gaussian classes, and their labels (...)."""
    labels = torch.multinomial(PRIOR, math.prod(shape), replacement=True).view(shape)
    return CENTRES[labels] + torch.randn(*shape, 2), labels


def true_posterior(points: Tensor) -> Tensor:
    """The classes' probabilities at points (..., 2), in closed form."""
    return torch.softmax(PRIOR.log() - (points[..., None, :] - CENTRES).square().sum(-1) / 2, -1)


def noisy(labels: Tensor, rate: float) -> Tensor:
    """Labels of which a share `rate` is replaced by one of the other classes, each as likely."""
    other = (labels + torch.randint(1, len(PRIOR), labels.shape)) % len(PRIOR)
    return torch.where(torch.rand(labels.shape) < rate, other, labels)


def divergence(eta: Tensor, q: Tensor) -> Tensor:
    """The mean of KL(eta || q) over points (S, N, C), of each network (S), nats."""
    return (torch.xlogy(eta, eta) - torch.xlogy(eta, q)).sum(-1).mean(-1)


class Networks(nn.Module):
    """`SEEDS` separate networks of two hidden layers, trained side by side."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (2, 32, 32, len(PRIOR))
        self.weights = nn.ParameterList(torch.randn(SEEDS, a, b) / math.sqrt(a) for a, b in itertools.pairwise(sizes))
        self.biases = nn.ParameterList(torch.zeros(SEEDS, 1, b) for b in sizes[1:])

    def forward(self, x: Tensor) -> Tensor:
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(b, torch.tanh(x) if i else x, w)
        return x


def trained(text: str, rate: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Networks trained on fresh samples; softmax, recovered and true posteriors (SEEDS, N, C) at new points."""
    torch.manual_seed(0)
    networks, loss_fn = Networks(), adma.make_loss(text, reduction="sum")
    optimizer = torch.optim.Adam(networks.parameters(), lr=0.02)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        points, labels = sample(SEEDS, BATCH)
        optimizer.zero_grad()
        loss = loss_fn(networks(points).flatten(0, 1), noisy(labels, rate).flatten()) / BATCH
        loss.backward()
        optimizer.step()
        annealing.step()
    points, _ = sample(SEEDS, 2000)
    logits = networks(points).detach().flatten(0, 1).double()
    shape = (SEEDS, 2000, len(PRIOR))
    eta = true_posterior(points.double())
    return logits.softmax(1).view(shape), loss_fn.posterior(logits).view(shape), eta


@pytest.mark.parametrize(
    ("text", "near"),
    # GCE's risk is flat where a class is rare (its slope is p^0.7), so training leaves it further away
    [("adma:a=0.26", 0.01), ("gce:q=0.7", 0.04), ("focal:gamma=2", 0.01), ("poly1:epsilon=2", 0.01)],
)
def test_the_posterior_of_a_trained_network_is_nearer_to_the_truth_than_its_softmax(text: str, near: float) -> None:
    softmax, recovered, eta = trained(text)
    assert (divergence(eta, recovered) < near).all()
    assert (10 * divergence(eta, recovered) < divergence(eta, softmax)).all()


def test_cross_entropy_needs_no_map() -> None:
    softmax, recovered, eta = trained("cce")
    torch.testing.assert_close(recovered, softmax)
    assert (divergence(eta, softmax) < 0.01).all()


@pytest.mark.parametrize("text", ["adma:a=0.26", "focal:gamma=2"])
def test_with_label_noise_it_is_the_noisy_posterior_that_comes_back(text: str) -> None:
    rate = 0.4
    _, recovered, eta = trained(text, rate)
    eta_noisy = (1 - rate) * eta + rate / (len(PRIOR) - 1) * (1 - eta)
    assert (divergence(eta_noisy, recovered) < 0.01).all()
    # as far from the clean posterior as the noise put it
    torch.testing.assert_close(divergence(eta, recovered), divergence(eta, eta_noisy), rtol=0.1, atol=0)

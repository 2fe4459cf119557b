"""Class posteriors back from the logits: against the float64 reference, and of a network that was trained."""

import numpy as np
import pytest
import torch

import adma
import exact
from adma import family, functional, spec
from adma import numpy as reference

POSSIBLE = [m for m in exact.MEMBERS if not m.no_posterior]
EACH = [m for m in exact.EACH if not m.no_posterior]


@pytest.mark.parametrize("member", POSSIBLE, ids=exact.name)
@pytest.mark.parametrize("shape", [(5,), (6, 5), (4, 5, 3), (2, 5, 3, 2)])
def test_the_reference(member, shape):
    rng = np.random.default_rng(0)
    z, weight = rng.normal(scale=5, size=shape), rng.uniform(0.1, 4, 5)
    class_dim = 0 if len(shape) == 1 else 1
    for w in (None, weight):
        eta = functional.posterior(member, torch.tensor(z), weight=None if w is None else torch.tensor(w))
        assert eta.shape == shape
        np.testing.assert_allclose(eta.numpy(), reference.posterior(member, z, weight=w), rtol=1e-10)
        np.testing.assert_allclose(eta.sum(class_dim).numpy(), 1, rtol=1e-12)
        module = adma.make_loss(member, weight=None if w is None else torch.tensor(w))
        assert torch.equal(module.posterior(torch.tensor(z)), eta)


@pytest.mark.parametrize("text", [*exact.CLASSICS_MAPPED, "bi_tempered:t1=0.5,t2=2", "bi_tempered:t1=0.2,t2=0.7"])
def test_the_classics(text):
    rng = np.random.default_rng(0)
    z, weight = rng.normal(size=(6, 5, 2)), rng.uniform(0.1, 4, 5)
    for w in (None, weight):
        module = adma.make_loss(text, weight=None if w is None else torch.tensor(w))
        eta = module.posterior(torch.tensor(z)).numpy()
        np.testing.assert_allclose(eta, reference.posterior(spec.parse(text), z, weight=w), rtol=1e-9)
        np.testing.assert_allclose(eta.sum(1), 1, rtol=1e-12)
        np.testing.assert_allclose(module.posterior(torch.tensor(z[0, :, 0])).numpy(), eta[0, :, 0], rtol=1e-12)


@pytest.mark.parametrize("member", POSSIBLE, ids=exact.name)
def test_it_is_the_minimiser_of_the_risk(member):
    """At the logits it comes from, the risk under the recovered posteriors has no gradient."""
    z = torch.tensor(np.random.default_rng(1).normal(scale=2, size=(20, 4)), requires_grad=True)
    eta = functional.posterior(member, z.detach())
    rows = functional.flexible_loss(member, z, eta, reduction="sum")
    (gradient,) = torch.autograd.grad(rows, z)
    assert gradient.abs().max().item() <= 1e-10
    weight = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    eta = functional.posterior(member, z.detach(), weight=weight)
    (gradient,) = torch.autograd.grad(functional.flexible_loss(member, z, eta, weight, reduction="sum"), z)
    assert gradient.abs().max().item() <= 1e-10


@pytest.mark.parametrize("member", POSSIBLE, ids=exact.name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_hostile_logits_give_no_nan(member, dtype):
    largest = torch.finfo(dtype).max
    rng = np.random.default_rng(2)
    values = [0.0, 1.0, -1.0, 88.0, -88.0, 800.0, -800.0, 3e4, -3e4, largest, -largest, 1e-7]
    z = torch.tensor(rng.choice(values, (2000, 4))).to(dtype)
    eta = functional.posterior(member, z)
    assert eta.dtype == dtype
    assert not eta.isnan().any()
    assert ((eta >= 0) & (eta <= 1)).all()
    torch.testing.assert_close(eta.double().sum(1), torch.ones(2000).double(), rtol=8 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("member", EACH, ids=exact.name)
def test_from_probabilities(member):
    z = torch.tensor(np.random.default_rng(3).normal(scale=3, size=(6, 4)))
    for x in (z, z[0]):
        p = x.softmax(-1)
        torch.testing.assert_close(
            functional.posterior(member, p, from_probabilities=True), functional.posterior(member, x)
        )
        assert torch.equal(
            adma.make_loss(member, from_probabilities=True).posterior(p),
            functional.posterior(member, p, from_probabilities=True),
        )
    certain = functional.posterior(member, torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]), from_probabilities=True)
    assert not certain.isnan().any()
    torch.testing.assert_close(certain[0], torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(certain[1], torch.tensor([0.5, 0.5, 0.0]))


def test_cross_entropy_is_the_softmax():
    z = torch.randn(5, 3)
    torch.testing.assert_close(adma.CrossEntropyLoss().posterior(z), z.softmax(1))
    torch.testing.assert_close(adma.BinaryCrossEntropyLoss().posterior(z), z.sigmoid())


@pytest.mark.filterwarnings("ignore:Adma with a")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mae", "linear in p"),
        ("gce:q=1", "linear in p"),
        ("adma:a=0.8", "not convex"),
        ("adma:a=0.5,base=100", "not convex"),
        ("squared_hinge", "threshold"),
        ("taylor:order=1", "linear in p"),
        ("taylor:order=5", "threshold"),
        ("agce:a=1,q=2", "not convex"),
        ("agce:a=1,q=1", "linear in p"),
        ("agce:a=0.6,q=0.6", "threshold"),
        ("aue:a=1.5,q=0.9", "not convex"),
        ("aue:a=3,q=1", "linear in p"),
        ("aue:a=5.5,q=3", "threshold"),
        ("aexp", "threshold"),
        ("smoothed_cce", "below epsilon / C"),
        ("sce:alpha=0", "linear in p"),
        ("nce_rce", "most probable class"),
    ],
)
def test_refused_with_the_reason(text, reason):
    module = adma.make_loss(text)
    with pytest.raises(ValueError, match=reason):
        module.posterior(torch.randn(4, 3))
    with pytest.raises(ValueError, match="no posteriors"):
        module.posterior(torch.randn(4, 3))
    loss = spec.parse(text)
    if isinstance(loss, family.Member):
        with pytest.raises(ValueError, match=reason):
            functional.posterior(loss, torch.randn(4, 3))
        with pytest.raises(ValueError, match=reason):
            functional.binary_posterior(loss, torch.randn(4, 3))
        with pytest.raises(ValueError, match=reason):
            adma.make_loss(text, binary=True).posterior(torch.randn(4))


@pytest.mark.parametrize("text", ["cce", "adma", "focal", "poly1", "gce", "mse", "bi_tempered", "sce"])
def test_a_class_without_weight_is_refused(text):
    with pytest.raises(ValueError, match="weight 0"):
        adma.make_loss(text, weight=torch.tensor([1.0, 0.0, 1.0])).posterior(torch.randn(4, 3))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("error::torch.jit.TracerWarning")
def test_it_is_traced_with_class_weights():
    loss_fn = adma.AdmaLoss(weight=torch.tensor([0.5, 1.0, 2.0]))
    traced = torch.jit.trace(lambda x: loss_fn.posterior(x), torch.zeros(4, 3))
    z = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(traced(z), loss_fn.posterior(z))


def test_mistakes():
    member = family.Adma()
    with pytest.raises(TypeError, match="input must be a floating-point tensor"):
        functional.posterior(member, torch.ones(4, 3, dtype=torch.long))
    with pytest.raises(TypeError, match="input must be a tensor"):
        functional.binary_posterior(member, [0.5])
    with pytest.raises(ValueError, match="class dimension"):
        functional.posterior(family.Adma(), torch.tensor(1.0))
    for weight in (torch.ones(2), torch.ones(1), torch.ones(1, 3)):
        with pytest.raises(ValueError, match=r"weight must have shape \(3,\)"):
            functional.posterior(family.Adma(), torch.zeros(4, 3), weight=weight)


@pytest.mark.parametrize("member", POSSIBLE, ids=exact.name)
def test_of_one_logit_it_is_that_of_two_classes(member):
    z = torch.linspace(-30, 30, 61, dtype=torch.float64)
    two = functional.posterior(member, torch.stack([torch.zeros_like(z), z], 1))[:, 1]
    torch.testing.assert_close(functional.binary_posterior(member, z), two, rtol=1e-10, atol=0)
    module = adma.make_loss(member, binary=True)
    torch.testing.assert_close(module.posterior(z), two, rtol=1e-10, atol=0)
    weight = torch.tensor([1.0, 3.0], dtype=torch.float64)
    two = functional.posterior(member, torch.stack([torch.zeros_like(z), z], 1), weight=weight)[:, 1]
    got = functional.binary_posterior(member, z, pos_weight=weight[1:])
    torch.testing.assert_close(got, two, rtol=1e-10, atol=0)


@pytest.mark.parametrize("member", POSSIBLE, ids=exact.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_hostile_binary_logits_give_no_nan(member, dtype):
    z = torch.tensor([3e38, -3e38, 1e4, -1e4, 800.0, -800.0, 89.0, -89.0, 0.0, 1e-40], dtype=dtype)
    eta = functional.binary_posterior(member, z)
    assert eta.shape == z.shape
    assert not eta.isnan().any()
    assert ((eta >= 0) & (eta <= 1)).all()


def three_classes():
    """1200 points in the plane of three Gaussian classes, their labels and their true posteriors."""
    rng = np.random.default_rng(5)
    centres, prior = np.array([[0.0, 1.0], [0.9, -0.5], [-0.9, -0.5]]), np.array([0.5, 0.3, 0.2])
    labels = rng.choice(3, 1200, p=prior)
    points = centres[labels] + rng.normal(size=(1200, 2))
    log_eta = np.log(prior) - ((points[:, None] - centres) ** 2).sum(2) / 2
    eta = np.exp(log_eta - log_eta.max(1, keepdims=True))
    return torch.tensor(points), torch.tensor(labels), torch.tensor(eta / eta.sum(1, keepdims=True))


@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 4.0]])
def test_a_trained_network_gives_the_true_posteriors(weight):
    points, labels, eta = three_classes()
    # quadratic features: the logits of the minimiser are smooth, but not linear in the points
    x, y = points.T
    features = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y, x**3, x * x * y, x * y * y, y**3], 1)
    features = features / features.abs().mean(0)
    weights = torch.zeros(features.shape[1], 3, dtype=torch.float64, requires_grad=True)
    loss_fn = adma.AdmaLoss(None if weight is None else torch.tensor(weight).double(), a=0.26)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def step():
        optimizer.zero_grad()
        loss = loss_fn(features @ weights, labels) + 1e-5 * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(step)
    logits = (features @ weights).detach()
    recovered, naive = loss_fn.posterior(logits), logits.softmax(1)
    error = (recovered - eta).abs().mean().item()
    assert error < 0.04
    assert error < 0.6 * (naive - eta).abs().mean().item()

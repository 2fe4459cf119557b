"""Classes masked by -inf logits in the posterior map, and derivatives of the third order through every member."""

import numpy as np
import pytest
import torch
from torch.func import grad

import adma
import exact
from adma import functional
from adma import numpy as reference

MAPPED = [m for m in exact.EACH if not m.no_posterior]


@pytest.mark.parametrize("loss", [*MAPPED, *exact.CLASSICS_MAPPED], ids=exact.name)
def test_a_masked_class_has_posterior_zero(loss):
    loss_fn = adma.make_loss(loss)
    z = torch.tensor([[0.3, -1.0, -torch.inf], [0.0, 3e38, -torch.inf]])
    eta = loss_fn.posterior(z)
    assert not eta[:, 2].any()
    torch.testing.assert_close(eta[:, :2], loss_fn.posterior(z[:, :2]))


@pytest.mark.parametrize("member", MAPPED, ids=exact.name)
def test_a_masked_class_in_the_reference(member):
    z = np.array([[0.3, -1.0, -np.inf], [0.0, 1e6, -np.inf]])
    eta = reference.posterior(member, z)
    assert not eta[:, 2].any()
    np.testing.assert_allclose(eta[:, :2], reference.posterior(member, z[:, :2]), rtol=1e-14)


@pytest.mark.parametrize("member", MAPPED, ids=exact.name)
def test_a_probability_of_zero_has_posterior_zero(member):
    p = torch.tensor([[0.4, 0.6, 0.0]])
    eta = functional.posterior(member, p, from_probabilities=True)
    torch.testing.assert_close(eta[:, :2], functional.posterior(member, p[:, :2], from_probabilities=True))
    assert eta[0, 2] == 0


@pytest.mark.parametrize("member", MAPPED, ids=exact.name)
def test_binary_posteriors_at_the_ends(member):
    eta = functional.binary_posterior(member, torch.tensor([-torch.inf, torch.inf, -1e6, 1e6]))
    assert eta.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
def test_third_derivatives(member):
    """Three nested gradients in one logit, against differences of the second."""

    def function(x):
        return functional.flexible_loss(member, torch.stack([x, torch.zeros_like(x)])[None], torch.tensor([0]))

    second, third = grad(grad(function)), grad(grad(grad(function)))
    for value in (-3.0, 0.5, 4.0):
        x, step = torch.tensor(value, dtype=torch.float64), 1e-5
        difference = (second(x + step) - second(x - step)) / (2 * step)
        torch.testing.assert_close(third(x), difference, rtol=1e-6, atol=1e-8)

"""What a preconditioner says an optimizer makes of a gradient, against what the optimizer does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adma.flex.precondition import of_optimizer

G = torch.tensor([0.3, -2.0, 0.05], dtype=torch.float64)


def stepped(optimizer: torch.optim.Optimizer, w: Tensor, gradient: Tensor) -> None:
    w.grad = gradient.clone()
    optimizer.step()


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.8, "dampening": 0.5}],
)
def test_sgd_and_what_momentum_makes_of_one_gradient(options: dict[str, float]) -> None:
    """All that one gradient moves, now and by momentum later: the response to an impulse, summed up."""
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1, **options)  # type: ignore[arg-type]
    stepped(optimizer, w, torch.zeros_like(G))  # torch does not dampen the very first gradient
    stepped(optimizer, w, G)
    for _ in range(400):
        stepped(optimizer, w, torch.zeros_like(G))
    found = of_optimizer(optimizer)(G, optimizer.state[w], optimizer.param_groups[0])
    assert torch.allclose(found, -w.detach(), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("Adam", {"betas": (0.5, 0.9)}, 1e-9),
        ("Adam", {"betas": (0.5, 0.9), "amsgrad": True}, 1e-9),
        ("AdamW", {"betas": (0.5, 0.9), "weight_decay": 0.0}, 1e-9),
        ("NAdam", {"betas": (0.5, 0.9)}, 0.05),  # its momentum is still growing
        ("RAdam", {"betas": (0.5, 0.9)}, 0.05),  # its rectification is still growing
        ("RMSprop", {}, 1e-3),
        ("RMSprop", {"momentum": 0.5}, 1e-3),
        ("Adagrad", {}, 1e-9),
    ],
)
def test_a_steady_gradient_is_scaled_as_the_optimizer_scales_it(
    kind: str, options: dict[str, object], tolerance: float
) -> None:
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = getattr(torch.optim, kind)([w], lr=0.1, **options)
    for _ in range(2000 if kind != "Adagrad" else 5):
        stepped(optimizer, w, G)
    before = w.detach().clone()
    stepped(optimizer, w, G)
    found = of_optimizer(optimizer)(G, optimizer.state[w], optimizer.param_groups[0])
    assert torch.allclose(found, before - w.detach(), rtol=tolerance, atol=0)


def test_centered_rmsprop_by_its_definition() -> None:
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.RMSprop([w], lr=0.1, centered=True)
    for k in range(5):
        stepped(optimizer, w, G * (k + 1))
    before = w.detach().clone()
    stepped(optimizer, w, G)
    found = of_optimizer(optimizer)(G, optimizer.state[w], optimizer.param_groups[0])
    assert torch.allclose(found, before - w.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["Adam", "RMSprop", "Adagrad"])
def test_weights_that_were_never_stepped_are_left_out(kind: str) -> None:
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = getattr(torch.optim, kind)([w], lr=0.1)
    if kind == "Adagrad":
        optimizer.state.clear()
    assert not of_optimizer(optimizer)(G, optimizer.state.get(w, {}), optimizer.param_groups[0]).any()


def test_a_class_derived_from_a_known_one_is_known() -> None:
    class Own(torch.optim.AdamW):
        pass

    w = torch.zeros(3, requires_grad=True)
    assert of_optimizer(Own([w])) is of_optimizer(torch.optim.Adam([w]))
    with pytest.raises(ValueError, match="LBFGS scales a gradient is not known"):
        of_optimizer(torch.optim.LBFGS([w]))

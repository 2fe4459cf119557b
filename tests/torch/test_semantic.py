"""The semantic loss: values against the circuit and 50 digits, gradients, edges, and as a loss of labelled samples."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

import adma
from adma import constraints, functional
from adma import numpy as reference
from adma.family import CrossEntropy

Z = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
Y = torch.tensor([0, 1, 2, 3, 1])
RULE = constraints.from_clauses([(1, 2), (-1, -3), (-2, 4)], 4)


def exactly_one(row):
    """To 50 digits, as eq. 3 of the paper writes it."""
    with mp.workdps(50):
        s = [1 / (1 + mp.exp(-mp.mpf(x))) for x in row]
        c = [1 / (1 + mp.exp(mp.mpf(x))) for x in row]
        return -mp.log(mp.fsum(s[i] * mp.fprod(c[:i] + c[i + 1 :]) for i in range(len(row))))


@settings(max_examples=100)
@given(st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=6))
def test_exactly_one_is_exact(row):
    true = exactly_one(row)
    found = functional.semantic_loss(torch.tensor(row, dtype=torch.float64))
    assert found.item() == pytest.approx(float(true), rel=1e-12, abs=1e-14 if true > 1e-6 else 1e-40)
    single = functional.semantic_loss(torch.tensor(row, dtype=torch.float32))
    assert single.item() == pytest.approx(float(true), rel=2e-7, abs=1e-44)


def test_the_closed_form_is_the_circuit():
    rows = functional.semantic_loss(Z, constraints.exactly(1, 4), reduction="none")
    torch.testing.assert_close(functional.semantic_loss(Z, reduction="none"), rows, rtol=1e-13, atol=0)


@pytest.mark.parametrize("rule", ["exactly_one", "at_most_2", RULE], ids=str)
def test_values_and_gradients(rule):
    compiled = constraints.named(rule, 4) if isinstance(rule, str) else rule
    rows = functional.semantic_loss(Z, rule, reduction="none")
    np.testing.assert_allclose(rows, -compiled.log_probability(Z.T.numpy()), rtol=1e-12)
    assert functional.semantic_loss(Z, rule) == pytest.approx(rows.mean().item())
    assert functional.semantic_loss(Z, rule, reduction="sum") == pytest.approx(rows.sum().item())
    z = Z.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: functional.semantic_loss(z, rule, reduction="none"), z)
    assert torch.autograd.gradgradcheck(lambda z: functional.semantic_loss(z, rule, reduction="none"), z)


@pytest.mark.parametrize("rule", ["exactly_one", "at_most_2"])
def test_a_mean_over_nothing_is_zero_with_zero_gradients(rule):
    for shape in [(0, 4), (2, 4, 0)]:
        z = torch.zeros(shape, requires_grad=True)
        value = functional.semantic_loss(z, rule)
        (gradient,) = torch.autograd.grad(value, z)
        assert value.item() == 0
        assert gradient.shape == shape


def test_shapes():
    z = torch.randn(2, 4, 3, 5)
    rows = functional.semantic_loss(z, RULE, reduction="none")
    assert rows.shape == (2, 3, 5)
    assert rows[1, 2, 4] == functional.semantic_loss(z[1, :, 2, 4], RULE)
    assert functional.semantic_loss(z[:0], RULE) == 0
    assert functional.semantic_loss(z.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("rule", ["exactly_one", constraints.exactly(1, 3)], ids=["closed", "circuit"])
def test_certain_and_impossible_labels(rule):
    inf = torch.inf
    z = torch.tensor([[0.0, -inf, 1.0], [-inf, -inf, -inf], [inf, 0.0, 0.0], [inf, inf, 0.0]], requires_grad=True)
    rows = functional.semantic_loss(z, rule, reduction="none")
    assert rows.tolist() == pytest.approx([math.log(2), inf, 2 * math.log(2), inf], rel=1e-6)
    (gradient,) = torch.autograd.grad(rows[[0, 2]].sum(), z)
    assert gradient.isfinite().all()
    first = [torch.sigmoid(z[0, k]).item() - torch.softmax(z[0], 0)[k].item() for k in range(3)]
    assert gradient[0].tolist() == pytest.approx(first, abs=1e-6)


def test_without_labels_it_makes_one_class_out_of_an_even_network():
    """What it is for: samples without labels."""
    z = torch.full((1, 4), -0.1) + torch.tensor([[0.02, 0.0, 0.0, 0.0]])
    z.requires_grad_()
    optimizer = torch.optim.SGD([z], lr=1.0)
    semantic = adma.SemanticLoss()
    for _ in range(300):
        optimizer.zero_grad()
        semantic(z).backward()
        optimizer.step()
    p = torch.sigmoid(z[0])
    assert p[0] > 0.95
    assert (p[1:] < 0.05).all()


def test_the_module():
    semantic = adma.SemanticLoss("at_most_2", reduction="sum")
    assert "at_most_2" in repr(semantic)
    assert semantic(Z) == functional.semantic_loss(Z, "at_most_2", reduction="sum")
    assert copy.deepcopy(adma.SemanticLoss(RULE))(Z) == functional.semantic_loss(Z, RULE)
    assert len(adma.SemanticLoss().state_dict()) == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: adma.SemanticLoss("exactly_on"), ValueError, "exactly_one"),
        (lambda: adma.SemanticLoss(3), TypeError, "must be a name or an adma.constraints.Constraint, got int"),
        (lambda: adma.SemanticLoss(reduction="avg"), ValueError, "avg"),
        (lambda: functional.semantic_loss(Z, constraints.exactly(1, 3)), ValueError, "3 variables, input has 4 labels"),
        (lambda: functional.semantic_loss(Y), TypeError, "float type, got torch.int64"),
        (lambda: functional.semantic_loss(torch.tensor(0.0)), ValueError, "got a scalar"),
        (lambda: functional.semantic_loss(Z, "exactly_9"), ValueError, "needs at least 9 variables, got 4"),
        (lambda: adma.make_loss("semantic", from_probabilities=True)(Z.softmax(1), Y), ValueError, "no meaning"),
        (lambda: adma.make_loss("semantic:strength=-1"), ValueError, r"strength must be in \[0, inf\)"),
        (lambda: adma.make_loss("semantic:constraint=nothing"), ValueError, "'nothing' is not known"),
        (lambda: adma.make_loss("semantic").posterior(Z), ValueError, "no posteriors"),
    ],
)
def test_what_is_wrong_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"ignore_index": 1}, {"reduction": "none"}], ids=str)
@pytest.mark.parametrize(
    "weight", [None, torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)], ids=["even", "weight"]
)
@pytest.mark.parametrize("text", ["semantic:strength=0.3", "semantic:strength=2,constraint=at_most_2"])
def test_beside_cross_entropy_it_is_the_reference(text, options, weight):
    loss_fn = adma.make_loss(text, weight=weight, **options)
    assert loss_fn.member == adma.parse(text)
    true = reference.loss(adma.parse(text), Z.numpy(), Y.numpy(), weight=weight, **options)
    np.testing.assert_allclose(loss_fn(Z, Y), true, rtol=1e-12)
    z = Z.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss_fn(z, Y), z)


def test_the_reference_is_the_sum_of_its_parts():
    rows = reference.loss(adma.parse("semantic:strength=0.3"), Z.numpy(), Y.numpy(), reduction="none")
    plain = reference.loss(CrossEntropy(), Z.numpy(), Y.numpy(), reduction="none")
    np.testing.assert_allclose(rows - plain, [0.3 * float(exactly_one(row)) for row in Z.tolist()], rtol=1e-12)

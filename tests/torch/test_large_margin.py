"""Large-margin softmax: values by the angle itself, gradients, what it is attached to, and a training with it."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import adma
from adma import functional
from adma.torch.large_margin import last_linear

N, D, C = 7, 5, 4


def drawn(seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(N, D, dtype=dtype, generator=g)
    weight, bias = torch.randn(C, D, dtype=dtype, generator=g), torch.randn(C, dtype=dtype, generator=g)
    return x, weight, bias, torch.randint(C, (N,), generator=g)


def by_angle(x, weight, bias, target, margin, lam):
    """Eqs. 4 to 6 of the paper, one number after the other."""
    z = F.linear(x, weight, bias).tolist()
    for i, y in enumerate(target.tolist()):
        size = math.sqrt(sum(v * v for v in x[i].tolist())) * math.sqrt(sum(v * v for v in weight[y].tolist()))
        plain = sum(a * b for a, b in zip(x[i].tolist(), weight[y].tolist(), strict=True))
        theta = math.acos(max(-1.0, min(1.0, plain / size)))
        k = next(k for k in range(margin) if theta <= (k + 1) * math.pi / margin + 1e-12)
        psi = (-1) ** k * math.cos(margin * theta) - 2 * k
        z[i][y] = (lam * plain + size * psi) / (1 + lam) + bias[y].item()
    return torch.tensor(z, dtype=torch.float64)


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), margin=st.integers(1, 8), lam=st.sampled_from([0.0, 0.5, 100.0]))
def test_the_logits_are_those_of_the_paper(seed, margin, lam):
    x, weight, bias, target = drawn(seed)
    found = functional.large_margin_logits(F.linear(x, weight, bias), target, x, weight, margin=margin, lam=lam)
    torch.testing.assert_close(found, by_angle(x, weight, bias, target, margin, lam), rtol=1e-9, atol=1e-9)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), margin=st.integers(2, 8))
def test_the_true_class_has_it_harder_and_the_others_stay(seed, margin):
    x, weight, bias, target = drawn(seed)
    plain = F.linear(x, weight, bias)
    found = functional.large_margin_logits(plain, target, x, weight, margin=margin)
    own = F.one_hot(target, C).bool()
    assert torch.equal(found[~own], plain[~own])
    assert (found[own] <= plain[own] + 1e-12).all()
    easier = functional.large_margin_logits(plain, target, x, weight, margin=margin, lam=1.0)
    assert (found[own] <= easier[own] + 1e-12).all()


def test_psi_falls_without_a_step_over_all_angles():
    theta = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    x = torch.stack([torch.cos(theta), torch.sin(theta)], 1)
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    target = torch.zeros(len(x), dtype=torch.int64)
    for margin in (1, 2, 3, 4):
        psi = functional.large_margin_logits(x @ weight.T, target, x, weight, margin=margin)[:, 0]
        steps = psi.diff()
        assert (steps <= 1e-12).all()
        assert steps.abs().max() < 2 * margin * math.pi / 2000
        assert psi[0] == pytest.approx(1)
        assert psi[-1] == pytest.approx((-1) ** (margin - 1) * math.cos(margin * math.pi) - 2 * (margin - 1))


@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_gradients(margin):
    x, weight, bias, target = (t.requires_grad_() if t.is_floating_point() else t for t in drawn(3))

    def loss(x, weight, bias):
        z = functional.large_margin_logits(F.linear(x, weight, bias), target, x, weight, bias, margin=margin, lam=0.3)
        return functional.cross_entropy(z, target)

    assert torch.autograd.gradcheck(loss, (x, weight, bias))


def test_a_sample_on_its_class_and_one_without_length_have_a_gradient():
    weight = torch.eye(3, requires_grad=True)
    x = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    target = torch.tensor([0, 1])
    z = functional.large_margin_logits(x @ weight.T, target, x, weight, margin=3)
    assert z[0, 0] == 2
    assert z[1, 1] == 0
    F.cross_entropy(z, target, reduction="sum").backward()
    assert x.grad.isfinite().all()
    assert weight.grad.isfinite().all()
    assert x.grad[0, 0] != 0


def test_margin_1_is_cross_entropy():
    x, weight, bias, target = drawn()
    layer = nn.Linear(D, C, dtype=torch.float64)
    layer.load_state_dict({"weight": weight, "bias": bias})
    loss_fn = adma.LargeMarginSoftmaxLoss(margin=1).attach(layer)
    z = layer(x)
    torch.testing.assert_close(loss_fn(z, target), F.cross_entropy(z, target), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1}, {"reduction": "sum"}, {"reduction": "none"}], ids=str
)
def test_the_module_has_the_call_of_cross_entropy(options):
    x, _, _, target = drawn()
    target[1] = -100
    layer = nn.Linear(D, C, dtype=torch.float64)
    class_weight = torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=torch.float64)
    loss_fn = adma.make_loss("l_softmax:margin=3,lam=0.5", weight=class_weight, **options).attach(layer)
    found = loss_fn(layer(x), target)
    hard = by_angle(x, layer.weight, layer.bias, target.clamp(min=0), 3, 0.5)
    torch.testing.assert_close(
        found.double(), F.cross_entropy(hard, target, weight=class_weight, **options), rtol=1e-8, atol=1e-10
    )


def test_a_mean_over_nothing_is_zero_with_zero_gradients():
    layer = nn.Linear(D, C)
    loss_fn = adma.LargeMarginSoftmaxLoss(margin=3).attach(layer)
    for rows, target in [(2, torch.tensor([-100, -100])), (0, torch.zeros(0, dtype=torch.long))]:
        value = loss_fn(layer(torch.randn(rows, D)), target)
        assert value.item() == 0
        assert not any(gradient.any() for gradient in torch.autograd.grad(value, [*layer.parameters()]))


def test_it_learns_and_leaves_a_margin():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(60, 2) * 0.3 + c for c in torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])])
    y = torch.arange(3).repeat_interleave(60)
    cosines = {}
    for margin in (1, 3):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2), nn.Linear(2, 3, bias=False))
        loss_fn = adma.LargeMarginSoftmaxLoss(margin=margin).attach(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(200):
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
        features = model[:3](x)
        cosines[margin] = F.cosine_similarity(features, model[3].weight[y]).mean().item()
        assert (model(x).argmax(1) == y).float().mean() > 0.98
    assert cosines[3] > cosines[1]  # samples lie nearer to their class


def test_a_schedule_moves_lam():
    layer = nn.Linear(D, C)
    loss_fn = adma.LargeMarginSoftmaxLoss(margin=2).attach(layer)
    shape = adma.flex.ShapeScheduler(loss_fn, total_steps=4, lam="linear/4/0")
    seen = []
    for _ in range(4):
        seen.append(loss_fn.lam)
        shape.step()
    assert seen == [4.0, 3.0, 2.0, 1.0]
    assert loss_fn.lam == 0


def test_copies_and_pickles_are_attached_to_nothing():
    layer = nn.Linear(D, C)
    loss_fn = adma.LargeMarginSoftmaxLoss(margin=2).attach(layer)
    assert list(loss_fn.parameters()) == []
    for twin in (copy.deepcopy(loss_fn), pickle.loads(pickle.dumps(loss_fn))):
        assert twin.margin == 2
        with pytest.raises(RuntimeError, match="attach the loss"):
            twin(torch.zeros(2, C), torch.tensor([0, 1]))
    copied = copy.deepcopy(layer)
    copied(torch.zeros(2, D))  # a copied layer takes the hook along, and it does no harm
    z = layer(torch.randn(2, D))
    assert loss_fn(z, torch.tensor([0, 1])).isfinite()


def test_logits_of_another_call_are_refused():
    layer = nn.Linear(D, C)
    loss_fn = adma.LargeMarginSoftmaxLoss().attach(layer)
    target = torch.tensor([0, 1])
    old = layer(torch.randn(2, D))
    new = layer(torch.randn(2, D))
    with pytest.raises(RuntimeError, match="not what the attached layer gave at its last call"):
        loss_fn(old, target)
    loss_fn(new, target)
    with pytest.raises(RuntimeError, match="not what the attached layer gave"):
        loss_fn(new, target)
    with torch.no_grad():
        layer(torch.randn(2, D))  # measuring in between is no call of training
    attached = layer(torch.randn(2, D))
    with torch.no_grad():
        layer(torch.randn(3, D))
    assert loss_fn(attached, target).isfinite()
    other = nn.Linear(D, C)
    loss_fn.attach(other)
    layer(torch.randn(2, D))
    with pytest.raises(RuntimeError, match="not what the attached layer gave"):
        loss_fn(layer(torch.randn(2, D)), target)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: adma.LargeMarginSoftmaxLoss(margin=9), ValueError, r"margin must be a whole .* \[1, 8\], got 9"),
        (lambda: adma.LargeMarginSoftmaxLoss(lam=-1), ValueError, "lam must be in"),
        (lambda: adma.LargeMarginSoftmaxLoss(inplace=True), ValueError, "inplace=True cannot be done"),
        (lambda: adma.LargeMarginSoftmaxLoss(from_probabilities=True), ValueError, "from_probabilities=True cannot"),
        (lambda: adma.LargeMarginSoftmaxLoss().attach(nn.ReLU()), ValueError, "ReLU does not end in an nn.Linear"),
        (lambda: last_linear(nn.Linear(3, 4), 5), ValueError, "with 5 outputs"),
        (lambda: functional.large_margin_logits(torch.zeros(2, 3), torch.tensor([0, 1]), torch.zeros(2, 5),
                                                torch.zeros(4, 5)), ValueError, r"\(2, 3\), \(2, 5\) and \(4, 5\)"),
        (lambda: functional.large_margin_logits(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 5),
                                                torch.zeros(3, 5)), ValueError, "no class probabilities"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("wrong", [-1, C])
def test_a_class_that_is_none_is_named(wrong):
    layer = nn.Linear(D, C)
    loss_fn = adma.LargeMarginSoftmaxLoss(margin=2).attach(layer)
    target = torch.tensor([0, wrong, 1])
    with pytest.raises(IndexError, match=rf"target {wrong} is out of range: with {C} classes"):
        loss_fn(layer(torch.randn(3, D)), target)


def test_under_ddp(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        model = DistributedDataParallel(nn.Sequential(nn.Linear(D, 6), nn.ReLU(), nn.Linear(6, C)))
        loss_fn = adma.LargeMarginSoftmaxLoss(margin=2).attach(model)
        loss_fn(model(torch.randn(3, D)), torch.tensor([0, 1, 2])).backward()
        assert model.module[2].weight.grad.abs().sum() > 0
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), margin=st.integers(1, 5))
def test_pytorch_metric_learnings_loss_agrees(seed, margin):
    """Theirs has weights (D, C), no bias, and a factor `scale` on the logits; values and gradients are the same."""
    reason = "pytorch-metric-learning is not installed: ITS LOSS WAS NOT COMPARED"
    losses = pytest.importorskip("pytorch_metric_learning.losses", reason=reason)
    x, weight, _, target = drawn(seed)
    theirs = losses.LargeMarginSoftmaxLoss(num_classes=C, embedding_size=D, margin=margin, scale=1).double()
    layer = nn.Linear(D, C, bias=False, dtype=torch.float64)
    with torch.no_grad():
        theirs.W.copy_(weight.T)
        layer.weight.copy_(weight)
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = adma.LargeMarginSoftmaxLoss(margin=margin).attach(layer)(layer(mine), target)
    expected = theirs(other, target)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    found.backward()
    expected.backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(layer.weight.grad, theirs.W.grad.T, rtol=1e-7, atol=1e-9)

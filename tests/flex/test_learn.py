"""The look-ahead hypergradient against brute force, and what a user relies on while a shape is learned."""

from __future__ import annotations

import copy
import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

import adma
from adma.family import Member, Range
from adma.flex import ShapeScheduler, ShapeTuner, balanced_error
from adma.flex.learn import set_shape
from adma.flex.sensitivity import hypergradient, sums, terms_of
from adma.torch.flexible import BinaryFlexibleLoss

CLASSES, FEATURES, N = 5, 6, 24


def network(seed: int = 0, outputs: int = CLASSES) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(FEATURES, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, outputs)]
    return nn.Sequential(*layers).double()


def batch(seed: int = 1, n: int = N) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, FEATURES, generator=g, dtype=torch.float64), torch.randint(CLASSES, (n,), generator=g)


def test_the_hypergradient_is_what_a_small_step_of_training_does_to_the_held_out_error() -> None:
    """Brute force: take the step with relative weights for a + h and a - h, and look at the held-out error."""
    model, (x, y), (xv, yv) = network().eval(), batch(1), batch(2)
    lr, a = 1e-4, 0.3
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    loss_fn = adma.AdmaLoss(a=a, normalize=True)
    tuner = ShapeTuner(loss_fn, model, optimizer, (xv, yv), every=1, batch_size=N)
    tuner.step(x, y)

    names = dict(model.named_parameters())

    def held_out_error_after(a: float) -> float:
        weights = {n: w.detach().clone().requires_grad_() for n, w in names.items()}
        t = F.cross_entropy(functional_call(model, weights, (x,)), y, reduction="none")
        p_a = torch.exp(-a * t.detach())
        slope = a * p_a * torch.exp(p_a)  # the paper's loss, base e, up to a factor that the mean takes out
        gradients = torch.autograd.grad((slope / slope.mean() * t).mean(), list(weights.values()))
        moved = {n: w - lr * g for (n, w), g in zip(weights.items(), gradients, strict=True)}
        p = torch.softmax(functional_call(model, moved, (xv,)), 1).gather(1, yv[:, None])
        return float((1 - p).mean().detach())

    h = 1e-3
    brute = (held_out_error_after(a + h) - held_out_error_after(a - h)) / (2 * h)
    assert tuner.trace["gradient/a"][0] / a == pytest.approx(brute, rel=2e-3)


def losses() -> dict[str, tuple[Callable[[], nn.Module], str, Tensor]]:
    """Name -> (a loss, the parameter to learn, targets): every option of the call counts."""
    y = batch(1)[1]
    ignored = y.clone()
    ignored[::5] = -100
    soft = torch.softmax(torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(3), dtype=torch.float64), 1)
    weight = torch.linspace(0.5, 2.0, CLASSES, dtype=torch.float64)
    return {
        "a": (lambda: adma.AdmaLoss(a=0.2), "a", y),
        "base": (lambda: adma.AdmaLoss(a=0.2, base=3.0), "base", y),
        "q": (lambda: adma.GeneralizedCrossEntropyLoss(q=0.4), "q", y),
        "gamma": (lambda: adma.FocalLoss(gamma=1.5), "gamma", y),
        "epsilon": (lambda: adma.Poly1Loss(epsilon=1.0), "epsilon", y),
        "class weights": (lambda: adma.AdmaLoss(weight, a=0.2), "a", y),
        "ignored targets": (lambda: adma.AdmaLoss(a=0.2), "a", ignored),
        "label smoothing": (lambda: adma.AdmaLoss(a=0.2, label_smoothing=0.1), "a", y),
        "smoothing, ignored, weights": (lambda: adma.AdmaLoss(weight, a=0.2, label_smoothing=0.1), "a", ignored),
        "soft targets": (lambda: adma.AdmaLoss(weight, a=0.2), "a", soft),
    }


@pytest.mark.parametrize("case", losses())
@pytest.mark.parametrize("product", ["forward", "difference"])
def test_the_terms_are_the_gradient_of_the_loss_itself(case: str, product: str) -> None:
    """`sum share psi' tdot` must be the loss's own gradient along the direction, for every option of the call."""
    make, name, y = losses()[case]
    model, (x, _) = network().eval(), batch(1)
    g = torch.Generator().manual_seed(9)
    direction = {n: torch.randn(w.shape, generator=g, dtype=w.dtype) for n, w in model.named_parameters()}
    loss_fn = make()
    loss_fn.reduction = "sum"
    optimizer = torch.optim.Adam(model.parameters())
    tuner = ShapeTuner(loss_fn, model, optimizer, batch(2), parameters=name, product=product)
    part = tuner._terms(direction, x, y)
    added = sums(loss_fn.member, [name], [part])

    def along(value: float) -> float:
        set_shape(loss_fn, {name: value})
        gradients = torch.autograd.grad(loss_fn(model(x), y), list(model.parameters()))
        return float(sum((g * v).sum() for g, v in zip(gradients, direction.values(), strict=True)))

    start = float(getattr(loss_fn.member, name))
    exact = 1e-6 if product == "forward" else 1e-4
    assert float(added[1, 0]) == pytest.approx(along(start), rel=exact)
    h = 1e-4
    assert float(added[1, 1]) == pytest.approx((along(start + h) - along(start - h)) / (2 * h), rel=1e-3, abs=1e-6)
    # and the sum of the weights, by the slope's definition: dL/dt of the targets that count
    t = part.t.clone().requires_grad_()
    with torch.enable_grad():
        from adma.torch.kernels import terms

        (slope,) = torch.autograd.grad(loss_fn.member.bind(**{name: start}).psi(t, terms.xp).sum(), t)
    assert float(added[0, 0]) == pytest.approx(float((part.share * slope).sum()), rel=1e-9)


def test_binary_losses_too() -> None:
    model, (x, _) = network(outputs=1).eval(), batch(1)
    y = (torch.rand(N, 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64)).round(decimals=1)
    loss_fn = adma.BinaryAdmaLoss(a=0.2, pos_weight=torch.tensor([2.0], dtype=torch.float64), reduction="sum")
    assert isinstance(loss_fn, BinaryFlexibleLoss)
    z = model(x)
    zdot = torch.randn(z.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    added = sums(loss_fn.member, ["a"], [terms_of(loss_fn, z.detach(), zdot, y)])
    (gradient,) = torch.autograd.grad(loss_fn(z, y), z)
    assert float(added[1, 0]) == pytest.approx(float((gradient * zdot).sum()), rel=1e-9)
    tuner = ShapeTuner(loss_fn, model, torch.optim.Adam(model.parameters()), (x, y), every=1)
    tuner.optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    tuner.optimizer.step()
    tuner.step(x, y)
    assert loss_fn.member.a != 0.2


def test_the_derivative_of_the_weighted_mean() -> None:
    added = torch.tensor([[2.0, 3.0], [5.0, 7.0]], dtype=torch.float64)  # A, A'; B, B'
    assert float(hypergradient(added)) == pytest.approx(-(7.0 * 2.0 - 5.0 * 3.0) / 4.0)


def test_a_single_sample_says_nothing_of_the_shape() -> None:
    """Its relative weight is 1 whatever the shape: rounding is no gradient, and `a` stays."""
    for seed in range(10):
        model, (x, y) = network(seed).eval(), batch(seed, n=1)
        tuner = ShapeTuner(adma.AdmaLoss(a=0.2), model, torch.optim.Adam(model.parameters()), batch(2), every=1)
        for _ in range(3):
            tuner.optimizer.zero_grad()
            tuner.loss_fn(model(x), y).backward()
            tuner.optimizer.step()
            tuner.step(x, y)
        assert tuner.trace["gradient/a"] == [0.0] * 3
        assert tuner.values["a"] == 0.2
    assert hypergradient(torch.full((2, 2), math.inf, dtype=torch.float64)).isnan().all()


def trained(steps: int, tuner: ShapeTuner, start: int = 0) -> None:
    for k in range(start, start + steps):
        x, y = batch(100 + k)
        tuner.optimizer.zero_grad()
        tuner.loss_fn(tuner.model(x), y).backward()
        tuner.optimizer.step()
        tuner.step(x, y)


def made(kind: str = "Adam", every: int = 2, **options: object) -> ShapeTuner:
    model = network()
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=1e-2)
    return ShapeTuner(adma.AdmaLoss(a=0.2, normalize=True), model, optimizer, batch(2), every=every, **options)  # type: ignore[arg-type]


def test_training_is_left_as_it_was() -> None:
    """Weights, buffers, gradients, modes, the random state: only the loss's shape changes."""
    tuner = made(every=1)
    model = tuner.model
    x, y = batch(7)
    model[3].eval()  # a part that the user keeps in evaluation mode
    tuner.loss_fn(model(x), y).backward()
    tuner.optimizer.step()
    before = copy.deepcopy(model.state_dict()), [p.grad.clone() for p in model.parameters()], torch.get_rng_state()
    modes = [m.training for m in model.modules()]
    state = copy.deepcopy(tuner.optimizer.state_dict())
    tuner.step(x, y)
    assert tuner.loss_fn.member.a != 0.2
    assert all(torch.equal(v, before[0][k]) for k, v in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before[1], strict=True))
    assert torch.equal(torch.get_rng_state(), before[2])
    assert [m.training for m in model.modules()] == modes
    assert str(tuner.optimizer.state_dict()) == str(state)
    assert all(p.requires_grad for p in model.parameters())


def test_it_resumes_exactly() -> None:
    whole = made()
    trained(12, whole)
    first = made()
    trained(7, first)
    file = io.BytesIO()
    parts = (first.model, first.optimizer, first)
    torch.save([p.state_dict() for p in parts] + [torch.get_rng_state()], file)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    second = made()
    for part, state in zip((second.model, second.optimizer, second), states[:3], strict=True):
        part.load_state_dict(state)
    torch.set_rng_state(states[3])
    trained(5, second, start=7)
    assert second.trace == whole.trace
    assert len(whole.trace["a"]) == 6
    assert all(torch.equal(a, b) for a, b in zip(second.model.parameters(), whole.model.parameters(), strict=True))


def test_the_learning_rate_of_a_resumed_optimizer_counts() -> None:
    """`load_state_dict` gives an optimizer new groups: a tuner that was made before must see the rates in those."""

    def decayed(tuner: ShapeTuner) -> ShapeTuner:
        tuner.optimizer.param_groups[0]["lr"] *= 0.1
        return tuner

    whole = made(every=1)
    trained(3, whole)
    first = made(every=1)
    trained(3, first)
    second = made(every=1)
    for part, other in ((second.model, first.model), (second.optimizer, first.optimizer), (second, first)):
        part.load_state_dict(copy.deepcopy(other.state_dict()))
    random = torch.get_rng_state()
    for tuner in (whole, second):
        torch.set_rng_state(random)
        trained(4, decayed(tuner), start=3)
    assert second.trace == whole.trace


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_data_loader_leaves_the_random_state_and_resumes_in_its_order(shuffle: bool) -> None:
    """It draws a seed of torch's global random numbers in each round, and its order too where it shuffles."""
    x, y = batch(2, n=30)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8, shuffle=shuffle)

    def tuner() -> ShapeTuner:
        model = network()
        return ShapeTuner(adma.AdmaLoss(a=0.2), model, torch.optim.Adam(model.parameters()), loader, every=1)

    first, second = tuner(), tuner()
    trained(6, first)  # 4 batches a round
    second.load_state_dict(first.state_dict())
    torch.manual_seed(5)
    before = torch.get_rng_state()
    rounds = [[first._held_out.next()[1] for _ in range(n)] for n in (2, 4)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert all(torch.equal(one, second._held_out.next()[1]) for one in [*rounds[0], *rounds[1]])
    assert torch.equal(torch.cat(rounds[1]), y) is not shuffle
    assert torch.cat(rounds[1]).bincount().tolist() == y.bincount().tolist()


def test_a_data_loader_resumes_at_its_place() -> None:
    x, y = batch(2, n=30)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)

    def tuner() -> ShapeTuner:
        model = network()
        return ShapeTuner(adma.AdmaLoss(a=0.2), model, torch.optim.Adam(model.parameters()), loader, every=1)

    whole, first = tuner(), tuner()
    trained(7, whole)  # 4 batches a round
    trained(5, first)
    second = tuner()
    for part, other in ((second.model, first.model), (second.optimizer, first.optimizer), (second, first)):
        part.load_state_dict(other.state_dict())
    (a, _), (b, _) = second._held_out.next(), batch(2, n=30)
    assert torch.equal(a, b[8:16])


def test_micro_batches_count_as_the_batch_that_they_make() -> None:
    x, y = batch(5)
    one, two = made(every=1), made(every=1)
    for tuner in (one, two):
        tuner.optimizer.zero_grad()
        tuner.loss_fn(tuner.model.eval()(x), y).backward()
        tuner.optimizer.step()
    one.step(x, y)
    for part in torch.arange(N).split(7):
        two.collect(x[part], y[part])
    two.step()
    assert two.trace["gradient/a"][0] == pytest.approx(one.trace["gradient/a"][0], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(dtype: torch.dtype) -> None:
    """The hypergradient is that of full precision but for the type's rounding."""
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES))
        optimizer = torch.optim.SGD(model.parameters(), 1e-6)  # Adam's first step is the sign of a rounded gradient
        loss_fn = adma.AdmaLoss(a=0.2, normalize=True)
        x, y = batch(1, n=256)
        held_out = tuple(t.float() if t.is_floating_point() else t for t in batch(2, n=256))
        tuner = ShapeTuner(loss_fn, model, optimizer, held_out, every=1, batch_size=256)
        with torch.autocast("cpu", dtype, enabled=enabled):
            loss_fn(model(x.float()), y).backward()
            optimizer.step()
            tuner.step(x.float(), y)
        found.append(tuner.trace["gradient/a"][0])
    assert found[1] == pytest.approx(found[0], rel=0.1)


def test_several_inputs_by_a_data_loader() -> None:
    """It makes a list of the tuple of inputs that a data set gives."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(FEATURES, CLASSES, dtype=torch.float64)

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return self.layer(first + second)  # type: ignore[no-any-return]

    (x, y), (xv, yv) = batch(1), batch(2)
    pairs = [((one, one), label) for one, label in zip(xv, yv, strict=True)]
    loader = torch.utils.data.DataLoader(pairs, batch_size=len(yv))  # type: ignore[arg-type]
    found = []
    for held_out in (loader, [((xv, xv), yv)]):
        torch.manual_seed(0)
        model = Sum()
        loss_fn = adma.AdmaLoss(a=0.2, normalize=True)
        tuner = ShapeTuner(loss_fn, model, torch.optim.SGD(model.parameters(), 0.1), held_out, every=1)
        tuner.step((x, x), y)
        found.append(tuner.trace["gradient/a"][0])
    assert found[0] == found[1] != 0


def test_held_out_samples_are_taken_to_the_weights_device() -> None:
    """A DataLoader makes them in the CPU's memory; "meta" stands for a GPU."""
    x, y = batch(2)
    elsewhere = torch.empty(2, device="meta")
    packed = nn.utils.rnn.pack_sequence([x])
    seen: list[object] = []

    def direction(inputs: tuple[object, ...], target: Tensor) -> dict[str, Tensor]:
        seen.extend([*inputs, target])
        raise StopIteration

    model = nn.Linear(FEATURES, CLASSES, device="meta")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loader = [((x, {"of": [x]}, elsewhere, packed, "word"), y)]
    tuner = ShapeTuner(adma.AdmaLoss(normalize=True), model, optimizer, loader, every=1)
    tuner._direction = direction  # type: ignore[method-assign]
    with pytest.raises(StopIteration):
        tuner.step(torch.empty(3, FEATURES, device="meta"), torch.empty(3, device="meta"))
    first, named, third, fourth, word, target = seen
    assert isinstance(first, Tensor)
    assert isinstance(target, Tensor)
    assert isinstance(named, dict)
    assert {first.device.type, named["of"][0].device.type, target.device.type} == {"meta"}
    assert third is elsewhere
    assert fourth is packed
    assert word == "word"


@pytest.mark.parametrize("compiled", [False, True])
def test_dicts_and_objects_with_logits(compiled: bool) -> None:
    """As Hugging Face's models are called and answer; torch.compile's wrapper is looked through."""

    class Answer:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(FEATURES, CLASSES, dtype=torch.float64)

        def forward(self, features: Tensor) -> Answer:
            return Answer(self.layer(features))

    model = Model()
    (x, y), (xv, yv) = batch(1), batch(2)
    outer = torch.compile(model, backend="eager") if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss_fn = adma.AdmaLoss(a=0.2, normalize=True)
    own = lambda v, state, group: v  # noqa: E731
    tuner = ShapeTuner(loss_fn, outer, optimizer, [({"features": xv}, yv)], every=1, precondition=own)
    tuner.step({"features": x}, y)
    assert math.isfinite(tuner.trace["gradient/a"][0])


def test_a_hypergradient_that_is_not_finite_moves_nothing_and_is_on_record() -> None:
    tuner = made(every=1)
    trained(2, tuner)
    value = tuner.values["a"]
    x, y = batch(3)
    tuner.step(x * math.inf, y)
    assert tuner.values["a"] == value
    assert math.isnan(tuner.trace["gradient/a"][-1])
    trained(1, tuner, start=5)
    assert tuner.values["a"] != value


def test_the_bounds_hold() -> None:
    tuner = made(every=1, step_size=50.0)
    trained(4, tuner)
    assert all(0.01 <= a <= 0.5 for a in tuner.trace["a"])
    assert {0.01, 0.5} & set(tuner.trace["a"])
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    names = ("a", "base")
    both = ShapeTuner(adma.AdmaLoss(a=0.2), model, optimizer, batch(2), parameters=names, every=1, step_size=3.0)
    trained(6, both)
    for a, base in zip(both.trace["a"], both.trace["base"], strict=True):
        assert a <= 1 / (1 + math.log(base)) * (1 + 1e-12)  # convex in p, whatever the base has become


def pushed(loss_fn: adma.AdmaLoss, signs: list[dict[str, float]], **options: object) -> ShapeTuner:
    """A tuner whose hypergradients are these, one call each."""
    model = network()
    tuner = ShapeTuner(loss_fn, model, torch.optim.Adam(model.parameters()), batch(2), every=1, **options)  # type: ignore[arg-type]
    for sign in signs:
        tuner._hypergradient = lambda _, sign=sign: [sign[c.name] for c in tuner._coordinates]  # type: ignore[misc, method-assign]
        tuner.step(*batch(3))
    return tuner


@pytest.mark.parametrize("a", [0.26, 0.3, 0.7, 1 / 3])
def test_a_base_that_is_learned_alone_stops_where_adma_is_no_longer_convex(a: float) -> None:
    loss_fn = adma.AdmaLoss(a=a, base=1.2)
    tuner = pushed(loss_fn, [{"base": -1.0}] * 30, parameters="base")
    end = min(math.exp(1 / a - 1), 20.0)
    assert tuner.values["base"] == pytest.approx(end, rel=1e-12)
    assert loss_fn.member.convex
    assert loss_fn.posterior(torch.zeros(1, 2)).tolist() == [[0.5, 0.5]]


def test_a_base_with_bounds_of_its_own_goes_by_these() -> None:
    with pytest.warns(UserWarning, match="a = 0.3 is not convex in p"):
        tuner = pushed(adma.AdmaLoss(a=0.3), [{"base": -1.0}] * 30, parameters="base", bounds={"base": (2, 12)})
    assert tuner.values == {"base": 12}


def test_what_stopped_at_the_convex_range_turns_back_at_once() -> None:
    """Its coordinate stops too: it does not go on behind the bound, and back through all of that later."""
    up, down = {"a": -1.0, "base": -1.0}, {"a": 1.0, "base": -1.0}
    tuner = pushed(adma.AdmaLoss(a=0.2), [up] * 20, parameters=("a", "base"))
    assert tuner.values == {"a": pytest.approx(1 / (1 + math.log(20))), "base": 20}
    assert tuner._u == [c.inward(tuner.values[c.name]) for c in tuner._coordinates]
    tuner._moments = [[0.0, 0.0], [0.0, 0.0]]
    tuner._updates = 0
    tuner._hypergradient = lambda _: [down[c.name] for c in tuner._coordinates]  # type: ignore[method-assign]
    tuner.step(*batch(3))
    assert tuner.values["a"] == pytest.approx(math.exp(-0.2) / (1 + math.log(20)))


def test_bounds_that_are_given_hold_and_the_other_parameter_yields() -> None:
    both = {"a": -1.0, "base": -1.0}
    with pytest.warns(UserWarning, match="a = 0.9 is not convex in p"):
        tuner = pushed(adma.AdmaLoss(a=0.45), [both] * 30, parameters=("a", "base"), bounds={"a": (0.4, 0.9)})
    assert tuner.values["a"] == 0.9
    assert tuner.values["base"] == pytest.approx(math.exp(1 / 0.9 - 1), rel=1e-12)
    assert tuner.loss_fn.member.convex
    with pytest.warns(UserWarning, match="not convex"):
        past = adma.AdmaLoss(a=0.6)
    with pytest.raises(ValueError, match=r"base = 2.718\d* of adma lies outside its bounds \(1.05, 1.94773\)"):
        pushed(past, [], parameters="base")


def test_a_shape_past_the_convex_range_is_warned_of_once() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        tuner = pushed(adma.AdmaLoss(a=0.45), [{"a": -1.0}] * 10, bounds={"a": (0.4, 0.9)})
    assert tuner.values["a"] == 0.9
    assert [str(w.message)[:23] for w in heard] == ["Adma with a = 0.9 is no"]


def test_bounds_that_the_loss_refuses_are_refused_at_once() -> None:
    loss_fn = adma.GeneralizedCrossEntropyLoss(q=0.9)
    with pytest.raises(ValueError, match=r"bounds of q: q must be in \(0, 1\], got 1.5"):
        pushed(loss_fn, [], parameters="q", bounds={"q": (0.1, 1.5)})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a", "base"])
def test_the_names_of_a_members_own_parameters_are_its_own(name: str) -> None:
    """`a` and `base` mean what they mean for Adma in Adma alone."""

    @dataclass(frozen=True)
    class Own(Member):
        a: float = 0.3
        base: float = 0.8
        name: ClassVar[str] = "own"
        space: ClassVar[dict[str, Range]] = {"a": Range(0.01, 2.0, log=True), "base": Range(0.5, 3.0, log=True)}

        def psi(self, t, xp=numpy):  # type: ignore[no-untyped-def]
            return -xp.expm1(-self.a * self.base * t)

        def slope(self, t, xp=numpy):  # type: ignore[no-untyped-def]
            return self.a * self.base * xp.exp(-self.a * self.base * t)

    loss_fn = adma.FlexibleLoss(Own())
    tuner = pushed(loss_fn, [{name: -1.0}] * 30, parameters=name)  # type: ignore[arg-type]
    assert tuner.values[name] == Own.space[name].high


def test_beside_a_schedule_whose_values_are_tensors() -> None:
    """For compiled code a `ShapeScheduler` fills tensors in place: they stay, and are no numbers to check."""
    model = network()
    loss_fn = adma.AdmaLoss(a=0.2, normalize=True)
    schedule = ShapeScheduler(loss_fn, 4, tensors=True, base="linear/2/4")
    tuner = ShapeTuner(loss_fn, model, torch.optim.Adam(model.parameters()), batch(2), every=1)
    base = loss_fn.member.base
    for k in range(4):
        trained(1, tuner, start=k)
        schedule.step()
    assert loss_fn.member.base is base
    assert (float(base), isinstance(loss_fn.member.a, float)) == (4.0, True)
    assert tuner.values["a"] != 0.2


def digits_run(noise: float, seed: int, a: float) -> float:
    """The learned `a` at the end: scikit-learn's digits, false labels in training and held-out part alike."""
    from sklearn.datasets import load_digits

    data = load_digits()
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(data.target), generator=g)[:1200]
    x, y = torch.tensor(data.data, dtype=torch.float32)[order] / 16, torch.tensor(data.target)[order]
    false = torch.rand(1200, generator=g) < noise
    y = torch.where(false, (y + torch.randint(1, 10, (1200,), generator=g)) % 10, y)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    tuner = ShapeTuner(adma.AdmaLoss(a=a), model, optimizer, (x[:150], y[:150]), seed=seed, every=8)
    for _ in range(20):
        for index in (torch.randperm(1050, generator=g) + 150).split(64):
            optimizer.zero_grad()
            tuner.loss_fn(model(x[index]), y[index]).backward()
            optimizer.step()
            tuner.step(x[index], y[index])
    return tuner.values["a"]


def test_false_labels_raise_a_and_true_ones_do_not() -> None:
    noisy = [digits_run(0.4, seed, a=0.1) for seed in range(3)]
    clean = [digits_run(0.0, seed, a=0.1) for seed in range(3)]
    assert min(noisy) > 0.3
    assert sum(clean) < 0.7 * sum(noisy)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parameters": ("gamma",)}, "adma has no parameter 'gamma'; it has a, base, normalize"),
        ({"parameters": ()}, "name at least one"),
        ({"parameters": ("normalize",)}, "states no range for normalize"),
        ({"bounds": {"a": (0.3, 0.5)}}, "a = 0.2 of adma lies outside its bounds"),
        ({"bounds": {"a": (0.5, 0.1)}}, "low < high"),
        ({"bounds": {"a": (0.0, 0.5)}}, "must lie above 0"),
        ({"bounds": {"a": (math.nan, 0.5)}}, "a bound of a must be .* got nan"),
        ({"every": 0}, "every must be a whole number from 1"),
        ({"step_size": 0.0}, "step_size"),
        ({"product": "reverse"}, "product"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [0.4, (0.1,), "0.1", ("0.1", "0.4")])
def test_bounds_that_are_no_two_numbers_are_named(given: object) -> None:
    with pytest.raises(TypeError, match=r"bounds? of a must be"):
        made(bounds={"a": given})


def test_wrong_objects_are_named() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(TypeError, match="a loss of the family"):
        ShapeTuner(nn.CrossEntropyLoss(), model, optimizer, batch())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="takes probabilities"):
        ShapeTuner(adma.AdmaLoss(from_probabilities=True), model, optimizer, batch())
    with pytest.raises(ValueError, match="optimizer holds no weight of model"):
        ShapeTuner(adma.AdmaLoss(), network(), optimizer, batch())
    with pytest.raises(ValueError, match="Rprop"):
        ShapeTuner(adma.AdmaLoss(), model, torch.optim.Rprop(model.parameters()), batch())
    with pytest.raises(TypeError, match="gone through again"):
        ShapeTuner(adma.AdmaLoss(), model, optimizer, iter([batch()]))
    with pytest.raises(ValueError, match="24 inputs go with 3 targets"):
        ShapeTuner(adma.AdmaLoss(), model, optimizer, (batch()[0], batch()[1][:3]))
    with pytest.raises(ValueError, match="no samples"):
        ShapeTuner(adma.AdmaLoss(), model, optimizer, (batch()[0][:0], batch()[1][:0]))
    tuner = ShapeTuner(adma.AdmaLoss(), model, optimizer, [], every=1)
    with pytest.raises(ValueError, match="yields no batch"):
        tuner.step(*batch())
    with pytest.raises(ValueError, match="no training batch was given"):
        made(every=1).step()
    with pytest.raises(ValueError, match="the state is of a, this tuner learns q"):
        ShapeTuner(adma.GeneralizedCrossEntropyLoss(), model, optimizer, batch(), parameters="q").load_state_dict(
            made().state_dict()
        )


def test_a_network_without_forward_mode_is_told_the_way_out() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return x * x

        @staticmethod
        def setup_context(ctx: object, inputs: tuple[Tensor], output: Tensor) -> None:
            ctx.save_for_backward(inputs[0])  # type: ignore[attr-defined]

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:
            return 2 * ctx.saved_tensors[0] * grad  # type: ignore[attr-defined]

    class Model(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return Square.apply(super().forward(x))

    model = Model(FEATURES, CLASSES, dtype=torch.float64)
    optimizer = torch.optim.Adam(model.parameters())
    tuner = ShapeTuner(adma.AdmaLoss(a=0.2), model, optimizer, batch(2), every=1)
    with pytest.raises(RuntimeError, match="product='difference'"):
        trained(1, tuner)
    trained(1, ShapeTuner(adma.AdmaLoss(a=0.2), model, optimizer, batch(2), every=1, product="difference"))


def test_steps_that_grow_with_the_loss_are_warned_of() -> None:
    model = network()
    with pytest.warns(UserWarning, match="normalize=True, or Adam"):
        ShapeTuner(adma.AdmaLoss(a=0.2), model, torch.optim.SGD(model.parameters(), 0.1), batch())


def test_the_balanced_error_counts_classes_alike() -> None:
    logits, y = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0] * 30 + [1] * 10)
    p = torch.softmax(logits, 1).gather(1, y[:, None]).squeeze(1)
    expected = ((1 - p[:30]).mean() + (1 - p[30:]).mean()) / 2
    assert float(balanced_error(logits, y)) == pytest.approx(float(expected), rel=1e-6)

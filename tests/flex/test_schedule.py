"""A shape that follows a schedule: its values against numpy and torch's LR schedulers, and the object that steps it."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

import adma
from adma.family import Member
from adma.flex import Constant, Cosine, Geometric, Linear, Schedule, ShapeScheduler, Warmup
from adma.flex import schedule as module
from adma.torch.binary import binary_flexible_loss

U = np.linspace(0, 1, 1001)
real = st.floats(-1e6, 1e6)
positive = st.floats(1e-6, 1e6)
knots = st.lists(real, min_size=2, max_size=6)
SCHEDULES = st.one_of(
    st.builds(Constant, real),
    st.builds(Linear, knots),
    st.builds(Cosine, knots),
    st.builds(Geometric, st.lists(positive, min_size=2, max_size=6)),
    st.builds(Warmup, real, real, st.floats(1e-6, 1)),
)


def over(schedule: Schedule) -> np.ndarray:
    return np.array([schedule(float(u)) for u in U])


def rates(make, steps: int) -> np.ndarray:
    """What an LR scheduler of torch does over so many steps."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    scheduler, found = make(optimizer), []
    for _ in range(steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(found)


# -- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [(0.01, 0.4), (0.01, 0.4, 0.01), (3.0, -1.0, 2.0, 2.0, 7.0)])
def test_linear_is_numpys_interpolation(at):
    np.testing.assert_allclose(over(Linear(at)), np.interp(U, np.linspace(0, 1, len(at)), at), rtol=0, atol=1e-14)


def test_geometric_is_linear_in_the_logarithm():
    at = (0.01, 0.4, 0.05)
    expected = np.exp(np.interp(U, np.linspace(0, 1, 3), np.log(at)))
    np.testing.assert_allclose(over(Geometric(at)), expected, rtol=1e-13)


def test_cosine_is_torchs_cosine_annealing_between_two_knots():
    expected = rates(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=50, eta_min=0.05), 50)
    np.testing.assert_allclose([Cosine((0.4, 0.05))(k / 50) for k in range(51)], expected, rtol=1e-12)
    there_and_back = Cosine((0.4, 0.05, 0.4))
    np.testing.assert_allclose([there_and_back(k / 100) for k in range(51)], expected, rtol=1e-12)
    np.testing.assert_allclose([there_and_back(k / 100) for k in range(100, 49, -1)], expected, rtol=1e-12)


def test_warmup_is_torchs_linear_start():
    expected = rates(lambda o: lr_scheduler.LinearLR(o, start_factor=0.25, total_iters=20), 100)
    np.testing.assert_allclose([Warmup(0.1, 0.4, 0.2)(k / 100) for k in range(101)], expected, rtol=1e-12)


@given(schedule=SCHEDULES, u=st.floats(0, 1))
def test_a_value_lies_between_the_knots_and_the_knots_are_met_exactly(schedule, u):
    at = [schedule(b) for b in schedule.bends]
    if isinstance(schedule, (Linear, Cosine, Geometric)):
        ends = schedule.knots
        assert (schedule(0.0), schedule(1.0)) == (ends[0], ends[-1])
        assert at == pytest.approx(list(ends), rel=1e-9, abs=1e-9)
    elif isinstance(schedule, Warmup):
        assert at[0] == schedule.start
        assert schedule(1.0) == schedule(schedule.fraction) == schedule.end
        ends = (schedule.start, schedule.end)
    else:
        ends = (schedule.value,)
    assert min(ends) <= schedule(u) <= max(ends)


@given(schedule=SCHEDULES)
def test_a_schedule_comes_back_from_its_text_to_the_last_bit(schedule):
    assert module.parse(str(schedule)) == schedule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "lineer/0.1/0.2",
            "the schedule 'lineer' is not known, did you mean 'linear'?; known: constant, linear, cosine",
        ),
        ("0.1/0.2", "the schedule '0.1' is not known"),
        ("", "the schedule '' is not known"),
        ("linear/0.1", "linear takes at least two numbers, such as 'linear/0.01/0.4', got 1"),
        ("linear", "takes at least two numbers"),
        ("warmup/0.1/0.3", "warmup takes 3 numbers, such as 'warmup/0.01/0.3/0.2', got 2"),
        ("constant/0.1/0.3", "constant takes 1 number, such as 'constant/0.3', got 2"),
        ("linear/0.1/x", "must be a number, got 'x'"),
        ("linear/0.1//0.2", "must be a number, got ''"),
        ("linear/0.1/inf", "knot 2 must be in (-inf, inf), got inf"),
        ("cosine/nan/1", "knot 1 must be in"),
        ("geometric/0/0.3", "knot 1 of geometric must be in (0, inf), got 0.0"),
        ("warmup/0.1/0.3/0", "fraction must be in (0, 1], got 0.0"),
        ("warmup/0.1/0.3/1.5", "fraction must be in (0, 1], got 1.5"),
    ],
)
def test_a_text_that_is_no_schedule_is_refused_with_its_own_words(text, words):
    with pytest.raises(ValueError) as caught:
        module.parse(text)
    assert words in str(caught.value)
    assert repr(text) in str(caught.value)


def test_what_no_schedule_can_be_made_of_is_refused():
    for wrong in ("0.1/0.2", 3, {0.1, 0.2}):
        with pytest.raises(TypeError, match="knots must be a sequence of numbers"):
            Linear(wrong)
    with pytest.raises(ValueError, match="linear needs at least two knots"):
        Linear((0.1,))
    with pytest.raises(TypeError, match="a schedule is written as a string"):
        module.parse(0.3)  # type: ignore[arg-type]
    for outside in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"progress must be in \[0, 1\]"):
            Linear((0.1, 0.2))(outside)


# -- the scheduler ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss_fn", "schedules"),
    [
        (adma.AdmaLoss(normalize=True), {"a": "linear/0.01/0.4", "base": "cosine/2/3"}),
        (adma.BinaryAdmaLoss(a=0.1), {"a": "linear/0.1/0.4"}),
        (adma.GeneralizedCrossEntropyLoss(), {"q": "geometric/0.05/1"}),
        (adma.BinaryGeneralizedCrossEntropyLoss(), {"q": "warmup/0.05/1/0.5"}),
        (adma.FocalLoss(), {"gamma": "linear/0/2/0"}),
        (adma.Poly1Loss(), {"epsilon": "linear/-1/2"}),
        (adma.BiTemperedLoss(), {"t1": "linear/1/0.8", "t2": "linear/1/1.2"}),
        (adma.FlexibleLoss(adma.parse("gce")), {"q": 0.3}),
        (adma.BinaryFlexibleLoss(adma.parse("adma:a=0.1")), {"a": Linear((0.1, 0.2))}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else str(value),
)
@pytest.mark.filterwarnings("ignore:Adma:UserWarning")
def test_every_loss_with_a_shape_has_the_schedules_values_and_their_loss(loss_fn, schedules):
    loss_fn = copy.deepcopy(loss_fn)
    shape = ShapeScheduler(loss_fn, 10, **schedules)
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    binary = "Binary" in type(loss_fn).__name__
    y = torch.tensor([[0.0, 1.0, 1.0]] * 4) if binary else torch.tensor([0, 1, 2, 0])
    seen = []
    for k in range(11):
        expected = {
            name: (s if isinstance(s, Schedule) else module._schedule(name, s))(k / 10) for name, s in schedules.items()
        }
        assert shape.get_last_value() == expected == {name: loss_fn.member.parameters()[name] for name in schedules}
        fresh = adma.spec.parse(adma.spec.format_spec(type(loss_fn.member)(**loss_fn.member.parameters())))
        own = binary_flexible_loss(fresh, z, y) if binary else adma.make_loss(fresh)(z, y)
        torch.testing.assert_close(loss_fn(z, y), own, rtol=0, atol=0)
        seen.append(loss_fn(z, y).item())
        if k < 10:
            shape.step()
    assert len(set(seen)) > 1 or schedules == {"q": 0.3}


def test_values_are_set_at_once_and_the_last_step_is_the_end():
    loss_fn = adma.AdmaLoss(a=0.26, normalize=True)
    shape = ShapeScheduler(loss_fn, total_steps=3, a="linear/0.1/0.4")
    found = [loss_fn.a]
    for _ in range(3):
        shape.step()
        found.append(loss_fn.a)
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert (found[0], found[-1]) == (0.1, 0.4)
    with pytest.raises(RuntimeError, match="made for 3 steps, this is one more; total_steps is the number of the opt"):
        shape.step()
    assert loss_fn.a == 0.4  # as it was


def test_what_the_user_changes_beside_it_stays():
    loss_fn = adma.AdmaLoss()
    shape = ShapeScheduler(loss_fn, 2, a="linear/0.1/0.4")
    loss_fn.base = 2.0
    shape.step()
    assert (loss_fn.a, loss_fn.base) == (0.25, 2.0)


def test_training_goes_on_exactly_from_a_state():
    whole, half = adma.AdmaLoss(normalize=True), adma.AdmaLoss(normalize=True)
    schedules = {"a": "geometric/0.01/0.4/0.05", "base": "warmup/2/3/0.3"}
    first, before = (ShapeScheduler(loss_fn, 50, **schedules) for loss_fn in (whole, half))
    for _ in range(20):
        first.step()
        before.step()
    state = json.loads(json.dumps(before.state_dict()))  # plain values
    resumed_loss = adma.AdmaLoss(normalize=True)
    resumed = ShapeScheduler(resumed_loss, 50, **schedules)
    resumed.load_state_dict(state)
    for _ in range(30):
        assert resumed_loss.member == whole.member
        assert resumed.get_last_value() == first.get_last_value()
        first.step()
        resumed.step()
    assert resumed_loss.member == whole.member
    other = ShapeScheduler(adma.AdmaLoss(), 50, a="linear/0.1/0.4")
    with pytest.raises(ValueError, match=r"the state has schedules .*geometric.*, this scheduler has .*linear"):
        other.load_state_dict(state)
    longer = ShapeScheduler(adma.AdmaLoss(normalize=True), 60, **schedules)
    with pytest.raises(ValueError, match="the state has total_steps 50, this scheduler has 60"):
        longer.load_state_dict(state)


def test_a_training_under_a_schedule_is_one_with_the_parameter_set_by_hand():
    def train(stepping: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Linear(5, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        x, y = torch.randn(20, 5), torch.randint(3, (20,))
        loss_fn = adma.AdmaLoss(a=0.1, normalize=True)
        shape = ShapeScheduler(loss_fn, 10, a="linear/0.1/0.5") if stepping else None
        for k in range(10):
            if shape is None:
                loss_fn = adma.AdmaLoss(a=0.1 + 0.4 * k / 10, normalize=True)
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
            if shape is not None:
                shape.step()
        return model.weight.detach()

    torch.testing.assert_close(train(True), train(False))


# -- mistakes and warnings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedules", "error", "words"),
    [
        ({}, ValueError, "name a parameter and its schedule, such as a='linear/0.01/0.4'; the loss has a, base"),
        ({"alpha": 0.3}, ValueError, "adma has no number 'alpha' to change; it has a, base"),
        ({"bas": 2.0}, ValueError, "adma has no number 'bas' to change, did you mean 'base'?"),
        ({"normalize": 1.0}, ValueError, "adma has no number 'normalize' to change"),
        ({"a": "lineer/0.1/0.2"}, ValueError, "did you mean 'linear'"),
        ({"a": True}, TypeError, "a must be a schedule, a text such as 'linear/0.01/0.4', or a number, got True"),
        ({"a": None}, TypeError, "a must be a schedule"),
        ({"a": "linear/0/0.4"}, ValueError, "a=linear/0.0/0.4 at 0 of the training: a must be in (0, inf), got 0.0"),
        ({"a": "linear/0.4/0.1/-0.1/0.4"}, ValueError, "at 0.667 of the training: a must be in (0, inf), got -0.1"),
        ({"a": 0.3, "base": "warmup/1/3/0.5"}, ValueError, "base must be in (1, inf), got 1.0"),
    ],
)
def test_a_schedule_that_would_fail_on_the_way_fails_at_construction(schedules, error, words):
    loss_fn = adma.AdmaLoss(a=0.2)
    with pytest.raises(error) as caught:
        ShapeScheduler(loss_fn, 10, **schedules)
    assert words in str(caught.value)
    assert loss_fn.a == 0.2  # untouched


@pytest.mark.parametrize("total", [0, -1, 1.5, True, "10", None])
def test_total_steps_is_a_whole_number(total):
    with pytest.raises(ValueError, match="total_steps must be a whole number from 1, got"):
        ShapeScheduler(adma.AdmaLoss(), total, a=0.3)


def test_a_loss_that_has_no_shape_is_refused():
    with pytest.raises(
        TypeError, match=r"must be a loss module of adma such as adma.AdmaLoss\(\), got CrossEntropyLoss"
    ):
        ShapeScheduler(torch.nn.CrossEntropyLoss(), 10, a=0.3)
    with pytest.raises(ValueError, match="the loss has none"):
        ShapeScheduler(adma.MeanSquaredErrorLoss(), 10)
    with pytest.raises(ValueError, match="cce has no number 'a' to change; it has none"):
        ShapeScheduler(adma.CrossEntropyLoss(), 10, a=0.3)


def test_two_schedules_that_meet_badly_between_their_knots_are_found():
    @dataclass(frozen=True)
    class Disc(Member):
        """Allowed where x + y is at most 1.05: both ends of the path below are, not the middle."""

        x: float = 0.0
        y: float = 0.0
        name: ClassVar[str] = "disc"

        def __post_init__(self) -> None:
            if self.x + self.y > 1.05:
                raise ValueError(f"x + y must be at most 1.05, got {self.x + self.y:g}")

    loss_fn = adma.FlexibleLoss(Disc())
    # straight against eased: the sum passes 1.05 off the knots
    with pytest.raises(ValueError, match=r"x \+ y must be at most 1.05"):
        ShapeScheduler(loss_fn, 10, x="linear/1/0", y="cosine/0/1")


def test_past_the_convex_range_it_warns_once_and_stepping_is_silent():
    loss_fn = adma.AdmaLoss(a=0.2)
    with pytest.warns(UserWarning, match="convex") as heard:
        shape = ShapeScheduler(loss_fn, 100, a="linear/0.2/0.9")
    assert len(heard) == 1
    assert str(heard[0].message).startswith("a=linear/0.2/0.9: Adma with a = 0.9 is not convex in p")
    assert heard[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(100):
            shape.step()
    assert loss_fn.a == 0.9


def test_an_adma_that_shrinks_to_nothing_warns_and_a_normalised_one_does_not():
    with pytest.warns(UserWarning, match=r"no sample weighs more than 0.027 of .* With normalize=true the greatest"):
        ShapeScheduler(adma.AdmaLoss(), 10, a="linear/0.01/0.4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ShapeScheduler(adma.AdmaLoss(normalize=True), 10, a="linear/0.01/0.4")
        ShapeScheduler(adma.AdmaLoss(), 10, a="linear/0.1/0.4")
        ShapeScheduler(adma.FocalLoss(), 10, gamma="linear/0/2")


# -- compiled -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "tensors", "schedules"),
    [
        ("adma:normalize=true", False, {"a": "linear/0.01/0.4"}),
        ("adma:normalize=true", True, {"a": "linear/0.01/0.4", "base": "linear/1.5/4"}),
    ],
)
def test_compiled_code_sees_the_schedule_and_is_not_compiled_at_each_step(spec, tensors, schedules):
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    loss_fn, plain = adma.make_loss(spec), adma.make_loss(spec)
    shape = ShapeScheduler(loss_fn, 12, tensors=tensors, **schedules)
    same = ShapeScheduler(plain, 12, **schedules)
    compiled = torch.compile(loss_fn, fullgraph=True, backend=counter)
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    for _ in range(12):  # torch gives up after 8 compilations
        value, expected = compiled(z, y), plain(z, y)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(torch.autograd.grad(value, z), torch.autograd.grad(expected, z))
        assert {k: float(v) for k, v in loss_fn.member.parameters().items()} == pytest.approx(
            {k: float(v) for k, v in plain.member.parameters().items()}, abs=0
        )
        shape.step()
        same.step()
    assert counter.frame_count <= 3


def test_importing_adma_imports_no_trainer():
    code = "import sys, adma.flex; print([m for m in ('lightning', 'transformers', 'accelerate') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_tensors_are_for_members_of_the_family():
    with pytest.raises(TypeError, match="tensors=True is for members of the family, bi_tempered is none"):
        ShapeScheduler(adma.BiTemperedLoss(), 10, tensors=True, t1=0.5)


def test_a_compiled_module_is_scheduled_as_the_module_itself():
    loss_fn = adma.AdmaLoss(normalize=True)
    shape = ShapeScheduler(torch.compile(loss_fn, backend="eager"), 2, a="linear/0.1/0.3")
    shape.step()
    assert loss_fn.a == pytest.approx(0.2)

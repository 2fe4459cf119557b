"""Optimizers against their update formulas by hand, schedules against the rates they should give."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adma.bench.errors import BenchError
from adma.bench.optimizers import (
    Schedule,
    canonical_optimizer,
    canonical_schedule,
    make_optimizer,
    make_schedule,
)

LR, DECAY = 0.1, 0.01
GRADIENTS = [1.0, -0.5, 0.25, 2.0, -1.5]


def run(text: str, decay: float = 0.0) -> list[float]:
    """The values of one parameter, from 1 on, after steps with the GRADIENTS."""
    w = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = make_optimizer(text, [{"params": [w], "weight_decay": decay}], LR)
    values = []
    for gradient in GRADIENTS:
        w.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        values.append(w.item())
    return values


def sgd_by_hand(momentum: float, nesterov: bool, decay: float) -> list[float]:
    w, v, values = 1.0, 0.0, []
    for gradient in GRADIENTS:
        g = gradient + decay * w
        v = momentum * v + g
        w -= LR * (g + momentum * v if nesterov else v)
        values.append(w)
    return values


def adam_by_hand(beta1: float, beta2: float, decay: float, *, decoupled: bool) -> list[float]:
    w, m, s, values = 1.0, 0.0, 0.0, []
    for step, gradient in enumerate(GRADIENTS, 1):
        g = gradient
        if decoupled:
            w -= LR * decay * w
        else:
            g += decay * w
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g * g
        w -= LR * (m / (1 - beta1**step)) / (math.sqrt(s / (1 - beta2**step)) + 1e-8)
        values.append(w)
    return values


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_updates_are_those_of_the_formulas(decay: float) -> None:
    def close(values: list[float]) -> object:
        return pytest.approx(values, rel=1e-12)

    assert run("sgd", decay) == close(sgd_by_hand(0.0, False, decay))
    assert run("sgd:momentum=0.9", decay) == close(sgd_by_hand(0.9, False, decay))
    assert run("sgd:momentum=0.9,nesterov=true", decay) == close(sgd_by_hand(0.9, True, decay))
    assert run("adam", decay) == close(adam_by_hand(0.9, 0.999, decay, decoupled=False))
    assert run("adam:beta1=0.5,beta2=0.9", decay) == close(adam_by_hand(0.5, 0.9, decay, decoupled=False))
    assert run("adamw", decay) == close(adam_by_hand(0.9, 0.999, decay, decoupled=True))


def test_a_group_that_says_nothing_has_no_weight_decay() -> None:
    for text in ("adam", "adamw", "sgd"):  # torch's own default for adamw is 0.01
        assert (
            make_optimizer(text, [{"params": [torch.nn.Parameter(torch.ones(1))]}], LR).param_groups[0]["weight_decay"]
            == 0
        )


# ---- specs


NUMBERS = st.floats(0, 1, exclude_max=True).map(repr)
POSITIVE = st.floats(0, 1, exclude_min=True, exclude_max=True).map(repr)
WHOLE = st.integers(1, 1000).map(str)
SPECS = {
    "adam": {"beta1": NUMBERS, "beta2": NUMBERS},
    "adamw": {"beta1": NUMBERS, "beta2": NUMBERS},
    "sgd": {"momentum": POSITIVE, "nesterov": st.just("false")},
    "constant": {},
    "cosine": {},
    "step": {"every": WHOLE, "factor": POSITIVE},
    "plateau": {"factor": POSITIVE, "patience": WHOLE, "floor": st.floats(0, 10).map(repr)},
}


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, dict[str, str], str]:
    name = draw(st.sampled_from(sorted(SPECS)))
    chosen = draw(st.fixed_dictionaries({}, optional=SPECS[name]))
    parts = draw(st.permutations([f"{key}={value}" for key, value in chosen.items()]))
    return name, chosen, name + (":" + ",".join(parts) if parts else "")


@given(texts())
def test_the_canonical_spelling_is_one(spec: tuple[str, dict[str, str], str]) -> None:
    name, chosen, text = spec
    canonical = canonical_optimizer if name in ("adam", "adamw", "sgd") else canonical_schedule
    once = canonical(text)
    assert canonical(once) == once
    head, _, tail = once.partition(":")
    assert head == name
    written = dict(part.split("=") for part in tail.split(",") if part)
    assert list(written) == [key for key in SPECS[name] if key in written]  # a fixed order
    for key, value in chosen.items():  # nothing is lost
        if key in written and key != "nesterov":
            assert float(written[key]) == float(value)
        else:
            assert canonical(f"{name}:{key}={value}") == name


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("sgd:nesterov=TRUE, momentum=.9", "sgd:momentum=0.9,nesterov=true"),
        ("sgd:momentum=0", "sgd"),
        ("adam:beta2=0.999,beta1=0.9", "adam"),
        ("step:factor=0.5,every=10", "step"),
        ("plateau:floor=0.000001", "plateau:floor=1e-06"),
    ],
)
def test_canonical_spellings(text: str, canonical: str) -> None:
    assert (canonical_optimizer if text[:2] in ("sg", "ad") else canonical_schedule)(text) == canonical


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sdg", "--optimizer sdg: not known, did you mean 'sgd'.*known: adam, adamw, sgd"),
        ("sgd:momentun=0.9", "no option 'momentun', did you mean 'momentum'"),
        ("sgd:nesterov=true", "nesterov=true needs a momentum; write 'sgd:momentum=0.9,nesterov=true'"),
        ("sgd:momentum=1", r"momentum must be a number in \[0, 1\), got '1'"),
        ("adam:beta1=0.9,beta1=0.8", "beta1 is given twice"),
        ("adam:beta1", "'beta1' is not of the form key=value; write such as 'adam:beta1=0.8'"),
        (0.9, "--optimizer must be text such as 'adam', got 0.9"),
    ],
)
def test_optimizers_that_are_none_are_told(text: str, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        canonical_optimizer(text)
    with pytest.raises(BenchError, match=words):
        make_optimizer(text, [], LR)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cosin", "--lr-schedule cosin: not known, did you mean 'cosine'"),
        ("cosine:to=0", "cosine has no options"),
        ("step:every=0", "every must be a whole number, at least 1, got '0'"),
        ("step:factor=0", r"factor must be a number in \(0, 1\), got '0'"),
        ("plateau:floor=inf", r"floor must be a number in \[0, inf\), got 'inf'"),
        ("plateau:floor=-1", "got '-1'"),
    ],
)
def test_schedules_that_are_none_are_told(text: str, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        canonical_schedule(text)


# ---- schedules


def schedule(text: str, *, epochs: int, steps: int = 1, lr: float = LR) -> tuple[torch.optim.Optimizer, Schedule]:
    parts = [{"params": [torch.nn.Parameter(torch.ones(1))]} for _ in range(2)]
    optimizer = make_optimizer("sgd", parts, lr)
    return optimizer, make_schedule(text, optimizer, epochs=epochs, steps_per_epoch=steps)


def rates(text: str, *, epochs: int, steps: int = 1, accuracies: list[float] | None = None) -> list[float]:
    """The rate that each step of the optimizer used."""
    optimizer, annealing = schedule(text, epochs=epochs, steps=steps)
    used = []
    for epoch in range(epochs):
        for _ in range(steps):
            assert {group["lr"] for group in optimizer.param_groups} == {annealing.lr}
            used.append(annealing.lr)
            optimizer.step()
            annealing.step_batch()
        annealing.step_epoch(accuracies[epoch] if accuracies else 0.5)
    return used


def test_constant() -> None:
    assert rates("constant", epochs=3, steps=2) == [LR] * 6


@pytest.mark.filterwarnings("error")
def test_cosine_falls_to_zero_over_all_steps() -> None:
    used = rates("cosine", epochs=4, steps=5)
    assert used == pytest.approx([LR / 2 * (1 + math.cos(math.pi * k / 20)) for k in range(20)], rel=1e-12)
    assert all(a > b > 0 for a, b in pairwise(used))
    optimizer, annealing = schedule("cosine", epochs=4, steps=5)
    for _ in range(20):
        optimizer.step()
        annealing.step_batch()
    assert annealing.lr == 0
    with pytest.raises(RuntimeError, match="made for 20 steps"):
        annealing.step_batch()


def test_step_counts_epochs() -> None:
    used = rates("step:every=2,factor=0.1", epochs=7, steps=3)
    assert used == pytest.approx([LR * 0.1 ** (epoch // 2) for epoch in range(7) for _ in range(3)], rel=1e-12)


def plateau_by_hand(accuracies: list[float], factor: float, patience: int, floor: float) -> list[float]:
    """The rate of each epoch, by the words of the definition."""
    lr, best, waited, used = LR, -math.inf, 0, []
    for accuracy in accuracies:
        used.append(lr)
        if accuracy > best:
            best, waited = accuracy, 0
            continue
        waited += 1
        if waited == patience:
            lr, waited = max(lr * factor, floor), 0
    return used


def test_plateau_halves_after_three_epochs_without_a_rise() -> None:
    accuracies = [0.5, 0.6, 0.6, 0.55, 0.6, 0.61, 0.61, 0.61, 0.6, 0.6, 0.6]
    #              rise rise  1    2     3   rise   1     2    3    1
    assert rates("plateau", epochs=11, accuracies=accuracies) == [LR] * 5 + [LR / 2] * 4 + [LR / 4] * 2


def test_the_smallest_rise_is_a_rise() -> None:
    rising = [0.5, 0.5 + 1e-9, 0.5 + 2e-9, 0.5 + 3e-9]
    assert rates("plateau:patience=1", epochs=4, accuracies=rising) == [LR] * 4


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.2 + 1e-12, 0.3, math.nan]), min_size=1, max_size=40),
    st.integers(1, 4),
    st.sampled_from([0.5, 0.1]),
    st.sampled_from([0.0, 0.02]),
)
def test_plateau_is_its_definition(accuracies: list[float], patience: int, factor: float, floor: float) -> None:
    text = f"plateau:factor={factor},patience={patience},floor={floor}"
    used = rates(text, epochs=len(accuracies), accuracies=accuracies)
    assert used == pytest.approx(plateau_by_hand(accuracies, factor, patience, floor), rel=1e-12)


def test_a_floor_above_the_rate_is_told() -> None:
    with pytest.raises(BenchError, match=r"floor 0\.2 is above the learning rate 0\.1"):
        schedule("plateau:floor=0.2", epochs=1)


@pytest.mark.parametrize("text", ["constant", "cosine", "step:every=2", "plateau:patience=1"])
def test_a_schedule_goes_on_from_its_state(text: str) -> None:
    accuracies = [0.5, 0.4, 0.45, 0.6, 0.5, 0.5]
    whole = rates(text, epochs=6, steps=2, accuracies=accuracies)

    optimizer, annealing = schedule(text, epochs=6, steps=2)
    for accuracy in accuracies[:3]:
        for _ in range(2):
            optimizer.step()
            annealing.step_batch()
        annealing.step_epoch(accuracy)
    state = pickle.loads(pickle.dumps(annealing.state_dict()))

    optimizer, annealing = schedule(text, epochs=6, steps=2)
    annealing.load_state_dict(state)
    used = []
    for accuracy in accuracies[3:]:
        for _ in range(2):
            used.append(annealing.lr)
            optimizer.step()
            annealing.step_batch()
        annealing.step_epoch(accuracy)
    assert used == whole[6:]


def test_a_state_of_another_schedule_is_refused() -> None:
    state = schedule("cosine", epochs=6)[1].state_dict()
    with pytest.raises(ValueError, match=r"state is of 'cosine' over 6 steps, this is 'cosine' over 7"):
        schedule("cosine", epochs=7)[1].load_state_dict(state)

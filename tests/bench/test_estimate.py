"""Estimates: from steps timed often enough, and an error in words where a step cannot be made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from adma.bench import estimate
from adma.bench.errors import BenchError
from adma.bench.estimate import seconds_per_cell
from adma.bench.study import Setting

SIZES = {"train": 100, "val": 50, "test": 50}
MLP = Setting("digits", "h", model="mlp", epochs=3)


class Clock:
    """Stands for the time: every step takes what the list says, the last one again and again."""

    def __init__(self, *durations: float) -> None:
        self.now, self.calls, self._durations = 0.0, 0, durations

    def perf_counter(self) -> float:
        return self.now

    def step(self) -> None:
        self.now += self._durations[min(self.calls, len(self._durations) - 1)]
        self.calls += 1


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def of(*durations: float) -> tuple[float, int]:
        clock = Clock(*durations)
        monkeypatch.setattr(estimate.time, "perf_counter", clock.perf_counter)
        return estimate._timed(clock.step, "cpu"), clock.calls

    return of


def test_short_steps_are_repeated_so_that_a_hiccup_says_nothing(timed: Any) -> None:
    seconds, calls = timed(5.0, *[0.002] * 20, 0.08, 0.08, 0.002)
    assert seconds == pytest.approx(0.002)
    assert (calls - 1 - 2) * 0.002 + 0.16 >= 0.3 - 0.002


def test_long_steps_are_made_three_times_after_the_first(timed: Any) -> None:
    assert timed(60.0, 2.0, 9.0, 3.0) == (3.0, 4)


def test_a_cell_takes_its_steps_times_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Iterator[float] = iter([0.5, 0.25])  # a training step, then an evaluation step
    monkeypatch.setattr(estimate, "_timed", lambda step, device: next(answers))
    measured = 100 / estimate.EVAL_BATCH
    got = seconds_per_cell(MLP, "cce", SIZES, (64,), 10)
    assert got == pytest.approx(3 * (100 / 64 * 0.5 + measured * 0.25))


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> str:
    def forward(*_: Any) -> torch.Tensor:
        raise error

    class Broken(torch.nn.Linear):
        __call__ = forward

    monkeypatch.setattr(estimate, "build_model", lambda *_: Broken(2, 2))
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with pytest.raises(BenchError) as caught:
        seconds_per_cell(MLP, "cce", SIZES, (64,), 10, threads=threads + 1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_a_step_without_enough_memory_is_refused_with_what_helps(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    said = failing(monkeypatch, error)
    assert said.startswith("a trial step of mlp with cce in batches of 64 samples of shape (64,) on cpu failed: out of")
    assert "try a smaller --batch-size" in said
    assert (str(error).splitlines() or ["MemoryError"])[0] in said


def test_torch_really_says_so_when_memory_is_out() -> None:
    """As the operating system refuses it, not as a test imagines it."""
    with pytest.raises(BenchError, match=r"failed: out of memory \(.*allocate.*; try a smaller --batch-size"):
        seconds_per_cell(MLP, "cce", SIZES, (2**48,), 10)


def test_another_failure_is_told_without_advice_on_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    said = failing(monkeypatch, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert said.endswith("failed: mat1 and mat2 shapes cannot be multiplied")

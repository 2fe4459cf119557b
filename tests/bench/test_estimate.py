"""Estimates: from steps timed often enough but not long, in words that do not say more than is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from adma.bench import estimate
from adma.bench.checkpoint import course
from adma.bench.errors import BenchError
from adma.bench.estimate import LESS, Forecast, Part, seconds_per_cell, time_here
from adma.bench.folder import Folder
from adma.bench.study import Setting
from adma.cli import main

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
    def of(*durations: float, count: float = 10**6) -> tuple[float, int]:
        clock = Clock(*durations)
        monkeypatch.setattr(estimate.time, "perf_counter", clock.perf_counter)
        return estimate._timed(clock.step, "cpu", count), clock.calls

    return of


def test_short_steps_are_repeated_so_that_a_hiccup_says_nothing(timed: Any) -> None:
    seconds, calls = timed(5.0, *[0.002] * 20, 0.08, 0.08, 0.002)
    assert seconds == pytest.approx(0.002)
    assert (calls - 1 - 2) * 0.002 + 0.16 >= 0.3 - 0.002


def test_long_steps_are_made_no_longer_than_a_second_after_the_first(timed: Any) -> None:
    assert timed(60.0, 2.0, 9.0, 3.0) == (2.0, 2)
    assert timed(60.0, 0.7, 0.9, 3.0) == (pytest.approx(0.8), 3)


def test_a_short_training_is_not_timed_for_longer_than_a_hundredth_of_it(timed: Any) -> None:
    seconds, calls = timed(5.0, 0.002, count=1000)  # of 2 s in all
    assert (seconds, calls - 1) == (pytest.approx(0.002), 10)
    assert timed(5.0, 0.002, count=10)[1] - 1 == 3


def test_a_cell_takes_its_steps_times_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Iterator[float] = iter([0.5, 0.25])  # a training step, then an evaluation step
    monkeypatch.setattr(estimate, "_timed", lambda step, device, count: next(answers))
    measured = 100 / estimate.EVAL_BATCH
    got = time_here(MLP, "cce", SIZES, (64,), 10)
    assert got == pytest.approx(3 * (100 / 64 * 0.5 + measured * 0.25))


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> str:
    def forward(*_: Any) -> torch.Tensor:
        raise error

    class Broken(torch.nn.Linear):
        __call__ = forward

    monkeypatch.setattr(estimate, "build_model", lambda *_: Broken(2, 2))
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with pytest.raises(BenchError) as caught:
        time_here(MLP, "cce", SIZES, (64,), 10, threads=threads + 1)
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


@pytest.mark.parametrize("error", [ValueError("at most 8 rows"), KeyError("x"), AssertionError()])
def test_whatever_a_network_of_the_users_raises_is_told(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    said = failing(monkeypatch, error)
    assert f"failed: {type(error).__name__}: {error} (test_estimate.py:" in said


def test_a_network_that_cannot_take_a_batch_fails_its_cells_and_not_the_command(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "few_rows.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n"
        "    def __init__(self, in_channels, num_classes):\n"
        "        super().__init__()\n        self.last = torch.nn.Linear(64, num_classes)\n\n"
        "    def forward(self, x):\n        if len(x) > 8:\n            raise ValueError('at most 8 rows')\n"
        "        return self.last(x.flatten(1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    command = ["compare", *SHORT, "--model", "few_rows:Net", "--loss", "cce", "--seeds", "1", "--out"]
    assert main([*command, str(tmp_path / "runs")]) == 1
    said = capsys.readouterr()
    assert "no estimate: a trial step of few_rows:Net with cce" in said.out
    assert "ValueError: at most 8 rows (few_rows.py:" in said.out + said.err


# -- in words ----------------------------------------------------------------------------------------------------


def test_trainings_at_a_time_share_the_time_but_none_is_shorter_than_itself() -> None:
    assert Forecast([Part(40, 15, 36.0)], 2).seconds == 720.0
    assert Forecast([Part(40, 15, 1.0), Part(1, 100, 500.0), Part(0, 9, 10**6)], 2).seconds == 500.0
    assert Forecast([Part(0, 1, 5.0)], 2).seconds == 0.0


def test_an_estimate_says_what_it_is_of_and_how_it_is_known() -> None:
    line = Forecast([Part(40, 15, 36.0)], 2).line()
    assert line == (
        "estimate: about 12 min: 40 trainings x 15 epochs, 2 at a time (measured: a few steps of each setting)"
    )
    mixed = Forecast([Part(2, 10, 36.0), Part(1, 5, 1.0)], 1).line(unknown=["by one process"])
    assert "3 trainings, 25 epochs, 1 at a time (measured: a few steps of each setting; by one process)" in mixed


@pytest.mark.parametrize(
    ("budget", "most", "words"),
    [
        (7200.0, "", "--budget 2 h 0 min is likely to be enough"),
        (750.0, "", "--budget 12 min may just be enough"),
        (360.0, "", "--budget 6 min 0 s is enough for about 50% of it"),
        (360.0, "trials that are pruned take less", "--budget 6 min 0 s may be too short"),
        (7200.0, "trials that are pruned take less", "--budget 2 h 0 min is likely to be enough"),
    ],
)
def test_it_says_whether_a_budget_is_enough(budget: float, most: str, words: str) -> None:
    line = Forecast([Part(40, 15, 36.0)], 2).line(budget=budget, most=most)
    assert words in line
    assert line.startswith("estimate: at most about 12 min: " if most else "estimate: about 12 min: ")


SHORT = ["digits", "--model", "mlp", "--train-size", "100", "--eval-size", "50", "--epochs", "1", "--device", "cpu"]


def test_compare_says_it_before_it_trains_and_not_where_all_is_done(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", *SHORT, "--loss", "cce", "--seeds", "1", "--jobs", "1", "--out", str(tmp_path / "runs")]
    assert main([*command, "--budget", "1h"]) == 0
    first = capsys.readouterr().out
    assert "1 training x 1 epoch, 1 at a time (measured: a few steps of each setting)" in first
    assert "--budget 1 h 0 min is likely to be enough" in first
    assert first.index("estimate: about ") < first.index("report: ")
    assert main(command) == 0
    assert "estimate" not in capsys.readouterr().out


def test_compare_until_decided_and_tune_say_how_much_it_is_at_most(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    grown = ["compare", *SHORT, "--loss", "cce", "--loss", "mse", "--seeds", "2", "--until-decided", "--max-seeds", "9"]
    assert main([*grown, "--budget", "0.001s", "--jobs", "1", "--out", str(tmp_path / "compare")]) == 3
    said = capsys.readouterr().out
    assert "estimate: at most about " in said
    assert "18 trainings x 1 epoch" in said
    assert " if 2 seeds decide); --budget 0.0 s may be too short" in said
    tune = ["tune", *SHORT, "--trials", "3", "--seeds", "2", "--final-seeds", "4", "--lr", "1e-3", "--loss", "adma"]
    assert main([*tune, "--budget", "0.001s", "--jobs", "1", "--out", str(tmp_path / "tune")]) == 3
    assert "10 trainings x 1 epoch" in capsys.readouterr().out


DOCUMENT = """
title: Which loss?
data: digits
model: mlp
losses: [cce, mse]
seeds: 1
epochs: 9000
max_train_size: 100
eval_size: 60
"""


@pytest.mark.parametrize("command", ["compare", "run"])
def test_it_says_where_a_training_goes_on_from_a_checkpoint_whose_epochs_it_counts(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text(DOCUMENT)
    what = (
        [*SHORT, "--epochs", "9000", "--loss", "cce", "--seeds", "1"]
        if command == "compare"
        else [str(tmp_path / "small.yaml")]
    )
    given = [command, *what, "--budget", "0.001s", "--jobs", "1", "--out", str(tmp_path / "runs")]
    assert main(given) == 3
    assert LESS not in capsys.readouterr().out
    folder = Folder(tmp_path / "runs")
    cell, *_ = folder.study().cells() if command == "compare" else folder.plan("small")[0].cells()
    for path in (tmp_path / "runs").glob("checkpoints/*/*"):
        path.unlink()
    (folder.root / "checkpoints" / course(cell)).mkdir(parents=True, exist_ok=True)
    (folder.root / "checkpoints" / course(cell) / cell.key).write_bytes(b"")
    assert main(given) == 3
    assert f"(measured: a few steps of each setting; {LESS})" in capsys.readouterr().out

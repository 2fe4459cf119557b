"""Checkpoints: a training that goes on ends as one that was never stopped, and nothing broken is gone on from."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adma.bench import chance
from adma.bench.checkpoint import Keeper, Position, course
from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.engines.work import Worker
from adma.bench.result import DONE, CellResult
from adma.bench.study import Cell, Setting
from adma.bench.train import StoppedError, train


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def cell(digits: Dataset, loss: str = "cce", **setting: object) -> Cell:
    options = {"epochs": 3, "train_size": 200, "eval_size": 100, "model": "mlp", **setting}
    return Cell(replace(Setting("digits", digits.fingerprint), **options), loss, 0)  # type: ignore[arg-type]


def what_counts(result: CellResult) -> tuple[object, ...]:
    epochs = {name: values.tobytes() for name, values in result.epochs.items() if name != "seconds"}
    trace = {name: values.tobytes() for name, values in result.trace.items()}
    return result.status, epochs, trace, result.env["weights"], result.env["shared"]


def stopped_every(some: Cell, digits: Dataset, root: Path, steps: int) -> tuple[CellResult, int]:
    """Trained by one process after another, each of which stops after so many steps."""
    for lives in range(1, 100):
        count = 0

        def pulse() -> bool:
            nonlocal count
            count += 1
            return count >= steps

        try:
            return train(some, digits, keeper=Keeper(root, some), pulse=pulse), lives
        except StoppedError:
            torch.manual_seed(lives)  # another process has other random states
            np.random.seed(lives)
    raise AssertionError("it never ended")


@pytest.mark.parametrize(
    ("loss", "setting"),
    [
        ("cce", {"model": "convnet"}),  # batch normalisation and dropout
        ("adma:a=0.26", {"augment": "rotate=10,shift=0.1", "optimizer": "sgd:momentum=0.9,nesterov=true"}),
        ("adma:a=learn", {"optimizer": "adamw", "train_size": 600}),
        ("adma:a=linear/0.01/0.4", {"lr_schedule": "cosine"}),
        ("mse", {"lr_schedule": "plateau", "label_noise": "0.2"}),
        ("gce:q=learn", {"lr_schedule": "step", "train_size": 600, "imbalance": "3"}),
    ],
)
def test_one_that_was_stopped_often_ends_bit_by_bit_as_one_that_was_not(
    digits: Dataset, tmp_path: Path, loss: str, setting: dict[str, object]
) -> None:
    some = cell(digits, loss, **setting)
    whole = train(some, digits)
    found, lives = stopped_every(some, digits, tmp_path, 3)
    assert lives > 3
    assert what_counts(found) == what_counts(whole)
    assert found.env["resumed_at"] != [1, 0]


def test_more_epochs_go_on_from_the_last_state(digits: Dataset, tmp_path: Path) -> None:
    short, long = cell(digits, epochs=2), cell(digits, epochs=5)
    train(short, digits, keeper=Keeper(tmp_path, short))
    steps = 0

    def pulse() -> bool:
        nonlocal steps
        steps += 1
        return False

    found = train(long, digits, keeper=Keeper(tmp_path, long), pulse=pulse)
    assert found.env["resumed_at"] == [3, 0]
    assert what_counts(found) == what_counts(train(long, digits))
    again = train(replace(short), digits, keeper=Keeper(tmp_path, short))  # a shorter one takes none of the longer's
    assert what_counts(again) == what_counts(train(short, digits))


@pytest.mark.parametrize(
    ("loss", "schedule", "same"),
    [
        ("cce", "constant", True),
        ("cce", "step", True),
        ("adma:a=learn", "plateau", True),
        ("cce", "cosine", False),
        ("adma:a=linear/0.01/0.4", "constant", False),
    ],
)
def test_only_what_does_not_depend_on_its_length_is_of_one_course(
    digits: Dataset, loss: str, schedule: str, same: bool
) -> None:
    short, long = (cell(digits, loss, lr_schedule=schedule, epochs=n) for n in (2, 5))
    assert (course(short) == course(long)) is same
    assert course(short) != course(replace(short, seed=1))


def test_a_state_is_whole_or_the_one_before_is_taken(digits: Dataset, tmp_path: Path) -> None:
    some = cell(digits)
    keeper = Keeper(tmp_path, some)
    for step in (1, 2):
        keeper.save(Position(1, step), {"step": step})
    assert keeper.load() == (Position(1, 2), {"step": 2})
    path = tmp_path / "checkpoints" / course(some) / some.key
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[-40] ^= 1
    for broken, words in (
        (content[:-3], "bytes"),
        (bytes(damaged), "bytes"),
        (content[:20], ""),
        (b"", ""),
        (content.replace(b'"format": 1', b'"format": 9'), "format 9"),
        (content.replace(torch.__version__.encode(), b"0.0.1", 1), "torch 0.0.1"),
    ):
        path.write_bytes(broken)
        fresh = Keeper(tmp_path, some)
        assert fresh.load() == (Position(1, 1), {"step": 1}), words
        (note,) = fresh.notes
        assert words in note
        assert "set-aside" in note
        assert not path.exists()
    path.with_suffix(".before").unlink()
    assert Keeper(tmp_path, some).load() is None


NETWORK = """
from torch import nn

def net(in_channels, num_classes):
    first = nn.Linear(64, {width}).requires_grad_({learns})
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear({width}, num_classes))
"""


class LikeAGpu(str):
    """The CPU, by a name that says otherwise."""

    __slots__ = ()

    def startswith(self, *what: object) -> bool:
        return what == ("cuda",) or str.startswith(self, *what)  # type: ignore[arg-type]


def test_a_last_state_that_is_only_read_again_keeps_the_optimizers(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result was lost after its last state was written; where a step is recorded the optimizer waits for that."""
    seen, given = chance.state, chance.restore
    monkeypatch.setattr(chance, "state", lambda device: seen("cpu"))
    monkeypatch.setattr(chance, "restore", lambda found, device: given(found, "cpu"))
    monkeypatch.setattr("adma.bench.environment.hardware", lambda device: {})
    monkeypatch.setattr("adma.bench.train.RecordedStep.attempt", lambda *_: None)
    device = LikeAGpu("cpu")
    short, long = cell(digits, epochs=20), cell(digits, epochs=40)
    for _ in range(2):
        train(short, digits, device=device, keeper=Keeper(tmp_path, short))
        found = Keeper(tmp_path, short).load()
        assert found is not None
        assert found[0] == Position(21, 0)
        assert found[1]["optimizer"]["state"]
    grown = train(long, digits, device=device, keeper=Keeper(tmp_path, long))
    assert grown.env["resumed_at"] == [21, 0]
    assert what_counts(grown) == what_counts(train(long, digits))


@pytest.mark.parametrize("changed", [(30, True), (20, False)])  # other layers; the same, of which one learns no more
@pytest.mark.parametrize("longer", [False, True])
def test_a_state_of_a_network_whose_code_was_changed_is_not_gone_on_from(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longer: bool, changed: tuple[int, bool]
) -> None:
    """It would fail again with every command: its own state is set aside, that of a shorter training is let alone."""
    monkeypatch.chdir(tmp_path)

    def written(width: int, learns: bool) -> None:
        (tmp_path / "changed_network.py").write_text(NETWORK.format(width=width, learns=learns))
        monkeypatch.delitem(sys.modules, "changed_network", raising=False)
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        importlib.invalidate_caches()

    some = cell(digits, model="changed_network:net")
    worker = Worker(lambda _: digits, checkpoints=tmp_path, every=0.0, keep=True)
    written(20, True)
    calls = iter(range(100))
    first = worker.train(some, lambda *_: None, (lambda: False) if longer else (lambda: next(calls) > 5))
    assert (first is not None) == longer
    files = sorted(tmp_path.glob("checkpoints/*/*"))
    assert len(files) == 2
    written(*changed)
    again = replace(some, setting=replace(some.setting, epochs=5)) if longer else some
    expected = train(again, digits)
    result = worker.train(again, lambda *_: None)
    assert result is not None
    assert result.status == DONE, result.reason
    assert what_counts(result) == what_counts(expected)
    faults = result.env.get("faults", [])
    if longer:
        assert faults == []
        assert set(files) < set(tmp_path.glob("checkpoints/*/*"))
    else:
        assert len(faults) == 2  # the last state and the one before
        assert all("was not used (it does not fit changed_network:net as it is now)" in fault for fault in faults)
        assert len(list(tmp_path.glob("set-aside/*"))) == 2


def test_a_state_brings_numbers_and_nothing_that_runs(digits: Dataset, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (tmp_path.joinpath("ran").touch, ())

    some = cell(digits)
    Keeper(tmp_path, some).save(Position(1, 1), {"x": Evil()})
    fresh = Keeper(tmp_path, some)
    assert fresh.load() is None
    assert not (tmp_path / "ran").exists()
    assert len(fresh.notes) == 1


def test_what_stays_when_a_cell_is_stored(digits: Dataset, tmp_path: Path) -> None:
    some = cell(digits)
    keeper = Keeper(tmp_path, some)
    keeper.save(Position(1, 1), {})
    keeper.save(Position(4, 0), {})
    keeper.tidy(keep=True)
    assert [p.name for p in (tmp_path / "checkpoints" / course(some)).iterdir()] == [some.key]
    keeper.tidy(keep=False)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_state_that_cannot_be_written_stops_no_training(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = cell(digits)
    (tmp_path / "checkpoints").write_text("in the way")
    keeper = Keeper(tmp_path, some, every=0.0)
    result = train(some, digits, keeper=keeper)
    assert result.status == DONE
    assert "no checkpoint" in keeper.notes[0]
    assert json.dumps(result.env)


def test_half_the_batch_at_a_time_gives_the_same_training(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without batch statistics and dropout the pieces' gradients add up to the batch's, but for rounding."""
    (tmp_path / "plain_network.py").write_text(
        "from torch import nn\n"
        "def small(in_channels, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    some = cell(digits, optimizer="sgd", lr=0.05, model="plain_network:small", batch_size=33)
    whole, pieces = train(some, digits), train(some, digits, pieces=2)
    assert pieces.env["pieces"] == 2
    for column in ("train_loss", "test_nll", "val_accuracy"):
        np.testing.assert_allclose(pieces.epochs[column], whole.epochs[column], rtol=1e-4)

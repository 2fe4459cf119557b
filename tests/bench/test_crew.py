"""Cells that several processes train, by real processes: the command, torchrun, and processes that are lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch.distributed as dist

from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.engines import Began, Event, Finished, Reached, Retried
from adma.bench.engines.local import LocalEngine
from adma.bench.engines.work import Worker
from adma.bench.errors import BenchError
from adma.bench.machine import machine_of
from adma.bench.result import DONE, FAILED, CellResult
from adma.bench.study import Cell, Setting
from adma.bench.train import train
from adma.options import parser
from seen_processes import children, command_of, workers_of

pytestmark = [
    pytest.mark.skipif(not dist.is_gloo_available(), reason="this build of torch has no gloo"),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc"),
]
TOLERANCE = 1e-5


@cache
def digits(name: str = "digits") -> Dataset:
    """The digits; by another name as other data, which a process has to load."""
    found = load("digits")
    return found if name == "digits" else replace(found, name=name, x=found.x[: -len(name)], y=found.y[: -len(name)])


def cell(seed: int, data: str = "digits", **setting: object) -> Cell:
    options = {
        "epochs": 30, "train_size": 128, "eval_size": 100, "model": "mlp", "optimizer": "sgd", "lr": 0.01, **setting
    }  # fmt: skip
    return Cell(replace(Setting(data, digits(data).fingerprint), **options), "adma:a=0.26", seed)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Load:
    """Loads data; those called "scarce" once only, and those called "unreadable" never, in a process that follows."""

    folder: Path

    def __call__(self, some: Cell) -> Dataset:
        follows = sys.argv[0] == "-c" and len(sys.argv) > 5
        if follows and some.setting.data == "scarce" and not (self.folder / "told").exists():
            (self.folder / "told").touch()
            raise MemoryError("no room")
        if follows and some.setting.data == "unreadable":
            raise ValueError("these data are unreadable")
        return digits(some.setting.data)


def followers() -> dict[int, int]:
    """Processes that follow a worker of this one, with that worker."""
    workers = workers_of(os.getpid())
    return {pid: one for one in workers for pid in children(one) if "follower import follow" in command_of(pid)}


def alike(found: CellResult, alone: CellResult) -> None:
    assert found.status == alone.status == DONE, found.reason
    assert found.env["devices"] == 2
    for name, values in alone.epochs.items():
        if name not in ("seconds", "temperature") and not name.endswith("_scaled"):
            np.testing.assert_allclose(found.epochs[name], values, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, CellResult], list[Event], list[int]]:
    """A run of four cells: of the first the follower is killed, of the second the worker; two have trouble loading."""
    root = tmp_path_factory.mktemp("results")
    engine = LocalEngine(Worker(Load(root), checkpoints=root, every=0.02, devices=2), jobs=1)
    heard: list[Event] = []
    killed: set[int] = set()
    seen: list[int] = []
    cells = [cell(0), cell(1), cell(2, "scarce", epochs=2), cell(3, "unreadable", epochs=2)]
    for event in engine.run(cells):
        heard.append(event)
        if isinstance(event, Reached) and event.epoch == 3 and event.cell.seed < 2 and event.cell.seed not in killed:
            killed.add(event.cell.seed)
            ((follower, worker),) = followers().items()
            seen.append(follower)
            os.kill(follower if event.cell.seed == 0 else worker, signal.SIGKILL)
    results = {event.result.cell.seed: event.result for event in heard if isinstance(event, Finished)}
    return results, heard, seen


Run = tuple[dict[int, CellResult], list[Event], list[int]]


def test_a_process_that_was_lost_is_replaced_and_the_training_goes_on(events: Run) -> None:
    result = events[0][0]
    alike(result, train(cell(0), digits()))
    assert result.env["resumed_at"][0] >= 3
    (fault,) = result.env["faults"]
    assert "device 1 was killed (SIGKILL)" in fault


def test_a_worker_that_is_killed_takes_its_crew_along(events: Run) -> None:
    results, heard, seen = events
    alike(results[1], train(cell(1), digits()))
    assert results[1].env["resumed_at"][0] >= 3
    assert sum(isinstance(event, Retried) for event in heard) == 1
    assert len(set(seen)) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in seen)


def test_memory_that_ran_out_in_another_process_halves_the_batch_for_all(events: Run) -> None:
    result = events[0][2]
    alike(result, train(cell(2, "scarce", epochs=2), digits("scarce"), pieces=2))
    assert result.env["pieces"] == 2
    (fault,) = result.env["faults"]
    assert "device 1: MemoryError: no room" in fault


def test_what_fails_in_another_process_is_the_cells_reason(events: Run) -> None:
    result = events[0][3]
    assert result.status == FAILED
    assert "device 1: ValueError: these data are unreadable" in result.reason


def test_every_cell_ends_once_and_begins_again_only_in_another_worker(events: Run) -> None:
    assert [e.result.cell.seed for e in events[1] if isinstance(e, Finished)] == [0, 1, 2, 3]
    began = [e for e in events[1] if isinstance(e, Began)]
    assert [e.cell.seed for e in began] == [0, 1, 1, 2, 3]  # the worker of the second one was killed
    assert began[1].worker != began[2].worker
    assert not followers()


# -- commands ----------------------------------------------------------------------------------------------------

COMPARE = ["compare", "digits", "--model", "mlp", "--loss", "adma:a=0.26", "--optimizer", "sgd", "--device", "cpu"]
SMALL = [*COMPARE, "--train-size", "128", "--eval-size", "100"]


def test_a_command_that_was_killed_goes_on_under_torchrun(tmp_path: Path) -> None:
    options = [*SMALL, "--seeds", "1", "--epochs", "30", "--out", str(tmp_path), "--checkpoint-every", "0.05"]
    command = [sys.executable, "-m", "adma.cli", *options, "--devices", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("checkpoints/*/*.before")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "adma.cli", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report:") == 1  # one process speaks
    (path,) = tmp_path.glob("cells/*/env.json")
    env = json.loads(path.read_text())
    assert env["devices"] == 2
    assert env["resumed_at"] != [1, 0]
    rows = pq.read_table(path.with_name("epochs.parquet")).to_pydict()
    some = cell(0, lr=1e-3)
    found = CellResult(some, DONE, epochs={name: np.array(values) for name, values in rows.items()}, env=env)
    alike(found, train(some, digits()))


@pytest.mark.parametrize(
    ("options", "started", "words"),
    [
        (["--devices", "2", "--device", "mps"], None, "mps"),
        (["--devices", "3"], 2, "torchrun has started 2 processes"),
        (["--jobs", "2"], 2, "train one cell at a time"),
        ([], 2, ""),
        (["--devices", "2", "--jobs", "1"], None, ""),
    ],
)
def test_devices_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, options: list[str], started: int | None, words: str
) -> None:
    if started is not None:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
        monkeypatch.setenv("WORLD_SIZE", str(started))
    monkeypatch.setattr("adma.bench.machine.usable_device", lambda name: name)
    given = parser().parse_args(["compare", "digits", "--device", "cpu", *options])
    given.command_line = ""
    if words:
        with pytest.raises(BenchError, match=words):
            machine_of(given, 8)
    else:
        machine = machine_of(given, 8)
        assert (machine.devices, machine.jobs) == (2, 1)

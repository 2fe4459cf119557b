"""Jobs by submitit, with its executor on this machine: what they train is what a process trains."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import hanging
import numpy as np
import pytest

from adma.bench import owner, whole
from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.engines import Began, Event, Finished, Reached, Retried, Stopped, Waited
from adma.bench.engines.local import LocalEngine
from adma.bench.errors import BenchError
from adma.bench.result import DONE, FAILED, CellResult
from adma.bench.study import Cell, Setting
from adma.cli import main

pytest.importorskip(
    "submitit", reason="submitit is not installed: pip install 'adma[slurm]'; --engine slurm is untested"
)

from adma.bench.engines import slurm
from adma.bench.engines.slurm import SlurmEngine
from adma.bench.engines.slurm_job import read_dataset, write_dataset
from adma.bench.engines.work import Worker

HERE = {"cluster": "local"}
WAYS = ("hangs", "locked")


def digits(cell: Cell) -> Dataset:
    if cell.seed == 99:
        raise RuntimeError("no such seed")
    return load("digits")


def cell(seed: int, epochs: int = 2) -> Cell:
    setting = Setting(
        "digits", load("digits").fingerprint, model="mlp", epochs=epochs, train_size=300, eval_size=100
    )  # fmt: skip
    return Cell(setting, "cce", seed)


def results(events: list[Event]) -> dict[str, CellResult]:
    ended = [event.result for event in events if isinstance(event, Finished)]
    assert max(Counter(result.cell.key for result in ended).values()) == 1
    return {result.cell.key: result for result in ended}


@pytest.mark.slow
def test_a_job_is_killed_and_its_cell_goes_on(tmp_path: Path) -> None:
    cells = [cell(0, epochs=400), cell(1)]  # a look at the log takes a second: it must not be done by then
    engine = SlurmEngine(Worker(digits, checkpoints=tmp_path, every=0.1), tmp_path, jobs=2, options=HERE)
    events: list[Event] = []
    where = ""
    for event in engine.run(cells):
        events.append(event)
        if isinstance(event, Began) and event.cell == cells[0] and not where:
            where = event.worker
        if isinstance(event, Reached) and event.cell == cells[0] and not any(isinstance(e, Retried) for e in events):
            os.kill(int(where.rpartition(" ")[2]), signal.SIGKILL)
    (retried,) = {event for event in events if isinstance(event, Retried)}
    assert "ended without a result" in retried.reason
    found = results(events)
    assert found[cells[0].key].env["resumed_at"] > [1, 0]
    reference = results(list(LocalEngine(Worker(digits), jobs=1).run(cells)))
    for key, theirs in reference.items():
        assert (found[key].status, theirs.status) == (DONE, DONE), found[key].reason
        for name, column in theirs.epochs.items():
            if name != "seconds":
                np.testing.assert_array_equal(found[key].epochs[name], column, err_msg=name)
        assert found[key].env["weights"] == theirs.env["weights"]
    assert not list(tmp_path.glob("slurm/data-*"))


@pytest.mark.slow
def test_a_job_that_hangs_is_ended_with_its_stack_and_its_cell_tried_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cell hangs again and has failed; the other one hangs so that not even its watch can run, and then not."""
    hanging.write_module(tmp_path)
    monkeypatch.chdir(tmp_path)
    twice, once = (Cell(replace(cell(0).setting, model=f"{hanging.MODULE}:{way}"), "cce", 0) for way in WAYS)
    engine = SlurmEngine(Worker(digits), tmp_path, jobs=2, options=HERE, hang_after=15)
    events = list(engine.run([twice, once]))
    found = results(events)
    retried = {event.cell.key: event.reason for event in events if isinstance(event, Retried)}
    assert len([event for event in events if isinstance(event, Retried)]) == 2
    for key in (twice.key, once.key):
        assert "no sign of life" in retried[key]
        assert f"{hanging.MODULE}.py" in retried[key]  # the line where it hung
    assert found[twice.key].status == FAILED
    assert "no sign of life" in found[twice.key].reason
    assert found[twice.key].reason.endswith("; the second time")
    assert found[twice.key].env["faults"] == [retried[twice.key]]
    assert found[once.key].status == DONE, found[once.key].reason
    assert found[once.key].env["faults"] == [retried[once.key]]


@pytest.mark.slow
def test_stop_leaves_a_checkpoint(tmp_path: Path) -> None:
    engine = SlurmEngine(Worker(digits, checkpoints=tmp_path), tmp_path, jobs=1, options=HERE)
    events = []
    for event in engine.run([cell(0, epochs=3000)]):
        events.append(event)
        if isinstance(event, Reached):
            engine.stop()
    assert isinstance(events[-1], Stopped)
    assert not [event for event in events if isinstance(event, Finished)]
    assert len(list(tmp_path.glob("checkpoints/*/*"))) == 1


def test_a_cell_without_data_fails_without_a_job(tmp_path: Path) -> None:
    found = results(list(SlurmEngine(Worker(digits), tmp_path, jobs=1, options=HERE).run([cell(99)])))
    assert "no such seed" in found[cell(99).key].reason


@pytest.mark.slow
def test_a_job_with_other_versions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "versions", lambda: {"torch": "1.2.3"})
    with pytest.raises(BenchError, match=r"has torch \S+, here 1\.2\.3: .*install the same versions"):
        list(SlurmEngine(Worker(digits), tmp_path, jobs=1, options=HERE).run([cell(0)]))


class FakeJob:
    """A job that is lost again and again."""

    job_id, state = "7", "NODE_FAIL"

    def __init__(self, log: Path, epoch: int) -> None:
        if epoch:
            log.write_text(f'["epoch", [{epoch}, {{}}]]\n')

    def done(self) -> bool:
        return True

    def result(self) -> Any:
        import submitit

        raise submitit.core.utils.UncompletedJobError("the node is gone")

    def cancel(self, check: bool) -> None:
        raise AssertionError("nothing is left to cancel")


@pytest.mark.parametrize(("reached", "tries"), [([0] * 9, 3), ([1, 2, 3, 4, 4, 4], 6)])
def test_a_job_that_is_lost_comes_again_while_it_gets_further(
    reached: list[int], tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_LOOK", 0.01)
    engine = SlurmEngine(Worker(digits), tmp_path, jobs=1, options=HERE)
    submitted = iter(reached)

    class Executor:
        def submit(self, function: Any, order: Any, data: Path, log: Path) -> FakeJob:
            return FakeJob(log, next(submitted))

    engine._executor = Executor()
    events = list(engine.run([cell(0, epochs=9)]))
    assert sum(isinstance(event, Retried) for event in events) == tries - 1
    (result,) = results(events).values()
    assert result.status == FAILED
    assert "job 7 ended without a result (NODE_FAIL): the node is gone; 3 times at the same place" in result.reason
    assert len(result.env["faults"]) == tries - 1


@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_who_stops_it_on_the_news_that_a_job_is_lost_is_heard(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else another job is sent, and trains to its end."""
    monkeypatch.setattr(slurm, "_LOOK", 0.01)
    monkeypatch.setattr(FakeJob, "cancel", lambda self, check: None)
    engine = SlurmEngine(Worker(digits), tmp_path, jobs=1, options=HERE)

    sent = []

    class Executor:
        def submit(self, function: Any, order: Any, data: Path, log: Path) -> FakeJob:
            sent.append(log)
            return FakeJob(log, 0)

    engine._executor = Executor()
    events = []
    for event in engine.run([cell(0)]):
        events.append(event)
        if isinstance(event, Retried):
            engine.stop() if how == "stop" else engine.cancel(event.cell)
    assert [type(event) for event in events] == [Retried, Stopped]
    assert len(sent) == 1
    assert not list((tmp_path / "slurm").glob("*.stop"))


@pytest.mark.parametrize("what", ["data", "job"])
def test_a_full_disk_is_waited_for(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "_LOOK", 0.01)
    monkeypatch.setattr(slurm, "_FULL", 0.02)
    engine = SlurmEngine(Worker(digits), tmp_path, jobs=1, options=HERE)
    tries, write = [], slurm.write_dataset

    def full(*_: Any) -> None:
        tries.append(what)
        if len(tries) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    class Executor:
        def submit(self, function: Any, order: Any, data: Path, log: Path) -> FakeJob:
            if what == "job":
                full()
            return FakeJob(log, 0)

    def write_it(path: Path, dataset: Dataset) -> None:
        if what == "data":
            with whole.explained(path):
                full()
        write(path, dataset)

    monkeypatch.setattr(slurm, "write_dataset", write_it)
    engine._executor = Executor()
    with pytest.warns(UserWarning, match=r"paused: no space left on the disk of .*slurm; it goes on when") as said:
        (result,) = results(list(engine.run([cell(0)]))).values()
    assert len(said) == 1
    assert "the node is gone" in result.reason  # it was sent
    tries.clear()
    for path in (tmp_path / "slurm").glob("data-*"):
        path.unlink()
    events = []
    for event in engine.run([cell(0)]):  # while it waits it is told to stop
        events.append(event)
        engine.stop()
    assert [event for event in events if not isinstance(event, Waited)] == [Stopped(cell(0))]


def test_a_command_that_ends_leaves_other_commands_their_data(tmp_path: Path) -> None:
    """Jobs of theirs wait in the queue, and have yet to read them; those of a killed command are nobody's any more."""
    (tmp_path / "slurm").mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        host, started = owner.me().host, owner._started(living.pid)
        theirs = tmp_path / "slurm" / f"data-0123~{host}~{living.pid}~{started}~.npz"
        dead = tmp_path / "slurm" / f"data-0123~{host}~{2**22 + 1}~{started}~.npz"  # above the greatest number
        elsewhere = tmp_path / "slurm" / "data-0123~node-7~4321~x~.npz"
        for path in (theirs, dead, elsewhere):
            path.write_bytes(b"arrays")
            os.utime(path, (0, 0))  # a queue may be long
        engine = SlurmEngine(Worker(digits), tmp_path, jobs=1, options=HERE)
        mine = engine._data_of(cell(0))
        assert mine.exists()
        assert list(engine.run([])) == []
        assert [path.exists() for path in (mine, dead, theirs, elsewhere)] == [False, False, True, True]
        living.communicate(b"\n")


@pytest.mark.parametrize("grouped", [False, True])
def test_a_data_set_as_a_file_is_the_same(grouped: bool, tmp_path: Path) -> None:
    y = np.array([0, 1, 1])
    parts = np.array(["train", "", "test"], dtype=object) if grouped else None
    dataset = Dataset(
        "ours", np.arange(6, dtype=np.float32).reshape(3, 2), y, ("a", "ü"), parts, ("a note",), y if grouped else None
    )
    path = tmp_path / "data.npz"
    write_dataset(path, dataset)
    again = read_dataset(path)
    assert again.fingerprint == dataset.fingerprint
    assert (again.name, again.class_names, again.notes) == (dataset.name, dataset.class_names, dataset.notes)


@pytest.mark.slow
def test_the_command_submits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of the user's own goes along."""
    (tmp_path / "own_loss_of_a_job.py").write_text(
        "from torch.nn.functional import cross_entropy\n\n"
        "def half():\n    return lambda logits, target: cross_entropy(logits, target) / 2\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["compare", "digits", "--loss", "own_loss_of_a_job:half", "--seeds", "1", "--epochs", "1"]
    arguments += ["--baseline", "own_loss_of_a_job:half", "--model", "mlp"]
    arguments += ["--train-size", "200", "--engine", "slurm", "--out", str(tmp_path / "runs")]
    assert main([*arguments, "--slurm", "cluster=local"]) == 0
    assert len(list((tmp_path / "runs" / "cells").iterdir())) == 1
    assert not (tmp_path / "runs" / "slurm").exists()


def test_without_slurm_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(BenchError, match="no sbatch"):
        SlurmEngine(Worker(digits), tmp_path, jobs=1, options={"time": "10"})
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(BenchError, match="--slurm time=120"):
        SlurmEngine(Worker(digits), tmp_path, jobs=1, options={"partition": "gpu"})
    with pytest.raises(BenchError, match="cluster=moon: must be slurm or local"):
        SlurmEngine(Worker(digits), tmp_path, jobs=1, options={"cluster": "moon"})


def test_the_job_file_says_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    options = {"partition": "gpu", "time": "120", "reservation": "ours"}
    found = slurm.executor(tmp_path / "slurm", 4, 1, options)
    text = found._executor._make_submission_file_text("true", "1")
    for line in ("partition=gpu", "time=120", "cpus-per-task=4", "gpus-per-node=1", "reservation=ours"):
        assert f"#SBATCH --{line}\n" in text

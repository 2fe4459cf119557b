"""Leases: one process a cell, however it ends and wherever it runs."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from filelock import FileLock

from adma.bench import lease, owner
from adma.bench.errors import BenchError
from adma.bench.lease import Leases
from adma.bench.owner import Owner, me
from adma.bench.study import Cell, Setting

CELL, OTHER = (Cell(Setting("digits", "0123456789abcdef"), "cce", seed) for seed in (0, 1))
ELSEWHERE = Owner("elsewhere", 1, "x")


def held_by(root: Path, owner: Owner, cell: Cell = CELL) -> Path:
    """A lease as a process of any machine would have written it."""
    path = root / "leases" / cell.key
    path.parent.mkdir(exist_ok=True)
    value = {"owner": str(owner), "nonce": "abc", "since": "2026-01-01T00:00:00+00:00", "cell": {}, "reached": {}}
    path.write_text(json.dumps(value))
    return path


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(tmp_path, beat=0.05, patience=0.4)


def test_one_holder_at_a_time(tmp_path: Path, leases: Leases) -> None:
    second = Leases(tmp_path)
    assert leases.take(CELL) is None
    assert leases.take(CELL) is None  # it has it already
    there = second.take(CELL)
    assert there is not None
    assert there.owner == me()
    assert second.take(OTHER) is None
    second.release(CELL)  # not its own
    assert second.take(CELL) is not None
    leases.release(CELL)
    assert second.take(CELL) is None
    second.close()
    leases.close()
    assert leases.all() == []


def test_what_a_dead_process_of_this_machine_held_is_free_at_once(tmp_path: Path, leases: Leases) -> None:
    held_by(tmp_path, Owner(me().host, 2**22 + 1, me().started))
    assert leases.all() == []
    assert leases.take(CELL) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only there it is known when and where a process was started")
def test_a_machine_of_the_same_name_is_told_from_this_one_before_it_started_anew(
    tmp_path: Path, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines that are both called localhost, on one disk: each would take the other's leases again and again."""
    monkeypatch.setattr("adma.bench.owner._machine", lambda: "here")
    monkeypatch.setattr("adma.bench.owner._of", owner._of.__wrapped__)  # what was known of this process before
    held_by(tmp_path, Owner(me().host, 4321, "0000aaaa.4026531836.777.there"))
    assert [lease.owner.pid for lease in leases.all()] == [4321]
    assert leases.take(CELL) is not None
    held_by(tmp_path, Owner(me().host, 4321, "0000aaaa.4026531836.777"))  # nobody knows
    assert leases.take(CELL) is not None
    held_by(tmp_path, Owner(me().host, 4321, "0000aaaa.4026531836.777.here"))
    assert leases.all() == []
    assert leases.take(CELL) is None


def test_another_machines_lease_is_free_when_its_time_stands_still(tmp_path: Path, leases: Leases) -> None:
    path = held_by(tmp_path, ELSEWHERE)
    for beat in range(8):  # twice as long as the patience
        time.sleep(0.1)
        os.utime(path, (beat, beat))  # by a clock that is decades behind: only that it moves counts
        assert leases.take(CELL) is not None
    time.sleep(0.5)
    assert leases.take(CELL) is None


def test_another_machines_lease_can_be_taken_over_at_once(tmp_path: Path, leases: Leases) -> None:
    held_by(tmp_path, ELSEWHERE)
    assert leases.take(CELL, take_over=True) is None


def test_who_was_stopped_for_long_learns_that_a_cell_is_lost_and_leaves_the_new_lease(
    tmp_path: Path, leases: Leases
) -> None:
    assert leases.take(CELL) is None
    path = held_by(tmp_path, ELSEWHERE)  # somebody took it over meanwhile
    for _ in range(100):
        if leases.lost:
            break
        time.sleep(0.05)
    assert leases.lost == {CELL.key}
    leases.release(CELL)
    leases.close()
    assert json.loads(path.read_text())["owner"] == str(ELSEWHERE)


def test_a_lease_that_was_cut_short_is_free(tmp_path: Path, leases: Leases) -> None:
    held_by(tmp_path, ELSEWHERE).write_text('{"owner": "else')
    assert leases.take(CELL) is None


def test_a_lock_that_a_stopped_command_holds_is_named(
    tmp_path: Path, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_LOCK_SECONDS", 0.1)
    (tmp_path / "leases").mkdir()
    with (
        FileLock(tmp_path / "leases" / ".lock"),
        pytest.raises(BenchError, match=r"leases has been locked for 0\.1 s: .*Ctrl-Z"),
    ):
        leases.take(CELL)
    assert leases.take(CELL) is None


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("FileSystem does not support flock")]
)
def test_a_disk_without_locks_is_named(
    error: Exception, tmp_path: Path, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", refused)
    with pytest.raises(BenchError, match=r"leases: files cannot be locked there \((No locks|FileSystem)"):
        leases.take(CELL)


def test_others_see_how_far_a_cell_is(tmp_path: Path, leases: Leases) -> None:
    leases.take(CELL)
    leases.note(CELL, epoch=3, epochs=10)
    (seen,) = Leases(tmp_path).all()
    assert (seen.key, seen.reached) == (CELL.key, {"epoch": 3, "epochs": 10})


def test_of_many_processes_that_race_for_a_cell_one_gets_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    all_have_asked = context.Barrier(6)
    some = [context.Process(target=race, args=(tmp_path, theirs, all_have_asked)) for _ in range(6)]
    for process in some:
        process.start()
    won = [ours.recv() for _ in range(6 * 20)]
    for process in some:
        process.join()
    for seed in range(20):
        assert sum(got for s, got in won if s == seed) == 1


def race(root: Path, answer: Connection, all_have_asked: Barrier) -> None:
    leases = Leases(root)
    for seed in range(20):
        answer.send((seed, leases.take(Cell(CELL.setting, "cce", seed)) is None))
    all_have_asked.wait(60)

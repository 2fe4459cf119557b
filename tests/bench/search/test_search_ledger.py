"""Trials in a storage: resumed, shared, taken over, refused."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import socket
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import optuna
import pytest
import search_fakes as fakes
from postgres_cluster import Cluster

from adma.bench import owner
from adma.bench.errors import BenchError
from adma.bench.folder import Folder
from adma.bench.lease import Leases
from adma.bench.result import FAILED as CELL_FAILED
from adma.bench.search import storage as storage_module
from adma.bench.search.storage import Place, open_storage, without_password
from adma.bench.search.trials import COMPLETE, FAILED, PRUNED, RUNNING, best
from adma.bench.study import Cell


def test_every_trial_has_all_seeds_and_its_mean_is_what_is_chosen_by(tmp_path: Path) -> None:
    one = fakes.ledger(tmp_path, budget=6)
    trained = fakes.run([one], tmp_path)
    trials = fakes.trials_of(one)
    assert [t.index for t in trials] == list(range(6))
    assert len(trained) == len({c.key for c in trained}) == 12
    for t in trials:
        cells = [c for c in trained if c.loss == one.space.template.spec(t.params) and c.setting.lr == t.params["lr"]]
        assert t.values == {c.seed: fakes.accuracy(c) for c in cells}
        assert t.epochs == 2 * 3
    assert best(trials) == max(trials, key=lambda t: sum(t.values.values()))


def test_losses_are_searched_side_by_side_with_the_same_budget(tmp_path: Path) -> None:
    ledgers = [fakes.ledger(tmp_path, loss, budget=5) for loss in ("adma", "gce", "cce")]
    trained = fakes.run(ledgers, tmp_path)
    assert [len(fakes.trials_of(one)) for one in ledgers] == [5, 5, 5]
    first = [c.loss.partition(":")[0] for c in trained[:6:2]]
    assert sorted(first) == ["adma", "cce", "gce"]


def test_where_nothing_is_searched_one_trial_is_enough(tmp_path: Path) -> None:
    one = fakes.ledger(tmp_path, "cce", budget=5, lr="0.002")
    assert len(fakes.run([one], tmp_path)) == 2
    assert [t.params for t in fakes.trials_of(one)] == [{}]


@pytest.mark.parametrize("stop", [0, 1, 5, 8, 11, 15])
def test_a_search_that_stopped_anywhere_goes_on_to_the_same_trials(tmp_path: Path, stop: int) -> None:
    whole = fakes.ledger(tmp_path / "whole", budget=12)
    fakes.run([whole], tmp_path / "whole")
    process = multiprocessing.get_context("fork").Process(target=_stop, args=(tmp_path / "cut", stop))
    process.start()
    process.join()
    again = fakes.ledger(tmp_path / "cut", budget=12)
    trained = fakes.run([again], tmp_path / "cut")
    assert len(trained) == 24 - stop
    assert fakes.points(fakes.trials_of(again)) == fakes.points(fakes.trials_of(whole))


def _stop(root: Path, after: int) -> None:
    fakes.run([fakes.ledger(root, budget=12)], root, stop_after=after)
    os._exit(1)


def test_more_trials_continue_and_end_as_if_asked_at_once(tmp_path: Path) -> None:
    fakes.run([fakes.ledger(tmp_path / "grown", budget=6)], tmp_path / "grown")
    grown, whole = (fakes.ledger(tmp_path / name, budget=14) for name in ("grown", "whole"))
    assert len(fakes.run([grown], tmp_path / "grown")) == 16
    fakes.run([whole], tmp_path / "whole")
    assert fakes.points(fakes.trials_of(grown)) == fakes.points(fakes.trials_of(whole))
    less = fakes.ledger(tmp_path / "grown", budget=3)
    assert fakes.run([less], tmp_path / "grown") == []
    assert len(fakes.trials_of(less)) == 3


def slowly(cell: Cell) -> object:
    time.sleep(0.002)
    return fakes.result(cell)


def take_part(root: Path, url: str | None, budget: int, report: Callable[[int], None]) -> None:
    one = fakes.ledger(root, budget=budget, url=url)
    report(len(fakes.run([one], root, slowly)))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_processes_share_a_study_and_nothing_is_done_twice(tmp_path: Path, kind: str) -> None:
    url = f"sqlite:///{tmp_path / 'trials.db'}" if kind == "sqlite" else None
    together(tmp_path, url, processes=2 if url else 3, budget=6 if url else 16)


def test_processes_share_a_study_in_postgresql(tmp_path: Path, postgres: Cluster) -> None:
    together(tmp_path, postgres.url(), processes=2, budget=8)


def together(tmp_path: Path, url: str | None, processes: int, budget: int) -> None:
    """Let processes search one study; hold what comes out to what one process finds alone."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    shared = [
        context.Process(target=take_part, args=(tmp_path / "shared", url, budget, queue.put)) for _ in range(processes)
    ]
    for process in shared:
        process.start()
    counts = [queue.get(timeout=120) for _ in shared]
    for process in shared:
        process.join()
        assert process.exitcode == 0
    assert sum(counts) == 2 * budget  # two seeds a trial, none twice
    one = fakes.ledger(tmp_path / "shared", budget=budget, url=url)
    alone = fakes.ledger(tmp_path / "alone", budget=budget)
    fakes.run([alone], tmp_path / "alone")
    assert fakes.points(fakes.trials_of(one)) == fakes.points(fakes.trials_of(alone))


def test_a_trial_of_a_living_process_is_left_alone_and_of_a_dead_one_taken_over(tmp_path: Path) -> None:
    holder = fakes.ledger(tmp_path, budget=1)
    claimed = holder.claim()
    assert claimed is not None
    assert claimed.owner == str(owner.me())
    assert fakes.ledger(tmp_path, budget=1).claim() is None  # this process lives
    _rename_owner(tmp_path, owner.Owner(owner.me().host, 2**22 + 1, owner.me().started))
    taken = fakes.ledger(tmp_path, budget=1).claim()
    assert taken is not None
    assert taken.params == claimed.params


def test_a_trial_of_another_machine_is_taken_over_only_when_asked_for(tmp_path: Path) -> None:
    fakes.ledger(tmp_path, budget=2).claim()
    _rename_owner(tmp_path, owner.Owner("elsewhere", 1, "x"))
    one = fakes.ledger(tmp_path, budget=2)
    second = one.claim()
    assert second is not None
    assert second.index == 1
    assert [t.owner for t in fakes.trials_of(one)] == ["elsewhere:1:x", str(owner.me())]
    assert one.claim() is None
    taken = fakes.ledger(tmp_path, budget=2, take_over=True).claim()
    assert taken is not None
    assert taken.index == 0


def hold(root: Path, url: str | None, claimed: Connection) -> None:
    """Claim a trial on what seems another machine, and sit on it."""
    socket.gethostname = lambda: "elsewhere"
    trial = fakes.ledger(root, budget=1, url=url, beat=0.1).claim()
    claimed.send((str(owner.me()), trial is not None))
    time.sleep(1000)


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_trial_of_another_machine_is_free_when_the_beat_of_its_process_stands_still(
    tmp_path: Path, kind: str
) -> None:
    url = f"sqlite:///{tmp_path / 'trials.db'}" if kind == "sqlite" else None
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path, url, theirs))
    process.start()
    try:
        assert ours.poll(120)
        holder, claimed = ours.recv()
        assert claimed
        assert holder.startswith("elsewhere:")
        one = fakes.ledger(tmp_path, budget=1, url=url, patience=3.0)
        end = time.monotonic() + 7.0  # it is waited for as long as it beats
        while time.monotonic() < end:
            assert one.claim() is None
            time.sleep(0.2)
    finally:
        process.kill()
        process.join()
    killed = time.monotonic()
    taken = one.claim()
    while taken is None and time.monotonic() < killed + 120:
        time.sleep(0.2)
        taken = one.claim()
    assert taken is not None
    assert time.monotonic() > killed + 3.0 - 0.2
    assert [t.owner for t in fakes.trials_of(one)] == [str(owner.me())]
    one.abandon(taken)


def test_the_beat_of_a_search_ends_with_its_last_trial(tmp_path: Path) -> None:
    one = fakes.ledger(tmp_path, budget=2, beat=0.05)
    first, second = one.claim(), one.claim()
    assert first is not None
    assert second is not None

    def beats() -> int:
        return (tmp_path / storage_module.JOURNAL).read_text().count("beat of ")

    one.abandon(first)
    before, end = beats(), time.monotonic() + 60
    while beats() < before + 3 and time.monotonic() < end:
        time.sleep(0.05)
    assert beats() >= before + 3
    one.complete(replace(second, state=COMPLETE, values={0: 0.5, 1: 0.5}))
    while one._heart._thread is not None and time.monotonic() < end:
        time.sleep(0.05)
    after = beats()
    time.sleep(0.5)
    assert beats() == after


def _rename_owner(root: Path, other: owner.Owner) -> None:
    path = root / storage_module.JOURNAL
    path.write_text(path.read_text().replace(str(owner.me()), str(other)))


def test_a_process_that_was_cut_off_goes_on_with_its_own_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = fakes.ledger(tmp_path, budget=1)
    leases = Leases(tmp_path)
    driver = fakes.Driver([one], fakes.SETTING, Folder(tmp_path), leases)
    cell = next(driver.cells())

    def gone(*_: object, **__: object) -> None:
        raise BenchError("the storage is gone")

    monkeypatch.setattr(one, "_end", gone)
    driver.leave()  # cannot be told
    leases.close()
    assert [t.state for t in fakes.trials_of(one)] == [RUNNING]
    again = fakes.ledger(tmp_path, budget=1)
    assert fakes.run([again], tmp_path)[0] == cell


def test_what_another_process_ended_meanwhile_is_not_told_twice(tmp_path: Path) -> None:
    one, other = fakes.ledger(tmp_path, budget=1), fakes.ledger(tmp_path, budget=1)
    trial = one.claim()
    assert trial is not None
    other.abandon(trial)
    one.complete(replace(trial, state=COMPLETE, values={0: 0.5, 1: 0.5}))
    assert fakes.trials_of(one) == []


def test_a_replicate_that_diverged_counts_as_zero_and_a_trial_that_failed_is_tried_again(tmp_path: Path) -> None:
    def train(cell: Cell) -> object:
        if cell.seed == 1 and cell.setting.lr > 3e-3:
            return fakes.diverged(cell)
        if cell.loss == "adma:a=0.26":
            return fakes.result(cell, 0.0, CELL_FAILED, "out of memory")
        return fakes.result(cell)

    one = fakes.ledger(tmp_path, budget=8)
    fakes.run([one], tmp_path, train)  # type: ignore[arg-type]
    trials = fakes.trials_of(one)
    assert trials[0].state == FAILED
    assert trials[0].reason == "seed 0: out of memory"
    worst = [t for t in trials if t.diverged]
    assert worst
    assert all(t.values[1] == 0.0 and t.value < 0.5 and t.state == COMPLETE for t in worst)
    assert one.done
    again = fakes.ledger(tmp_path, budget=8)
    assert not again.done
    fakes.run([again], tmp_path)
    assert fakes.trials_of(again)[0].state == COMPLETE
    assert again.done


def test_a_pruned_trial_saves_its_last_seeds_and_never_wins(tmp_path: Path) -> None:
    given = fakes.rules(6, pruner="wilcoxon")

    def train(cell: Cell) -> object:  # the same noise for all, so that worse is worse with every seed
        plain = replace(cell, seed=0)
        return fakes.result(cell, fakes.accuracy(plain) - 0.004 * fakes.noise(plain.key) + 0.001 * cell.seed)

    one = fakes.ledger(tmp_path, budget=12, given=given)
    trained = fakes.run([one], tmp_path, train)  # type: ignore[arg-type]
    trials = fakes.trials_of(one)
    pruned = [t for t in trials if t.state == PRUNED]
    assert len(pruned) >= 3
    assert all(t.state == COMPLETE for t in trials[:4])  # the first round has nothing to be held to
    assert {len(t.values) for t in pruned} == {4}
    assert len(trained) == sum(len(t.values) for t in trials) == 72 - 2 * len(pruned)
    winner = best(trials)
    assert winner is not None
    assert winner.state == COMPLETE


def test_a_study_with_other_settings_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    fakes.run([fakes.ledger(tmp_path, budget=2)], tmp_path)
    before = fakes.points(fakes.trials_of(fakes.ledger(tmp_path, budget=2)))
    for given, words in [
        (fakes.rules(3), "seeds: 2 there, 3 now"),
        (fakes.rules(2, seed=5), "seed: 0 there, 5 now"),
        (fakes.rules(2, size=5), "round: 4 there, 5 now"),
        (fakes.rules(2, pruner="wilcoxon:p=0.3"), "pruner: 'none' there, 'wilcoxon:p=0.3' now"),
        (fakes.rules(2, data_hash="f" * 16), "data_hash: '0123456789abcdef' there, 'ffffffffffffffff' now"),
        (fakes.rules(2, epochs=9), "epochs: None there, 9 now"),
    ]:
        with pytest.raises(BenchError, match="other settings") as told:
            fakes.ledger(tmp_path, given=given)
        assert words in str(told.value)
    with pytest.raises(BenchError, match="space: "):
        fakes.ledger(tmp_path, lr="1e-5..1")
    assert fakes.points(fakes.trials_of(fakes.ledger(tmp_path, budget=2))) == before


def test_a_torn_last_record_is_cut_off_and_said(tmp_path: Path) -> None:
    whole = fakes.ledger(tmp_path, budget=3)
    fakes.run([whole], tmp_path)
    journal = tmp_path / storage_module.JOURNAL
    content = journal.read_bytes()
    journal.write_bytes(content + b'{"op_code":4,"wor')
    _, notes = open_storage(Place(tmp_path))
    assert "its last record was torn" in notes[0]
    assert journal.read_bytes() == content


def test_a_journal_that_is_locked_broken_or_forbidden_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = fakes.ledger(tmp_path, budget=2)
    monkeypatch.setattr(storage_module, "LOCK_SECONDS", 0.2)
    with (tmp_path / "trials.journal.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BenchError, match="another process has kept it locked"):
            one.claim()
    assert one.claim() is not None
    journal = tmp_path / storage_module.JOURNAL
    journal.write_text('{"this is": "no journal"}\n')
    with pytest.raises(BenchError, match="cannot be used") as told:
        fakes.ledger(tmp_path)
    assert "finished trainings are kept" in str(told.value)
    (tmp_path / "folder" / storage_module.JOURNAL).mkdir(parents=True)
    with pytest.raises(BenchError, match="cannot be used"):
        fakes.ledger(tmp_path / "folder")


def test_a_database_that_is_locked_or_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url, words in [
        ("sqlit:///x.db", "not a database's URL"),
        ("nonsense", "not a database's URL"),
        (f"sqlite:///{tmp_path}/no/such/folder/x.db", "unable to open"),
        ("oracle+oracledb://me:secret@host/x", "driver is not installed"),
    ]:
        with pytest.raises(BenchError, match="--storage") as told:
            fakes.ledger(tmp_path, url=url)
        assert words in str(told.value)
        assert "secret" not in str(told.value)
    path = tmp_path / "locked.db"
    one = fakes.ledger(tmp_path, url=f"sqlite:///{path}?timeout=0.1", budget=2)
    monkeypatch.setattr(optuna.storages._rdb.storage.random, "random", lambda: 0.01)  # Optuna's pause between tries
    held = sqlite3.connect(path)
    held.execute("BEGIN EXCLUSIVE")
    with pytest.raises(BenchError, match="database is locked"):
        one.claim()
    held.rollback()
    assert one.claim() is not None


def test_a_password_is_never_shown() -> None:
    assert without_password("postgresql+psycopg://me:secret@host/db") == "postgresql+psycopg://me:***@host/db"
    assert str(Place(Path("x"), "postgresql://me:secret@host/db")) == "postgresql://me:***@host/db"
    assert without_password("no url") == "no url"


def test_what_is_under_way_is_left_to_others_on_the_way_out(tmp_path: Path) -> None:
    one = fakes.ledger(tmp_path, budget=3)
    leases = Leases(tmp_path)
    driver = fakes.Driver([one], fakes.SETTING, Folder(tmp_path), leases)
    next(driver.cells())
    assert [t.state for t in fakes.trials_of(one)] == [RUNNING]
    driver.leave()
    leases.close()
    assert fakes.trials_of(one) == []
    other = fakes.ledger(tmp_path, budget=3)
    assert len(fakes.run([other], tmp_path)) == 6


def test_two_losses_that_come_to_the_same_cell_train_it_once(tmp_path: Path) -> None:
    ledgers = [fakes.ledger(tmp_path, loss, budget=1) for loss in ("adma", "adma:a=0.26")]
    trained = fakes.run(ledgers, tmp_path)
    assert len(trained) == 2
    assert [len(t.values) for one in ledgers for t in fakes.trials_of(one)] == [2, 2]

"""What goes wrong becomes a result, a pause or a second try, and the study goes on."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from adma.bench import whole
from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.engines import Began, Engine, Event, Finished, Retried, Stopped, Waited
from adma.bench.engines.local import LocalEngine
from adma.bench.engines.troubles import NoMemoryError, out_of_memory
from adma.bench.engines.work import Worker
from adma.bench.errors import BenchError
from adma.bench.folder import Folder
from adma.bench.lease import Leases
from adma.bench.progress import LiveLine, PlainLines
from adma.bench.result import DONE, FAILED, CellResult
from adma.bench.run import Conduct, OutOfTimeError, drive, run_cells
from adma.bench.study import Cell, Setting, Study
from adma.bench.supply import Supply

NETWORKS = """
import os, time
import torch
from torch import nn

class Greedy(nn.Sequential):
    "Has no memory for more than 40 samples at a time, in training."
    def forward(self, x):
        if self.training and len(x) > 40:
            raise torch.OutOfMemoryError("no memory for this batch")
        return super().forward(x)

def plain(in_channels, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

def greedy(in_channels, num_classes):
    return Greedy(nn.Flatten(), nn.Linear(64, num_classes))

def insatiable(in_channels, num_classes):
    raise MemoryError("nothing is enough")

class Stuck(nn.Sequential):
    def forward(self, x):
        if not os.path.exists("stuck"):
            open("stuck", "w").close()
            time.sleep(1000)
        return super().forward(x)

def stuck(in_channels, num_classes):
    return Stuck(nn.Flatten(), nn.Linear(64, num_classes))
"""


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty_networks.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)


def setting(digits: Dataset, network: str, **options: object) -> Setting:
    chosen = {"epochs": 2, "train_size": 200, "eval_size": 100, **options}
    return Setting("digits", digits.fingerprint, model=f"faulty_networks:{network}", **chosen)  # type: ignore[arg-type]


def load_digits(cell: Cell) -> Dataset:
    return load("digits")


class Lines:
    """A display that remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._running: list[Cell] = []
        self.total = 1

    def start(self, cells: list[Cell], kept: int, jobs: int) -> None: ...
    def expect(self, cells: int, epochs: int) -> None: ...
    def epoch(self, cell: Cell, number: int) -> None: ...
    def elsewhere(self, cell: Cell) -> None: ...
    def close(self) -> None: ...

    def begin(self, cell: Cell) -> None:
        self._running.append(cell)

    def end(self, result: CellResult) -> None:
        self._running.remove(result.cell)

    def stopped(self, cell: Cell) -> None:
        self._running.remove(cell)

    def say(self, words: str) -> None:
        self.said.append(words)

    say_once = say

    def name(self, cell: Cell) -> str:
        return cell.loss

    @property
    def running(self) -> list[Cell]:
        return list(self._running)


# -- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("networks")
def test_where_memory_runs_out_half_the_batch_at_a_time_does_and_says_so(digits: Dataset) -> None:
    worker = Worker(load_digits)
    told = lambda number, row: None  # noqa: E731
    found = worker.train(Cell(setting(digits, "greedy"), "cce", 0), told)
    plain = worker.train(Cell(setting(digits, "plain"), "cce", 0), told)
    assert found is not None
    assert plain is not None
    assert found.status == DONE, found.reason
    assert "half the batch" in found.env["faults"][0]
    assert found.final("test_nll") == pytest.approx(plain.final("test_nll"), rel=1e-4)
    assert "faults" not in plain.env


@pytest.mark.usefixtures("networks")
def test_where_half_is_too_much_as_well_it_is_a_failed_cell(digits: Dataset) -> None:
    found = Worker(load_digits).train(Cell(setting(digits, "insatiable"), "cce", 0), lambda n, r: None)
    assert found is not None
    assert found.status == FAILED
    assert "nothing is enough" in found.reason


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: out of memory"), True),  # of the driver, such as for want of room for a context
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_says_that_memory_ran_out(error: Exception, memory: bool) -> None:
    assert out_of_memory(error) is memory
    wrapped = BenchError("a network's function failed")
    wrapped.__cause__ = error
    assert out_of_memory(wrapped) is memory


@pytest.mark.usefixtures("networks")
def test_beside_others_memory_that_runs_out_is_told_and_half_the_batch_is_for_later(digits: Dataset) -> None:
    cell, worker = Cell(setting(digits, "greedy"), "cce", 0), Worker(load_digits)
    with pytest.raises(NoMemoryError, match="no memory for this batch"):
        worker.train(cell, lambda number, row: None, beside=True)
    found = worker.train(cell, lambda number, row: None, beside=True, half="it was alone")
    assert found is not None
    assert (found.status, found.env["pieces"]) == (DONE, 2)
    assert found.env["faults"] == ["it was alone; trained with half the batch at a time and the gradients added up"]
    greedier = worker.train(Cell(setting(digits, "insatiable"), "cce", 0), lambda n, r: None, beside=True, half="alone")
    assert greedier is not None
    assert "nothing is enough" in greedier.reason


# -- hanging -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("networks")
def test_a_worker_that_hangs_is_ended_with_its_stack_and_its_cell_tried_once_more(digits: Dataset) -> None:
    engine = LocalEngine(Worker(load_digits), jobs=1, hang_after=40)
    events = list(engine.run([Cell(setting(digits, "stuck"), "cce", 0)]))
    (retried,) = [e for e in events if isinstance(e, Retried)]
    assert "no sign of life" in retried.reason
    assert "faulty_networks.py" in retried.reason  # the line where it hung
    (finished,) = [e for e in events if isinstance(e, Finished)]
    assert finished.result.status == DONE
    assert finished.result.env["faults"] == [retried.reason]


# -- the disk ----------------------------------------------------------------------------------------------------


class Ready:
    """An engine whose results are there at once."""

    jobs = 1

    def __init__(self) -> None:
        self.stopped = False

    def run(self, cells: Iterator[Cell | None]) -> Iterator[Event]:
        for cell in cells:
            if self.stopped:
                return
            if cell is not None:
                yield Finished(CellResult(cell, DONE))

    def stop(self) -> None:
        self.stopped = True

    def cancel(self, cell: Cell) -> None: ...


class Quiet(Lines):
    def end(self, result: CellResult) -> None: ...


STUDY = Study(Setting("digits", "0123456789abcdef"), ("cce", "mse"), (0, 1))


def test_a_cell_that_was_lost_is_one_run_to_a_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Recorder:
        def __init__(self, *_: object) -> None: ...
        def begin(self, cell: Cell) -> None:
            told.append(f"begin {cell.loss}")

        def end(self, result: CellResult) -> None:
            told.append(f"end {result.cell.loss}")

        def close(self) -> None: ...

    class Losing(Ready):
        def run(self, cells: Iterator[Cell | None]) -> Iterator[Event]:
            for cell in cells:
                assert cell is not None
                yield Began(cell, "here")
                yield Retried(cell, "its process was killed")
                yield Began(cell, "there")
                yield Finished(CellResult(cell, DONE))

    monkeypatch.setattr("adma.bench.run.Sinks", Recorder)
    folder = Folder(tmp_path / "out")
    study = Study(STUDY.setting, ("cce", "mse"), (0,))
    folder.open(study, about={})
    run_cells(study.cells(), folder, Losing(), Quiet())  # type: ignore[arg-type]
    assert told == ["begin cce", "end cce", "begin mse", "end mse"]


def test_a_cell_that_never_began_is_no_run_to_a_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is lost while it waits for its node; a client that hears of its end alone would end by that."""
    told: list[Cell] = []

    class Strict:
        def __init__(self, *_: object) -> None: ...
        def begin(self, cell: Cell) -> None:
            told.append(cell)

        def end(self, result: CellResult) -> None:
            told.remove(result.cell)

        def close(self) -> None: ...

    monkeypatch.setattr("adma.bench.sinks.SINKS", {"strict": Strict})
    folder, display = Folder(tmp_path / "out"), Quiet()
    folder.open(STUDY, about={})
    run_cells(STUDY.cells(), folder, Ready(), display, Conduct(log=("strict",)))  # type: ignore[arg-type]
    assert display.said == []


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a pipe is set")
def test_an_interrupt_while_the_terminal_takes_nothing_stops_as_ever(tmp_path: Path) -> None:
    """After Ctrl-S, or behind a pager: a line is half written when the signal comes."""
    import fcntl

    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    folder, main = Folder(tmp_path / "out"), threading.main_thread().ident
    folder.open(STUDY, about={})
    got: list[bytes] = []
    writing = threading.Event()

    def later() -> None:
        writing.wait(60)
        time.sleep(0.5)
        signal.pthread_kill(main, signal.SIGINT)  # type: ignore[arg-type]
        time.sleep(0.5)
        while some := os.read(reads, 65536):
            got.append(some)

    class Talking(Ready):
        def run(self, cells: Iterator[Cell | None]) -> Iterator[Event]:
            writing.set()
            display.say("x" * 20_000)
            yield from super().run(cells)

    reader = threading.Thread(target=later)
    reader.start()
    terminal = open(writes, "w")  # noqa: SIM115  # its end is what the reader waits for
    display = PlainLines(Console(file=terminal, width=200))
    with terminal, pytest.raises(KeyboardInterrupt):
        run_cells(STUDY.cells(), folder, Talking(), display)  # type: ignore[arg-type]
    reader.join()
    os.close(reads)
    assert b"note: stopping: trainings write a checkpoint first" in b"".join(got)


def test_a_mistake_that_is_found_late_leaves_the_terminal_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(root: Path) -> None:
        raise ModuleNotFoundError("No module named 'absent'")

    monkeypatch.setattr("adma.bench.sinks.SINKS", {"absent": absent})
    folder, terminal = Folder(tmp_path / "out"), io.StringIO()
    folder.open(STUDY, about={})
    line = LiveLine(Console(file=terminal, force_terminal=True, force_interactive=True))
    with pytest.raises(BenchError, match="--log absent"):
        run_cells(STUDY.cells(), folder, Ready(), line, Conduct(log=("absent",)))  # type: ignore[arg-type]
    hides, shows = "\x1b[?25l", "\x1b[?25h"  # the cursor
    assert -1 < terminal.getvalue().rfind(hides) < terminal.getvalue().rfind(shows)


def test_a_full_disk_is_waited_for_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path / "out")
    folder.open(STUDY, about={})
    full, sync = [True] * 3, os.fsync

    def fsync(handle: int) -> None:
        if full:
            full.pop()
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(whole.os, "fsync", fsync)
    monkeypatch.setattr("adma.bench.run._FULL_SECONDS", 0.01)
    lines = Quiet()
    engine: Engine = Ready()  # type: ignore[assignment]
    run_cells(STUDY.cells(), folder, engine, lines)
    assert [c.status for c in folder.results().cells] == [DONE] * 4
    assert len([line for line in lines.said if "paused: no space left" in line]) == 1
    assert len([line for line in lines.said if "room again" in line]) == 1


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small file system")
def test_a_real_disk_that_is_full_is_waited_for(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode()}")
    try:
        folder = Folder(disk / "out")
        folder.open(STUDY, about={})
        (disk / "filler").write_bytes(b"x" * (200 << 10))
        lines, engine = Quiet(), Ready()
        errors: list[BaseException] = []

        def go() -> None:
            try:
                run_cells(STUDY.cells(), folder, engine, lines)  # type: ignore[arg-type]
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=go)
        thread.start()
        for _ in range(600):
            if any("paused" in line for line in lines.said):
                break
            time.sleep(0.1)
        assert any("paused" in line for line in lines.said)
        (disk / "filler").unlink()
        thread.join(60)
        assert not errors
        assert [c.status for c in folder.results().cells] == [DONE] * 4
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# -- stopping ----------------------------------------------------------------------------------------------------


def test_the_first_interrupt_writes_checkpoints_and_the_next_run_goes_on_from_them(
    digits: Dataset, tmp_path: Path, networks: None
) -> None:
    folder = Folder(tmp_path / "out")
    study = Study(setting(digits, "plain", epochs=3000), ("cce",), (0,))
    folder.open(study, about={})
    engine = LocalEngine(Worker(load_digits, checkpoints=folder.root), jobs=1)
    lines = Lines()
    reached = lines.epoch

    def epoch(cell: Cell, number: int) -> None:
        reached(cell, number)
        if number == 2:
            signal.raise_signal(signal.SIGINT)

    lines.epoch = epoch  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run_cells(study.cells(), folder, engine, lines)
    assert any("write a checkpoint" in line for line in lines.said)
    assert not list((folder.root / "leases").glob("[!.]*"))
    (state,) = (folder.root / "checkpoints").glob("*/*")
    assert b'"position": {"epoch": ' in state.read_bytes()[:300]
    assert folder.results().cells[0].status == "missing"
    with pytest.raises(OutOfTimeError):
        run_cells(study.cells(), folder, engine, Lines(), Conduct(seconds=0.0))


def test_a_cell_that_another_command_took_over_is_given_up(digits: Dataset, tmp_path: Path, networks: None) -> None:
    """As if this command had been asleep, and its lease taken for a dead one's."""
    folder = Folder(tmp_path / "out")
    study = Study(setting(digits, "plain", epochs=3000), ("cce",), (0,))
    folder.open(study, about={})
    engine = LocalEngine(Worker(load_digits, checkpoints=folder.root), jobs=1)
    lines = Lines()
    other = Leases(folder.root)
    gone: list[Event] = []

    def epoch(cell: Cell, number: int) -> None:
        if number == 1:
            (folder.root / "leases" / cell.key).unlink()
            assert other.take(cell) is None

    def stopped(cell: Cell) -> None:
        gone.append(Stopped(cell))
        folder.write(CellResult(cell, DONE, "by the other"))
        other.release(cell)

    lines.epoch, lines.stopped = epoch, stopped  # type: ignore[method-assign]
    lines._running = study.cells()
    lines.begin = lambda cell: None  # type: ignore[method-assign]
    run_cells(study.cells(), folder, engine, lines)
    assert gone == [Stopped(study.cells()[0])]
    assert folder.results().cells[0].reason == "by the other"


def test_a_cell_that_is_lost_twice_is_given_up_twice(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out")
    study = Study(STUDY.setting, ("cce",), (0,))
    folder.open(study, about={})
    (cell,) = study.cells()
    other, leases = Leases(folder.root), Leases(folder.root, beat=0.02)

    class Losing(Ready):
        cancelled = 0

        def cancel(self, cell: Cell) -> None:
            self.cancelled += 1

        def run(self, cells: Iterator[Cell | None]) -> Iterator[Event]:
            for time_of, _ in enumerate(cells, start=1):
                yield Began(cell, "here")
                (folder.root / "leases" / cell.key).unlink()
                assert other.take(cell) is None
                until = time.monotonic() + 20
                while not leases.lost and time.monotonic() < until:
                    time.sleep(0.02)
                yield Waited()
                assert self.cancelled == time_of
                other.release(cell)
                if time_of == 3:
                    yield Finished(CellResult(cell, DONE))
                else:
                    yield Stopped(cell)

    engine = Losing()
    supply = Supply([cell], folder, leases)
    drive(supply, folder, engine, Lines(), leases)  # type: ignore[arg-type]
    leases.close()
    assert engine.cancelled == 3

"""Jobs of a Slurm cluster, by submitit: each cell is a job, in a folder that all nodes share.

    DIR/slurm/data-FINGERPRINT~...   a data set, read by the jobs of one command; gone in its end
    DIR/slurm/KEY-ATTEMPT.log        what a job says, a line of JSON a word
    DIR/slurm/KEY-ATTEMPT.stop       there: the job is to stop
    DIR/slurm/KEY-ATTEMPT.stack      where a job was that hung so that it could not say it
    DIR/slurm/JOB/                   submitit's own files; those of a job that was lost stay, with its output

A job that is lost (preempted, out of time, its node gone) is submitted again from its checkpoint, as long as it gets
further each time; one that hung, once.
"""

from __future__ import annotations

import errno
import json
import shutil
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from adma.bench import owner
from adma.bench.engines.base import Began, Event, Finished, Pull, Reached, Retried, Stopped, Waited
from adma.bench.engines.order import Order, Token, versions, warn_if_blind
from adma.bench.engines.slurm_job import remove, stack_of, train_job, write_dataset
from adma.bench.engines.troubles import with_faults, words
from adma.bench.engines.work import HANG_SECONDS, Worker
from adma.bench.errors import BenchError
from adma.bench.result import FAILED, CellResult
from adma.bench.store import signed, signer
from adma.bench.study import Cell
from adma.bench.whole import DiskFullError

Written = TypeVar("Written")
LOCAL = "local"  # submitit's executor on this machine, to try it without a cluster
_TRIES = 3  # of a job that is lost without having got further than the one before
_HANGS = 2  # of a cell's jobs
_LOOK = 1.0  # seconds between two looks at the logs
_FULL = 10.0  # seconds between two tries on a full disk


@dataclass
class _Sent:
    """A cell on the cluster.

    read: bytes of its log that were read.
    reached: epochs it has done.
    """

    cell: Cell
    attempt: int
    job: Any
    log: Path
    read: int = 0
    began: bool = False
    reached: int = 0
    reason: str = ""
    unwanted: bool = False


@dataclass
class _Past:
    """What happened to a cell before: why it was lost, how often in vain, how often it hung, and how far it was."""

    faults: list[str] = field(default_factory=list)
    vain: int = 0
    hung: int = 0
    reached: int = 0


class SlurmEngine:
    """Trains cells as jobs of a Slurm cluster.

    Args:
        worker: what trains a cell there; its data are loaded where the command runs, once for a fingerprint.
        folder: where jobs and this process meet; on a file system that all nodes share.
        jobs: jobs at once, those that wait in the queue included.
        gpus: GPUs of each job.
        options: of sbatch, such as {"partition": "gpu", "time": "120"}; "cluster": "local" tries it without Slurm.
        modules: the user's own, to be imported first.
        hang_after: seconds without a sign of life after which a job ends itself.

    Raises:
        BenchError: submitit or Slurm is not there, an option is wrong, or the worker trains on several devices.
    """

    def __init__(
        self,
        worker: Worker,
        folder: Path,
        *,
        jobs: int,
        gpus: int = 0,
        options: Mapping[str, str],
        modules: Iterable[str] = (),
        hang_after: float = HANG_SECONDS,
    ) -> None:
        self.jobs = jobs
        self._load, self._worker = worker.load, worker.to_send()
        self._folder = folder.absolute() / "slurm"
        self._hang_after, self._modules = hang_after, tuple(modules)
        self._executor = executor(self._folder, worker.threads, gpus, options)
        self._sent: list[_Sent] = []
        self._past: dict[str, _Past] = {}
        self._blind: set[str] = set()
        self._full = False  # whether it was said that the disk is full
        self._stopping = False

    def stop(self) -> None:
        """As `Engine.stop`."""
        self._stopping = True
        for sent in self._sent:
            self._withdraw(sent)

    def cancel(self, cell: Cell) -> None:
        """As `Engine.cancel`."""
        for sent in self._sent:
            if sent.cell == cell:
                self._withdraw(sent)

    def run(self, cells: Iterable[Cell | None]) -> Generator[Event, None, None]:
        """Submit the cells, in order, `jobs` of them at a time; closing the iterator cancels what is there.

        Raises:
            BenchError: a node cannot train what this machine sends.
        """
        supply = Pull(cells)
        self._stopping, self._sent, self._past = False, [], {}
        with Token(self._worker.checkpoints) as self._token:
            try:
                while True:
                    while not self._stopping and len(self._sent) < self.jobs:
                        cell = supply.next()
                        if cell is None:
                            break
                        yield from self._send(cell, 0)
                    if not self._sent and (supply.exhausted or self._stopping):
                        return
                    yield from self._listen()
            finally:
                for sent in self._sent:
                    sent.job.cancel(check=False)
                self._tidy()

    # -- what is sent ------------------------------------------------------------------------------------------

    def _send(self, cell: Cell, attempt: int) -> Generator[Event, None, None]:
        try:
            data = yield from self._when_there_is_room(lambda: self._data_of(cell))
        except Exception as error:  # a failed cell is a result; the study goes on
            yield Began(cell)
            yield Finished(CellResult(cell, FAILED, words(error)))
            return
        order = Order(cell, attempt, self._worker, self._token.name, self._hang_after, versions(), self._modules)
        log = self._folder / f"{cell.key}-{attempt}.log"
        remove(log)
        past = self._past.setdefault(cell.key, _Past())
        job = None
        if data is not None:
            job = yield from self._when_there_is_room(lambda: self._executor.submit(train_job, order, data, log))
        if job is None:
            yield Stopped(cell)
        else:
            self._sent.append(_Sent(cell, attempt, job, log, reached=past.reached))

    def _when_there_is_room(self, write: Callable[[], Written]) -> Generator[Event, None, Written | None]:
        """What a call that writes gives, as soon as the disk has room for that; None if all is to stop before."""
        while True:
            try:
                return write()
            except (DiskFullError, OSError) as error:
                if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                if not self._full:
                    warnings.warn(
                        f"paused: no space left on the disk of {self._folder}; it goes on when there is room",
                        stacklevel=2,
                    )
                self._full = True
            until = time.monotonic() + _FULL
            while time.monotonic() < until:
                if self._stopping:
                    return None
                time.sleep(_LOOK)
                yield Waited()

    def _data_of(self, cell: Cell) -> Path:
        # a command's own, as another one that ends must not take it from jobs that wait in the queue
        path = self._folder / f"{signed(f'data-{cell.setting.data_hash}')}.npz"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_dataset(path, self._load(cell))
        return path

    def _withdraw(self, sent: _Sent) -> None:
        """Let a job stop; one that waits in the queue is taken out of it."""
        sent.unwanted = True
        sent.log.with_suffix(".stop").touch()
        if not sent.began:
            sent.job.cancel(check=False)

    # -- what comes back ----------------------------------------------------------------------------------------

    def _listen(self) -> Generator[Event, None, None]:
        time.sleep(_LOOK)
        quiet = True
        for sent in list(self._sent):
            done = sent.job.done()  # before its last words are read
            for event in self._said(sent):
                quiet = False
                yield event
            if done:
                quiet = False
                yield from self._ended(sent)
        if quiet:
            yield Waited()

    def _said(self, sent: _Sent) -> Generator[Event, None, None]:
        """What a job has written since the last look."""
        try:
            with sent.log.open("rb") as file:
                file.seek(sent.read)
                new = file.read()
        except OSError:
            return
        lines = new[: new.rfind(b"\n") + 1]  # the last one may be half there
        sent.read += len(lines)
        for line in lines.splitlines():
            kind, value = json.loads(line)
            if kind == "began":
                where, sees = value
                sent.began = True
                warn_if_blind(self._blind, where, sees, self._worker.checkpoints)
                yield Began(sent.cell, where)
            elif kind == "epoch":
                sent.reached = value[0]
                yield Reached(sent.cell, *value)
            else:
                sent.reason = value

    def _ended(self, sent: _Sent) -> Generator[Event, None, None]:
        import submitit

        self._sent.remove(sent)
        sent.reason = sent.reason or stack_of(sent.log)
        remove(sent.log)
        past = self._past[sent.cell.key]
        try:
            result = sent.job.result()
        except submitit.core.utils.FailedJobError as error:
            raise BenchError(f"--engine slurm: {_cause(error)}") from error
        except submitit.core.utils.UncompletedJobError as error:
            yield from self._lost(sent, past, error)
            return
        shutil.rmtree(sent.job.paths.folder, ignore_errors=True)
        if result is None or (sent.unwanted and result.status == FAILED):
            yield Stopped(sent.cell)
        else:
            yield Finished(with_faults(result, past.faults))

    def _lost(self, sent: _Sent, past: _Past, error: Exception) -> Generator[Event, None, None]:
        """Submit a cell whose job is lost again."""
        if self._stopping or sent.unwanted:
            yield Stopped(sent.cell)
            return
        state = sent.job.state
        past.faults.append(sent.reason or f"job {sent.job.job_id} ended without a result ({state}): {_last(error)}")
        past.vain = 1 if sent.reached > past.reached else past.vain + 1
        past.hung += bool(sent.reason)
        past.reached = sent.reached
        if past.vain < _TRIES and past.hung < _HANGS:
            self._sent.append(sent)  # so that `stop` and `cancel` meet it, which who hears of it may call
            yield Retried(sent.cell, past.faults[-1])
            self._sent.remove(sent)
            if sent.unwanted:
                remove(sent.log)
                yield Stopped(sent.cell)
            else:
                yield from self._send(sent.cell, sent.attempt + 1)
        else:
            often = "the second time" if past.hung == _HANGS else f"{_TRIES} times at the same place"
            reason = f"{past.faults[-1]}; {often}"
            yield Finished(with_faults(CellResult(sent.cell, FAILED, reason), past.faults[:-1]))

    def _tidy(self) -> None:
        """Remove what the jobs read, and what those of commands of this machine read that were killed."""
        for path in self._folder.glob("data-*.npz"):
            reader = signer(path.name)
            if reader is not None and (reader == owner.me() or reader.alive is False):
                path.unlink(missing_ok=True)
        for folder in (self._folder / "%j", self._folder):  # submitit makes the first one, and never uses it
            with suppress(OSError):
                folder.rmdir()


def executor(folder: Path, threads: int, gpus: int, options: Mapping[str, str]) -> Any:
    """What submits jobs.

    Raises:
        BenchError: see `SlurmEngine`.
    """
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise BenchError(f"--engine slurm needs submitit ({error}): pip install 'adma[slurm]'") from error
    given = dict(options)
    cluster = given.pop("cluster", "slurm")
    if cluster not in ("slurm", LOCAL):
        raise BenchError(f"--slurm cluster={cluster}: must be slurm or local")
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise BenchError(
            "--engine slurm: there is no Slurm here (no sbatch); run the command where jobs are submitted, or try it "
            "with --slurm cluster=local"
        )
    if cluster == "slurm" and "time" not in given:
        raise BenchError("--engine slurm: say how long a job may take, such as --slurm time=120 (minutes)")
    found = submitit.AutoExecutor(folder / "%j", cluster=cluster)
    known = {name.removeprefix("slurm_") for name in submitit.SlurmExecutor._valid_parameters()}
    named: dict[str, Any] = {f"slurm_{name}": value for name, value in given.items() if name in known}
    others = {name: value for name, value in given.items() if name not in known}
    if others:
        named["slurm_additional_parameters"] = others
    found.update_parameters(
        name="adma", cpus_per_task=threads, **({"gpus_per_node": gpus} if gpus else {}),
        **({"timeout_min": 24 * 60} if cluster == LOCAL else {}), **named,
    )  # fmt: skip
    return found


def _cause(error: Exception) -> str:
    text = str(error)
    return text.rpartition("BenchError: ")[2].strip() if "BenchError: " in text else f"a job failed: {_last(error)}"


def _last(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

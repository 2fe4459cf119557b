"""Which process trains which cell of a folder, so that no cell is trained twice at once.

    DIR/leases/KEY      {"owner": ..., "nonce": ..., "cell": ..., "since": ..., "reached": ...}

A lease is a file that its process touches every few seconds. On the same machine a holder that has ended is seen at
once. Of a holder elsewhere only the file can be seen: a lease whose time has not moved for `PATIENCE` seconds, by the
clock of whoever looks, is taken for a dead one's; no two machines' clocks are compared. A process that was stopped for
longer than that finds its leases gone when it wakes (`lost`), and must give those cells up.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from adma.bench import owner
from adma.bench.errors import BenchError
from adma.bench.study import Cell
from adma.bench.whole import explained

BEAT, PATIENCE = 10.0, 60.0  # seconds
_LOCK_SECONDS = 60.0  # that a lock is waited for, which is held for milliseconds
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a disk that knows no locks


@dataclass(frozen=True)
class Lease:
    """Who trains a cell.

    nonce: of the holder's `Leases`.
    since: the moment it was taken, UTC, in ISO 8601.
    reached: the holder's last word on how far it is, such as {"epoch": 3, "epochs": 10}.
    touched: the file's time in nanoseconds.
    cell: what is trained, for a reader: its "loss", "seed" and "data".
    """

    key: str
    owner: owner.Owner
    nonce: str
    since: str
    reached: Mapping[str, Any]
    touched: int
    cell: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no command writes.

        Raises:
            TypeError, ValueError: of the contents of a file.
        """
        if datetime.fromisoformat(self.since).tzinfo is None:
            raise ValueError(f"since={self.since!r}: must say its offset from UTC")
        if not isinstance(self.reached, Mapping) or not isinstance(self.cell, Mapping):
            raise TypeError(f"reached={self.reached!r}, cell={self.cell!r}: must be objects")


class Holder(ABC):
    """What a process that holds leases does wherever they lie: it gives signs of life, and looks for others'.

    Args:
        beat: seconds between two signs of life.
        patience: seconds without one after which a holder elsewhere is taken for dead; several beats.
    """

    def __init__(self, beat: float, patience: float) -> None:
        self._beat, self._patience = beat, patience
        self._nonce = secrets.token_hex(8)
        self._lost: set[str] = set()
        self._seen: dict[str, tuple[Any, float]] = {}  # name -> its sign of life, when that was first seen here
        self._guard = threading.RLock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> frozenset[str]:
        """Keys of cells that this process held and that another has taken over meanwhile."""
        with self._guard:
            return frozenset(self._lost)

    @abstractmethod
    def _sign(self, lease: Lease) -> tuple[str, Any]:
        """A name, and what changes under it as long as the lease's holder lives."""

    @abstractmethod
    def _give_sign(self) -> None:
        """Say that this process lives, and note which of its leases are lost.

        Raises:
            OSError, BenchError: where they lie cannot be reached; perhaps it can at the next beat.
        """

    def _claim(self, cell: Cell) -> dict[str, Any]:
        """What a lease of this process says."""
        return {
            "owner": str(owner.me()),
            "nonce": self._nonce,
            "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "cell": {"loss": cell.loss, "seed": cell.seed, "data": cell.setting.data},
        }

    def _dead(self, lease: Lease, take_over: bool) -> bool:
        alive = lease.owner.alive
        if alive is not None:
            return not alive
        if take_over:
            return True
        (name, sign), now = self._sign(lease), time.monotonic()
        before, first = self._seen.setdefault(name, (sign, now))
        if sign != before:
            self._seen[name] = (sign, now)
            return False
        return now - first > self._patience

    def _live(self) -> None:
        """Begin to give signs of life."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_alive, name="leases", daemon=True)
            self._thread.start()

    def _keep_alive(self) -> None:
        while not self._end.wait(self._beat):
            with suppress(OSError, BenchError):
                self._give_sign()

    def _die(self) -> bool:
        """Give no more signs of life; whether there were any."""
        self._end.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        return thread is not None


class Leases(Holder):
    """The leases of a folder, as one process takes and sees them.

    Args:
        root: the results folder; it exists.
        beat: seconds between two touches of the leases that are held.
        patience: see above; several beats.
    """

    def __init__(self, root: Path, *, beat: float = BEAT, patience: float = PATIENCE) -> None:
        super().__init__(beat, patience)
        self._dir = root / "leases"
        self._held: dict[str, dict[str, Any]] = {}

    # -- of this process -----------------------------------------------------------------------------------

    def take(self, cell: Cell, *, take_over: bool = False) -> Lease | None:
        """Say that this process trains the cell.

        Args:
            take_over: whether a lease of another machine is taken for a dead one's without waiting.

        Returns:
            None if it may; else the lease of the process that does.

        Raises:
            BenchError: the folder cannot be written or locked.
        """
        with explained(self._dir), self._guard, self._lock_explained(), self._locked():
            there = self._read(cell.key)
            if there is not None and there.nonce != self._nonce and not self._dead(there, take_over):
                return there
            self._lost.discard(cell.key)
            self._held[cell.key] = {**self._claim(cell), "reached": {}}
            self._write(cell.key)
            self._live()
        return None

    def note(self, cell: Cell, **reached: Any) -> None:
        """Say how far a cell is; others see it in `all`. Without room on the disk it is left out."""
        with self._guard:
            held = self._held.get(cell.key)
            if held is None:
                return
            held["reached"] = reached
            try:
                with self._locked():
                    there = self._read(cell.key)
                    if there is not None and there.nonce == self._nonce:
                        self._write(cell.key)
            except OSError:
                pass

    def release(self, cell: Cell) -> None:
        """End this process's lease of a cell, if it has one."""
        with self._guard:
            self._lost.discard(cell.key)
            if cell.key in self._held:
                self._drop(cell.key)

    def _drop(self, key: str) -> None:
        del self._held[key]
        try:
            with self._locked():
                there = self._read(key)
                if there is not None and there.nonce == self._nonce:
                    (self._dir / key).unlink()
        except OSError:
            pass  # it is found dead when this process has ended

    def close(self) -> None:
        """End all leases of this process."""
        self._die()
        with self._guard:
            for key in list(self._held):
                self._drop(key)

    # -- of all --------------------------------------------------------------------------------------------

    def all(self) -> list[Lease]:
        """The leases of the folder but those of processes of this machine that have ended."""
        names = sorted(p.name for p in self._dir.glob("[!.]*")) if self._dir.is_dir() else []
        found = [lease for lease in map(self._read, names) if lease is not None]
        return [lease for lease in found if lease.owner.alive is not False]

    def _sign(self, lease: Lease) -> tuple[str, Any]:
        return lease.key, (lease.nonce, lease.touched)

    def _give_sign(self) -> None:
        with self._guard:
            if not self._held:
                return
            with self._locked():
                for key in list(self._held):
                    there = self._read(key)
                    if there is None or there.nonce != self._nonce:
                        del self._held[key]
                        self._lost.add(key)
                    else:
                        os.utime(self._dir / key)

    def _locked(self) -> FileLock:
        self._dir.mkdir(parents=True, exist_ok=True)
        return FileLock(self._dir / ".lock", timeout=_LOCK_SECONDS)

    @contextmanager
    def _lock_explained(self) -> Iterator[None]:
        """Turns a lock that is not to be had into a message that says what to do."""
        try:
            yield
        except Timeout as error:
            raise BenchError(
                f"{self._dir} has been locked for {_LOCK_SECONDS:g} s: another command on this folder was stopped "
                "(Ctrl-Z) at that moment, or its machine hangs; let it go on (fg) or end it, and run again"
            ) from error
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            raise BenchError(
                f"{self._dir}: files cannot be locked there ({getattr(error, 'strerror', None) or error}), so two "
                "commands could not be kept apart; mount that disk with locks, or choose a folder on another one"
            ) from error

    def _read(self, key: str) -> Lease | None:
        path = self._dir / key
        try:
            touched = path.stat().st_mtime_ns
            value = json.loads(path.read_bytes())
            holder = owner.parse(value["owner"])
            if holder is None:
                return None
            cell = value.get("cell", {})
            return Lease(key, holder, value["nonce"], value["since"], value["reached"], touched, cell)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # there is none, or it was cut short when its machine went down, or altered by hand

    def _write(self, key: str) -> None:
        handle, name = tempfile.mkstemp(prefix=".new-", dir=self._dir)
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(self._held[key], file)
            os.replace(name, self._dir / key)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

"""Leases in an object store, which has no locks and no times that can be trusted, but writes "only if it is new".

    URL/leases/KEY.N        {"owner": ..., "nonce": ..., "cell": ..., "since": ...}, the Nth lease of a cell
    URL/leases/beat-NONCE   {"beat": ..., "reached": {KEY: ...}}, written again by each process every few seconds

The lease with the greatest N counts; it is never changed. It is created by a write that fails where the file is
there, so of several processes one gets it. A holder whose beat has not changed for `PATIENCE` seconds, by the clock of
whoever looks, is taken for dead; the next lease is then N + 1, and the holder, should it wake, sees that it has lost.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

from adma.bench import owner
from adma.bench.errors import BenchError
from adma.bench.files import Remote
from adma.bench.lease import BEAT, PATIENCE, Holder, Lease
from adma.bench.study import Cell


class RemoteLeases(Holder):
    """As `lease.Leases`, behind a URL.

    Raises:
        BenchError: the store does not refuse a second write of a file that has to be new.
    """

    def __init__(self, files: Remote, *, beat: float = BEAT, patience: float = PATIENCE) -> None:
        super().__init__(beat, patience)
        self._files = files
        self._number = 0  # of beats
        self._looked = 0.0  # when the last look at the leases that are held began, by the clock that goes on in sleep
        self._held: dict[str, str] = {}  # key -> the lease's file
        self._reached: dict[str, dict[str, Any]] = {}

    # -- of this process -----------------------------------------------------------------------------------

    def take(self, cell: Cell, *, take_over: bool = False) -> Lease | None:
        """Say that this process trains the cell; None if it may, else the lease of the process that does."""
        with self._guard:
            self._start()
            last = self._last(cell.key)
            if last is not None:
                there = self._read(last)
                if there is not None and there.nonce != self._nonce and not self._dead(there, take_over):
                    return there
            number = 1 if last is None else int(last.rpartition(".")[2]) + 1
            name = f"leases/{cell.key}.{number}"
            if not self._files.create(name, json.dumps(self._claim(cell)).encode()):
                return self._read(name) or self.take(cell, take_over=take_over)
            self._lost.discard(cell.key)
            self._held[cell.key] = name
            if last is not None:
                self._files.remove(last)
        return None

    def note(self, cell: Cell, **reached: Any) -> None:
        """Say how far a cell is; others see it with the next beat."""
        with self._guard:
            if cell.key in self._held:
                self._reached[cell.key] = reached

    def release(self, cell: Cell) -> None:
        """End this process's lease of a cell, if it has one."""
        with self._guard:
            self._lost.discard(cell.key)
            self._reached.pop(cell.key, None)
            name = self._held.pop(cell.key, None)
            if name is not None:
                with suppress(BenchError):  # it is found dead when this process has ended
                    self._files.remove(name)

    def close(self) -> None:
        """End all leases of this process."""
        if self._die():
            with suppress(BenchError):  # they are found dead
                for name in [*self._held.values(), f"leases/beat-{self._nonce}"]:
                    self._files.remove(name)
        self._held.clear()

    # -- of all --------------------------------------------------------------------------------------------

    def all(self) -> list[Lease]:
        """The leases of the folder; those of processes that were killed for a while, too."""
        latest: dict[str, str] = {}
        for name in sorted(self._names(), key=_number):
            latest[name.partition(".")[0]] = name
        found = [self._read(f"leases/{name}") for name in latest.values()]
        return [lease for lease in found if lease is not None and lease.owner.alive is not False]

    def _names(self) -> list[str]:
        return [name for name in self._files.names("leases") if name.rpartition(".")[2].isdigit()]

    def _last(self, key: str) -> str | None:
        mine = [name for name in self._names() if name.partition(".")[0] == key]
        return f"leases/{max(mine, key=_number)}" if mine else None

    def _read(self, name: str) -> Lease | None:
        try:
            value = json.loads(self._files.read(name))
            holder = owner.parse(value["owner"])
            reached = json.loads(self._beat_of(value["nonce"]) or b"{}").get("reached", {})
            key = name.rpartition("/")[2].partition(".")[0]
            if holder is None:
                return None
            cell = value.get("cell", {})
            return Lease(key, holder, value["nonce"], value["since"], reached.get(key, {}), 0, cell)
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _beat_of(self, nonce: str) -> bytes:
        try:
            return self._files.read(f"leases/beat-{nonce}")
        except FileNotFoundError:
            return b""

    def _sign(self, lease: Lease) -> tuple[str, Any]:
        return lease.nonce, self._beat_of(lease.nonce)

    # -- the beat ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is not None:
            return
        name = f"leases/beat-{self._nonce}"
        self._files.create(name, b"{}")
        if self._files.create(name, b"{}"):
            self._files.remove(name)
            raise BenchError(
                f"--out {self._files.url}: this store writes over a file that was to be new, so two commands could not "
                "be kept apart there; use a store with conditional writes, as Amazon S3 and Google Cloud Storage have, "
                "or a folder"
            )
        self._live()

    def _give_sign(self) -> None:
        with self._guard:
            self._number += 1
            content = json.dumps({"beat": self._number, "reached": self._reached})
            held = dict(self._held)
        self._files.write(f"leases/beat-{self._nonce}", content.encode())
        last: dict[str, int] = {}
        now = time.time()
        for name in self._names() if held else []:
            key = name.partition(".")[0]
            last[key] = max(last.get(key, 0), _number(name))
        gone = {key for key, name in held.items() if last.get(key) != _number(name)}
        if abs(now - self._looked) > self._patience / 2:  # others may have had it meanwhile, and begun anew at 1
            gone |= {key for key, name in held.items() if key not in gone and not self._mine(name)}
        self._looked = now
        with self._guard:
            for key in gone:
                if self._held.get(key) == held[key]:
                    del self._held[key]
                    self._lost.add(key)

    def _mine(self, name: str) -> bool:
        there = self._read(name)
        return there is not None and there.nonce == self._nonce


def _number(name: str) -> int:
    return int(name.rpartition(".")[2])

"""Which process holds a folder or a trial, and whether it still lives: so that what a dead one left is taken over."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """A process of some machine.

    started: tells it from a later process with the same number (Linux: start of the machine, namespace of process
        numbers, time since); "" where the system does not say.
    """

    host: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.started}"

    @property
    def alive(self) -> bool | None:
        """Whether it still runs; None if it is of another machine or container, where nobody here can look."""
        mine = me()
        if self.host != mine.host:
            return None
        if self == mine:
            return True
        boot, space, _ = _pieces(self.started)
        if boot == _pieces(mine.started)[0] and space != _pieces(mine.started)[1]:
            return None  # a container with this one's name
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            pass
        return self.started == _started(self.pid)


@lru_cache(maxsize=1)
def _of(pid: int) -> Owner:
    return Owner(socket.gethostname(), pid, _started(pid))


def me() -> Owner:
    """This process."""
    return _of(os.getpid())  # a fork has another number


def parse(text: str) -> Owner | None:
    """The inverse of `str`; None for text that is no owner."""
    host, _, rest = text.partition(":")
    pid, _, started = rest.partition(":")
    return Owner(host, int(pid), started) if host and pid.isdigit() else None


def _started(pid: int) -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        space = os.stat("/proc/self/ns/pid").st_ino
        return f"{boot}.{space}.{fields[19]}" if fields[0] != "Z" else "ended"  # a zombie has ended
    except (OSError, IndexError):
        return ""


def _pieces(started: str) -> tuple[str, str, str]:
    boot, _, rest = started.partition(".")
    space, _, ticks = rest.partition(".")
    return boot, space, ticks

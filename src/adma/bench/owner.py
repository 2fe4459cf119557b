"""Which process holds a folder or a trial, and whether it still lives: so that what a dead one left is taken over."""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """A process of some machine.

    started: tells it from a later process with the same number, and its machine from another one of the same name
        (Linux: start of the machine, namespace of process numbers, time since, machine); "" where the system does not
        say.
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
        boot, space, _, machine = _pieces(self.started)
        here = _pieces(mine.started)
        if boot != here[0]:  # this machine has started anew since, or it is another one with its name
            return False if machine and machine == here[3] else None
        if space != here[1]:
            return None  # a container with this one's name
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            pass
        return _pieces(self.started)[:3] == _pieces(_started(self.pid))[:3]


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
        return f"{boot}.{space}.{fields[19]}.{_machine()}" if fields[0] != "Z" else "ended"  # a zombie has ended
    except (OSError, IndexError):
        return ""


@lru_cache(maxsize=1)
def _machine() -> str:
    """What stays when the machine starts anew; "" in most containers. The number itself is not for others to see."""
    try:
        number = Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""
    return hashlib.sha256(f"adma {number}".encode()).hexdigest()[:8] if len(number) == 32 else ""


def _pieces(started: str) -> tuple[str, str, str, str]:
    boot, space, ticks, machine = [*started.split("."), "", "", "", ""][:4]
    return boot, space, ticks, machine

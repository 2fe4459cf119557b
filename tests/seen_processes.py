"""Which processes the bench has begun, as the system sees them."""

from __future__ import annotations

from pathlib import Path


def children(pid: int) -> list[int]:
    """Those that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(rest[1]) == pid and rest[0] != "Z":
            found.append(int(path.parent.name))
    return found


def servers_of(pid: int) -> list[int]:
    """What forks a command's workers."""
    return [child for child in children(pid) if "forkserver" in command_of(child)]


def workers_of(pid: int) -> list[int]:
    """What trains, and nothing else that was forked meanwhile."""
    return [child for server in servers_of(pid) for child in children(server)]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""

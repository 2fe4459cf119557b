"""The command in the tests: a process of its own, as a user has it; or in this one, where its imports are done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

ADMA = [sys.executable, "-m", "adma.cli"]


class Told(Protocol):
    """`adma` in this process (the fixture `told`)."""

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]: ...


def adma(
    *arguments: object, cwd: Path | None = None, timeout: float = 300, **env: str
) -> subprocess.CompletedProcess[str]:
    """What the command printed, and its exit status."""
    return subprocess.run(
        [*ADMA, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False,
        env={**os.environ, **env},
    )  # fmt: skip


def start(*arguments: str, cwd: Path, **env: str) -> subprocess.Popen[str]:
    """The command under way, in a process group of its own."""
    return subprocess.Popen(
        [*ADMA, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, **env},
        # a shell's background job ignores SIGINT and hands that down; a user at a terminal does not
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def cells_in(root: Path) -> list[Path]:
    """The folders of cells that are done."""
    return list(root.glob("cells/[!.]*"))


def wait_for_cells(root: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until so many cells are done by a command."""
    deadline = time.monotonic() + 400  # of a hang; a busy machine takes its time
    while len(cells_in(root)) < count:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline, "no cell was finished in time"
        time.sleep(0.02)

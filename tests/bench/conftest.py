"""What the bench's tests share."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from adma_command import Told

from adma.cli import main


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """`adma` in this process, in tmp_path. Not for modules of a user's, which workers look for where pytest began."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            code = main(list(arguments))
        except SystemExit as stop:
            code = stop.code  # type: ignore[assignment]
        found = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, found.out, found.err)

    return run

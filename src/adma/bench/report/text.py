"""Text from the user's disk made fit to show, and files written whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from adma.bench.errors import BenchError

_KEPT = " \n\t\u200c\u200d"  # joiners are part of words in Persian and of emoji


def printable(text: str) -> str:
    """The text with control, direction-changing and undecodable characters written as escapes.

    A file name may hold any of them: they would move the terminal's cursor, reorder a line or break UTF-8.
    """
    return "".join(c if c.isprintable() or c in _KEPT else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """The text made printable, every run of white space one blank."""
    return " ".join(printable(text).split())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all.

    Raises:
        BenchError: the folder is missing or cannot be written, or the disk is full.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}-", dir=path.parent)
    except OSError as error:
        raise BenchError(
            f"cannot write {path}: {error.strerror}; name a file in a folder that you can write to"
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        raise BenchError(f"cannot write {path}: {error.strerror}") from error
    finally:
        Path(name).unlink(missing_ok=True)

"""Files that are there whole or not at all, also after a power cut, and what a disk's refusals mean in words."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adma.bench.errors import BenchError


class DiskFullError(BenchError):
    """There is no room on a disk; once there is, the same call will do."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, make sure that it lies on the disk, and rename it into its place.

    Raises:
        BenchError: the folder is missing or cannot be written.
        DiskFullError: there is no room.
    """
    with explained(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """`write_whole` of a value as JSON, with its keys in order."""
    write_whole(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns a full disk or a forbidden folder into a message that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"no space left on the disk of {path}; finished cells are kept: make room and run again"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.EPERM):
            raise BenchError(
                f"cannot write {path}: {error.strerror}; choose another place, in a folder that you can write to"
            ) from error
        raise

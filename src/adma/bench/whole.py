"""Files that are there whole or not at all, also after a power cut, and what a disk's refusals mean in words.

Waiting for the disk is most of what a small file costs, and several waits at once cost little more than one: a disk
answers them together.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

from adma.bench.errors import BenchError


class DiskFullError(BenchError):
    """There is no room on a disk; once there is, the same call will do."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, make sure that it lies on the disk, and rename it into its place.

    Raises:
        BenchError: the folder is missing or cannot be written.
        DiskFullError: there is no room.
    """
    with whole(path) as file:
        file.write(content)


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """As `write_whole`, of what is written into the file that this gives; nothing is there if that raises."""
    with explained(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """`write_whole` of a value as JSON, with its keys in order."""
    write_whole(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def write_new(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a folder that nobody else looks into yet, and make sure that all of it lies on the disk.

    Raises:
        OSError: one of them cannot be written; others may be there.
    """
    with ExitStack() as opened:
        handles = [opened.enter_context((folder / name).open("xb", buffering=0)) for name in files]
        for handle, content in zip(handles, files.values(), strict=True):
            left = memoryview(content)
            while left:
                left = left[handle.write(left) or 0 :]
        waits = [_pool().submit(os.fsync, handle.fileno()) for handle in handles]
        waits.append(_pool().submit(sync_folder, folder))
        wait(waits)  # for all, before any of them is closed
        for one in waits:
            one.result()


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder, as they are now, lie on the disk."""
    if os.name != "posix":
        return  # a folder cannot be opened there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems know no such thing
            raise
    finally:
        os.close(handle)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(8, thread_name_prefix="sync")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # its threads are not in the child


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

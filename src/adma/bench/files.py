"""The files of a results folder by their names, in a folder of this machine or behind a URL that fsspec knows.

The same few verbs for both: a file is written whole or not at all, and read, moved, removed, listed. A name is a path
relative to the folder, with slashes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from adma.bench.errors import BenchError
from adma.bench.whole import explained, write_whole

Root = Path | str  # a folder of this machine, or a URL
_EXTRAS = {"s3": "adma[s3]", "s3a": "adma[s3]", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


def is_url(where: Root) -> bool:
    return isinstance(where, str) and "://" in where


class Files(Protocol):
    """Files of a folder; what is not there is a FileNotFoundError."""

    def read(self, name: str, most: int | None = None) -> bytes:
        """A file, or its first bytes."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, whole or not at all, in the place of another one.

        Raises:
            BenchError: it cannot be written; `DiskFullError`: there is no room.
        """
        ...

    def move(self, name: str, to: str) -> None: ...

    def remove(self, name: str) -> None:
        """A file that is not there is no error."""
        ...

    def names(self, folder: str) -> list[str]:
        """The files in a folder, sorted, without the folder; none if it is not there."""
        ...

    def size(self, name: str) -> int:
        """In bytes; 0 if it is not there."""
        ...


def files_at(where: Root) -> Files:
    """The files of a results folder."""
    return Remote(str(where)) if is_url(where) else Local(Path(where))


class Local:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str, most: int | None = None) -> bytes:
        with (self._root / name).open("rb") as file:
            return file.read() if most is None else file.read(most)

    def write(self, name: str, content: bytes) -> None:
        path = self._root / name
        with explained(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)

    def move(self, name: str, to: str) -> None:
        with explained(self._root):
            (self._root / to).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._root / name, self._root / to)

    def remove(self, name: str) -> None:
        path = self._root / name
        path.unlink(missing_ok=True)
        with suppress(OSError):  # other files lie there
            path.parent.rmdir()

    def names(self, folder: str) -> list[str]:
        path = self._root / folder
        return sorted(p.name for p in path.iterdir() if p.is_file()) if path.is_dir() else []

    def size(self, name: str) -> int:
        try:
            return (self._root / name).stat().st_size
        except FileNotFoundError:
            return 0


class Remote:
    """A folder of an object store; its objects appear whole by themselves.

    Args:
        url: such as s3://bucket/folder; keys and addresses come from the environment, as the store's client reads it.

    Raises:
        BenchError: no such kind of URL is known here, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        scheme = url.partition("://")[0]
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            needed = _EXTRAS.get(scheme, "")
            hint = f": pip install '{needed}'" if needed else ""
            raise BenchError(f"{url}: no files can be kept there ({error}){hint}") from error
        except ValueError as error:
            raise BenchError(f"{url}: {error}; name a folder, or a URL such as s3://bucket/folder") from error

    def read(self, name: str, most: int | None = None) -> bytes:
        with self._named("read", name):
            content: bytes = self._fs.cat_file(self._at(name), **({} if most is None else {"start": 0, "end": most}))
        return content

    def write(self, name: str, content: bytes) -> None:
        with self._named("written", name):
            self._fs.pipe_file(self._at(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Put a file there if none is; whether that was so. One of several that try at once succeeds."""
        try:
            with self._named("written", name):
                self._fs.pipe_file(self._at(name), content, mode="create")
        except FileExistsError:
            return False
        return True

    def move(self, name: str, to: str) -> None:
        self.write(to, self.read(name))
        self.remove(name)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError), self._named("removed", name):
            self._fs.rm_file(self._at(name))

    def names(self, folder: str) -> list[str]:
        base = self._at(folder)
        try:
            with self._named("listed", folder):
                return sorted(
                    entry["name"].rpartition("/")[2]
                    for entry in self._fs.ls(base, detail=True)
                    if entry["type"] == "file" and entry["name"].strip("/") != base.strip("/")
                )
        except FileNotFoundError:
            return []

    def all_names(self, folder: str) -> list[str]:
        """The files in a folder and below it, as names."""
        try:
            with self._named("listed", folder):
                found = self._fs.find(self._at(folder))
        except FileNotFoundError:
            return []
        start = len(self._root.strip("/")) + 1
        return sorted(path.strip("/")[start:] for path in found)

    def read_all(self, names: list[str]) -> dict[str, bytes]:
        """Several files, many at a time; those that are gone are left out."""
        if not names:
            return {}
        paths = [self._at(name) for name in names]
        with self._named("read", names[0]):
            found = self._fs.cat_ranges(paths, [None] * len(paths), [None] * len(paths), on_error="return")
            for content in found:
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content
        return {name: content for name, content in zip(names, found, strict=True) if isinstance(content, bytes)}

    def size(self, name: str) -> int:
        try:
            with self._named("read", name):
                return int(self._fs.size(self._at(name)) or 0)
        except FileNotFoundError:
            return 0

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _named(self, done: str, name: str) -> Iterator[None]:
        """Turns what a store's client raises into a message."""
        try:
            yield
        except Exception as error:  # each client has errors of its own
            if isinstance(error, FileExistsError) or (isinstance(error, FileNotFoundError) and done != "written"):
                raise
            words = f"{type(error).__name__}: {error}".strip()
            raise BenchError(
                f"{self.url}/{name} cannot be {done} ({words}); is it there, with the right keys?"
            ) from error

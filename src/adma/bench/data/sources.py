"""Where files lie: a folder, a tar or a zip, listed and read in place; nothing is ever extracted to disk.

An archive is a stranger's: a member with an absolute path, with "..", or that is a link or a device makes the
whole archive refused, also where it would have been ignored. A folder is the user's own: links in it are
followed, except one that leads back to a folder above it.
"""

from __future__ import annotations

import io
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from adma.bench.data.checks import show
from adma.bench.errors import BenchError

MAX_FILE_BYTES = 256 * 2**20  # a larger file is not read: no single picture needs it
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
ZIP_ENDINGS = (".zip",)
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError)
_SYSTEM_NAMES = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin"}


@dataclass(frozen=True)
class Entry:
    """One file or folder of a source.

    parts: its path below the source's root, without "." and empty names.
    problem: why its bytes will not be read, or "".
    handle: what the source itself needs to find it again.
    """

    parts: tuple[str, ...]
    is_dir: bool
    problem: str = ""
    handle: Any = None

    @property
    def path(self) -> str:
        return show("/".join(self.parts))


class Source(Protocol):
    """A folder or an archive."""

    path: Path

    def entries(self) -> list[Entry]:
        """All files and folders but the operating system's own (hidden, __MACOSX, Thumbs.db, ...)."""
        ...

    def files(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, BinaryIO | str]]:
        """Each entry, in the order that reads fastest, with its bytes or with why there are none."""
        ...


def open_source(path: Path) -> Source:
    """The source at a path, by what is there and by the file's ending.

    Raises:
        BenchError: a file whose ending is no archive's.
    """
    if path.is_dir():
        return _Folder(path)
    if not path.is_file():  # opening a pipe would wait for ever
        raise BenchError(f"DATA {show(str(path))}: neither a file nor a folder")
    name = path.name.lower()
    if name.endswith(TAR_ENDINGS):
        return _Tar(path)
    if name.endswith(ZIP_ENDINGS):
        return _Zip(path)
    raise BenchError(f"DATA {show(str(path))}: neither a folder nor a .tar, .tar.gz, .tar.bz2, .tar.xz, .tgz or .zip")


def is_system_file(name: str) -> bool:
    """Whether an operating system or a file manager wrote it for itself."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _too_large(size: int) -> str:
    return f"larger than {MAX_FILE_BYTES // 2**20} MiB" if size > MAX_FILE_BYTES else ""


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        found: list[Entry] = []
        # A folder to be listed, its parts, and the real paths of the folders above it.
        waiting: list[tuple[str, tuple[str, ...], frozenset[str]]] = [(str(self.path), (), frozenset())]
        while waiting:
            folder, parts, above = waiting.pop()
            real = os.path.realpath(folder)
            if real in above:
                raise BenchError(
                    f"DATA {show(str(self.path))}: the link {show('/'.join(parts))} leads back to a folder "
                    "above "
                    "itself; remove it"
                )
            try:
                children = sorted(os.scandir(folder), key=lambda c: c.name)
            except OSError as error:
                raise BenchError(
                    f"DATA {show(str(self.path))}: cannot list {show(folder)}: {error.strerror}"
                ) from error
            for child in children:
                if is_system_file(child.name):
                    continue
                here = (*parts, child.name)
                if child.is_dir():
                    found.append(Entry(here, True))
                    waiting.append((child.path, here, above | {real}))
                else:
                    found.append(Entry(here, False, _problem_of_file(child), child.path))
        return found

    def files(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, BinaryIO | str]]:
        for entry in entries:
            if entry.problem:
                yield entry, entry.problem
                continue
            try:
                stream = open(entry.handle, "rb")  # noqa: SIM115 - only its opening may fail here
            except OSError as error:
                yield entry, str(error.strerror)
                continue
            with stream:
                yield entry, stream


def _problem_of_file(child: os.DirEntry[str]) -> str:
    try:
        status = child.stat()
    except OSError:
        return "a link to nothing" if child.is_symlink() else "cannot be read"
    # Opening a pipe would wait for ever.
    return _too_large(status.st_size) if stat.S_ISREG(status.st_mode) else "not a regular file"


class _Archive:
    """What tar and zip share: the refusal of unsafe members and of two of one name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _damaged(self, error: BaseException, member: str = "") -> BenchError:
        where = f", at member {show(member)}" if member else ""
        reason = show((str(error) or type(error).__name__).splitlines()[0].rstrip(": "))
        return BenchError(
            f"DATA {show(str(self.path))}: the archive is damaged or cut short{where} ({reason}); fetch it again"
        )

    def _refuse(self, member: str, why: str) -> BenchError:
        return BenchError(
            f"DATA {show(str(self.path))}: refused, as its member '{show(member)}' {why}; unpack it where "
            "you trust "
            "it and give the folder, or pack it anew without that member"
        )

    def _safe_parts(self, member: str, separators: str) -> tuple[str, ...]:
        parts = tuple(p for p in re.split(separators, member) if p not in ("", "."))
        if re.match(separators, member) or (parts and re.fullmatch("[A-Za-z]:", parts[0])):
            raise self._refuse(member, "has an absolute path")
        if ".." in parts:
            raise self._refuse(member, "has '..' in its path")
        return parts

    def _kept(self, found: list[tuple[str, Entry]]) -> list[Entry]:
        """Without the operating system's files; two files of one name are an error, as one would be lost."""
        seen: set[tuple[str, ...]] = set()
        kept = []
        for member, entry in found:
            if not entry.parts or any(map(is_system_file, entry.parts)):
                continue
            if not entry.is_dir:
                if entry.parts in seen:
                    raise self._refuse(member, "is there twice")
                seen.add(entry.parts)
            kept.append(entry)
        return kept


class _Tar(_Archive):
    def entries(self) -> list[Entry]:
        found = []
        try:
            with tarfile.open(self.path, "r:*") as tar:
                for member in tar:
                    parts = self._safe_parts(member.name, "/")
                    if member.issym() or member.islnk():
                        raise self._refuse(member.name, "is a link")
                    if not (member.isfile() or member.isdir()):
                        raise self._refuse(member.name, "is neither a file nor a folder")
                    entry = Entry(parts, member.isdir(), _too_large(member.size), member)
                    found.append((member.name, entry))
                self._check_end(tar)
        except _DAMAGE as error:
            raise self._damaged(error) from error
        return self._kept(found)

    @staticmethod
    def _check_end(tar: tarfile.TarFile) -> None:
        """`tarfile` takes a damaged header for the end; the true end is a block of zeros."""
        assert tar.fileobj is not None
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end-of-archive mark where the last readable member ends")
        tar.fileobj.read(2**20)  # reaches the end of a compressed stream, where its check sum stands

    def files(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, BinaryIO | str]]:
        try:
            tar = tarfile.open(self.path, "r:*")  # noqa: SIM115
        except _DAMAGE as error:
            raise self._damaged(error) from error
        with tar:
            for entry in sorted(entries, key=lambda e: e.handle.offset):  # forward only: gzip cannot step back
                if entry.problem:
                    yield entry, entry.problem
                    continue
                try:
                    extracted = tar.extractfile(entry.handle)
                    content = b"" if extracted is None else extracted.read()
                except _DAMAGE as error:
                    raise self._damaged(error, entry.handle.name) from error
                yield entry, io.BytesIO(content)


class _Zip(_Archive):
    def entries(self) -> list[Entry]:
        found = []
        with self._opened() as archive:
            for info in archive.infolist():
                parts = self._safe_parts(info.filename, r"[/\\]")  # some Windows tools write "\"
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind == stat.S_IFLNK:
                    raise self._refuse(info.filename, "is a link")
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise self._refuse(info.filename, "is neither a file nor a folder")
                if info.flag_bits & 1:
                    raise self._refuse(info.filename, "is encrypted")
                is_dir = info.is_dir() or info.filename.endswith("\\") or kind == stat.S_IFDIR
                found.append((info.filename, Entry(parts, is_dir, _too_large(info.file_size), info)))
        return self._kept(found)

    def _opened(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except (*_DAMAGE, ValueError, NotImplementedError) as error:
            raise self._damaged(error) from error

    def files(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, BinaryIO | str]]:
        with self._opened() as archive:
            for entry in sorted(entries, key=lambda e: e.handle.header_offset):
                if entry.problem:
                    yield entry, entry.problem
                    continue
                try:
                    content = archive.read(entry.handle)
                except NotImplementedError as error:
                    raise self._refuse(entry.handle.filename, f"cannot be unpacked ({error})") from error
                except (*_DAMAGE, RuntimeError) as error:
                    raise self._damaged(error, entry.handle.filename) from error
                yield entry, io.BytesIO(content)

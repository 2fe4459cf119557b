"""Where Optuna keeps the trials: a journal file in the results folder, or any database by its URL.

Whatever goes wrong with it becomes a `BenchError` that says what is kept and what to do; a password is never shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from adma.bench.errors import BenchError

fcntl: ModuleType | None
try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

JOURNAL = "trials.journal"
LOCK_SECONDS = 30.0  # how long a locked journal is waited for: a record takes milliseconds
_CONNECT_SECONDS = 10
_SCHEMA_TRIES = 5  # two processes that meet an empty database both make its tables; one of them is told that they exist


@dataclass(frozen=True)
class Place:
    """A storage as a user names it.

    url: of a database, or None for the journal in `folder`.
    """

    folder: Path
    url: str | None = None

    @property
    def journal(self) -> Path:
        return self.folder / JOURNAL

    def __str__(self) -> str:
        return str(self.journal) if self.url is None else without_password(self.url)


def without_password(url: str) -> str:
    """The URL with *** in the place of its password; text that is no URL is given back as it is."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return url


def open_storage(place: Place) -> tuple[BaseStorage, list[str]]:
    """The storage, made if it is not there; and notes for the reader.

    Raises:
        BenchError: it cannot be reached, read or written, or the URL is none.
    """
    with told(place):
        if place.url is not None:
            return _database(place.url), []
        lock: Any = _FileLock(place.journal) if fcntl else JournalFileOpenLock(str(place.journal))
        notes = _cut_torn_record(place.journal, lock)
        return JournalStorage(JournalFileBackend(str(place.journal), lock_obj=lock)), notes


def _database(url: str) -> BaseStorage:
    parsed = sqlalchemy.engine.make_url(url)
    kwargs: dict[str, Any] = {"pool_pre_ping": True}  # a server that came back is met with a fresh connection
    if parsed.get_backend_name() == "postgresql":
        kwargs["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
    for attempt in range(_SCHEMA_TRIES):
        try:
            return RDBStorage(url, engine_kwargs=kwargs)
        except (sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.IntegrityError, sqlalchemy.exc.OperationalError) as e:
            exists = "already exists" in str(e) or "duplicate key" in str(e) or "UNIQUE constraint" in str(e)
            if not exists or attempt == _SCHEMA_TRIES - 1:
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError("unreachable")


class _FileLock:
    """Optuna's lock of a journal by the kernel's own, which ends with the process that holds it."""

    def __init__(self, journal: Path) -> None:
        self._path = journal.with_name(journal.name + ".lock")
        self._handle: int | None = None

    def acquire(self) -> bool:
        assert fcntl is not None
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._handle = handle
                return True
            except OSError:
                if time.monotonic() > until:
                    os.close(handle)
                    raise TimeoutError(
                        f"another process has kept it locked for {LOCK_SECONDS:g} s (the lock is {self._path})"
                    ) from None
                time.sleep(0.01)

    def release(self) -> None:
        handle, self._handle = self._handle, None  # first, as another thread has it once it is closed
        if handle is not None:
            os.close(handle)


def _cut_torn_record(journal: Path, lock: Any) -> list[str]:
    """Cut off a last record that a full disk or a power cut left without its end: nothing can follow it."""
    if not journal.exists():
        return []
    lock.acquire()
    try:
        with journal.open("r+b") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole == len(content):
                return []
            file.truncate(whole)
    finally:
        lock.release()
    return [f"{journal}: its last record was torn and is cut off ({len(content) - whole} bytes)"]


@contextmanager
def told(place: Place) -> Iterator[None]:
    """Turns what the storage raises into words.

    Raises:
        BenchError: the storage failed.
    """
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        raise BenchError(f"--storage {place}: {_reason(error, place)}") from error
    except (OSError, ValueError, KeyError) as error:
        if place.url is not None:
            raise
        raise BenchError(
            f"the journal {place.journal} cannot be used: {_reason(error, place)}; finished trainings are kept in "
            f"{place.folder / 'cells'}"
        ) from error


def _reason(error: BaseException, place: Place) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(error, ImportError):
        return f"the database's driver is not installed ({cause}); for PostgreSQL: pip install 'adma[postgresql]'"
    if isinstance(error, (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError)):
        return f"not a database's URL ({cause}); write such as postgresql+psycopg://user@host/name or sqlite:///file.db"
    words = " ".join(str(cause).split()) or type(cause).__name__
    if place.url is not None:
        with suppress(sqlalchemy.exc.ArgumentError):
            password = sqlalchemy.engine.make_url(place.url).password
            words = words.replace(str(password), "***") if password else words
        return (
            f"the database does not do what it should ({words}); its trials and finished trainings are kept: run the "
            "same command again once it does"
        )
    if isinstance(error, PermissionError):
        return f"{error.strerror} ({error.filename})"
    return words

"""A results folder behind a URL, worked on through a copy in a folder of this machine.

The URL is what counts; the copy lies in adma-runs/copies and can be deleted. What is read is brought when the folder
is opened. What is written goes to the copy first, as to any folder, and then to the URL: a cell's status.json last,
so that a cell there is whole or counts as missing. A cell that could not be sent is marked in the copy and sent when
the folder is opened again. Checkpoints and leases are at the URL alone. Reports lie in the copy and are sent, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adma.bench.errors import BenchError
from adma.bench.files import Remote, is_url
from adma.bench.folder import Folder
from adma.bench.lease import Leases
from adma.bench.remote_lease import RemoteLeases
from adma.bench.result import DIVERGED, DONE, FAILED, CellResult
from adma.bench.study import Cell, Plan, Study
from adma.bench.whole import explained, write_whole

COPIES = Path("adma-runs/copies")
_HEADERS = ("study.json", "tune.json", "trials.json")
_LAST = "status.json"


def folder_at(where: str | Path) -> Folder:
    """The results folder at a path or a URL; file:// is a path."""
    text = str(where)
    if text.startswith("file://"):
        return Folder(text.removeprefix("file://"))
    return Mirror(text) if is_url(text) else Folder(where)


class Mirror(Folder):
    """A results folder behind a URL.

    Raises:
        BenchError: it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self._files = Remote(url)
        self.url = self._files.url
        name = "".join(c if c.isalnum() else "-" for c in self.url)[-40:].strip("-")
        super().__init__(COPIES.absolute() / f"{name}-{hashlib.sha256(self.url.encode()).hexdigest()[:8]}")
        self._unsent = self.root / "unsent"
        self._sent: dict[str, str] = {}  # what lies at the URL beside cells: name -> SHA-256
        self.prepare()
        self._bring_headers()
        self._bring_cells()

    def __str__(self) -> str:
        return f"{self.url} (copied to {self.root})"

    @property
    def checkpoints(self) -> str:
        return self.url

    def leases(self) -> Leases | RemoteLeases:
        return RemoteLeases(self._files)

    # -- reading -------------------------------------------------------------------------------------------

    def _bring_headers(self) -> None:
        plans = [f"plans/{name}" for name in self._files.names("plans") if name.endswith(".json")]
        found = self._files.read_all([*_HEADERS, *plans])
        local = [self.root / name for name in _HEADERS] + list(self.root.glob("plans/*.json"))
        for path in local:
            if path.relative_to(self.root).as_posix() not in found:
                path.unlink(missing_ok=True)
        for name, content in found.items():
            self._put_local(name, content)
            self._sent[name] = _sum(content)

    def _bring_cells(self) -> None:
        """Bring the cells that are new there; send those that were not sent."""
        there = {name.split("/")[1] for name in self._files.all_names("cells") if name.endswith(f"/{_LAST}")}
        there = set(filter(_plain, there))
        unsent = {path.name for path in self._unsent.glob("*")}
        here = {path.name for path in self.cells_dir.glob("[!.]*")}
        for key in sorted(unsent & here):
            self._send(key)
        for key in here - there - unsent:
            self._drop(key)
        statuses = self._files.read_all([f"cells/{key}/{_LAST}" for key in sorted(there)])
        for name, content in statuses.items():
            key = name.split("/")[1]
            if key in here and _read_or_none(self.cells_dir / key / _LAST) == content:
                continue
            self._bring(key, content)

    def _bring(self, key: str, status: bytes) -> None:
        """Copy a cell from the URL, as it is: `read` says what is wrong with it."""
        try:
            names = list(filter(_plain, json.loads(status).get("files", {})))
        except (ValueError, AttributeError, TypeError):
            names = []
        content = self._files.read_all([f"cells/{key}/{name}" for name in names])
        self._drop(key)
        for name, value in [*content.items(), (f"cells/{key}/{_LAST}", status)]:
            self._put_local(name, value)

    def read(self, cell: Cell) -> CellResult:
        """As `Store.read`; a cell that is not finished in the copy is looked up at the URL."""
        found = super().read(cell)
        if found.status in (DONE, DIVERGED) or (self._unsent / cell.key).exists():
            return found
        try:
            status = self._files.read(f"cells/{cell.key}/{_LAST}")
        except FileNotFoundError:
            return found
        self._bring(cell.key, status)  # also where the copy cannot be read
        return super().read(cell)

    # -- writing -------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        with explained(self.root):
            super().prepare()
            self._unsent.mkdir(exist_ok=True)

    def write(self, result: CellResult) -> bool:
        """As `Store.write`, and send it."""
        key = result.cell.key
        write_whole(self._unsent / key, b"")
        mine = super().write(result)
        self._send(key)
        return mine

    def _send(self, key: str) -> None:
        folder = self.cells_dir / key
        there = self._status_there(key)
        if there not in (DONE, DIVERGED):
            if there == FAILED:  # nobody shall take its status for that of the new files
                self._files.remove(f"cells/{key}/{_LAST}")
            for path in sorted(folder.iterdir(), key=lambda path: path.name == _LAST):
                self._files.write(f"cells/{key}/{path.name}", path.read_bytes())
        (self._unsent / key).unlink(missing_ok=True)

    def _status_there(self, key: str) -> str:
        try:
            return str(json.loads(self._files.read(f"cells/{key}/{_LAST}"))["status"])
        except FileNotFoundError:
            return ""
        except (ValueError, KeyError, TypeError):
            return FAILED

    def put_aside(self, cell: Cell) -> str:
        """Move a cell that cannot be read out of the way, here and there."""
        place = super().put_aside(cell)
        for name in self._files.all_names(f"cells/{cell.key}"):
            self._files.move(name, f"set-aside/{Path(place).name}/{name.rpartition('/')[2]}")
        return f"{self.url}/set-aside/{Path(place).name}"

    def open(self, study: Study, *, about: Mapping[str, Any], resume: bool = False, grows: bool = False) -> None:
        self._refuse_foreign_there()
        super().open(study, about=about, resume=resume, grows=grows)
        self.publish()

    def open_plan(self, plan: Plan, *, about: Mapping[str, Any]) -> list[str]:
        self._refuse_foreign_there()
        told = super().open_plan(plan, about=about)
        self.publish()
        return told

    def open_search(self, settings: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        self._refuse_foreign_there()
        super().open_search(settings, header)
        self.publish()

    def note(self, name: str, value: Mapping[str, Any]) -> None:
        super().note(name, value)
        self.publish()

    def publish(self) -> None:
        """Send what lies beside the cells and has changed: headers, tables, reports."""
        for path in sorted([*self.root.glob("*.*"), *self.root.glob("plans/*.json")]):
            name = path.relative_to(self.root).as_posix()
            if not path.is_file() or name.startswith(".") or name == "index.parquet":
                continue
            content = path.read_bytes()
            if self._sent.get(name) != _sum(content):
                self._files.write(name, content)
                self._sent[name] = _sum(content)

    # -- the copy ------------------------------------------------------------------------------------------

    def _refuse_foreign_there(self) -> None:
        if not self._sent and self._files.all_names(""):
            raise BenchError(f"--out {self.url}: this folder is not empty and holds no study; choose another folder")

    def _refuse_foreign(self) -> None:
        """The copy is this package's own, whatever is in it."""

    def _put_local(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)

    def _drop(self, key: str) -> None:
        folder = self.cells_dir / key
        for path in folder.glob("*"):
            path.unlink(missing_ok=True)
        if folder.is_dir():
            folder.rmdir()


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _plain(name: object) -> bool:
    """Whether it names a file or folder beside others, wherever it is put: what others wrote may say `../../x`."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\"}


def _read_or_none(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None

"""What a study shows while it runs: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from adma.bench.result import DONE, CellResult
from adma.bench.study import Cell, Setting


class Display(Protocol):
    """Told by `run` what happens."""

    def start(self, cells: list[Cell], kept: int, jobs: int) -> None: ...

    def expect(self, cells: int, epochs: int) -> None: ...

    def epoch(self, cell: Cell, number: int) -> None: ...

    def begin(self, cell: Cell) -> None: ...

    def end(self, result: CellResult) -> None: ...

    def stopped(self, cell: Cell) -> None: ...

    def elsewhere(self, cell: Cell) -> None: ...

    def say(self, words: str) -> None: ...

    def say_once(self, words: str) -> None: ...

    @property
    def total(self) -> int: ...

    def name(self, cell: Cell) -> str: ...

    @property
    def running(self) -> list[Cell]: ...

    def close(self) -> None: ...


class Counter:
    """Counts cells and epochs, and from them the time left.

    Args:
        column: what is shown of a finished cell.
        name: how a cell is called; by default by its loss and seed, and by what differs between several settings.
    """

    def __init__(self, column: str = "test_accuracy", name: Callable[[Cell], str] | None = None) -> None:
        self._column, self._name = column, name
        self.cells: list[Cell] = []
        self._running: dict[str, tuple[Cell, int]] = {}  # key -> the cell and its epochs done
        self.done = self.failed = self.kept = 0
        self._ahead = self._epochs_ahead = 0
        self._finished_epochs = 0
        self._trained = 0  # epochs, by this process: not those that a cell had when it was gone on with
        self._started = time.monotonic()
        self._jobs = 1
        self._names: dict[Setting, str] = {}
        self._known: set[str] = set()
        self._said: set[str] = set()

    def start(self, cells: list[Cell], kept: int, jobs: int) -> None:
        self.cells, self.kept, self._jobs = list(cells), kept, jobs
        self._known = {cell.key for cell in cells}
        self._names = _names(list(dict.fromkeys(cell.setting for cell in cells)))
        self._started = time.monotonic()

    def expect(self, cells: int, epochs: int) -> None:
        """Say how many cells, and epochs in them, are to come beside those that were named."""
        self._ahead, self._epochs_ahead = cells, epochs

    def name(self, cell: Cell) -> str:
        """The loss and the seed; where the cells have several settings, the data set and what differs before them."""
        if self._name is not None:
            return self._name(cell)
        setting = self._names.get(cell.setting, "")
        return f"{setting}{': ' if setting else ''}{cell.loss} seed {cell.seed}"

    def begin(self, cell: Cell) -> None:
        self._running[cell.key] = (cell, 0)
        if cell.key not in self._known:  # it was not named at the start
            self.cells.append(cell)
            self._known.add(cell.key)

    def epoch(self, cell: Cell, number: int) -> None:
        self._running[cell.key] = (cell, number)
        self._trained += 1

    @property
    def running(self) -> list[Cell]:
        return [cell for cell, _ in self._running.values()]

    def stopped(self, cell: Cell) -> None:
        """It was given up, and is to be trained again some time."""
        self._running.pop(cell.key, None)

    def say(self, words: str) -> None:
        """A line that stays."""
        raise NotImplementedError

    def say_once(self, words: str) -> None:
        """`say`, if it was not said before."""
        if words not in self._said:
            self._said.add(words)
            self.say(words)

    def elsewhere(self, cell: Cell) -> None:
        """Another process has finished it: it is no work of this one."""
        self.cells = [c for c in self.cells if c.key != cell.key]
        self.kept += 1

    def end(self, result: CellResult) -> None:
        self._running.pop(result.cell.key, None)
        self._finished_epochs += result.cell.setting.epochs
        if result.status == DONE:
            self.done += 1
        else:
            self.failed += 1

    @property
    def total(self) -> int:
        return self.kept + len(self.cells) + self._ahead

    @property
    def epochs(self) -> int:
        """Of all cells that run, those to come included."""
        return sum(cell.setting.epochs for cell in self.cells) + self._epochs_ahead

    @property
    def finished(self) -> int:
        return self.kept + self.done + self.failed

    @property
    def _epochs_under_way(self) -> int:
        return sum(epochs for _, epochs in self._running.values())

    def left(self) -> str:
        """The time left in words, from the pace of the epochs trained so far; nothing before the first epoch."""
        if not self._trained:
            return ""
        remaining = self.epochs - self._finished_epochs - self._epochs_under_way
        seconds = (time.monotonic() - self._started) / self._trained * max(0, remaining)
        return f"about {duration(seconds)} left"

    def words(self) -> str:
        parts = [f"{self.finished}/{self.total} done", f"{len(self._running)} running"]
        if self.failed:
            parts.append(f"{self.failed} failed or diverged")
        left = self.left()
        return ", ".join([*parts, left] if left and self.finished < self.total else parts)


class PlainLines(Counter):
    """A line a finished cell."""

    def __init__(
        self, console: Console, column: str = "test_accuracy", name: Callable[[Cell], str] | None = None
    ) -> None:
        super().__init__(column, name)
        self._console = console

    def end(self, result: CellResult) -> None:
        super().end(result)
        cell = result.cell
        outcome = (
            f"{self._column.replace('_', ' ').replace('iou', 'IoU')} {100 * result.final(self._column):.2f}%"
            if result.status == DONE
            else f"{result.status}: {result.reason.splitlines()[0] if result.reason else ''}"
        )
        text = f"[{self.finished}/{self.total}] {self.name(cell)}: {outcome} ({duration(result.seconds)})"
        left = self.left()
        self._console.print(Text(text + (f"; {left}" if left and self.finished < self.total else "")), soft_wrap=True)

    def say(self, words: str) -> None:
        self._console.print(Text(f"note: {words}"), soft_wrap=True)

    def close(self) -> None:
        return None


class LiveLine(Counter):
    """One bar for the whole grid."""

    def __init__(
        self, console: Console, column: str = "test_accuracy", name: Callable[[Cell], str] | None = None
    ) -> None:
        super().__init__(column, name)
        self._bar = Progress(
            TextColumn("{task.fields[words]}", markup=False), BarColumn(bar_width=None), console=console, expand=True
        )
        self._task = self._bar.add_task("", total=1, words="starting")

    def start(self, cells: list[Cell], kept: int, jobs: int) -> None:
        super().start(cells, kept, jobs)
        self._bar.start()
        self._show()

    def begin(self, cell: Cell) -> None:
        super().begin(cell)
        self._show()

    def epoch(self, cell: Cell, number: int) -> None:
        super().epoch(cell, number)
        self._show()

    def end(self, result: CellResult) -> None:
        super().end(result)
        if result.status != DONE:
            self._bar.console.print(Text(f"{self.name(result.cell)} {result.status}: {result.reason}"))
        self._show()

    def _show(self) -> None:
        whole = self.epochs or 1
        done = self._finished_epochs + self._epochs_under_way
        self._bar.update(self._task, total=whole, completed=done, words=self.words())

    def say(self, words: str) -> None:
        self._bar.console.print(Text(f"note: {words}"), soft_wrap=True)

    def close(self) -> None:
        self._bar.stop()


def _names(settings: list[Setting]) -> dict[Setting, str]:
    """Names that tell the settings apart: "digits", or "digits model=mlp" where there are several of one data set."""
    if len(settings) < 2:
        return dict.fromkeys(settings, "")
    names = {}
    for setting in settings:
        same = [s for s in settings if s.data == setting.data]
        differing = [f.name for f in fields(Setting) if len({getattr(s, f.name) for s in same}) > 1]
        readable = [name for name in differing if name != "data_hash"]
        if len({tuple(getattr(s, name) for name in readable) for s in same}) == len(same):
            differing = readable  # a fingerprint says nothing to a reader, unless nothing else tells them apart
        names[setting] = " ".join([setting.data, *(f"{name}={getattr(setting, name)}" for name in differing)])
    return names


def display(
    console: Console, column: str = "test_accuracy", name: Callable[[Cell], str] | None = None
) -> LiveLine | PlainLines:
    """The live line on a terminal, plain lines elsewhere; further arguments as `Counter` takes them."""
    kind = LiveLine if console.is_terminal and sys.stderr.isatty() else PlainLines
    return kind(console, column, name)


def duration(seconds: float) -> str:
    """`95` as "1 min 35 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"

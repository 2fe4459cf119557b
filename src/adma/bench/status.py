"""`adma status`: how far a results folder is, what runs and where, what failed and why, how long it will take."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from adma.bench.console import console_for
from adma.bench.files import Root
from adma.bench.index import Index, Known
from adma.bench.lease import Lease
from adma.bench.mirror import folder_at
from adma.bench.progress import duration
from adma.bench.report.text import printable
from adma.bench.result import DIVERGED, DONE, FAILED, MISSING
from adma.bench.study import Cell

_FAILURES = 20  # shown
_QUIET = 10.0  # seconds without a lease after which a search is taken to have stopped: between two cells it has none


@dataclass(frozen=True)
class Part:
    """The cells of a study of the folder.

    name: of the study, "" if the folder holds just one.
    """

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Status:
    """A folder at one moment.

    parts: the studies; of a search, the cells that are there.
    known: key -> what is known of each cell.
    leases: of cells that are trained now.
    command: that was given for the folder.
    search: whether it holds a search, of which more cells may come than are there.
    trials: of a search, lines about its trials so far.
    """

    root: Path
    parts: tuple[Part, ...]
    known: dict[str, Known]
    leases: tuple[Lease, ...]
    command: str
    search: bool = False
    trials: tuple[str, ...] = ()

    @property
    def goes_on(self) -> bool:
        """Whether there is more to come; of a search as far as something runs."""
        return bool(self.leases) if self.search else self.left > 0

    @property
    def left(self) -> int:
        """How many cells are still to be trained, those that run among them."""
        return sum(known.status in (MISSING, FAILED) for known in self.known.values())

    @property
    def seconds_left(self) -> float | None:
        """From what the finished ones took; None where nothing runs or nothing is finished."""
        took = {key: known.seconds for key, known in self.known.items() if known.status == DONE}
        if not took or not self.leases or not self.left:
            return None
        of_loss: dict[tuple[str, str], list[float]] = {}
        cells = [cell for part in self.parts for cell in part.cells]
        for cell in cells:
            if cell.key in took:
                of_loss.setdefault((cell.setting.data, cell.loss), []).append(took[cell.key])
        mean = sum(took.values()) / len(took)
        total = 0.0
        reached = {lease.key: lease.reached for lease in self.leases}
        for cell in {cell.key: cell for cell in cells if self.known[cell.key].status in (MISSING, FAILED)}.values():
            some = of_loss.get((cell.setting.data, cell.loss), [mean])
            share = 1 - reached.get(cell.key, {}).get("epoch", 0) / cell.setting.epochs
            total += share * sum(some) / len(some)
        return total / len(self.leases)


def status(options: argparse.Namespace) -> int:
    """Print it, once or again and again until all is done.

    Returns:
        0; 1 if a cell failed and nothing runs.

    Raises:
        BenchError: the folder is none of adma's.
    """
    console = console_for()
    found = look(options.dir)
    if options.watch is None:
        console.print(render(found), soft_wrap=True)
    else:
        with Live(render(found), console=console, auto_refresh=False) as live:
            quiet = time.monotonic()  # since when it may be
            while found.goes_on or (found.search and time.monotonic() - quiet < _QUIET):
                time.sleep(options.watch if found.goes_on else min(options.watch, _QUIET / 2))
                if found.goes_on:
                    quiet = time.monotonic()
                found = look(options.dir)
                live.update(render(found), refresh=True)
    failed = any(known.status == FAILED for known in found.known.values())
    return 1 if failed and not found.leases else 0


def look(where: Root) -> Status:
    """What a results folder holds now.

    Raises:
        BenchError: there is none, or it is none of adma's.
    """
    folder = folder_at(where)
    root = folder.root
    leases = tuple(folder.leases().all())
    trials: tuple[str, ...] = ()
    if (root / "plans").is_dir():
        plans = [folder.plan(path.stem) for path in sorted((root / "plans").glob("*.json"))]
        parts = [Part(f"{plan.name} {e.name}", tuple(e.study.cells())) for plan, _ in plans for e in plan.entries]
        command = str(plans[-1][1].get("command", "")) if plans else ""
    elif folder.holds_search:
        header = folder.search()  # its cells follow from what came out
        parts = [Part("", tuple(Index(folder).cells()))]
        command = str(header["about"].get("command", ""))
        trials = tuple(_trials(root))
    else:
        results = folder.header()
        parts = [Part("", tuple(folder.study().cells()))]
        command = str(results.get("about", {}).get("command", ""))
    cells = [cell for part in parts for cell in part.cells]
    known = Index(folder).known(cells)
    return Status(root, tuple(parts), known, leases, command, folder.holds_search, trials)


def _trials(root: Path) -> list[str]:
    """How many trials of each loss are in which state."""
    try:
        kept = json.loads((root / "trials.json").read_bytes())
        states = {loss: Counter(str(trial["state"]).lower() for trial in trials) for loss, trials in kept.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none yet, or altered by hand
        return []
    return [
        f"{loss}: " + ", ".join(f"{n} {state}" for state, n in sorted(of_loss.items())) + " trials"
        for loss, of_loss in states.items()
    ]


def render(found: Status) -> RenderableType:
    """A status as tables and lines."""
    running = {lease.key for lease in found.leases}
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("study / loss", overflow="fold")
    for column in (DONE, DIVERGED, "running", FAILED, "to do"):
        table.add_column(column, justify="right")
    for part in found.parts:
        if part.name:
            table.add_row(Text(part.name, style="bold"))
        of_loss: dict[str, Counter[str]] = {}
        for cell in part.cells:
            state = "running" if cell.key in running else found.known[cell.key].status
            of_loss.setdefault(cell.loss, Counter())[state] += 1
        for loss, states in of_loss.items():
            numbers = [states[name] for name in (DONE, DIVERGED, "running", FAILED, MISSING)]
            table.add_row(Text(f"  {printable(loss)}"), *(str(n) if n else "·" for n in numbers))
    head: list[RenderableType] = [Text(line) for line in found.trials] or [table]
    lines = [*head, *_running(found), *_failures(found)]
    lines.append(Text(_outlook(found)))
    return Group(*lines)


def _running(found: Status) -> list[Text]:
    cells = {cell.key: cell for part in found.parts for cell in part.cells}
    lines = []
    for lease in found.leases:
        cell = cells.get(lease.key)  # of a search it is there when it has ended
        if cell is not None:
            name = f"{cell.loss} seed {cell.seed}"
        elif {"loss", "seed"} <= lease.cell.keys():
            name = f"{lease.cell['loss']} seed {lease.cell['seed']}"
        else:
            name = f"cell {lease.key}"
        epoch, epochs = lease.reached.get("epoch", 0), lease.reached.get("epochs")
        reached = f"epoch {epoch} of {epochs}" if epochs else "begun"
        since = datetime.now(timezone.utc) - datetime.fromisoformat(lease.since)
        where = f"{lease.owner.host}, process {lease.owner.pid}"
        lines.append(Text(f"running: {printable(name)}, {reached}, for {duration(since.total_seconds())}, by {where}"))
    return lines


def _failures(found: Status) -> list[Text]:
    lines = []
    for part in found.parts:
        for cell in part.cells:
            known = found.known[cell.key]
            if known.status in (FAILED, DIVERGED):
                reason = printable(known.reason.splitlines()[0]) if known.reason else "no reason is known"
                lines.append(Text(f"{known.status}: {printable(cell.loss)} seed {cell.seed}: {reason}"))
    if len(lines) > _FAILURES:
        lines[_FAILURES:] = [Text(f"and {len(lines) - _FAILURES} more")]
    return lines


def _outlook(found: Status) -> str:
    if found.search:
        return "a search runs" if found.leases else f"nothing runs; to go on: {found.command}"
    if not found.left:
        return "all is done"
    seconds = found.seconds_left
    if seconds is not None:
        return f"{found.left} to go, about {duration(seconds)} left at the present pace"
    if found.leases:
        return f"{found.left} to go; the time left is known when the first is done"
    return f"{found.left} to go, nothing runs; to go on: {found.command}"

"""`adma run` and `adma replay`: a study document -> a plan -> the store -> tables beside what the paper printed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from adma import __version__
from adma.bench import paper
from adma.bench.checkpoint import begun
from adma.bench.console import INTERRUPTED, OUT_OF_TIME, console_for
from adma.bench.data.known import KNOWN
from adma.bench.errors import BenchError
from adma.bench.estimate import LESS, Forecast, Part
from adma.bench.files import Root, is_url
from adma.bench.folder import Folder
from adma.bench.machine import Machine, conduct_of, ending, machine_of
from adma.bench.mirror import folder_at
from adma.bench.outcome import Outcome, plain, publish, publish_printed
from adma.bench.prepare import Prepared, Readiness, Where, check_task, prepare
from adma.bench.progress import display, duration
from adma.bench.result import FAILED
from adma.bench.run import OutOfTimeError, run_cells
from adma.bench.study import Plan
from adma.bench.studyfile import StudyFile, chosen_scale, read_study, tasks
from adma.bench.supply import missing

_CHANGES = (
    "seeds", "epochs", "max_train_size", "eval_size", "image_size", "model", "optimizer", "lr", "train_fraction",
    "imbalance", "label_noise", "noisy_val",
)  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Run any study document.

    Returns:
        0; 1 if a comparison was refused or a cell failed; INTERRUPTED.

    Raises:
        BenchError: a mistake in the document or the options.
    """
    path = Path(options.study)
    study = read_study(path, find=paper.published(), known=KNOWN)
    root = options.out or Path("adma-runs") / "-".join(filter(None, (path.stem, chosen_scale(study, options.scale))))
    return _run(path.stem, study, options, root)


def replay(options: argparse.Namespace) -> int:
    """Run the paper's experiments by name, and print ours beside what is printed there.

    Returns:
        As `run`; the worst of all.

    Raises:
        BenchError: an unknown experiment, or a mistake in the options.
    """
    if options.grid and options.protocol == "printed":
        raise BenchError("--a is the grid of --protocol paper and clean; with the printed a it has no use")
    if options.stats and not options.names and not options.all:
        return _printed_statistics(options)
    if options.all == bool(options.names):
        known = ", ".join(paper.published())
        raise BenchError(f"name experiments to replay, or pass --all; known: {known}")
    names = list(paper.published()) if options.all else options.names
    studies = [(name, read_study(paper.find_published(name), known=KNOWN)) for name in names]
    without = [name for name, study in studies if not study.table]
    if options.stats and options.names and without:
        raise BenchError(f"--stats is for table1 to table4, which print numbers; {', '.join(without)} prints none")
    worst = 0
    for name, study in studies:
        scale = chosen_scale(study, options.scale)
        root = options.out or Path("adma-runs") / f"replay-{scale}"
        code = _run(name, study, options, root, published=True)
        if code in (INTERRUPTED, OUT_OF_TIME):
            return code
        worst = max(worst, code)
    return worst


def _printed_statistics(options: argparse.Namespace) -> int:
    """The statistics of the paper's own four tables: nothing is loaded, nothing trained."""
    given = [key for key in (*_CHANGES, "scale", "datasets", "loss", "estimate", "grid") if getattr(options, key)]
    if given:
        raise BenchError(
            f"--stats without names reads the printed tables alone, so --{given[0].replace('_', '-')} has no use; name "
            "table1 to table4 to run them"
        )
    if options.out is not None and is_url(options.out):
        raise BenchError(f"--out {options.out}: --stats without names writes its tables into a folder; name one")
    console = console_for()
    parts, files = publish_printed(options.out or Path("adma-runs") / "printed-statistics", options.command_line)
    for part in parts:
        console.print(part)
        console.print()
    for path in files:
        console.print(Text(str(path)), soft_wrap=True)
    return 0


def _run(name: str, study: StudyFile, options: argparse.Namespace, place: Root, *, published: bool = False) -> int:
    console = console_for()
    protocol = getattr(options, "protocol", "printed")
    changes = {key: getattr(options, key) for key in _CHANGES if getattr(options, key) is not None}
    if options.loss:
        changes["losses"] = options.loss
    wanted = tasks(study, scale=options.scale, data=_names(options.datasets), changes=changes)
    for task in wanted:
        check_task(task)
    scale = chosen_scale(study, options.scale)
    machine = machine_of(options, 10**6, [loss for task in wanted for loss in task.options["losses"]])
    where = Where(options.data_dir, options.skip_bad, tuple(options.modules))
    if protocol != "printed":
        name = f"{name}-{protocol}"
    console.print(Text(f"{study.title} ({_scale_words(scale, changes)})", style="bold"))
    grid = getattr(options, "grid", None) or paper.GRID
    ready = prepare(wanted, where, protocol=protocol, grid=grid, device=machine.device_here, threads=machine.threads)
    plan = Plan(name, tuple(p.entry for p in ready.ready))
    store = folder_at(place)
    root = store.root
    _announce(console, ready, store, machine, options.budget)
    if options.estimate:
        return 1 if len(ready.ready) < len(ready.items) else 0
    about = {
        "command": options.command_line,
        "adma_version": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "scale": scale,
        "changed": changes,
        "protocol": protocol,
        "published": published,
        "stats": bool(getattr(options, "stats", False)),
        "printed_a": any(paper.asks_for_printed_a(task.options["losses"]) for task in wanted),
        "data": {p.entry.name: dict(p.about) for p in ready.ready},
    }
    for line in store.open_plan(plan, about=about):
        console.print(Text(f"note: {line}", style="yellow"), soft_wrap=True)
    console.print(Text(f"results in {store}"))
    outcome = Outcome(name, study, ready, store, about)
    cells = plan.cells()
    engine = machine.engine(ready.loader(), store)
    try:
        run_cells(cells, store, engine, display(console_for(stderr=True), outcome.measure), conduct_of(options))
    except (KeyboardInterrupt, OutOfTimeError) as stop:
        word, code = ending(stop)
        left = len(missing(cells, store))
        publish(outcome, root)
        store.publish()
        console.print(
            Text(
                f"{word}: {len(cells) - left} of {len(cells)} runs are kept in {store}, with a report of them; run "
                "the same command again to continue."
            )
        )
        return code
    parts, files = publish(outcome, root)
    store.publish()
    for part in parts:
        console.print()
        console.print(part)
    for path in files:
        console.print(Text(str(path)), soft_wrap=True)
    failed = any(store.read(cell).status == FAILED for cell in cells)
    return 1 if failed or len(ready.ready) < len(ready.items) else 0


def _announce(console: Console, ready: Readiness, store: Folder, machine: Machine, budget: float | None) -> None:
    """What is about to run, how much is done, and how long the rest will take."""
    parts: list[Part] = []
    counted: set[str] = set()
    some_begun = False
    for item in ready.items:
        if not isinstance(item, Prepared):
            console.print(Text(f"{item.task.name}: not run: {item.reason}", style="yellow"))
            continue
        study = item.entry.study
        to_train = missing(study.cells(), store)
        some_begun = some_begun or begun(to_train, store.checkpoints)
        todo = {cell.key for cell in to_train} - counted
        counted |= todo
        left = len(todo)
        parts.append(Part(left, study.setting.epochs, item.cell_seconds))
        sizes: dict[str, int] = item.about["sizes"]
        words = f"{item.entry.name}: train {sizes['train']:,}, val {sizes['val']:,}, test {sizes['test']:,}; "
        words += f"{len(study.losses)} losses x {len(study.seeds)} seeds, {study.setting.epochs} epochs; "
        words += f"{left} runs of about {duration(item.cell_seconds)}" if left else "all runs are done"
        console.print(Text(words))
        for note in item.about["notes"]:
            console.print(Text(f"  note: {note}", style="yellow" if note.startswith("WARNING") else ""))
    if any(part.trainings for part in parts):
        forecast = Forecast(parts, machine.sure_jobs)
        unknown = [*machine.unknown, *([LESS] if some_begun else [])]
        console.print(Text(forecast.line(budget=budget, unknown=unknown)), soft_wrap=True)


def _names(given: Sequence[str] | None) -> list[str] | None:
    """Names set apart by spaces or commas; a path that exists may hold a comma."""
    if not given:
        return None
    return [name for text in given for name in ([text] if Path(text).exists() else text.split(",")) if name]


def _scale_words(scale: str, changes: dict[str, Any]) -> str:
    words = f"scale {scale}" if scale else "as written"
    return words + "".join(f", {key.replace('_', ' ')} {plain(value)}" for key, value in changes.items())

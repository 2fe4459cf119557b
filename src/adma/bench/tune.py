"""`adma tune`: search each loss's parameters and its learning rate, then train the winners again with fresh seeds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from adma import __version__
from adma.bench.console import console_for, file_name
from adma.bench.data.catalog import load
from adma.bench.engines import Engine
from adma.bench.errors import BenchError
from adma.bench.estimate import Forecast, Part, announced
from adma.bench.files import is_url
from adma.bench.folder import Folder, measure_of
from adma.bench.importing import import_modules
from adma.bench.lease import Leases
from adma.bench.loading import Loader
from adma.bench.machine import Machine, command_of, conduct_of, ending, machine_of
from adma.bench.mirror import folder_at
from adma.bench.models import check_model
from adma.bench.prepare import SETTING_OPTIONS, describe, make_study
from adma.bench.progress import Display, display
from adma.bench.remote_lease import RemoteLeases
from adma.bench.report.cells import measure_name
from adma.bench.report.tune_csv import trials_csv
from adma.bench.report.tune_html import write_tune_report
from adma.bench.report.tune_tables import search_table, words
from adma.bench.result import CellResult
from adma.bench.run import Conduct, OutOfTimeError, drive
from adma.bench.search import propose
from adma.bench.search.driver import Driver
from adma.bench.search.ledger import Ledger, Rules
from adma.bench.search.outcome import Outcome, final_cells, put_together
from adma.bench.search.space import Space, parse_lr, parse_templates
from adma.bench.search.storage import Place, open_storage
from adma.bench.search.trials import Trial
from adma.bench.study import Cell, Setting, digest
from adma.bench.studyfile import Task
from adma.bench.supply import Supply, missing
from adma.bench.whole import write_whole

DEFAULT_LOSSES = ("cce", "adma")
USUAL_LR = 1e-3  # as adma compare has it; the search starts there
_TRIALS, _PAGE, _CSV = "trials.json", "tune.html", "trials.csv"


@dataclass(frozen=True)
class _Search:
    """A search that is ready to run, or to be shown."""

    folder: Folder
    setting: Setting
    spaces: tuple[Space, ...]
    rules: Rules
    budget: int
    final_seeds: tuple[int, ...]
    rope: float
    about: Mapping[str, Any]

    @property
    def metric(self) -> str:
        """What trials are judged by."""
        return f"val_{measure_of(self.about)}"

    def outcome(self, trials: Mapping[str, Sequence[Trial]]) -> Outcome:
        searched = [(s, _budget(s, self.budget), trials.get(s.template.name, ())) for s in self.spaces]
        return put_together(
            self.setting, searched, self.folder, seeds=self.rules.seeds, final_seeds=self.final_seeds, rope=self.rope,
            seed=self.rules.seed, about=self.about,
        )  # fmt: skip


def search(options: argparse.Namespace) -> int:
    """Search, train the winners with fresh seeds, print and write what came out.

    Args:
        options: of the command.

    Returns:
        0; 1 if something failed, or a loss has no winner; INTERRUPTED.

    Raises:
        BenchError: a mistake in the options, the data or the storage.
    """
    console = console_for()
    given = {name: getattr(options, name) for name in SETTING_OPTIONS if name not in ("seeds", "lr")}
    import_modules(options.modules)
    templates = parse_templates(options.loss or DEFAULT_LOSSES)
    lr_range, lr = parse_lr(options.lr, USUAL_LR)
    pruner, _, pruner_note = propose.choose_pruner(options.pruner, options.seeds)
    if options.pruner != propose.AUTO and pruner != "none":
        _check_pruner(pruner, options.seeds)
    source = partial(
        load, options.data, data_dir=options.data_dir, image_size=options.image_size, skip_bad=options.skip_bad,
        modules=tuple(options.modules),
    )  # fmt: skip
    dataset = source()
    study, sizes, notes = make_study(Task(dataset.name, dataset.name, "", {**given, "losses": ("cce",)}), dataset)
    setting = study.setting
    named = [template.spec(template.defaults) for template in templates]
    check_model(setting.model, dataset.sample_shape, dataset.num_classes, named, dataset.kind)
    shared = {k: v for k, v in asdict(setting).items() if k not in ("lr", "data")}
    rules = Rules(tuple(range(options.seeds)), options.seed, options.round, pruner, shared)
    settings = {**rules.config(), "lr": asdict(lr_range) if lr_range else lr}
    name = f"tune-{file_name(dataset.name)}-{digest(settings)[:8]}"
    root = options.out or Path("adma-runs") / name
    if is_url(root) and options.storage is None:
        raise BenchError(
            f"--out {root}: the journal of the trials cannot be kept behind a URL; name a database with --storage"
        )
    folder = folder_at(root)
    place = Place(folder.root, options.storage)
    about = {
        "command": command_of(options),
        "adma_version": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "dataset": describe(dataset, sizes, notes),
        "modules": list(options.modules),
        "storage": str(place),
    }
    header = {
        "settings": settings,
        "setting": asdict(setting),
        "losses": [t.name for t in templates],
        "lr": options.lr,
        "trials": options.trials,
        "final_seeds": options.final_seeds,
        "rope": options.rope,
        "about": about,
    }
    ready = _Search(
        folder, setting, tuple(Space(t, lr_range, lr) for t in templates), rules, options.trials,
        _final_seeds(options.seeds, options.final_seeds), options.rope / 100, about,
    )  # fmt: skip
    folder.open_search(settings, header)
    storage, storage_notes = open_storage(place)
    ledgers = [
        Ledger(storage, place, options.study or name, space, rules, options.trials, options.take_over)
        for space in ready.spaces
    ]
    machine = machine_of(options, len(ledgers) * options.round * options.seeds, named)
    console.print(Text(_plan(ready, dataset.name, sizes, machine.at_a_time, place)), soft_wrap=True)
    for note in [*dataset.notes, *notes, *storage_notes, *([pruner_note] if pruner_note else [])]:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    part = Part(_to_come(ready, ledgers), setting.epochs, 0.0)
    if part.trainings:
        words = partial(_forecast, part, machine, options.budget, pruner)
        line = announced(
            setting, "cce", sizes, dataset.sample_shape, dataset.num_classes, words, device=machine.device_here,
            threads=machine.threads, kind=dataset.kind,
        )  # fmt: skip
        console.print(Text(line), soft_wrap=True)
    engine = machine.engine(Loader({dataset.fingerprint: source}), folder)
    try:
        _run(ready, ledgers, engine, conduct_of(options))
    except (KeyboardInterrupt, OutOfTimeError) as stop:
        word, code = ending(stop)
        outcome = ready.outcome(_trials(ledgers))
        page = _write(outcome, folder)
        folder.publish()
        console.print(
            Text(
                f"{word}: {sum(len(f.trials) for f in outcome.found)} trials are kept in {place}, with a report "
                f"of them ({page}); run the same command again to continue."
            ),
            soft_wrap=True,
        )
        return code
    outcome = ready.outcome(_trials(ledgers))
    _show(console, outcome, folder)
    folder.publish()
    failed = any(f.failures or f.winner is None or any(c.status == "failed" for c in f.fresh) for f in outcome.found)
    return 1 if failed else 0


def report(folder: Folder) -> int:
    """Print what a search in a folder came to, and write its report again, from what the folder holds.

    Raises:
        BenchError: it cannot be read.
    """
    header = folder.search()
    try:
        import_modules(header["about"]["modules"])
        setting = Setting(**header["setting"])
        settings = header["settings"]
        lr_range, lr = parse_lr(header["lr"], USUAL_LR)
        seeds = tuple(range(settings["seeds"]))
        rules = Rules(seeds, settings["seed"], settings["round"], settings["pruner"], {})
        spaces = tuple(Space(t, lr_range, lr) for t in parse_templates(header["losses"]))
        ready = _Search(
            folder, setting, spaces, rules, header["trials"], _final_seeds(len(seeds), header["final_seeds"]),
            header["rope"] / 100, header["about"],
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise BenchError(f"{folder.root / 'tune.json'} cannot be read as a search ({error})") from error
    _show(console_for(), ready.outcome(_read_trials(folder.root)), folder)
    folder.publish()
    return 0


def _run(ready: _Search, ledgers: Sequence[Ledger], engine: Engine, conduct: Conduct) -> None:
    """Run all trials, then the winners with fresh seeds, in the same workers.

    What is under way when it stops is left to whoever comes next.
    """
    line = display(console_for(stderr=True), ready.metric, _cell_name)
    leases = ready.folder.leases()
    source = _Trials(ready, ledgers, leases, line, conduct)
    line.start([], 0, engine.jobs)
    try:
        drive(source, ready.folder, engine, line, leases, conduct)
    finally:
        source.leave()
        leases.close()


class _Trials:
    """The trials' cells, then the winners' (`supply.Source`)."""

    def __init__(
        self, ready: _Search, ledgers: Sequence[Ledger], leases: Leases | RemoteLeases, line: Display, conduct: Conduct
    ) -> None:
        self._ready, self._ledgers, self._leases, self._line, self._conduct = ready, ledgers, leases, line, conduct
        self._driver = Driver(ledgers, ready.setting, ready.folder, leases, line.say, ready.metric)
        self._now: Driver | Supply = self._driver

    def cells(self) -> Iterator[Cell | None]:
        ready, ledgers = self._ready, self._ledgers
        for cell in self._driver.cells():
            self._expect(self._driver.waiting + len(ledgers) * len(ready.final_seeds))
            yield cell
        winners = _winners(ready, ledgers)
        self._now = supply = Supply(
            winners, ready.folder, self._leases, self._line.say, take_over=self._conduct.take_over
        )  # fmt: skip
        for cell in supply.cells():
            self._expect(len(supply.waiting))
            yield cell

    def take(self, result: CellResult) -> None:
        self._now.take(result)
        if self._now is self._driver:
            _keep_trials(self._ready.folder, self._ledgers)

    def back(self, cell: Cell) -> None:
        self._now.back(cell)

    def leave(self) -> None:
        """What is under way is left to whoever comes next."""
        self._driver.leave()
        _keep_trials(self._ready.folder, self._ledgers)

    def _expect(self, cells: int) -> None:
        self._line.expect(cells, cells * self._ready.setting.epochs)


def _plan(ready: _Search, data: str, sizes: Mapping[str, int], at_a_time: str, place: Place) -> str:
    """What will be done, before it is done: the same budget for every loss."""
    n, epochs = len(ready.rules.seeds), ready.setting.epochs
    lines = [
        f"{data}: train {sizes['train']:,}, val {sizes['val']:,}, test {sizes['test']:,}; {ready.setting.model} with "
        f"{ready.setting.optimizer}, {at_a_time}; trials in {place}, trainings in {ready.folder}"
    ]
    for space in ready.spaces:
        ranges = ", ".join(f"{k} {r.low:g}..{r.high:g}{' log' if r.log else ''}" for k, r in space.ranges.items())
        budget = _budget(space, ready.budget)
        counted = f"{budget} trials x {n} seeds x {epochs} epochs = {budget * n * epochs:,} epochs"
        if not space.ranges:
            counted = f"nothing to search, so 1 trial: {n} seeds x {epochs} epochs = {n * epochs:,} epochs"
        lines.append(f"{space.template.name}: {counted}{' over ' + ranges if ranges else ''}")
    lines.append(
        f"chosen by the mean validation {measure_name(measure_of(ready.about))} over the seeds, a diverged run "
        f"counting as 0; then the winner of each loss with {len(ready.final_seeds)} fresh seeds, and test"
    )
    return "\n".join(lines)


def _to_come(ready: _Search, ledgers: Sequence[Ledger]) -> int:
    """Trainings that are still to come, if no trial is pruned and no two points are the same."""
    trials = sum(ledger.budget - ledger.settled() for ledger in ledgers)
    if trials:
        return trials * len(ready.rules.seeds) + len(ledgers) * len(ready.final_seeds)
    return len(missing(_winners(ready, ledgers), ready.folder))


def _winners(ready: _Search, ledgers: Sequence[Ledger]) -> list[Cell]:
    """The cells of each loss's winner, with fresh seeds."""
    return [
        cell
        for ledger in ledgers
        for cell in final_cells(ready.setting, ledger.space, ledger.trials().values(), ready.final_seeds)
    ]


def _forecast(part: Part, machine: Machine, budget: float | None, pruner: str, seconds: float) -> str:
    forecast = Forecast([replace(part, seconds=seconds)], machine.sure_jobs)
    most = "" if pruner == "none" else "trials that are pruned take less"
    return forecast.line(budget=budget, most=most, unknown=machine.unknown)


def _show(console: Console, outcome: Outcome, folder: Folder) -> None:
    console.print()
    console.print(search_table(outcome))
    for line in words(outcome):
        console.print(Text(line), soft_wrap=True)
    console.print(Text(f"report: {_write(outcome, folder)}"), soft_wrap=True)


def _write(outcome: Outcome, folder: Folder) -> Path:
    write_whole(folder.root / _CSV, trials_csv(outcome).encode("utf-8", "backslashreplace"))
    return write_tune_report(outcome, folder.root / _PAGE)


def _trials(ledgers: Sequence[Ledger]) -> dict[str, list[Trial]]:
    found = {}
    for ledger in ledgers:
        trials = ledger.trials()
        found[ledger.space.template.name] = [trials[index] for index in sorted(trials)]
    return found


def _keep_trials(folder: Folder, ledgers: Sequence[Ledger]) -> None:
    """Write down the trials as they are now, so that a report needs no storage."""
    try:
        trials = _trials(ledgers)
    except BenchError:
        return  # the storage is gone, which is told elsewhere; what was written before stays
    folder.note(_TRIALS, {name: [asdict(t) for t in some] for name, some in trials.items()})


def _read_trials(root: Path) -> dict[str, list[Trial]]:
    path = root / _TRIALS
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
        return {
            name: [
                Trial(**{**t, "values": {int(k): v for k, v in t["values"].items()}, "diverged": tuple(t["diverged"])})
                for t in some
            ]
            for name, some in found.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{path} cannot be read as trials ({error}); give the command again to write it") from error


def _cell_name(cell: Cell) -> str:
    return f"{cell.loss} lr {cell.setting.lr:g} seed {cell.seed}"


def _budget(space: Space, trials: int) -> int:
    return trials if space.ranges else 1


def _final_seeds(searched: int, fresh: int) -> tuple[int, ...]:
    """Seeds that the search has not used."""
    return tuple(range(searched, searched + fresh))


def _check_pruner(spec: str, seeds: int) -> None:
    pruner = propose.choose_pruner(spec, seeds)[1]
    if not propose.can_prune(pruner, seeds):
        raise BenchError(f"--pruner {spec} with --seeds {seeds}: {propose.why_not(pruner, seeds)}, or --pruner none")

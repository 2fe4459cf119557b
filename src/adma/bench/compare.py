"""`adma compare`: train every loss with every seed, print the comparison, write the report."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from rich.text import Text

from adma import __version__
from adma.bench.checkpoint import begun
from adma.bench.console import console_for, file_name
from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.errors import BenchError
from adma.bench.estimate import LESS, Forecast, Part, announced
from adma.bench.folder import UNTIL_DECIDED, Folder
from adma.bench.loading import Loader
from adma.bench.loss_specs import canonical_losses, learns
from adma.bench.machine import Machine, conduct_of, ending, machine_of
from adma.bench.mirror import folder_at
from adma.bench.models import check_model
from adma.bench.prepare import SETTING_OPTIONS, describe, make_study
from adma.bench.progress import display, duration
from adma.bench.report.html import write_report
from adma.bench.report.terminal import in_unit, show, summary_of
from adma.bench.report.text import printable
from adma.bench.run import OutOfTimeError, run_cells
from adma.bench.statistics.summary import baseline_of
from adma.bench.study import Study
from adma.bench.studyfile import Task
from adma.bench.supply import missing
from adma.bench.until import Steps, run_until_decided

PAPER_LOSSES = ("cce", "adma:a=0.26", "mse", "squared_hinge")


def compare(options: argparse.Namespace) -> int:
    """Train every loss with every seed, print the comparison, write the report.

    Returns:
        0; 1 if a cell failed; INTERRUPTED; OUT_OF_TIME.

    Raises:
        BenchError: a mistake in the options or the data.
    """
    console = console_for()
    source = partial(
        load,
        options.data,
        data_dir=options.data_dir,
        image_size=options.image_size,
        skip_bad=options.skip_bad,
        modules=tuple(options.modules),
    )
    dataset = source()
    given = {name: getattr(options, name) for name in SETTING_OPTIONS}
    steps = _steps(options)
    if steps is not None:
        given["seeds"] = steps.max_seeds  # every seed that may run is checked now
    task = Task(dataset.name, dataset.name, "", {**given, "losses": options.loss or PAPER_LOSSES})
    whole, sizes, notes = make_study(task, dataset)
    study = whole if steps is None else replace(whole, seeds=whole.seeds[: steps.start])
    setting, losses = study.setting, study.losses
    baseline = baseline_of(losses, canonical_losses([options.baseline], "--baseline")[0] if options.baseline else None)
    measure = f"test_{dataset.kind.measure}"
    rope = in_unit(options.rope, measure)
    if steps is not None and len(losses) < 2:
        raise BenchError("--until-decided: there is no loss to hold against the baseline; name a second --loss")
    check_model(setting.model, dataset.sample_shape, dataset.num_classes, losses, dataset.kind)
    machine = machine_of(options, len(study.cells()), losses)
    until = "" if steps is None else "-until-decided"
    root = options.out or Path("adma-runs") / f"{file_name(dataset.name)}-{study.key[:8]}{until}"
    store = folder_at(root)
    root = store.root
    about = {
        "command": options.command_line,
        "adma_version": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "dataset": describe(dataset, sizes, notes),
        "baseline": baseline,
        "rope": rope,
    }
    if steps is not None:
        about[UNTIL_DECIDED] = asdict(steps)
    store.open(study, about=about, resume=options.resume, grows=steps is not None)
    console.print(
        Text(
            f"{dataset.name}: {len(dataset):,} samples of shape {dataset.sample_shape}, {_labels(dataset)}; "
            f"train {sizes['train']:,}, val {sizes['val']:,}, test {sizes['test']:,}\n"
            f"{len(losses)} losses x {options.seeds} seeds{_more(steps)}, {setting.epochs} epochs of {setting.model} "
            f"with {setting.optimizer}, {machine.at_a_time}; results in {store}"
        )
    )
    for note in (*dataset.notes, *notes):
        console.print(Text(f"note: {note}", style="yellow" if note.startswith("WARNING") else ""), soft_wrap=True)
    if missing(whole.cells(), store):
        words = partial(_forecast, whole, steps, store, machine, options.budget)
        line = announced(
            setting, losses[0], sizes, dataset.sample_shape, dataset.num_classes, words, device=machine.device_here,
            threads=machine.threads, kind=dataset.kind,
        )  # fmt: skip
        console.print(Text(line), soft_wrap=True)
    engine = machine.engine(Loader({dataset.fingerprint: source}), store)
    conduct = conduct_of(options)
    try:
        if steps is None:
            run_cells(study.cells(), store, engine, display(console_for(stderr=True), measure), conduct)
        else:
            run_until_decided(
                whole,
                steps,
                store,
                engine,
                about=about,
                baseline=baseline,
                rope=rope,
                display=lambda: display(console_for(stderr=True), measure),
                conduct=conduct,
                looked=lambda look: console.print(Text(printable(look.words)), soft_wrap=True),
            )
    except (KeyboardInterrupt, OutOfTimeError) as stop:
        word, code = ending(stop)
        results = store.results()
        done = sum(c.status != "missing" for c in results.cells)
        write_report(results, summary_of(results, measure), root / "report.html")
        store.publish()
        console.print(
            Text(
                f"{word}: {done} of {len(results.cells)} runs are kept in {store}, with a report of them; run the "
                "same command again to continue."
            )
        )
        return code
    results = store.results()
    show(console, results, root, measure)
    store.publish()
    return 1 if any(c.status == "failed" for c in results.cells) else 0


def _labels(dataset: Dataset) -> str:
    """`10 classes`, `5 classes, one a pixel`."""
    where = "" if not dataset.kind.dense else ", one a pixel" if dataset.kind.segments else ", one a token"
    return f"{dataset.num_classes} classes{where}"


def _steps(options: argparse.Namespace) -> Steps | None:
    """How seeds are added, None where their number is fixed.

    Raises:
        BenchError: options that need --until-decided without it, or numbers that cannot be.
    """
    given = {name: getattr(options, name) for name in ("step", "max_seeds") if getattr(options, name) is not None}
    if options.until_decided:
        return Steps(options.seeds, **given)
    if given:
        raise BenchError(f"--{next(iter(given)).replace('_', '-')} has a use only with --until-decided")
    return None


def _forecast(
    study: Study, steps: Steps | None, store: Folder, machine: Machine, budget: float | None, seconds: float
) -> str:
    """How long it will take; with --until-decided for all seeds that may run, and for those that are sure to."""
    todo = missing(study.cells(), store)
    part = Part(len(todo), study.setting.epochs, seconds)
    forecast, unknown = Forecast([part], machine.sure_jobs), machine.unknown
    if any(map(learns, study.losses)):
        unknown.append("a loss that is learned takes longer")
    if begun(todo, store.checkpoints):
        unknown.append(LESS)
    if steps is None:
        return forecast.line(budget=budget, unknown=unknown)
    first = missing(replace(study, seeds=study.seeds[: steps.start]).cells(), store)
    sure = Forecast([replace(part, trainings=len(first))], machine.sure_jobs)
    most = f"about {duration(sure.seconds)} if {steps.start} seeds decide" if first else "it ends when all is decided"
    return forecast.line(budget=budget, most=most, unknown=unknown)


def _more(steps: Steps | None) -> str:
    return "" if steps is None else f", then {steps.step} more at a time until decided, at most {steps.max_seeds}"

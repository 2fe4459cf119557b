"""What the commands do: from the options of `adma compare`, `tune`, `report` and `curves` to what they leave."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from adma import __version__
from adma.bench.console import console_for, file_name
from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.errors import BenchError
from adma.bench.estimate import Forecast, Part, announced
from adma.bench.folder import UNTIL_DECIDED, Folder, Results
from adma.bench.loading import Loader
from adma.bench.machine import Machine, conduct_of, ending, machine_of
from adma.bench.mirror import folder_at
from adma.bench.models import check_model
from adma.bench.overlap import overlaps
from adma.bench.prepare import canonical_losses, describe, make_study
from adma.bench.probabilities import probabilities
from adma.bench.progress import display, duration
from adma.bench.report import figures
from adma.bench.report.cells import is_fraction
from adma.bench.report.html import write_report
from adma.bench.report.overlap_tables import overlap_table
from adma.bench.report.probability_tables import probability_table
from adma.bench.report.tables import comparison_table, paste_line
from adma.bench.report.text import printable
from adma.bench.run import OutOfTimeError, run_cells
from adma.bench.shaping import learns
from adma.bench.statistics import BETTER, Comparison, summarise
from adma.bench.statistics.summary import baseline_of
from adma.bench.study import Study
from adma.bench.studyfile import Task
from adma.bench.supply import missing
from adma.bench.until import Steps, run_until_decided

_SETTINGS = (
    "seeds", "epochs", "model", "optimizer", "lr", "lr_schedule", "weight_decay", "batch_size", "train_size",
    "val_fraction", "test_fraction", "eval_size", "grouped", "augment", "train_fraction", "imbalance", "label_noise",
    "noisy_val",
)  # fmt: skip
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
    given = {name: getattr(options, name) for name in _SETTINGS}
    steps = _steps(options)
    if steps is not None:
        given["seeds"] = steps.max_seeds  # every seed that may run is checked now
    task = Task(dataset.name, dataset.name, "", {**given, "losses": options.loss or PAPER_LOSSES})
    whole, sizes, notes = make_study(task, dataset)
    study = whole if steps is None else replace(whole, seeds=whole.seeds[: steps.start])
    setting, losses = study.setting, study.losses
    baseline = baseline_of(losses, canonical_losses([options.baseline])[0] if options.baseline else None)
    measure = f"test_{dataset.kind.measure}"
    rope = _rope(options.rope, measure)
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
        write_report(results, _summary(results, measure), root / "report.html")
        store.publish()
        console.print(
            Text(
                f"{word}: {done} of {len(results.cells)} runs are kept in {store}, with a report of them; run the "
                "same command again to continue."
            )
        )
        return code
    results = store.results()
    _show(console, results, root, measure)
    store.publish()
    return 1 if any(c.status == "failed" for c in results.cells) else 0


def tune(options: argparse.Namespace) -> int:
    """Search each loss's parameters and the learning rate; as `adma.bench.tune.search`."""
    from adma.bench import tune as search  # Optuna takes a second to import

    return search.search(options, {name: getattr(options, name) for name in _SETTINGS if name not in ("seeds", "lr")})


def report(options: argparse.Namespace) -> int:
    """Print what a results folder holds, a comparison or a search, and write its report again."""
    folder = folder_at(options.dir)
    if folder.holds_search:
        from adma.bench import tune as search

        return search.report(folder)
    baseline = canonical_losses([options.baseline])[0] if options.baseline else None
    results = folder.results()
    metric = options.metric or f"test_{results.measure}"
    _show(console_for(), results, folder.root, metric, baseline, _rope(options.rope, metric))
    folder.publish()
    return 0


def curves(options: argparse.Namespace) -> int:
    """Draw losses over the true class's probability."""
    figure = figures.loss_curves(canonical_losses(options.loss)) if options.loss else figures.loss_curves()
    print(figures.save(figure, options.out))
    return 0


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
    part = Part(len(missing(study.cells(), store)), study.setting.epochs, seconds)
    forecast, unknown = Forecast([part], machine.sure_jobs), machine.unknown
    if any(map(learns, study.losses)):
        unknown.append("a loss that is learned takes longer")
    if steps is None:
        return forecast.line(budget=budget, unknown=unknown)
    first = missing(replace(study, seeds=study.seeds[: steps.start]).cells(), store)
    sure = Forecast([replace(part, trainings=len(first))], machine.sure_jobs)
    most = f"about {duration(sure.seconds)} if {steps.start} seeds decide" if first else "it ends when all is decided"
    return forecast.line(budget=budget, most=most, unknown=unknown)


def _more(steps: Steps | None) -> str:
    return "" if steps is None else f", then {steps.step} more at a time until decided, at most {steps.max_seeds}"


def _rope(given: float | None, metric: str) -> float | None:
    """--rope in the metric's own unit: points are hundredths of accuracy and calibration error."""
    return given if given is None or not is_fraction(metric) else given / 100


def _advice(comparison: Comparison) -> str:
    """The line to paste: the winner's; else the leader's if it beats the baseline, or the usual loss."""
    if comparison.winner:
        return f"For your own training:  {paste_line(comparison.winner)}"
    for summary in comparison.losses:
        stands = summary.stands
        if summary.loss == comparison.verdict.leader and stands is not None and stands.verdict == BETTER:
            return (
                f"No loss is shown to be best here, but this one is better than {comparison.baseline}:  "
                f"{paste_line(summary.loss)}"
            )
    return f"No loss is shown to be best here; the usual one is  {paste_line('cce')}"


def _show(
    console: Console,
    results: Results,
    root: Path,
    metric: str,
    baseline: str | None = None,
    rope: float | None = None,
) -> None:
    comparison = _summary(results, metric, baseline, rope)
    console.print()
    console.print(comparison_table(comparison))
    console.print()
    found = overlaps(results)
    if found:
        console.print(overlap_table(found, comparison))
        console.print()
    console.print(probability_table(probabilities(results)))
    console.print()
    console.print(Text(_advice(comparison)), soft_wrap=True)
    path = write_report(results, comparison, root / "report.html")
    console.print(Text(f"report: {path}"), soft_wrap=True)


def _summary(results: Results, metric: str, baseline: str | None = None, rope: float | None = None) -> Comparison:
    """The comparison with what was asked for, or else what the study was begun with."""
    about = results.about
    if rope is None and metric == f"test_{results.measure}":
        rope = about.get("rope")
    return summarise(results, metric=metric, baseline=baseline or about.get("baseline"), rope=rope)

"""What the commands do: from the options of `adma compare`, `tune`, `report` and `curves` to what they leave."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from adma import __version__
from adma.bench.console import INTERRUPTED, console_for, file_name, jobs_and_threads, usable_device
from adma.bench.data.catalog import load
from adma.bench.engines.local import LocalEngine
from adma.bench.loading import Loader
from adma.bench.models import check_model
from adma.bench.prepare import canonical_losses, describe, make_study
from adma.bench.probabilities import probabilities
from adma.bench.progress import display
from adma.bench.report import figures
from adma.bench.report.html import write_report
from adma.bench.report.probability_tables import probability_table
from adma.bench.report.tables import comparison_table, paste_line
from adma.bench.run import run_cells
from adma.bench.statistics import summarise
from adma.bench.store import Results, Store
from adma.bench.studyfile import Task

_SETTINGS = (
    "seeds", "epochs", "model", "optimizer", "lr", "lr_schedule", "weight_decay", "batch_size", "train_size",
    "val_fraction", "test_fraction", "eval_size", "grouped", "augment", "train_fraction", "imbalance", "label_noise",
    "noisy_val",
)  # fmt: skip
PAPER_LOSSES = ("cce", "adma:a=0.26", "mse", "squared_hinge")


def compare(options: argparse.Namespace) -> int:
    """Train every loss with every seed, print the comparison, write the report.

    Returns:
        0; 1 if a cell failed; INTERRUPTED.

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
    task = Task(dataset.name, dataset.name, "", {**given, "losses": options.loss or PAPER_LOSSES})
    study, sizes, notes = make_study(task, dataset)
    setting, losses = study.setting, study.losses
    check_model(setting.model, dataset.sample_shape, dataset.num_classes)
    device = usable_device(options.device)
    jobs, threads = jobs_and_threads(options.jobs, device, len(study.cells()))
    root = options.out or Path("adma-runs") / f"{file_name(dataset.name)}-{study.key[:8]}"
    store = Store(root)
    about = {
        "command": options.command_line,
        "adma_version": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "dataset": describe(dataset, sizes, notes),
    }
    store.open(study, about=about, resume=options.resume)
    console.print(
        Text(
            f"{dataset.name}: {len(dataset):,} samples of shape {dataset.sample_shape}, {dataset.num_classes} classes; "
            f"train {sizes['train']:,}, val {sizes['val']:,}, test {sizes['test']:,}\n"
            f"{len(losses)} losses x {options.seeds} seeds, {setting.epochs} epochs of {setting.model} with "
            f"{setting.optimizer}, {jobs} at a time; results in {root}"
        )
    )
    for note in (*dataset.notes, *notes):
        console.print(Text(f"note: {note}", style="yellow" if note.startswith("WARNING") else ""), soft_wrap=True)
    loader = Loader({dataset.fingerprint: source})
    engine = LocalEngine(loader, jobs=jobs, threads=threads, device=device)
    try:
        run_cells(study.cells(), store, engine, display(console_for(stderr=True)))
    except KeyboardInterrupt:
        results = store.results()
        done = sum(c.status != "missing" for c in results.cells)
        _write_report(results, root)
        console.print(
            Text(
                f"Interrupted: {done} of {len(results.cells)} runs are kept in {root}, with a report of them; run the "
                "same command again to continue."
            )
        )
        return INTERRUPTED
    results = store.results()
    _show(console, results, root)
    return 1 if any(c.status == "failed" for c in results.cells) else 0


def tune(options: argparse.Namespace) -> int:
    """Search each loss's parameters and the learning rate; as `adma.bench.tune.search`."""
    from adma.bench import tune as search  # Optuna takes a second to import

    return search.search(options, {name: getattr(options, name) for name in _SETTINGS if name not in ("seeds", "lr")})


def report(options: argparse.Namespace) -> int:
    """Print what a results folder holds, a comparison or a search, and write its report again."""
    if Store(options.dir).holds_search:
        from adma.bench import tune as search

        return search.report(options.dir)
    _show(console_for(), Store(options.dir).results(), options.dir, options.metric)
    return 0


def curves(options: argparse.Namespace) -> int:
    """Draw losses over the true class's probability."""
    figure = figures.loss_curves(canonical_losses(options.loss)) if options.loss else figures.loss_curves()
    print(figures.save(figure, options.out))
    return 0


def _show(console: Console, results: Results, root: Path, metric: str = "test_accuracy") -> None:

    comparison = summarise(results, metric=metric)
    console.print()
    console.print(comparison_table(comparison))
    console.print()
    console.print(probability_table(probabilities(results)))
    console.print()
    winner = comparison.winner
    console.print(
        Text(
            f"For your own training:  {paste_line(winner)}"
            if winner
            else f"No loss is shown to be best here; the usual one is  {paste_line('cce')}"
        ),
        soft_wrap=True,
    )
    console.print(Text(f"report: {_write_report(results, root, metric)}"), soft_wrap=True)


def _write_report(results: Results, root: Path, metric: str = "test_accuracy") -> Path:

    return write_report(results, summarise(results, metric=metric), root / "report.html")

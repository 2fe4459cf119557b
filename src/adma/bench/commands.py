"""What the commands do: from the options of `adma compare`, `report` and `curves` to what they print and write."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from adma import __version__
from adma.bench import environment
from adma.bench.data import augment
from adma.bench.data.catalog import load
from adma.bench.data.splits import make_split
from adma.bench.engines.local import LocalEngine
from adma.bench.errors import BenchError
from adma.bench.models import check_model
from adma.bench.progress import display
from adma.bench.report import figures
from adma.bench.report.html import write_report
from adma.bench.report.tables import comparison_table, paste_line
from adma.bench.run import run_study
from adma.bench.statistics import summarise
from adma.bench.store import Results, Store
from adma.bench.study import Cell, Setting, Study
from adma.spec import canonical

PAPER_LOSSES = ("cce", "adma:a=0.26", "mse", "squared_hinge")
INTERRUPTED = 130  # what a shell calls a command that Ctrl-C ended


def compare(options: argparse.Namespace) -> int:
    """Train every loss with every seed, print the comparison, write the report.

    Returns:
        0; 1 if a cell failed; INTERRUPTED.

    Raises:
        BenchError: a mistake in the options or the data.
    """
    console = _console()
    source = partial(
        load,
        options.data,
        data_dir=options.data_dir,
        image_size=options.image_size,
        skip_bad=options.skip_bad,
        modules=tuple(options.modules),
    )
    dataset = source()
    losses = _losses(options.loss or PAPER_LOSSES)
    images = len(dataset.sample_shape) == 3
    model = options.model or ("convnet" if images else "mlp")
    check_model(model, dataset.sample_shape, dataset.num_classes)
    if augment.parse(options.augment) is not None and not images:
        raise BenchError(
            f"--augment {options.augment}: the samples are no images but have shape {dataset.sample_shape}"
        )
    setting = Setting(
        data=dataset.name,
        data_hash=dataset.fingerprint,
        model=model,
        epochs=options.epochs,
        optimizer=options.optimizer,
        lr=options.lr,
        weight_decay=options.weight_decay,
        batch_size=options.batch_size,
        train_size=options.train_size,
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction,
        augment=options.augment,
    )
    study = Study(setting, losses, tuple(range(options.seeds)))
    split = make_split(
        dataset,
        seed=Cell(setting, losses[0], 0).stream_seed("split"),
        train_size=setting.train_size,
        val_fraction=setting.val_fraction,
        test_fraction=setting.test_fraction,
    )
    device = _device(options.device)
    cores = environment.cores()
    jobs = options.jobs or (min(cores, 8) if device == "cpu" else 1)
    jobs = min(jobs, len(study.cells()))
    root = options.out or Path("adma-runs") / f"{_file_name(dataset.name)}-{study.key[:8]}"
    store = Store(root)
    sizes = {"train": len(split.train), "val": len(split.val), "test": len(split.test)}
    about = {
        "command": options.command_line,
        "adma_version": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "dataset": {
            "name": dataset.name,
            "samples": len(dataset),
            "classes": list(dataset.class_names),
            "sample_shape": list(dataset.sample_shape),
            "notes": list(dataset.notes),
            "sizes": sizes,
        },
    }
    store.open(study, about=about, resume=options.resume)
    console.print(
        Text(
            f"{dataset.name}: {len(dataset):,} samples of shape {dataset.sample_shape}, {dataset.num_classes} classes; "
            f"train {sizes['train']:,}, val {sizes['val']:,}, test {sizes['test']:,}\n"
            f"{len(losses)} losses x {options.seeds} seeds, {setting.epochs} epochs of {model} with "
            f"{setting.optimizer}, {jobs} at a time; results in {root}"
        )
    )
    for note in dataset.notes:
        console.print(Text(f"note: {note}"))
    engine = LocalEngine(source, jobs=jobs, threads=max(1, cores // jobs), device=device)
    try:
        results = run_study(study, store, engine, display(_console(stderr=True)))
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
    _show(console, results, root)
    return 1 if any(c.status == "failed" for c in results.cells) else 0


def report(options: argparse.Namespace) -> int:
    """Print the comparison of a results folder and write its report again."""
    _show(_console(), Store(options.dir).results(), options.dir, options.metric)
    return 0


def curves(options: argparse.Namespace) -> int:
    """Draw losses over the true class's probability."""
    figure = figures.loss_curves(_losses(options.loss)) if options.loss else figures.loss_curves()
    print(figures.save(figure, options.out))
    return 0


def _show(console: Console, results: Results, root: Path, metric: str = "test_accuracy") -> None:

    comparison = summarise(results, metric=metric)
    console.print()
    console.print(comparison_table(comparison))
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


def _losses(texts: Sequence[str]) -> tuple[str, ...]:

    losses = []
    for text in texts:
        try:
            loss = canonical(text)
        except ValueError as error:
            raise BenchError(f"--loss: {error}") from error
        if loss in losses:
            raise BenchError(f"--loss {text}: this loss is given twice")
        losses.append(loss)
    return tuple(losses)


def _device(name: str) -> str:

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise BenchError(f"--device {name}: not usable here ({str(error).splitlines()[0]}); try cpu") from error
    return name


def _file_name(name: str) -> str:
    """A data set's name as part of a folder's name."""
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(name).stem)
    return kept.strip("-")[:40] or "data"


def _console(*, stderr: bool = False) -> Console:

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)  # a pipe or a file has no width of its own
    return console

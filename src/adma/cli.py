"""The command `adma`: compare, report, curves."""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from adma import __version__
from adma._check import nearest

if TYPE_CHECKING:
    from rich.console import Console

    from adma.bench.data import Dataset
    from adma.bench.store import Results

PAPER_LOSSES = ("cce", "adma:a=0.26", "mse", "squared_hinge")
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 if all went well; 1 if the study ended with failed cells; 2 for a mistake in what was asked; 130 after
        Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(arguments)
    try:
        from adma.bench.errors import BenchError
    except ImportError as error:  # pragma: no cover - needs an environment without the extra
        print(f"adma: the commands need the bench ({error}): pip install 'adma[bench]'", file=sys.stderr)
        return 2
    options.command_line = "adma " + shlex.join(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return int(options.run(options))
    except BenchError as error:
        print(f"adma: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "adma":
            raise
        print(f"adma: the commands need the bench ({error}): pip install 'adma[bench]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("adma: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"adma: warning: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """argparse, with the nearest spelling of an unknown option."""

    def error(self, message: str) -> NoReturn:
        kind, _, words = message.partition("unrecognized arguments: ")
        if words and not kind:
            message += nearest(words.split()[0], self._options())
        self.exit(2, f"{self.prog}: {message}\nTry '{self.prog} --help'.\n")

    def _options(self) -> list[str]:
        """The options of this command and of those below it: argparse reports an unknown one at the top."""
        found = [option for action in self._actions for option in action.option_strings]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found += [option for command in action.choices.values() for option in command._options()]
        return found


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="adma", description="Which loss is best on your data, and is the difference real?")
    parser.add_argument("--version", action="version", version=f"adma {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_compare(commands)

    report = commands.add_parser("report", help="print and rebuild the report of a results folder")
    report.add_argument("dir", metavar="DIR", type=Path, help="a folder that adma compare wrote")
    report.add_argument("--metric", default="test_accuracy", help="what to compare by (default: %(default)s)")
    report.set_defaults(run=_report)

    curves = commands.add_parser(
        "curves", help="draw losses against the true class's probability (the paper's Figure 1)"
    )
    curves.add_argument("--loss", action="append", metavar="SPEC", help="a loss such as adma:a=0.26; again for more")
    curves.add_argument("--out", type=Path, default=Path("curves.png"), metavar="FILE", help=".png, .pdf or .svg")
    curves.set_defaults(run=_curves)
    return parser


def _add_compare(commands: Any) -> None:
    from adma.spec import known

    compare = commands.add_parser(
        "compare",
        help="train a network with each loss on your data and compare them",
        description="Train one network per loss and seed, with everything else equal, and say which loss is best and "
        "whether the difference is real. Run the same command again to continue after an interruption.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  adma compare digits\n  adma compare photos/ --loss cce --loss adma:a=0.3 --seeds 10\n"
        "  adma compare table.npz --model mlp",
    )
    compare.add_argument(
        "data", metavar="DATA",
        help="digits, mnist, fashion_mnist; a folder, .tar or .zip of CLASS/IMAGE or train|val|test/CLASS/IMAGE; an "
        ".npz with x and y; package.module:function",
    )  # fmt: skip
    add = compare.add_argument
    add("--loss", action="append", metavar="SPEC",
        help=f"a loss such as adma:a=0.26; again for more (default: {', '.join(PAPER_LOSSES)}; known: {', '.join(known())})")  # fmt: skip
    add("--seeds", type=_positive, default=5, metavar="N", help="runs of each loss (default: %(default)s)")
    add("--epochs", type=_positive, metavar="N", help="passes over the training data (default: 10)")
    add(
        "--model",
        default="convnet",
        help="convnet, mlp or package.module:function (default: mlp for vectors, else convnet)",
    )
    add("--optimizer", default="adam", choices=("adam", "sgd"), help="(default: %(default)s)")
    add("--lr", type=_above_zero, default=1e-3, metavar="X", help="learning rate (default: %(default)s)")
    add(
        "--weight-decay",
        type=_not_negative,
        default=1e-4,
        metavar="X",
        help="L2 on the convolutions (default: %(default)s)",
    )
    add("--batch-size", type=_positive, default=64, metavar="N", help="(default: %(default)s)")
    add("--train-size", type=_positive, metavar="N", help="train on this many samples only, drawn by class")
    add(
        "--val-fraction",
        type=float,
        default=0.2,
        metavar="X",
        help="where the data has no val part (default: %(default)s)",
    )
    add(
        "--test-fraction",
        type=float,
        default=0.2,
        metavar="X",
        help="where the data has no test part (default: %(default)s)",
    )
    add("--augment", default="none", metavar="SPEC", help="such as rotate=30,shift=0.2,flip (default: %(default)s)")
    add("--image-size", type=_size, metavar="HxW", help="resize images, such as 32x32")
    add("--skip-bad", action="store_true", help="leave out files that are no readable images, and list them")
    add("--data-dir", type=Path, metavar="DIR", help="where MNIST/raw and FashionMNIST/raw lie (default: $ADMA_DATA)")
    add(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that registers losses of your own",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="results folder (default: adma-runs/DATA-HASH, a new one for new settings)",
    )
    add(
        "--resume",
        action="store_true",
        help="use --out though it holds a study with other settings; its cells are kept",
    )
    add("--jobs", type=_positive, metavar="N", help="trainings at once (default: one a core, at most 8)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: cuda if there is one)")
    compare.set_defaults(run=_compare)


def _number(text: str, kind: type, test: Any, words: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not test(value):
        raise argparse.ArgumentTypeError(f"must be {words}, got {text!r}")
    return value


def _positive(text: str) -> int:
    return int(_number(text, int, lambda v: v >= 1, "a whole number from 1"))


def _above_zero(text: str) -> float:
    return float(_number(text, float, lambda v: 0 < v < float("inf"), "a number above 0"))


def _not_negative(text: str) -> float:
    return float(_number(text, float, lambda v: 0 <= v < float("inf"), "a number from 0"))


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    return _positive(height), _positive(width or height)


def load_data(data: str, data_dir: Path | None, image_size: tuple[int, int] | None, skip_bad: bool, modules: Sequence[str]) -> Dataset:  # fmt: skip
    """The data set, after the user's own modules; runs in the command and in every worker."""
    from adma.bench.data.catalog import load
    from adma.bench.errors import BenchError
    from adma.bench.importing import current_folder_importable

    with current_folder_importable():
        for module in modules:
            try:
                importlib.import_module(module)
            except Exception as error:
                raise BenchError(f"--import {module} failed: {type(error).__name__}: {error}") from error
    return load(data, data_dir=data_dir, image_size=image_size, skip_bad=skip_bad)


def _compare(options: argparse.Namespace) -> int:
    from rich.text import Text

    from adma.bench import environment
    from adma.bench.data import augment
    from adma.bench.data.splits import make_split
    from adma.bench.engines.local import LocalEngine
    from adma.bench.errors import BenchError
    from adma.bench.models import check_model
    from adma.bench.progress import display
    from adma.bench.run import run_study
    from adma.bench.store import Store
    from adma.bench.study import Cell, Setting, Study

    console = _console()
    load = partial(
        load_data, options.data, options.data_dir, options.image_size, options.skip_bad, tuple(options.modules)
    )
    dataset = load()
    losses = _losses(options.loss or PAPER_LOSSES)
    model = options.model
    if model == "convnet" and len(dataset.sample_shape) != 3 and not _given("--model", options.command_line):
        model = "mlp"
    check_model(model, dataset.sample_shape, dataset.num_classes)
    augment.parse(options.augment)
    if augment.parse(options.augment) is not None and len(dataset.sample_shape) != 3:
        raise BenchError(
            f"--augment {options.augment}: the samples are no images but have shape {dataset.sample_shape}"
        )
    setting = Setting(
        data=options.data,
        data_hash=dataset.fingerprint,
        model=model,
        epochs=options.epochs or 10,
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
            "sizes": {"train": len(split.train), "val": len(split.val), "test": len(split.test)},
        },
    }
    store.open(study, about=about, resume=options.resume)
    sizes = about["dataset"]["sizes"]  # type: ignore[index]
    console.print(
        Text(
            f"{dataset.name}: {len(dataset):,} samples of shape {dataset.sample_shape}, {dataset.num_classes} classes; "
            f"train {sizes['train']:,}, val {sizes['val']:,}, test {sizes['test']:,}\n"
            f"{len(losses)} losses x {options.seeds} seeds, {setting.epochs} epochs of {model} with {setting.optimizer}, "
            f"{jobs} at a time; results in {root}"
        )
    )
    for note in dataset.notes:
        console.print(Text(f"note: {note}"))
    engine = LocalEngine(load, jobs=jobs, threads=max(1, cores // jobs), device=device)
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


def _report(options: argparse.Namespace) -> int:
    from adma.bench.store import Store

    _show(_console(), Store(options.dir).results(), options.dir, options.metric)
    return 0


def _curves(options: argparse.Namespace) -> int:
    from adma.bench.report import figures

    figure = figures.loss_curves(_losses(options.loss)) if options.loss else figures.loss_curves()
    print(figures.save(figure, options.out))
    return 0


def _show(console: Console, results: Results, root: Path, metric: str = "test_accuracy") -> None:
    from rich.text import Text

    from adma.bench.report.tables import comparison_table, paste_line
    from adma.bench.statistics import summarise

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
    from adma.bench.report.html import write_report
    from adma.bench.statistics import summarise

    return write_report(results, summarise(results, metric=metric), root / "report.html")


def _losses(texts: Sequence[str]) -> tuple[str, ...]:
    from adma.bench.errors import BenchError
    from adma.spec import canonical

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
    import torch

    from adma.bench.errors import BenchError

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise BenchError(f"--device {name}: not usable here ({str(error).splitlines()[0]}); try cpu") from error
    return name


def _given(option: str, command_line: str) -> bool:
    return any(word == option or word.startswith(option + "=") for word in shlex.split(command_line))


def _file_name(name: str) -> str:
    """A data set's name as part of a folder's name."""
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(name).stem)
    return kept.strip("-")[:40] or "data"


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)  # a pipe or a file has no width of its own
    return console


if __name__ == "__main__":
    sys.exit(main())

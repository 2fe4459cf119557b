"""The command `adma`: compare, report, curves."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from adma import __version__
from adma._check import nearest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 if all went well; 1 if the study ended with failed cells; 2 for a mistake in what was asked; 130 after
        Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(arguments)
    try:
        from adma.bench import commands
        from adma.bench.errors import BenchError
    except ModuleNotFoundError as error:
        print(f"adma: the commands need the bench ({error}): pip install 'adma[bench]'", file=sys.stderr)
        return 2
    options.command_line = "adma " + shlex.join(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return int(getattr(commands, options.run)(options))
    except BenchError as error:
        print(f"adma: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("adma: interrupted", file=sys.stderr)
        return commands.INTERRUPTED
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
    report.set_defaults(run="report")

    curves = commands.add_parser(
        "curves", help="draw losses against the true class's probability (the paper's Figure 1)"
    )
    curves.add_argument("--loss", action="append", metavar="SPEC", help="a loss such as adma:a=0.26; again for more")
    curves.add_argument("--out", type=Path, default=Path("curves.png"), metavar="FILE", help=".png, .pdf or .svg")
    curves.set_defaults(run="curves")
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
    listing = f"(default: the paper's cce, adma:a=0.26, mse, squared_hinge; known: {', '.join(known())})"
    add("--loss", action="append", metavar="SPEC", help=f"a loss such as adma:a=0.26; again for more {listing}")
    add("--seeds", type=_positive, default=5, metavar="N", help="runs of each loss (default: %(default)s)")
    add("--epochs", type=_positive, default=10, metavar="N", help="passes over the data (default: %(default)s)")
    add("--model", help="convnet, mlp or package.module:function (default: convnet for images, else mlp)")
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
    compare.set_defaults(run="compare")


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


if __name__ == "__main__":
    sys.exit(main())

"""The command `adma`: compare, tune, run, replay, report, status, export, curves, data, doctor."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from adma import __version__
from adma.options import parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 if all went well; 1 if the study ended with failed cells; 2 for a mistake in what was asked; 3 when the time
        of --budget is over; 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(arguments)
    if options.run == "doctor":  # which needs no bench
        from adma.torch.doctor import report

        print(f"adma {__version__}, {report()}")
        return 0
    try:
        from adma.bench.console import INTERRUPTED
        from adma.bench.errors import BenchError
    except ModuleNotFoundError as error:
        print(f"adma: the commands need the bench ({error}): pip install 'adma[bench]'", file=sys.stderr)
        return 2
    options.command_line = "adma " + shlex.join(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            module, _, function = options.run.partition(":")

            def command() -> int:
                return int(getattr(import_module(f"adma.bench.{module}"), function)(options))

            if not hasattr(options, "devices"):  # it trains nothing
                return command()
            import_module("adma.bench.engines.processes").expect(options.engine, options.device)
            return int(import_module("adma.bench.machine").under_torchrun(command, options))
    except BenchError as error:
        print(f"adma: {error}", file=sys.stderr)
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


if __name__ == "__main__":
    sys.exit(main())

"""The page of the command line, made from the parser that reads it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

from adma.options import parser


def commands(parsing: argparse.ArgumentParser) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Each command that can be given, with what it is for."""
    for action in parsing._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, below in action.choices.items():
                if any(isinstance(a, argparse._SubParsersAction) for a in below._actions):
                    yield from commands(below)
                else:
                    yield below, helps[name]


def page() -> str:
    """All commands and options, in Markdown."""
    os.environ["COLUMNS"] = "100"
    parts = [
        "# The command line",
        "`--help` after a command prints the same. Every command that trains can be given again to go on where it"
        " stopped ([running](../engine.md)).",
        "| exit code | meaning |\n|---|---|\n| 0 | all is done |\n| 1 | all has run, and a cell failed |\n"
        "| 2 | a mistake in what was asked; nothing ran |\n| 3 | the time of `--budget` was over |\n"
        "| 130 | stopped by Ctrl-C or SIGTERM |",
    ]
    for command, words in commands(parser()):
        parts.append(f"## {command.prog}")
        parts.append(f"{words[:1].upper()}{words[1:]}.")
        rows = [row(action) for action in command._actions if action.help != argparse.SUPPRESS]
        parts.append("\n".join(["| option | what it is |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def row(action: argparse.Action) -> str:
    """An option as a row of the table; its help with %(default)s and %% filled in."""
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest
    if action.choices:
        metavar = "|".join(map(str, action.choices))
    takes = action.nargs != 0
    name = ", ".join(f"{option} {metavar}" if takes else option for option in action.option_strings) or metavar
    words = (action.help or "") % {"default": action.default, "prog": "adma"}
    return f"| `{name.replace('|', chr(92) + '|')}` | {escape(words)} |"


def escape(text: str) -> str:
    for mark in ("\\", "|", "*", "_", "<", "[", "]", "$"):
        text = text.replace(mark, "\\" + mark)
    return text

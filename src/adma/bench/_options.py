"""Options in one line, `name:key=value,key=value`, as networks, optimizers and schedules are written.

What may be written is the fields of a frozen dataclass, made by `number`, `whole`, `flag`, `choice` and `option`.
The canonical spelling leaves out what is at its default, so a default, once published, never changes: it would
change what stored runs mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import Any

from adma._check import nearest
from adma.bench.errors import BenchError

_READ, _EXAMPLE = "read", "example"


def option(default: Any, read: Callable[[str], Any], *, example: str) -> Any:
    """A field of any kind.

    Args:
        default: its value where it is not written.
        read: from the text of a value to the value; raises ValueError("must be ..., got ...") if it is none.
        example: a text that `read` takes.
    """
    return field(default=default, metadata={_READ: read, _EXAMPLE: example})


def number(
    default: float | None, *, low: float = 0.0, high: float = math.inf, open_low: bool = False, example: str
) -> Any:
    """A real number in [low, high), or (low, high) if `open_low`."""
    interval = f"{'(' if open_low else '['}{low:g}, {high:g})"

    def read(text: str) -> float:
        try:
            value = float(text.replace("_", "x")) + 0.0  # Python's 1_0 is a slip here; -0.0 is written as 0.0
        except ValueError:
            value = math.nan
        if not low <= value < high or (open_low and value == low):  # NaN fails the comparison
            raise ValueError(f"must be a number in {interval}, got {text!r}")
        return value

    return option(default, read, example=example)


def whole(default: int | None, *, low: int = 1, odd: bool = False, example: str) -> Any:
    """A whole number, at least `low`, odd if asked for."""

    def read(text: str) -> int:
        value = int(text) if re.fullmatch(r"\+?[0-9]{1,9}", text) else None
        if value is None or value < low or (odd and value % 2 == 0):
            raise ValueError(f"must be {'an odd' if odd else 'a'} whole number, at least {low}, got {text!r}")
        return value

    return option(default, read, example=example)


def flag(default: bool) -> Any:
    """`true` or `false`."""

    def read(text: str) -> bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"must be true or false, got {text!r}")
        return text.lower() == "true"

    return option(default, read, example=str(not default).lower())


def choice(default: str, *others: str) -> Any:
    """One of some words, the default first."""
    words = (default, *others)

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}, got {text!r}{nearest(text, words)}")
        return text

    return option(default, read, example=words[-1])


def parse(what: str, text: str, known: Mapping[str, type[Any]]) -> tuple[str, Any]:
    """The name and the options that a spec stands for.

    Args:
        what: the argument, for messages ("--model").
        text: `NAME` or `NAME:key=value,key=value`; spaces around the marks do not count.
        known: name -> frozen dataclass of its options.

    Raises:
        BenchError: an unknown name or key (with the nearest spelling), a repeated key, a value that its key does
            not take, options that do not go together.
    """
    if not isinstance(text, str):
        raise BenchError(f"{what} must be text such as {next(iter(known))!r}, got {text!r} ({type(text).__name__})")
    name, colon, tail = text.partition(":")
    name = name.strip()
    where = f"{what} {text}"
    if name not in known:
        raise BenchError(f"{where}: not known{nearest(name, known)}; known: {', '.join(known)}")
    options = known[name]
    readers = {f.name: f.metadata[_READ] for f in fields(options)}
    if colon and not readers:
        raise BenchError(f"{where}: {name} has no options; write {name!r}")
    if colon and not tail.strip():
        raise BenchError(f"{where}: nothing stands behind the colon; write {name!r}, or {_example(name, options)!r}")
    values: dict[str, Any] = {}
    for part in tail.split(",") if colon else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not value:
            raise BenchError(
                f"{where}: {part.strip()!r} is not of the form key=value; write such as {_example(name, options)!r}"
            )
        if key not in readers:
            raise BenchError(
                f"{where}: {name} has no option {key!r}{nearest(key, readers)}; it has {', '.join(readers)}"
            )
        if key in values:
            raise BenchError(f"{where}: {key} is given twice")
        try:
            values[key] = readers[key](value)
        except ValueError as error:
            raise BenchError(f"{where}: {key} {error}") from error
    try:
        return name, options(**values)
    except ValueError as error:  # options that do not go together
        raise BenchError(f"{where}: {error}") from error


def format_spec(name: str, options: Any) -> str:
    """The one spelling that `parse` reads back: keys in the dataclass's order, defaults left out."""
    parts = [f"{f.name}={_write(v)}" for f in fields(options) if (v := getattr(options, f.name)) != f.default]
    return f"{name}:{','.join(parts)}" if parts else name


def _write(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _example(name: str, options: type[Any]) -> str:
    first = fields(options)[0]
    return f"{name}:{first.name}={first.metadata[_EXAMPLE]}"

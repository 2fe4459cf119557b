"""What a word of the command line may be: each reads one, or says what would be right.

Raises:
    argparse.ArgumentTypeError: by every function, that the word is none of those.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from adma._check import MOST, MOST_RUNS


def _number(text: str, kind: type, test: Any, words: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not test(value):
        raise argparse.ArgumentTypeError(f"must be {words}, got {text!r}")
    return value


def jobs(text: str) -> int | None:
    return None if text == "auto" else positive(text)


def positive(text: str, most: int = MOST) -> int:
    value = int(_number(text, int, lambda v: v >= 1, "a whole number from 1"))
    if value > most:
        raise argparse.ArgumentTypeError(f"must be at most {most}, got {text!r}")
    return value


def runs(text: str) -> int:
    return positive(text, MOST_RUNS)


def whole(text: str) -> int:
    return int(_number(text, int, lambda v: v >= 0, "a whole number from 0"))


def above_zero(text: str) -> float:
    return float(_number(text, float, lambda v: 0 < v < float("inf"), "a number above 0"))


def not_negative(text: str) -> float:
    return float(_number(text, float, lambda v: 0 <= v < float("inf"), "a number from 0"))


def place(text: str) -> Path | str:
    """A folder of this machine, or a URL."""
    path = text.removeprefix("file://")
    return path if "://" in path else Path(path)


def pairs(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(key and equals and value for key, equals, value in pairs):
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE,..., got {text!r}")
    return {key: value for key, _, value in pairs}


def duration(text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    words = "a time above 0 such as 90s, 30m, 2h or 1d"
    return unit * float(_number(number, float, lambda v: 0 < v < float("inf"), words))


def size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    return positive(height), positive(width or height)


def size_text(text: str) -> str:
    return "{}x{}".format(*size(text))

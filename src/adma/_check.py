"""Checks of single values, and the nearest spelling of a name: said once, in the same words everywhere."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any

# What a count may be at most: one of seeds or trials, each of which has a place in a list, and any other.
MOST_RUNS, MOST = 100_000, 10**9


def real(name: str, value: Any, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False,
         hint: str = "") -> float:  # fmt: skip
    """`value` as a float, if it is a finite real number in the stated interval.

    Raises:
        TypeError: not a real number (bools and strings are refused, NumPy scalars are taken).
        ValueError: NaN, infinite, or outside the interval.
    """
    if isinstance(value, bool) or type(value).__name__ == "bool_" or not isinstance(value, numbers.Real):
        kind = type(value).__name__
        raise TypeError(
            f"{name} must be a real number in {_interval(low, high, open_low)}, got {value!r} ({kind}){_tail(hint)}"
        )
    try:
        number = float(value) + 0.0  # -0.0 becomes 0.0: equal parameters are written alike
    except OverflowError:
        number = math.inf  # an int or fraction beyond the floats
    infinite = number in (math.inf, -math.inf)
    if infinite or not low <= number <= high or (open_low and number == low):  # NaN fails the comparison
        raise ValueError(f"{name} must be in {_interval(low, high, open_low)}, got {value!r}{_tail(hint)}")
    return number


def whole(name: str, value: Any, *, low: int, high: int, hint: str = "") -> int:
    """`value` as an int, if it is a whole number in [low, high].

    Raises:
        TypeError: not a whole number (bools, strings and floats are refused, NumPy's integers are taken).
        ValueError: outside the interval.
    """
    said = f"{name} must be a whole number in [{low}, {high}], got {value!r}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{said} ({type(value).__name__}){_tail(hint)}")
    number = int(value)
    if not low <= number <= high:
        raise ValueError(f"{said}{_tail(hint)}")
    return number


def _interval(low: float, high: float, open_low: bool) -> str:
    left = "(" if open_low or math.isinf(low) else "["
    return f"{left}{low:g}, {high:g}{')' if math.isinf(high) else ']'}"


def _tail(hint: str) -> str:
    return f"; {hint}" if hint else ""


def boolean(name: str, value: Any) -> bool:
    """`value`, if it is a bool.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r} ({type(value).__name__})")
    return value


def one_of(name: str, value: Any, known: Iterable[str]) -> str:
    """`value`, if it is one of the `known` names.

    Raises:
        ValueError: it is not; the message lists the known ones and the nearest spelling.
    """
    options = list(known)
    if isinstance(value, str) and value in options:
        return value
    raise ValueError(f"{name} {value!r} is not known{nearest(str(value), options)}; known: {', '.join(options)}")


def nearest(value: str, options: Iterable[str]) -> str:
    """', did you mean ...?' or nothing."""
    close = difflib.get_close_matches(value.lower(), list(options), n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""

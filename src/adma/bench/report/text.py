"""Text from the user's disk made fit to show, and files written whole."""

from __future__ import annotations

_KEPT = " \n\t\u200c\u200d"  # joiners are part of words in Persian and of emoji


def printable(text: str) -> str:
    """The text with control, direction-changing and undecodable characters written as escapes.

    A file name may hold any of them: they would move the terminal's cursor, reorder a line or break UTF-8.
    """
    return "".join(c if c.isprintable() or c in _KEPT else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """The text made printable, every run of white space one blank."""
    return " ".join(printable(text).split())

"""The options of the command `adma`, and what each word may be; `cli` runs what they name."""

from adma.options.commands import parser

__all__ = ["parser"]

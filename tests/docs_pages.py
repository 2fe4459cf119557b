"""What the documents hold: their blocks of code and their inline code, each with its page and line.

A comment before a block says what the tests do with it, in the page's source for everyone to see:

    <!-- not run: needs a GPU -->       the next block is not run, for this reason
    <!-- run in the tests -->           the commands of the next block are really run, in order, in one folder
    <!-- before it: CODE -->            what the reader has already, run before the next block of Python
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
_COMMENT = re.compile(r"<!--\s*(not run|run in the tests|before it)(?::\s*(.*?))?\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code. language: "" for an indented one."""

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""
    run: bool = False
    before: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    """blocks, and inline code with its line, in order."""

    name: str
    source: str
    blocks: tuple[Block, ...]
    inline: tuple[tuple[int, str], ...]


def read(name: str, source: str) -> Page:
    """A page of Markdown, taken apart.

    Raises:
        ValueError: a comment for a block has no block after it, or no reason.
    """
    blocks: list[Block] = []
    inline: list[tuple[int, str]] = []
    told: dict[str, str] = {}
    for token in MarkdownIt("commonmark").enable("table").parse(source):
        line = (token.map or [0])[0] + 1
        if token.type == "html_block":
            for kind, words in _COMMENT.findall(token.content):
                if not words and kind != "run in the tests":
                    raise ValueError(f"{name}:{line}: <!-- {kind}: ... --> needs its words")
                told[kind] = words
        elif token.type in ("fence", "code_block"):
            language = token.info.split()[0] if token.info else ""
            block = Block(name, line, language, token.content, told.get("not run", ""), "run in the tests" in told)
            blocks.append(replace(block, before=told.get("before it", "")))
            told = {}
        elif told and token.type in ("heading_open", "paragraph_open"):
            raise ValueError(f"{name}:{line}: no block of code follows <!-- {next(iter(told))} -->")
        inline += [(line, c.content) for c in token.children or [] if c.type == "code_inline"]
    if told:
        raise ValueError(f"{name}: no block of code follows <!-- {next(iter(told))} -->")
    return Page(name, source, tuple(blocks), tuple(inline))


def written() -> list[Page]:
    """The pages that lie in the repository."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    paths += [path for path in [ROOT / "CONTRIBUTING.md"] if path.exists()]
    return [read(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]

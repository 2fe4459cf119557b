"""The page of the benchmarks: the read-me's table and text of speed, and the list of the stored tables."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

HEAD = """# Benchmarks

Speed and memory, as stored in `benchmarks/results`; each table's first lines name the machine and the versions.
Accuracy is on the pages of the [audit](audit.md), [label noise](label_noise.md), [learning](learning.md) and
[posteriors](posteriors.md).

"""


def page() -> str:
    """The page in Markdown.

    Raises:
        ValueError: the read-me has no such part any more.
    """
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- speed:.*?-->\n(.*?)<!-- end of speed -->\n(.*?)\n## ", readme, flags=re.DOTALL)
    if found is None:
        raise ValueError("README.md has no part between <!-- speed: ... --> and <!-- end of speed -->")
    rows = [
        f"| `benchmarks/results/{path.name}` | {_first(path)} |"
        for path in sorted((ROOT / "benchmarks/results").glob("*.csv"), reverse=True)
    ]
    tables = "\n".join(["## The stored tables", "", "| table | made with |", "|---|---|", *rows, ""])
    return HEAD + found[1] + found[2] + "\n" + tables


def _first(path: Path) -> str:
    """A table's first line of comment, which says what it was made with."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").replace("|", "\\|") if first.startswith("#") else ""

"""What the site adds to mkdocs: pages made from the library, formulas as MathML, links to files of the repository."""

from __future__ import annotations

import html
import os
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# the checkout's own library, whatever is installed; mkdocs may load this file more than once
sys.path[:0] = [path for path in (str(ROOT / "src"), str(Path(__file__).parent)) if path not in sys.path]
os.environ.setdefault("KERAS_BACKEND", "torch")  # to import adma.keras; the one that is there in any case


import command_line  # noqa: E402
import explorer  # noqa: E402
import losses  # noqa: E402
import speed  # noqa: E402

LOSSES = "losses/"  # in the navigation: where the pages of the losses go
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def generated() -> dict[str, str]:
    """Path -> Markdown of the pages that are made when the site is built."""
    pages = {**losses.pages(), "api/command_line.md": command_line.page(), "benchmarks.md": speed.page()}
    for name, path in (("changelog.md", "CHANGELOG.md"), ("contributing.md", "CONTRIBUTING.md")):
        pages[name] = (ROOT / path).read_text(encoding="utf-8")
    return pages


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the losses into the navigation, in the registry's order."""
    names = [f"losses/{name}.md" for name in losses.known()]

    def filled(entry: Any) -> Any:
        if isinstance(entry, dict):
            return {title: filled(below) for title, below in entry.items()}
        if isinstance(entry, list):
            return [new for item in entry for new in (names if item == LOSSES else [filled(item)])]
        return entry

    config.nav = filled(config.nav)
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for path, text in generated().items():
        files.append(File.generated(config, path, content=text))
    for path in sorted((ROOT / "benchmarks/results").glob("*.png")):
        files.append(File.generated(config, f"benchmarks/results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: MkDocsConfig, files: Files) -> str:
    """`docs/learning.md` in a text becomes a link to that page; the page of curves is told the members."""
    if page.file.src_uri == "curves.md":
        markdown = markdown.replace("MEMBERS", html.escape(explorer.members()))
    depth = "../" * page.file.src_uri.count("/")

    def link(match: re.Match[str]) -> str:
        path = f"{match[1]}.md"
        return f"[{match[1].replace('_', ' ')}]({depth}{path})" if files.get_file_from_path(path) else match[0]

    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [re.sub(r"(?<!\[)`docs/([\w/]+)\.md`", link, part) for part in parts[::2]]  # not in blocks of code
    return "".join(parts)


def on_page_content(content: str, **_: Any) -> str:
    """Formulas as MathML, which a browser draws by itself: no script, no font from elsewhere."""
    return _FORMULA.sub(
        lambda m: convert(html.unescape(m[2]).strip(), display="block" if m[1] == "div" else "inline"), content
    )

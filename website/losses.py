"""The page of each registered loss, and their list: made from the registry, so that none can be missing."""

from __future__ import annotations

import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np

import curves
from adma import make_loss
from adma.family import Loss, Member
from adma.spec import known

ROOT = Path(__file__).resolve().parents[1]
NOTES = Path(__file__).parent / "notes"
PARTS = ("When", "Source")


class MissingNoteError(Exception):
    """A registered loss has no note, or one without a part that every page has."""


def note(name: str) -> tuple[str, str, dict[str, str]]:
    """The written part of a page: its title, its formula, its sections.

    Raises:
        MissingNoteError: it is not there, or has no formula, no "When" or no "Source".
    """
    path = NOTES / f"{name}.md"
    if not path.exists():
        raise MissingNoteError(f"the loss {name!r} is registered but has no page: write {path.relative_to(ROOT)}")
    head, *rest = re.split(r"^## (.+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    title, _, formula = head.partition("\n")
    sections = {title: text.strip() for title, text in zip(rest[::2], rest[1::2], strict=True)}
    if "$$" not in formula or not all(sections.get(part) for part in PARTS):
        raise MissingNoteError(f"{path.relative_to(ROOT)} needs a formula in $$, and the sections {', '.join(PARTS)}")
    return title.removeprefix("# ").strip(), formula.strip(), sections


def page(name: str) -> str:
    """The page of a loss, in Markdown.

    Raises:
        KeyError: no loss of this name is registered.
        MissingNoteError: as `note`.
    """
    cls = known()[name]
    title, formula, sections = note(name)
    loss = cls()
    module = type(make_loss(loss)).__name__
    kind = "a member of the family" if isinstance(loss, Member) else "outside the family"
    aliases = f", also {', '.join(f'`{a}`' for a in cls.aliases)}" if cls.aliases else ""
    parts = [
        f"# {title}",
        f"`{curves.label(loss)}`{aliases}; `adma.{module}`; {kind}.",
        formula,
        curves.picture(cls),
        "## When to use it",
        sections["When"],
        measured(name),
        "## Parameters",
        parameters(cls),
        "## In numbers",
        numbers(loss),
        "## Use it",
        sections.get("Use") or usage(name),
        f"    adma compare digits --loss cce --loss {name}",
        "## Where it comes from",
        sections["Source"],
        f"Full signature: [`adma.{module}`](../api/losses.md#adma.{module}).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def parameters(cls: type[Loss]) -> str:
    """A table: parameter, default, what it is, what a search tries."""
    words = _words(cls)
    rows = []
    for f in fields(cls):
        reach = cls.space.get(f.name)
        searched = "" if reach is None else f"{reach.low:g} to {reach.high:g}" + (", log" if reach.log else "")
        if reach is not None and reach.optional:
            searched += ", when asked for"
        default = "true" if f.default is True else "false" if f.default is False else curves._short(str(f.default))
        rows.append(f"| `{f.name}` | {default} | {words.get(f.name, '')} | {searched} |")
    if not rows:
        return "It has none."
    return "\n".join(["| parameter | default | what it is | searched by `adma tune` |", "|---|---|---|---|", *rows])


def _words(cls: type[Loss]) -> dict[str, str]:
    """Parameter -> its words in the class's docstring, or in that of a class it derives from."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        args = (base.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
        for key, words in re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", args, flags=re.MULTILINE):
            found[key] = " ".join(words.split()).replace("|", "\\|")
    return found


def numbers(loss: Loss) -> str:
    """Values at some p, and the limits; of a loss outside the family its values along the picture's path."""
    p = np.array([0.01, 0.1, 0.5, 0.9, 0.99])
    head = "| p | " + " | ".join(f"{v:g}" for v in p) + " |\n|---|" + "---|" * len(p)
    told = loss.no_posterior
    posterior = f"No class probabilities can be recovered: {told}." if told else (
        "Class probabilities can be recovered: `loss_fn.posterior(logits)` ([posteriors](../posteriors.md))."
    )  # fmt: skip
    if isinstance(loss, Member):
        t = -np.log(p)
        top = "no bound" if np.isinf(loss.supremum) else f"{loss.supremum:.4g}"
        facts = (
            f"Largest value: {top}. Slope at p = 1: {loss.slope_at_zero:.4g}. "
            f"Convex in p: {'yes' if loss.convex else 'no'}. {posterior}"
        )
        rows = [("loss", loss.psi(t, np)), ("slope", loss.slope(t, np))]
    elif loss.name == "l_softmax":
        return posterior
    else:
        facts = f"True class of {curves.CLASSES}, the others equal. {posterior}"
        rows = [("loss", curves.along(loss, p))]
    body = "\n".join(f"| {name} | " + " | ".join(f"{v:.4g}" for v in np.asarray(row)) + " |" for name, row in rows)
    return f"`{curves.label(loss)}`:\n\n{head}\n{body}\n\n{facts}"


def usage(name: str) -> str:
    spec = curves.label(known()[name]())
    return (
        "```python\nimport torch, adma\n\n"
        f'loss_fn = adma.make_loss("{spec}")  # in the place of nn.CrossEntropyLoss()\n'
        "logits, target = torch.randn(8, 10, requires_grad=True), torch.randint(10, (8,))\n"
        "loss_fn(logits, target).backward()\n```"
    )


@cache
def _searched() -> list[tuple[str, dict[str, str]]]:
    """The conditions of docs/label_noise.md with the row of each loss."""
    text = (ROOT / "docs/label_noise.md").read_text(encoding="utf-8")
    found = []
    for condition, table in re.findall(r"^\*\*(.+?)\*\*\n(.*?)(?=^\*\*|\Z)", text, flags=re.MULTILINE | re.DOTALL):
        rows = {m[1]: m[0] for m in re.finditer(r"^\| ([\w:=]+) \| .*\|$", table, flags=re.MULTILINE) if m[1] != "loss"}
        found.append((condition, rows))
    return found


def measured(name: str) -> str:
    """What the search of docs/label_noise.md found for a loss, condition by condition; empty where it was not run."""
    rows = [
        f"| {condition} {rows[loss]}"
        for condition, rows in _searched()
        for loss in (name, f"{name}:a=learn")
        if loss in rows
    ]
    if not rows:
        return ""
    return "\n".join(
        [
            "What a search of 15 trials found, on 5 fresh seeds ([how, and the other losses](../label_noise.md)):",
            "",
            "| data | loss | chosen | trials | test accuracy % | minus cce, points |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def index() -> str:
    """The list of all losses."""
    rows = []
    for name, cls in known().items():
        title, formula, _ = note(name)
        first = re.search(r"\$\$(.+?)\$\$", formula, flags=re.DOTALL)
        assert first is not None
        math = " ".join(first[1].split(r"\qquad")[0].strip().rstrip(",").split()).replace("|", r"\vert ")
        rows.append(f"| [{title}]({name}.md) | `{curves.label(cls())}` | ${math}$ |")
    return "\n".join(
        [
            "# The losses",
            "",
            "$p$ is the true class's softmax probability, $t = -\\log p$ its negative log-likelihood, $s$ the softmax,",
            "$y$ the target. A member of the family is a function $\\psi(t)$ of it alone; its slope $\\psi'(t)$ is a",
            "sample's weight relative to cross-entropy ([theory](../theory.md)). Move their shapes on",
            "[one page](../curves.md), or read [which to use](../which_loss.md). A loss of your own takes",
            "[two functions](../howto/add_a_loss.md).",
            "",
            "| loss | spec | formula |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def pages() -> dict[str, str]:
    """Path in the documents -> Markdown, of all generated pages of losses."""
    return {"losses/index.md": index(), **{f"losses/{name}.md": page(name) for name in known()}}

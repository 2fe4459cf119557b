"""From a results folder of `adma compare` on dense targets to a table of runs, and from that to a page."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pages
from adma.bench.folder import Folder
from adma.bench.loss_specs import canonical_loss
from adma.bench.result import DONE
from adma.bench.statistics import estimate, judge

HERE = Path(__file__).parent
RESULTS = pages.RESULTS / "2026-11-27-cpu"
BASELINE = "cce"
# a column -> heading, scale, digits
_SHOWN = {
    "test_mean_iou": ("mean IoU %", 100, 2),
    "test_accuracy": ("accuracy %", 100, 2),
    "test_nll": ("NLL of the softmax", 1, 3),
    "test_nll_posterior": ("NLL of the posterior", 1, 3),
}
_ROPE = 0.2  # points of the first column that are of no account


@dataclass(frozen=True)
class Table:
    """What is kept of a study's runs.

    columns: measures after the last epoch; the first one has verdicts.
    page: of docs/ that shows them.
    classes: whose IoU is kept too.
    """

    name: str
    columns: tuple[str, ...]
    page: str
    classes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return RESULTS / f"{self.name}.csv"

    @property
    def command(self) -> str:
        """What writes the page's tables."""
        return f"python studies/{self.name}.py docs"


def collect(table: Table, out: Path) -> None:
    """Every finished run of a folder as a line, and beside the table the machine that made it."""
    results = Folder(out).results()
    rows = []
    for cell in results.cells:
        if cell.status != DONE:
            print(f"{cell.cell.loss}, seed {cell.cell.seed}: {cell.status} {cell.reason}")
            continue
        counts = cell.env["conditions"]["class_counts"]
        rows.append(
            {"loss": cell.cell.loss, "seed": cell.cell.seed}
            | {name: f"{cell.final(name):.6g}" for name in table.columns}
            | {f"iou {name}": _written(cell.env["iou"]["test"][k]) for k, name in enumerate(table.classes)}
            | {f"share {name}": f"{counts[k] / sum(counts):.6g}" for k, name in enumerate(table.classes)}
            | {"seconds": f"{cell.seconds:.1f}"}
        )
    pages.write(table.path, list(rows[0]), rows)
    machine = {key: results.cells[0].env[key] for key in ("versions", "hardware", "threads")}
    table.path.with_suffix(".json").write_text(json.dumps(machine, indent=1, sort_keys=True) + "\n")
    print(f"{table.path}: {len(rows)} runs")


def _written(iou: float | None) -> str:
    return "nan" if iou is None else f"{iou:.6g}"


def ran(table: Table, losses: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the losses that the table has, as they are given to the command."""
    there = {row["loss"] for row in pages.read(table.path)}
    return tuple(loss for loss in losses if canonical_loss(loss) in there)


def markdown(table: Table, command: str) -> str:
    """The command, a row a loss with its difference to the baseline seed by seed and the verdict, a row a class."""
    rows = pages.read(table.path)
    first, *others = table.columns
    of = {loss: pages.values(rows, first, 100, loss=loss) for loss in dict.fromkeys(row["loss"] for row in rows)}
    ranked = sorted(of, key=lambda loss: -pages.mean(of[loss]).mean)
    apart = {loss: _paired(of[loss], of[BASELINE]) for loss in of if loss != BASELINE}
    judged = judge(apart, rope=_ROPE, level=pages.LEVEL)
    lines = [f"`{command}`", ""]
    headings = ["loss", "n", _SHOWN[first][0], f"minus {BASELINE}, points", "verdict", *(_SHOWN[o][0] for o in others)]
    lines += [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for loss in ranked:
        cells = [f"`{loss}`", str(len(of[loss])), pages.words(pages.mean(of[loss]))]
        if loss in apart:
            cells += [pages.difference(estimate(apart[loss], pages.LEVEL)), judged[loss].verdict]
        else:
            cells += ["", "baseline"]
        for name in others:
            _, scale, digits = _SHOWN[name]
            found = pages.mean(pages.values(rows, name, scale, loss=loss))
            cells.append("none" if math.isnan(found.mean) else pages.words(found, digits))
        lines.append(f"| {' | '.join(cells)} |")
    if table.classes:
        lines += ["", "IoU of each class, per cent:", ""]
        lines.append(f"| class | share of the training pixels % | {' | '.join(f'`{loss}`' for loss in ranked)} |")
        lines.append("|---" * (2 + len(ranked)) + "|")
        for name in table.classes:
            share = pages.mean(pages.values(rows, f"share {name}", 100))
            cells = [pages.words(pages.mean(pages.values(rows, f"iou {name}", 100, loss=loss)), 1) for loss in ranked]
            lines.append(f"| {name} | {share.mean:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _paired(left: Mapping[str, float], right: Mapping[str, float]) -> list[float]:
    return [left[seed] - right[seed] for seed in left if seed in right]


def show(table: Table, command: str, *, write: bool) -> None:
    """The tables, printed or put below their mark in the page."""
    text = markdown(table, command)
    if write:
        pages.put(pages.DOCS / table.page, table.command, text)
    else:
        print(text)


def main(description: str | None, table: Table, losses: tuple[str, ...], command: Callable[..., list[str]]) -> None:
    """The verbs run, collect and docs of a study.

    Args:
        description: of the study, for --help.
        losses: that it compares.
        command: from some of them to the words of an `adma compare` that is given in studies/.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running, collecting = verbs.add_parser("run"), verbs.add_parser("collect")
    for verb in (running, collecting):
        verb.add_argument("--out", type=Path, default=Path(f"adma-runs/{table.name}"))
    running.add_argument("--without", action="append", default=[], metavar="LOSS", help="leave a loss out")
    verbs.add_parser("docs").add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.verb == "run":
        some = tuple(loss for loss in losses if loss not in options.without)
        words = [*command(some), "--out", str(options.out.resolve())]
        print(shlex.join(words), flush=True)
        sys.exit(subprocess.run([sys.executable, "-m", "adma.cli", *words[1:]], cwd=HERE, check=False).returncode)
    elif options.verb == "collect":
        collect(table, options.out)
    else:
        show(table, shlex.join(command(ran(table, losses))), write=options.write)

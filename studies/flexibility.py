"""What a flexible shape is worth: learned, searched and fixed losses side by side, under label noise and imbalance.

    python studies/flexibility.py run learn losses     # hours; what is done is kept, so it can be stopped at any time
    python studies/flexibility.py collect              # from the runs to the tables in studies/results/
    python studies/flexibility.py docs --write         # from the tables to the pages in docs/

Every condition is one `adma tune`: each loss is given the same number of trials (3 seeds each) on the validation part,
and what it chose is trained again with 5 fresh seeds and measured on the test part. A loss without anything to search
has one trial. All losses of a seed share split, labels, initial weights and batch order, so differences are paired.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pages
from adma.bench.result import DONE
from adma.bench.store import Store
from adma.bench.study import Cell, Setting

RESULTS = pages.RESULTS / "2026-11-26-cpu"


@dataclass(frozen=True)
class Condition:
    """One data set, network and flaw of the training labels."""

    name: str
    data: str
    options: str
    trials: int | None = None


@dataclass(frozen=True)
class Plan:
    """The same losses under several conditions.

    page: of docs/ that shows them.
    reference: what the others are compared with, by its name in `losses`.
    trials: of each loss's search, unless a condition says otherwise.
    """

    losses: tuple[str, ...]
    options: str
    page: str
    reference: str
    trials: int = 30
    conditions: tuple[Condition, ...] = field(default=())


_DIGITS = "--model mlp --epochs 15"
_FASHION = "--model mlp --epochs 15 --train-size 2000 --eval-size 2000 --val-fraction 0.05"
_CIFAR = "--model mlp --epochs 15 --train-size 2000 --eval-size 2000"
_SMALL = "--model convnet --epochs 10 --train-size 1000 --eval-size 1000"  # what a CPU can pay, at half the side
_NOISE = {
    "clean": "",
    "20% symmetric": "--label-noise 0.2",
    "40% symmetric": "--label-noise 0.4",
    "60% symmetric": "--label-noise 0.6",
    "20% pair-flip": "--label-noise 0.2:pair",
    "40% pair-flip": "--label-noise 0.4:pair",
}


def _noise(data: str, name: str, options: str, *kinds: str) -> tuple[Condition, ...]:
    return tuple(Condition(f"{name}, {kind}", data, f"{options} {_NOISE[kind]}".strip()) for kind in kinds)


PLANS = {
    "learn": Plan(
        losses=("cce", "adma:a=0.26", "adma:a=learn", "adma"),
        options="--lr 0.001",
        page="learning.md",
        reference="adma",
        conditions=(
            *_noise("digits", "digits, MLP", _DIGITS, *_NOISE),
            Condition("digits, MLP, imbalance 20", "digits", f"{_DIGITS} --imbalance 20"),
            Condition("digits, MLP, 200 samples", "digits", f"{_DIGITS} --train-size 200"),
            *_noise("digits", "digits, ConvNet", "--epochs 8", "clean", "40% symmetric"),
            *_noise("fashion_mnist", "Fashion-MNIST, MLP", _FASHION, "40% symmetric", "clean", "40% pair-flip"),
            *_noise("cifar10", "CIFAR-10, MLP", _CIFAR, "40% symmetric", "clean"),
            *_noise("fashion_mnist", "Fashion-MNIST, MLP", _FASHION, "20% symmetric", "60% symmetric", "20% pair-flip"),
            Condition("Fashion-MNIST, MLP, imbalance 50", "fashion_mnist", f"{_FASHION} --imbalance 50"),
            Condition(
                "Fashion-MNIST, MLP, 500 samples", "fashion_mnist", _FASHION.replace("2000 --eval", "500 --eval")
            ),
            *_noise("cifar10", "CIFAR-10, MLP", _CIFAR, "20% symmetric", "60% symmetric", "40% pair-flip"),
            *_noise("fashion_mnist", "Fashion-MNIST, ConvNet", f"{_SMALL} --image-size 14x14 --val-fraction 0.05",
                    "40% symmetric"),
            *_noise("cifar10", "CIFAR-10, ConvNet", f"{_SMALL} --image-size 16x16", "40% symmetric"),
        ),
    ),
    "losses": Plan(
        losses=(
            "cce", "smoothed_cce", "focal", "poly1", "mae", "mse", "gce", "taylor", "agce", "aue", "aexp", "sce",
            "nce_rce", "bi_tempered", "adma", "adma:a=learn",
        ),
        options="",
        page="label_noise.md",
        reference="cce",
        trials=15,
        conditions=(
            *_noise("digits", "digits, MLP", _DIGITS, "40% symmetric", "40% pair-flip", "clean"),
            *_noise("fashion_mnist", "Fashion-MNIST, MLP", _FASHION, "40% symmetric"),
        ),
    ),
}  # fmt: skip


def command(plan: Plan, condition: Condition, root: Path) -> list[str]:
    """The whole `adma tune` of a condition."""
    words = ["adma", "tune", condition.data, *shlex.split(condition.options), *shlex.split(plan.options)]
    for loss in plan.losses:
        words += ["--loss", loss]
    folder = "".join(c if c.isalnum() else "-" for c in condition.name.lower()).replace("--", "-")
    return [
        *words,
        "--trials",
        str(condition.trials or plan.trials),
        "--seeds",
        "3",
        "--final-seeds",
        "5",
        "--out",
        str(root / folder),
    ]


def run(names: list[str], root: Path, only: str) -> None:
    """Every condition of the plans, in their order."""
    for name in names:
        for condition in PLANS[name].conditions:
            if only in condition.name:
                words = command(PLANS[name], condition, root / name)
                print(shlex.join(words), flush=True)
                subprocess.run([sys.executable, "-m", "adma.cli", *words[1:]], check=False)


_COLUMNS = ("condition", "loss", "spec", "lr", "trials", "seed", "val_search", "val_accuracy", "test_accuracy")


def collect(root: Path) -> None:
    """The runs with fresh seeds of every condition that is done, as one table a plan.

    Conditions that the table has and the folder has not are kept: not every machine runs them all.
    """
    for name, plan in PLANS.items():
        kept: dict[str, list[dict[str, object]]] = {}
        for row in pages.read(_table(name)):
            kept.setdefault(row["condition"], []).append(dict(row))
        for condition in plan.conditions:
            found = list(_rows(plan, condition, root / name))
            if found:
                kept[condition.name] = found
        rows = [row for condition in plan.conditions for row in kept.get(condition.name, [])]
        if rows:
            pages.write(_table(name), _COLUMNS, rows)
            print(f"{name}: {len(rows)} runs of {len({row['condition'] for row in rows})} conditions")


def _table(name: str) -> Path:
    return RESULTS / f"flexibility-{name}.csv"


def _rows(plan: Plan, condition: Condition, root: Path) -> Iterator[dict[str, object]]:
    folder = Path(command(plan, condition, root)[-1])
    if not (folder / "trials.csv").is_file():
        return
    header = json.loads((folder / "tune.json").read_text())
    setting, store = Setting(**header["setting"]), Store(folder)
    lines = [line for line in (folder / "trials.csv").read_text().splitlines() if not line.startswith("#")]
    trials = list(csv.DictReader(lines))
    fresh = range(3, 3 + header["final_seeds"])
    for trial in trials:
        if not trial["winner"]:
            continue
        cells = [Cell(replace(setting, lr=float(trial["lr"])), trial["spec"], seed) for seed in fresh]
        for cell in cells:
            found = store.read(cell)
            if found.status == DONE:
                yield {
                    "condition": condition.name,
                    "loss": trial["loss"],
                    "spec": trial["spec"],
                    "lr": trial["lr"],
                    "trials": sum(t["loss"] == trial["loss"] for t in trials),
                    "seed": cell.seed,
                    "val_search": f"{float(trial['val_accuracy']):.6g}",
                    "val_accuracy": f"{found.final('val_accuracy'):.6g}",
                    "test_accuracy": f"{found.final('test_accuracy'):.6g}",
                }


def tables(name: str) -> str:
    """The conditions of a plan as Markdown: test accuracy, and the difference to the reference, seed by seed."""
    plan, rows = PLANS[name], pages.read(_table(name))
    lines = []
    for condition in plan.conditions:
        of = {loss: [r for r in rows if (r["condition"], r["loss"]) == (condition.name, loss)] for loss in plan.losses}
        of = {loss: found for loss, found in of.items() if found}
        if plan.reference not in of:
            continue
        values = {loss: {r["seed"]: 100 * float(r["test_accuracy"]) for r in found} for loss, found in of.items()}
        lines += ["", f"**{condition.name}**", "", f"`{shlex.join(command(plan, condition, Path('DIR'))[:-2])}`", ""]
        lines += [
            f"| loss | chosen | trials | test accuracy % | minus {plan.reference}, points |",
            "|---|---|---|---|---|",
        ]
        order = sorted(of, key=lambda loss: -pages.mean(values[loss]).mean)
        for loss in order:
            first = of[loss][0]
            difference = ""
            if loss != plan.reference:
                difference = pages.difference(pages.minus(values[loss], values[plan.reference]))
            chosen = f"{first['spec']}, rate {float(first['lr']):.2g}"
            lines.append(
                f"| {loss} | {chosen} | {first['trials']} | {pages.words(pages.mean(values[loss]))} | {difference} |"
            )
    return "\n".join(lines) + "\n"


def docs(write: bool) -> None:
    """The tables, printed or put below their mark in the pages."""
    for name, plan in PLANS.items():
        if not pages.read(_table(name)):
            continue
        if write:
            pages.put(pages.DOCS / plan.page, f"python studies/flexibility.py docs, {name}", tables(name))
        else:
            print(tables(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run")
    running.add_argument("names", nargs="+", choices=tuple(PLANS))
    running.add_argument("--only", default="", help="conditions whose name holds this text")
    for verb in (running, verbs.add_parser("collect")):
        verb.add_argument("--out", type=Path, default=Path("adma-runs/flexibility"))
    verbs.add_parser("docs").add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.verb == "run":
        run(options.names, options.out, options.only)
    elif options.verb == "collect":
        collect(options.out)
    else:
        docs(options.write)


if __name__ == "__main__":
    main()

"""The evidence of docs/audit.md, computed again from the result tables in studies/results/.

    python studies/audit.py            # prints the evidence as Markdown
    python studies/audit.py --write    # puts it into docs/audit.md, below its mark

Every number is a mean over seeds of a difference that is paired by seed, in points of accuracy, with the half width
of its 95% t-interval and the number of seeds. "*" marks an interval without 0; none of them is corrected for the
number of comparisons on this page: of a hundred true zeros, five would be marked.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from adma.bench.printed import DATASET_TITLES, PRINTED
from adma.bench.statistics import Estimate, estimate
from pages import minus

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "audit.md"
MARK = "<!-- below: python studies/audit.py --write -->"
Run = dict[str, str]


def lines_of(name: str) -> list[str]:
    """NAME-runs.csv of one study, wherever it was run."""
    (path,) = RESULTS.glob(f"*/{name}-runs.csv")
    return path.read_text(encoding="utf-8").splitlines()


def runs(name: str) -> list[Run]:
    """The runs of one study."""
    lines = lines_of(name)
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def command(name: str) -> str:
    return lines_of(name)[0].removeprefix("# command: ")


def values(of: Iterable[Run], loss: Callable[[str], bool], measure: str, **where: str) -> dict[str, float]:
    """Seed -> measure, of the one loss that is meant."""
    found = {}
    for run in of:
        if loss(run["loss"]) and run[measure] and all(run[k] == v for k, v in where.items()):
            assert run["seed"] not in found, f"two runs of {run['entry']}, seed {run['seed']}"
            found[run["seed"]] = float(run[measure])
    return found


def adma(loss: str) -> bool:
    return loss.startswith("adma:")


def only(name: str) -> Callable[[str], bool]:
    return lambda loss: loss == name


def words(e: Estimate) -> str:
    """`+0.12 ± 0.34 (5)`, with * if the interval excludes 0; a dash without a number."""
    if e.n == 0:
        return "–"
    mean = f"{100 * e.mean:+.2f}".replace("-0.00", "+0.00")
    if e.interval is None:
        return f"{mean} ({e.n})"
    mark = r"\*" if e.interval[0] > 0 or e.interval[1] < 0 else ""
    return f"{mean} ± {50 * (e.interval[1] - e.interval[0]):.2f}{mark} ({e.n})"


def over_data(found: Sequence[Estimate]) -> str:
    """The mean over data sets of their mean differences; its interval is over data sets."""
    return words(estimate([e.mean for e in found if e.n], 0.95))


def mean_words(of: dict[str, float]) -> str:
    e = estimate(list(of.values()), 0.95)
    if e.n == 0 or e.interval is None:
        return "–"
    return f"{100 * e.mean:.2f} ± {50 * (e.interval[1] - e.interval[0]):.2f}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *("| " + " | ".join(r) + " |" for r in rows),
        "",
    ]


def entries(of: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run["entry"] for run in of))


def title(entry: str) -> str:
    data, _, variant = entry.partition("/")
    return ", ".join(filter(None, (DATASET_TITLES.get(data, data), variant)))


def commands(*names: str) -> list[str]:
    return [*(f"    {line}" for line in dict.fromkeys(command(n) for n in names)), ""]


def against_cce(heading: str, name: str, losses: Sequence[tuple[str, Callable[[str], bool]]]) -> list[str]:
    """A row an entry: CCE's accuracy, and what each other loss has more."""
    of = runs(name)
    rows = []
    columns: list[list[Estimate]] = [[] for _ in losses]
    for entry in entries(of):
        cce = values(of, only("cce"), "test_accuracy", entry=entry)
        found = [minus(values(of, loss, "test_accuracy", entry=entry), cce) for _, loss in losses]
        rows.append([title(entry), mean_words(cce), *map(words, found)])
        for column, e in zip(columns, found, strict=True):
            column.append(e)
    if all("/" not in entry for entry in entries(of)) and len(rows) > 2:
        rows.append(["over the data sets", "", *map(over_data, columns)])
    return [f"### {heading}", "", *commands(name), *table(["data", "CCE, %", *(label for label, _ in losses)], rows)]


def course(heading: str, names: Sequence[tuple[str, str]]) -> list[str]:
    """A row an entry: what the paper claims of the curves, Adma minus CCE."""
    rows = []
    for label, name in names:
        of = runs(name)
        columns: list[list[Estimate]] = [[], [], [], []]
        for entry in entries(of):
            for column, m in zip(columns, ("first_epoch", "fluctuation", "gap", "auc"), strict=True):
                column.append(minus(values(of, adma, m, entry=entry), values(of, only("cce"), m, entry=entry)))
            rows.append([f"{label}, {title(entry)}", *(words(column[-1]) for column in columns)])
        if len(columns[0]) > 2:
            rows.append([f"{label}, over the data sets", *map(over_data, columns)])
    heads = ["Adma minus CCE", "first epoch", "fluctuation", "train minus val", "mean over epochs"]
    return [f"### {heading}", "", *commands(*(n for _, n in names)), *table(heads, rows)]


def between(heading: str, name: str, high: str, low: str) -> list[str]:
    """How much two variants differ, loss by loss, and how much Adma's lead over CCE differs."""
    of = runs(name)
    data = of[0]["data"]
    parts = {
        loss: [values(of, test, "test_accuracy", entry=f"{data}/{v}") for v in (high, low)]
        for loss, test in (("CCE", only("cce")), ("Adma", adma))
    }
    rows = [[loss, mean_words(a), mean_words(b), words(minus(a, b))] for loss, (a, b) in parts.items()]
    leads = [{s: parts["Adma"][i][s] - parts["CCE"][i][s] for s in parts["CCE"][i]} for i in (0, 1)]
    rows.append(
        ["Adma minus CCE", *(words(estimate(list(lead.values()), 0.95)) for lead in leads), words(minus(*leads))]
    )
    return [f"### {heading}", "", *commands(name), *table([title(data), high, low, "difference"], rows)]


def shares(heading: str, names: Sequence[str]) -> list[str]:
    """Adma minus CCE at each share, and what each loses from the largest share to the smallest."""
    of = [run for name in names for run in runs(name)]
    rows = []
    for entry in entries(of):
        a, c = (values(of, test, "test_accuracy", entry=entry) for test in (adma, only("cce")))
        ta, tc = (values(of, test, "train_accuracy", entry=entry) for test in (adma, only("cce")))
        rows.append([title(entry), mean_words(c), mean_words(a), words(minus(a, c)), words(minus(ta, tc))])
    lost = []
    for data in dict.fromkeys(r["data"] for r in of):
        drops = []
        for test in (adma, only("cce")):
            high, low = (values(of, test, "test_accuracy", entry=f"{data}/share_{s}") for s in ("0.80", "0.60"))
            drops.append({seed: high[seed] - low[seed] for seed in high})
        lost.append([title(data), *(words(estimate(list(d.values()), 0.95)) for d in drops), words(minus(*drops))])
    return [
        f"### {heading}",
        "",
        *commands(*names),
        *table(["data, share", "CCE, %", "Adma, %", "Adma minus CCE", "the same, training accuracy"], rows),
        *table(["lost from 0.80 to 0.60", "Adma", "CCE", "difference"], lost),
    ]


def tuning(heading: str, names: Sequence[str]) -> list[str]:
    """Accuracy of every a, which one each rule takes, and what tuning on the reported part adds."""
    found = [f"### {heading}", "", *commands(*names)]
    for name in names:
        of = runs(name)
        cce = values(of, only("cce"), "test_accuracy")
        specs = sorted({r["loss"] for r in of if adma(r["loss"])}, key=lambda s: float(s.partition("a=")[2]))
        rows = []
        for spec in specs:
            val, test = (values(of, only(spec), m) for m in ("val_accuracy", "test_accuracy"))
            rows.append([spec, mean_words(val), mean_words(test), words(minus(test, cce))])
        val = {spec: values(of, only(spec), "val_accuracy") for spec in specs}
        test = {spec: values(of, only(spec), "test_accuracy") for spec in specs}
        best = max(specs, key=lambda s: sum(test[s].values()))
        order = list(dict.fromkeys(r["loss"] for r in of if adma(r["loss"])))
        clean = {s: test[max(order, key=lambda spec: val[spec][s])][s] for s in cce}
        cost = {s: test[best][s] - clean[s] for s in cce}
        rows.append(["chosen on validation", "", mean_words(clean), words(minus(clean, cce))])
        rows.append([f"chosen on test: {best}", "", mean_words(test[best]), words(minus(test[best], cce))])
        rows.append(["tuning on test adds", "", "", words(estimate(list(cost.values()), 0.95))])
        found += table([f"{title(of[0]['entry'])}, {name}", "validation, %", "test, %", "minus CCE"], rows)
    return found


def printed_tables() -> list[str]:
    """What the paper's own numbers say: Adma minus each other loss, over its eight data sets."""
    rows = []
    for number, of in PRINTED.items():
        cells = [
            words(estimate([(r.adma - r.accuracy(role)) / 100 for r in of.values()], 0.95))
            for role in ("cce", "squared_hinge", "mse")
        ]
        wins = sum(r.adma > r.cce for r in of.values())
        mean_a = math.fsum(r.a for r in of.values()) / len(of)
        rows.append([f"Table {number}", *cells, f"{wins} of {len(of)}", f"{mean_a:.4f}"])
    higher = [sum(PRINTED[sgd][d].a > PRINTED[adam][d].a for d in PRINTED[1]) for adam, sgd in ((1, 2), (3, 4))]
    heads = [
        "printed, over data sets",
        "Adma minus CCE",
        "minus squared hinge",
        "minus MSE",
        "Adma above CCE",
        "mean a",
    ]
    return [
        "### The printed tables", "", *table(heads, rows),
        f"SGD's a above Adam's: {higher[0]} of 8 data sets with L2, {higher[1]} of 8 without.", "",
    ]  # fmt: skip


def first_steps(heading: str, name: str) -> list[str]:
    """CIFAR-100 with SGD: what closes Adma's distance to CCE at a learning rate."""
    found = runs(name)

    def of(variant: str, loss: str) -> dict[str, float]:
        return values(found, only(loss), "test_accuracy", variant=variant)

    plain = "adma:a=0.3071"
    rows = []
    for rate in ("1e-3", "1e-2"):
        base = f"lr_{rate}"
        tried = [
            ("CCE", base, "cce"),
            ("Adma", base, plain),
            ("Adma, normalised", base, f"{plain},normalize=true"),
            ("Adma, scheduled", base, "adma:a=linear/0.01/0.3071,normalize=true"),
            ("Adma, 10.5 times the rate", f"matched_{rate}", plain),
        ]
        for label, variant, loss in tried:
            mine, cce = of(variant, loss), of(base, "cce")
            if mine:
                share = mean_words(mine) if len(mine) > 1 else f"{100 * next(iter(mine.values())):.2f} (1)"
                against = "" if label == "CCE" else words(minus(mine, cce))
                own = "" if label in ("CCE", "Adma") else words(minus(mine, of(base, plain)))
                rows.append([rate, label, share, against, own])
    heads = ["learning rate", "loss", "test accuracy, %", "minus CCE at this rate", "minus Adma as it is"]
    return [f"### {heading}", "", *commands(name), *table(heads, rows)]


def evidence() -> str:
    """The page's second half."""
    four = [
        ("Adma minus CCE", adma),
        ("squared hinge minus CCE", only("squared_hinge")),
        ("MSE minus CCE", only("mse")),
    ]
    lines = [
        "Each number: mean difference in points of accuracy ± half of its 95% t-interval (seeds), paired by seed.",
        r"\* marks an interval without 0, not corrected for the number of comparisons. In a row over the data sets, n",
        "and the interval are of data sets.", "",
        *printed_tables(),
        *against_cce("Table 1, real data, reduced", "tables-table1", four),
        *against_cce("Table 4, real data, reduced", "tables-table4", four[:1]),
        *against_cce("Table 1, digits", "digits-table1", four),
        *against_cce("Table 2, digits", "digits-sgd-table2", four),
        *against_cce("Table 3, digits", "digits-table3", four),
        *against_cce("Table 4, digits", "digits-sgd-table4", four),
        *course("The course of training", [
            ("Table 1", "tables-table1"), ("Table 4", "tables-table4"), ("Table 1", "digits-table1"),
            ("Table 2", "digits-sgd-table2"), ("Table 3", "digits-table3"), ("Table 4", "digits-sgd-table4"),
        ]),
        *shares("The share of training images", ["real-splits", "ham-splits"]),
        *against_cce("The lowered learning rate", "digits-low_lr", four),
        *against_cce("Momentum and annealing", "digits-annealing", four[:1]),
        *against_cce("Activations", "digits-activations", four[:1]),
        *against_cce("Dropout, kernel size and stride", "digits-structure", four[:1]),
        *tuning("Choosing a, and what tuning on test adds", ["digits-table3-clean", "digits-sgd-table4-clean"]),
        *between("Division by lesion and by image", "ham-leak", "by_image", "by_lesion"),
        *between("Rectangular and square images", "ham-shape", "rectangular", "square"),
        *first_steps("CIFAR-100 with SGD: the size of the first steps", "cifar100_sgd"),
        *first_steps("CIFAR-100 with SGD at the higher rate, a smaller training", "cifar100_sgd_small"),
    ]  # fmt: skip
    numbers = itertools.count(1)
    return "\n".join(f"### E{next(numbers)}. {line[4:]}" if line.startswith("### ") else line for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"put it into {PAGE.name}")
    if not parser.parse_args().write:
        print(evidence())
        return
    head, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise SystemExit(f"{PAGE}: the line {MARK!r} is missing")
    PAGE.write_text(f"{head}{MARK}\n\n{evidence()}", encoding="utf-8")


if __name__ == "__main__":
    main()

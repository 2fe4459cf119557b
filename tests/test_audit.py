"""docs/audit.md says what the result tables say."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "studies/results/2026-11-24-cpu"
PAGE = (ROOT / "docs/audit.md").read_text(encoding="utf-8")


def test_the_evidence_on_the_page_is_what_the_tables_give() -> None:
    run = subprocess.run([sys.executable, ROOT / "studies/audit.py"], capture_output=True, text=True, check=True)
    assert PAGE.partition("<!-- below: python studies/audit.py --write -->")[2].strip() == run.stdout.strip()


def test_one_number_of_it_by_another_way() -> None:
    """Table 1 on MNIST: Adma minus CCE, by scipy."""
    text = (RESULTS / "tables-table1-runs.csv").read_text().splitlines()
    found = [r for r in csv.DictReader(line for line in text if line[0] != "#") if r["entry"] == "mnist"]
    adma, cce = (
        np.array([100 * float(r["test_accuracy"]) for r in sorted(found, key=lambda r: r["seed"]) if r["loss"] == loss])
        for loss in ("adma:a=0.2624", "cce")
    )
    low, high = stats.ttest_rel(adma, cce).confidence_interval(0.95)
    words = f"{(adma - cce).mean():+.2f} ± {(high - low) / 2:.2f}"
    section = PAGE.partition("Table 1, real data, reduced")[2].partition("###")[0]
    assert words in section


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(?:(\S+\.py))?::(test_\w+)`", PAGE)
    assert len(named) > 8
    known = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for _, name in named if f"def {name}(" not in known]


def test_every_verdict_is_one_of_four_and_every_command_is_there() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) >= 30
    assert {row.rstrip(" |").rpartition("| ")[2] for row in rows} <= {"holds", "holds in part", "fails", "not decided"}
    assert [int(re.match(r"\| (\d+)", row)[1]) for row in rows] == list(range(1, len(rows) + 1))  # type: ignore[index]
    commands = {p.read_text().splitlines()[0] for p in RESULTS.glob("*-runs.csv")}
    assert all(line.startswith("# command: adma replay ") for line in commands)
    assert not [line for line in commands if "/tmp" in line or "/work" in line]

"""docs/learning.md and docs/label_noise.md say what the result tables say."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "studies/results/2026-11-26-cpu"
PAGES = {"learn": "learning.md", "losses": "label_noise.md"}


@pytest.fixture(scope="module")
def printed() -> str:
    command = [sys.executable, str(ROOT / "studies/flexibility.py"), "docs"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", PAGES)
def test_the_tables_on_the_page_are_what_the_results_give(name: str, printed: str) -> None:
    page = (ROOT / "docs" / PAGES[name]).read_text(encoding="utf-8")
    below = page.partition(f"<!-- computed below: python studies/flexibility.py docs, {name} -->")[2].strip()
    assert below
    assert below in printed


def test_one_number_by_another_way() -> None:
    """Learned against searched on digits with 20% false labels, by scipy."""
    with (RESULTS / "flexibility-learn.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["condition"] == "digits, MLP, 20% symmetric"]
    learned, searched = (
        np.array([100 * float(r["test_accuracy"]) for r in sorted(rows, key=lambda r: r["seed"]) if r["loss"] == loss])
        for loss in ("adma:a=learn", "adma")
    )
    low, high = stats.ttest_rel(learned, searched).confidence_interval(0.95)
    words = f"{(learned - searched).mean():+.2f} ± {(high - low) / 2:.2f}".replace("-", "−")
    section = (
        (ROOT / "docs/learning.md").read_text().partition("**digits, MLP, 20% symmetric**")[2].partition("\n\n**")[0]
    )
    assert words in section


def test_the_commands_on_the_pages_are_commands() -> None:
    from adma.options import parser

    for page in PAGES.values():
        commands = re.findall(r"^`(adma tune .*)`$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
        assert commands
        for command in commands:
            parser().parse_args(command.split()[1:])

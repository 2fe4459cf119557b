"""docs/segmentation.md and docs/tokens.md say what the result tables say; the studies' data and network are as told."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import stats

import char_lm
import pages
import segmentation
from adma.bench.data.arrays import from_mapping
from adma.options import parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"segmentation": "segmentation.md", "char_lm": "tokens.md"}


@pytest.fixture(params=[segmentation, char_lm], ids=list(PAGES))
def study(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def page(study: ModuleType) -> str:
    return (ROOT / "docs" / PAGES[study.__name__]).read_text(encoding="utf-8")


def test_the_table_on_the_page_is_what_the_results_give(study: ModuleType) -> None:
    command = [sys.executable, str(ROOT / "studies" / f"{study.__name__}.py"), "docs"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    below = page(study).partition(pages.MARK.format(study.TABLE.command))[2].strip()
    assert below
    assert below == printed.strip()


def test_one_difference_by_another_way(study: ModuleType) -> None:
    with study.TABLE.path.open() as file:
        rows = list(csv.DictReader(file))
    name = study.TABLE.columns[0]
    ours, base = (
        np.array([100 * float(r[name]) for r in sorted(rows, key=lambda r: r["seed"]) if r["loss"] == loss])
        for loss in ("adma:a=0.5", "cce")
    )
    low, high = stats.ttest_rel(ours, base).confidence_interval(0.95)
    words = f"{(ours - base).mean():+.2f} ± {(high - low) / 2:.2f}".replace("-", "−")
    line = re.search(r"^\| `adma:a=0.5` \|.*$", page(study), re.MULTILINE)
    assert line is not None
    assert words in line[0]


def test_the_command_on_the_page_is_a_command(study: ModuleType) -> None:
    commands = re.findall(r"^`(adma compare .*)`$", page(study), re.MULTILINE)
    assert len(commands) == 1
    options = parser().parse_args(commands[0].split()[1:])
    assert options.seeds == 5
    assert set(options.loss) <= set(study.LOSSES)


def test_shapes_are_the_same_for_a_seed_and_rarer_class_by_class() -> None:
    data = from_mapping("DATA", "shapes", segmentation.shapes())
    assert data.fingerprint == from_mapping("DATA", "shapes", segmentation.shapes()).fingerprint
    shares = np.bincount(data.y.ravel(), minlength=5) / data.y.size
    assert (np.diff(shares) < 0).all()
    assert 0.003 < shares[-1] < 0.01
    means = [data.x[:, 0][data.y == k].mean() for k in range(5)]
    # brightness tells shapes from the ground, and little of each other: small ones lie more often on larger ones
    assert np.ptp(means[1:]) < 0.35 * (means[1] - means[0])


def test_a_text_is_followed_by_itself_and_topics_stay_whole() -> None:
    given = char_lm.topics()
    np.testing.assert_array_equal(given["x"][:, 1:], given["y"][:, :-1])
    data = from_mapping("DATA", "topics", given)
    assert data.kind.vocabulary <= data.num_classes
    assert len(np.unique(data.groups)) > 20


def test_the_transformer_does_not_see_what_comes_later() -> None:
    model = char_lm.transformer(8, 5).eval()
    x = torch.randint(5, (2, 8))
    other = x.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 5
    with torch.no_grad():
        here, there = model(x), model(other)
    assert here.shape == (2, 5, 8)
    torch.testing.assert_close(here[:, :, :5], there[:, :, :5])
    assert not torch.allclose(here[:, :, 5:], there[:, :, 5:])

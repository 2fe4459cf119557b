"""`adma replay --stats`: the paper's printed tables without training, and ours beside them over what ran."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adma.bench.overall import of_ours, of_printed
from adma.bench.printed import DATASET_TITLES, PRINTED, ROLES
from adma.bench.report.replay import ReplayCell, ReplayRow
from adma.bench.statistics import estimate
from adma.cli import main


def test_without_names_it_prints_the_four_tables_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["replay", "--stats"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for ranks in ("Adma 1.75", "CCE 1.38", "Squared-Hinge 3.62", "MSE 3.00"):
        assert ranks in said
    assert said.count("0.05): 1.66.") == 4
    for line in ("Adma, CCE 4 : 4 −0.02 1.00", "Adma, CCE 3 : 5 −0.67 0.55", "Adma, CCE 6 : 2 +0.15 0.55"):
        assert line in said
    root = tmp_path / "adma-runs/printed-statistics"
    assert {p.name for p in root.iterdir()} == {
        "printed-statistics.csv",
        *(f"table{n}-ranks-printed.png" for n in (1, 2, 3, 4)),
    }
    rows = list(csv.DictReader(x for x in (root / "printed-statistics.csv").open() if not x.startswith("#")))
    ps = [float(r["p"]) for r in rows if r["what"] == "Wilcoxon" and (r["first"], r["second"]) == ("adma", "cce")]
    assert ps == pytest.approx([1.0, 0.546875, 0.546875, 1.0])
    assert not list(tmp_path.rglob("cells"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stats", "--scale", "small"], "--scale has no use"),
        (["--stats", "--loss", "cce"], "--loss has no use"),
        (["splits", "table1", "--stats"], "splits prints none"),
    ],
)
def test_where_it_makes_no_sense_it_is_refused(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["replay", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def row(data: str, **cells: float) -> ReplayRow:
    """A data set without runs: the comparison is what holds the values."""
    return ReplayRow(
        dataset=data,
        title=DATASET_TITLES[data],
        cells={r: ReplayCell(PRINTED[1][data].accuracy(r), estimate([v], 0.95), r) for r, v in cells.items()},
        comparison=None,
        sizes={},
        setting_words="",
        not_run="no such folder",
    )


def test_data_sets_that_did_not_run_are_named_with_their_reason() -> None:
    over = of_ours([row(data, adma=0.9, cce=0.8) for data in ("mnist", "svhn")], 1)
    assert over.across is None
    assert "at least 2 data sets" in over.reason
    assert over.title == "Table 1, ours"


def test_the_printed_cells_are_the_papers() -> None:
    across = of_printed(3).across
    assert across is not None
    assert across.datasets == tuple(DATASET_TITLES[d] for d in PRINTED[3])
    assert across.losses == ROLES


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("stats")
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        y = rng.integers(3, size=120)
        np.savez(root / f"{name}.npz", x=np.eye(3)[y] @ rng.normal(size=(3, 5)) + rng.normal(size=(120, 5)), y=y)
    run = subprocess.run(
        [
            sys.executable, "-m", "adma.cli", "replay", "table1", "--stats", "--datasets", "one.npz", "two.npz",
            "none.npz", "--model", "mlp", "--epochs", "2", "--seeds", "2", "--max-train-size", "60", "--out", "out",
        ],
        cwd=root, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 1, run.stderr  # none.npz is not there
    return root / "out", run.stdout


def test_after_a_run_ours_stand_beside_the_printed_and_gaps_are_named(replayed: tuple[Path, str]) -> None:
    root, out = replayed
    said = " ".join(out.split())
    assert "Table 1, as the paper prints it" in said
    assert "Table 1, ours" in said
    assert "Over 2 data sets: one.npz, two.npz" in said
    assert "Left out: none.npz: not run:" in said
    assert "Left out: MNIST: not asked for" in said
    assert "cannot give p < 0.05 over 2 data sets; 6 are needed" in said
    assert {"table1-ranks-printed.png", "table1-ranks-ours.png"} <= {p.name for p in root.iterdir()}
    rows = list(csv.DictReader(x for x in (root / "table1-statistics.csv").open() if not x.startswith("#")))
    ranks = [float(r["value"]) for r in rows if r["of"] == "Table 1, ours" and r["what"] == "mean rank"]
    assert sum(ranks) == pytest.approx(10)
    assert all(r["low"] for r in rows if r["of"] == "Table 1, ours" and r["what"].startswith("interquartile"))


def test_the_page_has_a_section_over_the_data_sets(replayed: tuple[Path, str]) -> None:
    page = (replayed[0] / "table1.html").read_text()
    assert "Over the data sets" in page
    assert page.count("Critical difference of mean ranks") == 2
    assert "Mean ranks over the data sets: Table 1, ours" in page
    assert "<script" not in page

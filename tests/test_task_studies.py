"""The studies of other tasks: their measures against other ways of computing them, a tiny run of each, their pages."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg, stats

import gan
import pages
import soft_targets
from digits import divided
from docs_pages import ROOT
from stacked import Normalised, Stacked, adam

RESULTS = ROOT / "studies/results/2026-11-27-cpu"


# ---- measures


def test_the_frechet_distance_by_the_matrix_square_root():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 5)), rng.normal(size=(150, 5)) @ rng.normal(size=(5, 5)) + 1
    s_a, s_b = np.cov(a.T), np.cov(b.T)
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s_a + s_b - 2 * linalg.sqrtm(s_a @ s_b).real)
    assert gan.frechet(a, b) == pytest.approx(expected, rel=1e-9)
    assert gan.frechet(a, a) == pytest.approx(0, abs=1e-9)


@pytest.fixture(scope="module")
def judge():
    return gan.Judge(*divided())


def test_the_judge_tells_real_from_made_from_one_class(judge):
    x, y, _, _ = divided()
    assert judge.accuracy > 0.95
    real, ones = judge.measure(x), judge.measure(x[y == 1])
    noise = judge.measure(torch.rand(len(x), 64, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    assert real["classes"] == 10
    assert ones["classes"] <= 2
    assert real["coverage"] > 0.95 > 0.3 > ones["coverage"] > noise["coverage"]
    assert real["frechet"] < 1 < ones["frechet"] < noise["frechet"]


def test_coverage_by_counting(judge):
    made = divided()[0][:40]
    with torch.no_grad():
        found, real = judge._features(made).double().numpy(), judge._real.numpy()
    covered = 0
    for row in real:
        radius = np.sort(np.linalg.norm(real - row, axis=1))[gan.NEIGHBOURS]
        covered += np.linalg.norm(found - row, axis=1).min() <= radius
    assert judge.measure(made)["coverage"] == pytest.approx(covered / len(real), abs=2 / len(real))  # ties round


def test_trainings_side_by_side_are_those_of_one_each():
    torch.manual_seed(0)
    both = torch.nn.Sequential(Stacked(2, 3, 4), Normalised(2, 4), torch.nn.ReLU(), Stacked(2, 4, 1))
    x = torch.randn(2, 6, 3)
    alone = []
    for m in range(2):
        own = torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 1)
        )  # fmt: skip
        with torch.no_grad():
            for layer, stacked in ((own[0], both[0]), (own[3], both[3])):
                layer.weight.copy_(stacked.weight[m].T)
                layer.bias.copy_(stacked.bias[m, 0])
        optimizer = adam(own, 0.01)
        for _ in range(3):
            optimizer.zero_grad()
            own(x[m]).square().mean().backward()
            optimizer.step()
        alone.append(own(x[m]))
    optimizer = adam(both, 0.01)
    for _ in range(3):
        optimizer.zero_grad()
        both(x).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(both(x), torch.stack(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mix", [soft_targets.mixup, soft_targets.cutmix])
def test_a_mixture_holds_of_each_image_what_its_target_says(mix):
    torch.manual_seed(0)
    x = torch.eye(10).repeat_interleave(7, 1)[:, :64].expand(3, 10, 64)  # whose pixels are no other image's
    x, y = (1 + torch.arange(10.0)).view(1, 10, 1) * torch.ones(3, 10, 64), torch.eye(10).expand(3, 10, 10)
    inputs, target = mix(x, y)
    torch.testing.assert_close(target.sum(2), torch.ones(3, 10))
    assert not torch.equal(target, y)
    values = (target * (1 + torch.arange(10.0))).sum(2)  # of images of one value each, the mean of the mixture
    torch.testing.assert_close(inputs.mean(2), values)


# ---- tiny runs


def test_a_tiny_gan_fills_its_table(tmp_path: Path, judge, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gan, "Judge", lambda *parts: judge)  # it was trained already
    table = tmp_path / "gan.csv"
    gan.run(table, seeds=2, steps=8, every=2)
    rows = pages.read(table)
    assert len(rows) == 1 + len(gan.ROWS) * 2 * 4
    assert all(float(row["frechet"]) > 0 for row in rows)
    assert len({row["frechet"] for row in rows}) > len(gan.ROWS) * 4  # a loss, a seed and a step change it
    assert gan.tables(table).count("(n = 2)") == len(gan.ROWS)
    gan.draw(table, tmp_path / "drawn" / "figure.png")
    assert (tmp_path / "drawn" / "figure.png").stat().st_size > 10_000


def test_tiny_students_fill_their_table(tmp_path: Path):
    table = tmp_path / "soft.csv"
    soft_targets.run(table, seeds=2, epochs=1)
    rows = pages.read(table)
    assert len(rows) == 2 * 4 * 4 * 2
    plain = [row for row in rows if row["spec"] == "cce"]
    assert all(row["nll"] == row["nll_posterior"] for row in plain)
    assert soft_targets.tables(table).count("| mixup |") == 2 * 4


# ---- pages


@pytest.mark.parametrize(("study", "page"), [(gan, "generative.md"), (soft_targets, "soft_targets.md")])
def test_the_tables_on_the_page_are_what_the_results_give(study, page: str):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    below = text.partition(f"<!-- computed below: {study.COMMAND} -->")[2].strip()
    assert below
    assert below == study.tables(study.TABLE).strip()


def test_the_command_prints_the_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["soft_targets.py", "docs"])
    soft_targets.main()
    assert capsys.readouterr().out.strip() == soft_targets.tables(soft_targets.TABLE).strip()


def test_text_goes_below_its_mark_and_nowhere_else(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- computed below: python x.py -->\nold\n")
    pages.put(page, "python x.py", "new\n")
    assert page.read_text() == "above\n<!-- computed below: python x.py -->\nnew\n"
    with pytest.raises(SystemExit, match="has no line"):
        pages.put(page, "python y.py", "new\n")


def test_one_number_of_each_page_by_another_way():
    with (RESULTS / "soft_targets.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if (r["false"], r["targets"]) == ("0.4", "teacher")]
    gce, cce = (
        [100 * float(r["accuracy"]) for r in sorted(rows, key=lambda r: int(r["seed"])) if r["spec"] == spec]
        for spec in ("gce:q=0.7", "cce")
    )
    assert in_words(gce, cce) in (ROOT / "docs/soft_targets.md").read_text(encoding="utf-8")
    with (RESULTS / "gan.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["arm"] == "both" and int(r["step"]) >= 2250]
    adma, cce = (
        [
            np.mean([float(r["frechet"]) for r in rows if (r["spec"], r["seed"]) == (spec, str(seed))])
            for seed in range(6)
        ]
        for spec in ("adma:a=0.26", "cce")
    )
    assert in_words(adma, cce) in (ROOT / "docs/generative.md").read_text(encoding="utf-8")


def in_words(left: list[float], right: list[float]) -> str:
    low, high = stats.ttest_rel(left, right).confidence_interval(0.95)
    return f"{np.mean(left) - np.mean(right):+.2f} ± {(high - low) / 2:.2f}".replace("-", "−")

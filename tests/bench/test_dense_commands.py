"""A label for each pixel or token, as a user meets it: commands, tables, pages, a run that is interrupted."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from adma_command import ADMA, adma
from dense_samples import CLASSES, squares

from adma.bench.folder import Folder
from adma.bench.overlap import overlaps
from adma.bench.result import DONE
from adma.bench.statistics import summarise
from adma.cli import main

SMALL = ["--epochs", "2", "--batch-size", "8", "--lr", "0.02", "--model", "unet:depth=1,width=4"]
MINE = """
import numpy as np
import torch


def texts():
    ids = np.random.default_rng(0).integers(0, 6, (20, 9))
    return {"x": ids[:, :-1], "y": ids[:, 1:], "class_names": [f"<{k}>" for k in range(6)]}


def network(in_channels, num_classes):
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = torch.nn.Embedding(num_classes, 4), torch.nn.Linear(4, num_classes)

        def forward(self, x):
            return self.head(self.embed(x)).transpose(1, 2)

    return Network()


def one_label(in_channels, num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(num_classes))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dense")
    data = squares()
    np.savez(root / "squares.npz", x=data.x, y=data.y, class_names=CLASSES)
    (root / "mine.py").write_text(MINE)
    return root


@pytest.fixture(scope="module")
def compared(place: Path) -> subprocess.CompletedProcess[str]:
    losses = ["--loss", "cce", "--loss", "adma:a=0.5,normalize=true", "--loss", "adma:a=learn"]
    return adma("compare", "squares.npz", *losses, "--seeds", "3", *SMALL, "--out", "out", cwd=place)


def test_pixels_from_start_to_report(place: Path, compared: subprocess.CompletedProcess[str]) -> None:
    assert compared.returncode == 0, compared.stderr
    assert "24 samples of shape (1, 12, 12), 3 classes, one a pixel; train 14, val 5, test 5" in compared.stdout
    assert "of the labels are -100 and are not counted" in compared.stdout
    assert "estimate: about" in compared.stdout
    assert "test mean IoU %" in compared.stdout
    assert re.search(r"highest mean test mean IoU \(\d", compared.stdout)
    assert "test mean IoU" in compared.stderr
    for name in CLASSES:
        assert re.search(rf"^ {name} +\d+\.\d\d +[\d.]+ +[\d.]+ +[\d.]+ *$", compared.stdout, re.MULTILINE), name
    page = (place / "out/report.html").read_text(encoding="utf-8")
    for words in ("Each class", "Test mean IoU %", "Validation mean IoU over the epochs", "Test accuracy %"):
        assert words in page


def test_the_tables_say_what_the_runs_hold(place: Path, compared: subprocess.CompletedProcess[str]) -> None:
    results = Folder(place / "out").results()
    assert all(c.status == DONE for c in results.cells)
    assert results.measure == "mean_iou"
    found = overlaps(results)
    assert [row.name for row in found] == list(CLASSES)
    assert sum(row.share for row in found) == pytest.approx(1)
    comparison = summarise(results)
    assert comparison.metric == "test_mean_iou"
    assert comparison.rope == 0.002
    for summary in comparison.losses:
        ours = [c.env["iou"]["test"] for c in results.of(summary.loss)]
        assert summary.estimate.mean == pytest.approx(np.mean(ours))
        for k, row in enumerate(found):
            assert row.iou[summary.loss].mean == pytest.approx(np.mean([iou[k] for iou in ours]))
            assert f"{100 * row.iou[summary.loss].mean:.2f}" in compared.stdout
    assert "a" in results.of("adma:a=learn")[0].trace


def test_what_is_missing_alone_runs_again_to_the_same_numbers(
    place: Path, compared: subprocess.CompletedProcess[str]
) -> None:
    before = {c.cell.key: c for c in Folder(place / "out").results().cells}
    lost = next(iter(before))
    shutil.rmtree(place / "out/cells" / lost)
    again = adma(*_arguments(compared), cwd=place)
    assert again.returncode == 0, again.stderr
    assert "[9/9]" in again.stderr
    assert "[8/9]" not in again.stderr
    after = {c.cell.key: c for c in Folder(place / "out").results().cells}
    for key, cell in after.items():
        assert cell.env["iou"] == before[key].env["iou"]
        assert cell.final("test_nll") == before[key].final("test_nll")


def _arguments(run: subprocess.CompletedProcess[str]) -> list[str]:
    return list(run.args[len(ADMA) :])


def test_another_measure_may_be_asked_for(
    place: Path, compared: subprocess.CompletedProcess[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(place / "out"), "--metric", "test_accuracy"]) == 0
    shown = capsys.readouterr().out
    assert "test accuracy %" in shown
    assert "test mean IoU %" not in shown
    assert main(["report", str(place / "out")]) == 0
    assert "test mean IoU %" in capsys.readouterr().out
    assert main(["export", str(place / "out"), "--out", str(place / "tables")]) == 0
    with (place / "tables/epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(0 <= float(row["val_mean_iou"]) <= 1 for row in rows)
    assert main(["status", str(place / "out")]) == 0


def test_tokens_by_functions_of_the_users_own(place: Path) -> None:
    run = adma(
        "compare", "mine:texts", "--model", "mine:network", "--loss", "cce", "--loss", "gce:q=0.7", "--seeds", "2",
        "--epochs", "2", "--batch-size", "8", "--out", "tokens", cwd=place,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "20 samples of shape (8,), 6 classes, one a token; train 12, val 4, test 4" in run.stdout
    assert "test accuracy %" in run.stdout
    assert "IoU" not in run.stdout
    page = (place / "tokens/report.html").read_text(encoding="utf-8")
    assert "IoU" not in page
    assert "&lt;5&gt;" in page


def test_tune_chooses_by_mean_overlap(place: Path) -> None:
    run = adma(
        "tune", "squares.npz", "--loss", "cce", "--loss", "adma:a=0.2..0.5", "--trials", "2", "--seeds", "2",
        "--final-seeds", "3", "--lr", "0.02", *SMALL[:4], *SMALL[6:], "--out", "search", cwd=place,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Chosen by the mean validation mean IoU" in run.stdout
    assert "chosen by the mean validation mean IoU over the seeds" in run.stdout  # before it begins
    assert "mean test mean IoU" in run.stdout
    with (place / "search/trials.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert len(rows) == 2 + 1  # of cce there is nothing to search
    searched = [row for row in rows if row["loss"] != "cce"]
    assert max(searched, key=lambda row: float(row["val_mean_iou"]))["winner"] == "yes"
    assert next((place / "search").glob("*.html")).read_text(encoding="utf-8").count("mean IoU") >= 5


def test_a_study_document_compares_by_mean_overlap(place: Path) -> None:
    (place / "study.yaml").write_text(
        "title: Squares\ndata: [./squares.npz]\nlosses: [cce, mae]\nseeds: 2\nepochs: 1\nbatch_size: 8\n"
        'model: "unet:depth=1,width=4"\nvariants:\n  fast: {}\n  slow: {lr: 1.0e-4}\n'
    )
    run = adma("run", "study.yaml", "--out", "study", cwd=place)
    assert run.returncode == 0, run.stderr
    assert "Mean IoU under the variant minus that under" in " ".join(run.stdout.split())
    assert run.stderr.count("test mean IoU") == 8  # a line a run
    assert "test accuracy" not in run.stderr
    captions = "".join(p.read_text() for kind in ("tex", "html") for p in (place / "study").glob(f"*.{kind}"))
    assert captions.count("Mean IoU in per cent") == 2
    assert "Accuracy" not in captions
    runs = next((place / "study").glob("*-runs.csv")).read_text().splitlines()
    rows = list(csv.DictReader(line for line in runs if not line.startswith("#")))
    assert len(rows) == 8
    assert all(float(row["test_mean_iou"]) > 0 for row in rows)
    assert "test mean IoU" in next((place / "study").glob("*.html")).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["squares.npz", "--model", "convnet"], "try --model unet"),
        (["squares.npz", "--model", "mine:one_label"], "one for each position"),
        (["squares.npz", "--augment", "flip"], "leave it out"),
        (["squares.npz", "--image-size", "8x8"], "resized too"),
        (["squares.npz", "--model", "unet:depth=5"], "too small to be halved 5 times"),
        (["mine:texts"], "token ids, for which no network is built in"),
        (["squares.npz", "--loss", "l_softmax"], "l_softmax"),
    ],
)
def test_a_mistake_ends_with_a_word_and_no_training(
    place: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert main(["compare", *arguments, "--epochs", "1", "--out", "never"]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (place / "never").exists()


def test_there_is_no_sheet_of_classes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(place / "squares.npz"), "--out", str(place / "sheet.png")]) == 2
    assert "a label for each pixel" in capsys.readouterr().err

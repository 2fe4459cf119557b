"""The command as a user meets it: real processes, real files, what is printed, what is left behind."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from adma_command import ADMA, Told, adma, start, wait_for_cells
from PIL import Image

from adma.bench.folder import Folder
from adma.bench.result import DONE, FAILED
from adma.cli import main

QUICK = ["--seeds", "2", "--epochs", "1", "--train-size", "60", "--loss", "cce", "--loss", "adma:a=0.3"]

LONGER = ["--epochs", "3", "--jobs", "2"]  # so that a signal finds something to interrupt


def rows_of(root: Path) -> dict[str, dict[str, list[float]]]:
    """Every finished cell's numbers, but for the clock."""
    return {
        f"{c.cell.loss}/{c.cell.seed}": {k: list(map(repr, v)) for k, v in c.epochs.items() if k != "seconds"}  # type: ignore[misc]
        for c in Folder(root).results().cells
        if c.status == DONE
    }


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that a network can learn, with names that a page must escape."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for k, name in enumerate(("<b>cats", "dogs & co", "été")):
        (root / name).mkdir()
        for i in range(40):
            image = rng.integers(0, 100, size=(16, 16, 3), dtype=np.uint8)
            image[:, :, k] += 120
            Image.fromarray(image).save(root / name / f"{i}.png")
    return root


def test_compare_on_a_folder_of_images_from_start_to_report(pictures: Path, tmp_path: Path) -> None:
    run = adma("compare", str(pictures), "--seeds", "3", "--epochs", "2", "--out", "out", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "120 samples of shape (3, 16, 16), 3 classes" in run.stdout
    for loss in ("cce", "adma:a=0.26", "mse", "squared_hinge"):  # the paper's four by default
        assert loss in run.stdout
    assert "loss_fn = adma." in run.stdout
    assert "[12/12]" in run.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;b&gt;cats" in page
    assert "<b>cats" not in page
    assert "dogs &amp; co" in page
    assert 'http-equiv="Content-Security-Policy"' in page
    cell = next((tmp_path / "out" / "cells").iterdir())
    assert {p.name for p in cell.iterdir()} == {"config.json", "env.json", "epochs.parquet", "status.json"}
    assert re.search(r"^ ?adma:a=0.26 +\d\.\d{3} +\d\.\d{3} +", run.stdout, re.MULTILINE)  # of its probabilities
    report = adma("report", "out", "--metric", "test_brier", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert "test Brier score" in report.stdout
    assert "Minus" in (page := (tmp_path / "out" / "report.html").read_text())
    assert "recovered minus softmax" in page


def test_the_same_command_twice_gives_the_same_numbers_and_runs_nothing_again(told: Told, tmp_path: Path) -> None:
    first = told("compare", "digits", *QUICK, "--cpus-per-cell", "1", "--out", "one")
    told("compare", "digits", *QUICK, "--cpus-per-cell", "1", "--out", "two", "--jobs", "1")
    assert first.returncode == 0, first.stderr
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "one" / "cells").rglob("*")}
    again = told("compare", "digits", *QUICK, "--out", "one")
    assert again.returncode == 0
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "one" / "cells").rglob("*")}
    one = rows_of(tmp_path / "one")
    assert len(one) == 4
    assert one == rows_of(tmp_path / "two")  # one training at a time, or two
    # other seeds' cells are added to what is there, under --resume
    more = told("compare", "digits", *QUICK, "--seeds", "3", "--out", "one")
    assert more.returncode == 2
    assert "holds another study" in more.stderr
    assert "seeds" in more.stderr
    more = told("compare", "digits", *QUICK, "--seeds", "3", "--out", "one", "--resume")
    assert more.returncode == 0
    assert "[6/6]" in more.stderr
    assert "[4/6]" not in more.stderr
    assert rows_of(tmp_path / "one").items() >= one.items()


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_and_started_again_it_ends_with_the_numbers_of_one_run(
    tmp_path: Path, kind: signal.Signals, uninterrupted: dict[str, dict[str, list[float]]]
) -> None:
    command = ["compare", "digits", *QUICK, *LONGER, "--out", "out"]
    process = start(*command, cwd=tmp_path)
    wait_for_cells(tmp_path / "out", 1, process)
    os.killpg(process.pid, kind) if kind == signal.SIGINT else process.send_signal(kind)
    out, _ = process.communicate(timeout=200)
    if kind != signal.SIGKILL:
        assert process.returncode == 130
        assert "run the same command again to continue" in out.replace("\n", " ")
        assert (tmp_path / "out" / "report.html").is_file()
    kept = rows_of(tmp_path / "out")
    assert 1 <= len(kept) <= 4
    report = adma("report", "out", cwd=tmp_path)  # all that is there is readable
    assert report.returncode == 0, report.stderr
    again = adma(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert rows_of(tmp_path / "out") == uninterrupted
    assert not list((tmp_path / "out" / "cells").glob(".part-*"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[float]]]:
    root = tmp_path_factory.mktemp("uninterrupted")
    run = adma("compare", "digits", *QUICK, *LONGER, "--out", "out", cwd=root)
    assert run.returncode == 0, run.stderr
    return rows_of(root / "out")


@pytest.mark.parametrize("times", [1, 2])
def test_a_killed_workers_cell_is_tried_once_more_and_then_named(tmp_path: Path, times: int) -> None:
    (tmp_path / "deadly.py").write_text(
        "import glob, multiprocessing, os, signal\nfrom torch import nn\n"
        "def net(in_channels, num_classes):\n"
        "    worker = multiprocessing.current_process().name == 'adma worker'\n"
        "    if worker and len(glob.glob('died*')) < int(os.environ.get('DEADLY', 0)):\n"
        "        open(f'died{os.getpid()}', 'w').close()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    command = ["compare", "digits", *QUICK, "--model", "deadly:net", "--out", "out", "--jobs", "1"]
    run = adma(*command, cwd=tmp_path, DEADLY=str(times))
    cells = Folder(tmp_path / "out").results().cells
    assert "SIGKILL" in run.stderr
    assert "once more" in run.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "SIGKILL" in page
    if times == 1:
        assert run.returncode == 0
        assert [c.status for c in cells] == [DONE] * 4
        assert "SIGKILL" in cells[0].env["faults"][0]
        return
    assert run.returncode == 1
    assert [c.status for c in cells] == [FAILED, DONE, DONE, DONE]
    assert "SIGKILL" in run.stdout.replace("\n", " ")
    assert adma(*command, cwd=tmp_path).returncode == 0  # a failed cell runs again


def test_a_diverged_run_is_named_and_never_run_again(told: Told, tmp_path: Path) -> None:
    losses = ["--loss", "cce", "--loss", "mae"]
    setting = ["--seeds", "2", "--epochs", "2", "--optimizer", "sgd", "--lr", "1e15", "--train-size", "60"]
    command = ["compare", "digits", *losses, *setting, "--out", "out"]
    run = told(*command)
    assert run.returncode == 0, run.stderr
    assert "diverged" in run.stderr
    assert "diverged" in run.stdout
    assert "diverged" in (tmp_path / "out" / "report.html").read_text()
    again = told(*command)
    assert "[" not in again.stderr


def test_vectors_from_an_npz_and_from_a_function(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=150)
    x = np.eye(3)[y] @ rng.normal(size=(3, 5)) * 3 + rng.normal(size=(150, 5))
    np.savez(tmp_path / "table.npz", x=x, y=np.array(["a", "b", "c"])[y])
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef data():\n    d = np.load('table.npz')\n    return d['x'], d['y']\n"
        "from dataclasses import dataclass\nfrom typing import ClassVar\nimport adma\nfrom adma.family import Member\n"
        "@adma.register\n@dataclass(frozen=True)\nclass Half(Member):\n    q: float = 0.5\n"
        "    name: ClassVar[str] = 'half'\n"
        "    def psi(self, t, xp): return -0.5 * xp.expm1(-self.q * t) / self.q\n"
        "    def slope(self, t, xp): return 0.5 * xp.exp(-self.q * t)\n"
    )
    for data in ("table.npz", "mine:data"):
        out = "from-" + data.replace(":", "-")
        losses = ["--loss", "cce", "--loss", "half:q=0.2"]
        quick = ["--seeds", "2", "--epochs", "2", "--out", out]
        run = adma("compare", data, "--import", "mine", *losses, *quick, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        assert "epochs of mlp" in run.stdout  # chosen for vectors
        assert "half:q=0.2" in run.stdout
        assert len(rows_of(tmp_path / out)) == 4
    report = adma("report", out, "--baseline", "half:q=0.2", cwd=tmp_path)  # which is registered nowhere here
    assert report.returncode == 0, report.stderr
    assert "Against half:q=0.2, seed by seed" in report.stdout


def test_on_a_terminal_one_live_line_counts_the_grid(tmp_path: Path) -> None:
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [*ADMA, "compare", "digits", *QUICK, "--out", "out"], cwd=tmp_path, stdin=child, stdout=child, stderr=child,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    assert process.wait(60) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert "0/4 done, 2 running" in text or "0/4 done, 1 running" in text
    assert "4/4 done, 0 running" in text
    assert "left" in text
    assert "[1/4]" not in text  # the plain lines are for pipes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "digitz"], "did you mean 'digits'"),
        (["compare", "digits", "--loss", "adam"], "did you mean 'adma'"),
        (["compare", "digits", "--loss", "adma:a=0"], "zero everywhere"),
        (["compare", "digits", "--loss", "cce", "--loss", "ce"], "given twice"),
        (["compare", "digits", "--model", "convent"], "did you mean 'convnet'"),
        (["compare", "digits", "--seeds", "0"], "must be a whole number from 1, got '0'"),
        (["compare", "digits", "--seeds", "9" * 20], f"--seeds: must be at most 100000, got '{'9' * 20}'"),
        (["compare", "digits", "--until-decided", "--max-seeds", "100001"], "--max-seeds: must be at most 100000"),
        (["tune", "digits", "--trials", "9" * 20], "--trials: must be at most 100000"),
        (["tune", "digits", "--final-seeds", "9" * 20], "--final-seeds: must be at most 100000"),
        (["compare", "digits", "--epochs", "9" * 20], "--epochs: must be at most 1000000000"),
        (["compare", "digits", "--lr", "nan"], "must be a number above 0, got 'nan'"),
        (["compare", "digits", "--epoch", "x"], "must be a whole number"),
        (["compare", "digits", "--sedes", "3"], "did you mean '--seeds'"),
        (["compare", "digits", "--augment", "rotat=3"], "did you mean 'rotate'"),
        (["compare", "digits", "--val-fraction", "1.5"], "--val-fraction"),
        (["compare", "digits", "--train-size", "5"], "train-size"),
        (["compare", "digits", "--device", "cuda:99"], "--device cuda:99"),
        (["compare", "digits", "--import", "no_such_module"], "--import no_such_module"),
        (["report", "no-such-folder"], "holds no study"),
        (["curves", "--loss", "bogus"], "not known"),
        (["curves", "--out", "x.gif"], ".gif"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_exit_code_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    told = capsys.readouterr().err
    assert code == 2
    assert words in told.replace("\n", " ")
    assert "Traceback" not in told
    assert not list(tmp_path.glob("*/cells"))


def test_an_out_folder_that_cannot_be_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["compare", "digits", *QUICK, "--out", str(tmp_path / "file" / "out")]) == 2
    assert "choose another" in capsys.readouterr().err


def test_report_and_curves_write_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("curves.png", "figure.pdf", "figure.svg"):
        assert main(["curves", "--out", name]) == 0
        assert (tmp_path / name).stat().st_size > 1000
    assert "curves.png" in capsys.readouterr().out
    assert main(["curves", "--loss", "adma:a=0.1", "--loss", "cce", "--out", "two.svg"]) == 0
    assert "adma:a=0.1" in (tmp_path / "two.svg").read_text()


def test_the_fingerprint_of_changed_pictures_is_another_study(told: Told, pictures: Path, tmp_path: Path) -> None:
    quick = ["--loss", "cce", "--seeds", "1", "--epochs", "1"]
    run = told("compare", str(pictures), *quick, "--out", "out")
    assert run.returncode == 0, run.stderr
    path = pictures / "été" / "0.png"
    Image.new("RGB", (16, 16), "white").save(path)
    run = told("compare", str(pictures), *quick, "--out", "out")
    assert run.returncode == 2
    assert "data_hash" in run.stderr


def test_every_cell_says_what_made_it(told: Told, tmp_path: Path) -> None:
    run = told("compare", "digits", *QUICK, "--out", "out")
    assert run.returncode == 0, run.stderr
    for folder in (tmp_path / "out" / "cells").iterdir():
        env = json.loads((folder / "env.json").read_text())
        assert env["versions"]["torch"]
        assert env["hardware"]["cores"] >= 1
        assert set(env["shared"]) == {"split", "init", "order", "augment"}
    header = json.loads((tmp_path / "out" / "study.json").read_text())
    assert header["about"]["command"].startswith("adma compare digits --seeds 2")

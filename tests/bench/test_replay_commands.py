"""`adma run` and `adma replay` as a user meets them: real processes, what is printed, what is left behind."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from adma_command import Told, adma, start, wait_for_cells

from adma.bench.folder import Folder
from adma.bench.printed import PRINTED
from adma.bench.result import DONE
from adma.options import parser

DATA = os.environ.get("ADMA_DATA", "")
STUDY = """
title: Does the activation matter?
data: digits
losses: [cce, "adma:a=0.3", "focal:gamma=2"]
seeds: 2
epochs: 2
max_train_size: 100
eval_size: 60
variants:
  elu: {}
  relu: {model: "convnet:activation=relu,filters=8"}
"""


def lines(path: Path) -> list[dict[str, str]]:
    """A CSV file below its head."""
    return list(csv.DictReader(line for line in path.read_text().splitlines() if not line.startswith("#")))


def numbers(root: Path, name: str) -> dict[str, list[list[str]]]:
    """Every finished cell's rows, but for the clock."""
    store = Folder(root)
    plan, _ = store.plan(name)
    found = {}
    for cell in plan.cells():
        result = store.read(cell)
        if result.status == DONE:
            found[cell.key] = [list(map(repr, v)) for k, v in sorted(result.epochs.items()) if k != "seconds"]
    return found


def test_a_users_own_study_runs_from_document_to_tables(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(STUDY)
    run = adma("run", "mine.yaml", "--out", "out", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "Does the activation matter?" in run.stdout
    assert re.search(
        r"estimate: about .*: \d+ trainings.*, \d at a time \(measured: a few steps of each setting", run.stdout
    )
    for words in ("digits, elu", "digits, relu", "focal:gamma=2"):
        assert words in run.stdout
    runs = lines(tmp_path / "out/mine-runs.csv")
    assert len(runs) == 2 * 3 * 2
    assert {r["status"] for r in runs} == {"done"}
    assert {(r["variant"], r["loss"]) for r in runs} == {
        (v, loss) for v in ("elu", "relu") for loss in ("cce", "adma:a=0.3", "focal:gamma=2.0")
    }
    # what the table says is the mean of what the runs say
    for cell in lines(tmp_path / "out/mine.csv"):
        own = [float(r["test_accuracy"]) for r in runs if (r["entry"], r["loss"]) == (cell["dataset"], cell["spec"])]
        assert len(own) == 2
        assert float(cell["ours"]) == pytest.approx(100 * np.mean(own), abs=0.01)
    page = (tmp_path / "out/mine.html").read_text()
    assert "focal:gamma=2" in page
    assert not re.search(
        r"""(?:src|href)=["'](?!#|data:)|url\((?!#)|<script|@import""", page
    )  # loads nothing, runs nothing


def test_a_replay_stands_beside_the_printed_numbers_and_shares_its_trainings(tmp_path: Path) -> None:
    common = ("--max-train-size", "100", "--epochs", "1", "--eval-size", "60", "--out", "out")
    run = adma("replay", "table1", "--datasets", "digits,fashion_mnist", *common, cwd=tmp_path, ADMA_DATA="")
    if DATA:
        assert run.returncode == 1, run.stderr
    assert "FASHION-MNIST" in run.stdout  # there and refused, or run
    assert "91.48" in run.stdout  # printed
    assert "the paper does not have digits; a is Table 1's for mnist" in " ".join(run.stdout.split())
    assert (tmp_path / "out/table1.tex").read_text().count(r"\toprule") == 1
    again = adma("replay", "figure3", "--datasets", "digits", *common, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "all runs are done" in again.stdout
    assert (tmp_path / "out/figure3.html").exists()


def test_a_replay_that_is_killed_goes_on_and_ends_with_the_same_numbers(tmp_path: Path) -> None:
    common = [
        "replay", "table3", "--datasets", "digits", "--epochs", "2", "--max-train-size", "100", "--seeds", "2",
        "--jobs", "1",
    ]  # fmt: skip
    process = start(*common, "--out", "killed", cwd=tmp_path)
    wait_for_cells(tmp_path / "killed", 2, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = len(numbers(tmp_path / "killed", "table3"))
    assert 1 <= kept < 8
    again = adma(*common, "--out", "killed", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(re.findall(r"^\[\d+/8\]", again.stderr, re.M)) == 8 - kept
    whole = adma(*common, "--out", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert numbers(tmp_path / "killed", "table3") == numbers(tmp_path / "whole", "table3")
    assert len(numbers(tmp_path / "whole", "table3")) == 8


def test_a_terminated_replay_leaves_a_table_of_what_is_done(tmp_path: Path) -> None:
    arguments = [
        "replay",
        "table1",
        "--datasets",
        "digits",
        "--epochs",
        "4",
        "--seeds",
        "4",
        "--jobs",
        "1",
        "--out",
        "o",
    ]
    process = start(*arguments, cwd=tmp_path)
    wait_for_cells(tmp_path / "o", 2, process)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"Interrupted: \d+ of 16 runs are kept", out)
    statuses = {r["status"] for r in lines(tmp_path / "o/table1-runs.csv")}
    assert statuses == {"done", "missing"}


def test_the_protocols_choose_a_and_say_what_the_choice_costs(told: Told, tmp_path: Path) -> None:
    common = (
        "replay", "table1", "--datasets", "digits", "--max-train-size", "100", "--epochs", "2", "--seeds", "3",
        "--a", "0.1", "0.4", "--loss", "adma:a=table1", "--loss", "cce", "--out", "out",
    )  # fmt: skip
    clean = told(*common, "--protocol", "clean")
    assert clean.returncode == 0, clean.stderr
    words = " ".join(clean.stdout.split())
    assert "chosen on the validation part" in words
    assert "chosen: adma:a=" in words
    runs = lines(tmp_path / "out/table1-clean-runs.csv")
    assert {r["loss"] for r in runs} == {"adma:a=0.1", "adma:a=0.4", "cce"}  # not the a that was tuned on the test part
    by_seed = {s: [r for r in runs if r["seed"] == s and r["loss"] != "cce"] for s in ("0", "1", "2")}
    chosen = [max(rs, key=lambda r: float(r["val_accuracy"])) for rs in by_seed.values()]
    (ours,) = [c for c in lines(tmp_path / "out/table1-clean.csv") if c["loss"] == "adma"]
    expected = 100 * np.mean([float(r["test_accuracy"]) for r in chosen])
    assert float(ours["ours"]) == pytest.approx(expected, abs=0.01)
    paper = told(*common, "--protocol", "paper")
    assert paper.returncode == 0, paper.stderr
    assert "3 runs of about" in paper.stdout  # digits has no groups: the same trainings, but for the printed a
    (theirs,) = [c for c in lines(tmp_path / "out/table1-paper.csv") if c["loss"] == "adma"]
    assert float(theirs["ours"]) >= float(ours["ours"]) - 1e-9
    cost = float(theirs["ours"]) - float(ours["ours"])
    said = re.search(r"adds ([+−]?\d+\.\d\d) ± \d+\.\d\d points: digits \(n = 3\)", " ".join(paper.stdout.split()))
    assert said
    assert float(said[1].replace("−", "-")) == pytest.approx(cost, abs=0.01)


def test_an_estimate_trains_nothing(told: Told, tmp_path: Path) -> None:
    run = told("replay", "table2", "--datasets", "digits", "--scale", "paper", "--estimate", "--out", "o")
    assert run.returncode == 0, run.stderr
    assert "4 losses x 20 seeds, 125 epochs; 80 runs of about" in run.stdout
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("replay",), "name experiments to replay, or pass --all"),
        (("replay", "tabel1"), "table1"),
        (("replay", "table1", "--scale", "huge"), "no such scale"),
        (("run", "nowhere.yaml"), "cannot be read"),
        (("replay", "table1", "--datasets", "digits", "--loss", "admaa"), "digits: --loss.*adma"),
        (("replay", "table1", "--datasets", "digits", "--a", "0.4"), "--a is the grid of --protocol paper and clean"),
        (("replay", "table1", "--datasets", "digits", "--model", "convent"), "convnet"),
        (("replay", "table1", "--datasets", "digits", "--optimizer", "adm"), "adam"),
    ],
)
def test_mistakes_are_told_in_one_line(told: Told, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    run = told(*arguments, "--out", "o") if arguments[0] == "replay" else told(*arguments)
    assert run.returncode == 2
    text = " ".join((run.stderr + run.stdout).split())
    assert re.search(said, text), text
    assert "Traceback" not in run.stderr


def test_a_list_may_be_given_in_parts_and_loses_none() -> None:
    words = "replay table1 --datasets mnist svhn --a 0.1 --datasets cifar10 --a 0.2 0.3"
    given = parser().parse_args(words.split())
    assert given.datasets == ["mnist", "svhn", "cifar10"]
    assert given.grid == [0.1, 0.2, 0.3]
    plain = parser().parse_args(["replay", "table1"])
    assert (plain.datasets, plain.grid) == (None, None)


def test_data_that_cannot_be_read_stop_nobody_else(told: Told, tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    run = told(
        "replay", "table1", "--datasets", "broken.npz", "digits", "--max-train-size", "60", "--epochs", "1",
        "--loss", "cce", "--loss", "adma:a=table1", "--out", "o",
    )  # fmt: skip
    assert run.returncode == 1
    assert "broken.npz: not run:" in run.stdout
    done = [r for r in lines(tmp_path / "o/table1-runs.csv") if r["status"] == "done"]
    assert len(done) == 4
    assert "broken.npz" in (tmp_path / "o/table1.csv").read_text()


def test_a_plan_that_is_replaced_is_said_and_its_trainings_stay(told: Told, tmp_path: Path) -> None:
    common = (
        "replay",
        "table1",
        "--max-train-size",
        "60",
        "--eval-size",
        "60",
        "--epochs",
        "1",
        "--loss",
        "cce",
        "--out",
        "o",
    )
    assert told(*common, "--datasets", "digits").returncode == 0
    again = told(*common, "--datasets", "digits", "--lr", "0.01")
    assert again.returncode == 0, again.stderr
    assert "tables of table1 in this folder are replaced" in again.stdout
    assert "lr: 0.001 there, 0.01 now" in again.stdout
    assert len(list((tmp_path / "o/cells").iterdir())) == 4


def test_variants_are_compared_seed_by_seed(told: Told, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(STUDY.replace("seeds: 2", "seeds: 3"))
    run = told("run", "mine.yaml", "--out", "out")
    assert run.returncode == 0, run.stderr
    runs = lines(tmp_path / "out/mine-runs.csv")
    effects = {r["loss"]: r for r in lines(tmp_path / "out/mine-effects.csv")}
    for loss, role in (("cce", "cce"), ("adma:a=0.3", "adma")):
        by = {(r["variant"], r["seed"]): float(r["test_accuracy"]) for r in runs if r["loss"] == loss}
        differences = [by["relu", s] - by["elu", s] for s in "012"]
        assert float(effects[role]["change"]) == pytest.approx(100 * np.mean(differences), abs=0.01)
    assert "adma minus cce" in effects


def test_a_folder_of_one_study_is_not_taken_for_a_plan(tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o/study.json").write_text(json.dumps({"study": {}, "about": {}}))
    run = adma("replay", "table1", "--datasets", "digits", "--out", "o", cwd=tmp_path)
    assert run.returncode == 2
    assert "holds a study of adma compare" in run.stderr


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="ADMA_DATA names no folder with the paper's data sets")
def test_all_eight_data_sets_replay_at_smoke_scale(tmp_path: Path) -> None:
    run = adma("replay", "table1", "--epochs", "1", "--loss", "adma:a=table1", "--loss", "cce", "--out", "o",
               cwd=tmp_path, timeout=840)  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    runs = lines(tmp_path / "o/table1-runs.csv")
    assert {r["data"] for r in runs} == set(PRINTED[1])
    assert {r["status"] for r in runs} == {"done"}
    for name, row in PRINTED[1].items():
        assert {r["loss"] for r in runs if r["data"] == name} == {f"adma:a={row.a}", "cce"}

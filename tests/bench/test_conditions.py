"""Data conditions in a cell: the same for every loss, the test part never touched, what networks learn of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.errors import BenchError
from adma.bench.folder import Folder, Results
from adma.bench.loading import held_out_of, labels_of, split_of
from adma.bench.result import DONE, CellResult
from adma.bench.statistics import check_fairness
from adma.bench.study import Cell, Setting, Study
from adma.bench.train import train
from adma.cli import main

NOISY = {"label_noise": "0.4:symmetric", "imbalance": "10:exp", "train_fraction": 0.6}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def lesions() -> Dataset:
    """Sixty groups of three pictures each, two classes."""
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(60), 3))
    x = np.zeros((180, 1, 8, 8), dtype=np.uint8)
    return Dataset("lesions", x, (groups % 2).astype(np.int64), ("a", "b"), groups=groups)


def cell(data: Dataset, loss: str = "cce", seed: int = 0, **setting: object) -> Cell:
    return Cell(replace(Setting(data.name, data.fingerprint, model="mlp"), **setting), loss, seed)  # type: ignore[arg-type]


def drawn(data: Dataset, c: Cell) -> dict[str, list[int]]:
    split = split_of(c, data)
    labels = labels_of(c, data, split)
    indices = {part: getattr(split, part).tolist() for part in ("train", "val", "test")}
    return {**indices, **{f"{part} labels": y.tolist() for part, y in labels.items()}}


def test_all_losses_and_learning_rates_of_a_seed_see_the_same_and_seeds_differ(digits: Dataset) -> None:
    first = drawn(digits, cell(digits, **NOISY))
    assert first == drawn(digits, cell(digits, "adma:a=0.3", **NOISY))
    assert first == drawn(digits, cell(digits, lr=0.5, optimizer="sgd", epochs=3, **NOISY))
    other = drawn(digits, cell(digits, seed=1, **NOISY))
    assert first["train"] != other["train"]
    assert first["train labels"] != other["train labels"]


def test_the_test_part_is_never_touched_and_val_only_if_asked(digits: Dataset) -> None:
    plain, hard = drawn(digits, cell(digits)), drawn(digits, cell(digits, **NOISY))
    for part in ("val", "test"):
        assert hard[part] == plain[part]
        assert hard[f"{part} labels"] == plain[f"{part} labels"] == digits.y[plain[part]].tolist()
    both = drawn(digits, cell(digits, noisy_val=True, **NOISY))
    assert both["test labels"] == hard["test labels"]
    assert both["train labels"] == hard["train labels"]
    truth = digits.y[both["val"]]
    counts = np.bincount(truth)
    false = np.bincount(truth[np.array(both["val labels"]) != truth])
    assert false.tolist() == np.floor(0.4 * counts + 0.5).tolist()


def test_a_share_then_imbalance_then_noise(digits: Dataset) -> None:
    def of(**setting: object) -> dict[str, list[int]]:
        return drawn(digits, cell(digits, **setting))

    part, thinned, noisy = of(train_fraction=0.6), of(train_fraction=0.6, imbalance="10:exp"), of(**NOISY)
    assert set(thinned["train"]) < set(part["train"]) < set(of()["train"])
    assert noisy["train"] == thinned["train"]
    counts = np.bincount(digits.y[thinned["train"]])
    assert counts[0] // 10 == counts[9]
    truth = digits.y[noisy["train"]]
    false = np.bincount(truth[np.array(noisy["train labels"]) != truth], minlength=10)
    assert false.tolist() == np.floor(0.4 * counts + 0.5).tolist()


def test_groups_stay_whole_under_every_condition_and_in_what_is_held_out(lesions: Dataset) -> None:
    assert lesions.groups is not None
    c = cell(lesions, imbalance="3:step", label_noise="0.1:pair", train_fraction=0.7)
    split = split_of(c, lesions)
    groups = {part: set(lesions.groups[getattr(split, part)]) for part in ("train", "val", "test")}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["val"]
    held = held_out_of(c, lesions, split)
    inside = lesions.groups[split.train]
    assert not set(inside[held]) & set(np.delete(inside, held))
    by_sample = cell(lesions, grouped=False, train_fraction=0.7)
    split = split_of(by_sample, lesions)
    held, inside = held_out_of(by_sample, lesions, split), lesions.groups[split.train]
    assert set(inside[held]) & set(np.delete(inside, held))


def test_what_is_held_out_is_drawn_by_the_labels_trained_on_and_the_same_for_every_loss(digits: Dataset) -> None:
    c = cell(digits, held_out=0.2, **NOISY)
    split = split_of(c, digits)
    held = held_out_of(c, digits, split)
    y = labels_of(c, digits, split)["train"]
    counts = np.bincount(y)
    assert np.bincount(y[held]).tolist() == np.maximum(1, np.floor(0.2 * counts + 0.5)).tolist()
    assert held.tolist() == held_out_of(replace(c, loss="adma:a=0.3"), digits, split).tolist()
    other = replace(c, seed=1)
    assert held.tolist() != held_out_of(other, digits, split_of(other, digits)).tolist()


def test_a_class_too_small_to_be_held_out_is_named(digits: Dataset) -> None:
    c = cell(digits, imbalance="100:exp")
    with pytest.raises(BenchError, match=r"a loss that is learned holds out .* at least 2 samples .* '9' has 1"):
        held_out_of(c, digits, split_of(c, digits))


def test_a_network_learns_the_labels_that_it_is_given_and_is_tested_on_the_true_ones(digits: Dataset) -> None:
    """With 90% of pair noise it learns to name the next class, so it is right nowhere but on labels of that noise."""
    result = train(cell(digits, epochs=10, label_noise="0.9:pair", noisy_val=True), digits)
    assert result.final("train_accuracy") > 0.8
    assert result.final("val_accuracy") > 0.8
    assert result.final("test_accuracy") < 0.1


def test_noise_and_imbalance_cost_accuracy_and_the_cell_records_them(digits: Dataset) -> None:
    finals = {}
    for name, setting in {
        "clean": {},
        "noisy": {"label_noise": "0.6:symmetric"},
        "rare": {"imbalance": "50:step"},
    }.items():
        result = train(cell(digits, epochs=12, lr=5e-3, **setting), digits)
        finals[name] = result.final("test_accuracy")
        found = result.env["conditions"]
        split = split_of(result.cell, digits)
        assert found["class_counts"] == np.bincount(digits.y[split.train]).tolist()
        assert found["false_labels"]["train"] == pytest.approx(0.6 if name == "noisy" else 0, abs=0.005)
        assert found["false_labels"]["val"] == found["false_labels"]["test"] == 0
    assert finals["clean"] > 0.95
    assert finals["noisy"] < finals["clean"] - 0.1
    assert finals["rare"] < finals["clean"] - 0.1


def test_losses_that_saw_other_labels_are_not_compared(digits: Dataset) -> None:
    setting = cell(digits, label_noise="0.4:symmetric", epochs=1, train_size=60).setting
    study = Study(setting, ("cce", "mae"), (0,))
    results = [train(c, digits) for c in study.cells()]
    shared = check_fairness(Results(study, tuple(results)))[0]
    assert {"train_labels", "val_labels", "split", "init", "order", "augment"} == set(shared)
    forged = {**results[1].env, "shared": {**results[1].env["shared"], "train_labels": "0" * 16}}
    other = CellResult(results[1].cell, DONE, epochs=results[1].epochs, env=forged)
    with pytest.raises(BenchError, match="seed 0: the losses did not share the same train_labels"):
        check_fairness(Results(study, (results[0], other)))


def test_cells_without_noise_record_what_earlier_ones_did_so_both_may_stand_in_one_comparison(digits: Dataset) -> None:
    result = train(cell(digits, epochs=1, train_size=60), digits)
    assert set(result.env["shared"]) == {"split", "init", "order", "augment"}


def test_compare_under_conditions_from_the_command_to_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["compare", "digits", "--model", "mlp", "--epochs", "1", "--seeds", "2", "--loss", "cce", "--loss", "mae"]
    command += ["--label-noise", "0.6:pair", "--noisy-val", "--imbalance", "20", "--train-fraction", "0.8"]
    assert main([*command, "--jobs", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "train 285, val 359, test 359" in printed
    said = [
        "80% of the training part is trained on, drawn by class",
        "down to one sample of",
        "60% of the training and validation labels are false, pair flip (as the next class); test labels are clean",
        "WARNING: label noise 0.6:pair: with 10 classes, from 50% on",
    ]
    page = (out / "report.html").read_text()
    for words in said:
        assert words in printed
        assert words in page
    for value in ("0.6:pair", "20:exp"):
        assert f"<dd>{value}</dd>" in page
    configs, envs = (
        [json.loads(path.read_text()) for path in out.glob(f"cells/*/{name}.json")] for name in ("config", "env")
    )
    assert len(envs) == 4
    for config in configs:
        got = {name: config[name] for name in ("label_noise", "noisy_val", "imbalance", "train_fraction")}
        assert got == {"label_noise": "0.6:pair", "noisy_val": True, "imbalance": "20:exp", "train_fraction": 0.8}
    for env in envs:
        counts = env["conditions"]["class_counts"]
        assert sum(counts) == 285
        assert counts[0] // 20 == counts[-1] == min(counts) == 4
        assert env["conditions"]["false_labels"]["train"] == pytest.approx(0.6, abs=0.01)
        assert env["conditions"]["false_labels"]["val"] == pytest.approx(0.6, abs=0.01)
        assert env["conditions"]["false_labels"]["test"] == 0
    for name in ("train_labels", "val_labels"):
        assert len({env["shared"][name] for env in envs}) == 2  # one a seed
    assert main([*command, "--out", str(out), "--label-noise", "0.5"]) == 2
    assert "label_noise: '0.6:pair' there, '0.5:symmetric' now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--label-noise", "1.5"], "adma: --label-noise 1.5: must be the share of labels that are false"),
        (["--label-noise", "0.4:pairs"], "did you mean 'pair'?"),
        (["--imbalance", "0.5"], "adma: --imbalance 0.5: must be"),
        (["--imbalance", "1000"], "adma: --imbalance 1000:exp: no sample of class '9' would be left"),
        (["--noisy-val"], "adma: --noisy-val gives"),
        (["--train-fraction", "1"], "adma: --train-fraction must be a number above 0 and below 1, got 1.0"),
    ],
)
def test_bad_conditions_are_refused_and_leave_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main(["compare", "digits", *options, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_document_has_conditions_as_variants_and_the_command_line_may_replace_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "noise.yaml"
    study.write_text(
        "title: Noise\ndata: digits\nlosses: [cce]\nseeds: 1\nepochs: 1\nmodel: mlp\nmax_train_size: 100\n"
        "variants: {clean: {}, noisy: {label_noise: 0.4, noisy_val: true}, half: {train_fraction: 0.5}}\n"
    )
    out = tmp_path / "out"
    assert main(["run", str(study), "--jobs", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "40% of the training and validation labels are false, symmetric" in printed
    plan, _ = Folder(out).plan("noise")
    by_variant = {entry.variant: entry.study.setting for entry in plan.entries}
    assert [s.label_noise for s in by_variant.values()] == ["none", "0.4:symmetric", "none"]
    assert {s.train_size for s in by_variant.values()} == {100}
    page = (out / "noise.html").read_text()
    assert "label noise 0.4:symmetric (validation too)" in page
    assert "share of the training part 0.5" in page
    assert main(["run", str(study), "--estimate", "--imbalance", "5:step", "--out", str(out)]) == 0
    assert "imbalance 5:step" in capsys.readouterr().out
    assert main(["run", str(study), "--label-noise", "0.4:pears", "--out", str(out)]) == 2
    assert "did you mean 'pair'?" in capsys.readouterr().err

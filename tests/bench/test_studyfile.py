"""Study documents: what is said later wins, and what is wrong is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from adma.bench.errors import BenchError
from adma.bench.studyfile import read_study, tasks

FULL = """
title: A study
data: [digits, mnist]
losses: [cce, mse]
seeds: 5
epochs: 20
lr: 1e-3
per_data:
  mnist: {epochs: 30, lr: 0.1}
variants:
  plain: {}
  slow: {lr: 1e-4}
scales:
  smoke:
    epochs: 2
    max_train_size: 300
    per_data: {mnist: {max_train_size: null, epochs: 3}}
  paper: {}
"""


def write(folder: Path, text: str, name: str = "study.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_file_data_set_scale_variant_and_command_line_win_in_this_order(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, FULL))
    by_name = {t.name: t.options for t in tasks(study)}
    assert list(by_name) == ["digits/plain", "digits/slow", "mnist/plain", "mnist/slow"]  # the first scale: smoke
    assert [o["epochs"] for o in by_name.values()] == [2, 2, 3, 3]
    assert [o["lr"] for o in by_name.values()] == [1e-3, 1e-4, 0.1, 1e-4]
    assert [o["max_train_size"] for o in by_name.values()] == [300, 300, None, None]
    paper = {t.name: t.options for t in tasks(study, scale="paper", changes={"seeds": 2})}
    assert [o["epochs"] for o in paper.values()] == [20, 20, 30, 30]
    assert {o["seeds"] for o in paper.values()} == {2}


def test_a_scale_may_have_data_sets_and_variants_of_its_own(tmp_path: Path) -> None:
    text = FULL.replace("  paper: {}", "  paper: {data: svhn, variants: {tiny: {image_size: 8x8}}}")
    found = tasks(read_study(write(tmp_path, text)), scale="paper")
    assert [t.name for t in found] == ["svhn/tiny"]
    assert {t.options["image_size"] for t in found} == {"8x8"}


def test_other_data_sets_may_take_the_place_of_the_documents_own(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, FULL))
    assert [t.data for t in tasks(study, data=["photos/"])] == ["photos/", "photos/"]
    with pytest.raises(BenchError, match="named twice"):
        tasks(study, data=["digits", "digits"])


def test_a_document_may_extend_another_key_by_key_but_replaces_variants_whole(tmp_path: Path) -> None:
    write(tmp_path, FULL, "base.yaml")
    text = "extends: base.yaml\nlosses: [mae]\nper_data: {mnist: {epochs: 7}}\nvariants: {only: {}}"
    study = read_study(write(tmp_path, text))
    found = {t.name: t.options for t in tasks(study, scale="paper")}
    assert list(found) == ["digits/only", "mnist/only"]
    assert found["mnist/only"]["losses"] == ["mae"]
    assert (found["mnist/only"]["epochs"], found["mnist/only"]["lr"]) == (7, 0.1)


def test_a_document_without_scales_runs_as_it_is(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, "title: x\ndata: digits\nlosses: [cce]\n"))
    (task,) = tasks(study)
    assert (task.name, task.data, dict(task.options)) == ("digits", "digits", {"losses": ["cce"]})
    with pytest.raises(BenchError, match="--scale smoke: this study has no such scale; known: none"):
        tasks(study, scale="smoke")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: x\ndata: digits\nlosses: [cce]\nepoch: 3", r"epoch is not known.*epochs"),
        ("title: x\ndata: digits\nlosses: [cce]\nscales: {smoke: {epochs: 0}}", r"scales\.smoke\.epochs: .*got 0"),
        ("title: x\ndata: digits\nlosses: [cce]\nper_data: {digits: {lr: fast}}", r"per_data\.digits\.lr: .*'fast'"),
        ("title: x\ndata: digits\nlosses: []", r"losses: .*at least 1"),
        ("title: x\nlosses: [cce]", r"data is missing"),
        ("title: x\ndata: digits\nlosses: [cce]\nimage_size: big", r"image_size: .*'big'"),
        ("title: x\ndata: digits\nlosses: [cce]\ntest_fraction: 1.5", r"test_fraction: .*less than 1, got 1\.5"),
        ("title: [x", r"is no YAML"),
        ("- a list", r"must hold keys such as title"),
        ("extends: study.yaml\ntitle: x", r"extends itself"),
        ("extends: nowhere.yaml\ntitle: x", r"nowhere\.yaml: cannot be read"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        read_study(write(tmp_path, text))


def test_a_document_without_losses_is_refused_for_each_data_set(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, "title: x\ndata: digits"))
    with pytest.raises(BenchError, match="no losses are given for digits"):
        tasks(study)

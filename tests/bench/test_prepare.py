"""From a task to a study: sizes that are told, settings in one spelling, and refusals that stop nobody else."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.errors import BenchError
from adma.bench.estimate import seconds_per_cell
from adma.bench.folder import Folder
from adma.bench.loading import Loader, split_of
from adma.bench.prepare import Prepared, Refused, Where, check_task, make_study, prepare
from adma.bench.study import Cell, Entry, Plan, Setting, Study
from adma.bench.studyfile import Task


def task(data: str = "digits", name: str = "", **options) -> Task:
    return Task(name or data, data, "", {"losses": ["cce", "adma:a=0.30"], **options})


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def lesions() -> Dataset:
    """Sixty groups of three pictures each, two classes."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 3)
    x = rng.integers(0, 255, (180, 1, 8, 8), dtype=np.uint8)
    return Dataset("lesions", x, (groups % 2).astype(np.int64), ("a", "b"), groups=groups)


def test_a_study_has_every_spec_in_its_one_spelling(digits: Dataset) -> None:
    study, _, _ = make_study(
        task(model="convnet:kernel=3,activation=relu", optimizer="sgd:momentum=0.90", augment="flip,shift=0.20"), digits
    )
    assert study.losses == ("cce", "adma:a=0.3")
    setting = study.setting
    assert (setting.model, setting.optimizer) == ("convnet:activation=relu", "sgd:momentum=0.9")
    assert setting.augment == "shift=0.2,flip"
    assert setting.data_hash == digits.fingerprint


def test_a_limit_on_training_samples_is_a_limit_and_the_sizes_say_what_came_of_it(digits: Dataset) -> None:
    some, sizes, _ = make_study(task(max_train_size=100), digits)
    assert (some.setting.train_size, sizes["train"]) == (100, 100)
    every, sizes, _ = make_study(task(max_train_size=10**6), digits)
    assert every.setting.train_size is None
    assert sizes["train"] == len(split_of(Cell(every.setting, "cce", 0), digits).train) > 1000
    _, sizes, _ = make_study(task(eval_size=50), digits)
    assert (sizes["val"], sizes["test"]) == (50, 50)


def test_groups_stay_whole_unless_the_papers_protocol_or_the_user_says_otherwise(lesions: Dataset) -> None:
    assert lesions.groups is not None

    def shared(study: Study) -> int:
        split = split_of(Cell(study.setting, "cce", 0), lesions)
        return len(set(lesions.groups[split.train]) & set(lesions.groups[split.test]))  # type: ignore[index]

    clean, _, notes = make_study(task("lesions"), lesions)
    assert (shared(clean), notes) == (0, ["samples of one group stay in one part"])
    for leaky, _, notes in (
        make_study(task("lesions"), lesions, protocol="paper"),
        make_study(task("lesions", grouped=False), lesions),
    ):
        assert shared(leaky) > 0
        assert notes[0].startswith("WARNING: divided by sample")


def test_where_there_are_no_groups_the_protocols_share_their_cells(digits: Dataset) -> None:
    clean, _, _ = make_study(task(), digits, protocol="clean", grid=(0.1,))
    paper, _, notes = make_study(task(), digits, protocol="paper", grid=(0.1,))
    assert clean == paper
    assert clean.losses == ("adma:a=0.3", "adma:a=0.1", "cce")
    assert not notes


def test_conditions_are_in_one_spelling_told_in_words_and_in_the_sizes(digits: Dataset) -> None:
    plain, whole, _ = make_study(task(), digits)
    study, sizes, notes = make_study(
        task(label_noise="0.40", imbalance="20.0:exp", train_fraction=0.5, noisy_val=True), digits
    )
    setting = study.setting
    assert (setting.label_noise, setting.imbalance) == ("0.4:symmetric", "20:exp")
    assert (setting.train_fraction, setting.noisy_val) == (0.5, True)
    assert any("40% of the training and validation labels are false" in note for note in notes)
    assert sizes["train"] == len(split_of(Cell(setting, "cce", 0), digits).train) < whole["train"] / 4
    assert (sizes["val"], sizes["test"]) == (whole["val"], whole["test"])
    clean, _, notes = make_study(task(label_noise="none", imbalance="none", noisy_val=False), digits)
    assert clean == plain
    assert not notes


def test_a_limit_on_training_samples_holds_before_a_share_of_them_is_taken(digits: Dataset) -> None:
    some, sizes, _ = make_study(task(max_train_size=200, train_fraction=0.5), digits)
    assert (some.setting.train_size, sizes["train"]) == (200, pytest.approx(100, abs=5))  # rounded class by class
    every, _, _ = make_study(task(max_train_size=1000, train_fraction=0.5, imbalance="10"), digits)
    assert every.setting.train_size == 1000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"label_noise": "0.4:pairs"},
            r"digits: --label-noise 0\.4:pairs: 'pairs' is not known, did you mean 'pair'\?",
        ),
        ({"imbalance": "0.5"}, r"digits: --imbalance 0\.5: must be"),
        ({"train_fraction": 1.5}, r"digits: --train-fraction must be"),
        ({"noisy_val": True}, r"digits: --noisy-val gives"),
    ],
)
def test_conditions_are_checked_before_any_data_are_read(options: dict, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        check_task(task(**options))


def test_more_imbalance_than_samples_refuses_that_comparison_alone() -> None:
    refused, ready = prepare(
        [task(name="rare", imbalance="1e4"), task(name="good", imbalance="5", model="mlp")], Where()
    ).items
    assert isinstance(refused, Refused)
    assert "--imbalance 10000:exp: no sample of class '9' would be left" in refused.reason
    assert isinstance(ready, Prepared)


def test_an_imbalance_that_some_seed_has_too_few_samples_for_is_found_before_anything_trains() -> None:
    """Half of the groups of one class have a sample of the other: how many samples of it train depends on the seed."""
    groups = np.repeat(np.arange(60), 3)
    y = (groups >= 30).astype(np.int64)
    y[90::6] = 0
    lumpy = Dataset("lumpy", np.zeros((len(y), 3), np.float32), y, ("a", "b"), groups=groups)

    def least(seed: int) -> int:
        train = split_of(Cell(Setting("lumpy", lumpy.fingerprint), "cce", seed), lumpy).train
        return int((lumpy.y[train] == 0).sum())

    found = [least(seed) for seed in range(20)]
    assert found[0] > min(found)
    make_study(task("lumpy", imbalance=str(found[0]), seeds=1), lumpy)
    with pytest.raises(BenchError, match="no sample of class 'b' would be left"):
        make_study(task("lumpy", imbalance=str(found[0]), seeds=20), lumpy)


def test_a_class_too_small_for_a_learned_loss_is_found_before_anything_trains(digits: Dataset) -> None:
    options = {"losses": ["cce", "adma:a=learn"], "imbalance": "100"}
    with pytest.raises(BenchError, match=r"a loss that is learned holds out .* at least 2 samples .* '9' has 1"):
        make_study(task(**options), digits)
    make_study(task(**{**options, "losses": ["cce"]}), digits)
    make_study(task(**{**options, "imbalance": "20"}), digits)


def test_vectors_get_an_mlp_and_no_augmentation() -> None:
    rng = np.random.default_rng(0)
    table = Dataset("table", rng.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2, ("a", "b"))
    study, _, _ = make_study(task("table"), table)
    assert study.setting.model == "mlp"
    with pytest.raises(BenchError, match="--augment flip: the samples of table are no images"):
        make_study(task("table", augment="flip"), table)


def test_what_cannot_run_is_refused_and_the_rest_is_ready(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    ready = prepare(
        [task(str(tmp_path / "bad.npz"), "bad"), task(model="convnett", name="typo"), task(name="good", epochs=3)],
        Where(),
    )
    bad, typo, good = ready.items
    assert isinstance(bad, Refused)
    assert "bad.npz" in bad.reason
    assert isinstance(typo, Refused)
    assert "convnet" in typo.reason
    assert isinstance(good, Prepared)
    assert ready.ready == [good]
    assert good.about["sizes"]["train"] > 1000
    assert good.cell_seconds > 0


def test_an_estimate_is_of_steps_so_it_grows_with_epochs_and_samples() -> None:
    sizes = {"train": 640, "val": 128, "test": 128}
    setting = Setting("digits", "h", epochs=1)
    one = seconds_per_cell(setting, "cce", sizes, (1, 8, 8), 10)
    ten = seconds_per_cell(replace(setting, epochs=100), "cce", sizes, (1, 8, 8), 10)
    assert ten > 10 * one > 0  # a hundredfold, but for the noise of timing


def test_data_that_changed_since_the_plan_are_refused_when_they_are_loaded(digits: Dataset) -> None:
    cell = Cell(Setting("digits", digits.fingerprint), "cce", 0)
    assert len(Loader({digits.fingerprint: partial(load, "digits")})(cell)) == len(digits)
    stale = Cell(Setting("digits", "f" * 16), "cce", 0)
    with pytest.raises(BenchError, match="the data changed since this study began"):
        Loader({"f" * 16: partial(load, "digits")})(stale)


def test_plans_share_a_folder_and_come_back_as_they_were(tmp_path: Path) -> None:
    setting = Setting("digits", "0123456789abcdef")
    first = Plan("one", (Entry("digits/a", Study(setting, ("cce",), (0, 1)), "digits", "a"),))
    second = Plan("two", (Entry("digits", Study(replace(setting, lr=0.1), ("mse",), (0,)), "digits"),))
    store = Folder(tmp_path / "s")
    store.open_plan(first, about={"scale": "smoke"})
    store.open_plan(second, about={})
    assert store.plan("one") == (first, {"scale": "smoke"})
    assert store.plan("two") == (second, {})
    with pytest.raises(BenchError, match="holds plans of adma run or replay"):
        store.results()
    with pytest.raises(BenchError, match="no plan 'three'"):
        store.plan("three")
    with pytest.raises(BenchError, match="not empty and holds no study"):
        Folder(tmp_path).open_plan(first, about={})
    (tmp_path / "s/plans/one.json").write_text("{}")
    with pytest.raises(BenchError, match="cannot be read as a plan"):
        store.plan("one")

"""Keys and seeds: what makes a cell the same cell, and what the losses of a seed share."""

from __future__ import annotations

import hashlib
from dataclasses import MISSING, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adma.bench.study import Cell, Entry, Plan, Setting, Study, digest

SETTING = Setting("digits", "0123456789abcdef")


def test_a_study_runs_every_loss_with_every_seed_and_seed_by_seed() -> None:
    cells = Study(SETTING, ("cce", "mse"), (0, 1)).cells()
    assert [(c.loss, c.seed) for c in cells] == [("cce", 0), ("mse", 0), ("cce", 1), ("mse", 1)]


def test_a_cell_and_a_study_survive_their_json_form() -> None:
    cell = Cell(replace(SETTING, train_size=100), "adma:a=0.26", 3)
    assert Cell.from_config(cell.config()) == cell
    study = Study(SETTING, ("cce", "mse"), (0, 1))
    assert Study.from_config(study.config()) == study
    assert study.differences(study) == []


@given(
    loss=st.text(), seed=st.integers(0, 2**40), lr=st.floats(1e-9, 1e9), train_size=st.none() | st.integers(1, 10**6),
    augment=st.text(), grouped=st.booleans(),
)  # fmt: skip
def test_the_key_is_the_hash_of_the_canonical_json_without_defaults(
    loss: str, seed: int, lr: float, train_size: int | None, augment: str, grouped: bool
) -> None:
    setting = replace(SETTING, lr=lr, train_size=train_size, augment=augment, grouped=grouped)
    cell = Cell(setting, loss, seed)
    defaults = {f.name: f.default for f in fields(Setting) if f.default is not MISSING}
    kept = {k: v for k, v in cell.config().items() if k not in defaults or v != defaults[k]}
    assert cell.key == digest(kept)


@pytest.mark.parametrize("name", [f.name for f in fields(Setting)])
def test_every_setting_is_part_of_the_key(name: str) -> None:
    value = getattr(SETTING, name)
    changed = {str: "other", int: 7, float: 0.123, type(None): 9, bool: not value}[type(value)]
    other = replace(SETTING, **{name: changed})
    assert Cell(other, "cce", 0).key != Cell(SETTING, "cce", 0).key
    assert any(name in d for d in Study(other, ("cce",), (0,)).differences(Study(SETTING, ("cce",), (0,))))


def test_loss_and_seed_are_part_of_the_key() -> None:
    keys = {Cell(SETTING, loss, seed).key for loss in ("cce", "mse") for seed in (0, 1)}
    assert len(keys) == 4


def test_streams_depend_on_data_seed_and_name_but_never_on_the_loss() -> None:
    cell = Cell(SETTING, "cce", 0)
    assert cell.stream_seed("order", 1) == Cell(SETTING, "mse", 0).stream_seed("order", 1)
    assert cell.stream_seed("order", 1) == Cell(replace(SETTING, lr=0.5), "cce", 0).stream_seed("order", 1)
    others = {
        cell.stream_seed("order", 2),
        cell.stream_seed("init"),
        Cell(SETTING, "cce", 1).stream_seed("order", 1),
        Cell(replace(SETTING, data_hash="f" * 16), "cce", 0).stream_seed("order", 1),
    }
    assert len(others) == 4
    assert cell.stream_seed("order", 1) not in others
    assert 0 <= cell.stream_seed("init") < 2**63  # what torch.manual_seed takes


def test_the_key_of_a_cell_at_its_defaults_holds_only_what_has_no_default() -> None:
    """So a field that comes later leaves stored results their names."""
    text = '{"data":"digits","data_hash":"0123456789abcdef","loss":"cce","schema":2,"seed":0}'
    assert Cell(SETTING, "cce", 0).key == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert Cell(replace(SETTING, lr=1e-3, epochs=10), "cce", 0).key == Cell(SETTING, "cce", 0).key


def test_cells_of_earlier_folders_keep_their_keys() -> None:
    """As they were before a setting knew of data conditions: found in folders of version 0.1.0."""
    assert Cell(SETTING, "cce", 0).key == "6fbc073583c84af8"
    changed = replace(SETTING, epochs=3, train_size=100, augment="flip")
    assert Cell(changed, "adma:a=0.26", 4).key == "f1c06245633fd724"
    without = {"train_fraction": None, "imbalance": "none", "label_noise": "none", "noisy_val": False, "held_out": 0.1}
    assert Cell(replace(changed, **without), "adma:a=0.26", 4).key == "f1c06245633fd724"  # type: ignore[arg-type]


def test_a_cell_that_two_studies_of_a_plan_share_runs_once() -> None:
    first, second = Study(SETTING, ("cce", "mse"), (0, 1)), Study(SETTING, ("mse", "mae"), (0,))
    cells = Plan("both", (Entry("a", first), Entry("b", second))).cells()
    assert [(c.loss, c.seed) for c in cells] == [("cce", 0), ("mse", 0), ("cce", 1), ("mse", 1), ("mae", 0)]

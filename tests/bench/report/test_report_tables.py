"""The terminal's table, and the line of Python to paste."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import report_fakes as fakes
import torch
from rich.console import Console

import adma
from adma.bench.report import comparison_table, paste_line
from adma.bench.statistics import summarise
from adma.family import Member
from adma.spec import known

BASE = np.array([0.900, 0.910, 0.895])
STUDY = {
    "cce": list(BASE),
    "adma:a=0.26": list(BASE + np.array([0.0100, 0.0105, 0.0095])),
    "mae": [0.6, 0.61, "diverged"],
}


def show(results, width=140, **options) -> str:
    file = io.StringIO()
    Console(file=file, width=width, **options).print(comparison_table(summarise(results)))
    return file.getvalue()


def test_the_table_holds_means_differences_calibration_failures_and_verdict():
    text = show(fakes.results(STUDY))
    row = next(line for line in text.splitlines() if "adma:a=0.26" in line)
    assert "91.17 ±" in row
    assert "+1.00 ± 0.12" in row  # 4.303 * 0.05 / sqrt(3)
    assert "→" in row
    assert "3/3" in row
    assert "→" not in next(line for line in text.splitlines() if line.strip().startswith("mae"))
    assert "mae, seed 2: diverged (loss is nan in epoch 4)" in text
    assert "Undecided." in text


def test_the_winner_is_named():
    text = show(fakes.results({k: v for k, v in STUDY.items() if k != "mae"}))
    assert "Best: adma:a=0.26." in text
    assert "★ adma:a=0.26" in text


def test_one_seed_says_that_there_is_no_interval():
    text = show(fakes.results({"cce": [0.5], "mae": [0.4]}))
    assert "no interval" in text
    assert "at least two seeds" in text


@pytest.mark.parametrize("width", [1, 8, 20, 40, 80])
def test_a_narrow_terminal_does_not_crash(width):
    assert show(fakes.results(STUDY), width=width)


def test_eighty_columns_hold_every_number_on_one_line():
    row = next(line for line in show(fakes.results(STUDY), width=80).splitlines() if "adma:a" in line)
    for number in ("3/3", "91.17 ± ", "+1.00 ± 0.12", "4.16 → 2.08", "0.394", "12.0"):
        assert number in row


def test_markup_and_control_characters_are_shown_not_obeyed():
    hostile = "[red]x[/red][/]\x1b[2J"
    results = fakes.results({"cce": [0.5], hostile: ["failed"]})
    text = show(results, force_terminal=True, color_system=None)
    assert "[red]x[/red][/]\\x1b" in text
    assert "\x1b[2J" not in text


def test_names_that_are_not_utf8_can_be_printed():
    show(fakes.results({"cce": [0.5], "bad\udcff": [0.4]})).encode("utf-8")


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("cce", "loss_fn = adma.CrossEntropyLoss()"),
        ("adma", "loss_fn = adma.AdmaLoss(a=0.26)"),
        ("adma:a=0.26", "loss_fn = adma.AdmaLoss(a=0.26)"),
        ("adma:a=0.3,base=2,normalize=true", "loss_fn = adma.AdmaLoss(a=0.3, base=2.0, normalize=True)"),
        ("adma:a=0.9", "loss_fn = adma.AdmaLoss(a=0.9)"),
        ("gce:q=0.5", "loss_fn = adma.GeneralizedCrossEntropyLoss(q=0.5)"),
        ("mae", "loss_fn = adma.MeanAbsoluteErrorLoss()"),
        ("focal:gamma=3", "loss_fn = adma.FocalLoss(gamma=3.0)"),
        ("poly1:epsilon=2", "loss_fn = adma.Poly1Loss(epsilon=2.0)"),
        ("mse", "loss_fn = adma.MeanSquaredErrorLoss()"),
        ("squared_hinge", "loss_fn = adma.SquaredHingeLoss()"),
        ("bi_tempered:t1=0.5", "loss_fn = adma.BiTemperedLoss(t1=0.5)"),
    ],
)
def test_paste_lines(spec, line):
    assert paste_line(spec) == line


@pytest.mark.parametrize(
    ("spec", "parameter", "values"),
    [
        ("adma:a=linear/0.01/0.4,normalize=true", "a", (0.01, 0.205, 0.4)),
        ("bi_tempered:t2=cosine/1/1.4", "t2", (1.0, 1.2, 1.4)),
        ("half:q=linear/0.2/0.6", "q", (0.2, 0.4, 0.6)),
    ],
)
def test_the_paste_lines_of_a_scheduled_loss_train_with_its_schedule(spec, parameter, values, monkeypatch):
    monkeypatch.setattr(adma.spec, "_REGISTRY", dict(adma.spec._REGISTRY))

    @adma.register
    @dataclass(frozen=True)
    class Half(Member):
        q: float = 0.5
        name: ClassVar[str] = "half"

    scope: dict = {"adma": adma, "total_steps": 2}
    exec(paste_line(spec), scope)
    found = [scope["loss_fn"].member.parameters()[parameter]]
    for _ in range(2):
        scope["shape"].step()
        found.append(scope["loss_fn"].member.parameters()[parameter])
    assert found == pytest.approx(values)


def test_the_paste_lines_of_a_learned_loss_learn_it():
    model = torch.nn.Linear(4, 3)
    scope: dict = {
        "adma": adma, "model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "held_out": (torch.randn(8, 4), torch.randint(3, (8,))),
    }  # fmt: skip
    exec(paste_line("adma:a=learn/0.1,base=learn,normalize=true"), scope)
    assert scope["loss_fn"].member == adma.family.Adma(0.1, normalize=True)
    assert scope["tuner"].values == pytest.approx({"a": 0.1, "base": np.e})


def test_the_paste_line_of_an_unknown_loss_is_valid_python():
    spec = 'mine:path="a\\b"\n😀'
    code = paste_line(spec).partition(" = ")[2]
    assert eval(code, {"adma": type("adma", (), {"make_loss": staticmethod(lambda s: s)})}) == spec


@pytest.mark.parametrize("name", sorted(known()))
def test_every_paste_line_runs_after_import_adma(name):
    spec = {"adma": "adma:a=0.3,base=2.0,normalize=true", "gce": "gce:q=0.4"}.get(name, name)
    model = torch.nn.Linear(4, 3)
    scope: dict = {"adma": adma, "model": model}
    exec(paste_line(spec), scope)
    assert scope["loss_fn"](model(torch.zeros(2, 4)), torch.tensor([0, 2])).isfinite()

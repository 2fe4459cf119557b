"""What the variants change and the course of training, in a terminal and as CSV; and the CSV writer they share."""

from __future__ import annotations

import csv
import dataclasses
import io
import re

import numpy as np
import pytest
import replay_fakes as fakes
from rich.console import Console
from scipy import stats

from adma.bench.report.cells import number
from adma.bench.report.replay import Effect
from adma.bench.report.replay_tables import EFFECT_COLUMNS, csv_text, effect_table, effects_csv
from adma.bench.report.replay_words import effect_title, mean_words, points_words
from adma.bench.report.trait_tables import trait_table
from adma.bench.statistics import estimate


def shown(table) -> str:
    assert table is not None
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


def parsed(text: str) -> tuple[list[str], list[dict[str, str]]]:
    lines = text.splitlines()
    head = [line for line in lines if line.startswith("#")]
    return head, list(csv.DictReader(lines[len(head) :], strict=True))


# -- effects -----------------------------------------------------------------------------------------------------


def test_a_line_an_effect_with_its_names_once():
    text = shown(effect_table(fakes.replay(effects=fakes.effects())))
    half = stats.t.ppf(0.975, 2) * 1 / np.sqrt(3)  # both have values one point apart
    assert re.search(rf"Flower Recognition +share_0\.60 +base +CCE +−3\.00 ± {half:.2f} +3 *\n", text)
    assert re.search(rf"\n +Adma minus CCE +\+4\.00 ± {half:.2f} +3", text)
    assert re.search(r"Skin Cancer +share_0\.60 +share_0\.75 +focal:gamma=2\.0 +– +0", text)
    assert text.count("Flower Recognition") == 1


def test_long_names_and_wide_intervals_fit_a_hundred_columns():
    wide = estimate([-0.05, 0.21], 0.95)
    of = Effect(
        "A data set with a long name", "activation_leaky_relu", "activation_maxout", "adma:a=0.3 minus cce", wide
    )
    text = shown(effect_table(fakes.replay(effects=(of, dataclasses.replace(of, variant="\x1b[31m")))))
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("+8.00 ± 165.18") == 2
    assert "\x1b" not in text
    assert "…" not in text
    assert effect_title(of) == "adma:a=0.3 minus CCE"


def test_the_effects_read_back_from_the_csv_in_points():
    effects = fakes.effects()
    replay = fakes.replay(effects=effects, claims=(("a", "b"),))
    head, lines = parsed(effects_csv(replay))
    assert tuple(lines[0]) == EFFECT_COLUMNS
    assert [(x["data"], x["variant"], x["base"], x["loss"]) for x in lines] == [
        (e.data, e.variant, e.base, e.loss) for e in effects
    ]
    expected = stats.ttest_1samp([4.0, 3.0, 5.0], 0).confidence_interval(0.95)
    found = [float(lines[1][name]) for name in ("change", "ci_low", "ci_high", "sd", "level")]
    assert found == pytest.approx([4.0, expected.low, expected.high, 1.0, 0.95], abs=1e-4)
    assert (lines[2]["n"], lines[2]["change"], lines[2]["ci_low"], lines[2]["sd"]) == ("0", "", "", "")
    assert "# command: adma replay table1 --scale small" in head
    assert "# claim: a; ours: b" in head


def test_without_effects_there_is_no_table():
    assert effect_table(fakes.replay()) is None


# -- traits ------------------------------------------------------------------------------------------------------


def test_the_traits_are_differences_to_the_baseline_and_name_who_has_none():
    row = fakes.row_of("mnist")
    text = shown(trait_table(fakes.replay((row, fakes.absent_row("svhn")))))
    gain = next(t for t in row.traits if t.name == "auc" and t.loss == "mse").to_baseline.estimate
    (line,) = (line for line in text.splitlines() if line.lstrip().startswith("mse "))
    assert line.rstrip().endswith(points_words(gain))
    assert "None for: SVHN." in text
    assert "−0.00" not in text


@pytest.mark.parametrize("key", ["cifar100", "fashion_mnist"])
def test_no_number_of_the_traits_is_cut(key):
    """Differences of more than ten points, and intervals of more than a hundred."""
    row = fakes.row_of(key)
    wide = estimate([-0.9, -0.5], 0.95)
    far = tuple(
        dataclasses.replace(t, to_baseline=t.to_baseline and dataclasses.replace(t.to_baseline, estimate=wide))
        for t in row.traits
    )
    plain, long = (shown(trait_table(fakes.replay((r,)))) for r in (row, dataclasses.replace(row, traits=far)))
    assert max(len(line) for text in (plain, long) for line in text.splitlines()) <= 100
    assert all(points_words(t.to_baseline.estimate).partition(" ")[0] in plain for t in row.traits if t.to_baseline)
    losses = len({t.loss for t in row.traits}) - 1
    assert long.count("−70.00 ") == long.count("± 254.12") == 4 * losses  # 12.706 * 20 * sqrt(2) / sqrt(2)


def test_without_traits_there_is_no_table():
    row = fakes.row_of("mnist")
    empty = tuple(dataclasses.replace(t, estimate=estimate([], 0.95), to_baseline=None) for t in row.traits)
    for rows in ((), (fakes.absent_row("svhn"),), (dataclasses.replace(row, traits=()),)):
        assert trait_table(fakes.replay(rows)) is None
    assert trait_table(fakes.replay((dataclasses.replace(row, traits=empty),))) is None


@pytest.mark.parametrize(("value", "text"), [(-0.00001, "0.00"), (0.0, "0.00"), (-0.0001, "−0.01"), (0.5, "50.00")])
def test_what_rounds_to_zero_has_no_sign(value, text):
    assert number(value, 100, 2) == text
    assert mean_words(estimate([value], 0.95)) == text
    assert points_words(estimate([value], 0.95)) == (f"+{text}" if value > 0 else text)


# -- the CSV writer ----------------------------------------------------------------------------------------------

HOSTILE = ["#", "# a: b", "x # y", "a,b", 'say "so"', "two\nlines", "", "\x1b[0m", "ß±−"]


@pytest.mark.parametrize("value", HOSTILE)
def test_any_text_stays_in_its_field(value):
    text = csv_text([("name", value)], ["one", value, "three"], [[value, "b", value], ["1", "2", "3"]])
    head, *lines = text.splitlines()
    seen = " ".join(value.replace("\x1b", r"\x1b").split())
    assert head == f"# name: {seen}".rstrip()
    assert list(csv.reader(lines, strict=True)) == [["one", seen, "three"], [seen, "b", seen], ["1", "2", "3"]]
    for line in lines:  # a reader that takes # for a comment's start must find it within quotes
        assert "#" not in re.sub(r'"(?:[^"]|"")*"', "", line)
        assert "\x1b" not in line


def test_a_row_of_another_length_is_a_mistake():
    with pytest.raises(ValueError, match=r"3 values, but there are 2 columns"):
        csv_text([], ["x", "y"], [["1", "2", "3"]])

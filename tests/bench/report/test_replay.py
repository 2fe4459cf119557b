"""The paper's table with ours: the numbers of a cell, and what a terminal, a CSV reader and LaTeX are given."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re

import numpy as np
import pytest
import replay_fakes as fakes
from rich.console import Console
from scipy import stats

from adma.bench.printed import DATASET_TITLES, PRINTED, ROLES
from adma.bench.report.replay import Replay, ReplayCell, ReplayRow
from adma.bench.report.replay_tables import (
    CSV_COLUMNS,
    latex_text,
    replay_csv,
    replay_latex,
    replay_table,
)
from adma.bench.report.replay_words import count_words, scale_words, shape_of
from adma.bench.statistics import estimate

VALUES = [0.9, 0.91, 0.95]


@pytest.fixture(scope="module")
def replay() -> Replay:
    return fakes.replay()


def cell(*values: float, printed: float | None = 92.5, loss: str = "cce", note: str = "") -> ReplayCell:
    return ReplayCell(printed, estimate(list(values), 0.95), loss, note)


def row(**cells: ReplayCell) -> ReplayRow:
    return ReplayRow("d", "D", cells, None, {"train": 10}, "words", seeds=3)


# -- numbers -----------------------------------------------------------------------------------------------------


def test_a_deviation_is_ours_minus_the_printed_number_in_points():
    found = cell(*VALUES).deviation
    assert found is not None
    assert found.mean == pytest.approx(92.0 - 92.5)
    expected = stats.ttest_1samp(100 * np.array(VALUES), 92.5).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low - 92.5, expected.high - 92.5))
    assert found.sd == pytest.approx(np.std(100 * np.array(VALUES), ddof=1))


def test_no_deviation_without_both_numbers_and_no_interval_from_one_seed():
    assert cell(*VALUES, printed=None).deviation is None
    assert cell().deviation is None
    assert ReplayCell(90.0, None, "").deviation is None
    single = cell(0.9).deviation
    assert single is not None
    assert (single.mean, single.interval) == (pytest.approx(-2.5), None)


def test_the_best_is_the_highest_mean_of_at_least_two():
    assert row(adma=cell(0.9), cce=cell(0.8, 0.85)).best == {"adma"}
    assert row(adma=cell(0.9), cce=cell()).best == frozenset()
    assert row(adma=cell(0.9), cce=cell(0.9), mse=cell(0.5)).best == {"adma", "cce"}


def test_the_status_of_a_cell_tells_done_partial_empty_and_not_run():
    found = row(adma=cell(*VALUES), cce=cell(0.9), squared_hinge=cell())
    assert [found.status(role) for role in ROLES] == ["done", "partial", "no result", "not run"]
    assert fakes.absent_row("svhn").status("cce") == "not run"


def test_a_loss_that_was_not_asked_for_is_not_run_and_not_counted():
    """`--loss cce --loss mse` on a table of four losses; mse gave nothing."""
    asked = row(adma=ReplayCell(99.0, None, ""), cce=cell(*VALUES), mse=cell(loss="mse"))
    assert [asked.status(role) for role in ROLES] == ["not run", "done", "not run", "no result"]
    assert [count_words(asked, role) for role in ROLES] == ["–", "3/3", "–", "0/3"]
    both = fakes.replay((asked, fakes.absent_row("svhn")))
    assert both.asked(asked) == ("cce", "mse")
    assert both.asked(both.rows[1]) == ("cce", "mse")  # a refused data set lacks what the others were asked for
    assert fakes.replay((fakes.absent_row("svhn"),)).asked(fakes.absent_row("svhn")) == ROLES


# -- the scale ---------------------------------------------------------------------------------------------------


def test_the_scales_name_does_not_decide_whether_the_runs_are_the_papers():
    short = "epochs 6 of 125; 10,000 of the 50,000 training samples of CIFAR10"
    cut = fakes.replay(scale="paper", shortfall=short)
    assert cut.reduced
    assert f"Scale paper: not the paper's samples, epochs and seeds in full ({short}). At" in scale_words(cut)
    assert "not a verdict on the paper" in scale_words(cut)
    whole = fakes.replay(scale="as published", whole=True)
    assert not whole.reduced
    assert scale_words(whole) == "Scale as published: the paper's sizes and epochs."


def test_claims_in_words_make_a_study_the_papers():
    replay = dataclasses.replace(unprinted(), scale="smoke", shortfall="few")
    assert scale_words(replay) == "Scale smoke."
    said = dataclasses.replace(replay, claims=(("Adma leads", "it does"),))
    assert "a difference from what the paper says is not a verdict" in scale_words(said)


@pytest.mark.parametrize(
    ("spec", "a"),
    [("adma:a=0.26", 0.26), ("adma:a=0.5,base=2", 0.5), ("cce", None), ("gce:q=0.7", None), ("x:a=1", None)],
)
def test_the_shape_is_read_from_a_spec_of_the_family_alone(spec, a):
    assert shape_of(spec) == a


# -- the terminal ------------------------------------------------------------------------------------------------


def shown(replay: Replay, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(replay_table(replay))
    return console.export_text()


def test_the_terminal_shows_every_cell_in_a_hundred_columns(replay):
    text = shown(replay)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    lines = text.splitlines()
    for found in replay.rows:
        start = next(i for i, line in enumerate(lines) if line.strip().startswith(found.title))
        for line, role in zip(lines[start : start + 4], ROLES, strict=True):
            assert f"{PRINTED[1][found.dataset].accuracy(role):.2f}" in line
            mean = found.cell(role).estimate
            assert (f"{100 * mean.mean:.2f} ± " if mean else "not run") in line
            assert f"{found.cell(role).n}/3" in line
            assert (" * " in line) == (role in found.best)


def test_the_terminal_says_what_the_scale_means(replay):
    text = " ".join(shown(replay).split())
    assert "Scale small" in text
    assert "not a verdict on the paper" in text
    assert "not a verdict" not in " ".join(shown(dataclasses.replace(replay, whole=True)).split())


def test_the_terminal_names_what_did_not_run_or_finish(replay):
    text = " ".join(shown(replay).split())
    assert "SVHN: not run (the data set is not here)" in text
    assert "CIFAR10: mse, seed 1: diverged" in text
    assert "note: the augmentation of SVHN" in text


def test_the_terminal_says_what_tuning_on_the_reported_part_adds(replay):
    lines = shown(replay).splitlines()
    assert "tuning a on the reported part adds +0.20 ± 0.25 points: MNIST (n = 3)" in [line.strip() for line in lines]
    assert "tuning a on the reported part adds +0.40 points: CIFAR10 (n = 1)" in [line.strip() for line in lines]
    assert "tuning a" not in shown(fakes.replay(protocol_costs=()))


CLAIMS = (("MNIST, first epoch, Adma: about 98%", "91.20 ± 0.40% (n = 3)"), ("\x1b[31m" + "long " * 30, "no #1"))


def test_the_papers_words_stand_below_the_table_with_ours(replay):
    text = shown(dataclasses.replace(replay, claims=CLAIMS))
    assert re.search(r"MNIST, first epoch, Adma: about 98% +91\.20 ± 0\.40% \(n = 3\)", text)
    assert text.index("Dogs vs. Cats") < text.index("note: ") < text.index("What the paper says in words")
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert text.count("long") == 30
    assert "says in words" not in shown(replay)


def test_wide_intervals_fit_and_are_not_broken():
    wide = {role: cell(0.565, 0.825, printed=91.48, loss=role) for role in ROLES}
    title = "A data set with a very long name"
    text = shown(fakes.replay((dataclasses.replace(row(**wide), title=title, seeds=2),)))
    assert text.count("69.50 ± 165.18  2/2") == 4
    assert text.count("−187.16 to +143.20") == 4
    assert max(map(len, text.splitlines())) <= 100


def test_the_best_is_bold_in_a_terminal(replay):
    console = Console(width=100, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(replay_table(replay))
    bold = [line for line in console.file.getvalue().splitlines() if "\x1b[1m" in line and " *" in line]
    assert len(bold) == sum(len(found.best) for found in replay.rows) == 7


def test_a_narrow_deviation_and_a_name_with_control_characters():
    text = shown(fakes.replay((dataclasses.replace(row(cce=cell(0.925, 0.925, 0.925)), title="\x1b[31mred"),)))
    assert r"\x1b[31mred" in text
    assert "0.00 to 0.00" in text


# -- CSV ---------------------------------------------------------------------------------------------------------


def read(text: str) -> tuple[list[str], list[dict[str, str]]]:
    lines = text.splitlines()
    head = [line for line in lines if line.startswith("#")]
    assert lines[: len(head)] == head  # all of it first
    return head, list(csv.DictReader(lines[len(head) :], strict=True))


def test_the_csv_reads_back_with_every_cell_once(replay):
    _, lines = read(replay_csv(replay))
    assert [(line["dataset"], line["loss"]) for line in lines] == [(d, r) for d in DATASET_TITLES for r in ROLES]
    assert all(set(line) == set(CSV_COLUMNS) and None not in line.values() for line in lines)
    for line in lines:
        assert float(line["printed"]) == PRINTED[1][line["dataset"]].accuracy(line["loss"])
        assert (line["table"], line["scale"], line["protocol"], line["seeds"]) == ("table1", "small", "paper", "3")
        found = next(r for r in replay.rows if r.dataset == line["dataset"]).cell(line["loss"])
        assert line["spec"] == found.loss
        if found.estimate is None:
            assert line["ours"] == line["ci_low"] == line["deviation"] == ""
            assert (line["status"], line["n"], line["note"]) == ("not run", "0", "the data set is not here")
            continue
        assert float(line["ours"]) == pytest.approx(100 * found.estimate.mean, abs=1e-4)
        assert float(line["deviation"]) == pytest.approx(float(line["ours"]) - float(line["printed"]), abs=2e-4)
        assert float(line["ci_low"]) < float(line["ours"]) < float(line["ci_high"])
        assert int(line["n"]) == found.n
        assert (line["train_size"], line["epochs"], line["image_size"]) == ("2000", "12", "28x28")


def test_the_csv_says_which_cells_lack_seeds_and_which_a_was_run(replay):
    _, lines = read(replay_csv(replay))
    by_cell = {(line["dataset"], line["loss"]): line for line in lines}
    assert by_cell["cifar10", "mse"]["status"] == "partial"
    assert by_cell["cifar10", "cce"]["status"] == "done"
    assert (by_cell["mnist", "adma"]["a"], by_cell["mnist", "adma"]["printed_a"]) == ("0.2624", "0.2624")
    assert by_cell["mnist", "cce"]["a"] == ""


def test_the_head_of_the_csv_says_how_it_was_made(replay):
    head, _ = read(replay_csv(replay))
    text = "\n".join(head)
    for piece in (
        "# command: adma replay table1 --scale small",
        "# date: 2026-01-02T03:04:05+00:00",
        "# cpu: A <fast> CPU",
        "# torch: 2.13.0",
        "not a verdict on the paper",
        "# trouble, CIFAR10: mse, seed 1: diverged",
        "# protocol cost: tuning a on the reported part adds +0.20 ± 0.25 points: MNIST (n = 3)",
        "# title: Table 1\n# caption: Accuracies achieved",
    ):
        assert piece in text


def test_the_papers_words_are_in_the_head_of_the_csv(replay):
    head, lines = read(replay_csv(dataclasses.replace(replay, claims=CLAIMS)))
    claims = [line for line in head if line.startswith("# claim: ")]
    assert claims[0] == "# claim: MNIST, first epoch, Adma: about 98%; ours: 91.20 ± 0.40% (n = 3)"
    assert len(claims) == 2
    assert len(lines) == 32


def test_hostile_text_stays_in_its_field_of_the_csv():
    bad = 'a,b"c\n#d'
    made = dataclasses.replace(row(cce=cell(0.9, note=bad)), dataset=bad)
    head, lines = read(replay_csv(fakes.replay((made,), command=bad, notes=(bad,))))
    assert {line["dataset"] for line in lines} == {'a,b"c #d'}
    assert [line["note"] for line in lines] == ["", 'a,b"c #d', "", ""]
    assert '# command: a,b"c #d' in head
    # a # inside a line is always within quotes, so that a reader that knows comments keeps the line whole
    for line in replay_csv(fakes.replay((made,))).splitlines():
        if not line.startswith("#"):
            assert "#" not in re.sub(r'"(?:[^"]|"")*"', "", line)


def test_one_seed_has_a_mean_and_neither_sd_nor_interval_in_the_csv():
    _, lines = read(replay_csv(fakes.replay((row(cce=cell(0.9)),))))
    line = next(line for line in lines if line["loss"] == "cce")
    assert (line["ours"], line["n"], line["sd"], line["ci_low"], line["level"]) == ("90.0000", "1", "", "", "")
    assert "nan" not in replay_csv(fakes.replay((row(cce=cell(0.9)),)))


# -- LaTeX -------------------------------------------------------------------------------------------------------


def balanced(text: str) -> bool:
    """Braces and environments close in order; escaped braces do not count."""
    depth = 0
    for c in re.sub(r"\\[{}]", "", text):
        depth += {"{": 1, "}": -1}.get(c, 0)
        if depth < 0:
            return False
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            stack.append(name)
        elif not stack or stack.pop() != name:
            return False
    return depth == 0 and not stack and text.count("$") % 2 == 0


def body(text: str) -> list[list[str]]:
    """The table's lines as cells, without the headings."""
    inner = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0].replace(r"\addlinespace", "")
    return [[c.strip() for c in line.split("&")] for line in inner.split(r"\\") if line.strip()]


def test_the_latex_has_the_papers_layout(replay):
    text = replay_latex(replay)
    assert balanced(text)
    lines = body(text)
    assert len(lines) == 16  # ours, and the printed numbers below
    assert {len(line) for line in lines} == {5}
    assert [line[0] for line in lines[::2]] == list(DATASET_TITLES.values())
    assert re.search(r"& Adma & CCE & Squared-Hinge & MSE \\\\\n\\midrule", text)
    assert lines[0][1].startswith("($a=0.2624$) ")
    assert lines[1][1:] == ["($a=0.2624$, 99.34)", "(99.30)", "(98.45)", "(98.74)"]
    for found, line in zip(replay.rows, lines[::2], strict=True):
        for role, value in zip(ROLES, line[1:], strict=True):
            mean = found.cell(role).estimate
            assert (r"\textbf" in value) == (role in found.best)
            assert (f"{100 * mean.mean:.2f}" in value and r"$\pm$" in value) if mean else value == r"\textit{not run}"


def test_the_caption_says_scale_and_troubles(replay):
    text = replay_latex(replay)
    assert "not a verdict on the paper" in text
    assert r"(OutOfMemory: \textless{}b\textgreater{}1 GB\textless{}/b\textgreater{})" in text
    assert r"95\% interval" in text


def test_the_papers_title_is_no_second_label_of_the_latex_table():
    text = replay_latex(fakes.replay(title="Table 1: with L2 regularisation, Adam"))
    assert r"\caption{Replay of Table 1: with L2 regularisation, Adam. Accuracies achieved" in text
    assert r"\caption{My study." in replay_latex(unprinted())


@pytest.mark.parametrize("name", ["a_b", "50%", "a&b", r"\input{x}", "x}{y", "$x$", "#1", "a~b^c", "[x] * y", "a\nb"])
def test_latex_specials_are_escaped(name):
    text = replay_latex(fakes.replay((dataclasses.replace(row(cce=cell(0.9), mse=cell(0.8)), title=name),)))
    assert balanced(text)
    lines = body(text)
    assert [len(line) for line in lines] == [5 + name.count("&"), 5]  # an escaped & still splits this test's parser
    assert r"\input" not in text
    bare = re.sub(r"\\([&%$#_{}]|[a-z]+)", "", latex_text(name))
    assert not re.search(r"[&%#_~^\\$\[](?!\})", bare.replace("{[}", ""))


def test_underscores_are_escaped():
    assert latex_text("squared_hinge") == r"squared\_hinge"
    assert latex_text("−1 ± 2") == r"$-$1 $\pm$ 2"


# -- other studies ----------------------------------------------------------------------------------------------


def unprinted() -> Replay:
    """Two data sets without printed numbers: one with a loss of its own, one refused, which names no losses."""
    own = {
        "adma": cell(0.9, 0.91, printed=None, loss="adma:a=0.3"),
        "focal:gamma=2.0": cell(0.8, printed=None, loss="focal:gamma=2.0"),
    }
    ran = dataclasses.replace(row(**own), title="Mine")
    lost = dataclasses.replace(row(), title="Lost", not_run="no such folder", seeds=0)
    return fakes.replay((ran, lost), title="My study", caption="", scale="as written", protocol_words="", notes=())


def test_a_loss_that_is_not_the_papers_has_its_line_and_its_column():
    replay = unprinted()
    assert replay.roles == ("adma", "focal:gamma=2.0")
    text = shown(replay)
    assert "focal:gamma=2.0" in text
    assert "80.00" in text
    _, lines = read(replay_csv(replay))
    assert [(line["loss"], line["ours"]) for line in lines[:2]] == [("adma", "90.5000"), ("focal:gamma=2.0", "80.0000")]
    latex = replay_latex(replay)
    assert "Adma & focal:gamma=2.0" in latex
    assert r"\begin{tabular}{lrr}" in latex


def test_a_data_set_that_was_refused_stays_visible_without_losses():
    replay = unprinted()
    assert re.search(r"Lost +Adma +not run", shown(replay))
    assert "Lost: not run (no such folder)" in shown(replay)
    assert [line["status"] for line in read(replay_csv(replay))[1] if line["note"] == "no such folder"] == ["not run"]
    assert body(replay_latex(replay))[-1] == ["Lost", r"\textit{not run}", r"\textit{not run}"]


def test_without_printed_numbers_nothing_is_said_of_them():
    replay = unprinted()
    for text in (shown(replay), replay_latex(replay)):
        assert "printed" not in text
        assert "deviation" not in text
        assert "of the paper" not in text
        assert "the paper's" not in text


def test_a_printed_table_keeps_all_four_of_its_columns():
    assert fakes.replay((row(cce=cell(0.9)),)).roles == ROLES


def test_a_second_loss_of_the_family_is_a_line_of_its_own():
    first = row(adma=cell(0.9), **{"adma:a=0.5": cell(0.95, printed=None, loss="adma:a=0.5")})
    second = dataclasses.replace(row(adma=cell(0.9)), dataset="e", title="E")
    lines = read(replay_csv(fakes.replay((first, second))))[1]
    assert [line["loss"] for line in lines if line["dataset"] == "d"] == [*ROLES, "adma:a=0.5"]
    assert [line["loss"] for line in lines if line["dataset"] == "e"] == list(ROLES)
    assert first.best == {"adma:a=0.5"}


def test_a_table_without_a_single_run_is_still_a_table():
    replay = fakes.replay(tuple(map(fakes.absent_row, DATASET_TITLES)))
    assert shown(replay).count("not run") >= 32
    assert len(read(replay_csv(replay))[1]) == 32
    assert replay_latex(replay).count(r"\textit{not run}") == 32
    assert math.isclose(replay.level, 0.95)

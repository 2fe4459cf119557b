"""The replay's page: complete, one file, escaped, honest about what is missing; looked at in a browser."""

from __future__ import annotations

import dataclasses
import html
import re

import numpy as np
import pytest
import replay_fakes as fakes
import report_fakes
import test_report_browser as browser
from PIL import Image
from test_report_html import Page

from adma.bench.printed import DATASET_TITLES, PRINTED, ROLES
from adma.bench.report.figures import to_svg
from adma.bench.report.paper_figures import figure1
from adma.bench.report.replay import Replay, ReplayCell
from adma.bench.report.replay_html import replay_html
from adma.bench.statistics import estimate


@pytest.fixture(scope="module")
def replay() -> Replay:
    return fakes.replay()


@pytest.fixture(scope="module")
def source(replay) -> str:
    return replay_html(replay, [("Figure 1: the losses", to_svg(figure1(), label="The losses"))])


@pytest.fixture(scope="module")
def page(source) -> Page:
    return Page(source)


def test_every_printed_number_and_every_number_of_ours_is_there(page, replay):
    for row in replay.rows:
        for role in ROLES:
            assert f"{PRINTED[1][row.dataset].accuracy(role):.2f}" in page.text
            if found := row.cell(role).estimate:
                assert f"{100 * found.mean:.2f} ± " in page.text
    assert all(title in page.text for title in DATASET_TITLES.values())


@pytest.mark.parametrize(
    "piece",
    [
        "28 of 32 cells have a number of ours",
        "6 of 32 cells lack some or all of their seeds",
        "not a verdict on the paper",
        "not run: the data set is not here",
        "mse, seed 1: diverged (loss is nan in epoch 4)",
        "OutOfMemory: <b>1 GB</b>",
        "the augmentation of SVHN is not stated in the paper",
        "What tuning on the reported set gives away",
        "+0.20 [−0.05, +0.45]",  # of +0.1, +0.3, +0.2 points: half width 4.303 * 0.1 / sqrt(3)
        "adma replay table1 --scale small",
        "A <fast> CPU",
        "2026-01-02T03:04:05+00:00",
        "training 2,000, validation 500, test 1,000",
        "rotation 30°",
        "Fluctuation",
        "None for: SVHN.",
        "Figure 1: the losses",
    ],
)
def test_it_holds(page, piece):
    assert piece in page.text


def test_the_summary_counts_what_the_table_shows(page, replay):
    ran = [row for row in replay.rows if not row.not_run]
    agreeing = sum(row.bold in row.best for row in ran)
    assert f"prints bold in {agreeing} of {len(ran)} data sets" in page.text
    intervals = [row.cell(role).deviation.interval for row in ran for role in ROLES]
    inside = sum(low <= 0 <= high for low, high in intervals)
    assert f"interval in {inside} of the {len(intervals)} cells" in page.text


def test_the_highest_is_marked_in_words(page):
    tags = [a for a in page.all("span") if a.get("class") == "tag"]
    assert len(tags) == page.text.count(" highest printed ") == 7


def test_the_traits_are_those_of_the_runs(page, replay):
    row = replay.rows[0]
    for trait in row.traits:
        assert f"{100 * trait.estimate.mean:.2f}".replace("-", "−") in page.text


def test_it_is_one_file_that_loads_and_runs_nothing(page, source):
    assert page.all("script") == []
    assert page.all("img") == []
    assert page.all("link") == [{"rel": "icon", "href": "data:,"}]
    assert all(a["href"].startswith("#") for tag, a in page.elements if "href" in a and tag != "link")
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert set(re.findall(r"https?://[^\"'\s]+", source)) <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in source
    assert not re.search(r"url\((?!#)", source)


def test_it_can_be_read_aloud(page):
    assert len(page.all("h1")) == 1
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("scope" in a for a in page.all("th"))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    assert {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a} <= set(ids)


def hostile() -> Replay:
    script, maths, quotes, braces, style, image = report_fakes.HOSTILE
    row = dataclasses.replace(
        fakes.row_of("mnist", title=script),
        setting_words=style,
        troubles=(image,),
        image_size=braces,
        cells={"adma": ReplayCell(99.0, None, image, note=quotes), "cce": ReplayCell(None, None, maths)},
    )
    absent = dataclasses.replace(fakes.absent_row("svhn", reason=script), title=image)
    return fakes.replay(
        (row, absent), command=script, caption=style, notes=(braces,), scale=maths, protocol=quotes, title=image,
        machine=((style, (script, image)),), date=braces,
        protocol_costs=((script, fakes.replay().protocol_costs[0][1]),),
    )  # fmt: skip


def test_hostile_text_is_shown_and_never_obeyed():
    page = Page(replay_html(hostile(), [(report_fakes.HOSTILE[0], to_svg(figure1(), label="x"))]))
    assert page.all("script") == []
    assert page.all("img") == []
    assert len(page.all("h1")) == 1
    for name in report_fakes.HOSTILE:
        assert name in page.text, name


def test_control_characters_do_not_break_the_page():
    row = dataclasses.replace(fakes.absent_row("svhn"), title="x\x00\x1b\udcff\u202e")
    text = replay_html(fakes.replay((row,)))
    assert r"x\x00\x1b\udcff\u202e" in text
    text.encode("utf-8")


def test_a_full_replay_at_the_papers_scale_makes_no_excuses():
    rows = tuple(fakes.row_of(key) for key in DATASET_TITLES)
    text = Page(replay_html(fakes.replay(rows, scale="paper", protocol_costs=()))).text
    assert "partial" not in text.lower()
    assert "not a verdict" not in text
    assert "gives away" not in text
    assert "32 of 32 cells" in text


def test_another_study_has_its_own_columns_and_no_word_of_the_paper():
    cells = {"cce": ReplayCell(None, estimate([0.9, 0.92], 0.95), "cce")}
    cells["focal:gamma=2.0"] = ReplayCell(None, estimate([0.8, 0.7], 0.95), "focal:gamma=2.0")
    row = dataclasses.replace(fakes.row_of("mnist"), cells=cells, bold="")
    words = {"title": "My study", "caption": "", "protocol_words": "", "notes": (), "protocol_costs": ()}
    page = Page(replay_html(fakes.replay((row,), scale="as written", **words)))
    assert "focal:gamma=2.0 MNIST" in page.text  # the last heading, then the first row
    assert "75.00 ± " in page.text
    assert "2 of 2 cells have a number" in page.text
    assert "the paper" not in page.text
    assert "printed" not in page.text


def test_nothing_run_is_still_a_page():
    text = Page(replay_html(fakes.replay(tuple(map(fakes.absent_row, DATASET_TITLES))))).text
    assert "0 of 32 cells" in text
    assert "nan" not in text.split()


# -- in a browser -------------------------------------------------------------------------------------------------


def in_a_browser(test):
    missing = pytest.mark.skipif(browser.BROWSER is None, reason="no Chromium here: the page's look is NOT checked")
    return pytest.mark.browser(missing(test))


@in_a_browser
@pytest.mark.parametrize("dark", [False, True])
def test_it_is_drawn_light_and_dark(source, dark, tmp_path):
    path, picture = tmp_path / "replay.html", tmp_path / "shot.png"
    path.write_text(source, encoding="utf-8")
    browser.chromium(
        path, f"--screenshot={picture}", "--window-size=1200,1600", *(["--force-dark-mode"] if dark else [])
    )
    pixels = np.asarray(Image.open(picture).convert("L"), dtype=float)
    assert (pixels[2, 2] < 60) == dark
    assert pixels.std() > 8


@in_a_browser
def test_a_phone_scrolls_only_downwards(source, tmp_path):
    wrapper = tmp_path / "phone.html"
    wrapper.write_text(
        f"""<!doctype html><iframe width=390 height=800 style="border:0" srcdoc="{html.escape(source)}"></iframe>
        <p id=out></p><script>onload = () => {{
          const d = document.querySelector("iframe").contentDocument;
          const wide = [...d.querySelectorAll("main *")].filter(e => !e.closest(".scroll, svg")
            && e.getBoundingClientRect().right > 390.5).map(e => e.outerHTML.slice(0, 90));
          const boxes = [...d.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth).length;
          out.textContent = `page=${{d.documentElement.scrollWidth}} boxes=${{boxes}} wide=${{wide}}`;
        }}</script>""",
        encoding="utf-8",
    )
    dumped = browser.chromium(wrapper, "--dump-dom").rpartition('id="out"')[2]
    measured = re.search(r"page=(\d+) boxes=(\d+) wide=([^<]*)", dumped)
    assert measured is not None
    assert int(measured[1]) <= 390
    assert int(measured[2]) >= 2  # the table and the figure scroll in their own boxes
    assert measured[3] == ""

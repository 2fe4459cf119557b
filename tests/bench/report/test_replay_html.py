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
from adma.bench.report.html import package_file
from adma.bench.report.paper_figures import figure1
from adma.bench.report.replay import Effect, Replay, ReplayCell
from adma.bench.report.replay_html import replay_html
from adma.bench.statistics import estimate


@pytest.fixture(scope="module")
def replay() -> Replay:
    claims = (("MNIST, first epoch, Adma: about 98%", "91.20 ± 0.40%"),)
    return fakes.replay(claims=claims, effects=fakes.effects())


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
        "What the paper says in words",
        "about 98% 91.20 ± 0.40%",
        "What the variants change",
        "share_0.60 against base",
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


def test_every_effect_stands_at_its_variant(page, replay):
    section = page.text.partition("What the variants change")[2].partition("What did not run")[0]
    for pair in ("Flower Recognition share_0.60 against base", "Skin Cancer share_0.60 against share_0.75"):
        assert section.count(pair) == 1
    at = section.index("Skin Cancer")
    flowers, skin = section[:at], section[at:]
    assert re.search(r"Adma minus CCE\s+3\s+\+4\.00\s+\[\+1\.52, \+6\.48\]", flowers)
    assert re.search(r"focal:gamma=2\.0\s+0\s+–", skin)
    spans = [int(a["rowspan"]) for a in page.all("th") if "rowspan" in a]
    assert spans[:2] == [2, 1]


def test_without_effects_and_claims_there_is_no_word_of_them():
    text = Page(replay_html(fakes.replay())).text
    assert "variant" not in text
    assert "says in words" not in text


def test_what_was_not_asked_for_is_not_missing():
    only = {"cce": fakes.row_of("mnist").cells["cce"], "mse": ReplayCell(98.74, None, "")}
    row = dataclasses.replace(fakes.row_of("mnist"), cells=only)
    text = Page(replay_html(fakes.replay((row,)))).text
    assert "1 of 1 cells have a number" in text
    assert "partial" not in text.lower()
    assert text.count("not run") == 3
    assert "0/3" not in text


def test_a_long_scale_stands_in_the_text_and_not_above_the_heading():
    scale = "smoke, seeds 3, epochs 6, max train size 10000"
    text = Page(replay_html(fakes.replay(scale=scale))).text
    assert "Replay of the paper · scale smoke · protocol paper" in text
    assert f"Scale {scale}: not the paper's" in text


def test_the_traits_of_a_row_without_a_finished_run_are_named_as_absent():
    row = fakes.row_of("mnist")
    empty = tuple(dataclasses.replace(t, estimate=estimate([], 0.95), to_baseline=None) for t in row.traits)
    text = Page(replay_html(fakes.replay((row, dataclasses.replace(row, title="Empty", traits=empty))))).text
    assert "None for: Empty." in text
    assert "nan" not in text.split()


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
        (row, absent),
        command=script,
        caption=style,
        notes=(braces,),
        scale=maths,
        shortfall=maths,
        protocol=quotes,
        title=image,
        machine=((style, (script, image)),),
        date=braces,
        protocol_costs=((script, fakes.replay().protocol_costs[0][1]),),
        claims=((script, image),),
        effects=(Effect(quotes, braces, style, maths, estimate([0.1], 0.95)),),
    )


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
    text = Page(replay_html(fakes.replay(rows, scale="paper", whole=True, protocol_costs=()))).text
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
def test_four_columns_with_wide_intervals_fit_a_desk(tmp_path):
    wide = {role: estimate([0.565, 0.825], 0.95) for role in ROLES}
    row = fakes.row_of("fashion_mnist")
    cells = {role: dataclasses.replace(cell, estimate=wide[role]) for role, cell in row.cells.items()}
    source = replay_html(fakes.replay((dataclasses.replace(row, cells=cells, seeds=2),)))
    assert source.count("69.50 ± 165.18") == 4
    assert widths(source, 1200, tmp_path) == (1200, 0, "")


@in_a_browser
def test_a_phone_scrolls_only_downwards(source, tmp_path):
    page, boxes, wide = widths(source, 390, tmp_path)
    assert page <= 390
    assert boxes >= 2  # the table and the figure scroll in their own boxes
    assert wide == ""


def widths(source: str, width: int, folder) -> tuple[int, int, str]:
    """The page's width in a frame, how many boxes scroll sideways, and what else is too wide."""
    wrapper = folder / "frame.html"
    wrapper.write_text(
        f"""<!doctype html><iframe width={width} height=800 style="border:0" srcdoc="{html.escape(source)}"></iframe>
        <p id=out></p><script>onload = () => {{
          const d = document.querySelector("iframe").contentDocument;
          const wide = [...d.querySelectorAll("main *")].filter(e => !e.closest(".scroll, svg")
            && e.getBoundingClientRect().right > {width}.5).map(e => e.outerHTML.slice(0, 90));
          const boxes = [...d.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth).length;
          out.textContent = `page=${{d.documentElement.scrollWidth}} boxes=${{boxes}} wide=${{wide}}`;
        }}</script>""",
        encoding="utf-8",
    )
    dumped = browser.chromium(wrapper, "--dump-dom", f"--window-size={width + 100},1000").rpartition('id="out"')[2]
    measured = re.search(r"page=(\d+) boxes=(\d+) wide=([^<]*)", dumped)
    assert measured is not None
    return int(measured[1]), int(measured[2]), measured[3]


@in_a_browser
def test_a_shadow_shows_where_a_table_goes_on(tmp_path):
    """Dark pixels at the right edge of a box that scrolls, none where all is seen."""
    edges = {}
    for width in (60, 900):
        box = f'<div class="scroll"><div style="width:{width}px;height:300px"></div></div>'
        path, picture = tmp_path / f"{width}.html", tmp_path / f"{width}.png"
        path.write_text(f"<!doctype html><style>{package_file('report.css')}</style>{box}", encoding="utf-8")
        browser.chromium(path, f"--screenshot={picture}", "--window-size=600,500")
        edges[width] = np.asarray(Image.open(picture).convert("L"), dtype=float)[100:250].min(axis=0)
    assert edges[60].min() > 250
    assert edges[900].min() < 225
    assert edges[900][:300].min() > 250  # nothing is hidden on the left

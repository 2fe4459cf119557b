"""The report in headless Chromium: what a reader sees, on a desk and on a phone."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import report_fakes as fakes
from PIL import Image

from adma.bench.report import write_report
from adma.bench.statistics import summarise

BROWSER = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: the report's look is NOT checked (install chromium)"),
]


def chromium(page: Path, *options: str) -> str:
    profile = page.parent / f"profile-{page.stem}"
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", *options, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    results = fakes.hostile_results()
    return write_report(results, summarise(results), tmp_path_factory.mktemp("report") / "report.html")


class Dom(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_the_browser_sees_verdict_tables_figures_and_names_as_text(report):
    dom = Dom(chromium(report, "--dump-dom"))
    assert "script" not in dom.tags
    assert "img" not in dom.tags
    assert dom.tags.count("h1") == 1
    assert dom.tags.count("svg") >= 2
    assert dom.tags.count("table") >= 4
    assert "Undecided" in dom.text or "is best" in dom.text
    for name in fakes.HOSTILE:
        assert name in dom.text


def test_a_phone_scrolls_only_downwards(report, tmp_path):
    """The report in a frame of 390 pixels: the page outside it, not the report, runs a script to measure."""
    wrapper = tmp_path / "phone.html"
    source = html.escape(report.read_text(encoding="utf-8"))
    wrapper.write_text(
        f"""<!doctype html><iframe width=390 height=800 style="border:0" srcdoc="{source}"></iframe><p id=out></p>
        <script>onload = () => {{
          const d = document.querySelector("iframe").contentDocument;
          d.querySelectorAll("details").forEach(e => e.open = true);
          const wide = [...d.querySelectorAll("main *")].filter(e => !e.closest(".scroll, svg")
            && e.getBoundingClientRect().right > 390.5).map(e => e.outerHTML.slice(0, 90));
          const boxes = [...d.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth).length;
          out.textContent = `page=${{d.documentElement.scrollWidth}} boxes=${{boxes}} wide=${{wide}}`;
        }}</script>""",
        encoding="utf-8",
    )
    measured = re.search(
        r"page=(\d+) boxes=(\d+) wide=([^<]*)", chromium(wrapper, "--dump-dom").rpartition('id="out"')[2]
    )
    assert measured is not None
    assert int(measured[1]) <= 390
    assert int(measured[2]) >= 1  # wide tables scroll in their own box, so the test sees wide content
    assert measured[3] == ""


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_drawn_light_and_dark(report, dark, tmp_path):
    picture = tmp_path / "shot.png"
    options = ["--force-dark-mode"] if dark else []
    chromium(report, f"--screenshot={picture}", "--window-size=1200,1600", *options)
    pixels = np.asarray(Image.open(picture).convert("L"), dtype=float)
    assert pixels.shape == (1600, 1200)
    assert (pixels[2, 2] < 60) == dark
    assert pixels.std() > 8  # something is drawn on it

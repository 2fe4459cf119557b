"""The documentation's site: built with warnings as errors, whole, offline, and true to the library in a browser."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

import losses
from adma import numpy as reference
from adma import spec
from adma.family import Adma, Loss, Member
from chromium_pipe import BROWSER, Chromium
from docs_pages import ROOT

sys.path.insert(0, str(ROOT / "website"))

NEEDED = [
    name for name in ("mkdocs", "material", "mkdocstrings", "latex2mathml") if importlib.util.find_spec(name) is None
]
built = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(NEEDED), reason=f"{NEEDED} not installed (pip install '.[docs]'): THE SITE WAS NOT BUILT"),
]
in_browser = [
    *built,
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: the site was NOT looked at in a browser"),
]


def marked(marks):
    def mark(function):
        for one in marks:
            function = one(function)
        return function

    return mark


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder], cwd=ROOT, capture_output=True,
        text=True, timeout=600, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


# -- the pages as files ---------------------------------------------------------------------------------------

LOADS = {
    "link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src",
    "object": "data", "embed": "src", "use": "href", "image": "href",
}  # fmt: skip


@dataclass
class Seen:
    """ids of a page, where its links go, and what it loads."""

    ids: set[str]
    links: list[str]
    loads: list[str]
    tags: list[str]
    text: str


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen = Seen(set(), [], [], [], "")
        self._quiet = False

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.seen.tags.append(tag)
        self._quiet = tag in ("script", "style")
        self.seen.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.seen.links.append(given["href"])
        if tag in LOADS and given.get(LOADS[tag]) and given.get("rel") not in ("canonical", "next", "prev"):
            self.seen.loads.append(given[LOADS[tag]])

    def handle_endtag(self, tag):
        self._quiet = False

    def handle_data(self, data):
        if not self._quiet:
            self.seen.text += data


def read(path: Path) -> Seen:
    parser = _Parser()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser.seen


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Seen]:
    return {path: read(path) for path in sorted(site.rglob("*.html"))}


@marked(built)
def test_every_link_inside_the_site_goes_somewhere(site, pages):
    checked = 0
    for path, seen in pages.items():
        for link in [*seen.links, *seen.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if path.name == "404.html":  # it is shown at any address, so its links start at the root
                goal = (site / unquote(parts.path).lstrip("/")).resolve()
            assert goal.is_file(), f"{path.relative_to(site)}: {link!r} goes nowhere"
            if parts.fragment and goal.suffix == ".html" and not parts.fragment.startswith("__"):
                assert unquote(parts.fragment) in pages[goal].ids, f"{path.relative_to(site)}: no place {link!r}"
            checked += 1
    assert checked > 1000


@marked(built)
def test_no_page_and_no_style_loads_anything_from_elsewhere(site, pages):
    for path, seen in pages.items():
        for load in seen.loads:
            parts = urlsplit(load)
            assert parts.scheme in ("", "data"), f"{path.relative_to(site)} loads {load}"
            assert not parts.netloc, f"{path.relative_to(site)} loads {load}"
    styles = list(site.rglob("*.css"))
    assert styles
    for path in [*styles, *pages]:
        found = re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\s]+", path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(site)} loads {found}"


@marked(built)
def test_formulas_are_drawn_and_lists_are_lists(site, pages):
    formulas = 0
    for path, seen in pages.items():
        source = path.read_text(encoding="utf-8")
        name = path.relative_to(site)
        for formula in re.findall(r"<math.*?</math>", source, re.DOTALL):
            words = re.sub(r"<[^>]+>", "", formula)
            assert "\\" not in words, f"{name}: {words!r} was not understood"
            formulas += 1
        assert not re.search(r"arithmatex|\\\(|\\\[", seen.text), f"{name}: a formula is left as it was written"
        assert not re.search(r"<p>[^<]*\n- ", source), f"{name}: a list has no empty line before it"
        assert "blockquote" not in seen.tags, f"{name}: an example is a quotation"
        assert not re.search(r"0x[0-9a-f]{9,}", seen.text), f"{name}: an address in memory"
    assert formulas > 150


@marked(built)
def test_every_loss_has_its_page_with_formula_and_curve(site, pages):
    listed = read(site / "losses/index.html")
    for name in spec.known():
        seen = pages[site / f"losses/{name}.html"]
        assert "math" in seen.tags
        assert "polyline" in seen.tags
        for heading in ("When to use it", "Parameters", "In numbers", "Where it comes from"):
            assert heading in seen.text
        assert f"{name}.html" in listed.links


@marked(built)
def test_the_public_names_are_in_the_reference(pages, site):
    import adma
    from adma import flex, functional

    modules = pages[site / "api/losses.html"].ids
    functions = pages[site / "api/functional.html"].ids
    assert {f"adma.{n}" for n in adma.__all__ if n[0].isupper()} <= modules
    assert {f"adma.functional.{n}" for n in functional.__all__} <= functions
    assert {f"adma.flex.{n}" for n in flex.__all__ if n[0].isupper()} <= pages[site / "api/flex.html"].ids
    text = re.sub(r"\s+", "", pages[site / "api/losses.html"].text)
    assert "a:float=0.26,base:float=2.718281828459045" in text  # the parameters stand in the signature
    commands = pages[site / "api/command_line.html"].text
    assert all(word in commands for word in ("adma compare", "adma data show", "--until-decided", "--label-noise"))


# -- what the pages say ---------------------------------------------------------------------------------------


def test_a_loss_without_a_note_stops_the_build(monkeypatch, tmp_path):
    monkeypatch.setattr(losses, "NOTES", tmp_path)
    monkeypatch.setattr(losses, "ROOT", tmp_path)
    with pytest.raises(losses.MissingNoteError, match="'gce' is registered but has no page"):
        losses.page("gce")
    (tmp_path / "gce.md").write_text("# GCE\n\n$$x$$\n\n## When\n\nnever\n")
    with pytest.raises(losses.MissingNoteError, match="needs a formula"):
        losses.page("gce")


def test_no_note_is_left_of_a_loss_that_has_gone():
    assert {path.stem for path in losses.NOTES.glob("*.md")} == set(spec.known())


NUMBER = re.compile(r"([+−-]?)(\d+\.\d+) ± (\d+\.\d+)")
EVIDENCE = (
    "README.md",
    "docs/audit.md",
    "docs/label_noise.md",
    "docs/learning.md",
    "docs/posteriors.md",
    "docs/soft_targets.md",
    "docs/generative.md",
    "docs/segmentation.md",
    "docs/tokens.md",
)
TOLD = sorted([
    *(ROOT / "docs/howto").glob("*.md"), *(ROOT / "website/notes").glob("*.md"), ROOT / "docs/index.md",
    ROOT / "docs/which_loss.md", ROOT / "docs/theory.md",
])  # fmt: skip


def test_every_interval_that_a_page_tells_stands_on_a_page_of_evidence():
    evidence = "".join((ROOT / name).read_text(encoding="utf-8") for name in EVIDENCE)
    known = {(sign.replace("−", "-"), value, half) for sign, value, half in NUMBER.findall(evidence)}
    either = {(value, half) for _, value, half in known}
    told = 0
    for path in TOLD:
        for sign, value, half in NUMBER.findall(path.read_text(encoding="utf-8")):
            told += 1
            at = f"{path.relative_to(ROOT)}: {sign}{value} ± {half} is on no page of evidence"
            if sign:
                assert ("-" if sign == "−" else sign, value, half) in known or (
                    sign == "+" and ("", value, half) in known
                ), at
            assert (value, half) in either, at
    assert told > 60


# -- in a browser ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


def shown(browser: Chromium, name: str) -> float:
    return float(browser.evaluate(f"document.getElementById('value-{name}').dataset.value"))


def focus(browser: Chromium, name: str) -> None:
    browser.evaluate(f"document.getElementById('slider-{name}').focus()")


def slider(browser: Chromium, name: str) -> float:
    return float(browser.evaluate(f"document.getElementById('slider-{name}').value"))


def recovered(member: Loss, p: float) -> float:
    return float(reference.posterior(member, np.log([p, 1 - p]))[0])


@marked(in_browser)
def test_a_slider_moved_by_the_keyboard_moves_the_numbers_and_the_curves(site, browser):
    browser.open(site / "curves.html")
    before = browser.evaluate("document.querySelector('#chart-loss path.line0').getAttribute('d')")
    browser.evaluate("document.getElementById('member').focus()")
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.id") == "slider-a"  # reached by Tab alone
    browser.press("ArrowRight", times=9)
    browser.press("Tab")
    browser.press("ArrowLeft", times=5)
    focus(browser, "p")
    browser.press("ArrowLeft", times=200)
    a, base, p = (slider(browser, name) for name in ("a", "base", "p"))
    assert a == pytest.approx(0.35)
    assert base < math.e
    assert p == pytest.approx(0.3)
    member, t = Adma(a=a, base=base), -math.log(p)
    assert shown(browser, "loss") == pytest.approx(float(member.psi(np.float64(t))), rel=1e-6)
    assert shown(browser, "slope") == pytest.approx(float(member.slope(np.float64(t))), rel=1e-6)
    assert shown(browser, "posterior") == pytest.approx(recovered(member, p), rel=1e-6)
    assert shown(browser, "supremum") == pytest.approx(member.supremum, rel=1e-6)
    assert shown(browser, "convex-limit") == pytest.approx(member.convex_limit, rel=1e-6)
    assert browser.evaluate("document.getElementById('slider-a-value').textContent") == "0.35"
    assert browser.evaluate("document.querySelector('#chart-loss path.line0').getAttribute('d')") != before
    label = browser.evaluate("document.getElementById('chart-loss').getAttribute('aria-label')")
    assert f"{float(member.psi(np.float64(t))):.4g}" in label  # what a reader who sees no curve is told
    focus(browser, "a")
    browser.press("End")
    assert "not convex" in browser.evaluate("document.getElementById('said').textContent")
    assert browser.evaluate("document.getElementById('value-posterior').textContent") == "none"
    assert browser.errors == []


@marked(in_browser)
def test_every_member_on_the_page_is_the_librarys(site, browser):
    browser.open(site / "curves.html")
    names = browser.evaluate("[...document.getElementById('member').options].map(o => o.value)")
    assert names == [name for name, cls in spec.known().items() if issubclass(cls, Member)]
    for name in names:
        cls = spec.known()[name]
        browser.evaluate(
            f"(s => {{ s.value = '{name}'; s.dispatchEvent(new Event('input')); }})(document.getElementById('member'))"
        )
        keys = [key for key in cls().parameters() if key != "normalize"]
        for ends in ((), ("Home",), ("End",)):
            for key in keys if ends else ():
                focus(browser, key)
                browser.press(*ends)
            values = {key: slider(browser, key) if ends else getattr(cls(), key) for key in keys}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                member = cls(**{k: int(v) if isinstance(getattr(cls(), k), int) else v for k, v in values.items()})
            for p in (0.001, 0.37, 0.999):
                browser.evaluate(
                    "(s => { s.value = " + str(p) + "; s.dispatchEvent(new Event('input')); })"
                    "(document.getElementById('slider-p'))"
                )
                t = np.float64(-math.log(p))
                told = {key: shown(browser, key) for key in ("loss", "slope", "posterior", "supremum", "slope-at-one")}
                assert told["loss"] == pytest.approx(float(member.psi(t)), rel=1e-6), (member, p)
                assert told["slope"] == pytest.approx(float(member.slope(t)), rel=1e-6), (member, p)
                assert told["supremum"] == pytest.approx(member.supremum, rel=1e-6), member
                assert told["slope-at-one"] == pytest.approx(member.slope_at_zero, rel=1e-6, abs=1e-12), member
                assert math.isnan(told["posterior"]) == bool(member.no_posterior), (member, p)
                if not member.no_posterior:
                    assert told["posterior"] == pytest.approx(recovered(member, p), rel=1e-6), (member, p)
    assert browser.errors == []


@marked(in_browser)
def test_pages_ask_for_files_only_and_the_search_finds(site, browser):
    browser.requests.clear()
    for page in ("index.html", "losses/adma.html", "api/functional.html", "curves.html"):
        browser.open(site / page)
    browser.evaluate("document.querySelector('[data-md-component=search-query]').focus()")
    browser.write("hypergradient")
    found = browser.evaluate(
        "new Promise(done => { const look = n => { const links = document.querySelectorAll('.md-search-result__link');"
        " links.length || !n ? done([...links].map(a => a.getAttribute('href'))) : setTimeout(look, 100, n - 1); };"
        " look(100); })"
    )
    assert any("learning" in link or "changelog" in link for link in found)
    assert browser.requests
    assert [url for url in browser.requests if urlsplit(url).scheme not in ("file", "data", "blob")] == []
    assert browser.errors == []


@marked(in_browser)
def test_a_phone_scrolls_only_downwards(site, browser):
    browser.send("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    try:
        for page in ("index.html", "curves.html", "losses/bi_tempered.html", "theory.html", "which_loss.html"):
            browser.open(site / page)
            assert browser.evaluate("document.documentElement.scrollWidth") <= 390, page
    finally:
        browser.send("Emulation.clearDeviceMetricsOverride")

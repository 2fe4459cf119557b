"""The report as a file: complete, self-contained, escaped, honest about what is missing."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser

import pytest
import report_fakes as fakes

from adma.bench.errors import BenchError
from adma.bench.report import write_report
from adma.bench.report.html import environment_rows, render
from adma.bench.statistics import summarise

STUDY = {
    "cce": [0.900, 0.910, 0.895],
    "adma:a=0.26": [0.910, 0.9205, 0.9045],
    "focal:gamma=2.0": [0.85, 0.86, 0.85],
}
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; a tag that is not closed in order is an error."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.elements if name == tag]


def page_of(results) -> Page:
    return Page(render(results, summarise(results)))


@pytest.fixture(scope="module")
def page() -> Page:
    return page_of(fakes.results(STUDY, about=fakes.ABOUT))


def test_the_verdict_comes_first_with_the_line_to_paste(page):
    text = page.text
    pieces = ("adma:a=0.26 is best", "loss_fn = adma.AdmaLoss(a=0.26)", "The comparison")
    assert sorted(pieces, key=text.index) == list(pieces)
    assert "Which loss is best on photos" in text


def test_the_best_is_marked_in_words_not_by_colour_alone(page):
    assert "★ best" in page.text


@pytest.mark.parametrize(
    "piece",
    [
        "91.17",  # mean of the winner, per cent
        "+1.00",  # its difference to cce, points
        "loss_fn = adma.CrossEntropyLoss()",
        "adma compare photos --losses cce,adma:a=0.26 --seeds 3",
        "740",
        "horse",
        "a.png, b.png",
        "0123456789abcdef",
        "convnet",
        "A <fast> CPU",
        "2.13.0",
        "threads",
        "2026-01-02T03:04:05+00:00",
        "adma 0.1.0",
        "of this one data set",
        "recovered minus scaled",
        "−0.0200 [−0.0200, −0.0200]",  # recovered minus softmax, NLL
        "97.5%",  # Bonferroni for three losses
        "batch size",
        "augment",
    ],
)
def test_it_holds(page, piece):
    assert piece in page.text


def test_every_seed_and_every_hash_is_there(page):
    results = fakes.results(STUDY)
    assert all(f"cells/{c.cell.key}" in page.text for c in results.cells)
    assert all(f" {value} " in page.text for value in fakes.SHARED.values())


def test_it_is_one_file_that_loads_and_runs_nothing(page):
    assert page.all("script") == []
    assert page.all("img") == []
    assert page.all("link") == [{"rel": "icon", "href": "data:,"}]
    links = [a["href"] for tag, a in page.elements if "href" in a and tag != "link"]
    assert all(link.startswith("#") for link in links)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert not [k for _, a in page.elements for k in a if k.startswith("on")]


def test_it_can_be_read_aloud(page):
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("scope" in a for a in page.all("th"))
    assert all(a["role"] == "img" and a["aria-label"] for a in page.all("svg"))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    assert {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a} <= set(ids)


def test_numbers_stand_right(page):
    numbers = [a for a in page.all("td") if a.get("class") == "num"]
    assert len(numbers) > 15


def test_an_undecided_study_says_why():
    text = page_of(fakes.results({"cce": [0.90, 0.91, 0.92], "mae": [0.91, 0.90, 0.925]})).text
    assert "Undecided" in text
    assert "leads, not proven" in text
    assert "is best" not in text.replace("which loss is best", "").replace("Which loss is best", "")


def test_a_partial_study_is_called_partial():
    page = page_of(fakes.results({"cce": [0.9, "missing"], "mae": ["missing", "missing"]}))
    assert "3 of 4 runs have not been run yet" in page.text
    assert page.text.startswith("Partial: ")


def test_a_study_without_any_result_is_still_a_report():
    text = page_of(fakes.results({"cce": ["missing"] * 2, "mae": ["missing"] * 2})).text
    assert "No run finished" in text
    assert "nan" not in text.split()


def test_what_failed_is_listed_with_its_reason():
    text = page_of(fakes.results({"cce": [0.9, 0.9, 0.9], "mae": [0.8, "failed", "diverged"]})).text
    assert "mae 1 failed OutOfMemory: <b>1 GB</b>" in text
    assert "loss is nan in epoch 4" in text


def test_hostile_text_is_shown_and_never_obeyed():
    results = fakes.hostile_results()
    source = render(results, summarise(results))
    page = Page(source)
    assert page.all("script") == []
    assert page.all("img") == []
    assert page.all("b") == []
    assert len(page.all("h1")) == 1
    for name in fakes.HOSTILE:
        assert name in page.text, name
    assert "49" not in re.sub(r"[0-9a-f]{8,}|\d+\.\d+", "", page.text)  # {{ 7 * 7 }}


def test_control_characters_and_bad_bytes_do_not_break_the_file(tmp_path):
    results = fakes.results({"cce": [0.5], "x\x00\x1b\udcff\u202e": ["failed"]}, data="\udc80")
    path = write_report(results, summarise(results), tmp_path / "r.html")
    text = path.read_bytes().decode("utf-8")
    assert r"x\x00\x1b\udcff\u202e" in text
    assert "\x00" not in text
    assert "\u202e" not in text


def test_values_that_differ_between_runs_are_shown_as_such():
    results = fakes.results({"cce": [0.5, 0.6]})
    results.cells[1].env["threads"] = 8
    assert ("threads", ["1", "8"]) in environment_rows(results)
    assert "1; 8 differs between runs" in page_of(results).text


def test_a_loss_that_is_not_known_here_leaves_the_rest_of_the_report():
    text = page_of(fakes.results({"cce": [0.5, 0.6], "my_own:k=1": [0.6, 0.7]})).text
    assert 'adma.make_loss("my_own:k=1")' in text
    assert "Not drawn" in text


def test_the_same_study_gives_the_same_bytes(tmp_path):
    results = fakes.results(STUDY, about=fakes.ABOUT)
    first = write_report(results, summarise(results), tmp_path / "a.html").read_bytes()
    assert write_report(results, summarise(results), tmp_path / "b.html").read_bytes() == first


def test_an_interrupted_write_leaves_the_old_report(tmp_path, monkeypatch):
    results = fakes.results(STUDY)
    path = tmp_path / "r.html"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BenchError, match="no space left"):
        write_report(results, summarise(results), path)
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    assert path.read_text() == "old"


def test_a_folder_that_is_not_there_is_a_clear_mistake(tmp_path):
    results = fakes.results(STUDY)
    with pytest.raises(BenchError, match="nowhere"):
        write_report(results, summarise(results), tmp_path / "nowhere" / "r.html")

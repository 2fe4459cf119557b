"""The files that a hosting site reads: citation, templates, the Makefile's help."""

from __future__ import annotations

import re

import pytest
import yaml

import adma
from docs_pages import ROOT


def load(path: str):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_citation_has_what_its_schema_asks_for_and_this_version():
    """Required keys of CFF 1.2.0, and of a reference."""
    cited = load("CITATION.cff")
    assert cited["cff-version"] == "1.2.0"
    assert {"authors", "message", "title"} <= set(cited)
    assert str(cited["version"]) == adma.__version__
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'license = "{cited["license"]}"' in project
    assert f'authors = [{{ name = "{cited["authors"][0]["name"]}" }}]' in project
    [paper] = cited["references"]
    assert {"authors", "title", "type"} <= set(paper)
    assert paper["url"].endswith("2007.12499")
    assert paper["authors"] == [{"family-names": "Shrivastava", "given-names": "Aditya"}]


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_an_issue_form_has_what_a_form_needs(name):
    form = load(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert {"name", "description", "body"} <= set(form)
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids) >= 2
    for part in form["body"]:
        assert part["type"] == "textarea"
        assert part["attributes"]["label"]


def test_the_changelog_is_asked_for_and_there():
    asked = re.findall(r"`(\w+\.md)`", (ROOT / ".github/pull_request_template.md").read_text(encoding="utf-8"))
    assert asked == ["CHANGELOG.md"]
    assert all((ROOT / name).is_file() for name in asked)


def test_makes_help_names_every_target_that_a_person_gives():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    helped = set(re.findall(r"^# make (\w+):", makefile, re.MULTILINE))
    assert helped == {"demo", "test", "docs", "bench", "gpu", "soak", "fuzz", "audit"}
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    assert helped <= targets

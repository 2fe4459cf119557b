"""What the package brings with it may be used by everyone who may use it: the licences of all its dependencies."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata

import pytest
from packaging.requirements import Requirement

PERMISSIVE = re.compile(
    r"(?i)\b(mit|bsd|0bsd|\d-clause|apache|isc|psf|python software foundation|hpnd|unlicense|zlib|zpl|cc0)\b"
)
# weak copyleft, by package and not by licence: used as they are, through their interfaces
USED_AS_THEY_ARE = {
    "certifi": "Mozilla Public License 2.0 (MPL 2.0)",
    "psycopg": "LGPL-3.0-only",
    "psycopg-binary": "LGPL-3.0-only",
    "tqdm": "MPL-2.0 AND MIT",
}
# the metadata say nothing; read in the licence file of the package
READ = {"namex": "Apache License 2.0"}


def needed(name: str, extras: Iterable[str] = ()) -> set[str]:
    """The installed packages that a requirement brings, itself included, by their canonical names."""
    found: set[tuple[str, str]] = set()
    waiting = [(name, extra) for extra in ["", *extras]]
    while waiting:
        one, extra = waiting.pop()
        key = (re.sub(r"[-_.]+", "-", one).lower(), extra)
        if key in found:
            continue
        try:
            requirements = metadata.requires(one) or []
        except metadata.PackageNotFoundError:  # not on this platform, or of an extra that is not installed
            continue
        found.add(key)
        for text in requirements:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(requirement.name, of) for of in ["", *requirement.extras]]
    return {package for package, _ in found}


def extras() -> list[str]:
    offered = metadata.metadata("adma").get_all("Provides-Extra") or []
    return [extra for extra in offered if extra not in ("dev", "docs")]


@pytest.fixture(scope="module")
def licences() -> dict[str, str]:
    """Of every installed package, by pip-licenses."""
    if importlib.util.find_spec("piplicenses") is None:
        pytest.skip("pip-licenses is not installed: THE LICENCES WERE NOT LOOKED AT")
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--from=mixed", "--with-system"]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {re.sub(r"[-_.]+", "-", row["Name"]).lower(): row["License"] for row in rows}


def test_the_losses_need_permissive_packages_alone(licences: dict[str, str]) -> None:
    packages = needed("adma") - {"adma"}
    assert {"numpy", "torch"} <= packages
    assert {name: licences[name] for name in packages if not permitted(name, licences)} == {}


@pytest.mark.parametrize("extra", extras())
def test_no_extra_brings_a_licence_that_binds_its_user(extra: str, licences: dict[str, str]) -> None:
    packages = needed("adma", [extra]) - {"adma"}
    bound = {name: licences[name] for name in packages if not permitted(name, licences)}
    assert {name: licence for name, licence in bound.items() if USED_AS_THEY_ARE.get(name) != licence} == {}


def permitted(name: str, licences: dict[str, str]) -> bool:
    return bool(PERMISSIVE.search(READ.get(name, licences[name]))) and not re.search("GPL|MPL", licences[name])

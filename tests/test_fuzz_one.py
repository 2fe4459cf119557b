"""What strangers write is fuzzed by what it reaches in the code, for a bounded time; `make fuzz` takes longer."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = "bench/test_fuzz.py"
SECONDS = int(os.environ.get("ADMA_FUZZ", "3"))  # for each property

PROPERTIES = [
    f"{FILES}::test_a_changed_study_file",
    f"{FILES}::test_any_study_file",
    f"{FILES}::test_a_changed_archive",
    f"{FILES}::test_a_folder_with_a_changed_picture",
    f"{FILES}::test_a_changed_cell_is_what_was_written_or_runs_again",
    f"{FILES}::test_a_changed_index_changes_nothing",
    f"{FILES}::test_a_changed_checkpoint_is_never_gone_on_from",
    "test_spec.py::test_any_text_is_read_or_refused",
    "flex/test_flex_spec.py::test_anything_behind_a_known_name_is_read_or_refused",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None, reason="atheris is not installed: NOTHING WAS FUZZED by coverage"
    ),
]


def fuzz(place: str, seconds: int = SECONDS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, TESTS / "fuzz_one.py", place, str(seconds)], cwd=TESTS, capture_output=True, text=True,
        timeout=seconds + 300, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("place", PROPERTIES)
def test_it_holds(place: str) -> None:
    done = fuzz(place)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "Done " in done.stderr


def test_every_property_of_files_is_among_them() -> None:
    lines = (TESTS / FILES).read_text().splitlines()
    properties = {
        line.partition("(")[0].removeprefix("def ")
        for at, line in enumerate(lines)
        if (line.startswith("def test_") and lines[at - 1].startswith("@given")) or line.startswith("def test_a_folder")
    }
    assert {f"{FILES}::{name}" for name in properties} <= set(PROPERTIES)


def test_a_property_that_does_not_hold_is_found_with_its_input(tmp_path: Path) -> None:
    (tmp_path / "test_wrong.py").write_text(
        "from hypothesis import given, strategies as st\n"
        "from adma import spec\n"
        "@given(st.sampled_from(['none', 'nothing', 'adma', 'no']))\n"
        "def test_nothing_is_ever_read(text):\n"
        "    try:\n"
        "        spec.parse(text)\n"
        "    except ValueError:\n"
        "        return\n"
        "    raise AssertionError(f'read {text!r}')\n"
    )
    done = fuzz(f"{tmp_path / 'test_wrong.py'}::test_nothing_is_ever_read", 30)
    assert done.returncode != 0
    assert "AssertionError: read 'adma'" in done.stdout

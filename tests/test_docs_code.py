"""The code in the read-me and in docs/: Python runs, commands parse with the real parser, the cheap ones run."""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch

import command_line
import docs_pages
import losses
from adma import constraints, spec
from adma.bench.loss_specs import canonical_loss
from adma.bench.paper import published
from adma.cli import main
from adma.options import parser
from docs_pages import ROOT, Block, Page

NOT_RUN = 0  # blocks that say `<!-- not run: why -->`; one more is a decision, not an accident
LANGUAGES = {"python", "sh", "yaml", "text", ""}
PAGES = docs_pages.written()
GENERATED = {**losses.pages(), "api/command_line.md": command_line.page()}
PAGES += [docs_pages.read(f"website: {name}", text) for name, text in GENERATED.items()]
with_python = pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.language == "python" for b in p.blocks)], ids=lambda p: p.name
)


@pytest.fixture(autouse=True)
def own_registries(monkeypatch):
    """Examples register losses and constraints: not for the other tests."""
    monkeypatch.setattr(spec, "_REGISTRY", dict(spec._REGISTRY))
    monkeypatch.setattr(spec, "_ALIASES", dict(spec._ALIASES))
    monkeypatch.setattr(constraints, "_NAMED", dict(constraints._NAMED))


# -- Python ---------------------------------------------------------------------------------------------------


def run_page(page: Page) -> int:
    """Run a page's blocks of Python in one namespace, in order; returns how many ran."""
    names: dict[str, object] = {"__name__": "page"}
    ran = 0
    for block in page.blocks:
        if block.language == "python" and not block.not_run:
            # without this file's own `from __future__`; an error names the page's own line
            exec(compile(block.before, f"{block.place}, before it", "exec", dont_inherit=True), names)
            exec(compile("\n" * block.line + block.text, block.page, "exec", dont_inherit=True), names)
            ran += 1
    return ran


@with_python
def test_a_pages_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "torch")  # which a page may choose too, but only for itself
    torch.manual_seed(0)
    try:
        assert run_page(page) == sum(b.language == "python" and not b.not_run for b in page.blocks)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def test_a_block_that_fails_fails_the_test_at_its_line():
    page = docs_pages.read(
        "p.md", "# A\n\n```python\nx = 1\n```\n\n<!-- before it: y = 2 -->\n```python\nx + y + z\n```\n"
    )
    with pytest.raises(NameError, match="'z'") as caught:
        run_page(page)
    assert caught.traceback[-1].lineno == 8  # from 0
    assert run_page(docs_pages.read("p.md", "<!-- not run: no z -->\n\n```python\nz\n```\n")) == 0
    for wrong in (
        "<!-- not run: why -->\n\ntext\n",
        "<!-- run in the tests -->\n",
        "<!-- not run: -->\n```sh\nx\n```\n",
    ):
        with pytest.raises(ValueError, match=r"p\.md"):
            docs_pages.read("p.md", wrong)


def test_every_block_has_a_known_language_and_those_that_are_not_run_are_counted():
    blocks = [block for page in PAGES for block in page.blocks]
    for block in blocks:
        assert block.language in LANGUAGES, f"{block.place}: no test knows what {block.language!r} is"
    assert sum(bool(block.not_run) for block in blocks) == NOT_RUN
    assert sum(block.language == "python" for block in blocks) >= 8


# -- commands -------------------------------------------------------------------------------------------------


def fail(message: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(message)


def shorthands(page: Page) -> dict[str, str]:
    """What a page's words in capitals stand for: "`LOSSES` stands for `--loss cce ...`, `FASHION` for `...`"."""
    return dict(re.findall(r"`([A-Z]+)`\s+(?:stands\s+)?for\s+`([^`]+)`", page.source))


def words_of(command: str, stands_for: dict[str, str]) -> list[str]:
    """A command's words, without its comment: [what may be left out] is taken, of this|that the first."""
    for word, text in stands_for.items():
        command = re.sub(rf"\b{word}\b", " ".join(text.split()), command)
    words = shlex.split(re.sub(r"(?<!\S)\[|\](?!\S)", " ", command), comments=True)
    return [word if "://" in word else word.partition("|")[0] for word in words]


def check_adma(words: list[str], whole: bool) -> None:
    """Parse the arguments of `adma`, and the losses and studies that they name.

    whole: whether it must be a command that one can give; else a name such as "data list" will do.
    """
    parsing = parser()
    if not whole and named(parsing, words):
        return
    try:
        options = parsing.parse_args(words)
    except SystemExit as stopped:
        if stopped.code:
            raise fail(f"adma does not take {shlex.join(words)!r}") from None
        return  # --help, --version
    if options.run.startswith("replay:") and getattr(options, "names", None):
        for name in options.names:
            assert name in published(), f"there is no study {name!r}"
    if not getattr(options, "modules", None):  # else it may be a loss of the reader's own
        for loss in getattr(options, "loss", None) or []:
            if not re.search(r"=table\d|SPEC", loss):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    canonical_loss(loss)


def named(parsing: argparse.ArgumentParser, words: list[str]) -> bool:
    """Whether the words are the name of a command and no more."""
    for word in words:
        below = [a for a in parsing._actions if isinstance(a, argparse._SubParsersAction)]
        if not below or word not in below[0].choices:
            return False
        parsing = below[0].choices[word]
    return True


def check_python(words: list[str]) -> None:
    """A program of this repository that is there and has the options."""
    if words[0] == "-m":
        assert words[1] in ("pytest", "pip", "venv"), f"python -m {words[1]} is not known here"
        return
    path = ROOT / words[0]
    assert path.is_file(), f"there is no {words[0]}"
    source = path.read_text(encoding="utf-8")
    for name in re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE):  # modules beside it may hold its options
        beside = path.with_name(f"{name}.py")
        source += beside.read_text(encoding="utf-8") if beside.is_file() else ""
    for word in words[1:]:
        option = word.partition("=")[0]
        assert not option.startswith("--") or f'"{option}"' in source, f"{words[0]} has no option {option}"


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in words:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"there is no make {target}"


def check_pip(words: list[str]) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extras in re.findall(r"(?:adma|\.)\[([\w,]+)\]", " ".join(words)):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"there is no extra {extra!r}"


def check_torchrun(words: list[str]) -> None:
    assert "-m" in words, "torchrun is given here with -m adma.cli"
    module = words.index("-m") + 1
    assert words[module] == "adma.cli"
    check_adma(words[module + 1 :], whole=True)


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "python": check_python, "make": check_make, "pip": check_pip, "torchrun": check_torchrun,
    "git": lambda words: None, "cd": lambda words: None, "export": lambda words: None,
}  # fmt: skip


def check_command(command: str, stands_for: dict[str, str], whole: bool) -> bool:
    """Check a command by its first word; returns whether it is one that can be checked."""
    try:
        words = words_of(command, stands_for)
    except ValueError:  # no command: an apostrophe in a text
        return False
    while words and re.fullmatch(r"[A-Z][A-Z_]*=\S*", words[0]):  # ADMA_NATIVE=off make test
        words = words[1:]
    if words and words[0] == "adma":
        check_adma(words[1:], whole)
    elif words and words[0] in CHECKS and len(words) > 1:
        CHECKS[words[0]](words[1:])
    else:
        return False
    return True


def commands(block: Block) -> Iterator[str]:
    """The lines of a block, those that go on behind a backslash joined."""
    yield from (line for line in block.text.replace("\\\n", " ").splitlines() if line.strip())


def at(place: str, check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Exception as error:
        raise AssertionError(f"{place}: {error}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_a_pages_commands_are_those_that_the_programs_take(page):
    stands_for = shorthands(page)
    for block in page.blocks:
        if block.language not in ("sh", "") or block.not_run:
            continue
        for line in commands(block):
            found = at(block.place, lambda line=line: check_command(line, stands_for, whole=True))
            assert found or block.language != "sh", f"{block.place}: no test knows how to check {line!r}"
    for number, code in page.inline:
        at(f"{page.name}:{number}", lambda code=code: check_command(code, stands_for, whole=False))


def options_of(parsing: argparse.ArgumentParser) -> set[str]:
    found = {option for action in parsing._actions for option in action.option_strings}
    for action in parsing._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= options_of(command)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_options_that_a_page_names_alone_exist(page):
    known = options_of(parser())
    programs = "".join(
        p.read_text(encoding="utf-8") for d in ("benchmarks", "studies") for p in (ROOT / d).glob("*.py")
    )
    for line, code in page.inline:
        if code.startswith("--"):
            for option in re.findall(r"(?<!\S)--[\w-]+", code):
                assert option in known or f'"{option}"' in programs, f"{page.name}:{line}: nothing has {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_a_page_names_exist(page):
    for line, code in page.inline:
        if re.fullmatch(r"(?:docs|src|studies|examples|benchmarks|tests|website)/[\w./-]*", code):
            assert (ROOT / code).exists(), f"{page.name}:{line}: there is no {code}"


def test_a_renamed_option_loss_study_or_target_fails():
    for wrong in (
        "adma compare digits --losss cce", "adma compare", "adma tune x --loss admma", "adma replay table9",
        "adma explain", "make everything", "python benchmarks/engine.py --cellz 3", "python benchmarks/no.py",
        "pip install 'adma[everything]'", "torchrun -m adma.cli compare digits --loss cce --sseeds 2",
    ):  # fmt: skip
        with pytest.raises((AssertionError, ValueError, argparse.ArgumentTypeError)):
            check_command(wrong, {}, whole=True)
    assert check_command("adma data list|get", {}, whole=False)
    assert not check_command("H(a) = sum_i psi'_a(t_i)", {}, whole=True)


RUN = [block for page in PAGES for block in page.blocks if block.run]


@pytest.mark.slow
@pytest.mark.parametrize("block", RUN, ids=lambda b: b.place)
def test_commands_that_a_page_has_run_do_run(block, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")  # for commands that take a file of the documents
    stop = signal.getsignal(signal.SIGTERM)
    try:
        for line in commands(block):
            program, *words = words_of(line, {})
            if program == "adma":
                code = main(words)
            else:
                assert program == "python", f"{block.place}: the tests run adma and python, not {program}"
                code = subprocess.run([sys.executable, *words], timeout=300, check=False).returncode
            said = "".join(capfd.readouterr())
            assert code == 0, f"{block.place}: {line}\n{said}"
    finally:
        signal.signal(signal.SIGTERM, stop)


def test_the_command_line_itself_is_what_main_runs():
    """So that a check by the parser is a check of the command."""
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "digits", "--no-such-option"])
    assert stopped.value.code == 2

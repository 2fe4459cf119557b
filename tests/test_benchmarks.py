"""The benchmarks run as a user runs them, at tiny sizes; what is wrong is not timed; the README says what is stored."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MARKS = re.compile(
    r"(?<=<!-- speed: written by python benchmarks/table\.py )(\S+) -->\n.*?(?=<!-- end of speed -->)", re.S
)
ADMA = "adma:a=0.26"
# stand-ins for two peers: one is right, the other off by a factor
PEERS = {
    "torchvision/ops.py": """
        import torch
        import torch.nn.functional as F
        def sigmoid_focal_loss(inputs, targets, alpha, gamma, reduction):
            cost = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
            p = torch.sigmoid(inputs)
            right = p * targets + (1 - p) * (1 - targets)
            return ((alpha * targets + (1 - alpha) * (1 - targets)) * cost * (1 - right) ** gamma).sum()
    """,
    "torchvision/__init__.py": "",
    "kornia/losses.py": """
        import torch.nn.functional as F
        def focal_loss(pred, target, alpha, gamma, reduction):
            return 1.01 * F.cross_entropy(pred, target)
    """,
    "kornia/__init__.py": "",
}


def ran(script: str, *arguments: str | Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    more = {} if path is None else {"PYTHONPATH": os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, f"benchmarks/{script}.py", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **more}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def rows(path: Path) -> tuple[str, list[dict[str, str]]]:
    with path.open(encoding="utf-8", newline="") as file:
        return file.readline(), list(csv.DictReader(file))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("peers")
    for name, text in PEERS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(re.sub("^ {8}", "", text, flags=re.M), encoding="utf-8")
    out = tmp_path_factory.mktemp("results") / "new"
    done = ran(
        "cross_entropy", "--rounds", "3", "--shapes", "6x5", "2x3x4", "--classes", "2", "3", "--logits", "12",
        "--without", "torch.compile", "--out", out, path=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (table,) = out.glob("*-cpu.csv")
    (over,) = out.glob("*-cpu-over-classes.csv")
    return SimpleNamespace(said=done.stdout, errors=done.stderr, table=table, over=over)


@pytest.mark.slow
def test_every_shape_has_every_call_under_both_allocators(measured):
    _, found = rows(measured.table)
    for shape in ("6x5", "2x3x4"):
        for allocator in ("default", "keeping"):
            calls = {(r["targets"], r["call"]) for r in found if (r["shape"], r["allocator"]) == (shape, allocator)}
            for kind in ("indices", "indices, label_smoothing=0.1", "probabilities"):
                assert {(kind, "torch cross_entropy"), (kind, "cce"), (kind, ADMA)} <= calls
            single = ("gce:q=0.7", "focal:gamma=2.0", f"{ADMA}, in place", f"{ADMA}, eager engine", "paper's formula")
            assert {("indices", name) for name in (*single, "torchvision sigmoid_focal_loss")} <= calls
            assert not [name for _, name in calls if "torch.compile" in name]
    _, over = rows(measured.over)
    assert {r["shape"] for r in over} == {"6x2", "4x3"}
    assert {f"{ADMA}, composed engine", f"{ADMA}, eager engine", "torch cross_entropy"} <= {r["call"] for r in over}


@pytest.mark.slow
def test_figures_are_ratios_within_a_round(measured):
    for path in (measured.table, measured.over):
        for row in rows(path)[1]:
            for name in ("ratio", "of_copy"):
                low, middle, high = (float(row[key]) for key in (f"{name}_min", name, f"{name}_max"))
                assert 0 < low <= middle <= high
            assert row["rounds"] == "3"
            if row["call"] == "torch cross_entropy":  # each kind of targets is its own baseline
                assert row["ratio"] == row["ratio_min"] == row["ratio_max"] == "1.0"
            if row["call"] == "copy":
                assert row["of_copy"] == row["of_copy_min"] == row["of_copy_max"] == "1.0"


@pytest.mark.slow
def test_a_peer_that_is_wrong_or_absent_is_left_out_and_named(measured):
    first, found = rows(measured.table)
    assert "kornia focal_loss" not in {r["call"] for r in found}
    assert re.search(r"left out: kornia focal_loss at 6x5 float32 \(its loss is \S+, not \S+\)", first)
    assert "left out: kornia focal_loss at 6x5 float32: its loss is" in measured.errors
    assert "torchvision of unknown version" in first
    if "optax under jit" not in {r["call"] for r in found}:
        assert "left out: optax (" in first
    assert first.rstrip().split("; ")[-1].startswith("python benchmarks/cross_entropy.py --rounds 3 --shapes 6x5")


@pytest.mark.slow
def test_the_plot_is_drawn_and_small(measured):
    picture = measured.over.with_suffix(".png")
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert image.width > image.height > 300
        assert len(image.convert("RGB").getcolors(1 << 16)) > 8
    assert picture.stat().st_size < 100_000


@pytest.mark.slow
def test_a_readme_gets_the_table_that_was_measured(measured, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(
        "above\n<!-- speed: written by python benchmarks/table.py x -->\nold\n<!-- end of speed -->\nbelow\n"
    )
    done = ran("table", measured.table, "--readme", readme)
    assert done.returncode == 0, done.stderr
    text = readme.read_text()
    assert text.startswith("above\n<!-- speed: ")
    assert text.endswith("<!-- end of speed -->\nbelow\n")
    assert "old" not in text
    heads = re.search(r"^\| float32 unless it says otherwise (.*)$", text, re.M)[1]
    assert heads == "| 6 x 5 | 2 x 3 x 4 | MiB at 6 x 5 |"
    (row,) = (
        r for r in rows(measured.table)[1]
        if (r["allocator"], r["shape"], r["targets"], r["call"]) == ("default", "2x3x4", "probabilities", ADMA)
    )  # fmt: skip
    cell = "{:.2f} [{:.2f}, {:.2f}]".format(*(float(row[key]) for key in ("ratio", "ratio_min", "ratio_max")))
    assert text.partition(f"| `{ADMA}` of class probabilities |")[2].split(" | ")[1] == cell


def test_the_readmes_table_is_its_result_table(tmp_path):
    copy = tmp_path / "README.md"
    copy.write_text(MARKS.sub("x -->\n", README), encoding="utf-8")
    assert copy.read_text(encoding="utf-8") != README
    done = ran("table", MARKS.search(README)[1], "--readme", copy)
    assert done.returncode == 0, done.stderr
    assert copy.read_text(encoding="utf-8") == README


def test_a_readme_without_marks_is_left_as_it_is(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing here\n")
    done = ran("table", MARKS.search(README)[1], "--readme", readme)
    assert done.returncode == 1
    assert "must have one line '<!-- speed: " in done.stderr
    assert readme.read_text() == "nothing here\n"


def test_a_file_that_is_no_table_of_speed_is_refused():
    done = ran("table", "benchmarks/results/2026-11-26-linear-cpu.csv")
    assert done.returncode == 1
    assert "is not a table of cross_entropy.py: it has no allocator, " in done.stderr


@pytest.fixture
def script(monkeypatch):
    """benchmarks/cross_entropy.py and calls.py as modules."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield SimpleNamespace(calls=importlib.import_module("calls"), run=importlib.import_module("cross_entropy"))
    for name in ("calls", "cross_entropy", "plot", "table"):
        if name not in known:
            sys.modules.pop(name, None)


@pytest.mark.parametrize("kind", ["INDICES", "SMOOTHED", "PROBABILITIES"])
def test_a_wrong_loss_or_gradient_of_ours_is_an_error(script, kind):
    kind = getattr(script.calls, kind)
    inputs = script.run.Inputs.draw((7, 4, 3), torch.float32)
    exact = script.calls.rows_of(script.calls.psi_adma, kind)

    def right(z, y):
        return exact(z, -torch.log_softmax(z, 1), y).mean()

    def wrong_gradient(z, y):
        return right(z, y) + 1e-2 * (z - z.detach()).sum()

    def wrong_loss(z, y):
        return right(z, y) + 1e-3

    def outcome(function):
        return script.run.checked([script.calls.Call("a loss", kind, exact, function)], inputs, {})

    assert [call.name for call in outcome(right)] == ["a loss"]
    with pytest.raises(AssertionError, match=r"a loss at 7x4x3 float32, .*: its gradient is off by"):
        outcome(wrong_gradient)
    with pytest.raises(AssertionError, match="its loss is "):
        outcome(wrong_loss)


def test_an_engine_that_is_asked_for_serves(script, monkeypatch):
    from adma import make_loss
    from adma.torch.kernels import native
    from adma.torch.kernels.choose import choose_rows

    def not_asked_for(*_: object, **__: object) -> None:
        raise AssertionError("the compiled kernel serves")

    loss, z, y = make_loss(ADMA), torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)
    monkeypatch.setattr(native, "reduced", not_asked_for)
    monkeypatch.setattr(native, "rows_and_gradient", not_asked_for)
    engines = {f"{ADMA}, {engine} engine": engine for engine in ("eager", "composed")}
    asked = [call for call in script.calls.our_calls() if call.name in engines]
    assert len(asked) == 2
    for call in asked:
        with call.engine():
            assert choose_rows(z[..., None], y[:, None], loss.member).engine == engines[call.name]
            loss(z.clone().requires_grad_(), y).backward()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "calls"),
    [
        ("linear_loss", ["--shape", "12x5x7", "--rounds", "1"],
         ["three bare products", "linear + F.cross_entropy", "adma linear_adma_loss"]),
        ("training_loop", ["--images", "64", "--rounds", "1", "--processes", "2"],
         ["DataLoader, 0 workers", "arithmetic alone", "adma", "DataLoader, 2 processes", "adma, 2 processes"]),
        ("packing", ["--device", "cpu", "--replicates", "2", "--steps", "1", "--rounds", "1"],
         ["one after another", "vmapped"]),
        ("learn_shape", ["--settings", "mlp:1x4x4", "--rounds", "1"], ["forward", "difference"]),
    ],
)  # fmt: skip
def test_the_other_benchmarks_store_a_row_for_each_call(tmp_path, name, arguments, calls):
    out = tmp_path / "table.csv"
    done = ran(name, *arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    first, found = rows(out)
    assert first.startswith("# 20")
    for call in calls:
        assert [row for row in found if call in row.values()]
        assert call in done.stdout
    assert all(float(row["min"]) <= float(row.get("ratio") or row["speed"]) <= float(row["max"]) for row in found)


@pytest.mark.slow
def test_the_posteriors_table_has_a_line_for_each_loss_in_each_condition():
    done = ran("posteriors", "--seeds", "2", "--held-out", "50", "--losses", "cce")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\| cce \|( -?[\d.]+ ± [\d.]+ \|){3,4}$", done.stdout, re.M)) == 4


def test_the_gpus_command_names_its_steps_and_what_is_missing():
    listed = ran("gpu", "--list")
    assert listed.returncode == 0, listed.stderr
    named = re.findall(r"\S+\.py\b", listed.stdout)
    assert len(named) >= 10
    assert all(Path(name).is_file() for name in named)
    if not torch.cuda.is_available():
        done = ran("gpu")
        assert done.returncode == 2
        assert "no GPU" in done.stderr


def test_a_step_that_fails_or_hangs_takes_no_other_along(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    gpu = importlib.import_module("gpu")
    log = tmp_path / "log"
    both = gpu.Step("shares", ("-c", "print('{share}')"), 60, 2)
    assert gpu.run(both, log, 60) == "done"
    assert sorted(log.read_text().split()) == ["0/2", "1/2"]
    assert gpu.run(gpu.Step("bad", ("-c", "raise SystemExit(3)"), 60), log, 60) == "failed, exit status 3"
    hanging = gpu.Step("hangs", ("-c", "print('so far'); import time; time.sleep(600)"), 60)
    assert gpu.run(hanging, log, 5) == "ended after 5 s"
    assert log.read_text() == "so far\n"


@pytest.mark.slow
def test_the_gpu_benchmark_runs(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU: benchmarks/gpu_cross_entropy.py WAS NOT RUN")
    out = tmp_path / "table.csv"
    done = ran("gpu_cross_entropy", "--classes", "1000", "--rounds", "3", "--out", out)
    assert done.returncode == 0, done.stderr
    assert {"copy", "torch cross_entropy", "cce", ADMA} <= {row["call"] for row in rows(out)[1]}

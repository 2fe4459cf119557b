"""Result tables: how a benchmark ends, and the README's table of speed, which is written from one of them.

    python benchmarks/table.py benchmarks/results/DATE-cpu.csv [--readme README.md]

writes what a table of `cross_entropy.py` holds between the two markers in the README.
"""

from __future__ import annotations

import argparse
import csv
import math
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import torch

from adma.bench import environment

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- speed: written by python benchmarks/table.py {} -->", "<!-- end of speed -->"
INDICES, SMOOTHED, PROBABILITIES = "indices", "indices, label_smoothing=0.1", "probabilities"
# (allocator, targets, call) of the README's rows, and what each is called there
SHOWN = (
    ("default", INDICES, "torch cross_entropy", "`F.cross_entropy`"),
    ("default", INDICES, "adma:a=0.26", "`adma:a=0.26`"),
    ("default", INDICES, "adma:a=0.26, in place", "the same, in place"),
    ("default", INDICES, "adma:a=0.26, eager engine", "the same without the compiled kernel"),
    ("default", INDICES, "cce", "`cce`"),
    ("default", INDICES, "gce:q=0.7", "`gce:q=0.7`"),
    ("default", INDICES, "focal:gamma=2.0", "`focal:gamma=2`"),
    ("default", SMOOTHED, "cce", "`cce` with label_smoothing=0.1"),
    ("default", SMOOTHED, "adma:a=0.26", "`adma:a=0.26` with label_smoothing=0.1"),
    ("default", PROBABILITIES, "cce", "`cce` of class probabilities"),
    ("default", PROBABILITIES, "adma:a=0.26", "`adma:a=0.26` of class probabilities"),
    ("default", INDICES, "torch.compile cross_entropy", "`F.cross_entropy` under torch.compile"),
    ("default", INDICES, "paper's formula", "the paper's formula in plain operators"),
    ("default", INDICES, "kornia focal_loss", "kornia's focal loss"),
    ("default", INDICES, "torchvision sigmoid_focal_loss", "torchvision's sigmoid focal loss"),
    ("default", INDICES, "optax under jit", "optax's cross-entropy under jit"),
    ("default", "", "copy", "a warm copy of the logits"),
    ("keeping", INDICES, "torch cross_entropy", "memory kept: `F.cross_entropy`"),
    ("keeping", INDICES, "adma:a=0.26", "memory kept: `adma:a=0.26`"),
    ("keeping", INDICES, "adma:a=0.26, in place", "memory kept: the same, in place"),
    ("keeping", INDICES, "torch.compile cross_entropy", "memory kept: `F.cross_entropy` under torch.compile"),
    ("keeping", "", "copy", "memory kept: a warm copy of the logits"),
)
# of a table of cross_entropy.py
NEEDED = {"allocator", "type", "shape", "targets", "call", "milliseconds", "peak_mib", "rounds"}
NEEDED |= {"ratio", "ratio_min", "ratio_max"}


def finish(rows: Sequence[Mapping[str, object]], path: Path | None, *more: str, device: str = "cpu") -> None:
    """Print what the rows were measured on, and write them as CSV if a path is given.

    Args:
        rows: one mapping a row, all with the first one's keys.
        path: of the table.
        more: what else a reader must know.
        device: that was measured.
    """
    hardware = environment.hardware(device)
    parts = [
        str(date.today()),
        f"{hardware.get('gpu', hardware['processor'])}, {hardware['cores']} cores",
        f"torch {torch.__version__}, {torch.get_num_threads()} threads",
        *more,
        f"python {platform.python_version()}",
    ]
    about = "; ".join(parts)
    print(about)
    if path is not None:
        with path.open("w", newline="", encoding="utf-8") as file:
            file.write(f"# {about}; {command()}\n")
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def command() -> str:
    """What the user typed, from the repository's root."""
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """What a table was measured on, in parts, and its rows.

    Raises:
        SystemExit: the file is not a table of a benchmark's.
    """
    with path.open(newline="", encoding="utf-8") as file:
        first = file.readline()
        rows = list(csv.DictReader(file))
    if not first.startswith("# ") or not rows:
        raise SystemExit(f"{path} is not a result table: its first line must begin with '# ' and rows must follow")
    return first[2:].strip().split("; "), rows


def named(path: Path) -> str:
    """A path as the README writes it."""
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def speed(path: Path) -> str:
    """A table of `cross_entropy.py` as the README shows it, between its markers."""
    about, rows = read(path)
    absent = sorted(NEEDED - rows[0].keys())
    if absent:
        raise SystemExit(f"{path} is not a table of cross_entropy.py: it has no {', '.join(absent)}")
    found = {(r["allocator"], r["targets"], r["call"], r["type"], r["shape"]): r for r in rows}
    shapes = list(dict.fromkeys(r["shape"] for r in rows if r["type"] == "float32"))
    largest = max(shapes, key=lambda shape: math.prod(map(int, shape.split("x"))))
    columns = [("float32", shape) for shape in shapes]
    columns += [("bfloat16", largest)] if any(r["type"] == "bfloat16" for r in rows) else []
    rounds = sorted({int(r["rounds"]) for r in rows})
    times = " to ".join(map(str, dict.fromkeys((rounds[0], rounds[-1]))))
    measured_on = "; ".join(part for part in about[:-1] if not part.startswith("left out"))
    lines = [
        BEGIN.format(named(path)),
        "Speed, forward and backward on the CPU: time relative to torch's eager `F.cross_entropy` on targets of the",
        f"same kind, median [min, max] of {times} interleaved rounds; at the right the process's memory above its",
        f"inputs at the peak ({measured_on};",
        f"`{about[-1]}`, whole table in `{named(path)}`):",
        "",
        "| float32 unless it says otherwise | "
        + " | ".join(_heading(shape) + (f", {kind}" if kind != "float32" else "") for kind, shape in columns)
        + f" | MiB at {_heading(largest)} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for allocator, targets, call, label in SHOWN:
        cells = [found.get((allocator, targets, call, *column)) for column in columns]
        at = found.get((allocator, targets, call, "float32", largest))
        if any(cells):
            lines.append(f"| {label} | {' | '.join(map(_cell, cells))} | {_memory(at)} |")
    lines += [
        "",
        '"Memory kept": all with an allocator that keeps what was freed, as a long run may have it; otherwise a large',
        "gradient is fresh memory, whose pages are made while it is written.",
    ]
    plot = path.with_name(f"{path.stem}-over-classes.png")
    if plot.exists():
        lines += ["", f"![Time over the number of classes, relative to a copy of the logits]({named(plot)})"]
    return "\n".join([*lines, END])


def _heading(shape: str) -> str:
    return shape.replace("x", " x ")


def _cell(row: Mapping[str, str] | None) -> str:
    if row is None:
        return "not measured"
    if row["call"] == "torch cross_entropy":
        return f"{float(row['milliseconds']):.3g} ms"
    ratio, low, high = (float(row[key]) for key in ("ratio", "ratio_min", "ratio_max"))
    return f"{ratio:.2f} [{low:.2f}, {high:.2f}]"


def _memory(row: Mapping[str, str] | None) -> str:
    return "not measured" if row is None or row["peak_mib"] == "nan" else f"{float(row['peak_mib']):.0f}"


def write(path: Path, readme: Path) -> None:
    """Put the table of speed where the markers in a README are.

    Raises:
        SystemExit: the markers are not there once each.
    """
    text = readme.read_text(encoding="utf-8")
    begin = BEGIN.partition("{")[0]
    if text.count(begin) != 1 or text.count(END) != 1 or text.index(begin) > text.index(END):
        raise SystemExit(f"{readme} must have one line '{begin}... -->' and below it one line '{END}'")
    before, _, rest = text.partition(begin)
    readme.write_text(before + speed(path) + rest.partition(END)[2], encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    options = parser.parse_args()
    write(options.table, options.readme)
    print(f"{options.readme}: the table of speed is that of {options.table}")


if __name__ == "__main__":
    main()

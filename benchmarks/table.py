"""How a benchmark ends: a line on what it ran on, printed, and its rows as a dated table that begins with that line."""

from __future__ import annotations

import csv
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import torch

from adma.bench import environment


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
        with path.open("w", newline="") as file:
            file.write(f"# {about}; python {' '.join(sys.argv)}\n")
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

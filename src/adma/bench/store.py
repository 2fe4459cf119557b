"""The store: a folder a cell, written whole or not at all, read back as plain arrays.

    DIR/study.json                the study that the folder holds, if it is one study's
    DIR/plans/NAME.json           the plans that share the folder, if it is of plans
    DIR/cells/KEY/config.json     the cell
    DIR/cells/KEY/epochs.parquet  one row an epoch (COLUMNS)
    DIR/cells/KEY/trace.parquet   the values of a shape that changed in training, one row a step; else there is none
    DIR/cells/KEY/env.json        versions, hardware, threads, hashes of what the losses of a seed share
    DIR/cells/KEY/status.json     {"status": ..., "reason": ..., "seconds": ...}

A cell's folder is made beside its place and renamed into it, so a reader meets a whole cell or none. What
another process left half made (killed, disk full) lies in DIR/cells/.part-* and is removed by the next run.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adma.bench.errors import BenchError
from adma.bench.study import Cell, Entry, Plan, Study

# One row an epoch. Accuracy and calibration error are fractions in [0, 1], nll is in nats, time in seconds.
# brier is sum_j (p_j - y_j)^2, in [0, 2]. Without a suffix a measure is of the softmax; "_posterior" of the
# probabilities that the loss's own map recovers (NaN where it has none); "_scaled" of the softmax at the temperature
# with the least NLL on the validation part (Guo 2017), so it is measured on the test part alone. Measures of the
# training part are by the labels that are trained on, false ones too, so with label noise a high train_accuracy is
# no merit; the test part's labels are always true, the validation part's unless the setting says noisy_val.
COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    *(
        f"{part}_{measure}"
        for part in ("val", "test")
        for measure in ("accuracy", "nll", "ece", "nll_posterior", "ece_posterior")
    ),
    *(f"{part}_brier{kind}" for part in ("val", "test") for kind in ("", "_posterior")),
    *(f"test_{measure}_scaled" for measure in ("nll", "brier", "ece")),
    "temperature",
    "seconds",
)
DONE, DIVERGED, FAILED, MISSING = "done", "diverged", "failed", "missing"


@dataclass(frozen=True)
class CellResult:
    """What the store holds of one cell.

    status: "done"; "diverged" (training reached a NaN or infinite loss: a result, never run again);
        "failed" (an error; runs again); "missing" (not run yet).
    epochs: column name -> array with one value an epoch (empty if there is none).
    trace: of a loss whose shape changes: "step" (steps of the optimizer done), "epoch" (the same in epochs, 0.5 in the
        middle of the first) and the value of each parameter from there on; empty for a fixed loss.
    """

    cell: Cell
    status: str
    reason: str = ""
    seconds: float = 0.0
    epochs: Mapping[str, np.ndarray] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    trace: Mapping[str, np.ndarray] = field(default_factory=dict)

    def final(self, column: str) -> float:
        """The last epoch's value, NaN if the cell is not done."""
        values = self.epochs.get(column, np.array([]))
        return float(values[-1]) if self.status == DONE and len(values) else float("nan")


@dataclass(frozen=True)
class Results:
    """A study with the results of all its cells, in the study's order."""

    study: Study
    cells: tuple[CellResult, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    def of(self, loss: str) -> list[CellResult]:
        """The cells of one loss, in the order of the seeds."""
        return [c for c in self.cells if c.cell.loss == loss]


class Store:
    """A results folder.

    Args:
        root: the folder; made when something is first written.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.cells_dir = self.root / "cells"

    # -- the study ------------------------------------------------------------------------------------

    def open(self, study: Study, *, about: Mapping[str, Any], resume: bool = False) -> None:
        """Claim the folder for a study; remove what interrupted runs left half made.

        Raises:
            BenchError: the folder holds another study (unless `resume`), or something that is no study.
        """
        path = self.root / "study.json"
        if path.exists():
            differences = study.differences(self.study())
            if differences and not resume:
                raise BenchError(
                    f"--out {self.root}: this folder holds another study ({'; '.join(differences)}); choose "
                    "another folder, or pass --resume to continue there with the settings given now"
                )
        else:
            self._refuse_foreign()
        with _explain_os_errors(self.root):
            self._prepare()
            write_json(path, {"study": study.config(), "about": dict(about)})

    def open_plan(self, plan: Plan, *, about: Mapping[str, Any]) -> list[str]:
        """Put a plan into the folder, beside others that share its cells; remove what was left half made.

        A plan of the same name is replaced: its cells stay, and those that both hold do not run again.

        Returns:
            In words, how a plan of this name that was there differs.

        Raises:
            BenchError: the folder holds a single study, or something else.
        """
        if (self.root / "study.json").exists():
            raise BenchError(f"--out {self.root}: this folder holds a study of adma compare; choose another folder")
        if not (self.root / "plans").is_dir():
            self._refuse_foreign()
        replaced = self._replaced(plan)
        entries = [{"name": e.name, "data": e.data, "variant": e.variant, **e.study.config()} for e in plan.entries]
        with _explain_os_errors(self.root):
            self._prepare()
            (self.root / "plans").mkdir(exist_ok=True)
            write_json(self.root / "plans" / f"{plan.name}.json", {"entries": entries, "about": dict(about)})
        return replaced

    def _replaced(self, plan: Plan) -> list[str]:
        try:
            before = {e.name: e.study for e in self.plan(plan.name)[0].entries}
        except BenchError:
            return []
        now = {e.name: e.study for e in plan.entries}
        words = [f"{name} was in it" for name in before if name not in now]
        words += [f"{name}: {d}" for name in before if name in now for d in now[name].differences(before[name])]
        if not words:
            return []
        return [
            f"the tables of {plan.name} in this folder are replaced, all its trainings are kept; before: "
            f"{'; '.join(words)}"
        ]

    def plan(self, name: str) -> tuple[Plan, dict[str, Any]]:
        """A plan of the folder, and what was noted about it.

        Raises:
            BenchError: there is none of that name, or it cannot be read.
        """
        path = self.root / "plans" / f"{name}.json"
        if not path.is_file():
            raise BenchError(f"{self.root} holds no plan {name!r} (no {path})")
        try:
            header = json.loads(path.read_text())
            entries = tuple(Entry(e["name"], Study.from_config(e), e["data"], e["variant"]) for e in header["entries"])
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{path} cannot be read as a plan ({error})") from error
        return Plan(name, entries), header["about"]

    def _refuse_foreign(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise BenchError(f"--out {self.root}: this is a file; choose another name for the results folder")
        if self.root.exists() and any(self.root.iterdir()):
            raise BenchError(f"--out {self.root}: this folder is not empty and holds no study; choose another folder")

    def _prepare(self) -> None:
        self.cells_dir.mkdir(parents=True, exist_ok=True)
        for leftover in self.cells_dir.glob(".part-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _header(self) -> dict[str, Any]:
        path = self.root / "study.json"
        if (self.root / "plans").is_dir():
            raise BenchError(
                f"{self.root} holds plans of adma run or replay; give that command again to rebuild its tables, what "
                "is done is not trained again"
            )
        if not path.is_file():
            raise BenchError(
                f"{self.root} holds no study (no {path.name} there); name a folder that adma compare wrote"
            )
        try:
            header = json.loads(path.read_text())
            Study.from_config(header["study"])
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{path} cannot be read as a study ({error})") from error
        return header

    def study(self) -> Study:
        """The study that the folder holds."""
        return Study.from_config(self._header()["study"])

    # -- cells ----------------------------------------------------------------------------------------

    def write(self, result: CellResult) -> None:
        """Add one cell, whole: a reader, and a run after a crash, sees all of it or nothing."""
        target = self.cells_dir / result.cell.key
        with _explain_os_errors(self.root):
            part = Path(tempfile.mkdtemp(prefix=f".part-{result.cell.key}-", dir=self.cells_dir))
            try:
                write_json(part / "config.json", result.cell.config())
                write_json(part / "env.json", dict(result.env))
                pq.write_table(_table(result.epochs), part / "epochs.parquet")
                if result.trace:
                    trace = {name: pa.array(values) for name, values in result.trace.items()}
                    pq.write_table(pa.table(trace), part / "trace.parquet")
                status = {"status": result.status, "reason": result.reason, "seconds": result.seconds}
                write_json(part / "status.json", status)
                part.chmod(0o755)
                if target.exists():  # a failed cell that ran again
                    shutil.rmtree(target)
                os.replace(part, target)
            finally:
                shutil.rmtree(part, ignore_errors=True)

    def read(self, cell: Cell) -> CellResult:
        """What is known of a cell; a folder that cannot be read counts as failed, with the reason."""
        folder = self.cells_dir / cell.key
        if not folder.is_dir():
            return CellResult(cell, MISSING)
        try:
            status = json.loads((folder / "status.json").read_text())
            env = json.loads((folder / "env.json").read_text())
            epochs = _columns(folder / "epochs.parquet")
            path = folder / "trace.parquet"
            trace = _columns(path) if path.exists() else {}
            return CellResult(cell, status["status"], status["reason"], status["seconds"], epochs, env, trace)
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            return CellResult(cell, FAILED, f"{folder} cannot be read: {error}")

    def results(self) -> Results:
        """The folder's study with all that is known of its cells."""
        header = self._header()
        return self.results_of(Study.from_config(header["study"]), header.get("about", {}))

    def results_of(self, study: Study, about: Mapping[str, Any]) -> Results:
        """What the folder's cells say of any study."""
        return Results(study, tuple(self.read(cell) for cell in study.cells()), about)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file that is there whole or not at all, also after a power cut."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(value, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _columns(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def _table(epochs: Mapping[str, Sequence[float] | np.ndarray]) -> pa.Table:
    columns = {
        name: pa.array(np.asarray(epochs.get(name, []), dtype=np.int64 if name == "epoch" else np.float64))
        for name in COLUMNS
    }
    return pa.table(columns)


class _explain_os_errors:  # noqa: N801 - reads as a statement
    """Turns a full disk or a forbidden folder into a message that says what to do."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BenchError(
                f"no space left on the disk of {self.root}; finished cells are kept: make room and run again"
            ) from error
        if isinstance(error, OSError) and error.errno in (
            errno.EACCES,
            errno.EROFS,
            errno.ENOTDIR,
            errno.EPERM,
        ):
            raise BenchError(f"cannot write to {self.root}: {error.strerror}; choose another --out") from error

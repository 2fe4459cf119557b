"""The store: a folder a cell, written whole or not at all, read back as plain arrays.

    DIR/study.json                the study that the folder holds, if it is one study's
    DIR/plans/NAME.json           the plans that share the folder, if it is of plans
    DIR/tune.json                 the search that the folder holds, if it is one of adma tune
    DIR/cells/KEY/config.json     the cell
    DIR/cells/KEY/epochs.parquet  one row an epoch (COLUMNS)
    DIR/cells/KEY/trace.parquet   the values of a shape that changed in training, one row a step; else there is none
    DIR/cells/KEY/env.json        versions, hardware, threads, hashes of what the losses of a seed share
    DIR/cells/KEY/status.json     {"status": ..., "reason": ..., "seconds": ...}

A cell's folder is made beside its place and renamed into it, so a reader meets a whole cell or none. What
another process left half made (killed, disk full) lies in DIR/cells/.part-* and is removed by the next run once that
process has ended. Several processes may write into one folder; DIR/cells/.claim-KEY says who trains a cell, where
they divide cells among them.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adma.bench import owner
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
UNTIL_DECIDED = "until_decided"  # what a study's `about` calls the plan by which its seeds are added
_OLD = 86_400.0  # seconds after which what a process of another machine left half made is taken for abandoned


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

    def open(self, study: Study, *, about: Mapping[str, Any], resume: bool = False, grows: bool = False) -> None:
        """Claim the folder for a study; remove what interrupted runs left half made.

        Args:
            grows: the study's seeds are added in steps: a folder that holds it with fewer or with more seeds is its
                own, and keeps the larger number.

        Raises:
            BenchError: the folder holds another study (unless `resume`), or something that is no study.
        """
        path = self.root / "study.json"
        self._refuse_search()
        if path.exists():
            header = self._header()
            there = Study.from_config(header["study"])
            grew = bool(header.get("about", {}).get(UNTIL_DECIDED))
            if grows and there.grows_from(study):
                study = there
            differences = [] if grows and study.grows_from(there) else study.differences(there)
            if grew and not grows:  # as a number fixed in advance its seeds would promise too much
                differences.append("its seeds were added until it was decided")
            if differences and not resume:
                hint = "give --until-decided again, " if grew and not grows else ""
                raise BenchError(
                    f"--out {self.root}: this folder holds another study ({'; '.join(differences)}); {hint}choose "
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
        self._refuse_search()
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

    def open_search(self, settings: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        """Claim the folder for a search of `adma tune`; remove what dead processes left half made.

        Args:
            settings: what must be the same for a search to go on.
            header: all that tune.json holds; `settings` among it.

        Raises:
            BenchError: the folder holds a search with other settings, or something else.
        """
        if (self.root / "tune.json").exists():
            there = self.search()["settings"]
            differences = [
                f"{name}: {there.get(name)!r} there, {settings.get(name)!r} now"
                for name in dict.fromkeys([*settings, *there])
                if there.get(name) != settings.get(name)
            ]
            if differences:
                raise BenchError(
                    f"--out {self.root}: this folder holds a search with other settings ({'; '.join(differences)}); "
                    "choose another folder, or give the settings that it was begun with"
                )
        else:
            for name, command in (("study.json", "a study of adma compare"), ("plans", "plans of adma run or replay")):
                if (self.root / name).exists():
                    raise BenchError(f"--out {self.root}: this folder holds {command}; choose another folder")
            self._refuse_foreign()
        with _explain_os_errors(self.root):
            self._prepare()
            write_json(self.root / "tune.json", header)

    def note(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a file of the search beside its cells, whole or not at all."""
        with _explain_os_errors(self.root):
            write_json(self.root / name, value)

    def search(self) -> dict[str, Any]:
        """What tune.json holds.

        Raises:
            BenchError: there is none, or it cannot be read.
        """
        path = self.root / "tune.json"
        try:
            header: dict[str, Any] = json.loads(path.read_text())
            header["settings"], header["about"]
        except FileNotFoundError:
            raise BenchError(f"{self.root} holds no search (no {path.name} there)") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{path} cannot be read as a search ({error})") from error
        return header

    @property
    def holds_search(self) -> bool:
        return (self.root / "tune.json").exists()

    def _refuse_search(self) -> None:
        if self.holds_search:
            raise BenchError(f"--out {self.root}: this folder holds a search of adma tune; choose another folder")

    def _refuse_foreign(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise BenchError(f"--out {self.root}: this is a file; choose another name for the results folder")
        if self.root.exists() and any(self.root.iterdir()):
            raise BenchError(f"--out {self.root}: this folder is not empty and holds no study; choose another folder")

    def _prepare(self) -> None:
        self.cells_dir.mkdir(parents=True, exist_ok=True)
        for leftover in self.cells_dir.glob(".part-*"):
            if _abandoned(leftover):
                shutil.rmtree(leftover, ignore_errors=True)
                if leftover.is_file():
                    leftover.unlink(missing_ok=True)
        for claim in self.cells_dir.glob(".claim-*"):
            holder = owner.parse(claim.read_text())
            if holder is not None and holder.alive is False:
                claim.unlink(missing_ok=True)

    def _header(self) -> dict[str, Any]:
        path = self.root / "study.json"
        if (self.root / "plans").is_dir():
            raise BenchError(
                f"{self.root} holds plans of adma run or replay; give that command again to rebuild its tables, what "
                "is done is not trained again"
            )
        if self.holds_search:
            raise BenchError(f"{self.root} holds a search of adma tune, not a study of adma compare")
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
        """Add one cell, whole: a reader, and a run after a crash, sees all of it or nothing.

        If another process has finished the same cell meanwhile, its result stays: it says the same.
        """
        with _explain_os_errors(self.root):
            part = Path(tempfile.mkdtemp(prefix=_part_prefix(result.cell), dir=self.cells_dir))
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
                self._put(part, result.cell)
            finally:
                shutil.rmtree(part, ignore_errors=True)

    def _put(self, part: Path, cell: Cell) -> None:
        """Rename a whole cell into its place, where there may be a failed one, or another process's."""
        target = self.cells_dir / cell.key
        while True:
            try:
                os.replace(part, target)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if self.read(cell).status in (DONE, DIVERGED):
                return
            aside = Path(tempfile.mkdtemp(prefix=_part_prefix(cell), dir=self.cells_dir))
            try:
                os.rename(target, aside)  # takes the place of the empty folder
            except FileNotFoundError:
                pass  # another process was first
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def claim(self, cell: Cell, *, take_over: bool = False) -> owner.Owner | None:
        """Say that this process trains the cell.

        Args:
            take_over: whether a claim from another machine, where nobody here can look, is taken for abandoned.

        Returns:
            None if it may; else the process that already does. What a dead process of this machine claimed is free.
        """
        path = self.cells_dir / f".claim-{cell.key}"
        with _explain_os_errors(self.root):
            handle, name = tempfile.mkstemp(prefix=_part_prefix(cell), dir=self.cells_dir)
            try:
                with os.fdopen(handle, "w") as file:
                    file.write(str(owner.me()))
                while True:
                    try:
                        os.link(name, path)  # whole, and only if there is none
                        return None
                    except FileExistsError:
                        try:
                            holder = owner.parse(path.read_text())
                        except FileNotFoundError:
                            continue
                    if holder == owner.me():
                        return None
                    alive = holder.alive if holder is not None else False
                    if alive or (alive is None and not take_over):
                        return holder
                    path.unlink(missing_ok=True)
            finally:
                Path(name).unlink(missing_ok=True)

    def release(self, cell: Cell) -> None:
        """End this process's claim to a cell."""
        path = self.cells_dir / f".claim-{cell.key}"
        try:
            if owner.parse(path.read_text()) == owner.me():
                path.unlink()
        except FileNotFoundError:
            pass

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


def _part_prefix(cell: Cell) -> str:
    mine = owner.me()
    return f".part-{cell.key}~{mine.host}~{mine.pid}~{mine.started}~"


def _abandoned(part: Path) -> bool:
    """Whether nobody will finish a half-made folder: its process has ended, or it is a day old."""
    pieces = part.name.split("~")
    if len(pieces) == 5 and pieces[2].isdigit():
        alive = owner.Owner(pieces[1], int(pieces[2]), pieces[3]).alive
        if alive is not None:
            return not alive
    try:
        return time.time() - part.stat().st_mtime > _OLD
    except FileNotFoundError:
        return False


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

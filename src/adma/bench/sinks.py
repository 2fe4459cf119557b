"""`--log tensorboard|mlflow|wandb`: what a run measures, epoch by epoch, to other programs' clients as well.

A sink only listens. It works in a thread of its own, so that it never slows a run, and what goes wrong in it is said
once and ends the sink, not the run. The store holds everything in any case.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from adma.bench.errors import BenchError
from adma.bench.result import CellResult
from adma.bench.study import Cell

_WAITING = 10_000  # messages that a slow client may be behind; more are left out, and counted
_LAST_SECONDS = 60.0  # that a client has at the end for what it is behind


class Sink(Protocol):
    """A client: told of each cell, each of its epochs, its end."""

    def begin(self, cell: Cell) -> None: ...

    def epoch(self, cell: Cell, number: int, row: Mapping[str, float]) -> None: ...

    def end(self, result: CellResult) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in DIR/logs/tensorboard, a folder a cell."""

    def __init__(self, root: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._make = SummaryWriter
        self._root = root / "logs" / "tensorboard"
        self._writers: dict[str, Any] = {}

    def begin(self, cell: Cell) -> None:
        name = f"{cell.setting.data}/{cell.loss}/seed-{cell.seed}-{cell.key[:6]}"
        safe = "".join(c if c.isalnum() or c in "-_./=," else "-" for c in name)
        self._writers[cell.key] = self._make(str(self._root / safe))

    def epoch(self, cell: Cell, number: int, row: Mapping[str, float]) -> None:
        for name, value in _measures(row).items():
            self._writers[cell.key].add_scalar(name, value, number)
        self._writers[cell.key].flush()

    def end(self, result: CellResult) -> None:
        self._writers.pop(result.cell.key).close()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class MLflow:
    """A run a cell, in the experiment "adma", wherever MLflow is told to track (MLFLOW_TRACKING_URI)."""

    def __init__(self, root: Path) -> None:
        import mlflow
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        found = self._client.get_experiment_by_name("adma")
        self._experiment = found.experiment_id if found else self._client.create_experiment("adma")
        self._metric, self._param = mlflow.entities.Metric, mlflow.entities.Param
        self._folder = str(root)
        self._runs: dict[str, str] = {}

    def begin(self, cell: Cell) -> None:
        run = self._client.create_run(
            self._experiment, run_name=f"{cell.loss} seed {cell.seed}",
            tags={"adma.key": cell.key, "adma.folder": self._folder},
        )  # fmt: skip
        self._runs[cell.key] = run.info.run_id
        params = [self._param(name, str(value)) for name, value in _options(cell).items()]
        self._client.log_batch(run.info.run_id, params=params)

    def epoch(self, cell: Cell, number: int, row: Mapping[str, float]) -> None:
        metrics = [self._metric(name, value, 0, number) for name, value in _measures(row).items()]
        self._client.log_batch(self._runs[cell.key], metrics=metrics)

    def end(self, result: CellResult) -> None:
        state = {"done": "FINISHED", "diverged": "FINISHED"}.get(result.status, "FAILED")
        self._client.set_terminated(self._runs.pop(result.cell.key), status=state)

    def close(self) -> None:
        for run in self._runs.values():
            self._client.set_terminated(run, status="KILLED")


class WandB:
    """A run a cell, in the project "adma" (or WANDB_PROJECT), grouped by the results folder."""

    def __init__(self, root: Path) -> None:
        import wandb

        self._wandb = wandb
        self._root = root / "logs"
        self._root.mkdir(parents=True, exist_ok=True)
        self._runs: dict[str, Any] = {}

    def begin(self, cell: Cell) -> None:
        self._runs[cell.key] = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", "adma"), group=self._root.parent.name,
            name=f"{cell.loss} seed {cell.seed}", config={**_options(cell), "key": cell.key}, dir=str(self._root),
            reinit="create_new",
        )  # fmt: skip

    def epoch(self, cell: Cell, number: int, row: Mapping[str, float]) -> None:
        self._runs[cell.key].log(_measures(row), step=number)

    def end(self, result: CellResult) -> None:
        run = self._runs.pop(result.cell.key)
        run.summary["status"] = result.status
        run.finish(exit_code=0 if result.status in ("done", "diverged") else 1)

    def close(self) -> None:
        for run in self._runs.values():
            run.finish(exit_code=255)


SINKS: Mapping[str, Callable[[Path], Sink]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


class Sinks:
    """Several sinks behind one thread.

    Args:
        names: of `SINKS`.
        root: the results folder.
        say: told of a sink that ended, once.

    Raises:
        BenchError: a client's package is not installed.
    """

    def __init__(self, names: Sequence[str], root: Path, say: Callable[[str], None]) -> None:
        self._say = say
        self._sinks: dict[str, Sink] = {}
        for name in dict.fromkeys(names):
            try:
                self._sinks[name] = SINKS[name](root)
            except ModuleNotFoundError as error:
                raise BenchError(f"--log {name}: its client is not installed ({error}); pip install {name}") from error
            except Exception as error:  # a server that is not there: the run does not depend on it
                self._ended(name, error)
        self._queue: queue.Queue[tuple[str, tuple[Any, ...]] | None] = queue.Queue(_WAITING)
        self._left_out = 0
        self._thread: threading.Thread | None = None
        if self._sinks:
            self._thread = threading.Thread(target=self._serve, name="sinks", daemon=True)
            self._thread.start()

    def begin(self, cell: Cell) -> None:
        self._put("begin", cell)

    def epoch(self, cell: Cell, number: int, row: Mapping[str, float]) -> None:
        self._put("epoch", cell, number, dict(row))

    def end(self, result: CellResult) -> None:
        self._put("end", result)

    def close(self) -> None:
        """Let the clients finish what they are behind, for a while."""
        if self._thread is None:
            return
        with suppress(queue.Full):
            self._queue.put(None, timeout=_LAST_SECONDS)
        self._thread.join(_LAST_SECONDS)
        if self._thread.is_alive():
            self._say(f"--log {', '.join(self._sinks)}: still not done after {_LAST_SECONDS:.0f} s; it was left behind")
        if self._left_out:
            self._say(f"--log {', '.join(self._sinks)}: too slow; {self._left_out:,} messages were left out")

    def _put(self, what: str, *arguments: Any) -> None:
        if self._thread is None:
            return
        try:
            self._queue.put_nowait((what, arguments))
        except queue.Full:
            self._left_out += 1

    def _serve(self) -> None:
        while True:
            message = self._queue.get()
            for name, sink in list(self._sinks.items()):
                try:
                    if message is None:
                        sink.close()
                    else:
                        getattr(sink, message[0])(*message[1])
                except Exception as error:  # a client's trouble is not the run's
                    del self._sinks[name]
                    self._ended(name, error)
            if message is None:
                return

    def _ended(self, name: str, error: Exception) -> None:
        first = (str(error) or "no reason given").splitlines()[0]
        self._say(f"--log {name} ended: {type(error).__name__}: {first}; the run goes on without it")


def _measures(row: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if name != "epoch" and value == value}


def _options(cell: Cell) -> dict[str, Any]:
    return {**asdict(cell.setting), "loss": cell.loss, "seed": cell.seed}

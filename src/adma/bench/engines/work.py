"""One cell in one process, whatever engine started it: load the data, train, and make a result of what goes wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adma.bench.data import Dataset
from adma.bench.engines.troubles import LostError, NoMemoryError, UnheardError, out_of_memory, words
from adma.bench.errors import BenchError
from adma.bench.files import Root
from adma.bench.own_loss import is_own
from adma.bench.result import FAILED, CellResult
from adma.bench.study import Cell

if TYPE_CHECKING:
    from adma.bench.engines.crew import Crew

Load = Callable[[Cell], Dataset]
HANG_SECONDS = 1800.0  # without a sign of life, after which a training is taken for hung
PIECES = 2  # of a step's batch, after memory ran out
_HALF = "; trained with half the batch at a time and the gradients added up"
_WHOLE = "; a loss that is not of adma need not be a mean over samples, so no half batches: try a smaller --batch-size"


class Worker:
    """Trains cells one after the other, with the data of the last one kept.

    Args:
        load: gives a cell its data set (`loading.Loader`, or anything picklable); called once for all cells in a row
            that have the same fingerprint.
        threads: of the arithmetic.
        device: where to train; on Ray, "cuda" is the GPU that Ray gives.
        checkpoints: the results folder, or its URL, whose checkpoints are written and gone on from; None: none.
        every: seconds from one checkpoint to the next; None: as `checkpoint` has it.
        keep: whether a cell's last state stays when it is done.
        origin: what started the run; it goes into every result's `env`.
        devices: how many processes train a cell together, each on a device of its own (`crew`).
    """

    def __init__(
        self,
        load: Load,
        *,
        threads: int = 1,
        device: str = "cpu",
        checkpoints: Root | None = None,
        every: float | None = None,
        keep: bool = False,
        origin: Mapping[str, Any] | None = None,
        devices: int = 1,
    ) -> None:
        self.load, self.threads, self.device, self.checkpoints = load, threads, device, checkpoints
        self._devices = devices
        self._every, self._keep = every, keep
        self._origin = dict(origin or {})
        self._dataset: Dataset | None = None
        self._held = ""  # its fingerprint
        self._crew: Crew | None = None

    def to_send(self) -> Worker:
        """This worker as it goes to another machine: without what gives the data.

        Raises:
            BenchError: several devices were to train a cell.
        """
        if self._devices != 1:
            raise BenchError(f"devices={self._devices}: on a cluster a cell trains on one device")
        sent = copy(self)
        sent.load = _no_data
        if isinstance(self.checkpoints, Path):
            sent.checkpoints = self.checkpoints.absolute()  # a node has another current folder
        return sent

    def there(self, dataset: Dataset, *, sees: bool) -> Worker:
        """A worker that was sent, with its data.

        Args:
            sees: whether the folder of its checkpoints is seen there; else it keeps none.
        """
        there = copy(self)
        there.load = lambda cell: dataset
        if not sees:
            there.checkpoints = None
        return there

    def on(self, device: str) -> Worker:
        """The same on another device."""
        there = copy(self)
        there.device = device
        return there

    def train(
        self,
        cell: Cell,
        on_epoch: Callable[[int, Any], None],
        pulse: Callable[[], bool] = lambda: False,
        *,
        beside: bool = False,
        half: str = "",
    ) -> CellResult | None:
        """A cell's result, "failed" with the reason if anything went wrong; None if it was asked to stop.

        Where memory runs out, it is tried once more with half the batch at a time and the gradients added up, unless
        the loss is one that is named by its place; where another process of the crew is lost, once more as it was,
        from the last checkpoint. A checkpoint that does not fit the network is set aside.

        Args:
            on_epoch, pulse: as `train.train`.
            beside: others may train on its device, so that memory that runs out is no fault of the cell's.
            half: why it is trained with half the batch at a time from the start.

        Raises:
            NoMemoryError: memory ran out, with `beside` and the whole batch.
            UnheardError: by `on_epoch` or `pulse`.
        """
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch's condition for deterministic cuBLAS
        divisible = not is_own(cell.loss)
        faults = [half + _HALF] if half and divisible else []
        lost: list[str] = []
        keeper = None
        try:
            import torch

            from adma.bench.checkpoint import EVERY_SECONDS, Keeper
            from adma.bench.train import StoppedError, UnfitStateError

            torch.set_num_threads(self.threads)
            if self.device.startswith("cuda:"):
                torch.cuda.set_device(self.device)  # for what a network of the user's calls "cuda"
            if self.checkpoints is not None:
                every = EVERY_SECONDS if self._every is None else self._every
                keeper = Keeper(self.checkpoints, cell, self.device, every=every, keep=self._keep)
            pieces = PIECES if half and divisible else 1
            while True:
                try:
                    result = self._train(cell, pieces, keeper=keeper, on_epoch=on_epoch, pulse=pulse)
                    break
                except StoppedError:
                    return None
                except UnfitStateError as error:
                    if keeper is None:
                        raise
                    keeper.refuse(str(error))
                    continue
                except LostError as error:
                    lost.append(str(error))
                    if len(lost) > 1:
                        result = CellResult(cell, FAILED, f"{error}; the second time")
                        break
                    faults.append(str(error))
                    continue
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    if pieces == PIECES:
                        result = CellResult(cell, FAILED, f"{words(error)}; also with half the batch at a time")
                        break
                    if beside and not half:
                        raise NoMemoryError(words(error)) from error
                    if not divisible:
                        result = CellResult(cell, FAILED, words(error) + _WHOLE)
                        break
                    faults.append(words(error) + _HALF)
                    pieces = PIECES
                if self.device.startswith("cuda"):
                    torch.cuda.empty_cache()
        except BaseException as error:  # a failed cell is a result; the study goes on
            if isinstance(error, (UnheardError, NoMemoryError)):
                raise  # nobody listens any more; or it is another's to decide
            result = CellResult(cell, FAILED, words(error))
        faults += [] if keeper is None else keeper.notes
        return replace(result, env={**result.env, **self._origin, **({"faults": faults} if faults else {})})

    def close(self) -> None:
        """Nothing more will be trained: let the crew end, if there is one."""
        if self._crew is not None:
            self._crew.close()

    def _train(self, cell: Cell, pieces: int, **watched: Any) -> CellResult:
        from adma.bench.train import StoppedError, train

        dataset = self._data(cell)
        if self._devices == 1:
            return train(cell, dataset, device=self.device, pieces=pieces, **watched)
        from adma.bench.engines.crew import Crew

        crew, self._crew = self._crew or Crew(self._devices, self.device, self.threads), None
        try:
            result = crew.train(cell, dataset, self.load, pieces=pieces, **watched)
        except StoppedError:
            self._crew = crew
            raise
        self._crew = crew
        return result

    def _data(self, cell: Cell) -> Dataset:
        if self._dataset is None or self._held != cell.setting.data_hash:
            self._dataset, self._held = None, ""  # frees the memory first
            self._dataset = self.load(cell)
            self._held = cell.setting.data_hash
        return self._dataset


def _no_data(cell: Cell) -> Dataset:
    raise AssertionError("a worker that was sent is given its data")

"""What a Ray cluster runs: one cell as a task on some node, and the board between it and the command."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from adma.bench.data import Dataset
from adma.bench.engines.order import Line, Order, carry_out
from adma.bench.result import CellResult

_ASK_SECONDS = 1.0  # between two questions whether to stop, which are the signs of life


@dataclass(frozen=True)
class Note:
    """A word from a node: "began" (where, whether it keeps checkpoints), "epoch" (number, row), "hung" (stack)."""

    key: str
    attempt: int
    kind: str
    value: Any


class Board:
    """An actor beside the command: nodes leave notes and ask whether to stop; the command takes the notes."""

    def __init__(self) -> None:
        self._notes: list[Note] = []
        self._heard: set[tuple[str, int]] = set()
        self._stopping: set[str] = set()
        self._all = False

    def post(self, note: Note) -> bool:
        """Leave a note; whether to stop."""
        self._notes.append(note)
        return self.ask(note.key, note.attempt)

    def ask(self, key: str, attempt: int) -> bool:
        """Whether to stop."""
        self._heard.add((key, attempt))
        return self._all or key in self._stopping

    def take(self) -> tuple[list[Note], set[tuple[str, int]]]:
        """The notes since the last time, and who was heard of."""
        taken = self._notes, self._heard
        self._notes, self._heard = [], set()
        return taken

    def stop(self, key: str | None) -> None:
        """Let a cell stop; None: all."""
        if key is None:
            self._all = True
        else:
            self._stopping.add(key)

    def forget(self, key: str) -> None:
        """The cell has ended; it may come again."""
        self._stopping.discard(key)


def train_cell(order: Order, dataset: Dataset, board: Any) -> CellResult | None:
    """As `order.carry_out`."""
    return carry_out(order, dataset, _BoardLine(board, order))


class _BoardLine(Line):
    """By the board, over a thread of its own: a task whose main thread waits for Ray, or only looks whether an answer
    has come, gives its processor core to the next task meanwhile, and both keep it.
    """

    def __init__(self, board: Any, order: Order) -> None:
        super().__init__(order)
        self._board = board
        self._words = ThreadPoolExecutor(1, "words")
        self._stop = False
        self._next = 0.0
        self._asked: Future[bool] | None = None

    def begin(self, where: str, checkpoints: bool) -> bool:
        return self._post("began", (where, checkpoints)).result()

    def epoch(self, number: int, row: Any) -> None:
        self._asked = self._post("epoch", (number, dict(row)))

    def hung(self, reason: str) -> None:
        self._post("hung", reason).result()

    def stop_asked(self) -> bool:
        if self._asked is not None and self._asked.done():
            self._stop |= self._asked.result()
            self._asked = None
        now = time.monotonic()
        if self._asked is None and now >= self._next:
            self._next = now + _ASK_SECONDS
            self._asked = self._words.submit(self._answer, self._board.ask, self._order.cell.key, self._order.attempt)
        return self._stop

    def close(self) -> None:
        self._words.shutdown()

    def _post(self, kind: str, value: Any) -> Future[bool]:
        note = Note(self._order.cell.key, self._order.attempt, kind, value)
        return self._words.submit(self._answer, self._board.post, note)

    @staticmethod
    def _answer(question: Any, *words: Any) -> bool:
        import ray

        try:
            return bool(ray.get(question.remote(*words)))
        except ray.exceptions.RayActorError:
            return True  # nobody listens any more

"""How long trainings will take, from a few timed steps of each setting on this machine; the same for every command."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adma.bench.data import augment
from adma.bench.data.dataset import PLAIN, Kind
from adma.bench.engines import processes
from adma.bench.engines.troubles import out_of_memory, words
from adma.bench.errors import BenchError
from adma.bench.measuring import EVAL_BATCH
from adma.bench.models import build_model, parameter_groups
from adma.bench.optimizers import make_optimizer
from adma.bench.progress import duration
from adma.bench.shaping import Shaping
from adma.bench.study import Setting

LESS = "less where a training goes on from a checkpoint"  # all its epochs are counted
_ENOUGH = 0.3  # seconds of timed steps that say enough
_LONG = 1.0  # seconds after which no further step is timed
_SHARE = 0.01  # of a training that its timing may take, where that is less
_SPARE = 1.2  # a budget that is so many times the estimate is likely to be enough


@dataclass(frozen=True)
class Part:
    """Trainings of one setting that are to come: how many, and the epochs and the seconds of each."""

    trainings: int
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """How long all that is to come will take, `jobs` trainings at a time."""

    parts: Sequence[Part]
    jobs: int

    @property
    def seconds(self) -> float:
        there = [part for part in self.parts if part.trainings]
        longest = max((part.seconds for part in there), default=0.0)
        return max(longest, sum(part.trainings * part.seconds for part in there) / self.jobs)

    @property
    def work(self) -> str:
        """The trainings in words."""
        trainings = sum(part.trainings for part in self.parts)
        each = {part.epochs for part in self.parts if part.trainings}
        epochs = sum(part.trainings * part.epochs for part in self.parts)
        named = _counted(trainings, "training")
        return (
            f"{named} x {_counted(each.pop(), 'epoch')}" if len(each) == 1 else f"{named}, {_counted(epochs, 'epoch')}"
        )

    def line(self, *, budget: float | None = None, most: str = "", unknown: Sequence[str] = ()) -> str:
        """What is said before a start.

        Args:
            budget: seconds that are given.
            most: why it can take less, if it can.
            unknown: what else the estimate cannot know.
        """
        notes = ["measured: a few steps of each setting", *unknown, *([most] if most else [])]
        words = (
            f"estimate: {'at most ' if most else ''}about {duration(self.seconds)}: {self.work}, {self.jobs} at a time"
        )
        words += f" ({'; '.join(notes)})"
        return words if budget is None else f"{words}; {self._with(budget, bool(most))}"

    def _with(self, budget: float, most: bool) -> str:
        given = f"--budget {duration(budget)}"
        if self.seconds * _SPARE <= budget:
            return f"{given} is likely to be enough"
        if self.seconds <= budget:
            return f"{given} may just be enough"
        if most:
            return f"{given} may be too short; the same command goes on from there"
        return f"{given} is enough for about {budget / self.seconds:.0%} of it; the same command goes on from there"


def seconds_per_cell(
    setting: Setting, loss: str, sizes: dict[str, int], sample_shape: tuple[int, ...], num_classes: int, *,
    device: str = "cpu", threads: int = 1, kind: Kind = PLAIN,
) -> float:  # fmt: skip
    """The time of one cell: timed training and evaluation steps on noise, times their number.

    Args:
        sizes: samples of "train", "val" and "test".
        sample_shape: of one sample.
        threads: that a worker will have.
        kind: of the data.

    Returns:
        Seconds, without starting the worker and reading the data.

    Raises:
        BenchError: a step fails, such as for want of memory.
    """
    try:
        return processes.call(
            device, time_here, setting, loss, sizes, sample_shape, num_classes, device=device, threads=threads,
            kind=kind,
        )  # fmt: skip
    except processes.EndedError as error:
        raise BenchError(f"a trial step of {setting.model} with {loss} failed: {error}") from error


def time_here(
    setting: Setting, loss: str, sizes: dict[str, int], sample_shape: tuple[int, ...], num_classes: int, *,
    device: str = "cpu", threads: int = 1, kind: Kind = PLAIN,
) -> float:  # fmt: skip
    """As `seconds_per_cell`, in this process."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return _measure(setting, loss, sizes, sample_shape, num_classes, device, kind)
    except Exception as error:  # a network or a loss of the user's may raise anything; it is no reason not to begin
        raise BenchError(
            f"a trial step of {setting.model} with {loss} in batches of {min(setting.batch_size, sizes['train'])} "
            f"samples of shape {sample_shape} on {device} failed: {_in_words(error)}"
        ) from error
    finally:
        torch.set_num_threads(before)
        if device.startswith("cuda"):  # the memory is for those that train
            gc.collect()
            torch.cuda.empty_cache()


def announced(
    setting: Setting, loss: str, sizes: dict[str, int], sample_shape: tuple[int, ...], num_classes: int,
    words: Callable[[float], str], *, device: str, threads: int, kind: Kind = PLAIN,
) -> str:  # fmt: skip
    """What is said of the time before a start: `words` of a training's seconds, or why there is no estimate."""
    try:
        seconds = seconds_per_cell(
            setting, loss, sizes, sample_shape, num_classes, device=device, threads=threads, kind=kind
        )
    except BenchError as error:
        return f"no estimate: {error}"
    return words(seconds)


def _measure(
    setting: Setting, loss: str, sizes: dict[str, int], sample_shape: tuple[int, ...], num_classes: int, device: str,
    kind: Kind,
) -> float:  # fmt: skip
    model = build_model(setting.model, sample_shape, num_classes).to(device)
    optimizer = make_optimizer(setting.optimizer, parameter_groups(model, setting.weight_decay), setting.lr)
    shaping = Shaping(loss)
    shaping.attach(model)
    loss_fn = shaping.loss_fn.to(device)
    vary = augment.parse(setting.augment)
    size = min(setting.batch_size, sizes["train"])
    measured = min(EVAL_BATCH, size) if kind.dense else EVAL_BATCH  # as `Measuring` has it

    def noise(number: int) -> Tensor:
        if kind.vocabulary:
            return torch.randint(kind.vocabulary, (number, *sample_shape), device=device)
        return torch.randn(number, *sample_shape, device=device)

    x, y = noise(size), torch.randint(num_classes, (size, *kind.target_shape), device=device)

    def train_step() -> None:
        inputs = x if vary is None else vary(x, vary.draws(size, 0).to(device))
        optimizer.zero_grad(set_to_none=True)
        loss_fn(model.train()(inputs), y).backward()
        optimizer.step()

    held_out = noise(measured)

    @torch.no_grad()
    def eval_step() -> None:
        model.eval()(held_out)

    steps = setting.epochs * sizes["train"] / size
    evaluations = setting.epochs * (sizes["val"] + sizes["test"]) / measured
    return steps * _timed(train_step, device, steps) + evaluations * _timed(eval_step, device, evaluations)


def _timed(step: Callable[[], None], device: str, count: float) -> float:
    """Seconds a call: the median of calls after a first one that warms up.

    Of three at least, and until they have taken 0.3 seconds, as fewer would measure what else the machine is doing; but
    not when they have taken a hundredth of the `count` calls to come. After a second no further one is made.
    """
    times: list[float] = []
    _finished(step, device)
    while True:
        started = time.perf_counter()
        _finished(step, device)
        times.append(time.perf_counter() - started)
        spent, each = sum(times), statistics.median(times)
        if spent >= _LONG or (len(times) >= 3 and spent >= min(_ENOUGH, _SHARE * count * each)):
            return each


def _finished(step: Callable[[], None], device: str) -> None:
    step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _in_words(error: Exception) -> str:
    """The error's first line, and what helps where memory ran out."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if not isinstance(error, (RuntimeError, MemoryError, BenchError)):
        reason = words(error).splitlines()[0]  # a KeyError's text alone says nothing
    if not out_of_memory(error):
        return reason
    return f"out of memory ({reason}); try a smaller --batch-size, --image-size or --model (or so in the study's file)"

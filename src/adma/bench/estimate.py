"""How long a study will take, from a few timed steps of each setting on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from adma.bench.data import augment
from adma.bench.engines.work import out_of_memory
from adma.bench.errors import BenchError
from adma.bench.models import build_model, parameter_groups
from adma.bench.optimizers import make_optimizer
from adma.bench.shaping import Shaping
from adma.bench.study import Setting
from adma.bench.train import EVAL_BATCH


def seconds_per_cell(
    setting: Setting, loss: str, sizes: dict[str, int], sample_shape: tuple[int, ...], num_classes: int, *,
    device: str = "cpu", threads: int = 1,
) -> float:  # fmt: skip
    """The time of one cell: timed training and evaluation steps on noise, times their number.

    Args:
        sizes: samples of "train", "val" and "test".
        sample_shape: of one sample.
        threads: that a worker will have.

    Returns:
        Seconds, without starting the worker and reading the data.

    Raises:
        BenchError: a step fails, such as for want of memory.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = build_model(setting.model, sample_shape, num_classes).to(device)
            optimizer = make_optimizer(setting.optimizer, parameter_groups(model, setting.weight_decay), setting.lr)
            shaping = Shaping(loss)
            shaping.attach(model)
            loss_fn = shaping.loss_fn
            vary = augment.parse(setting.augment)
            size = min(setting.batch_size, sizes["train"])
            x = torch.randn(size, *sample_shape, device=device)
            y = torch.randint(num_classes, (size,), device=device)

            def train_step() -> None:
                inputs = x if vary is None else vary(x, vary.draws(size, 0).to(device))
                optimizer.zero_grad(set_to_none=True)
                loss_fn(model.train()(inputs), y).backward()
                optimizer.step()

            held_out = torch.randn(EVAL_BATCH, *sample_shape, device=device)

            @torch.no_grad()
            def eval_step() -> None:
                model.eval()(held_out)

            step = _timed(train_step, device)
            evaluation = _timed(eval_step, device)
    except (RuntimeError, MemoryError) as error:
        raise BenchError(
            f"a trial step of {setting.model} with {loss} in batches of {min(setting.batch_size, sizes['train'])} "
            f"samples of shape {sample_shape} on {device} failed: {_in_words(error)}"
        ) from error
    finally:
        torch.set_num_threads(before)
    measured = (sizes["val"] + sizes["test"]) / EVAL_BATCH
    return setting.epochs * (sizes["train"] / size * step + measured * evaluation)


def _timed(step: Callable[[], None], device: str) -> float:
    """Seconds a call: the median of at least 3 calls and 0.3 seconds, after a first one that warms up.

    Fewer would measure what else the machine is doing, where a step takes a few milliseconds.
    """
    times: list[float] = []
    _finished(step, device)
    while len(times) < 3 or sum(times) < 0.3:
        started = time.perf_counter()
        _finished(step, device)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _finished(step: Callable[[], None], device: str) -> None:
    step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _in_words(error: RuntimeError | MemoryError) -> str:
    """The error's first line, and what helps where memory ran out."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if not out_of_memory(error):
        return reason
    return f"out of memory ({reason}); try a smaller --batch-size, --image-size or --model (or so in the study's file)"

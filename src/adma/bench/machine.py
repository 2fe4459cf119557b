"""From a command's options to where its cells are trained and how its run behaves."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adma.bench import environment
from adma.bench.console import INTERRUPTED, OUT_OF_TIME, jobs_and_threads, usable_device
from adma.bench.engines import Engine
from adma.bench.engines.local import LocalEngine
from adma.bench.engines.work import Load
from adma.bench.run import Conduct, OutOfTimeError


@dataclass(frozen=True)
class Machine:
    """Where cells are trained.

    device: of each training.
    jobs: trainings at once.
    threads: of each training's arithmetic.
    every, hang_after, keep: as `LocalEngine` has them.
    origin: what started the run, for every cell's environment.
    """

    device: str
    jobs: int
    threads: int
    every: float
    hang_after: float
    keep: bool | None
    origin: Mapping[str, Any]

    def engine(self, load: Load, root: Path) -> Engine:
        """The engine that trains cells whose checkpoints lie in `root`."""
        return LocalEngine(
            load, jobs=self.jobs, threads=self.threads, device=self.device, checkpoints=root, every=self.every,
            keep=self.keep is not False, hang_after=self.hang_after, origin=self.origin,
        )  # fmt: skip


def machine_of(options: argparse.Namespace, cells: int) -> Machine:
    """What the options say of the machine.

    Args:
        options: of a command that has `cli._add_machine_options`.
        cells: as many trainings as there can be at once, at most.

    Raises:
        BenchError: the device is not there.
    """
    device = usable_device(options.device)
    jobs, threads = jobs_and_threads(options.jobs, device, cells)
    return Machine(
        device, jobs, threads, options.checkpoint_every, options.hang_after, options.keep_checkpoints,
        environment.origin(options.command_line),
    )  # fmt: skip


def conduct_of(options: argparse.Namespace) -> Conduct:
    """How the run behaves, as the options say."""
    return Conduct(options.budget, options.keep_checkpoints, options.take_over, tuple(options.log))


def ending(stop: KeyboardInterrupt | OutOfTimeError) -> tuple[str, int]:
    """What stopped a command, as the first word of its message, and the exit code that says so."""
    return ("Interrupted", INTERRUPTED) if isinstance(stop, KeyboardInterrupt) else ("Out of time", OUT_OF_TIME)

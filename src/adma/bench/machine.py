"""From a command's options to where its cells are trained and how its run behaves."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adma.bench import environment
from adma.bench.console import INTERRUPTED, OUT_OF_TIME, jobs_and_threads, usable_device
from adma.bench.engines import Engine, torchrun
from adma.bench.engines.local import LocalEngine
from adma.bench.engines.work import Load
from adma.bench.errors import BenchError
from adma.bench.run import Conduct, OutOfTimeError


@dataclass(frozen=True)
class Machine:
    """Where cells are trained.

    device: of each training.
    jobs: trainings at once.
    threads: of each process's arithmetic.
    every, hang_after, keep: as `LocalEngine` has them.
    origin: what started the run, for every cell's environment.
    devices: how many processes train one cell together, each on a device of its own.
    """

    device: str
    jobs: int
    threads: int
    every: float
    hang_after: float
    keep: bool | None
    origin: Mapping[str, Any]
    devices: int = 1

    def engine(self, load: Load, root: Path) -> Engine:
        """The engine that trains cells whose checkpoints lie in `root`."""
        return LocalEngine(
            load, jobs=self.jobs, threads=self.threads, device=self.device, checkpoints=root, every=self.every,
            keep=self.keep is not False, hang_after=self.hang_after, origin=self.origin, devices=self.devices,
        )  # fmt: skip


def machine_of(options: argparse.Namespace, cells: int) -> Machine:
    """What the options say of the machine.

    Args:
        options: of a command that has `cli._add_machine_options`.
        cells: as many trainings as there can be at once, at most.

    Raises:
        BenchError: the device is not there, or not as often as is asked for.
    """
    device = usable_device(options.device)
    devices = _devices(options, device)
    jobs, threads = jobs_and_threads(options.jobs, device, cells, devices)
    return Machine(
        device, jobs, threads, options.checkpoint_every, options.hang_after, options.keep_checkpoints,
        environment.origin(options.command_line), devices,
    )  # fmt: skip


def _devices(options: argparse.Namespace, device: str) -> int:
    """How many processes train one cell: --devices, or as many as torchrun has started.

    Raises:
        BenchError: they do not fit each other, the device or --jobs.
    """
    started = torchrun.size()
    if started > 1 and options.devices not in (None, started):
        raise BenchError(f"--devices {options.devices}: torchrun has started {started} processes; leave --devices out")
    devices: int = started if started > 1 else options.devices or 1
    if devices == 1:
        return 1
    what = f"{devices} processes of torchrun" if started > 1 else f"--devices {devices}"
    if device not in ("cpu", "cuda"):
        raise BenchError(f"{what}: go with --device cpu or cuda, whose GPUs are counted from 0, got --device {device}")
    if started > 1 or device == "cuda":
        if options.jobs not in (None, 1):
            raise BenchError(f"{what}: train one cell at a time; leave --jobs {options.jobs} out")
        options.jobs = 1
    if started == 1 and device == "cuda" and torch.cuda.device_count() < devices:
        raise BenchError(f"{what}: there are {torch.cuda.device_count()} GPUs here")
    return devices


def conduct_of(options: argparse.Namespace) -> Conduct:
    """How the run behaves, as the options say."""
    return Conduct(options.budget, options.keep_checkpoints, options.take_over, tuple(options.log))


def ending(stop: KeyboardInterrupt | OutOfTimeError) -> tuple[str, int]:
    """What stopped a command, as the first word of its message, and the exit code that says so."""
    return ("Interrupted", INTERRUPTED) if isinstance(stop, KeyboardInterrupt) else ("Out of time", OUT_OF_TIME)


def under_torchrun(command: Callable[[], int], options: argparse.Namespace) -> int:
    """The command; in all processes of torchrun but the first what trains with it."""
    if not hasattr(options, "devices"):  # it trains nothing
        return command()
    return torchrun.run(command, lambda: usable_device(options.device))

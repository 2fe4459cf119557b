"""From a command's options to where its cells are trained and how its run behaves."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from adma.bench import environment
from adma.bench.console import INTERRUPTED, OUT_OF_TIME, jobs_and_threads, usable_device
from adma.bench.engines import Engine, torchrun
from adma.bench.engines.cuda import CudaMeter
from adma.bench.engines.local import LocalEngine
from adma.bench.engines.packing import Packing
from adma.bench.engines.work import Load, Worker
from adma.bench.errors import BenchError
from adma.bench.own_loss import check_whole_batches
from adma.bench.run import Conduct, OutOfTimeError
from adma.bench.store import Store

LOCAL, RAY, SLURM = "local", "ray", "slurm"
_ONLY = {  # options that some engines have
    "address": (RAY,),
    "gpus_per_cell": (RAY, SLURM),
    "slurm": (SLURM,),
    "devices": (LOCAL,),
}
_SLURM_JOBS = 100


@dataclass(frozen=True)
class Machine:
    """Where cells are trained.

    kind: of the engine: "local", "ray" or "slurm".
    device: of each training.
    jobs: trainings at once; with `measured` at most.
    threads: of each process's arithmetic.
    every, keep: as `Worker` has them.
    hang_after: as `LocalEngine` has it.
    origin: what started the run, for every cell's environment.
    devices: how many processes train one cell together, each on a device of its own.
    gpus: of each training, on a cluster.
    address: of the Ray cluster.
    slurm: options of sbatch.
    modules: the user's own, to be imported first.
    shared: GPUs of this machine that trainings are spread over.
    measured: whether as many train on each as its memory allows, else `jobs` of them whatever they need.
    """

    kind: str
    device: str
    jobs: int
    threads: int
    every: float
    hang_after: float
    keep: bool | None
    origin: Mapping[str, Any]
    devices: int = 1
    gpus: float = 0.0
    address: str | None = None
    modules: tuple[str, ...] = ()
    slurm: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    measured: bool = False

    def engine(self, load: Load, store: Store) -> Engine:
        """The engine that trains cells of a store."""
        worker = Worker(
            load, threads=self.threads, device=self.device, checkpoints=store.checkpoints, every=self.every,
            keep=self.keep is not False, origin=self.origin, devices=self.devices,
        )  # fmt: skip
        if self.kind == SLURM:
            from adma.bench.engines.slurm import SlurmEngine

            return SlurmEngine(
                worker, store.root, jobs=self.jobs, gpus=int(self.gpus), options=self.slurm, modules=self.modules,
                hang_after=self.hang_after,
            )  # fmt: skip
        if self.kind == RAY:
            from adma.bench.engines.ray import RayEngine

            return RayEngine(
                worker, jobs=self.jobs, gpus=self.gpus, address=self.address, modules=self.modules,
                hang_after=self.hang_after,
            )  # fmt: skip
        packing = Packing(self.shared, CudaMeter(), measured=self.measured) if self.shared else None
        return LocalEngine(worker, jobs=self.jobs, hang_after=self.hang_after, packing=packing)

    @property
    def sure_jobs(self) -> int:
        """Trainings at once that can be counted on."""
        return min(self.jobs, len(self.shared)) if self.measured else self.jobs

    @property
    def at_a_time(self) -> str:
        """How many trainings at once, in words."""
        if not self.measured or self.jobs == 1:
            return f"{self.jobs} at a time"
        where = "the GPU has" if len(self.shared) == 1 else f"the {len(self.shared)} GPUs have"
        return f"as many at a time as {where} memory for, at most {self.jobs}"

    @property
    def unknown(self) -> list[str]:
        """What an estimate from steps of one process on this machine cannot know."""
        notes = []
        if self.kind != LOCAL:
            notes.append("on this machine, not on a node")
        if self.measured and self.jobs > self.sure_jobs:
            notes.append("less where a GPU has memory for more")
        if self.devices > 1:
            notes.append(f"by one process, not by {self.devices} together")
        return notes

    @property
    def device_here(self) -> str:
        """Where steps are timed for an estimate: as the cells are trained, if this machine has such a device."""
        return self.device if self.kind == LOCAL or torch.cuda.is_available() else "cpu"


def machine_of(options: argparse.Namespace, cells: int, losses: Iterable[str] = ()) -> Machine:
    """What the options say of the machine.

    Args:
        options: of a command that has `options._add_machine_options`.
        cells: as many trainings as there can be at once, at most.
        losses: that are trained with.

    Raises:
        BenchError: the device or the cluster is not there, an option is of another engine, or a loss does not fit it.
    """
    for name, engines in _ONLY.items():
        if getattr(options, name) is not None and options.engine not in engines:
            raise BenchError(f"--{name.replace('_', '-')} has a use only with --engine {' or '.join(engines)}")
    how = (
        options.checkpoint_every, options.hang_after, options.keep_checkpoints, environment.origin(command_of(options))
    )  # fmt: skip
    if options.engine == LOCAL:
        device = usable_device(options.device)
        devices = _devices(options, device)
        check_whole_batches(losses, devices)
        shared = _shared(device) if devices == 1 else ()
        jobs, threads = jobs_and_threads(options.jobs, device, cells, devices, len(shared), options.cpus_per_cell)
        return Machine(
            LOCAL, device, jobs, threads, *how, devices, shared=shared, measured=shared != () and not options.jobs
        )

    if torchrun.size() > 1:
        raise BenchError(f"--engine {options.engine}: torchrun has started {torchrun.size()} processes; start one")
    modules = tuple(options.modules)
    if options.engine == SLURM:
        gpus = _gpus(options) or 0.0
        if gpus % 1:
            raise BenchError(f"--gpus-per-cell {gpus:g}: Slurm gives whole GPUs; say 1, or use --engine ray")
        jobs = min(options.jobs or _SLURM_JOBS, max(1, cells))
        return Machine(
            SLURM, "cuda" if gpus else "cpu", jobs, options.cpus_per_cell or 1, *how, gpus=gpus, modules=modules,
            slurm=options.slurm or {},
        )  # fmt: skip

    from adma.bench.engines.ray_cluster import cells_at_once

    threads = options.cpus_per_cell or 1
    room, gpus = cells_at_once(options.address, threads, _gpus(options))
    jobs = min(options.jobs or room, max(1, cells))
    return Machine(
        RAY, "cuda" if gpus else "cpu", jobs, threads, *how, gpus=gpus, address=options.address, modules=modules
    )  # fmt: skip


def _shared(device: str) -> tuple[str, ...]:
    """The GPUs of this machine that a device's name stands for: "cuda" for all."""
    if device == "cuda":
        return tuple(f"cuda:{n}" for n in range(torch.cuda.device_count()))
    return (device,) if device.startswith("cuda") else ()


def _gpus(options: argparse.Namespace) -> float | None:
    """GPUs of a cell on a cluster; None: one if there is any."""
    given: float | None = options.gpus_per_cell
    if options.device not in ("auto", "cpu", "cuda"):
        raise BenchError(
            f"--device {options.device}: a cluster gives each cell its GPU; say --device cuda, and --gpus-per-cell"
        )
    if options.device == "cpu" and given:
        raise BenchError(f"--gpus-per-cell {given:g}: there is no use for a GPU with --device cpu")
    if given is not None and given > 1:
        raise BenchError(f"--gpus-per-cell {given:g}: a cell trains on one GPU or a part of it; at most 1")
    return given if given is not None else {"auto": None, "cpu": 0.0, "cuda": 1.0}[options.device]


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


def command_of(options: argparse.Namespace) -> str:
    """The command as it was given, but for the password of a storage: it is kept with every result."""
    command: str = options.command_line
    storage: str | None = getattr(options, "storage", None)
    if not storage:
        return command
    from adma.bench.search.storage import without_password  # which brings a database's client

    return command.replace(storage, without_password(storage))


def conduct_of(options: argparse.Namespace) -> Conduct:
    """How the run behaves, as the options say."""
    return Conduct(options.budget, options.keep_checkpoints, options.take_over, tuple(options.log))


def ending(stop: KeyboardInterrupt | OutOfTimeError) -> tuple[str, int]:
    """What stopped a command, as the first word of its message, and the exit code that says so."""
    return ("Interrupted", INTERRUPTED) if isinstance(stop, KeyboardInterrupt) else ("Out of time", OUT_OF_TIME)


def under_torchrun(command: Callable[[], int], options: argparse.Namespace) -> int:
    """The command; in all processes of torchrun but the first what trains with it."""
    return torchrun.run(command, lambda: usable_device(options.device))

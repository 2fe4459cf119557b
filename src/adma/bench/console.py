"""What every command shares: where it prints, and the device it uses."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from adma.bench import environment
from adma.bench.errors import BenchError

INTERRUPTED = 130  # what a shell calls a command that Ctrl-C ended
OUT_OF_TIME = 3  # --budget was over before all was done


def console_for(*, stderr: bool = False) -> Console:
    """Where a command prints: wide enough for tables where it is no terminal."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)  # a pipe or a file has no width of its own
    return console


def usable_device(name: str) -> str:
    """The device that a word means, "auto" included.

    Raises:
        BenchError: it is not there.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise BenchError(f"--device {name}: not usable here ({str(error).splitlines()[0]}); try cpu") from error
    return name


def jobs_and_threads(
    jobs: int | None, device: str, cells: int, devices: int = 1, gpus: int = 0, cpus: int | None = None
) -> tuple[int, int]:
    """How many trainings at once, at most, and the threads of each process.

    By default one a core, at most 8, and on GPUs at most 8 on each, as their memory allows; one on another device.

    Args:
        jobs: as asked for.
        device: of each process.
        cells: as many trainings as there can be at once, at most.
        devices: processes of each training.
        gpus: that trainings are spread over.
        cpus: threads as asked for; by default the cores are shared out, up to OMP_NUM_THREADS for each process.

    Raises:
        BenchError: there are not so many cores.
    """
    cores = environment.cores()
    if cpus is not None and cpus * devices > cores:
        each = f" for each of {devices} processes" if devices > 1 else ""
        raise BenchError(f"--cpus-per-cell {cpus}{each}: this machine has {cores} cores")
    if jobs is None:
        room = cores // (cpus or 1)
        if gpus:
            jobs = max(gpus, min(room, 8 * gpus))
        else:
            jobs = max(1, min(room, 8) // devices) if device == "cpu" else 1
    jobs = min(jobs, max(1, cells))
    share = max(1, cores // (jobs * devices))
    return jobs, cpus or min(share, environment.threads_allowed() or share)


def file_name(name: str) -> str:
    """A data set's name as part of a folder's name."""
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(name).stem)
    return kept.strip("-")[:40] or "data"

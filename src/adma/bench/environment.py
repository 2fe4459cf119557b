"""What a result was made with: versions, hardware, threads."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("adma", "torch", "numpy", "scikit-learn", "scipy", "pillow", "pyarrow", "transformers")


def versions() -> dict[str, str]:
    """Python and the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def origin(command: str) -> dict[str, Any]:
    """What started a run: the command, and the commit of the current folder if it is in a git repository."""
    found: dict[str, Any] = {"command": command}
    try:
        commit = _git("rev-parse", "HEAD")
        found["git"] = {"commit": commit, "changed": bool(_git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        pass  # no git, or no repository
    return found


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def hardware(device: str) -> dict[str, Any]:
    """The machine, without anything that names its owner."""
    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
    }
    if device.startswith("cuda"):
        import torch

        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def cores() -> int:
    """Processor cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_allowed() -> int | None:
    """OMP_NUM_THREADS, the threads that a process of this user's is to have; None if it does not say."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # the rest is for nested teams
    return int(first) if first.isdecimal() and int(first) else None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

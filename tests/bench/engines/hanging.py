"""Networks that hang, as a module of a user's: `hangs` always does, `locked` once and so that no Python thread runs."""

from __future__ import annotations

from pathlib import Path

MODULE = "hanging_networks"
_TEXT = """
import ctypes
import time
from pathlib import Path
from torch import nn

class Hanging(nn.Sequential):
    locked = False

    def forward(self, x):
        once = Path({folder!r}) / "locked-once"
        if self.training and not self.locked:
            time.sleep(1000)
        elif self.training and not once.exists():
            once.touch()
            ctypes.PyDLL(None).sleep(1000)  # with Python's lock in its hands
        return super().forward(x)

def hangs(in_channels, num_classes):
    return Hanging(nn.Flatten(), nn.Linear(64, 10))

def locked(in_channels, num_classes):
    network = hangs(in_channels, num_classes)
    network.locked = True
    return network
"""


def write_module(folder: Path) -> None:
    """Write `MODULE` into a folder, where it also notes that it has hung."""
    (folder / f"{MODULE}.py").write_text(_TEXT.format(folder=str(folder)))

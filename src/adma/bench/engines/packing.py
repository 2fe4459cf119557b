"""Which training may start on which GPU, by the memory that others of its kind were measured to need.

Trainings are of one kind if they need the same memory. The first of a kind starts where nothing else of ours runs. What
it was measured to hold at most, once it has done an epoch, is what the next ones need. One more is admitted if the
device has that free, beside what those that run may still grow by and a reserve. Measured needs can be wrong, and other
programs use the device too: where memory runs out beside others, the training waits until some of them have ended, half
as many are admitted from then on, and its kind is taken to need more.

No word of torch here: memory is asked for through a `Meter`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

_TRIES = 2  # of a training that runs out of memory beside others; then it waits for a device without any


@dataclass(frozen=True)
class Reading:
    """What the allocator of a training's process holds of its device, in bytes.

    now, peak: at this moment, and at most since the training began.
    free: of the whole device at this moment, as its driver says.
    """

    now: int
    peak: int
    free: int


class Meter(Protocol):
    """Asks a device for its memory, in the engine's process and in those that train (`engines.cuda`)."""

    def memory(self, device: str) -> tuple[int, int]:
        """Bytes free and in all: whatever uses them, of this process or another."""
        ...

    def read(self, device: str) -> Reading:
        """What this process holds."""
        ...

    def reset(self, device: str) -> None:
        """Give back what this process holds without use, and begin a new peak."""
        ...


@dataclass(frozen=True)
class Caution:
    """How far measured needs are believed; bytes and factors.

    reserve, reserve_share: of a device that is left free, whichever is more.
    context: that a process takes beside its allocator, at least.
    margin: a measured need times this is asked for.
    more: a need that was not enough is taken to be this many times as much.
    """

    reserve: int = 512 * 2**20
    reserve_share: float = 0.05
    context: int = 256 * 2**20
    margin: float = 1.1
    more: float = 1.25


@dataclass
class _Running:
    """A training that was admitted.

    before: bytes that were free when it began, counting what its process held by then.
    held: what it holds now, as far as it was heard of.
    beside: whether another one has run on its device meanwhile.
    alone: it has to be without others.
    """

    kind: Hashable
    device: str
    before: int
    beside: bool
    alone: bool
    held: int = 0


@dataclass
class _Device:
    """limit: how many may run at once, None: no need to say. good: how many have ended well since it changed.

    context: what a process takes beside its allocator; None: not measured yet.
    """

    limit: int | None = None
    good: int = 0
    context: int | None = None


@dataclass
class Packing:
    """Admits trainings to devices and is told what becomes of them. Each has a name; nothing here runs anything.

    Args:
        devices: of this machine that trainings may use.
        meter: of their memory.
        measured: False: all are admitted, whatever they need, and only the backing off is left.
        caution: how far measurements are believed.
    """

    devices: Sequence[str]
    meter: Meter
    measured: bool = True
    caution: Caution = field(default_factory=Caution)
    _running: dict[str, _Running] = field(default_factory=dict)
    _needs: dict[Hashable, int] = field(default_factory=dict)  # kind -> bytes of one training, its context included
    _short: dict[str, int] = field(default_factory=dict)  # name -> how often it ran out of memory beside others
    _devices: dict[str, _Device] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._devices = {device: _Device() for device in self.devices}

    def admit(self, name: str, kind: Hashable, held: Mapping[str, int] | None = None) -> str | None:
        """Where a training begins now; None if it has to wait. With nothing running none has to.

        Args:
            held: device -> bytes of the allocator of a process without work there, which the training would get.
        """
        alone = self._short.get(name, 0) >= _TRIES
        for device in sorted(self.devices, key=lambda one: len(self._on(one))):  # as many on each as can be
            there = self._on(device)
            mine = held[device] + self._context(device) if held and device in held else 0
            if there and (alone or not self._room(device, kind, mine)):
                continue
            for other in there:
                other.beside = True
            before = self.meter.memory(device)[0] + mine
            self._running[name] = _Running(kind, device, before, bool(there), alone)
            return device
        return None

    def told(self, name: str, reading: Reading, *, whole: bool) -> None:
        """What a training holds.

        Args:
            whole: it has done an epoch, so that its peak says what its kind needs.
        """
        running = self._running[name]
        device = self._devices[running.device]
        if whole and not running.beside:  # the driver saw all that came with it, and perhaps others' work
            context = max(self.caution.context, running.before - reading.free - reading.now)
            device.context = context if device.context is None else min(device.context, context)
        context = self._context(running.device)
        running.held = reading.now + context
        if whole or running.kind in self._needs:
            self._needs[running.kind] = max(self._needs.get(running.kind, 0), reading.peak + context)

    def ended(self, name: str, *, well: bool = True) -> None:
        """A training is no longer there; `well`: it had the memory that it needed."""
        device = self._devices[self._running.pop(name).device]
        if well and device.limit is not None:
            device.good += 1
            if device.good >= device.limit:
                device.limit, device.good = device.limit + 1, 0

    def out_of_memory(self, name: str) -> bool:
        """A training has run out of memory. Whether it was without others all the time, so that the fault is its own.

        If not, it is no longer there, and asks again to be admitted.
        """
        running = self._running[name]
        if not running.beside:
            return True
        device, there = self._devices[running.device], len(self._on(running.device))
        self.ended(name, well=False)
        self._short[name] = self._short.get(name, 0) + 1
        if device.limit is None or there <= device.limit:  # else this one began before the last time
            device.limit, device.good = max(1, there // 2), 0
            if running.kind in self._needs:
                self._needs[running.kind] = int(self._needs[running.kind] * self.caution.more)
        return False

    def others(self, name: str) -> tuple[str, int]:
        """The device of a training, and how many run there beside it."""
        device = self._running[name].device
        return device, len(self._on(device)) - 1

    def _context(self, device: str) -> int:
        known = self._devices[device].context
        return self.caution.context if known is None else known

    def _on(self, device: str) -> list[_Running]:
        return [running for running in self._running.values() if running.device == device]

    def _room(self, device: str, kind: Hashable, mine: int) -> bool:
        """Whether one more of a kind fits beside those that run."""
        there, limit = self._on(device), self._devices[device].limit
        if (limit is not None and len(there) >= limit) or any(other.alone for other in there):
            return False
        if not self.measured:
            return True
        if kind not in self._needs or any(other.kind not in self._needs for other in there):
            return False
        growth = sum(max(0, self._needed(other.kind) - other.held) for other in there)
        free, total = self.meter.memory(device)
        reserve = max(self.caution.reserve, int(self.caution.reserve_share * total))
        return free - growth - reserve >= self._needed(kind) - mine

    def _needed(self, kind: Hashable) -> int:
        return int(self._needs[kind] * self.caution.margin)

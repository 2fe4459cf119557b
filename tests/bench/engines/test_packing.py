"""Admission by measured memory: never more than fits, always somebody, and an end to the backing off."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from adma.bench.engines.packing import Caution, Packing, Reading

GIB = 2**30
CAUTION = Caution(reserve=5, reserve_share=0.0, context=1, margin=1.0, more=1.25)


@dataclass
class Devices:
    """Devices whose memory is what the processes on them hold, each with a context, and what strangers hold."""

    total: dict[str, int]
    strangers: dict[str, int]
    held: dict[str, dict[str, int]] = field(default_factory=dict)  # device -> name -> bytes

    def memory(self, device: str) -> tuple[int, int]:
        used = self.strangers.get(device, 0) + sum(self.held.get(device, {}).values())
        return self.total[device] - used, self.total[device]


@dataclass
class Job:
    """Holds one after the other of `course`, a context included; from step `epoch` on an epoch is done."""

    name: str
    kind: str
    course: list[int]
    epoch: int
    step: int = 0
    device: str = ""
    context: int = 1

    @property
    def peak(self) -> int:
        return max(self.course)


def simulate(
    jobs: list[Job], world: Devices, packing: Packing, chance: random.Random, *, most: int, wander: bool
) -> Counter[tuple[str, str]]:
    """Let jobs run in an order by chance until none is left; how each ended, and how often each ran out of memory."""
    waiting, running = list(jobs), {}
    ended: Counter[tuple[str, str]] = Counter()
    for _ in range(100_000):
        if not waiting and not running:
            return ended
        if waiting and len(running) < most:
            job = waiting[0]
            device = packing.admit(job.name, job.kind)
            assert device is not None or running, "nothing runs, and still it has to wait"
            if device is not None:
                waiting.pop(0)
                job.device, job.step = device, 0
                world.held.setdefault(device, {})[job.name] = 0
                running[job.name] = job
                check_fits(running, world, packing, wander)
        if wander and chance.random() < 0.2:
            device = chance.choice(packing.devices)
            world.strangers[device] = chance.randrange(world.total[device] // 2)
        if not running:
            continue
        job = running[chance.choice(sorted(running))]
        held = world.held[job.device]
        free = world.memory(job.device)[0] + held[job.name]
        if job.course[job.step] > free:
            del held[job.name], running[job.name]
            with_others = any(other.device == job.device for other in running.values())
            if packing.out_of_memory(job.name):
                assert not with_others
                packing.ended(job.name)
                ended[job.name, "failed"] += 1
            else:
                ended[job.name, "short"] += 1
                waiting.append(job)
            continue
        held[job.name] = job.course[job.step]
        if chance.random() < 0.5 or job.step >= job.epoch:
            peak = max(job.course[: job.step + 1]) - job.context
            reading = Reading(job.course[job.step] - job.context, peak, world.memory(job.device)[0])
            packing.told(job.name, reading, whole=job.step >= job.epoch)
        job.step += 1
        if job.step == len(job.course):
            packing.ended(job.name)
            del held[job.name], running[job.name]
            ended[job.name, "done"] += 1
    raise AssertionError("it does not end")


def check_fits(running: dict[str, Job], world: Devices, packing: Packing, wander: bool) -> None:
    if wander:
        return
    for device in packing.devices:
        peaks = [job.peak for job in running.values() if job.device == device]
        if len(peaks) > 1:
            room = world.total[device] - world.strangers.get(device, 0) - packing.caution.reserve
            assert sum(peaks) <= room


courses = st.lists(st.integers(1, 60), min_size=1, max_size=6).map(sorted)


@settings(max_examples=100, deadline=None)
@given(
    kinds=st.lists(courses, min_size=1, max_size=3),
    count=st.integers(1, 12),
    devices=st.integers(1, 3),
    most=st.integers(1, 8),
    stranger=st.integers(0, 40),
    seed=st.integers(0, 2**32),
)
def test_with_true_measurements_more_than_fits_is_never_admitted(
    kinds: list[list[int]], count: int, devices: int, most: int, stranger: int, seed: int
) -> None:
    names = [f"cuda:{n}" for n in range(devices)]
    world = Devices(dict.fromkeys(names, 100), dict.fromkeys(names, stranger))
    jobs = [
        Job(f"job {n}", f"kind {n % len(kinds)}", [*kinds[n % len(kinds)], 1], len(kinds[n % len(kinds)]))
        for n in range(count)
    ]
    ended = simulate(jobs, world, Packing(names, world, caution=CAUTION), random.Random(seed), most=most, wander=False)
    assert ended == {(job.name, "done"): 1 for job in jobs}  # every peak fits, so none ran out of memory


@settings(max_examples=100, deadline=None)
@given(
    courses=st.lists(st.lists(st.integers(1, 120), min_size=1, max_size=6), min_size=1, max_size=14),
    kinds=st.integers(1, 3),
    devices=st.integers(1, 2),
    most=st.integers(1, 8),
    measured=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_whatever_is_measured_wrong_all_end_once_and_wait_twice_at_most(
    courses: list[list[int]], kinds: int, devices: int, most: int, measured: bool, seed: int
) -> None:
    """Needs differ within a kind, some are more than a device has, and strangers come and go."""
    names = [f"cuda:{n}" for n in range(devices)]
    world = Devices(dict.fromkeys(names, 100), {})
    chance = random.Random(seed)
    jobs = [
        Job(f"job {n}", f"kind {n % kinds}", course, chance.randrange(len(course))) for n, course in enumerate(courses)
    ]
    packing = Packing(names, world, measured=measured, caution=CAUTION)
    ended = simulate(jobs, world, packing, chance, most=most, wander=True)
    for job in jobs:
        assert ended[job.name, "done"] + ended[job.name, "failed"] == 1
        assert ended[job.name, "short"] <= 2


class Card:
    """A device of 80 GiB with so much free."""

    def __init__(self, free: int = 80 * GIB) -> None:
        self.free = free

    def memory(self, device: str) -> tuple[int, int]:
        return self.free, 80 * GIB


def test_the_first_is_measured_alone_and_then_as_many_as_fit() -> None:
    card = Card(78 * GIB)  # another program has 2
    packing = Packing(["cuda:0"], card)
    assert packing.admit("a", "kind") == "cuda:0"
    assert packing.admit("b", "kind") is None
    card.free -= 9 * GIB
    packing.told("a", Reading(8 * GIB, 8 * GIB, card.free), whole=False)  # in its first epoch
    assert packing.admit("b", "kind") is None
    packing.told("a", Reading(8 * GIB, 9 * GIB, card.free), whole=True)  # a context of 1 GiB, so 10 in all
    admitted = [name for name in "bcdefghijk" if packing.admit(name, "kind")]
    # none of them holds anything yet: 78 - 4 (5% of 80 in reserve) is enough for 6 times 11, which is 10 and a tenth
    assert admitted == list("bcdef")
    assert packing.admit("z", "another kind") is None


def test_the_work_of_a_stranger_counts_as_it_is_now() -> None:
    card = Card()
    packing = Packing(["cuda:0"], card)
    packing.admit("a", "kind")
    card.free -= 10 * GIB
    packing.told("a", Reading(9 * GIB, 9 * GIB, card.free), whole=True)
    card.free = 12 * GIB  # somebody took 58
    assert packing.admit("b", "kind") is None
    card.free = 17 * GIB
    assert packing.admit("b", "kind") == "cuda:0"


def test_trainings_are_spread_over_devices() -> None:
    packing = Packing(["cuda:0", "cuda:1"], Card())
    assert [packing.admit(name, name) for name in "abc"] == ["cuda:0", "cuda:1", None]
    packing.told("b", Reading(GIB, GIB, 78 * GIB), whole=True)
    assert packing.admit("c", "b") == "cuda:1"
    packing.ended("a")
    assert packing.admit("d", "d") == "cuda:0"
    assert packing.admit("e", "b") == "cuda:1"  # what "d" needs is not known yet


def test_memory_that_a_process_holds_already_is_not_asked_for_twice() -> None:
    card = Card()
    packing = Packing(["cuda:0"], card)
    packing.admit("a", "kind")
    card.free -= 10 * GIB
    packing.told("a", Reading(9 * GIB, 9 * GIB, card.free), whole=True)
    card.free = 16 * GIB  # 11 with the margin, 1 that "a" may still grow by, 4 in reserve
    assert packing.admit("b", "kind") == "cuda:0"
    packing.ended("b")
    card.free = 15 * GIB
    assert packing.admit("c", "kind") is None
    assert packing.admit("c", "kind", {"cuda:0": 0}) == "cuda:0"


def test_out_of_memory_beside_others_halves_them_and_alone_is_its_own_fault() -> None:
    card = Card()
    packing = Packing(["cuda:0"], card, measured=False)
    names = [f"job {n}" for n in range(8)]
    for name in names:
        assert packing.admit(name, "kind") == "cuda:0"
    assert packing.others(names[0]) == ("cuda:0", 7)
    assert not packing.out_of_memory(names[0])
    assert not packing.out_of_memory(names[1])  # of the same eight: it says nothing new
    for name in names[2:5]:
        assert packing.admit(names[0], "kind") is None
        packing.ended(name)
    assert packing.admit(names[0], "kind") == "cuda:0"  # the fourth
    assert packing.admit(names[1], "kind") is None
    assert not packing.out_of_memory(names[0])
    assert packing.admit(names[0], "kind") is None
    for name in names[5:]:
        packing.ended(name)
    assert packing.admit(names[0], "kind") == "cuda:0"
    assert packing.admit(names[1], "kind") is None  # twice short of memory: it has the device for itself
    assert packing.out_of_memory(names[0])


def test_after_a_while_one_more_is_tried() -> None:
    packing = Packing(["cuda:0"], Card(), measured=False)
    for name in "abcd":
        packing.admit(name, "kind")
    packing.out_of_memory("a")  # two from now on
    for name in "bcd":
        packing.ended(name)  # two of them show that two are well, and so three
    assert [packing.admit(name, "kind") for name in "efgh"] == ["cuda:0"] * 3 + [None]

"""Groups of samples that show the same thing: made from what is known of the samples, and drawn as wholes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np

# From how many samples before its target on a draw looks for the best sum instead of taking what comes.
_EXACT = 4096


def joined(num_samples: int, *keys: Sequence[Hashable | None]) -> np.ndarray:
    """Groups of the samples that share a key, directly or over other samples.

    Args:
        num_samples: N.
        keys: each of N entries; two samples with the same entry at the same place belong together. None says nothing.

    Returns:
        (N,) int64, numbered 0, 1, ... in the order of their first samples.
    """
    parent = list(range(num_samples))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = n = parent[parent[n]]
        return n

    for column in keys:
        first: dict[Hashable, int] = {}
        for n, key in enumerate(column):
            if key is not None:
                parent[root(n)] = root(first.setdefault(key, n))
    return numbered(root(n) for n in range(num_samples))


def numbered(values: Iterable[Hashable]) -> np.ndarray:
    """The values as int64 numbers 0, 1, ... in the order in which they first occur."""
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(value, len(number)) for value in values], dtype=np.int64)


def take_groups(sizes: Sequence[int], target: int, most: int) -> list[int]:
    """Which groups to take so that their samples are as near to a target as whole groups allow.

    Groups are tried in the order given (the caller's random one), and of two ways to the same sum the one with
    earlier groups is taken. The sum is the best there is if the target is below _EXACT; of a larger one only the last
    _EXACT samples are chosen so, which with groups of common sizes reaches it as well. If it takes more than `most`
    groups, the smallest are given back.

    Args:
        sizes: samples of each group, at least 1.
        target: the samples wanted, at least 1.
        most: the number of groups that may be taken, from 1 to len(sizes).

    Returns:
        Ascending places in `sizes`: at least one, at most `most`.
    """
    taken, total, start = [], 0, 0
    while start < min(most, len(sizes)) and total + sizes[start] <= target - _EXACT:
        taken.append(start)
        total += sizes[start]
        start += 1
    wanted = target - total
    # Bit s of reached[k] says whether some of the first k groups have s samples together.
    mask = (1 << (2 * wanted + min(sizes) + 1)) - 1  # a sum further off is never the nearest one
    reached = [1]
    for size in sizes[start:]:
        reached.append((reached[-1] | (reached[-1] << size)) & mask)
        if reached[-1] >> wanted & 1:
            break
    rest = _nearest_sum(reached[-1], wanted, allow_zero=bool(taken))
    for k in range(len(reached) - 1, 0, -1):
        if not reached[k - 1] >> rest & 1:
            taken.append(start + k - 1)
            rest -= sizes[start + k - 1]
    while len(taken) > most:  # the rest must serve other parts: give back the smallest
        taken.remove(min(taken, key=lambda place: (sizes[place], -place)))
    return sorted(taken)


def _nearest_sum(bits: int, wanted: int, *, allow_zero: bool) -> int:
    """The set bit nearest to `wanted`, the lower one of two."""
    for distance in range(bits.bit_length() + wanted + 1):
        for candidate in (wanted - distance, wanted + distance):
            if candidate >= (0 if allow_zero else 1) and bits >> candidate & 1:
                return candidate
    raise AssertionError("no group fits")  # the smallest group always does

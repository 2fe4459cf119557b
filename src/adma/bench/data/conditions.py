"""Conditions that make training data harder: false labels, imbalance, a share of the samples.

The order is: the split, `train_size`, `train_fraction`, imbalance, label noise. All act on the training part. The
test part is never touched, the validation part only by `noisy_val`.

Label noise RATE:KIND makes the share RATE of each class's labels false: of n samples of a class round(RATE n) get
another label, counted and not tossed a coin for, but at least one keeps its own. "symmetric": the false label is one of
the other classes, each as likely, so that a rate of 0.4 means that 40% of the labels are wrong (some papers draw from
all classes and count fewer). "pair": class c becomes c + 1, the last one the first (pair flip, Han et al. 2018,
Co-teaching).

Imbalance RATIO:KIND leaves class c of C with floor(n RATIO^(-c / (C - 1))) samples ("exp", Cui et al. 2019), or the
first half of the classes, rounded up, with n and the others with floor(n / RATIO) ("step", Buda et al. 2018). n is the
largest number for which no class needs more samples than it has, so but for rounding the ratio is as asked for also
where the data are imbalanced themselves. The classes keep their order, as in the papers: all seeds then have the same
rare classes, and differ in the samples that are kept.

For one seed a higher rate falsifies what a lower one does and more, and a higher ratio keeps a part of what a lower one
keeps of a class, if n is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from adma._check import nearest
from adma.bench.data.checks import share_between, show
from adma.bench.errors import BenchError
from adma.bench.study import Setting

NONE = "none"


@dataclass(frozen=True)
class LabelNoise:
    """False labels.

    rate: the share of each class's labels that are false, in (0, 1).
    kind: "symmetric" or "pair".
    """

    rate: float
    kind: str

    kinds: ClassVar[tuple[str, ...]] = ("symmetric", "pair")

    @property
    def spec(self) -> str:
        """The spec that `parse_label_noise` reads back as this."""
        return f"{_write(self.rate)}:{self.kind}"

    def limit(self, num_classes: int) -> float:
        """The rate from which on a class's own label is no longer its most frequent one."""
        return (num_classes - 1) / num_classes if self.kind == "symmetric" else 0.5

    def relabel(self, y: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
        """The labels, some of them false.

        Args:
            y: (N,) int64, true class indices.
            num_classes: C, at least 2.
            seed: of the draw; the rate has no say in the order in which samples are taken.

        Returns:
            (N,) int64, a new array.
        """
        rng = np.random.Generator(np.random.PCG64(seed))
        noisy = y.copy()
        for label in range(num_classes):
            places = rng.permutation(np.flatnonzero(y == label))
            steps = rng.integers(1, num_classes, len(places))  # to another class, each as likely
            flipped = places[: max(0, min(_rounded(self.rate * len(places)), len(places) - 1))]
            by = steps[: len(flipped)] if self.kind == "symmetric" else 1
            noisy[flipped] = (label + by) % num_classes
        return noisy


@dataclass(frozen=True)
class Imbalance:
    """Classes of unequal size.

    ratio: the samples of the most frequent class over those of the rarest, above 1.
    kind: "exp" or "step".
    """

    ratio: float
    kind: str

    kinds: ClassVar[tuple[str, ...]] = ("exp", "step")

    @property
    def spec(self) -> str:
        """The spec that `parse_imbalance` reads back as this."""
        return f"{_write(self.ratio)}:{self.kind}"

    def counts(self, available: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
        """How many samples each class keeps.

        Args:
            available: (C,) samples of each class.
            class_names: C names, for messages.

        Raises:
            BenchError: the rarest class would keep none.
        """
        c = np.arange(len(available))
        exponent = c / (len(c) - 1) if self.kind == "exp" else (c >= (len(c) + 1) // 2).astype(float)
        share = self.ratio**-exponent
        n = int(_floor(available / share).min())
        counts = _floor(n * share)
        if counts.min() < 1:
            tight = int(np.argmin(_floor(available / share)))
            raise BenchError(
                f"--imbalance {self.spec}: no sample of class '{show(class_names[-1])}' would be left: the most "
                f"frequent class can have {n}, as '{show(class_names[tight])}' has {available[tight]}, and one times "
                f"{_write(self.ratio)} is more; lower the ratio, or train on more samples"
            )
        return counts

    def keep(self, y: np.ndarray, class_names: Sequence[str], seed: int) -> np.ndarray:
        """Ascending places in `y` (N,) of the samples that are kept.

        Raises:
            BenchError: see `counts`.
        """
        rng = np.random.Generator(np.random.PCG64(seed))
        counts = self.counts(np.bincount(y, minlength=len(class_names)), class_names)
        kept = [rng.permutation(np.flatnonzero(y == label))[:count] for label, count in enumerate(counts)]
        return np.sort(np.concatenate(kept))


def parse_label_noise(spec: str) -> LabelNoise | None:
    """The noise that `RATE[:KIND]` names (symmetric where it names no kind), None for "none".

    Raises:
        BenchError: it is of another form, or out of its range.
    """
    words = "the share of labels that are false, a number above 0 and below 1"
    found = _parse("--label-noise", spec, LabelNoise.kinds, "0.4", words, lambda rate: 0 < rate < 1)
    return None if found is None else LabelNoise(*found)


def parse_imbalance(spec: str) -> Imbalance | None:
    """The imbalance that `RATIO[:KIND]` names (exp where it names no kind), None for "none".

    Raises:
        BenchError: it is of another form, or out of its range.
    """
    words = "the samples of the most frequent class over those of the rarest, a number above 1"
    found = _parse("--imbalance", spec, Imbalance.kinds, "100", words, lambda ratio: 1 < ratio < math.inf)
    return None if found is None else Imbalance(*found)


def canonical_conditions(options: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions among `options` as `Setting` holds them, in their one spelling.

    Args:
        options: may hold train_fraction, imbalance, label_noise and noisy_val; what is not there is at its default.

    Raises:
        BenchError: a value that its option does not take, or noise for the validation part where there is none.
    """
    noise = parse_label_noise(options.get("label_noise", NONE))
    imbalance = parse_imbalance(options.get("imbalance", NONE))
    share = options.get("train_fraction")
    noisy_val = bool(options.get("noisy_val", False))
    if noisy_val and noise is None:
        raise BenchError(
            "--noisy-val gives the validation part the training part's label noise, but there is none; give "
            "--label-noise such as 0.4 too, or leave --noisy-val out"
        )
    return {
        "train_fraction": None if share is None else share_between("--train-fraction", share),
        "imbalance": NONE if imbalance is None else imbalance.spec,
        "label_noise": NONE if noise is None else noise.spec,
        "noisy_val": noisy_val,
    }


def describe_conditions(setting: Setting, class_names: Sequence[str]) -> list[str]:
    """In plain words, a line a condition; a WARNING where labels say too little. Nothing for data as they are."""
    lines = []
    if setting.train_fraction is not None:
        lines.append(f"{_percent(setting.train_fraction)} of the training part is trained on, drawn by class")
    imbalance = parse_imbalance(setting.imbalance)
    if imbalance is not None:
        first, last, ratio = show(class_names[0]), show(class_names[-1]), _write(imbalance.ratio)
        how = (
            f"sizes fall exponentially in their order, down to one sample of '{last}' for {ratio} of '{first}'"
            if imbalance.kind == "exp"
            else f"each class of the second half, up to '{last}', has one sample for {ratio} of each of the first half"
        )
        lines.append(f"the training classes are imbalanced: {how}; test and validation parts are as they were")
    noise = parse_label_noise(setting.label_noise)
    if noise is not None:
        parts, clean = ("training", "test and validation labels are clean")
        if setting.noisy_val:
            parts, clean = ("training and validation", "test labels are clean")
        kind = "symmetric (any other class as likely)" if noise.kind == "symmetric" else "pair flip (as the next class)"
        lines.append(f"{_percent(noise.rate)} of the {parts} labels are false, {kind}; {clean}")
        limit = noise.limit(len(class_names))
        if noise.rate >= limit:
            lines.append(
                f"WARNING: label noise {noise.spec}: with {len(class_names)} classes, from {_percent(limit)} on a "
                "class's own label is no longer its most frequent one, so the labels no longer tell the classes apart"
            )
    return lines


def _parse(
    what: str, spec: str, kinds: tuple[str, ...], example: str, words: str, accepts: Callable[[float], bool]
) -> tuple[float, str] | None:
    """The number and the kind of `NUMBER[:KIND]`, the first kind where none is named; None for "none"."""
    text = spec.strip()
    if text == NONE:
        return None
    form = f"write such as {', '.join([example, *(f'{example}:{kind}' for kind in kinds)])}, or {NONE}"
    number, colon, kind = (part.strip() for part in text.partition(":"))
    try:
        value = float(number.replace("_", "x"))  # Python's 1_0 is a slip here
    except ValueError:
        hint = nearest(text, [NONE])
        raise BenchError(f"{what} {spec}: {number!r} is no number{hint}; {form}") from None
    if not accepts(value):  # NaN is never accepted
        raise BenchError(f"{what} {spec}: must be {words}, got {number}; {form}")
    if colon and not kind:
        raise BenchError(f"{what} {spec}: nothing stands behind the colon; {form}")
    if colon and kind not in kinds:
        raise BenchError(f"{what} {spec}: {kind!r} is not known{nearest(kind, kinds)}; {form}")
    return value, kind or kinds[0]


def _write(value: float) -> str:
    """The shortest text that reads back as the value, without a point where it is whole."""
    return repr(value).removesuffix(".0")


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


def _floor(values: np.ndarray) -> np.ndarray:
    """Rounded down; what falls short of a whole number by rounding alone counts as whole."""
    return np.floor(values * (1 + 1e-12)).astype(np.int64)

"""What to run: a `Study` compares losses under one setting, a `Plan` is a list of studies, a `Cell` one training.

A cell is plain data. Its canonical JSON hashes to its *key*, the name of its folder in the store. Its random
streams are drawn from the data and the seed, never from the loss: all losses of one seed see the same split,
initial weights, batch order, augmentation and dropout draws.

What is at its default does not enter the key, so that a new field of `Setting` leaves all earlier cells their
keys. Therefore a default never changes, and a new field's default means what was done before there was the field.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

SCHEMA = 2  # of a cell: a change here gives every cell a new key


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Setting:
    """How one training runs, but for its loss and seed.

    data: what the user wrote.
    data_hash: the fingerprint of the arrays that it stood for: a folder whose pictures changed is another study.
    model, optimizer, lr_schedule, augment: specs, in their canonical spelling.
    lr: learning rate at the start.
    weight_decay: L2 on the weights of the convolutions, see `models.parameter_groups`.
    train_size: how many samples to train on, None for all.
    val_fraction, test_fraction: of the samples drawn from, where the data set states no such part.
    grouped: whether samples of one group (a lesion) stay in one part, where the data set knows groups.
    eval_size: at most so many samples of val and of test are measured, None for all.
    train_fraction: this share of the training part (of `train_size`, if that is given) is trained on, None for all.
    imbalance: how the training part's classes are thinned out, a spec of `data.conditions`.
    label_noise: how its labels are falsified, a spec of `data.conditions`.
    noisy_val: whether the validation part has that noise too.
    held_out: the share of the training part that a learned loss sets aside to learn from; others train on all.
    """

    data: str
    data_hash: str
    model: str = "convnet"
    epochs: int = 10
    optimizer: str = "adam"
    lr: float = 1e-3
    lr_schedule: str = "constant"
    weight_decay: float = 1e-4
    batch_size: int = 64
    train_size: int | None = None
    val_fraction: float = 0.2
    test_fraction: float = 0.2
    grouped: bool = True
    eval_size: int | None = None
    augment: str = "none"
    train_fraction: float | None = None
    imbalance: str = "none"
    label_noise: str = "none"
    noisy_val: bool = False
    held_out: float = 0.1

    @cached_property
    def _canonical(self) -> tuple[Any, str, str]:
        """What stands before, between and after loss and seed in the canonical JSON of a cell without its defaults.

        What stands before, with the loss's name, is hashed already, so that the keys of many cells cost little; that
        a key is the hash `digest` gives is tested.
        """
        defaults = {f.name: f.default for f in fields(Setting) if f.default is not MISSING}
        config = {"schema": SCHEMA, **asdict(self)}
        kept = {k: v for k, v in config.items() if k not in defaults or v != defaults[k]}
        written = {k: f'"{k}":{json.dumps(kept[k], sort_keys=True, allow_nan=False)}' for k in sorted(kept)}
        before = "".join(f"{text}," for k, text in written.items() if k < "loss")
        between = "".join(f"{text}," for k, text in written.items() if "loss" < k < "seed")
        after = "".join(f",{text}" for k, text in written.items() if k > "seed")
        return hashlib.sha256(f'{{{before}"loss":'.encode()), between, after + "}"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_canonical"}  # a hash does not travel


@dataclass(frozen=True)
class Cell:
    """One training: a setting, a loss written as a spec, a seed."""

    setting: Setting
    loss: str
    seed: int

    def config(self) -> dict[str, Any]:
        """The cell as plain data, as `config.json` holds it."""
        return {"schema": SCHEMA, **asdict(self.setting), "loss": self.loss, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Cell:
        """The inverse of `config`."""
        setting = Setting(**{f.name: config[f.name] for f in fields(Setting) if f.name in config})
        return cls(setting, config["loss"], config["seed"])

    @cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits of what is not at its default."""
        begun, between, after = self.setting._canonical
        hashed = begun.copy()
        hashed.update(f'{_written(self.loss)},{between}"seed":{_written(self.seed)}{after}'.encode())
        return str(hashed.hexdigest()[:16])

    def stream_seed(self, *names: str | int) -> int:
        """A seed for the random stream called `names`, drawn from the data and the cell's seed alone.

        So it is the same for every loss, and for every other setting too: studies of two learning rates see the
        same splits. Never the order of execution.
        """
        text = "/".join([self.setting.data_hash, str(self.seed), *map(str, names)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


@lru_cache(maxsize=65_536, typed=True)
def _written(value: str | int) -> str:
    return json.dumps(value)


@dataclass(frozen=True)
class Study:
    """A grid: every loss with every seed, under one setting."""

    setting: Setting
    losses: tuple[str, ...]
    seeds: tuple[int, ...]

    def cells(self) -> list[Cell]:
        """Seed by seed, so that an interrupted study holds whole comparisons."""
        return [Cell(self.setting, loss, seed) for seed in self.seeds for loss in self.losses]

    def config(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "setting": asdict(self.setting),
            "losses": list(self.losses),
            "seeds": list(self.seeds),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Study:
        return cls(Setting(**config["setting"]), tuple(config["losses"]), tuple(config["seeds"]))

    @property
    def key(self) -> str:
        return digest(self.config())

    def grows_from(self, other: Study) -> bool:
        """Whether this study is the other one with more seeds, or the same."""
        return self.seeds[: len(other.seeds)] == other.seeds and replace(self, seeds=other.seeds) == other

    def differences(self, other: Study) -> list[str]:
        """In words, where two studies differ; empty if they are the same."""
        mine, theirs = self.config(), other.config()
        flat_a = {**mine.pop("setting"), **mine}
        flat_b = {**theirs.pop("setting"), **theirs}
        return [
            f"{name}: {flat_b.get(name)!r} there, {flat_a.get(name)!r} now"
            for name in flat_a
            if flat_a[name] != flat_b.get(name)
        ]


@dataclass(frozen=True)
class Entry:
    """One study of a plan.

    name: unique in the plan, such as "mnist" or "mnist/relu".
    data: the name of the data set, for headings.
    variant: what differs from other entries of that data set, "" if nothing does.
    """

    name: str
    study: Study
    data: str = ""
    variant: str = ""


@dataclass(frozen=True)
class Plan:
    """Several studies that run together, into one store; a cell that two of them hold runs once."""

    name: str
    entries: tuple[Entry, ...]

    def cells(self) -> list[Cell]:
        """Without repetition; an entry's cells stand together, as they read the same data."""
        return unique(cell for entry in self.entries for cell in entry.study.cells())


def unique(cells: Iterable[Cell]) -> list[Cell]:
    """The cells in their order, each once."""
    return list({cell.key: cell for cell in cells}.values())

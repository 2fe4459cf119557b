"""What to run: a `Study` is a grid of settings, and its `Cell`s are the single trainings.

A cell is plain data. Its canonical JSON hashes to its *key*, the name of its folder in the store. Its random
streams are drawn from the data and the seed, never from the loss: all losses of one seed see the same split,
initial weights, batch order, augmentation and dropout draws.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

SCHEMA = 1  # of a cell: a change here gives every cell a new key


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Setting:
    """How one training runs, but for its loss and seed.

    `data` is what the user wrote; `data_hash` is the fingerprint of the arrays that it stood for, so that a
    folder whose pictures changed is another study.
    """

    data: str
    data_hash: str
    model: str = "convnet"
    epochs: int = 10
    optimizer: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    batch_size: int = 64
    train_size: int | None = None
    val_fraction: float = 0.2
    test_fraction: float = 0.2
    augment: str = "none"


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
        setting = Setting(**{f.name: config[f.name] for f in fields(Setting)})
        return cls(setting, config["loss"], config["seed"])

    @property
    def key(self) -> str:
        return digest(self.config())

    def stream_seed(self, *names: str | int) -> int:
        """A seed for the random stream called `names`, drawn from the data and the cell's seed alone.

        So it is the same for every loss, and for every other setting too: studies of two learning rates see the
        same splits. Never the order of execution.
        """
        text = "/".join([self.setting.data_hash, str(self.seed), *map(str, names)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


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

    def with_setting(self, **changes: Any) -> Study:
        return replace(self, setting=replace(self.setting, **changes))

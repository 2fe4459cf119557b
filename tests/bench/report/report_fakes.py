"""Synthetic results: what a store would hold after a study, without any training."""

from __future__ import annotations

import zlib

import numpy as np

from adma.bench.folder import Results
from adma.bench.result import COLUMNS, DIVERGED, DONE, CellResult
from adma.bench.study import Setting, Study

EPOCHS = 8
SHARED = {"split": "aa", "init": "bb", "order": "cc", "augment": "dd"}
ENV = {
    "versions": {"python": "3.11.2", "torch": "2.13.0", "adma": "0.1.0"},
    "hardware": {"cpu": "A <fast> CPU", "cores": 2},
    "threads": 1,
}


def setting(**changes) -> Setting:
    return Setting(**{"data": "photos", "data_hash": "0123456789abcdef", "epochs": EPOCHS, **changes})


def epochs(final: float, *, seed: int = 0, n: int = EPOCHS, posterior: bool = True) -> dict[str, np.ndarray]:
    """A plausible run whose last test accuracy is exactly `final`."""
    rng = np.random.default_rng(seed)
    rise = 1 - np.exp(-np.arange(1, n + 1) / 2.5)
    accuracy = final * rise / rise[-1]
    wobble = np.append(rng.normal(0, 0.008, n - 1), 0.0)
    columns = {
        "epoch": np.arange(1, n + 1),
        "train_loss": 2.3 * (1 - rise) + 0.1,
        "train_accuracy": accuracy + 0.02,
        "seconds": np.full(n, 1.5),
    }
    for part in ("val", "test"):
        columns[f"{part}_accuracy"] = accuracy + wobble
        columns[f"{part}_nll"] = 2.3 * (1 - rise) + 0.3 + wobble
        columns[f"{part}_ece"] = 0.08 - 0.04 * rise + wobble / 10
        columns[f"{part}_nll_posterior"] = columns[f"{part}_nll"] - 0.02 if posterior else np.full(n, np.nan)
        columns[f"{part}_ece_posterior"] = columns[f"{part}_ece"] / 2 if posterior else np.full(n, np.nan)
        columns[f"{part}_brier"] = 0.9 * (1 - rise) + 0.1 + wobble / 5
        columns[f"{part}_brier_posterior"] = columns[f"{part}_brier"] - 0.01 if posterior else np.full(n, np.nan)
    columns["temperature"] = 1.2 + wobble
    for measure, gain in (("nll", 0.03), ("brier", 0.005), ("ece", 0.01)):
        columns[f"test_{measure}_scaled"] = columns[f"test_{measure}"] - gain
    columns |= {f"{part}_mean_iou": np.full(n, np.nan) for part in ("val", "test")}  # one label a sample
    assert set(columns) == set(COLUMNS)
    return columns


def results(
    finals: dict[str, list[float | str]], *, about: dict | None = None, env: dict | None = None, **changes
) -> Results:
    """Results of a study: loss -> for each seed 0, 1, ... a final test accuracy, or a status.

    "diverged" has three epochs before it ended; "failed" and "missing" have none.
    """
    seeds = tuple(range(max(map(len, finals.values()))))
    study = Study(setting(**changes), tuple(finals), seeds)
    cells = []
    for cell in study.cells():
        value = finals[cell.loss][cell.seed]
        own_env = {**ENV, "shared": dict(SHARED), **(env or {})}
        noise = zlib.crc32(f"{cell.loss}{cell.seed}".encode(errors="replace"))
        if isinstance(value, str):
            ran = value == DIVERGED
            reason = {"diverged": "loss is nan in epoch 4", "failed": "OutOfMemory: <b>1 GB</b>"}.get(value, "")
            cells.append(
                CellResult(cell, value, reason, 2.0 * ran, epochs(0.5, seed=noise, n=3) if ran else {}, own_env)
            )
        else:
            run = epochs(value, seed=noise, posterior=not cell.loss.startswith("mae"))
            cells.append(CellResult(cell, DONE, "", 12.0, run, own_env))
    return Results(study, tuple(cells), about or {})


HOSTILE = (
    "<script>alert(1)</script>",
    r"$\frac$",
    "a&b\"'",
    "{{ 7 * 7 }}",
    "</style><h1>x",
    "<img src=http://x.invalid/a>",
)


def hostile_results() -> Results:
    """Every text that comes from the user's disk is an attack or nonsense."""
    script, maths, quotes, braces, style, image = HOSTILE
    about = {
        "command": f"adma compare '{script}' --out {image}",
        "dataset": {
            "name": script,
            "samples": 1000,
            "classes": list(HOSTILE) * 3,
            "sample_shape": [3, 32, 32],
            "notes": [f"2 files could not be read: {style}", braces],
            "sizes": {"train": 600, "val": 200, "test": 200},
        },
        "adma_version": image,
        "created": braces,
    }
    finals = {
        "cce": [0.90, 0.91, 0.92],
        maths: [0.93, 0.941, 0.95],
        script: [0.5, "failed", "diverged"],
        quotes: [0.4] * 3,
    }
    env = {"versions": {"torch": style}, "hardware": {"gpu": image}}
    return results(finals, about=about, env=env, data=script, model=braces)


ABOUT = {
    "command": "adma compare photos --losses cce,adma:a=0.26 --seeds 3",
    "dataset": {
        "name": "photos",
        "samples": 1234,
        "classes": ["cat", "dog", "horse"],
        "sample_shape": [3, 32, 32],
        "notes": ["2 files could not be read and were left out: a.png, b.png"],
        "sizes": {"train": 740, "val": 247, "test": 247},
    },
    "adma_version": "0.1.0",
    "created": "2026-01-02T03:04:05+00:00",
}

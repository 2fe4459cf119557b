"""Two processes that train one cell with dense targets: its numbers are those of one process."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from dense_samples import counting, squares

from adma.bench.data import Dataset
from adma.bench.parallel import Group
from adma.bench.result import DONE, CellResult
from adma.bench.study import Cell, Setting
from adma.bench.train import train

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="this build of torch has no gloo")


def cells() -> dict[str, tuple[Cell, Dataset]]:
    """Shares of a batch have unequally many labels that count."""
    pixels, tokens = squares(17), counting(31)
    own = {"epochs": 2, "optimizer": "sgd", "lr": 0.05, "batch_size": 7}
    of_pixels = Setting("p", pixels.fingerprint, model="unet:depth=1,width=4", **own)  # type: ignore[arg-type]
    of_tokens = Setting("t", tokens.fingerprint, model="dense_samples:tagger", **own)  # type: ignore[arg-type]
    return {
        "pixels": (Cell(of_pixels, "adma:a=0.3", 0), pixels),
        "learned": (Cell(of_tokens, "adma:a=learn,normalize=true", 0), tokens),
    }


def run(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        found = {name: train(cell, data, parallel=Group()) for name, (cell, data) in cells().items()}
        if rank == 0:
            torch.save(
                {name: (r.status, dict(r.epochs), r.env.get("iou", {})) for name, r in found.items()},
                folder / "found",
            )
    finally:
        dist.destroy_process_group()


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(run, (port, tmp_path), nprocs=2)
    found = torch.load(tmp_path / "found", weights_only=False)
    for name, (cell, data) in cells().items():
        alone: CellResult = train(cell, data)
        status, epochs, iou = found[name]
        assert status == alone.status == DONE
        for column, values in alone.epochs.items():
            if column != "seconds":
                np.testing.assert_allclose(epochs[column], values, rtol=1e-4, atol=1e-4, err_msg=f"{name}: {column}")
        for part, values in alone.env.get("iou", {}).items():
            np.testing.assert_allclose(iou[part], values, atol=1e-3)

"""Two processes under DistributedDataParallel learn one shape: that of one process with both batches."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import adma
from adma.flex import ShapeTuner

STEPS, EVERY, N, FEATURES, CLASSES = 6, 2, 32, 6, 4


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, CLASSES)).double()


def samples(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(N, FEATURES, generator=g, dtype=torch.float64), torch.randint(CLASSES, (N,), generator=g)


def run(rank: int, world: int) -> dict[str, object]:
    """Train on every `world`-th sample from `rank` on; world 1 sees them all."""
    torch.set_num_threads(1)
    inner = network()
    model: nn.Module = DistributedDataParallel(inner) if world > 1 else inner
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    x, y = samples(1)
    held_out = [(x[rank::world], y[rank::world])]
    tuner = ShapeTuner(adma.AdmaLoss(a=0.2, normalize=True), model, optimizer, held_out, every=EVERY)
    for k in range(STEPS):
        x, y = samples(10 + k)
        x, y = x[rank::world], y[rank::world]
        optimizer.zero_grad()
        tuner.loss_fn(model(x), y).backward()
        optimizer.step()
        tuner.step(x, y)
    return {
        "a": tuner.trace["a"],
        "gradient": tuner.trace["gradient/a"],
        "weights": [w.sum().item() for w in inner.parameters()],
    }


def worker(rank: int, world: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    try:
        Path(folder, f"{rank}.json").write_text(json.dumps(run(rank, world)))
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this build of torch has no gloo")
def test_every_process_has_the_same_shape_as_one_process_with_all_samples(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(worker, (2, port, str(tmp_path)), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    alone = run(0, 1)
    assert first["a"] == second["a"]  # to the last bit
    assert len(first["a"]) == STEPS // EVERY
    assert len(set(first["a"])) > 1
    assert first["a"] == pytest.approx(alone["a"], rel=1e-9)
    assert first["gradient"] == pytest.approx(alone["gradient"], rel=1e-9)
    assert first["weights"] == pytest.approx(alone["weights"], rel=1e-9)

"""Ways to train several replicates of a small network on one device, measured against each other in one run.

    python benchmarks/packing.py [--device cuda] [--replicates 1,2,4,8] [--steps 200] [--rounds 5] [--out FILE.csv]

The paper's ConvNet on random images of MNIST's size, batches of 64, Adam, cross-entropy; every replicate has weights,
images and dropout of its own. A round takes so many steps of every replicate in each way, in shuffled order:

    one after another   each replicate's step in turn
    streams             the same, each replicate's on a CUDA stream of its own; on a GPU alone
    vmapped             one step of all, their weights stacked, by torch.func

On a GPU each step is a CUDA graph, replayed. A figure is the median over the rounds of the ratio of images per second
to the first way's within a round. Processes of their own, which the bench uses, are in `training_loop.py --processes`.
Before timing, a replicate's weights after a step without dropout are compared between the ways.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from table import finish
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from adma.bench.models import build_model

BATCH = 64
Step = Callable[[], None]


def replicates(count: int, device: str, dropout: bool = True) -> list[nn.Module]:
    """Networks with weights of their own, as a GPU's training has them."""
    spec = "convnet" if dropout else "convnet:dropout=0"
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        made.append(build_model(spec, (1, 28, 28), 10).to(device).train())
    return made


def batches(count: int, device: str) -> tuple[Tensor, Tensor]:
    """Images (count, 64, 1, 28, 28) and classes (count, 64)."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(count, BATCH, 1, 28, 28, generator=draw)
    return x.to(device), torch.randint(0, 10, (count, BATCH), generator=draw).to(device)


def adam(parameters: Sequence[Tensor], device: str) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, 1e-3, capturable=device.startswith("cuda"))


def single(model: nn.Module, x: Tensor, y: Tensor, device: str) -> Step:
    """A step of one replicate."""
    optimizer = adam(list(model.parameters()), device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def vmapped(models: Sequence[nn.Module], x: Tensor, y: Tensor, device: str) -> tuple[Step, dict[str, Tensor]]:
    """A step of all replicates at once, and their weights, stacked."""
    weights, buffers = stack_module_state(models)  # type: ignore[arg-type]
    base = copy.deepcopy(models[0]).to("meta")
    optimizer = adam(list(weights.values()), device)

    def loss(weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(base, (weights, buffers), (x,)), y)

    every = torch.vmap(loss, randomness="different")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        every(weights, buffers, x, y).sum().backward()
        optimizer.step()

    return step, weights


def recorded(step: Step, device: str, stream: torch.cuda.Stream | None = None) -> Step:
    """The step as a CUDA graph, on a stream if one is given; on the CPU the step itself."""
    if not device.startswith("cuda"):
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    if stream is None:
        return graph.replay

    def replay() -> None:
        with torch.cuda.stream(stream):
            graph.replay()

    return replay


def checked(device: str) -> None:
    """Two replicates' weights after a step without dropout, in both ways of computing them.

    Raises:
        SystemExit: they differ by more than rounding.
    """
    models, (x, y) = replicates(2, device, dropout=False), batches(2, device)
    step, stacked = vmapped(models, x, y, device)
    step()
    for k, model in enumerate(models):
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        single(model, x[k], y[k], device)()
        for name, value in model.named_parameters():
            # Adam's first step is the rate times the gradient's sign, so weights without a gradient go anywhere
            off = ((stacked[name][k] - value).abs() > 1e-5).float().mean().item()
            if off > 0.05 or torch.equal(before[name], value):
                raise SystemExit(f"vmapped replicates: {off:.1%} of {name} differ")


def ways(count: int, device: str) -> dict[str, Callable[[int], None]]:
    """So many steps of so many replicates, by the name of the way."""
    x, y = batches(count, device)
    alone = [recorded(single(model, x[k], y[k], device), device) for k, model in enumerate(replicates(count, device))]
    together = recorded(vmapped(replicates(count, device), x, y, device)[0], device)

    def in_turn(steps: Sequence[Step]) -> Callable[[int], None]:
        def run(times: int) -> None:
            for _ in range(times):
                for step in steps:
                    step()

        return run

    found = {"one after another": in_turn(alone), "vmapped": in_turn([together])}
    if device.startswith("cuda"):
        streams = [torch.cuda.Stream() for _ in range(count)]
        apart = [
            recorded(single(model, x[k], y[k], device), device, streams[k])
            for k, model in enumerate(replicates(count, device))
        ]
        found["streams"] = in_turn(apart)
    return found


def seconds_of(run: Callable[[int], None], steps: int, device: str) -> float:
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    start = time.perf_counter()
    run(steps)
    wait()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--replicates", default="1,2,4,8")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    checked(options.device)
    rows: list[dict[str, object]] = []
    for count in map(int, options.replicates.split(",")):
        tried = ways(count, options.device)
        seconds: dict[str, list[float]] = {name: [] for name in tried}
        for turn in range(options.rounds + 1):
            for name in random.sample(list(tried), len(tried)):
                took = seconds_of(tried[name], options.steps, options.device)
                if turn:  # the first round warms up
                    seconds[name].append(took)
        for name, values in seconds.items():
            ratios = [a / b for a, b in zip(seconds["one after another"], values, strict=True)]
            row: dict[str, object] = {
                "replicates": count,
                "way": name,
                "images_per_second": round(count * options.steps * BATCH / statistics.median(values)),
                "speed": round(statistics.median(ratios), 3),
                "min": round(min(ratios), 3),
                "max": round(max(ratios), 3),
                "rounds": options.rounds,
            }
            rows.append(row)
            print(
                f"{count} replicates, {name:<18} {row['images_per_second']:8d} images/s  "
                f"{row['speed']:6.2f} [{row['min']:.2f}, {row['max']:.2f}] times one after another",
                flush=True,
            )
    finish(rows, options.out, f"batches of {BATCH}, {options.steps} steps", device=options.device)


if __name__ == "__main__":
    main()

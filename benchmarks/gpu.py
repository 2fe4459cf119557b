"""Everything that wants a GPU, by one command: the tests of what runs there, and the benchmarks.

    python benchmarks/gpu.py [--minutes 13] [--out benchmarks/results] [--logs adma-runs/gpu] [--list]

The steps come in the order of their weight, each in a process of its own with a limit of its own, so that one that
fails or hangs takes no other along. Tables are written to --out, named by the date; what a step prints to --logs and,
its last lines, here. What there was no time for is named. The exit status is 1 if a step failed or was left out, 2 if
there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KERNELS = ("test_triton_gpu", "test_gpu", "test_linear_gpu", "test_operators", "test_compiled")
LEAST = 20  # seconds that must be left for a step to begin


@dataclass(frozen=True)
class Step:
    """One process, or several alike side by side.

    name: what is told and what its log is called.
    arguments: behind `python`; "{share}" is replaced by "0/count" and on.
    seconds: after which it is ended.
    count: of the processes.
    """

    name: str
    arguments: tuple[str, ...]
    seconds: float
    count: int = 1


def steps(out: Path) -> list[Step]:
    """What is run, in order."""

    def bench(name: str, *arguments: str) -> tuple[str, ...]:
        return (str(ROOT / "benchmarks" / f"{name}.py"), *arguments)

    def table(name: str) -> tuple[str, str]:
        return "--out", str(out / f"{date.today()}-{name}.csv")

    kernels = tuple(str(ROOT / "tests/torch" / f"{name}.py") for name in KERNELS)
    cores = max(1, min(8, (os.cpu_count() or 1) // 2))
    side_by_side = ("-n", str(cores)) if importlib.util.find_spec("xdist") else ()
    compiled = bench("gpu_cross_entropy", "--precompile", "{share}")
    return [
        Step("compile the kernels", compiled, 90, cores),
        Step("tests of the kernels", ("-m", "pytest", "-q", "-rf", *side_by_side, *kernels), 240),
        Step("loss", bench("gpu_cross_entropy", "--in-place", "--seconds", "60", *table("gpu")), 120),
        Step("compile more plans", (*compiled, "--sweep", "--shared"), 60, cores),
        Step("plans that share a row",
             bench("gpu_cross_entropy", "--sweep", "--shared", "--seconds", "60", *table("gpu-shared-rows")), 90),
        Step("last layer and loss",
             bench("linear_loss", "--device", "cuda", "--dtype", "bfloat16", "--shape", "8192x4096x131072",
                   *table("linear-gpu")), 120),
        Step("training loop",
             bench("training_loop", "--device", "cuda", "--images", "12000", "--rounds", "3", "--processes", "4",
                   *table("training-loop-gpu")), 180),
        Step("packing", bench("packing", "--device", "cuda", *table("packing-gpu")), 90),
        Step("tests of the bench", ("-m", "pytest", "-q", "-rf", str(ROOT / "tests/bench/test_bench_gpu.py")), 180),
        Step("plans", bench("gpu_cross_entropy", "--sweep", "--seconds", "90", *table("gpu-plans")), 150),
    ]  # fmt: skip


def run(step: Step, log: Path, limit: float) -> str:
    """Run a step; what became of it, in a word or two."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    environment["PYTHONUNBUFFERED"] = "1"  # so that what is ended has told how far it came
    end = time.monotonic() + limit
    with log.open("wb") as file:
        started = [
            subprocess.Popen(
                [sys.executable, *(part.format(share=f"{i}/{step.count}") for part in step.arguments)],
                cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT,
            )
            for i in range(step.count)
        ]  # fmt: skip
        codes = []
        for process in started:
            try:
                codes.append(process.wait(max(0.0, end - time.monotonic())))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                codes.append(None)
    if None in codes:
        return f"ended after {limit:.0f} s"
    bad = [code for code in codes if code]
    return f"failed, exit status {bad[0]}" if bad else "done"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=13)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--logs", type=Path, default=ROOT / "adma-runs/gpu")
    parser.add_argument("--list", action="store_true", help="say what would be run, and stop")
    options = parser.parse_args()
    plan = steps(options.out.resolve())
    if options.list:
        for step in plan:
            print(f"{step.name:<24} {step.seconds:4.0f} s at most: python {' '.join(step.arguments)}")
        return 0
    import torch

    if not torch.cuda.is_available():
        print("there is no GPU that torch sees: nothing was run", file=sys.stderr)
        return 2
    print(torch.cuda.get_device_name(), f"torch {torch.__version__}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    options.logs.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    bad = False
    for number, step in enumerate(plan, start=1):
        left = end - time.monotonic()
        if left < LEAST:
            print(f"{step.name}: LEFT OUT, no time", flush=True)
            bad = True
            continue
        log = options.logs / f"{number}-{step.name.replace(' ', '-')}.log"
        began = time.monotonic()
        became = run(step, log, min(step.seconds, left))
        bad = bad or became != "done"
        print(f"== {step.name}: {became}, {time.monotonic() - began:.0f} s; {log}", flush=True)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        print("\n".join(line[:200] for line in lines[-12:]), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

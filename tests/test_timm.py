"""timm's training script with the patch that docs/integrations.md shows.

ADMA_TIMM names the train.py at the top of timm's repository, of the release that is installed; its packages carry none.
The project's own environment has no timm, which requires torchvision. In one that has both, this file needs pytest,
pytest-timeout and hypothesis.

The network has no batch normalization. Over eight small images it magnifies rounding, by which two implementations of
one loss differ: a ResNet's validation loss was off by 5% after 24 steps, with timm's own loss in float64 as much.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "integrations.md"
ADMA = "adma.AdmaLoss(a=0.26, "
TASK = " task = ClassificationTask(\n"
DRAW = """
import numpy, PIL.Image, sys
from pathlib import Path
generator = numpy.random.default_rng(0)
for split, number in (("train", 16), ("validation", 8)):
    for channel, name in enumerate(("red", "green", "blue")):
        folder = Path(sys.argv[1], split, name)
        folder.mkdir(parents=True)
        for image in range(number):
            pixels = generator.integers(0, 160, (32, 32, 3), dtype=numpy.uint8)
            pixels[..., channel] += 80
            PIL.Image.fromarray(pixels).save(folder / f"{image}.png")
"""
RUNS = """
import runpy, sys
scripts, options = sys.argv[1].split(), sys.argv[2:]
for script in scripts:
    for name, chosen in (("indices", ["--smoothing", "0"]), ("smoothing", []), ("mixup", ["--mixup", "0.8"])):
        sys.argv = [script, *options, *chosen, "--experiment", script.removesuffix(".py") + "_" + name]
        runpy.run_path(script, run_name="__main__")
"""
OPTIONS = (
    "--data-dir data --output out --checkpoint-hist 1 --model test_vit --model-kwargs img_size=32 --img-size 32"
    " --num-classes 3 --device cpu --workers 0 --no-prefetcher --no-aug -b 8 --epochs 3 --warmup-epochs 0 --lr 0.02"
)


def hunks() -> list[tuple[str, str]]:
    """What the page's patch replaces, and by what."""
    section = PAGE.read_text(encoding="utf-8").partition("\n## timm\n")[2].partition("\n## ")[0]
    (patch,) = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    both = []
    for hunk in re.split(r"^@@\n", patch, flags=re.MULTILINE):
        lines = [(line[:1], line[1:]) for line in hunk.splitlines(keepends=True)]
        assert {sign for sign, _ in lines} <= {" ", "-", "+"}, hunk
        both.append(tuple("".join(text for sign, text in lines if sign != other) for other in "+-"))
    return both


def patched(script: str) -> str:
    for old, new in hunks():
        assert script.count(old) == 1, f"timm's train.py has {script.count(old)} times, not once:\n{old}"
        script = script.replace(old, new)
    return script


def summary(folder: Path) -> list[dict[str, float]]:
    with (folder / "summary.csv").open(encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_the_page_patches_one_place_and_a_script_without_it_is_refused():
    assert sum(TASK in old and ADMA not in old and ADMA in new for old, new in hunks()) == 1
    with pytest.raises(AssertionError, match="has 0 times, not once"):
        patched("import torch\nimport torch.nn as nn\n")


@pytest.mark.slow
def test_cross_entropy_in_timms_script_gives_timms_own_losses_and_adma_learns(tmp_path):
    for module in ("timm", "torchvision"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: THE PATCH OF TIMM'S train.py WAS NOT RUN")
    if not os.environ.get("ADMA_TIMM"):
        pytest.skip("ADMA_TIMM names no train.py of timm: THE PATCH OF IT WAS NOT RUN")
    script = Path(os.environ["ADMA_TIMM"]).read_text(encoding="utf-8")
    ours = patched(script)
    assert ours.count(ADMA) == 1
    (tmp_path / "timm_s.py").write_text(script, encoding="utf-8")
    (tmp_path / "cce.py").write_text(ours.replace(ADMA, "adma.CrossEntropyLoss("), encoding="utf-8")
    (tmp_path / "adma_s.py").write_text(ours, encoding="utf-8")

    for program, arguments in ((DRAW, ["data"]), (RUNS, ["timm_s.py cce.py adma_s.py", *OPTIONS.split()])):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=600,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]

    for kind in ("indices", "smoothing", "mixup"):
        theirs, cce, adma = (summary(tmp_path / "out" / f"{name}_{kind}") for name in ("timm_s", "cce", "adma_s"))
        assert len(theirs) == len(adma) == 3
        for one, other in zip(theirs, cce, strict=True):
            assert other == pytest.approx(one, rel=1e-5)
        for run in (theirs, adma):
            assert run[-1]["train_loss"] < run[0]["train_loss"]
            assert run[-1]["eval_top1"] > 90
        assert abs(adma[0]["train_loss"] / theirs[0]["train_loss"] - 1) > 0.01  # it is another loss

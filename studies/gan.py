"""What a flexible loss does to a small GAN on digits: the discriminator trained by BinaryAdmaLoss in the place of BCE.

    python studies/gan.py run                  # 42 trainings, minutes of one core
    python studies/gan.py docs --write         # from its table to docs/generative.md and its figure

The generator is trained with the non-saturating loss: the samples that it made, called real. In the arm "discriminator"
that is binary cross-entropy in every row, so that the discriminator's loss alone differs; in the arm "both" it is the
discriminator's own loss. All trainings of a seed share initial weights, batches and noise, so differences are paired.
The judge is a classifier of the training digits: the Fréchet distance of its features to those of held-out digits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.ticker import FuncFormatter, NullLocator
from torch import Tensor, nn

import adma
import pages
from adma.bench.report import figures
from digits import divided
from stacked import Normalised, Stacked, adam

TABLE = pages.RESULTS / "2026-11-27-cpu" / "gan.csv"
FIGURE = pages.DOCS / "images" / "generative.png"
COMMAND = "python studies/gan.py docs"
COLUMNS = ("arm", "spec", "seed", "step", "frechet", "coverage", "classes", "wrong")
REFERENCE = ("both", "cce")  # where the arms are the same
SHAPES = ("adma:a=0.1", "adma:a=0.26", "adma:a=0.5")
ROWS = (REFERENCE, *(("discriminator", spec) for spec in SHAPES), *(("both", spec) for spec in SHAPES))
SEEDS, STEPS, EVERY = 6, 3000, 250
LAST = 4  # measurements at the end, whose mean is a training's number
NOISE, BATCH, RATE = 32, 32, 4e-4
NEIGHBOURS = 5  # of the coverage


class Judge:
    """A classifier of the training digits; what it makes of held-out digits is what made ones are held against."""

    def __init__(self, x: Tensor, y: Tensor, held_out: Tensor, truth: Tensor) -> None:
        torch.manual_seed(0)
        self._features = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 32), nn.ReLU())
        self._head = nn.Linear(32, 10)
        model = nn.Sequential(self._features, self._head)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(60):
            for index in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[index]), y[index]).backward()
                optimizer.step()
        model.eval()
        with torch.no_grad():
            self.accuracy = float((model(held_out).argmax(1) == truth).double().mean())
            self._real = self._features(held_out).double()
            distance = torch.cdist(self._real, self._real)
            self._radius = distance.kthvalue(NEIGHBOURS + 1, dim=1).values  # the nearest is the sample itself

    @torch.no_grad()
    def measure(self, made: Tensor) -> dict[str, float]:
        """Of images (N, 64).

        Returns:
            frechet: squared Fréchet distance of Gaussians fitted to the features (Heusel 2017), made against held-out.
            coverage: the share of held-out digits that have a made one among their 5 nearest (Naeem 2020).
            classes: of the 10, those that are at least 2.5% of the made ones, as the judge reads them.
        """
        found = self._features(made)
        share = torch.bincount(self._head(found).argmax(1), minlength=10) / len(made)
        near = torch.cdist(self._real, found.double()).amin(1) <= self._radius
        return {
            "frechet": frechet(found.double().numpy(), self._real.numpy()),
            "coverage": float(near.double().mean()),
            "classes": float((share >= 0.025).sum()),
        }


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """`|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))` of means and covariances of rows (N, D) and (M, D)."""
    s_a, s_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shared = np.sqrt(np.clip(np.linalg.eigvals(s_a @ s_b).real, 0, None)).sum()  # they are >= 0 but for rounding
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s_a) + np.trace(s_b) - 2 * shared)


def networks(m: int) -> tuple[nn.Module, nn.Module]:
    """Generators and discriminators of m trainings: noise (m, N, 32) to images (m, N, 64), images to logits (m, N)."""
    generators = nn.Sequential(
        Stacked(m, NOISE, 64), Normalised(m, 64), nn.ReLU(), Stacked(m, 64, 128), Normalised(m, 128), nn.ReLU(),
        Stacked(m, 128, 64), nn.Tanh(),
    )  # fmt: skip
    discriminators = nn.Sequential(
        Stacked(m, 64, 128), nn.LeakyReLU(0.2), Stacked(m, 128, 64), nn.LeakyReLU(0.2), Stacked(m, 64, 1), nn.Flatten(1)
    )  # fmt: skip
    return generators, discriminators


def trained(
    arm: str, spec: str, x: Tensor, judge: Judge, *, seeds: int, steps: int, every: int
) -> Iterator[dict[str, object]]:
    """Train one GAN a seed, side by side; a row of the table for each seed and measurement."""
    torch.manual_seed(0)
    generators, discriminators = networks(seeds)
    for_discriminator = adma.make_loss(spec, binary=True)
    for_generator = for_discriminator if arm == "both" else adma.make_loss("cce", binary=True)
    first, second = (adam(networks, RATE, betas=(0.5, 0.999)) for networks in (generators, discriminators))
    fixed = torch.randn(seeds, len(x), NOISE)
    real, false = torch.ones(seeds, BATCH), torch.zeros(seeds, BATCH)
    wrong = torch.zeros(seeds)
    for step in range(1, steps + 1):
        batch = x[torch.randint(len(x), (seeds, BATCH))]
        made = generators(torch.randn(seeds, BATCH, NOISE))
        second.zero_grad()
        on_real, on_made = discriminators(batch), discriminators(made.detach())
        (for_discriminator(on_real, real) + for_discriminator(on_made, false)).backward()
        second.step()
        wrong += ((on_real < 0).float().mean(1) + (on_made > 0).float().mean(1)) / 2
        first.zero_grad()
        for_generator(discriminators(made), real).backward()
        first.step()
        if step % every == 0:
            generators.eval()
            with torch.no_grad():
                shown = generators(fixed)
            generators.train()
            for seed in range(seeds):
                found = {**judge.measure(shown[seed]), "wrong": float(wrong[seed]) / every}
                yield {"arm": arm, "spec": spec, "seed": seed, "step": step} | {
                    name: f"{value:.5g}" for name, value in found.items()
                }
            wrong.zero_()


def run(table: Path, *, seeds: int, steps: int, every: int) -> None:
    """Train all, and write the table after each loss; the first rows are of the digits that were trained on."""
    x, y, held_out, truth = divided()
    judge, started = Judge(x, y, held_out, truth), time.process_time()
    floor = {name: f"{value:.5g}" for name, value in judge.measure(x).items()}
    rows: list[dict[str, object]] = [{"arm": "real", "spec": "", "seed": "", "step": 0, "wrong": "", **floor}]
    print(f"the judge is right about {100 * judge.accuracy:.1f}% of {len(held_out)} held-out digits", flush=True)
    for arm, spec in ROWS:
        rows += trained(arm, spec, x, judge, seeds=seeds, steps=steps, every=every)
        pages.write(table, COLUMNS, rows)
        print(f"{arm} {spec}: after {time.process_time() - started:.0f} s of one core", flush=True)


def tables(table: Path) -> str:
    """The end of the trainings as Markdown, and the digits that were trained on, judged the same way."""
    rows = pages.read(table)
    real = next(row for row in rows if row["arm"] == "real")
    rows = [row for row in rows if row is not real]
    end = sorted({int(row["step"]) for row in rows})[-LAST:]
    rows = [row for row in rows if int(row["step"]) in end]
    n = len({row["seed"] for row in rows})
    lines = [
        "", f"Mean of the measurements at {', '.join(map(str, end))} steps (n = {n})", "",
        "| discriminator | generator | Fréchet distance | minus cce | coverage % | classes | discriminator wrong % |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    usual = pages.values(rows, "frechet", arm=REFERENCE[0], spec=REFERENCE[1])
    for arm, spec in ROWS:
        own = pages.values(rows, "frechet", arm=arm, spec=spec)
        lead = "" if (arm, spec) == REFERENCE else pages.difference(pages.minus(own, usual))
        cells = [spec, spec if arm == "both" else REFERENCE[1], pages.words(pages.mean(own)), lead]
        for name, scale, digits in (("coverage", 100, 1), ("classes", 1, 2), ("wrong", 100, 1)):
            cells.append(pages.words(pages.mean(pages.values(rows, name, scale, arm=arm, spec=spec)), digits))
        lines.append(f"| {' | '.join(cells)} |")
    floor, coverage, classes = (float(real[name]) for name in ("frechet", "coverage", "classes"))
    lines.append(f"| the digits trained on | | {floor:.2f} | | {100 * coverage:.1f} | {classes:.0f} | |")
    return "\n".join(lines) + "\n"


@figures.styled
def draw(table: Path, out: Path) -> None:
    """Fréchet distance over the steps: each loss's mean over the seeds; a panel for each arm."""
    rows = pages.read(table)
    specs = [REFERENCE[1], *SHAPES]
    figure, axes = figures.canvas(2, specs)
    for ax, arm, title in zip(axes, ("discriminator", "both"), ("discriminator alone", "both networks"), strict=True):
        for place, spec in enumerate(specs):
            at = {"arm": REFERENCE[0] if spec == REFERENCE[1] else arm, "spec": spec}
            course: dict[int, list[float]] = {}
            for row in rows:
                if all(row[key] == value for key, value in at.items()):
                    course.setdefault(int(row["step"]), []).append(float(row["frechet"]))
            ax.plot(list(course), [float(np.mean(v)) for v in course.values()], lw=1.7, **figures.line_style(place))
        ax.set_yscale("log")
        ax.set_ylim(4, 400)  # the same in both
        ax.set_yticks([5, 10, 20, 50, 100, 200], minor=False)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))  # the default needs mathtext
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("steps")
        ax.set_title(f"Fréchet distance, {title}", loc="left", fontsize=10)
    out.parent.mkdir(exist_ok=True)
    figures.save(figure, out)


def main() -> None:
    options = pages.verbs(__doc__, TABLE, seeds=SEEDS, steps=STEPS, every=EVERY)
    if options.verb == "run":
        torch.set_num_threads(1)  # these networks are small
        run(options.table, seeds=options.seeds, steps=options.steps, every=options.every)
    elif options.write:
        pages.put(pages.DOCS / "generative.md", COMMAND, tables(options.table))
        draw(options.table, FIGURE)
    else:
        print(tables(options.table))


if __name__ == "__main__":
    main()

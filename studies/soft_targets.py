"""Adma and GCE on targets that are probabilities: mixup, CutMix and a teacher's, beside labels, on digits.

    python studies/soft_targets.py run             # 256 trainings, a minute or two of one core
    python studies/soft_targets.py docs --write    # from their table to docs/soft_targets.md

A small network learns from 300 digits, of which none or 40% have false labels. Its targets are those labels, mixtures
of two (mixup, CutMix), or the probabilities of a larger network that learned from all 1,198 digits with the same kind
of labels. Everything but the loss is the same for all losses of a seed, so differences are paired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import adma
import pages
from digits import divided
from stacked import Stacked, adam

TABLE = pages.RESULTS / "2026-11-27-cpu" / "soft_targets.csv"
COMMAND = "python studies/soft_targets.py docs"
MEASURES = ("accuracy", "nll", "nll_posterior", "to_teacher", "to_teacher_posterior")
COLUMNS = ("false", "targets", "spec", "seed", *MEASURES)
LOSSES = ("cce", "adma:a=0.1", "adma:a=0.26", "gce:q=0.7")
TARGETS = {"labels": "the labels", "mixup": "mixup", "cutmix": "CutMix", "teacher": "a teacher's probabilities"}
FALSE = (0.0, 0.4)
SEEDS, EPOCHS = 8, 60
SAMPLES, BATCH, RATE = 300, 50, 3e-3
WARMTH = 2.0  # temperature of the teacher's probabilities, and of the student's logits beside them
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Data:
    """The digits of each seed: images (M, N, 64) and their targets (M, N, 10); what a teacher says of them."""

    def __init__(self, seeds: int, false: float) -> None:
        parts = [divided(seed) for seed in range(seeds)]
        x, y, self.held_out, self.truth = (torch.stack(part) for part in zip(*parts, strict=True))
        torch.manual_seed(0)
        wrong = torch.rand(y.shape) < false
        y = F.one_hot(torch.where(wrong, (y + torch.randint(1, 10, y.shape)) % 10, y), 10).float()
        teacher = network(seeds, 256)
        fit(teacher, adma.CrossEntropyLoss(), x, y, lambda x, y: (x, y), epochs=15)
        self.x, self.y = x[:, :SAMPLES], y[:, :SAMPLES]
        with torch.no_grad():
            self.says = (teacher(self.x) / WARMTH).softmax(2)
            self.held_out_says = (teacher(self.held_out) / WARMTH).softmax(2)
            right = (teacher(self.held_out).argmax(2) == self.truth).double().mean()
        print(f"{false:.0%} false labels: the teachers are right about {right:.1%} of the held-out digits", flush=True)


def network(seeds: int, hidden: int) -> nn.Module:
    """Images (M, N, 64) to logits (M, N, 10)."""
    return nn.Sequential(Stacked(seeds, 64, hidden), nn.ReLU(), Stacked(seeds, hidden, 10))


def fit(
    model: nn.Module, loss_fn: nn.Module, x: Tensor, y: Tensor, mix: Mix, *, epochs: int, warmth: float = 1.0
) -> None:
    """Train on inputs (M, N, 64) and probabilities (M, N, 10)."""
    optimizer = adam(model, RATE)
    for _ in range(epochs):
        for index in torch.randperm(x.shape[1]).split(BATCH):
            inputs, target = mix(x[:, index], y[:, index])
            optimizer.zero_grad()
            loss_fn((model(inputs) / warmth).flatten(0, 1), target.flatten(0, 1)).backward()
            optimizer.step()


def mixup(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Each image and target is blended with another's of its batch (Zhang 2018), with Beta(0.4, 0.4)."""
    share = torch.distributions.Beta(0.4, 0.4).sample((len(x), 1, 1))
    other = torch.randperm(x.shape[1])
    return share * x + (1 - share) * x[:, other], share * y + (1 - share) * y[:, other]


def cutmix(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A rectangle of each image is another's, and so is that share of its target (Yun 2019)."""
    side = 8
    size = (side * (1 - torch.rand(len(x), 1, 1)).sqrt()).round().long()
    inside = torch.ones(len(x), side, side, dtype=torch.bool)
    for axis in (1, 2):
        start = (torch.rand(len(x), 1, 1) * (side + 1 - size)).long()
        place = torch.arange(side).view(1, *((side, 1) if axis == 1 else (1, side)))
        inside &= (place >= start) & (place < start + size)
    inside = inside.view(len(x), 1, side * side)
    other = torch.randperm(x.shape[1])
    share = inside.float().mean(2, keepdim=True)
    return torch.where(inside, x[:, other], x), (1 - share) * y + share * y[:, other]


def as_it_is(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, y


MIXES: dict[str, Mix] = {"labels": as_it_is, "mixup": mixup, "cutmix": cutmix, "teacher": as_it_is}


def trained(data: Data, targets: str, spec: str, *, epochs: int) -> Iterator[dict[str, float]]:
    """Train with one loss on one kind of targets; what each seed came to on the held-out digits."""
    torch.manual_seed(1)
    seeds = len(data.x)
    student, loss_fn = network(seeds, 32), adma.make_loss(spec)
    y, warmth = (data.says, WARMTH) if targets == "teacher" else (data.y, 1.0)
    fit(student, loss_fn, data.x, y, MIXES[targets], epochs=epochs, warmth=warmth)
    with torch.no_grad():
        logits = student(data.held_out).double()
    for seed in range(seeds):
        z, truth, says = logits[seed], data.truth[seed], data.held_out_says[seed].double()
        plain, warm = z.softmax(1), z / warmth
        found = {
            "accuracy": float((z.argmax(1) == truth).double().mean()),
            "nll": float(F.nll_loss(plain.log(), truth)),
            "nll_posterior": float(F.nll_loss(loss_fn.posterior(z).log(), truth)),
        }
        if targets == "teacher":
            found["to_teacher"] = divergence(says, warm.softmax(1))
            found["to_teacher_posterior"] = divergence(says, loss_fn.posterior(warm))
        yield found


def divergence(p: Tensor, q: Tensor) -> float:
    """Mean of KL(p || q) over rows, nats."""
    return float(F.kl_div(q.log(), p, reduction="batchmean"))


def run(table: Path, *, seeds: int, epochs: int) -> None:
    """Train all, and write the table after each kind of targets."""
    started, rows = time.process_time(), []
    for false in FALSE:
        data = Data(seeds, false)
        for targets in TARGETS:
            for spec in LOSSES:
                for seed, found in enumerate(trained(data, targets, spec, epochs=epochs)):
                    measured = {name: f"{value:.5g}" for name, value in found.items()}
                    rows.append({"false": false, "targets": targets, "spec": spec, "seed": seed, **measured})
            pages.write(table, COLUMNS, rows)
            print(f"{targets}: after {time.process_time() - started:.0f} s of one core", flush=True)


def tables(table: Path) -> str:
    """A table for each share of false labels, and what the students make of their teacher, as Markdown."""
    rows, lines = pages.read(table), []
    n = len({row["seed"] for row in rows})
    for false in map(str, FALSE):
        lines += [
            "", f"**{float(false):.0%} false labels** (n = {n})", "",
            "| targets | loss | accuracy % | minus cce, points | minus the labels, points | NLL: softmax | recovered |",
            "|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        for targets, named in TARGETS.items():
            usual = pages.values(rows, "accuracy", 100, false=false, targets=targets, spec="cce")
            for spec in LOSSES:
                at = {"false": false, "spec": spec}
                own = pages.values(rows, "accuracy", 100, targets=targets, **at)
                plain = pages.values(rows, "accuracy", 100, targets="labels", **at)
                cells = [named, spec, pages.words(pages.mean(own))]
                cells.append("" if spec == "cce" else pages.difference(pages.minus(own, usual)))
                cells.append("" if targets == "labels" else pages.difference(pages.minus(own, plain)))
                for name in ("nll", "nll_posterior"):
                    cells.append(pages.words(pages.mean(pages.values(rows, name, targets=targets, **at)), 3))
                lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "", "**How far from the teacher**: KL(teacher, student) on held-out digits, nats", "",
        "| false labels | loss | softmax | recovered posterior | recovered minus softmax |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for false in map(str, FALSE):
        for spec in LOSSES:
            at = {"false": false, "spec": spec, "targets": "teacher"}
            soft, recovered = (pages.values(rows, name, **at) for name in ("to_teacher", "to_teacher_posterior"))
            cells = [f"{float(false):.0%}", spec, *(pages.words(pages.mean(v), 3) for v in (soft, recovered))]
            cells.append("" if spec == "cce" else pages.difference(pages.minus(recovered, soft), 3))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    options = pages.verbs(__doc__, TABLE, seeds=SEEDS, epochs=EPOCHS)
    if options.verb == "run":
        torch.set_num_threads(1)  # these networks are small
        run(options.table, seeds=options.seeds, epochs=options.epochs)
    elif options.write:
        pages.put(pages.DOCS / "soft_targets.md", COMMAND, tables(options.table))
    else:
        print(tables(options.table))


if __name__ == "__main__":
    main()

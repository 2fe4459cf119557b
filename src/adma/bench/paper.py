"""The paper's experiments: where their documents lie, the scaling factors they printed, how `a` was chosen."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import adma
from adma._check import nearest
from adma.bench.errors import BenchError
from adma.bench.folder import Results
from adma.bench.loss_specs import known_here
from adma.bench.printed import PRINTED
from adma.bench.result import DONE, CellResult
from adma.bench.statistics import Estimate, estimate
from adma.spec import canonical

ORDER = (
    "table1", "table2", "table3", "table4", "figure3", "splits", "low_lr", "annealing", "activations", "structure",
    "resnet34", "leak", "shape", "cifar100_sgd",
)  # fmt: skip
STAND_IN = "mnist"  # a data set that the paper has not is given this one's scaling factor
# Of the protocols: "printed": a as the paper prints it. "paper": a with the best mean on the part that is reported,
# the printed a among the candidates, samples of one group on both sides. "clean": a chosen on validation, run by run,
# without the printed a, which the paper tuned on what it reports.
GRID = (0.1, 0.2, 0.3, 0.4, 0.5)
CHOSEN = "adma, a chosen"  # stands for the chosen loss in a comparison

_PLACEHOLDER = re.compile(r"a=table([1-4])\b")


def published() -> dict[str, Path]:
    """The documents of the paper's experiments, by name, in the paper's order."""
    inside = Path(str(resources.files("adma.bench"))) / "studies"  # in an installed package
    beside = Path(adma.__file__).resolve().parents[2] / "studies"  # in a checkout
    folder = inside if inside.is_dir() else beside
    found = {path.stem: path for path in folder.glob("*.yaml")}
    missing = [name for name in ORDER if name not in found]
    if missing:
        raise BenchError(f"the studies {', '.join(missing)} are not in {folder}; install adma again")
    return {name: found[name] for name in ORDER}


def find_published(name: str) -> Path:
    """The document of one experiment.

    Raises:
        BenchError: there is none of that name.
    """
    known = published()
    if name not in known:
        raise BenchError(f"{name}: the paper has no such experiment{nearest(name, known)}; known: {', '.join(known)}")
    return known[name]


def asks_for_printed_a(losses: Sequence[str]) -> bool:
    """Whether a loss is written `adma:a=table1`."""
    return any(map(_PLACEHOLDER.search, losses))


def with_printed_a(losses: Sequence[str], data: str) -> tuple[tuple[str, ...], str]:
    """Specs with `a=table1` replaced by what that table prints for the data set; a note where it prints nothing."""
    note = ""

    def value(match: re.Match[str]) -> str:
        nonlocal note
        rows = PRINTED[int(match[1])]
        if data not in rows:
            note = f"the paper does not have {data}; a is Table {match[1]}'s for {STAND_IN}"
        return f"a={rows.get(data, rows[STAND_IN]).a!r}"

    return tuple(_PLACEHOLDER.sub(value, loss) for loss in losses), note


def with_grid(losses: Sequence[str], grid: Sequence[float]) -> tuple[str, ...]:
    """The losses (canonical), with Adma at every `a` of the grid beside its own."""
    own = [loss for loss in losses if _is_adma(loss)]
    others = [loss for loss in losses if not _is_adma(loss)]
    at_grid = [canonical(f"adma:a={a!r}") for a in grid]
    return (*dict.fromkeys([*own, *at_grid]), *others)


@dataclass(frozen=True)
class Choice:
    """Adma with its `a` chosen by a protocol.

    results: the study with one Adma, CHOSEN, in the place of all of its Admas.
    chosen: seed -> the spec that was taken.
    """

    results: Results
    chosen: Mapping[int, str]


def choose(results: Results, protocol: str) -> Choice:
    """Choose among a study's Admas.

    Args:
        protocol: "paper" takes the one with the best mean test accuracy over the seeds, for all seeds; "clean" takes
            for each seed the one with the best validation accuracy. Ties go to the one named first.

    Returns:
        A seed of which no Adma is done has none in the results either.

    Raises:
        BenchError: the study has no Adma.
    """
    specs = [loss for loss in results.study.losses if _is_adma(loss)]
    if not specs:
        raise BenchError(f"--protocol {protocol}: chooses among losses adma:a=..., but the study has none")
    cells = {(c.cell.loss, c.cell.seed): c for c in results.cells}

    def mean_test(spec: str) -> tuple[int, float]:
        """How many seeds are done first: one lucky seed is no mean."""
        values = [cells[spec, seed].final(f"test_{results.measure}") for seed in results.study.seeds]
        known = [v for v in values if not math.isnan(v)]
        return len(known), math.fsum(known) / len(known) if known else -math.inf

    best = max(specs, key=mean_test)
    chosen: dict[int, str] = {}
    for seed in results.study.seeds:
        done = [s for s in specs if cells[s, seed].status == DONE]
        if done:
            chosen[seed] = max(done, key=lambda s: cells[s, seed].final(f"val_{results.measure}"))
        if protocol == "paper":
            chosen[seed] = best
    taken = [_renamed(cells[chosen.get(seed, best), seed]) for seed in results.study.seeds]
    others = [c for c in results.cells if c.cell.loss not in specs]
    losses = (CHOSEN, *(loss for loss in results.study.losses if loss not in specs))
    study = replace(results.study, losses=losses)
    return Choice(replace(results, study=study, cells=(*taken, *others)), chosen)


def cost_of_tuning(results: Results, level: float = 0.95) -> Estimate:
    """What tuning on the reported part adds: accuracy by the rule "paper" minus by the rule "clean", seed by seed."""
    by_rule = [{c.cell.seed: c for c in choose(results, rule).results.of(CHOSEN)} for rule in ("paper", "clean")]
    differences = [
        by_rule[0][seed].final(f"test_{results.measure}") - by_rule[1][seed].final(f"test_{results.measure}")
        for seed in results.study.seeds
        if by_rule[0][seed].status == by_rule[1][seed].status == DONE
    ]
    return estimate(differences, level)


def _renamed(result: CellResult) -> CellResult:
    return replace(result, cell=replace(result.cell, loss=CHOSEN))


def _is_adma(loss: str) -> bool:
    """Whether it is Adma with a fixed shape: a scheduled or learned one stands beside those that `a` is chosen from."""
    flexible = known_here(loss)
    return flexible is not None and flexible.loss.name == "adma" and flexible.fixed

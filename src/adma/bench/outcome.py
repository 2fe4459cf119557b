"""What a study document leaves behind: tables for the terminal; CSV, LaTeX, HTML and figures in its folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from adma.bench import paper, traits
from adma.bench.prepare import Prepared, Readiness, Refused
from adma.bench.printed import DATASET_TITLES, FIGURE3_ORDER, PRINTED, ROLES, TABLES, PrintedRow
from adma.bench.report import figures, paper_figures
from adma.bench.report.html import environment_rows
from adma.bench.report.replay import Replay, ReplayCell, ReplayRow
from adma.bench.report.replay_html import replay_html
from adma.bench.report.replay_tables import replay_csv, replay_latex, replay_table
from adma.bench.report.text import write_whole
from adma.bench.report.trait_tables import trait_table
from adma.bench.statistics import summarise
from adma.bench.store import DONE, Results, Store
from adma.bench.studyfile import StudyFile

MEASURE = "test_accuracy"  # the part that is reported; nothing was chosen on it but by --protocol paper
_PROTOCOL_WORDS = {
    "printed": "Adma's a is the one that the paper prints.",
    "paper": "Adma's a has the best mean on the part that is reported here, as the paper chose it: this flatters Adma.",
    "clean": "Adma's a was chosen on the validation part, run by run; the part that is reported was not looked at.",
}
# A column of a run's line in the CSV of all runs -> what it holds.
_RUN_COLUMNS = (
    "train_accuracy", "val_accuracy", "test_accuracy", "test_nll", "test_ece", "test_nll_posterior",
    "test_ece_posterior",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """A plan with all that is known of it.

    about: the command, the date, the scale and what was changed of it, the protocol.
    """

    name: str
    study: StudyFile
    ready: Readiness
    store: Store
    about: Mapping[str, Any]

    @property
    def scale(self) -> str:
        """The scale, with what the command line changed of it: only the unchanged one is the paper's."""
        changed = "".join(f", {k.replace('_', ' ')} {v}" for k, v in self.about["changed"].items())
        return (self.about["scale"] or "as written") + changed

    def results(self, item: Prepared) -> Results:
        """All cells of one comparison."""
        about = {**self.about, "dataset": item.about}
        return self.store.results_of(item.entry.study, about)


def publish(outcome: Outcome, root: Path) -> tuple[list[RenderableType], list[Path]]:
    """Write everything; what is missing yet is shown as missing.

    Returns:
        What the terminal shows, and the files.

    Raises:
        BenchError: a file cannot be written, or losses of one seed did not share what they must share.
    """
    all_results = {p.entry.name: outcome.results(p) for p in outcome.ready.ready}
    replay = build(outcome, all_results)
    protocol = outcome.about["protocol"]
    drawn = [("The losses (Figure 1)", "figure1", paper_figures.figure1())]
    panels = {
        p.entry.data: _chosen(all_results[p.entry.name], protocol)[0]
        for p in outcome.ready.ready
        if p.entry.data in FIGURE3_ORDER and not p.entry.variant
    }
    if panels:
        drawn.append(("Validation accuracy over the epochs (Figure 3)", "figure3", paper_figures.figure3(panels)))
    svgs = [(title, figures.to_svg(figure, label=title, prefix=stem)) for title, stem, figure in drawn]
    name = outcome.name
    texts = {
        f"{name}.csv": replay_csv(replay),
        f"{name}-runs.csv": runs_csv(outcome, all_results),
        f"{name}.tex": replay_latex(replay),
        f"{name}.html": replay_html(replay, svgs),
    }
    for file, text in texts.items():
        write_whole(root / file, text.encode("utf-8", "backslashreplace"))
    files = [root / file for file in texts]
    files += [figures.save(figure, root / f"{name}-{stem}.png") for _, stem, figure in drawn]
    return [replay_table(replay), trait_table(replay)], files


def build(outcome: Outcome, all_results: Mapping[str, Results]) -> Replay:
    """The replay as data."""
    table = outcome.study.table
    protocol = outcome.about["protocol"]
    rows, costs = [], []
    for item in outcome.ready.items:
        if isinstance(item, Refused):
            rows.append(_refused(item, table))
            continue
        results = all_results[item.entry.name]
        if protocol != "printed" and any(c.status == DONE for c in results.cells):
            costs.append((_title(item.entry.data, item.entry.variant), paper.cost_of_tuning(results)))
        rows.append(_row(item, *_chosen(results, protocol), table))
    cells = tuple(c for results in all_results.values() for c in results.cells)
    machine = environment_rows(Results(next(iter(all_results.values())).study, cells)) if cells else []
    return Replay(
        name=outcome.name,
        title=outcome.study.title,
        caption=TABLES[table].caption if table else "",
        scale=outcome.scale,
        protocol=protocol,
        protocol_words=_PROTOCOL_WORDS[protocol],
        rows=tuple(rows),
        command=outcome.about["command"],
        machine=machine,
        date=outcome.about["created"][:10],
        notes=tuple(_notes(outcome)),
        protocol_costs=costs,
        measure=MEASURE,
    )


def _chosen(results: Results, protocol: str) -> tuple[Results, str]:
    """The results with Adma's a chosen, and what was chosen; as they are where a is the printed one."""
    if protocol == "printed":
        return results, ""
    choice = paper.choose(results, protocol)
    return choice.results, "chosen: " + ", ".join(f"{spec} (seed {seed})" for seed, spec in choice.chosen.items())


def _row(item: Prepared, results: Results, chosen: str, table: int | None) -> ReplayRow:
    entry, setting = item.entry, item.entry.study.setting
    comparison = summarise(results, metric=MEASURE)
    printed = _printed(table, entry.data)
    cells = {role: ReplayCell(printed.accuracy(role), None, "") for role in ROLES} if printed else {}
    taken: dict[str, ReplayCell] = {}
    for summary in comparison.losses:
        role = role_of(summary.loss, taken)
        value = printed.accuracy(role) if printed and role in ROLES else None
        taken[role] = ReplayCell(value, summary.estimate, summary.loss, chosen if summary.loss == paper.CHOSEN else "")
    troubles = tuple(
        f"{s.loss}, seed {', '.join(map(str, seeds))}: {status} ({reason.strip().splitlines()[0]})"
        for s in comparison.losses
        for (status, reason), seeds in s.grouped_troubles().items()
    )
    shape = item.about["sample_shape"]
    baseline = comparison.baseline
    return ReplayRow(
        dataset=entry.name,
        title=_title(entry.data, entry.variant),
        cells={**cells, **taken},
        comparison=comparison,
        sizes=item.about["sizes"],
        setting_words=f"{setting.model}, {setting.optimizer}, learning rate {setting.lr:g} ({setting.lr_schedule}), L2 "
        f"{setting.weight_decay:g}, batches of {setting.batch_size}, augmentation {setting.augment}, divided by "
        f"{'group where there are groups' if setting.grouped else 'sample'}",
        troubles=troubles,
        epochs=setting.epochs,
        image_size=f"{shape[1]}x{shape[2]}" if len(shape) == 3 else "",
        seeds=len(entry.study.seeds),
        printed_a=printed.a if printed else None,
        bold=printed.bold if printed else "",
        traits=traits.traits(results, baseline=baseline),
    )


def _refused(item: Refused, table: int | None) -> ReplayRow:
    printed = _printed(table, item.task.data)
    cells = {role: ReplayCell(printed.accuracy(role), None, "") for role in ROLES} if printed else {}
    return ReplayRow(
        dataset=item.task.name, title=_title(item.task.data, item.task.variant), cells=cells, comparison=None, sizes={},
        setting_words="", not_run=item.reason, printed_a=printed.a if printed else None,
        bold=printed.bold if printed else "",
    )  # fmt: skip


def role_of(loss: str, taken: Mapping[str, object]) -> str:
    """The column of a loss: the paper's name for the paper's four, the spec for any other and for a second Adma."""
    name = "adma" if loss == paper.CHOSEN else loss.partition(":")[0]
    return name if name in ROLES and name not in taken else loss


def _printed(table: int | None, data: str) -> PrintedRow | None:
    return PRINTED[table].get(data) if table else None


def _title(data: str, variant: str) -> str:
    title = DATASET_TITLES.get(data, data)
    return f"{title}, {variant}" if variant else title


def _notes(outcome: Outcome) -> list[str]:
    """What was noted of data sets, each once."""
    found: dict[str, None] = {}
    for item in outcome.ready.ready:
        found |= dict.fromkeys(f"{item.entry.data}: {note}" for note in item.about["notes"])
    return list(found)


def runs_csv(outcome: Outcome, all_results: Mapping[str, Results]) -> str:
    """Every run in a line: what it was, its final measures and its traits; accuracies and ECE are fractions."""
    text = io.StringIO()
    for line in (
        f"command: {outcome.about['command']}",
        f"date: {outcome.about['created']}; scale: {outcome.scale}; protocol: {outcome.about['protocol']}; adma "
        f"{outcome.about['adma_version']}",
        *(f"{name}: {'; '.join(values)}" for name, values in _machine(all_results)),
    ):
        text.write(f"# {' '.join(line.split())}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["entry", "data", "variant", "loss", "seed", "status", *_RUN_COLUMNS, *traits.TRAITS, "seconds"])
    for item in outcome.ready.ready:
        entry = item.entry
        for cell in all_results[entry.name].cells:
            done = cell.status == DONE
            finals = [_value(cell.final(column)) for column in _RUN_COLUMNS]
            course = [_value(traits.measure(cell, name)) if done else "" for name in traits.TRAITS]
            writer.writerow(
                [entry.name, entry.data, entry.variant, cell.cell.loss, cell.cell.seed, cell.status, *finals, *course,
                 f"{cell.seconds:.1f}" if done else ""]
            )  # fmt: skip
    return text.getvalue()


def _machine(all_results: Mapping[str, Results]) -> list[tuple[str, list[str]]]:
    cells = tuple(c for results in all_results.values() for c in results.cells)
    return environment_rows(Results(next(iter(all_results.values())).study, cells)) if cells else []


def _value(value: float) -> str:
    return "" if value != value else f"{value:.6g}"  # NaN: not defined

"""What a study document leaves behind: tables for the terminal; CSV, LaTeX, HTML and figures in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import RenderableType

from adma.bench import paper, traits
from adma.bench.data.conditions import NONE
from adma.bench.data.dataset import ACCURACY
from adma.bench.data.known import KNOWN
from adma.bench.effects import claims, effects, role_of
from adma.bench.errors import BenchError
from adma.bench.folder import Folder, Results, measure_of
from adma.bench.overall import of_ours, of_printed
from adma.bench.prepare import Prepared, Readiness, Refused
from adma.bench.printed import DATASET_TITLES, FIGURE3_ORDER, PRINTED, ROLES, TABLES, PrintedRow
from adma.bench.report import figures, paper_figures
from adma.bench.report.across_tables import across_csv, across_part
from adma.bench.report.html import environment_rows
from adma.bench.report.rank_figure import rank_figure
from adma.bench.report.replay import PAPER_SCALE, Replay, ReplayCell, ReplayRow
from adma.bench.report.replay_html import replay_html
from adma.bench.report.replay_tables import csv_text, effect_table, effects_csv, replay_csv, replay_latex, replay_table
from adma.bench.report.shape_figures import shape_traces
from adma.bench.report.trait_tables import trait_table
from adma.bench.result import DONE
from adma.bench.statistics import summarise
from adma.bench.study import Setting
from adma.bench.studyfile import StudyFile
from adma.bench.whole import write_whole

_PROTOCOL_WORDS = {
    "printed": "Adma's a is the one that the paper prints.",
    "paper": "Adma's a has the best mean on the part that is reported here, as the paper chose it: this flatters Adma.",
    "clean": "Adma's a was chosen on the validation part, run by run; the part that is reported was not looked at.",
}
# A column of a run's line in the CSV of all runs -> what it holds.
_RUN_COLUMNS = (
    "train_accuracy", "val_accuracy", "test_accuracy", "test_nll", "test_ece", "test_nll_posterior",
    "test_ece_posterior", "test_brier", "test_brier_posterior", "temperature", "test_nll_scaled", "test_brier_scaled",
    "test_ece_scaled", "val_mean_iou", "test_mean_iou",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """A plan with all that is known of it.

    about: the command, the date, the scale and what was changed of it, the protocol.
    """

    name: str
    study: StudyFile
    ready: Readiness
    store: Folder
    about: Mapping[str, Any]

    @property
    def scale(self) -> str:
        """The scale, with what the command line changed of it."""
        changed = "".join(f", {k.replace('_', ' ')} {plain(v)}" for k, v in self.about["changed"].items())
        return (self.about["scale"] or "as written") + changed

    @property
    def measure(self) -> str:
        """What is compared, on the part that is reported; nothing was chosen on it but by --protocol paper.

        Accuracy where the data sets have no other measure in common.
        """
        found = {measure_of({"dataset": p.about}) for p in self.ready.ready}
        return f"test_{found.pop() if len(found) == 1 else ACCURACY}"

    @property
    def shortfall(self) -> list[str]:
        """Where the data at hand are fewer than what was published."""
        return [
            f"{p.entry.data}: {p.about['samples']:,} of the {KNOWN[p.entry.data].size:,} published samples"
            for p in {p.entry.data: p for p in self.ready.ready}.values()
            if p.entry.data in KNOWN and p.about["samples"] < KNOWN[p.entry.data].size
        ]

    @property
    def whole(self) -> bool:
        """Whether this is one of the paper's experiments at the paper's size, on all of its data."""
        unchanged = self.about["published"] and self.about["scale"] == PAPER_SCALE and not self.about["changed"]
        complete = not self.shortfall and len(self.ready.ready) == len(self.ready.items)
        return bool(unchanged and complete)

    def results(self, item: Prepared) -> Results:
        """All cells of one comparison."""
        about = {**self.about, "dataset": item.about}
        return self.store.results_of(item.entry.study, about)


def publish(outcome: Outcome, root: Path) -> tuple[list[RenderableType], list[Path]]:
    """Write everything; what is missing yet is shown as missing.

    Returns:
        What the terminal shows, and the files.

    Raises:
        BenchError: a file cannot be written.
    """
    all_results, rows = _rows(outcome)
    replay = build(outcome, all_results, rows)
    drawn = _figures(outcome, all_results)
    for stem, over in zip(("ranks-printed", "ranks-ours"), replay.over, strict=False):
        if over.across is not None:
            drawn[stem] = (f"Mean ranks over the data sets: {over.title}", rank_figure(over.across, over.title))
    svgs = [(title, figures.to_svg(figure, label=title, prefix=stem)) for stem, (title, figure) in drawn.items()]
    name = outcome.name
    texts = {
        f"{name}.csv": replay_csv(replay),
        f"{name}-runs.csv": runs_csv(outcome, all_results),
        f"{name}.tex": replay_latex(replay),
        f"{name}.html": replay_html(replay, svgs),
    }
    if replay.effects:
        texts[f"{name}-effects.csv"] = effects_csv(replay)
    if replay.over:
        head = [("command", replay.command), ("date", replay.date), ("scale", replay.scale)]
        texts[f"{name}-statistics.csv"] = across_csv(head, replay.over)
    for file, text in texts.items():
        write_whole(root / file, text.encode("utf-8", "backslashreplace"))
    files = [root / file for file in texts]
    files += [figures.save(figure, root / f"{name}-{stem}.png") for stem, (_, figure) in drawn.items()]
    tables = [replay_table(replay), trait_table(replay), effect_table(replay)]
    return [table for table in tables if table is not None] + [across_part(over) for over in replay.over], files


def publish_printed(root: Path, command: str) -> tuple[list[RenderableType], list[Path]]:
    """The statistics over data sets of the paper's four printed tables: as `publish`, with nothing of ours.

    Raises:
        BenchError: a file cannot be written.
    """
    overs = {number: of_printed(number) for number in TABLES}
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"cannot write to {root}: {error.strerror}; choose another --out") from error
    path = root / "printed-statistics.csv"
    write_whole(path, across_csv([("command", command)], list(overs.values())).encode("utf-8"))
    files = [path]
    for number, over in overs.items():
        if over.across is not None:
            files.append(figures.save(rank_figure(over.across, over.title), root / f"table{number}-ranks-printed.png"))
    return [across_part(over) for over in overs.values()], files


def _rows(outcome: Outcome) -> tuple[dict[str, Results], list[ReplayRow]]:
    """All results by entry, and the rows; a comparison whose numbers cannot stand says why and stops no other."""
    protocol, table = outcome.about["protocol"], outcome.study.table
    all_results: dict[str, Results] = {}
    rows = []
    for item in outcome.ready.items:
        if isinstance(item, Refused):
            rows.append(_refused(item.task.name, item.task.data, item.task.variant, item.reason, table))
            continue
        entry, results = item.entry, outcome.results(item)
        try:
            rows.append(_row(item, *_chosen(results, protocol), table, outcome.measure))
        except BenchError as error:
            rows.append(_refused(entry.name, entry.data, entry.variant, str(error), table))
            continue
        all_results[entry.name] = results
    return all_results, rows


def _figures(outcome: Outcome, all_results: Mapping[str, Results]) -> dict[str, tuple[str, Figure]]:
    """Figure 1; Figure 3 where the paper has the data, else the curves of every comparison; shapes that changed."""
    drawn = {"figure1": ("The losses (Figure 1)", paper_figures.figure1())}
    entries = [p.entry for p in outcome.ready.ready if p.entry.name in all_results]
    chosen = {e.name: _chosen(all_results[e.name], outcome.about["protocol"])[0] for e in entries}
    panels = {e.data: chosen[e.name] for e in entries if e.data in FIGURE3_ORDER and not e.variant}
    if panels:
        drawn["figure3"] = ("Validation accuracy over the epochs (Figure 3)", paper_figures.figure3(panels))
    for entry in entries:
        if entry.data not in panels:
            figure = figures.learning_traces(chosen[entry.name], columns=("val_accuracy",))
            title = f"Validation accuracy over the epochs: {_title(entry.data, entry.variant)}"
            drawn[f"curves-{len(drawn)}"] = (title, figure)
    for entry in entries:
        shape = shape_traces(chosen[entry.name])
        if shape is not None:
            drawn[f"shape-{len(drawn)}"] = (f"The shape over training: {_title(entry.data, entry.variant)}", shape)
    return drawn


def build(outcome: Outcome, all_results: Mapping[str, Results], rows: Sequence[ReplayRow]) -> Replay:
    """The replay as data."""
    table, protocol = outcome.study.table, outcome.about["protocol"]
    entries = [p.entry for p in outcome.ready.ready]
    costs = [
        (_title(e.data, e.variant), paper.cost_of_tuning(all_results[e.name]))
        for e in entries
        if protocol != "printed" and e.name in all_results and any(c.status == DONE for c in all_results[e.name].cells)
    ]
    words = _PROTOCOL_WORDS[protocol] if protocol != "printed" or outcome.about["printed_a"] else ""
    published = outcome.about["published"] and protocol == "printed"
    # What a variant changes is of the Adma that the table has, not of the grid's first.
    chosen = {name: _chosen(results, protocol)[0] for name, results in all_results.items()}
    return Replay(
        name=outcome.name,
        title=outcome.study.title,
        caption=TABLES[table].caption if table else "",
        scale=outcome.scale,
        whole=outcome.whole,
        shortfall="; ".join(outcome.shortfall),
        protocol=protocol,
        protocol_words=words,
        rows=tuple(rows),
        command=outcome.about["command"],
        machine=_machine(all_results),
        date=outcome.about["created"][:10],
        notes=tuple(_notes(outcome)),
        protocol_costs=costs,
        effects=effects(entries, chosen, outcome.measure),
        claims=claims(outcome.name, entries, all_results) if published else (),
        over=(of_printed(table), of_ours(rows, table)) if table and outcome.about.get("stats") else (),
        measure=outcome.measure,
    )


def _chosen(results: Results, protocol: str) -> tuple[Results, str]:
    """The results with Adma's a chosen, and what was chosen; as they are where a is the printed one."""
    if protocol == "printed":
        return results, ""
    choice = paper.choose(results, protocol)
    return choice.results, "chosen: " + ", ".join(f"{spec} (seed {seed})" for seed, spec in choice.chosen.items())


def _row(item: Prepared, results: Results, chosen: str, table: int | None, measure: str) -> ReplayRow:
    entry, setting = item.entry, item.entry.study.setting
    comparison = summarise(results, metric=measure)
    printed = _printed(table, entry.data)
    cells = {role: ReplayCell(printed.accuracy(role), None, "") for role in ROLES} if printed else {}
    taken: dict[str, ReplayCell] = {}
    for summary in comparison.losses:
        role = _column(summary.loss, taken)
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
        f"{'group where there are groups' if setting.grouped else 'sample'}"
        + "".join(f", {words}" for words in _conditions(setting)),
        troubles=troubles,
        epochs=setting.epochs,
        image_size=f"{shape[1]}x{shape[2]}" if len(shape) == 3 else "",
        seeds=len(entry.study.seeds),
        printed_a=printed.a if printed else None,
        bold=printed.bold if printed else "",
        traits=traits.traits(results, baseline=baseline),
    )


def _conditions(setting: Setting) -> list[str]:
    """The conditions that are not at their default, in short; the notes say them in words."""
    noise = setting.label_noise + (" (validation too)" if setting.noisy_val else "")
    return [
        *([] if setting.train_fraction is None else [f"share of the training part {setting.train_fraction:g}"]),
        *([] if setting.imbalance == NONE else [f"imbalance {setting.imbalance}"]),
        *([] if setting.label_noise == NONE else [f"label noise {noise}"]),
    ]


def _refused(name: str, data: str, variant: str, reason: str, table: int | None) -> ReplayRow:
    printed = _printed(table, data)
    return ReplayRow(
        dataset=name,
        title=_title(data, variant),
        cells={role: ReplayCell(printed.accuracy(role), None, "") for role in ROLES} if printed else {},
        comparison=None,
        sizes={},
        setting_words="",
        not_run=reason,
        printed_a=printed.a if printed else None,
        bold=printed.bold if printed else "",
    )


def _column(loss: str, taken: Mapping[str, object]) -> str:
    """The column of a loss: the paper's name for the paper's four, the spec for any other and for a second Adma."""
    role = role_of(loss)
    return role if role not in taken else loss


def _printed(table: int | None, data: str) -> PrintedRow | None:
    return PRINTED[table].get(data) if table else None


def _title(data: str, variant: str) -> str:
    title = DATASET_TITLES.get(data, data)
    return f"{title}, {variant}" if variant else title


def _notes(outcome: Outcome) -> list[str]:
    """What was noted of the data: once a data set, or of one entry where its entries differ."""
    ready = outcome.ready.ready
    found: dict[str, None] = {}
    for item in ready:
        others = [p.about["notes"] for p in ready if p.entry.data == item.entry.data]
        for note in item.about["notes"]:
            shared = all(note in notes for notes in others)
            found[f"{item.entry.data if shared else item.entry.name}: {note}"] = None
    return list(found)


def runs_csv(outcome: Outcome, all_results: Mapping[str, Results]) -> str:
    """Every run in a line: what it was, its final measures and its traits; accuracies and ECE are fractions."""
    about = outcome.about
    head = [
        ("command", about["command"]),
        ("date", about["created"]),
        ("scale", outcome.scale),
        ("protocol", about["protocol"]),
        *((name, "; ".join(values)) for name, values in _machine(all_results)),
    ]
    rows = []
    for item in outcome.ready.ready:
        entry = item.entry
        for cell in outcome.results(item).cells:
            done = cell.status == DONE
            finals = [_value(cell.final(column)) for column in _RUN_COLUMNS]
            course = [_value(traits.measure(cell, name)) if done else "" for name in traits.TRAITS]
            what = [entry.name, entry.data, entry.variant, cell.cell.loss, str(cell.cell.seed), cell.status]
            rows.append([*what, *finals, *course, f"{cell.seconds:.1f}" if done else ""])
    columns = ["entry", "data", "variant", "loss", "seed", "status", *_RUN_COLUMNS, *traits.TRAITS, "seconds"]
    return csv_text(head, columns, rows)


def _machine(all_results: Mapping[str, Results]) -> list[tuple[str, list[str]]]:
    cells = tuple(c for results in all_results.values() for c in results.cells)
    return environment_rows(Results(next(iter(all_results.values())).study, cells)) if cells else []


def _value(value: float) -> str:
    return "" if value != value else f"{value:.6g}"  # NaN: not defined


def plain(value: Any) -> str:
    """An option's value for a reader: a list without brackets."""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

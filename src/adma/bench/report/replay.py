"""A table of the paper with ours beside it, as data; `replay_words` has its words, `replay_tables` and others show it.

Ours are fractions, as everywhere in the bench; the printed numbers and all deviations are per cent and points.
A data set or a loss without a number keeps its place and says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adma.bench.printed import ROLES
from adma.bench.statistics import Across, Comparison, Estimate
from adma.bench.traits import Trait

PAPER_SCALE = "paper"
DONE, PARTIAL, NO_RESULT, NOT_RUN = "done", "partial", "no result", "not run"


@dataclass(frozen=True)
class ReplayCell:
    """One number of the paper and ours.

    printed: per cent; None where the paper prints none.
    estimate: of ours, a fraction; None, or n = 0, where there is none.
    loss: the spec that was to run; "" where this loss was not asked for, or is not known because nothing ran.
    note: what a reader of this one cell must know.
    """

    printed: float | None
    estimate: Estimate | None
    loss: str
    note: str = ""

    @property
    def n(self) -> int:
        """How many seeds gave a number."""
        return self.estimate.n if self.estimate else 0

    @property
    def deviation(self) -> Estimate | None:
        """Ours minus the printed number, in points; None without either.

        The printed number is taken as exact: the paper gives no spread, so its own luck is not in the interval.
        """
        if self.printed is None or self.estimate is None or self.estimate.n == 0:
            return None
        ours, printed = self.estimate, self.printed
        interval = None
        if ours.interval is not None:
            interval = (100 * ours.interval[0] - printed, 100 * ours.interval[1] - printed)
        return Estimate(ours.n, 100 * ours.mean - printed, 100 * ours.sd, interval, ours.level)


@dataclass(frozen=True)
class ReplayRow:
    """One data set.

    cells: role -> its cell; a role that is absent was not run. Roles are ROLES, the paper's columns, and the spec
        itself for any other loss.
    comparison: `summarise` of the data set's study; None if it has not run.
    sizes: "train", "val", "test" -> samples.
    setting_words: how it was trained, for a reader.
    troubles: what diverged, failed or is missing, a line each.
    not_run: why the data set has no results at all; empty if it has.
    epochs, image_size, seeds: of the study; how many seeds were asked for.
    printed_a: the paper's own a; bold: the role that the paper prints bold.
    traits: `traits.traits` of the study.
    """

    dataset: str
    title: str
    cells: Mapping[str, ReplayCell]
    comparison: Comparison | None
    sizes: Mapping[str, int]
    setting_words: str
    troubles: tuple[str, ...] = ()
    not_run: str = ""
    epochs: int | None = None
    image_size: str = ""
    seeds: int = 0
    printed_a: float | None = None
    bold: str = ""
    traits: tuple[Trait, ...] = ()

    def cell(self, role: str) -> ReplayCell:
        """The cell of a role, an empty one if there is none."""
        return self.cells.get(role) or ReplayCell(None, None, "")

    def status(self, role: str) -> str:
        """DONE; PARTIAL: not every seed has a number; NO_RESULT: none has; NOT_RUN: not asked for, or refused."""
        cell = self.cell(role)
        if cell.n:
            return DONE if cell.n >= self.seeds else PARTIAL
        return NOT_RUN if self.not_run or not cell.loss else NO_RESULT

    @property
    def best(self) -> frozenset[str]:
        """The roles with our highest mean; empty where fewer than two have a number. Highest is not proven best."""
        values = {role: cell.estimate.mean for role, cell in self.cells.items() if cell.estimate and cell.n}
        return frozenset(r for r, v in values.items() if v == max(values.values())) if len(values) > 1 else frozenset()


@dataclass(frozen=True)
class Effect:
    """What a variant of a study changes, for one loss of one data set.

    data: the data set's title; variant, base: as the study calls them, "" for the entry without a variant.
    loss: a role or a spec; or a difference of two, such as "adma minus cce": what becomes of a lead.
    estimate: the replay's measure under `variant` minus under `base`, paired by seed, a fraction.
    """

    data: str
    variant: str
    base: str
    loss: str
    estimate: Estimate


@dataclass(frozen=True)
class OverDatasets:
    """What the data sets of a table say together, in per cent and points; None and a reason where they cannot."""

    title: str
    across: Across | None
    reason: str = ""


@dataclass(frozen=True)
class Replay:
    """A table of the paper, replayed; or any other study of several data sets, with nothing printed beside it.

    name: "table1"; title: "Table 1"; caption: the paper's own.
    scale: "smoke", "small" or "paper", with what was changed of it; protocol: how a was chosen; protocol_words: what
        that means.
    measure: the metric that ours is, one of `statistics.METRICS`, after the last epoch.
    machine: versions, hardware, threads: name -> every value that occurs, as `html.environment_rows` gives them.
    protocol_costs: data set -> accuracy on the reported part with a chosen on that very part, minus with a chosen
        on validation, a fraction: what the paper's protocol gives away.
    shortfall: what the runs lack of the paper's, in words; whole: they lack nothing.
    effects: what the variants change; claims: what the paper says in words, and ours in words.
    over: statistics over the data sets, the printed table's and ours, if they were asked for.
    """

    name: str
    title: str
    caption: str
    scale: str
    protocol: str
    rows: tuple[ReplayRow, ...]
    command: str
    machine: Sequence[tuple[str, Sequence[str]]] = ()
    date: str = ""
    notes: tuple[str, ...] = ()
    protocol_costs: Sequence[tuple[str, Estimate]] = ()
    protocol_words: str = ""
    measure: str = "val_accuracy"
    shortfall: str = ""
    whole: bool = False
    effects: tuple[Effect, ...] = ()
    claims: tuple[tuple[str, str], ...] = ()
    over: tuple[OverDatasets, ...] = ()

    @property
    def reduced(self) -> bool:
        """Whether the runs were smaller than the paper's."""
        return not self.whole

    @property
    def printed(self) -> bool:
        """Whether the paper prints any of these numbers."""
        return any(cell.printed is not None for row in self.rows for cell in row.cells.values())

    @property
    def of_paper(self) -> bool:
        """Whether the paper says anything of this study, in numbers or in words."""
        return self.printed or bool(self.claims)

    @property
    def roles(self) -> tuple[str, ...]:
        """The columns: the paper's, of which one without printed numbers has those that occur, then all others."""
        found = dict.fromkeys(role for row in self.rows for role in row.cells)
        known = [role for role in ROLES if role in found or self.printed]
        return (*known, *(role for role in found if role not in ROLES)) or ROLES

    def roles_of(self, row: ReplayRow) -> tuple[str, ...]:
        """A data set's lines: its own losses, and those of the paper's that other data sets have."""
        return tuple(role for role in self.roles if role in ROLES or role in row.cells) or self.roles

    def asked(self, row: ReplayRow) -> tuple[str, ...]:
        """Those of a data set's lines that were asked for; of one that has not run, the losses of the others."""
        if not row.not_run:
            return tuple(role for role in self.roles_of(row) if row.cell(role).loss)
        ran = {role for other in self.rows for role, cell in other.cells.items() if cell.loss}
        return tuple(role for role in self.roles_of(row) if role in ran or not ran)

    @property
    def level(self) -> float:
        """Of the intervals; 0.95 if there is none yet."""
        estimates = (cell.estimate for row in self.rows for cell in row.cells.values())
        return next((e.level for e in estimates if e is not None), 0.95)

"""A search in a terminal: a row a loss, and in words what the curve and the budget came to."""

from __future__ import annotations

import math

from rich import box
from rich.table import Table
from rich.text import Text

from adma.bench.data.dataset import ACCURACY, MEAN_IOU
from adma.bench.folder import measure_of
from adma.bench.report.cells import measure_name, number
from adma.bench.report.tables import paste_line
from adma.bench.report.text import printable
from adma.bench.result import DIVERGED
from adma.bench.search.analysis import Curve, Unknown
from adma.bench.search.outcome import Found, Outcome
from adma.bench.search.trials import COMPLETE, FAILED, PRUNED
from adma.bench.statistics import Estimate, percent, signed

_NOTHING = {ACCURACY: "an accuracy", MEAN_IOU: "a mean IoU"}


def search_table(outcome: Outcome) -> Table:
    """One row a loss: its winner, chosen on validation, and what fresh seeds say of it. Accuracies are in per cent."""
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, caption_justify="left", caption_style="", pad_edge=False)
    table.add_column("loss: winner", overflow="fold", min_width=8)
    for heading in (
        "learning\nrate",
        "val % in\nthe search",
        "val %\nfresh seeds",
        "selection\nbias, points",
        "test %\nfresh seeds",
        "trials: done,\npruned, failed",
        "epochs of\nits trials",
    ):
        table.add_column(Text(heading), justify="right", overflow="fold")
    for found in outcome.found:
        table.add_row(*map(Text, row(found)))
    return table


def row(found: Found) -> list[str]:
    """The cells of a loss's row."""
    bias = None if isinstance(found.bias, Unknown) else found.bias
    return [
        printable(winner_name(found)),
        f"{found.lr:.3g}" if found.winner else "–",
        number(found.winner.value, 100, 2) if found.winner else "–",
        in_percent(bias.fresh) if bias else "–",
        in_points(bias.difference) if bias else "–",
        in_percent(found.test) if found.test.n else "–",
        f"{found.count(COMPLETE)}, {found.count(PRUNED)}, {found.count(FAILED)} of {found.budget}",
        f"{found.epochs:,}",
    ]


def winner_name(found: Found) -> str:
    """`adma: adma:a=0.31`, or the spec alone where it says the same."""
    if not found.winner:
        return f"{found.name}: none"
    return found.spec if found.spec == found.name else f"{found.name}: {found.spec}"


def in_percent(estimate: Estimate) -> str:
    """`97.20 ± 0.40`."""
    mean = number(estimate.mean, 100, 2)
    return f"{mean} ± {_half(estimate)}" if estimate.interval else mean


def in_points(estimate: Estimate) -> str:
    """`+0.20 ± 0.40`."""
    mean = signed(100 * estimate.mean, 2)
    return f"{mean} ± {_half(estimate)}" if estimate.interval else mean


def _half(estimate: Estimate) -> str:
    assert estimate.interval is not None
    return f"{50 * (estimate.interval[1] - estimate.interval[0]):.2f}"


def words(outcome: Outcome) -> list[str]:
    """What stands below the table: curve, importance, failures and the line to paste of each loss; the verdict."""
    measured = f"validation {measure_name(measure_of(outcome.about))}"
    seeds, fresh = (", ".join(map(str, some)) for some in (outcome.seeds, outcome.final_seeds))
    lines = [
        f"Chosen by the mean {measured}, seeds {seeds}; ± is half a 95% interval, fresh seeds {fresh}. "
        f"Selection bias: {measured} in the search minus that of fresh seeds."
    ]
    if outcome.missing:
        lines.append(f"Partial: {outcome.missing} trials or final runs are still to come; give the command again.")
    for found in outcome.found:
        lines += ["", printable(f"{found.name}:"), *(f"  {printable(line)}" for line in loss_words(found))]
    if outcome.comparison is not None and len(outcome.found) > 1:
        verdict = outcome.comparison.verdict
        lead = f"Best: {verdict.winner}. " if verdict.winner else "Undecided between the winners. "
        lines += ["", printable(lead + verdict.reason)]
    return lines


def loss_words(found: Found) -> list[str]:
    """One loss, sentence by sentence."""
    lines = [plateau_words(key, c) for key, c in found.curves.items()]
    lines.append(importance_words(found))
    if found.winner:
        if found.winner.diverged:
            lines.append(f"its winner diverged with seeds {', '.join(map(str, found.winner.diverged))}, counted as 0")
        lines += paste_words(found).splitlines()
    lines += trouble_words(found)
    return [line for line in lines if line]


def paste_words(found: Found) -> str:
    """The Python that takes a winner home, with its learning rate; empty if there is none."""
    if not found.winner:
        return ""
    first, *more = paste_line(found.spec).splitlines()
    return "\n".join([f"{first}  # learning rate {found.lr:.3g}", *more])


def plateau_words(parameter: str, found: Curve | Unknown) -> str:
    """Where the parameter is as good as the best, or that the data do not say."""
    if isinstance(found, Unknown):
        return f"{parameter}: no curve ({found.reason})"
    p = found.plateau
    rope = f"{100 * p.rope:g} points"
    if not p.determined:
        return (
            f"{parameter}: not determined by these trials: no value from {p.low:.2g} to {p.high:.2g} is shown to be "
            f"more than {rope} worse than the best (near {p.best:.2g})"
        )
    ratio = "" if math.isnan(p.ratio) else f", a ratio of {p.ratio:.1f}"
    ends = [end for end, is_open in ((p.low, p.open_low), (p.high, p.open_high)) if is_open]
    beyond = f"; {ends[0]:.2g} is the end of what was searched" if ends else ""
    outside = "around it" if p.apart else "outside"
    apart = "; farther off some are not ruled out" if p.apart else ""
    return (
        f"{parameter}: as good as the best within {rope} from {p.low:.2g} to {p.high:.2g}{ratio} (best near "
        f"{p.best:.2g}; values {outside} are shown to be worse at {percent(p.level)}){beyond}{apart}"
    )


def importance_words(found: Found) -> str:
    """What each parameter explains."""
    if isinstance(found.importance, Unknown):
        return "" if len(found.space.ranges) < 2 else f"importance: not said ({found.importance.reason})"
    shares = ", ".join(
        f"{i.parameter} {100 * i.share:.0f}% [{100 * i.interval[0]:.0f}, {100 * i.interval[1]:.0f}]"
        for i in found.importance
    )
    return f"importance over the whole searched space (fANOVA; [ ] over resampled trials): {shares}"


def trouble_words(found: Found) -> list[str]:
    """What failed, diverged, or is run elsewhere."""
    lines = []
    diverged = [t for t in found.trials if t.diverged]
    if diverged:
        runs = sum(len(t.diverged) for t in diverged)
        what = (
            f"{runs} {'run' if runs == 1 else 'runs'} of {len(diverged)} {'trial' if len(diverged) == 1 else 'trials'}"
        )
        lines.append(f"{what} diverged; each counts as {_NOTHING[found.measure]} of 0")
    for trial in found.failures:
        reason = trial.reason.splitlines()[0] if trial.reason else ""
        lines.append(
            f"trial {trial.index} failed and is not among the {found.budget} ({reason}); the next run tries again"
        )
    for cell in found.fresh:
        if cell.status != "done":
            reason = f" ({cell.reason.splitlines()[0]})" if cell.reason else ""
            counts = "; counts as 0 in validation, as in the search, and not in test" * (cell.status == DIVERGED)
            lines.append(f"fresh seed {cell.cell.seed}: {cell.status}{reason}{counts}")
    lines += [f"trial {t.index} is run by {t.owner}" for t in found.running]
    return lines

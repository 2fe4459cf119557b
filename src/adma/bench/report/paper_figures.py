"""The paper's Figures 1 and 3 in the paper's own layout, drawn by `figures` from our losses and our runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from adma._check import nearest
from adma.bench.errors import BenchError
from adma.bench.folder import Results
from adma.bench.paper import CHOSEN
from adma.bench.printed import DATASET_TITLES, FIGURE3_ORDER, ROLE_TITLES, ROLES
from adma.bench.report.figures import canvas, diverged_note, empty_panel, loss_curves, styled, trace_panel
from adma.bench.report.text import printable

FIGURE1_SHAPES = (0.1, 0.26, 0.5, 0.8)
# The paper names the panels under its figure otherwise than the rows of its tables.
FIGURE3_TITLES = {**DATASET_TITLES, "fashion_mnist": "Fashion MNIST", "dogs_vs_cats": "Dogs-vs-Cats"}
_COLUMNS = 2


def figure1(shapes: Sequence[float] = FIGURE1_SHAPES) -> Figure:
    """Figure 1: the losses against the predicted probability of the true class, in one panel.

    Cross-entropy, Adma for several `a`, mean squared error and squared hinge; the last two depend on more than that
    probability and are drawn for two classes. Which `a` the paper drew it does not say.

    Args:
        shapes: Adma's `a`, one curve each.

    Raises:
        ValueError: an `a` that the family refuses.
    """
    return loss_curves(
        ("cce", *(f"adma:a={a:g}" for a in shapes), "mse", "squared_hinge"), panels=("loss",), panel=(6.2, 3.6)
    )


@styled
def figure3(panels: Mapping[str, Results]) -> Figure:
    """Figure 3: validation accuracy at every epoch, a panel a data set, in the paper's order.

    A line is the mean over the finished seeds, its band reaches from the least to the greatest. A panel without
    results says "not run"; where a study has no validation part, the test part is drawn and the axis says so.

    Args:
        panels: data set (of FIGURE3_ORDER) -> its results; those that are absent were not run. Of a study with one
            loss of Adma's family, that loss is "Adma" in the legend and its spec stands in the panel's title;
            any other loss appears in the legend under its spec.

    Raises:
        BenchError: a data set that is not the figure's.
    """
    for key in panels:
        if key not in FIGURE3_ORDER:
            raise BenchError(
                f"panels: data set {key!r} is not in Figure 3{nearest(str(key), FIGURE3_ORDER)}; "
                f"its data sets: {', '.join(FIGURE3_ORDER)}"
            )
    drawn = {key: panels[key] for key in FIGURE3_ORDER if key in panels}
    labelled = {key: _labels(results) for key, results in drawn.items()}
    used = {label for of in labelled.values() for label in of.values()}
    # The paper's four losses keep their colours, whichever of them were run.
    slots = [*ROLE_TITLES.values(), *sorted(used - set(ROLE_TITLES.values()))]
    figure, axes = canvas(
        _COLUMNS,
        [label if label in used else "" for label in slots],
        rows=-(-len(FIGURE3_ORDER) // _COLUMNS),
        note=diverged_note(drawn.values()),
        panel=(4.5, 2.6),
    )
    for place, (ax, key) in enumerate(zip(axes, FIGURE3_ORDER, strict=True)):
        if key not in drawn:
            ax.set_title(FIGURE3_TITLES[key], loc="left", fontsize=10)
            empty_panel(ax, "not run")
            continue
        names = labelled[key]
        column = trace_panel(ax, drawn[key], "val_accuracy", {loss: slots.index(names[loss]) for loss in names})
        ax.set_title(_title(key, names), loc="left", fontsize=10)
        ax.set_xlabel("epoch" if place >= len(axes) - _COLUMNS else "")
        ax.set_ylabel(f"{'validation' if column.startswith('val_') else 'test'} accuracy, %", fontsize=9)
    return figure


def _labels(results: Results) -> dict[str, str]:
    """Loss -> its name in the legend: the paper's for its four losses, the spec for any other."""
    family = [loss for loss in results.study.losses if _of_family(loss)]
    names = {}
    for loss in results.study.losses:
        role = "adma" if _of_family(loss) else loss
        alone = family == [loss] if role == "adma" else role in ROLES
        names[loss] = ROLE_TITLES[role] if alone else loss
    return names


def _of_family(loss: str) -> bool:
    return loss == CHOSEN or loss.partition(":")[0] == "adma"


def _title(key: str, names: Mapping[str, str]) -> str:
    spec = [loss for loss, label in names.items() if label == ROLE_TITLES["adma"]]
    parts = [FIGURE3_TITLES[key], *("a chosen" if loss == CHOSEN else printable(loss) for loss in spec)]
    return ", ".join(parts)

"""All trials of a search as CSV, a line a trial. Accuracies and mean IoU are fractions."""

from __future__ import annotations

from adma.bench.folder import measure_of
from adma.bench.report.replay_csv import csv_text
from adma.bench.search.outcome import Outcome
from adma.bench.search.trials import mean


def trials_csv(outcome: Outcome) -> str:
    """Every trial: its point, what its replicates came to on the validation part, what became of it."""
    about = outcome.about
    head = [(key, str(about.get(key, ""))) for key in ("command", "created", "adma_version", "storage")]
    parameters = list(dict.fromkeys(key for f in outcome.found for key in f.space.template.space))
    rows, metric = [], f"val_{measure_of(about)}"
    for found in outcome.found:
        for trial in found.trials:
            rows.append(
                [
                    found.name,
                    str(trial.index),
                    trial.state,
                    found.space.template.spec(trial.params),
                    repr(found.space.lr_of(trial.params)),
                    *(repr(trial.params[key]) if key in trial.params else "" for key in parameters),
                    repr(mean(trial.values)) if trial.values else "",
                    *(repr(trial.values[seed]) if seed in trial.values else "" for seed in outcome.seeds),
                    " ".join(map(str, trial.diverged)),
                    str(trial.epochs),
                    "yes" if trial is found.winner else "",
                    " ".join(trial.reason.split()),
                ]
            )
    columns = [
        "loss", "trial", "state", "spec", "lr", *parameters, metric,
        *(f"{metric}_seed_{seed}" for seed in outcome.seeds), "diverged_seeds", "epochs", "winner", "reason",
    ]  # fmt: skip
    return csv_text(head, columns, rows)

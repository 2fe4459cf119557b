"""The commands that only read: report and curves."""

from __future__ import annotations

import argparse

from adma.bench.console import console_for
from adma.bench.errors import BenchError
from adma.bench.loss_specs import canonical_losses
from adma.bench.mirror import folder_at
from adma.bench.report.terminal import in_unit, show


def report(options: argparse.Namespace) -> int:
    """Print what a results folder holds, a comparison or a search, and write its report again.

    Raises:
        BenchError: the folder cannot be read, or holds a search, to which an option does not apply.
    """
    folder = folder_at(options.dir)
    if folder.holds_search:
        from adma.bench import tune as search

        for name in ("metric", "baseline", "rope"):
            if getattr(options, name) is not None:
                raise BenchError(
                    f"--{name}: {options.dir} holds a search of adma tune, whose report has no such choice; omit it"
                )
        return search.report(folder)
    results = folder.results()
    baseline = options.baseline or None
    if baseline is not None and baseline not in results.study.losses:  # one of those need not be registered here
        baseline = canonical_losses([baseline], "--baseline")[0]
    metric = options.metric or f"test_{results.measure}"
    show(console_for(), results, folder.root, metric, baseline, in_unit(options.rope, metric))
    folder.publish()
    return 0


def curves(options: argparse.Namespace) -> int:
    """Draw losses over the true class's probability."""
    from adma.bench.report import figures

    figure = figures.loss_curves(canonical_losses(options.loss)) if options.loss else figures.loss_curves()
    print(figures.save(figure, options.out))
    return 0

"""What a reader sees of a comparison: a terminal table, figures, one HTML file.

Everything here takes the plain results and the finished statistics; nothing computes a statistic of its own. What draws
is imported when it is asked for: `adma status` needs a few words of this package and no figure.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adma.bench.report.figures import learning_traces, loss_curves, save, to_svg
    from adma.bench.report.html import write_report
    from adma.bench.report.shape_figures import shape_traces
    from adma.bench.report.tables import comparison_table, paste_line

__all__ = [
    "comparison_table",
    "learning_traces",
    "loss_curves",
    "paste_line",
    "save",
    "shape_traces",
    "to_svg",
    "write_report",
]
_MODULES = {
    "comparison_table": "tables",
    "learning_traces": "figures",
    "loss_curves": "figures",
    "paste_line": "tables",
    "save": "figures",
    "shape_traces": "shape_figures",
    "to_svg": "figures",
    "write_report": "html",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

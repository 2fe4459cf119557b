"""What a reader sees of a comparison: a terminal table, figures, one HTML file.

Everything here takes the plain results and the finished statistics; nothing computes a statistic of its own.
"""

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

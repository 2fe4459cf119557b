"""Numbers in, frozen dataclasses out, nothing printed; resampling is seeded, so the same numbers give the same report.

`estimates`: a mean with its intervals. `paired`: two losses over the same seeds. `verdicts`: better, worse, equivalent
or undecided over a number of seeds fixed in advance. `sequential`: the same while seeds are added. `across`: losses
over several data sets. `comparison`: what a study comes to; `summary`: from its results to that. `words`: numbers
in words.
"""

from adma.bench.statistics.across import Across, LeftOut, compare_across
from adma.bench.statistics.comparison import Comparison, Difference, LossSummary, Trouble, Verdict
from adma.bench.statistics.estimates import Estimate, bootstrap_interval, estimate
from adma.bench.statistics.paired import Paired, compare_pairs
from adma.bench.statistics.sequential import Watched, confidence_sequence, watch
from adma.bench.statistics.summary import METRICS, SECONDARY, check_fairness, summarise
from adma.bench.statistics.verdicts import (
    BETTER,
    EQUIVALENT,
    MIN_SEEDS,
    ROPES,
    UNDECIDED,
    WORSE,
    Holm,
    Judgement,
    holm,
    judge,
    rope_of,
)
from adma.bench.statistics.words import difference_in_words, percent, signed, value_in_words

__all__ = [
    "BETTER",
    "EQUIVALENT",
    "METRICS",
    "MIN_SEEDS",
    "ROPES",
    "SECONDARY",
    "UNDECIDED",
    "WORSE",
    "Across",
    "Comparison",
    "Difference",
    "Estimate",
    "Holm",
    "Judgement",
    "LeftOut",
    "LossSummary",
    "Paired",
    "Trouble",
    "Verdict",
    "Watched",
    "bootstrap_interval",
    "check_fairness",
    "compare_across",
    "compare_pairs",
    "confidence_sequence",
    "difference_in_words",
    "estimate",
    "holm",
    "judge",
    "percent",
    "rope_of",
    "signed",
    "summarise",
    "value_in_words",
    "watch",
]

"""The line to paste below a comparison never names a loss that the same comparison shows to be worse."""

from __future__ import annotations

import report_fakes as fakes

from adma.bench.report.terminal import _advice
from adma.bench.statistics import summarise

CCE = [0.80, 0.81, 0.79, 0.80]
GOOD = [0.90, 0.915, 0.888, 0.901]
NEAR = [0.905, 0.898, 0.902, 0.897]


def advice(finals: dict[str, list[float | str]]) -> str:
    return _advice(summarise(fakes.results(finals)))


def test_the_winner_is_pasted():
    assert advice({"cce": CCE, "adma:a=0.3": GOOD}) == "For your own training:  loss_fn = adma.AdmaLoss(a=0.3)"


def test_a_leader_that_beats_the_baseline_is_pasted_though_another_is_as_good():
    words = advice({"cce": CCE, "adma:a=0.3": GOOD, "mae": NEAR})
    assert words.startswith("No loss is shown to be best here, but this one is better than cce:  loss_fn = adma.")
    assert "CrossEntropyLoss" not in words


def test_without_a_difference_it_is_the_usual_loss():
    words = advice({"cce": CCE, "adma:a=0.3": [0.81, 0.795, 0.80, 0.797]})
    assert words == "No loss is shown to be best here; the usual one is  loss_fn = adma.CrossEntropyLoss()"

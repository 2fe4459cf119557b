"""Which points a search tries, and when it gives one up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import search_fakes as fakes
from scipy import stats

from adma.bench.errors import BenchError
from adma.bench.search import propose
from adma.bench.search.propose import NoPruning, Wilcoxon, choose_pruner, first_decision, gives_up, proposals
from adma.bench.search.trials import COMPLETE, FAILED, PRUNED, Trial

SPACE = fakes.space()


def trial(index: int, params: dict[str, float], values: dict[int, float] | None = None, state: str = COMPLETE) -> Trial:
    hill = math.log(params["a"] / 0.1) ** 2 + math.log(params["lr"] / 2e-3) ** 2
    return Trial(index, params, state, values or {0: 0.9 - 0.01 * hill, 1: 0.91 - 0.01 * hill})


def search(count: int, size: int, seed: int = 0, label: str = "adma") -> list[Trial]:
    history: list[Trial] = []
    while len(history) < count:
        start = len(history)
        points = proposals(
            SPACE.ranges, SPACE.defaults, history, start=start, count=size, seed=seed, label=label
        )  # fmt: skip
        history += [trial(start + k, p) for k, p in enumerate(points)]
    return history[:count]


def test_a_search_starts_at_the_defaults_and_covers_the_space_before_it_learns() -> None:
    found = search(propose.STARTUP, 4)
    assert found[0].params == {"a": 0.26, "lr": 1e-3}
    for key, r in SPACE.ranges.items():
        places = sorted(math.log(t.params[key] / r.low) / math.log(r.high / r.low) for t in found[1:])
        assert max(np.diff([0, *places, 1])) < 0.3  # no gap of a third, which chance would often leave


def test_the_sampler_finds_the_hill_better_than_chance() -> None:
    late = search(40, 4)[20:]
    distance = [abs(math.log(t.params["lr"] / 2e-3)) for t in late]
    assert np.median(distance) < 0.5 * math.log(10) / 2  # half of what uniform draws over two decades give


def test_the_same_seed_gives_the_same_points_and_another_seed_or_loss_gives_others() -> None:
    assert search(14, 4) == search(14, 4)
    assert search(14, 4)[1:] != search(14, 4, seed=1)[1:]
    assert search(14, 4)[1:] != search(14, 4, label="adma:a=search")[1:]


def test_the_points_of_a_round_do_not_depend_on_failed_trials_alone_or_on_the_round_itself() -> None:
    history = search(12, 4)
    ask = {"start": 12, "count": 4, "seed": 0, "label": "adma"}
    expected = proposals(SPACE.ranges, SPACE.defaults, history, **ask)
    failed = [*history, Trial(99, history[0].params, FAILED)]
    assert proposals(SPACE.ranges, SPACE.defaults, failed, **ask) == expected
    assert len({tuple(p.items()) for p in expected}) == 4
    other = [*history[:-1], trial(11, history[-1].params, {0: 0.99, 1: 0.99})]
    assert proposals(SPACE.ranges, SPACE.defaults, other, **ask) != expected  # results do matter


@pytest.mark.parametrize(("p", "needed"), [(0.1, 4), (0.05, 5), (0.2, 3), (0.3, 2), (0.0625, 5), (0.01, 7)])
def test_the_first_decision_is_the_least_n_at_which_the_test_can_fall_below_p(p: float, needed: int) -> None:
    assert first_decision(Wilcoxon(p)) == needed

    def least(n: int) -> float:
        return float(stats.wilcoxon(-np.arange(1.0, n + 1), alternative="less").pvalue)

    assert least(needed) < p <= least(needed - 1)


def test_auto_prunes_where_something_can_be_saved_and_says_why_not() -> None:
    assert choose_pruner("auto", 5) == ("wilcoxon", Wilcoxon(), "")
    spec, pruner, note = choose_pruner("auto", 4)
    assert (spec, pruner) == ("none", NoPruning())
    assert "--seeds 5 or more" in note
    assert choose_pruner("wilcoxon:p=0.2", 4)[0] == "wilcoxon:p=0.2"
    with pytest.raises(BenchError, match="did you mean 'wilcoxon'"):
        choose_pruner("wilcoxn", 5)
    with pytest.raises(BenchError, match="p must be a number"):
        choose_pruner("wilcoxon:p=0.9", 5)


def test_a_trial_is_given_up_when_its_seeds_are_worse_one_by_one() -> None:
    best = trial(0, SPACE.defaults, {s: 0.90 + 0.01 * s for s in range(6)})
    weak = trial(1, SPACE.defaults, dict.fromkeys(range(6), 0.8))
    pruned = trial(2, SPACE.defaults, dict.fromkeys(range(4), 0.99), PRUNED)

    def judged(values: dict[int, float], p: float = 0.1) -> bool:
        return gives_up(Wilcoxon(p), SPACE.ranges, [weak, best, pruned], values)

    worse = {s: 0.89 + 0.01 * s - 0.001 * s for s in range(4)}
    assert judged(worse)
    assert not judged({s: v for s, v in worse.items() if s < 3})  # too early to say
    assert not judged(worse, p=0.05)
    assert not judged({**worse, 3: 0.95})
    assert judged({0: 0.0, 1: 0.90, 2: 0.91, 3: 0.0})  # two seeds diverged
    assert not gives_up(NoPruning(), SPACE.ranges, [best], worse)
    assert not gives_up(Wilcoxon(), SPACE.ranges, [], worse)  # nothing to compare with

"""The curve, the plateau, importances and the selection bias, against searches whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import search_fakes as fakes
from scipy import stats

from adma.bench.search import analysis
from adma.bench.search.analysis import Curve, Unknown, curve, importance, selection_bias
from adma.bench.search.space import at
from adma.bench.search.trials import COMPLETE, PRUNED, Trial, best
from adma.family import Range

RANGES = fakes.space().ranges
STEEP = 0.02  # accuracy lost a squared natural logarithm


def trials(
    count: int, sd: float, *, steep_a: float = STEEP, steep_lr: float = STEEP, seeds: int = 3, luck: float = 0.0
) -> list[Trial]:
    """Points spread over the space on the hill that fakes.TOP tops, with noise and with luck that seeds share."""
    rng = np.random.default_rng(1)
    shared = luck * rng.standard_normal(seeds)
    places = stats.qmc.Halton(2, seed=1).random(count)
    found = []
    for index, (u, v) in enumerate(places):
        params = {"a": at(RANGES["a"], u), "lr": at(RANGES["lr"], v)}
        hill = steep_a * math.log(params["a"] / 0.1) ** 2 + steep_lr * math.log(params["lr"] / 2e-3) ** 2
        values = {s: 0.95 - hill + float(shared[s] + sd * rng.standard_normal()) for s in range(seeds)}
        found.append(Trial(index, params, COMPLETE, values))
    return found


def found_curve(some: list[Trial], rope: float = 0.002) -> Curve:
    found = curve(some, RANGES, "a", rope=rope)
    assert isinstance(found, Curve)
    return found


@pytest.mark.parametrize("rope", [0.002, 0.01])
def test_the_plateau_of_a_quadratic_is_where_it_loses_less_than_the_rope(rope: float) -> None:
    half = math.sqrt(rope / STEEP)
    step = (0.5 / 0.01) ** (1 / 60)  # of the grid
    p = found_curve(trials(60, 1e-4), rope).plateau
    assert 0.1 * math.exp(-half) / step**2 < p.low < 0.1 * math.exp(-half) * step**2
    assert 0.1 * math.exp(half) / step**2 < p.high < 0.1 * math.exp(half) * step**2
    assert p.best == pytest.approx(0.1, rel=0.1)
    assert p.ratio == pytest.approx(math.exp(2 * half), rel=0.2)
    assert p.determined
    assert not p.open_low
    assert not p.open_high


def test_luck_that_all_trials_share_changes_nothing_and_noise_widens_the_plateau() -> None:
    clean, noisy = (found_curve(trials(40, sd)).plateau for sd in (1e-4, 0.02))
    lucky = found_curve(trials(40, 1e-4, luck=0.05)).plateau
    assert lucky.low == pytest.approx(clean.low, rel=0.1)
    assert lucky.high == pytest.approx(clean.high, rel=0.1)
    assert noisy.low < clean.low
    assert noisy.high > clean.high


def test_the_band_of_the_curve_holds_the_true_profile() -> None:
    found = found_curve(trials(40, 0.002))
    truth = 0.95 - STEEP * np.log(found.values / 0.1) ** 2
    near = truth > found.floor  # below the floor the curve says only "bad"
    inside = (found.lower <= truth + 1e-3) & (truth - 1e-3 <= found.upper)
    assert near.sum() > 20
    assert inside[near].mean() > 0.9
    assert found.noise == pytest.approx(0.002 / math.sqrt(3), rel=0.3)


def test_a_point_that_was_proposed_again_makes_nothing_surer() -> None:
    """Its trainings are those of the first time, taken from the store: no second measurement."""
    some = trials(20, 0.004)
    again = [*some, *(replace(t, index=20 + t.index) for t in some), replace(some[0], values={0: 0.5}, state=PRUNED)]
    once, twice = found_curve(some), found_curve(again)
    assert np.array_equal(once.lower, twice.lower)
    assert once.plateau == twice.plateau
    assert importance(again, RANGES) == importance(some, RANGES)
    assert curve(some[:3] * 2, RANGES, "a") == Unknown("3 measured points; the curve needs at least 6")


def test_where_the_parameter_does_not_matter_nothing_is_determined() -> None:
    p = found_curve(trials(30, 0.004, steep_a=0.0)).plateau
    assert not p.determined
    assert (p.low, p.high) == pytest.approx((0.01, 0.5))


def test_a_top_at_the_end_of_the_range_leaves_the_plateau_open_there() -> None:
    some = [replace(t, params={**t.params, "a": min(0.5, t.params["a"] * 5)}) for t in trials(60, 1e-4)]
    some = [t for t in some if t.params["a"] < 0.5]  # the hill is now at 0.5
    p = found_curve(some).plateau
    assert p.open_high
    assert not p.open_low
    assert p.determined


def test_trials_that_diverged_and_pruned_ones_do_not_bend_the_top() -> None:
    some = trials(60, 1e-4)
    clean = found_curve(some).plateau
    awful = [replace(t, values={0: 0.0, 1: 0.1, 2: 0.0}) if t.params["lr"] > 8e-3 else t for t in some]
    awful = [replace(t, state=PRUNED, values={0: t.values[0]}) if t.index % 7 == 0 else t for t in awful]
    found = found_curve(awful)
    assert found.lifted >= 3
    assert found.plateau.low == pytest.approx(clean.low, rel=0.25)
    assert found.plateau.high == pytest.approx(clean.high, rel=0.25)


def test_too_few_trials_give_no_curve_and_equal_ones_neither() -> None:
    few = curve(trials(5, 0.001), RANGES, "a")
    assert few == Unknown("5 measured points; the curve needs at least 6")
    same = [replace(t, values={0: 0.5, 1: 0.5, 2: 0.5}) for t in trials(8, 0.0)]
    assert curve(same, RANGES, "a") == Unknown("all trials have the same accuracy")


def test_one_seed_and_one_parameter_suffice_for_a_curve() -> None:
    ranges = {"a": RANGES["a"]}
    some = [replace(t, params={"a": t.params["a"]}) for t in trials(20, 1e-4, steep_lr=0.0, seeds=1)]
    found = curve(some, ranges, "a")
    assert isinstance(found, Curve)
    assert found.plateau.best == pytest.approx(0.1, rel=0.1)


def test_three_parameters_have_a_curve_each() -> None:
    ranges = {**RANGES, "base": Range(1.05, 20.0, log=True)}
    rng = np.random.default_rng(0)
    some = [replace(t, params={**t.params, "base": float(rng.uniform(1.1, 19))}) for t in trials(30, 1e-4)]
    found = curve(some, ranges, "a")
    assert isinstance(found, Curve)
    assert found.plateau.best == pytest.approx(0.1, rel=0.25)


def test_importance_says_which_parameter_matters_and_nothing_of_few_trials() -> None:
    found = importance(trials(30, 1e-3, steep_a=0.001), RANGES)
    assert not isinstance(found, Unknown)
    shares = {i.parameter: i for i in found}
    assert shares["lr"].share > 0.8
    assert sum(i.share for i in found) == pytest.approx(1.0)
    assert all(i.interval[0] - 0.1 <= i.share <= i.interval[1] + 0.1 for i in found)
    assert found == importance(trials(30, 1e-3, steep_a=0.001), RANGES)  # seeded
    cut = [replace(t, state=PRUNED, values={0: t.values[0]}) if t.index % 3 else t for t in trials(30, 1e-3, steep_a=0)]
    shares = {i.parameter: i for i in importance(cut, RANGES)}  # type: ignore[union-attr]
    assert shares["lr"].share > 0.8
    few = importance(trials(9, 1e-3), RANGES)
    assert isinstance(few, Unknown)
    assert "9 measured points" in few.reason


def test_a_seed_of_more_than_32_bits_is_a_seed() -> None:
    some = trials(12, 1e-3)
    assert isinstance(curve(some, RANGES, "a", seed=2**32), Curve)
    assert not isinstance(importance(some, RANGES, seed=2**32), Unknown)


def test_selection_bias_has_welchs_interval() -> None:
    a, b = [0.97, 0.95, 0.98], [0.94, 0.93, 0.96, 0.95, 0.92]
    found = selection_bias(dict(enumerate(a)), b)
    assert not isinstance(found, Unknown)
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found.difference.mean == pytest.approx(np.mean(a) - np.mean(b))
    assert found.difference.interval == pytest.approx((expected.low, expected.high))
    assert found.fresh.mean == pytest.approx(np.mean(b))
    single = selection_bias({0: 0.9}, b)
    assert not isinstance(single, Unknown)
    assert single.difference.interval is None
    assert isinstance(selection_bias({0: 0.9}, []), Unknown)


def test_the_best_trial_is_complete_and_the_first_of_equals() -> None:
    a, b, c = trials(3, 0.0)
    equal = [replace(a, values={0: 0.8, 1: 0.9}), replace(b, values={0: 0.9, 1: 0.8})]
    pruned = replace(c, state=PRUNED, values={0: 1.0})
    assert best([pruned, *equal]) is equal[0]
    assert best([pruned]) is None
    assert math.isnan(pruned.value)
    assert analysis.ROPE == 0.002

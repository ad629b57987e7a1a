"""Bimodal seeds: the dip against linear programming, the mixture against a general optimiser, error rates by simulation."""

import math

import alarms
import numpy as np
import pytest
from scipy import optimize, stats  # scipy 1.17.1

from mirage_jax.seeds import bimodal, bimodal_many, critical_value, dip, mixture, mode_shares, wasserstein


def curves(rng, p, items):
    """Scores and item standard errors [curves, scales, seeds] of rates p."""
    y = rng.binomial(items, np.clip(p, 0, 1)) / items
    return y, np.sqrt(np.maximum(y * (1 - y), 0.25 / items) / items)


def least_distance(values):
    """The dip by its definition: for every place of the mode, the nearest distribution function as a linear programme."""
    x, counts = np.unique(values, return_counts=True)
    above = np.cumsum(counts) / counts.sum()
    below, k, best = above - counts / counts.sum(), len(x), math.inf
    for mode in range(k):  # unknowns: F at every x, F just below the mode, the distance
        rows, bounds = [], []

        def at_most(weights, bound, rows=rows, bounds=bounds, k=k):
            row = np.zeros(k + 2)
            for j, weight in weights:
                row[j] += weight
            rows.append(row)
            bounds.append(bound)

        for i in range(k):
            for j, height in ((i, above[i]), (k if i == mode else i, below[i])):
                at_most([(j, 1), (k + 1, -1)], height)
                at_most([(j, -1), (k + 1, -1)], -height)
        at_most([(k, 1), (mode, -1)], 0)
        for indices, at, sign in (([*range(mode), k], x[: mode + 1], 1), ([*range(mode, k)], x[mode:], -1)):
            for a, b in zip(indices, indices[1:], strict=False):
                at_most([(a, 1), (b, -1)], 0)
            for (a, b, c), h, g in zip(
                zip(indices, indices[1:], indices[2:], strict=False), np.diff(at), np.diff(at)[1:], strict=False
            ):  # convex left of the mode, concave right of it
                at_most([(b, sign * (1 / h + 1 / g)), (a, -sign / h), (c, -sign / g)], 0)
        found = optimize.linprog([0] * (k + 1) + [1], A_ub=np.array(rows), b_ub=bounds, bounds=(0, 1))
        best = min(best, found.fun)
    return best


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1, 0.7], 1 / 4),  # any two points: each jump of 1/2 must be met half way
        ([0.1, 0.2, 0.3, 0.4, 0.5], 1 / 10),  # evenly spaced: F is uniform up to half a jump
        ([0.0] * 5 + [1.0] * 5, 1 / 4),  # one atom may be the mode, the other's jump of 1/2 is met half way
        ([3.0, 3.0, 3.0], 0.0),
        ([0.2, math.nan, 0.9], 1 / 4),
    ],
)
def test_dip_by_hand(values, expected):
    assert dip(values) == pytest.approx(expected, abs=1e-12)


def test_dip_of_nothing():
    assert math.isnan(dip([math.nan]))


@pytest.mark.parametrize("kind", ["uniform", "two", "tied"])
def test_dip_is_the_least_distance_from_a_unimodal_distribution(kind):
    rng = np.random.default_rng(1)
    for n in (4, 7, 10, 13):
        x = {
            "uniform": rng.random(n),
            "two": rng.normal(size=n) + 6 * (np.arange(n) < n // 3),
            "tied": rng.integers(0, 5, n) / 4,
        }[kind]
        assert dip(x) == pytest.approx(least_distance(x), abs=1e-7)
        assert dip(3 - 2 * x) == pytest.approx(dip(x), abs=1e-12)


@pytest.mark.parametrize("noise", [[0.02] * 9, [0.01, 0.05, 0.03, 0.02, 0.04, 0.01, 0.05, 0.02, 0.03]])
def test_mixture_reaches_the_maximum_that_a_general_optimiser_finds(noise):
    y, e = np.array([0.1, 0.14, 0.21, 0.12, 0.55, 0.6, 0.48, 0.62, 0.17]), np.array(noise)
    floor = 0.01 * y.var()

    def one(t):
        return -stats.norm.logpdf(y, t[0], np.sqrt(floor + t[1] ** 2 + e**2)).sum()

    def two(t):
        q, sd = 0.15 + 0.7 / (1 + math.exp(-t[3])), np.sqrt(floor + t[2] ** 2 + e**2)
        return -np.log((1 - q) * stats.norm.pdf(y, t[0], sd) + q * stats.norm.pdf(y, t[1], sd)).sum()

    tight = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000, "maxfev": 4000}
    lone = optimize.minimize(one, [y.mean(), y.std()], method="Nelder-Mead", options=tight)
    pair = optimize.minimize(two, [0.15, 0.55, 0.03, 0.0], method="Nelder-Mead", options=tight)
    found = mixture(y[None], e[None])
    assert found.statistic[0] == pytest.approx(2 * (lone.fun - pair.fun), abs=1e-3)
    np.testing.assert_allclose([found.low[0], found.high[0]], pair.x[:2], atol=1e-3)
    assert found.within[0] == pytest.approx(math.sqrt(floor + pair.x[2] ** 2 + (e**2).mean()), abs=1e-3)
    assert (found.upper[0], found.seeds[0]) == (4, 9)


def test_critical_values_are_those_of_the_study_and_hold_on_fresh_draws():
    rng = np.random.default_rng(2)
    for seeds, low, high in ((5, 13, 15), (10, 10, 12.5), (30, 7, 10.5)):  # 14, 10-11 and 7-10 there
        critical = critical_value((seeds,))
        assert low < critical < high
        y = rng.normal(0.5, 0.15, (2000, seeds))
        beyond = int((mixture(y, np.full_like(y, 1e-4)).statistic > critical).sum())  # far less noise than in the null
        assert alarms.counts(beyond, 2000, 0.007, 0.013)


@pytest.mark.parametrize("items", [200, 1000])
def test_power_at_ten_seeds_and_a_gap_of_point_four(items):
    rng = np.random.default_rng(items)
    y, e = curves(rng, 0.3 + 0.4 * (rng.random((500, 1, 10)) < 0.5), items)
    assert alarms.counts(sum(one.bimodal for one in bimodal_many(y, e)), 500, 0.8, 1.0)


@pytest.mark.parametrize(("seeds", "scales"), [(10, 1), (10, 8), (30, 8), (6, 8)])
def test_false_alarms_on_unimodal_seeds(seeds, scales):
    rng = np.random.default_rng(seeds)
    trend = np.linspace(0.3, 0.7, scales)[:, None]
    y, e = curves(rng, rng.normal(trend, 0.15, (500, scales, seeds)), 1000)
    assert alarms.counts(sum(one.bimodal for one in bimodal_many(y, e)), 500, 0.0, 0.02)


def test_a_flat_spread_of_many_seeds_is_seldom_called_two_modes():
    rng = np.random.default_rng(3)
    y, e = curves(rng, rng.uniform(0.2, 0.8, (1000, 1, 30)), 1000)
    found = bimodal_many(y, e)
    assert alarms.counts(sum(one.bimodal for one in found), 1000, 0.0, 0.06)
    assert sum("flat spread" in one.reason for one in found) > 50  # what the dip test is there for


def test_the_evidence_of_a_clear_case():
    low, high = np.linspace(0.08, 0.12, 12), np.linspace(0.68, 0.72, 12)
    y = np.stack([low, np.r_[low[:6], high[:6]], np.r_[low[:2], high[:10]], high])
    found = bimodal(y, 0.01)
    assert found.bimodal and found.reason == "" and found.where == 1
    assert found.gap == pytest.approx(high[:6].mean() - low[:6].mean(), abs=1e-3)
    np.testing.assert_array_equal(found.share, [0, 0.5, 10 / 12, 1])
    assert found.statistic > found.critical == critical_value((12,), 0.01 / 4)
    assert found.dip == dip(y[1]) and found.dip_p < 0.01
    shuffled = np.random.default_rng(4).permuted(y, axis=1)
    absent = np.concatenate([shuffled, np.full((4, 3), math.nan)], axis=1)
    absent[0] = math.nan  # a scale without seeds is not judged
    again = bimodal(absent, np.full(absent.shape, 0.01))
    assert (again.bimodal, again.where, again.critical) == (True, 1, critical_value((12,), 0.01 / 3))
    assert math.isnan(again.share[0])
    assert again.statistic == pytest.approx(found.statistic)


def test_an_outlier_is_no_mode():
    y = np.r_[np.linspace(0.1, 0.14, 11), 0.9]
    assert "minor mode of 1 of 12" in bimodal(y[None], 0.01).reason


def test_modes_that_run_into_each_other_are_not_two():
    quantiles = stats.norm.ppf((np.arange(75) + 0.5) / 75)
    y = 0.5 + 0.05 * np.r_[quantiles - 1.3, quantiles + 1.3]  # 150 seeds: one Gaussian is refused
    found = bimodal(y[None], 0.001)
    assert found.statistic > found.critical and found.reason == "modes 2.6 within-mode sd apart, needs 3"


def test_equal_seeds_are_one_mode():
    found = bimodal(np.zeros((2, 10)), 0.01)
    assert not found.bimodal and "one mode is enough" in found.reason and np.isnan(found.share).all()


def test_few_seeds_never_decide_alone():
    clear = np.array([0.1, 0.11, 0.12, 0.13, 0.9, 0.91, 0.92, 0.93, 0.94])
    for y in (clear[None], np.stack([clear[[0, 1, 4, 5]]] * 6), np.stack([clear[2:7]] * 2)):
        found = bimodal(y, 0.01)
        assert not found.bimodal and found.where == -1 and "needs 10, or 5 at 3" in found.reason
        assert np.isnan([found.statistic, found.critical, found.gap, found.dip, *found.share]).all()


@pytest.mark.parametrize(("high", "says"), [(0.7, ""), (0.4, "where scales are pooled")])
def test_seven_seeds_are_pooled_over_the_transition(high, says):
    k = np.array([0, 3, 3, 4, 4, 7])[:, None]  # seeds in the upper mode
    jitter = np.array([-0.02, 0.01, 0.0, 0.015, -0.01, 0.02, -0.015])
    y = np.where(np.arange(7) < k, high, 0.1) + jitter
    found = bimodal(y, 0.01)
    assert found.bimodal == (says == "") and says in found.reason
    assert found.critical == critical_value((7, 7, 7, 7)) and found.where in (1, 2, 3, 4)
    if found.bimodal:
        assert found.dip == pytest.approx(sum(dip(y[i]) for i in (1, 2, 3, 4)))
        np.testing.assert_allclose(found.share, k[:, 0] / 7)


def test_mode_shares():
    y = [[0.1, 0.2, 0.1], [0.1, 0.9, math.nan], [0.8, 0.9, 0.8], [math.nan] * 3]
    np.testing.assert_array_equal(mode_shares(y), [0, 0.5, 1, math.nan])  # cut between .125 and .85
    np.testing.assert_allclose(mode_shares(y, cut=0.85), [0, 0.5, 1 / 3, math.nan])


def test_wasserstein():
    assert wasserstein([0.0, 1.0], [0.5, 1.5, math.nan]) == pytest.approx(0.5)
    assert wasserstein([0.0, 0.0, 0.0, 1.0], [1.0]) == pytest.approx(0.75)
    assert math.isnan(wasserstein([math.nan], [1.0]))


@pytest.mark.parametrize(
    ("scores", "noise", "level", "message"),
    [
        ([0.1, 0.2], 0.01, 0.01, r"needs? scores of \[scales, seeds\], got shape \(2,\)"),
        ([[0.1, math.inf]], 0.01, 0.01, "finite or NaN"),
        ([[0.1, 0.2]], [[0.1, math.nan]], 0.01, "finite item noise"),
        ([[0.1, 0.2]], -0.1, 0.01, "noise >= 0"),
        ([[0.1, 0.2]], 0.1, 0.0, "level must lie in"),
    ],
)
def test_refusals(scores, noise, level, message):
    with pytest.raises(ValueError, match=message):
        bimodal(scores, noise, level=level)


def test_mode_shares_refuse():
    with pytest.raises(ValueError, match="at least 2 scores, got 1"):
        mode_shares([[0.1, math.nan]])
    with pytest.raises(ValueError, match=r"got shape \(1,\)"):
        mode_shares([0.1], cut=0.5)

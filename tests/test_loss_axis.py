"""Curves against loss made to collapse or not, hinges against scipy's general optimiser, claims by simulation."""

import inspect
import math

import alarms
import numpy as np
import pytest
from scipy import optimize, stats  # scipy 1.17.1

from mirage_jax.loss_axis import collapse, loss_threshold_fit, tipping_point

LOSS = np.linspace(1.5, 3.2, 30)


def softplus(x, bend):
    """Rises below a loss of 2.2; 10-90 width 2 ln 9 bend."""
    return 0.4 * bend * np.logaddexp(0, (2.2 - x) / bend)


def groups(rng, offset, se):
    x = np.concatenate([rng.uniform(1.5 + 0.2 * g, 2.8 + 0.2 * g, 12) for g in range(3)])
    g = np.repeat(np.arange(3), 12)
    return x, 0.25 + softplus(x, 0.3) + offset * g + rng.normal(0, se, x.size), g


def test_collapse_by_hand():
    # common curve of the falling losses 4 3 2 1 with scores 0 2 1 3: 2 and 1 out of order, both 1.5
    x, y = np.array([4.0, 3.0, 2.0, 1.0, 0.5, 0.25]), np.array([0.0, 2.0, 1.0, 3.0, 4.0, 5.0])
    found = collapse(x, y, ["a", "a", "b", "b", "a", "b"], permutations=19)
    np.testing.assert_allclose(found.curve, [0, 1.5, 1.5, 3, 4, 5])
    # residuals 0 .5 0 in a, -.5 0 0 in b: (.5^2 + .5^2) / 3 over .5^2 + .5^2; alone both groups fit exactly
    assert found.share == pytest.approx(1 / 3)
    assert found.f == math.inf
    assert found.overlap == pytest.approx(3 / 6)  # losses 2 and 1 lie among those of a, .5 among those of b


def test_collapse_of_lower_is_better_mirrors():
    x, y, g = groups(np.random.default_rng(1), 0.02, 0.02)
    up, down = collapse(x, y, g, permutations=49), collapse(x, 1 - y, g, direction="lower", permutations=49)
    np.testing.assert_allclose(down.curve, 1 - up.curve)
    assert (down.p, down.overlap) == (up.p, up.overlap)
    np.testing.assert_allclose([down.f, down.share], [up.f, up.share])


def test_groups_that_never_meet_cannot_be_told_from_one_curve():
    found = collapse([1.0, 1.1, 1.2, 2.0, 2.1, 2.2], [6.0, 5.0, 4.0, 3.0, 2.0, 1.0], [0, 0, 0, 1, 1, 1])
    assert found.overlap == 0 and math.isnan(found.f) and math.isnan(found.p)


def test_collapse_is_exact_without_noise():
    x = np.linspace(1, 2, 12)
    found = collapse(x, -x, np.arange(12) % 2, permutations=19)
    assert (found.f, found.share, found.p) == (0.0, 0.0, 1.0)


def test_collapse_false_alarms_and_power(count):
    rng, runs = np.random.default_rng(2), count(1000)
    level = sum(collapse(*groups(rng, 0.0, 0.02), permutations=19).p <= 0.05 for _ in range(runs))
    assert alarms.counts(level, runs, 0.0, 0.06)
    power = sum(collapse(*groups(rng, 0.06, 0.02), permutations=19).p <= 0.05 for _ in range(runs))
    assert alarms.counts(power, runs, 0.95, 1.0)


@pytest.mark.parametrize(("gamma", "truth"), [(1.0, 1.0), (None, 0.6)])
def test_threshold_is_the_least_squares_hinge(gamma, truth):
    rng = np.random.default_rng(3)
    se = np.linspace(0.005, 0.015, 30)
    y = 0.25 + 0.4 * np.maximum(0, 2.2 - LOSS) ** truth + rng.normal(0, se)
    found = loss_threshold_fit(LOSS, y, se, 0.25, gamma=gamma)

    def chi(t):
        power = truth if gamma else t[2]
        return (((y - 0.25 - t[1] * np.maximum(0, t[0] - LOSS) ** power) / se) ** 2).sum()

    tight = {"xatol": 1e-10, "fatol": 1e-10, "maxiter": 8000, "maxfev": 8000}
    best = min(
        (optimize.minimize(chi, [eta, 0.4, truth], method="Nelder-Mead", options=tight) for eta in (2.1, 2.2, 2.3)),
        key=lambda one: one.fun,
    )
    mine = chi([found.eta, found.slope, found.gamma])
    assert mine == pytest.approx(best.fun, abs=0.01)
    assert found.eta == pytest.approx(best.x[0], abs=2e-3)
    for end in (found.low, found.high):  # where the profile has risen by the 95% point of chi-square with one freedom
        free = [optimize.minimize(lambda t, e=end: chi([e, *t]), [0.4, p], method="Nelder-Mead", options=tight).fun
                for p in ((truth,) if gamma else (0.4, 0.6, 0.9))]  # fmt: skip
        assert min(free) - best.fun == pytest.approx(found.dispersion * stats.chi2.ppf(0.95, 1), abs=0.05)


def test_the_interval_covers_the_threshold(count):
    rng, runs = np.random.default_rng(4), count(1000)
    covered = 0
    for _ in range(runs):
        y = 0.25 + 0.4 * np.maximum(0, 2.2 - LOSS) + rng.normal(0, 0.02, 30)
        found = loss_threshold_fit(LOSS, y, 0.02, 0.25)
        covered += found.low <= 2.2 <= found.high
    assert alarms.counts(covered, runs, 0.93, 1.0)


def test_the_gain_in_aicc_by_hand():
    x = np.linspace(0, 5, 12)
    found = loss_threshold_fit(x, 5 - x, 0.1, -2.0)
    # score 7 - x above a floor of -2: a hinge with its corner at 7, beyond the losses, and a straight line fit exactly;
    # both have 2 parameters
    assert (found.eta, found.slope) == (pytest.approx(7, abs=1e-3), pytest.approx(1, abs=1e-3))
    assert found.rival == "line" and found.gain == pytest.approx(0, abs=1e-3) and found.dispersion == 1
    flat = loss_threshold_fit(x, np.zeros(12), 0.1, 0.0)
    assert flat.slope == 0 and (flat.low, flat.high) == (-math.inf, math.inf)


def test_lower_is_better_mirrors():
    y = 0.25 + 0.4 * np.maximum(0, 2.2 - LOSS) + np.random.default_rng(5).normal(0, 0.01, 30)
    up, down = loss_threshold_fit(LOSS, y, 0.01, 0.25), loss_threshold_fit(LOSS, 1 - y, 0.01, 0.75, direction="lower")
    assert down.eta == pytest.approx(up.eta) and down.slope == pytest.approx(-up.slope)
    assert down.gain == pytest.approx(up.gain)


def test_scatter_between_models_is_not_evidence():
    rng = np.random.default_rng(6)
    y = 0.25 + 0.4 * np.maximum(0, 2.2 - LOSS) + rng.normal(0, 0.03, 30)
    honest, blind = loss_threshold_fit(LOSS, y, 0.03, 0.25), loss_threshold_fit(LOSS, y, 0.001, 0.25)
    assert blind.dispersion > 500
    assert abs(blind.gain - honest.gain) < 3 and blind.high - blind.low > 0.5 * (honest.high - honest.low)


@pytest.mark.parametrize("truth", ["softplus", "logistic", "exponential", "line"])
def test_smooth_curves_are_not_called_tipping_points(truth, count):
    rng, runs = np.random.default_rng(7), count(300)
    curve = {
        "softplus": softplus(LOSS, 0.1),  # 10-90 width .44, a quarter of the range
        "logistic": 0.5 / (1 + np.exp((LOSS - 2) / 0.25)),
        "exponential": 0.6 * np.exp((1.5 - LOSS) / 0.4),
        "line": 0.3 * (3.2 - LOSS),
    }[truth]
    claims = sum(
        loss_threshold_fit(LOSS, 0.25 + curve + rng.normal(0, 0.01, 30), 0.01, 0.25).gain > 10 for _ in range(runs)
    )
    assert alarms.counts(claims, runs, 0.0, 0.02)


def test_tipping_point_needs_two_metrics():
    rng, x = np.random.default_rng(8), np.linspace(1.5, 3.2, 60)
    hinge = np.maximum(0, 2.2 - x)
    up, down = 0.25 + 0.4 * hinge + rng.normal(0, 0.003, 60), 0.75 - 0.3 * hinge + rng.normal(0, 0.003, 60)
    found = tipping_point(x, np.stack([up, down]), 0.003, [0.25, 0.75], directions=("higher", "lower"))
    assert found.claimed and found.reason == "" and min(fit.gain for fit in found.fits) > 10
    alone = tipping_point(x, up, 0.003, 0.25)
    assert (
        not alone.claimed
        and alone.reason == "1 of 1 metrics show a flat side and prefer the hinge by more than 10, needs 2"
    )
    smooth = 0.75 - softplus(x, 0.3)
    mixed = tipping_point(x, np.stack([up, smooth]), 0.003, [0.25, 0.75], directions=("higher", "lower"))
    assert not mixed.claimed and mixed.reason.startswith("1 of 2")


def test_a_tipping_point_whose_flat_side_was_not_seen_is_not_claimed():
    rng, x = np.random.default_rng(9), np.linspace(1.5, 2.15, 40)  # all below 2.2
    y = np.array([[0.25], [0.75]]) + np.array([[0.4], [-0.3]]) * (2.2 - x) ** 0.4 + rng.normal(0, 0.001, (2, 40))
    found = tipping_point(x, y, 0.001, [0.25, 0.75], directions=("higher", "lower"), gamma=None)
    assert min(fit.gain for fit in found.fits) > 10 and not found.claimed and found.reason.startswith("0 of 2")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: collapse([1.0, 2.0], [1.0, 2.0], [0, 1]),
            r"at least 2 groups of at least 3 points, got counts \[1, 1\]",
        ),
        (lambda: collapse([1.0, math.nan], [1.0, 2.0], [0, 1]), "finite vectors of one length"),
        (lambda: collapse([1.0] * 6, [1.0] * 6, [0, 1] * 3, permutations=0), "permutations must be >= 1"),
        (
            lambda: inspect.unwrap(collapse)(LOSS[:6], LOSS[:6], np.arange(6) % 2, direction="up"),
            "direction must be higher or lower",
        ),
        (lambda: loss_threshold_fit([1.0] * 7, [1.0] * 7, 0.1, 0.0), "at least 6 different losses, got 1"),
        (lambda: loss_threshold_fit(LOSS, LOSS, 0.0, 0.0), "standard errors > 0"),
        (lambda: loss_threshold_fit(LOSS, LOSS, 0.1, 0.0, gamma=0.0), "needs gamma > 0"),
        (lambda: tipping_point(LOSS, LOSS, 0.1, 0.0, directions=("lower", "lower")), "got 2 for 1"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""Curve models: every truth back from noise-free rates, densities and profiles against scipy, batches against single curves."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from mirage_jax import scaling
from mirage_jax.curve_models import MODELS, bnsl
from mirage_jax.curve_search import log_density
from mirage_jax.fits import compare, evaluate, fit, leave_largest_out, profile

pytestmark = pytest.mark.usefixtures("quick_compile")

X = np.linspace(7, 12, 12)  # one length for most tests, so that each program is compiled once
SIG = np.array([0.05, 0.8, 9.6, 1.7])


def sigmoid(lo, hi, centre, width, x=X):
    return lo + (hi - lo) / (1 + 81.0 ** (-(x - centre) / width))


TRUTHS = {
    "C": ((0.3,), 0.3 + 0 * X),
    "PL": ((0.9, -0.8 * 10**3.5, 0.5), 0.9 - 0.8 * 10 ** (3.5 - 0.5 * X)),
    "TOY": ((-0.3, 8.7, 0.25), 0.25 + 0.75 * np.exp(-(10 ** (-0.3 * (X - 8.7))))),
    "SIG": (tuple(SIG), sigmoid(*SIG)),
    "HINGE": ((0.1, 0.2, 9.3), 0.1 + 0.2 * np.maximum(0, X - 9.3)),
    "HINGE_GAMMA": ((0.1, 0.1, 9.3, 1.4), 0.1 + 0.1 * np.maximum(0, X - 9.3) ** 1.4),
    "STEP": ((0.1, 0.7, (X[4] + X[5]) / 2), np.where(X > X[4] + 0.1, 0.7, 0.1)),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_every_model_gives_back_its_own_truth(name):
    params, rates = TRUTHS[name]
    np.testing.assert_allclose(evaluate(name, params, X), rates, rtol=1e-12)
    found = fit(name, X, rates, n=1000, chance=0.25)
    np.testing.assert_allclose(found.params, params, rtol=1e-5)
    np.testing.assert_allclose(found.mean, rates, rtol=1e-7)
    assert found.converged and not found.at_bound
    assert found.free == MODELS[name].free and found.points == 12


def test_gaussian_scores_need_not_be_rates():
    scores = 3 - 40 * sigmoid(*SIG)
    found = fit("SIG", X, scores, se=0.1, likelihood="gaussian")
    np.testing.assert_allclose(found.params, (3 - 40 * 0.05, 3 - 40 * 0.8, 9.6, 1.7), rtol=1e-6)
    assert found.log_likelihood == pytest.approx(12 * stats.norm.logpdf(0, scale=0.1), rel=1e-9)


def test_one_break_from_seventeen_points():
    x, (a, b, c0, c1, d1, f1) = np.linspace(2, 3, 17), (0.4, 30.0, 0.5, 2.0, 2.6, 0.1)
    y = a + b * 10 ** (-c0 * x) * (1 + 10 ** ((x - d1) / f1)) ** (-c1 * f1)
    found = fit("BNSL-1", x, y, se=1e-3, likelihood="gaussian")
    np.testing.assert_allclose(found.mean, y, atol=1e-6)
    np.testing.assert_allclose(found.params, (a, b, c0, c1, d1, f1), rtol=1e-3)
    assert found.free == 6 and MODELS["BNSL-2"].free == 9


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(1e-4, 1 - 1e-4), st.floats(1e-3, 0.9))
def test_log_densities_are_scipys(n, share, rate, rho):
    k, phi = round(share * n), 1 / rho - 1
    with jax.enable_x64(True):
        binomial = float(log_density("binomial", k / n, rate, float(n)))
        several = float(log_density("beta_binomial", k / n, rate, float(n), rho))
        gaussian = float(log_density("gaussian", share, rate, rho))
    assert binomial == pytest.approx(stats.binom.logpmf(k, n, rate), rel=1e-9, abs=1e-9)
    assert several == pytest.approx(stats.betabinom.logpmf(k, n, rate * phi, (1 - rate) * phi), rel=1e-9, abs=1e-9)
    assert gaussian == pytest.approx(stats.norm.logpdf(share, rate, rho), rel=1e-9, abs=1e-9)


def test_log_densities_at_the_edge_of_the_rates():
    with jax.enable_x64(True):
        for likelihood in ("binomial", "beta_binomial"):
            found = log_density(likelihood, np.array([0, 0.5, 1, 1, 0.5]), np.array([0, 0, 1, 0, 1.1]), 10.0, 0.1)
            np.testing.assert_array_equal(found, [0, -np.inf, 0, -np.inf, -np.inf])


def test_beta_binomial_is_scipys_optimum():
    n, rho = 50, 0.1
    k, phi = np.array([3, 9, 20, 1, 7, 12, 30, 2, 8, 11, 15, 4]), 9.0
    best = optimize.minimize_scalar(
        lambda p: -stats.betabinom.logpmf(k, n, p * phi, (1 - p) * phi).sum(),
        bounds=(0.01, 0.99),
        options={"xatol": 1e-10},
    )
    found = fit("C", X, k / n, n=n, likelihood="beta_binomial", rho=rho)
    assert float(found.params[0]) == pytest.approx(best.x, rel=1e-6)
    assert float(found.log_likelihood) == pytest.approx(-best.fun, rel=1e-10)
    plain = fit("C", X, k / n, n=n)
    np.testing.assert_array_equal(fit("C", X, k / n, n=n, likelihood="beta_binomial", rho=0.0).aic, plain.aic)
    # moments: with one n, Pearson's sum over 1 + (n - 1) rho is the degrees of freedom
    rate = k.sum() / (12 * n)
    pearson = ((k - n * rate) ** 2 / (n * rate * (1 - rate))).sum()
    moment = fit("C", X, k / n, n=n, likelihood="beta_binomial", rho=None)
    assert float(moment.rho) == pytest.approx((pearson / 11 - 1) / (n - 1), rel=1e-9)
    assert moment.free == 2 and fit("C", X, np.full(12, 0.3), n=n, likelihood="beta_binomial", rho=None).rho == 0


def test_a_step_is_a_sigmoid_of_no_width():
    rates = TRUTHS["STEP"][1] + 0.02 * np.sin(5 * X)
    step, sig = fit("STEP", X, rates, n=1000), fit("SIG", X, rates, n=1000)
    low, high = rates[:5].mean(), rates[5:].mean()
    np.testing.assert_allclose(step.params[:2], (low, high), rtol=1e-9)
    np.testing.assert_allclose(evaluate("SIG", (low, high, step.params[2], 1e-3), X), step.mean, rtol=1e-9)
    assert sig.log_likelihood >= step.log_likelihood - 1e-6
    assert fit("SIG", X, TRUTHS["STEP"][1], n=1000).log_likelihood == pytest.approx(
        float(fit("STEP", X, TRUTHS["STEP"][1], n=1000).log_likelihood), rel=1e-7
    )


def test_the_toy_cannot_tell_length_from_c():
    alpha, centres = -0.3, []
    for length, c in ((5, 1e8), (1, 1e8 * 5 ** (-1 / alpha))):
        p = scaling.token_success(scaling.cross_entropy(10**X, c=c, alpha=alpha))
        found = fit("TOY", X, scaling.exact_match(p, length), n=1000)
        np.testing.assert_allclose(found.params, (alpha, np.log10(c) - np.log10(length) / alpha, 0), rtol=1e-6)
        centres.append(found.params[1])
    assert centres[0] == pytest.approx(centres[1], rel=1e-9)


def test_isotonic_pools_what_falls_and_equal_scales():
    x, y, n = [1, 2, 3, 3, 5], [0.1, 0.5, 0.2, 0.4, 0.9], [10, 20, 10, 10, 10]
    found = fit("SPL", x, y, n=n)  # scale 3: (2 + 4) / 20 = .3 < .5, pooled with scale 2: 16 / 40 = .4
    np.testing.assert_allclose(found.mean, [0.1, 0.4, 0.4, 0.4, 0.9], rtol=1e-12)
    np.testing.assert_allclose(evaluate("SPL", found.params, [0, 1.5, 4, 9]), [0.1, 0.25, 0.65, 0.9], rtol=1e-12)
    expected = stats.binom.logpmf([1, 10, 2, 4, 9], n, [0.1, 0.4, 0.4, 0.4, 0.9]).sum()
    assert found.free == 3 and float(found.log_likelihood) == pytest.approx(expected, rel=1e-9)


def test_many_curves_at_once_are_the_curves_alone():
    rng = np.random.default_rng(0)
    truth = sigmoid(0.05, rng.uniform(0.4, 0.9, (300, 1)), rng.uniform(8, 11, (300, 1)), rng.uniform(0.5, 3, (300, 1)))
    rates = rng.binomial(200, truth) / 200
    together = fit("SIG", X, rates, n=200)
    assert together.params.shape == (300, 4) and together.mean.shape == (300, 12)
    assert together.converged.mean() > 0.95
    assert (together.log_likelihood >= stats.binom.logpmf(rates * 200, 200, truth).sum(1) - 1e-9).all()
    for i in (0, 150, 299):
        alone = fit("SIG", X, rates[i], n=200)
        assert alone.params.shape == (4,)
        assert float(alone.log_likelihood) == pytest.approx(together.log_likelihood[i], abs=1e-7)
        np.testing.assert_allclose(alone.mean, together.mean[i], atol=1e-4)


def test_missing_points_and_order_do_not_matter():
    rates, few = sigmoid(*SIG), [0, 2, 3, 4, 5, 6, 8, 9, 11]
    full = np.where(np.isin(np.arange(12), few), rates + 0.01 * np.cos(9 * X), np.nan)
    kept = fit("SIG", X, full, n=500)
    scrambled = fit(
        "SIG", np.where(np.isnan(full), np.nan, X)[::-1], full[::-1], n=np.where(np.isnan(full), -7, 500)[::-1]
    )
    short = fit("SIG", X[few], full[few], n=500)
    assert kept.points == 9
    with jax.enable_x64(True):  # the user's flag changes nothing
        np.testing.assert_array_equal(fit("SIG", X, full, n=500).params, kept.params)
    np.testing.assert_array_equal(kept.params, scrambled.params)
    np.testing.assert_allclose(kept.params, short.params, rtol=1e-9)
    assert np.isfinite(kept.mean).all() and np.isnan(scrambled.mean).sum() == 3


def test_no_number_from_nothing():
    found = fit("SIG", X, np.stack([np.full(12, np.nan), sigmoid(*SIG)]), n=100)
    assert np.isnan(found.log_likelihood[0]) and np.isnan(found.params[0]).all() and np.isnan(found.mean[0]).all()
    assert np.isfinite(found.aic[1]) and not found.converged[0]
    alone = fit("C", X, np.where(X > 7, np.nan, 0.5), n=10, likelihood="beta_binomial", rho=None)
    assert np.isnan(alone.rho) and np.isnan(alone.aic)


def test_information_criteria_by_hand():
    four = np.where((X > X[2]) & (X < X[7]), TRUTHS["STEP"][1], np.nan)
    table = compare(["C", "STEP", "SPL"], X, four, n=100)
    ll = [2 * (stats.binom.logpmf(10, 100, p) + stats.binom.logpmf(70, 100, q)) for p, q in ((0.4, 0.4), (0.1, 0.7))]
    np.testing.assert_allclose(table.log_likelihood, [ll[0], ll[1], ll[1]], rtol=1e-9)
    np.testing.assert_allclose(table.aic, [2 - 2 * ll[0], 6 - 2 * ll[1], 4 - 2 * ll[1]], rtol=1e-9)
    np.testing.assert_allclose(table.aicc, [table.aic[0] + 4 / 2, np.inf, table.aic[2] + 12], rtol=1e-9)
    np.testing.assert_allclose(table.bic, np.log(4) * table.free - 2 * table.log_likelihood, rtol=1e-12)
    weight = np.exp(-table.aic / 2) / np.exp(-table.aic / 2).sum()
    np.testing.assert_allclose(table.weight, weight, rtol=1e-9)
    assert table.model.tolist() == ["C", "STEP", "SPL"] and table.curve.tolist() == [0, 0, 0]


def test_profile_of_a_constant_is_the_likelihood_ratio_interval():
    k = np.array([3, 5, 2, 4, 3, 5, 2, 4, 3, 5, 2, 4])
    cut = stats.chi2.ppf(0.95, 1) / 2

    def excess(p):
        return stats.binom.logpmf(42, 600, 42 / 600) - stats.binom.logpmf(42, 600, p) - cut

    low, high = profile("C", X, np.stack([k / 50, np.zeros(12)]), "lo", n=50)
    assert low[0] == pytest.approx(optimize.brentq(excess, 1e-4, 0.07), rel=1e-5)
    assert high[0] == pytest.approx(optimize.brentq(excess, 0.07, 0.5), rel=1e-5)
    assert low[1] == 0 and high[1] == pytest.approx(1 - np.exp(-cut / 600), rel=1e-4)  # 0 of 600: 600 log(1 - p) = -cut


def test_profile_of_two_parameters_is_scipys():
    rates, n = np.round(TRUTHS["TOY"][1] * 100 + 3 * np.sin(7 * X)) / 100, 100

    def held(alpha):
        def minus(x_c):
            p = 0.25 + 0.75 * np.exp(-(10 ** (alpha * (X - x_c))))
            return -stats.binom.logpmf(np.round(rates * n), n, p).sum()

        return optimize.minimize_scalar(minus, bounds=(7.5, 10), options={"xatol": 1e-9}).fun

    best = optimize.minimize_scalar(held, bounds=(-0.8, -0.1), options={"xatol": 1e-9})
    cut = best.fun + stats.chi2.ppf(0.9, 1) / 2
    low, high = profile("TOY", X, rates, "alpha", 0.9, n=n, chance=0.25)
    assert float(low) == pytest.approx(optimize.brentq(lambda a: held(a) - cut, -1.5, best.x), rel=1e-4)
    assert float(high) == pytest.approx(optimize.brentq(lambda a: held(a) - cut, best.x, -0.05), rel=1e-4)


def test_profile_leaves_open_what_the_data_leave_open():
    low, high = profile("SIG", X, TRUTHS["STEP"][1], "width", n=1000)
    assert low == -np.inf and 0.05 < high < 1.5 * (X[1] - X[0])  # narrower than so much; how narrow is not seen
    low, high = profile("STEP", X, TRUTHS["STEP"][1], "m", n=1000)
    np.testing.assert_allclose((low, high), X[4:6], atol=1e-5)  # anywhere in the gap


def test_leave_largest_out_by_hand():
    k = np.array([3, 5, 2, 4, 3, 5, 2, 4, 3, 5, 20, 40])
    found = leave_largest_out("C", X, k / 50, 2, n=50)
    rate = 36 / 500
    assert float(found.fit.params[0]) == pytest.approx(rate, rel=1e-9) and found.fit.points == 10
    assert float(found.log_density) == pytest.approx(stats.binom.logpmf([20, 40], 50, rate).sum(), rel=1e-9)
    np.testing.assert_allclose(found.absolute_error[10:], np.array([20, 40]) / 50 - rate, rtol=1e-9)
    assert np.isnan(found.absolute_error[:10]).all()
    same = leave_largest_out("C", X[::-1], k[::-1] / 50, first=10, n=50)
    assert float(same.log_density) == pytest.approx(float(found.log_density), rel=1e-12)
    assert np.isnan(leave_largest_out("C", X, k / 50, 12, n=50).log_density)  # nothing left to fit


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit("SIGMA", X, X, n=1), "unknown model 'SIGMA'; known: C, PL"),
        (lambda: fit("C", X, X[:3], n=1), r"got shapes \(12,\) and \(3,\)"),
        (lambda: fit("C", X, 0 * X), "binomial needs n, the test items"),
        (lambda: fit("C", X, X, likelihood="gaussian"), "gaussian needs se"),
        (lambda: fit("C", X, 0 * X, n=1, se=1.0), "binomial takes n, not se"),
        (lambda: fit("C", X, 0 * X, n=1, rho=0.1), "rho = 0.1 with binomial"),
        (lambda: fit("C", X, 0 * X, n=1, likelihood="beta_binomial", rho=1.0), r"rho must be 0 or in \[1e-6, 1\)"),
        (lambda: fit("C", np.log10(0 * X[:2] + np.array([1, np.inf])), [0.1, 0.2], n=1), "x .* finite where y is"),
        (lambda: fit("C", X, X, n=10), r"rates y in \[0, 1\] of n >= 1"),
        (lambda: fit("C", X, 0 * X, n=0), r"rates y in \[0, 1\] of n >= 1"),
        (lambda: fit("C", X, X, se=0.0, likelihood="gaussian"), "se must be positive"),
        (lambda: fit("TOY", X, 0 * X, n=1, chance=1.0), r"chance must lie in \[0, 1\)"),
        (lambda: profile("HINGE", X, 0 * X, "s", n=1), "HINGE can hold lo, m, got 's'"),
        (lambda: profile("SPL", X, 0 * X, "lo", n=1), "SPL can hold nothing"),
        (lambda: profile("C", X, 0 * X, "lo", 1.0, n=1), r"level must lie in \(0, 1\), got 1.0"),
        (lambda: leave_largest_out("C", X, 0 * X, 0, n=1), "held and first must be >= 1, got 0"),
        (lambda: compare(["C", "C"], X, 0 * X, n=1), "different models"),
        (lambda: evaluate("SIG", [1.0, 2.0], X), r"SIG needs params \[..., 4\]"),
        (lambda: bnsl(0), "at least 1 break, got 0"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""Scaling-law fits: reference parameters back from noise-free data, least squares against scipy, refusals."""

import alarms
import numpy as np
import pytest
from scipy import stats

from mirage_jax import scaling
from mirage_jax.laws import chinchilla, irreducible, log_log

PARAMS, TOKENS = (g.ravel() for g in np.meshgrid(np.logspace(7.5, 10.3, 8), np.logspace(9.3, 11.8, 8)))


@pytest.mark.parametrize(
    ("A", "B", "E", "alpha", "beta"),
    [  # science 11.4: as printed, and from the unrounded logarithms
        (406.4, 410.7, 1.69, 0.34, 0.28),
        (np.exp(6.0073), np.exp(6.0179), np.exp(0.5267), 0.33917, 0.28491),
    ],
)
def test_chinchilla_gives_back_the_reference(A, B, E, alpha, beta):
    loss = E + A / PARAMS**alpha + B / TOKENS**beta
    found = chinchilla(PARAMS, TOKENS, loss)
    np.testing.assert_allclose(found[:5], (A, B, E, alpha, beta), rtol=1e-6)
    assert found.objective < 1e-15 and 0.3 < found.converged <= 1


def test_chinchilla_heeds_no_outlier_and_no_missing_run():
    loss = 1.69 + 406.4 / PARAMS**0.34 + 410.7 / TOKENS**0.28
    loss[5], loss[9] = np.nan, 3 * loss[9]  # one run of 63 is far off: Huber's loss is L1 there
    found = chinchilla(PARAMS, TOKENS, loss)
    np.testing.assert_allclose(found[:5], (406.4, 410.7, 1.69, 0.34, 0.28), rtol=2e-2)


def test_irreducible_loss_in_the_convention_of_the_toy():
    scale = np.logspace(6, 10, 12)
    found = irreducible(scale, scaling.cross_entropy(scale, c=1e8, alpha=-0.3, irreducible=1.7))
    np.testing.assert_allclose(found[:3], (1.7, 1e8, -0.3), rtol=1e-5)
    assert found.converged > 0.5


def test_log_log_is_scipys_line():
    rng = np.random.default_rng(0)
    scale = np.logspace(6, 10, 9)
    loss = 3 * scale**-0.2 * np.exp(rng.normal(size=9) * 0.01)
    found, line = log_log(scale, loss), stats.linregress(np.log10(scale), np.log10(loss))
    np.testing.assert_allclose(found, (line.slope, line.intercept, line.stderr, line.intercept_stderr, 9), rtol=1e-10)
    assert abs(found.slope + 0.2) <= alarms.sigmas() * 0.01 / np.log(10) / (np.log10(scale).std() * 3)
    two = log_log([1e6, 1e8], [2.0, 1.0])
    assert two.slope == pytest.approx(-np.log10(2) / 2) and np.isnan(two.slope_se)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_log([1.0, 2.0], [1.0]), r"scale, loss must be vectors of one length, got \[\(2,\), \(1,\)\]"),
        (lambda: log_log([1.0, 0.0], [1.0, 1.0]), "scale must be positive and finite, got 0.0"),
        (lambda: log_log([1.0, 2.0], [1.0, -1.0]), "loss must be positive and finite, got -1.0"),
        (lambda: log_log([2.0, 2.0], [1.0, 1.0]), "at least 2 different scales, got 1"),
        (lambda: irreducible([1e6, 1e7], [2.0, 1.0]), "3 parameters needs as many points, got 2"),
        (lambda: irreducible([1e6, 1e7, 1e8], [3.0, 2.0, 1.0], delta=0.0), "delta must be positive, got 0.0"),
        (lambda: chinchilla(PARAMS[:4], TOKENS[:4], TOKENS[:4]), "5 parameters needs as many points, got 4"),
        (lambda: chinchilla(PARAMS[:4], TOKENS[:5], TOKENS[:5]), "params, tokens, loss must be vectors"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()

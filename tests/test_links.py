"""Links: closed forms against scipy 1.17.1 and the laws of sims, and what a fit does with curves that follow a link exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mirage_jax.decide import links, rule
from mirage_jax.decide.links import LENGTHS, LINKS, fit_links
from sims.processes import counts_law

P = np.linspace(0.3, 0.95, 12)
MOST = 64


@pytest.fixture(autouse=True, scope="module")
def double():
    with jax.enable_x64(True):
        yield


def fitted(rate, *, p=P, n=1000.0, spread=np.nan, length=8.0, chance=0.0, tokens=True, real=12):
    """The link of one pair of curves of 12 scales, `real` of them real."""
    here = np.arange(12) < real
    rows = [np.broadcast_to(np.asarray(v, float), 12) for v in (p, rate, np.where(here, n, 0), spread)]
    given = [np.tile(row, (rule.CHUNK, 1)) for row in (*rows, here)]
    given += [np.full(rule.CHUNK, v) for v in (length, chance)] + [np.full(rule.CHUNK, tokens)]
    found = fit_links(*given, batch=rule.BATCH, most=MOST)
    return {name: np.asarray(value)[0] for name, value in found._asdict().items()}


def q_of(family, parameter, length, p=P):
    """The closed forms, by another road where there is one."""
    if family == "power":
        return p**parameter
    if family == "markov":
        return counts_law("markov", length, 1 - p, np.full(p.shape, parameter))[..., 0]
    mass = 1 / parameter - 1
    return stats.betabinom.pmf(length, length, p * mass, (1 - p) * mass)


@pytest.mark.parametrize("length", [1, 2, 5, 20])
def test_independent_tokens_are_p_to_the_length_in_every_family(length):
    at_kappa = np.log(length / 0.3) / np.log(2 * length / 0.3)  # kappa = L
    for family, t in ((0, at_kappa), (1, 0.0), (2, 0.0)):
        q = links._rates(jnp.asarray(P), jnp.array(float(length)), MOST, jnp.array(t), family)
        np.testing.assert_allclose(q, P**length, rtol=1e-12)


@pytest.mark.parametrize("length", [2, 5, 20])
@pytest.mark.parametrize("parameter", [0.1, 0.5, 0.9])
def test_families_are_their_laws(length, parameter):
    for family in (1, 2):
        q = links._rates(jnp.asarray(P), jnp.array(float(length)), MOST, jnp.array(parameter / 0.999), family)
        np.testing.assert_allclose(q, q_of(LINKS[family], parameter, length), rtol=1e-9)


def test_kappa_runs_from_0_3_to_twice_the_length():
    assert [float(links._kappa(jnp.array(t), jnp.array(8.0))) for t in (0, 1)] == pytest.approx([0.3, 16])


@pytest.mark.parametrize(("k", "q"), [(0, 0.1), (3, 0.1), (500, 0.5), (1000, 0.999), (1000, 0.5)])
def test_deviance_is_twice_the_log_likelihood_ratio(k, q):
    expected = 2 * (stats.binom.logpmf(k, 1000, k / 1000) - stats.binom.logpmf(k, 1000, q))
    given = [jnp.asarray(v) for v in (k / 1000, 1000.0, q)]
    assert float(links.deviance(*given, 1.0)) == pytest.approx(expected, abs=1e-8)
    assert float(links.deviance(*given, 4.0)) == pytest.approx(expected / 4, abs=1e-8)


@pytest.mark.parametrize("chance", [0.0, 0.25])
@pytest.mark.parametrize(("family", "parameter"), [("power", 5.5), ("markov", 0.6), ("beta_binomial", 0.3)])
def test_a_curve_that_follows_a_link_gives_its_parameter(family, parameter, chance):
    q = chance + (1 - chance) * q_of(family, parameter, 8)
    found = fitted(q, chance=chance)
    assert LINKS[int(found["family"])] == family
    assert found["parameter"] == pytest.approx(parameter, rel=1e-3)
    np.testing.assert_allclose(found["predicted"], q, atol=1e-4)
    assert found["deviance"] == pytest.approx(0, abs=1e-3)
    assert found["freedom"] == (1000 * found["predicted"] > 1).sum() - 1
    assert found["length"] == 8


def test_a_curve_that_no_link_gives_is_refused():
    """p^8 up to the middle, then p: the tokens of an answer suddenly go right together."""
    found = fitted(np.where(np.arange(12) < 6, P**8, P))
    assert found["p"] < 1e-12
    assert found["p"] == pytest.approx(stats.chi2.sf(found["deviance"], found["freedom"]), rel=1e-6)


def test_unknown_length_is_one_of_those_tried_and_costs_a_degree_of_freedom():
    q = q_of("markov", 0.7, 12)
    known, unknown = fitted(q, length=12.0), fitted(q, length=np.nan)
    assert unknown["length"] in LENGTHS
    assert unknown["freedom"] == known["freedom"] - 1
    assert unknown["p"] > 0.9


def test_a_link_is_believed_to_one_percent_only():
    """At 10^8 items a curve 0.5% off the link would be refused by its counts alone."""
    q = np.minimum(P**8 * 1.005, 1)
    assert fitted(q, n=1e8)["p"] > 0.5
    assert fitted(np.minimum(P**8 * 1.1, 1) + 0.05 * (np.arange(12) % 2), n=1e8)["p"] < 1e-6


def test_a_score_with_a_standard_error_is_judged_by_it():
    off = P**8 + 0.03 * (-1.0) ** np.arange(12)
    assert fitted(off, spread=0.1)["p"] > 0.9
    assert fitted(off, spread=0.005)["p"] < 1e-6
    assert fitted(off)["p"] != fitted(off, spread=0.1)["p"]


@pytest.mark.parametrize(("a", "b"), [(-0.5, 1.3), (0.3, 0.4), (-1.0, 2.0)])
def test_probit_gives_its_parameters(a, b):
    q = special.ndtr(a + b * special.ndtri(P))
    found = fitted(q, tokens=False, length=np.nan)
    assert LINKS[int(found["family"])] == "probit"
    assert found["parameter"] == pytest.approx(b, abs=1e-6)
    np.testing.assert_allclose(found["predicted"], q, atol=1e-8)
    assert found["freedom"] == 12 - 2
    assert found["deviance"] == pytest.approx(0, abs=1e-8)


def test_probit_goes_by_the_guesses():
    q = 0.25 + 0.75 * special.ndtr(-0.5 + 1.3 * special.ndtri(P))
    found = fitted(q, tokens=False, length=np.nan, chance=0.25)
    np.testing.assert_allclose(found["predicted"], q, atol=1e-6)
    assert found["parameter"] == pytest.approx(1.3, abs=1e-4)
    assert found["p"] > 0.99


def test_probit_is_monotone():
    """A sharp metric that falls where the linear one rises is fitted by a constant, and refused."""
    found = fitted(0.8 - 0.5 * P, tokens=False, length=np.nan)
    assert found["parameter"] == pytest.approx(0, abs=1e-9)
    assert np.ptp(found["predicted"]) < 1e-6
    assert found["p"] < 1e-6


def test_probit_is_the_most_likely_of_all():
    draw = np.random.default_rng(0)
    k = draw.binomial(300, special.ndtr(-0.2 + 0.9 * special.ndtri(P)))
    found = fitted(k / 300, n=300.0, tokens=False, length=np.nan)

    def log_likelihood(q):
        return stats.binom.logpmf(k, 300, q).sum()

    best = log_likelihood(found["predicted"])
    eta, z = special.ndtri(found["predicted"]), special.ndtri(P)
    for a, b in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)):
        assert log_likelihood(special.ndtr(eta + a + b * z)) < best


def test_a_perfect_fit_has_a_p_value_of_1():
    for rate, tokens in ((special.ndtr(-0.5 + 1.3 * special.ndtri(P)), False), (np.ones(12), True)):
        found = fitted(rate, p=P if not tokens else np.ones(12), tokens=tokens, length=8.0)
        assert found["deviance"] >= 0 and found["p"] > 0.99


def test_what_lies_beyond_the_real_scales_is_not_read():
    rate = P**8
    plain = fitted(rate, real=7)
    junk = np.arange(12) >= 7
    other = fitted(np.where(junk, 0.1, rate), p=np.where(junk, 0.9, P), real=7)
    for name, value in plain.items():
        cut = slice(0, 7) if name == "predicted" else slice(None)
        np.testing.assert_array_equal(np.atleast_1d(value)[cut], np.atleast_1d(other[name])[cut], err_msg=name)


def test_scales_without_expected_successes_are_no_degrees_of_freedom():
    p = np.r_[np.full(6, 0.05), np.linspace(0.5, 0.95, 6)]
    found = fitted(p**8, p=p)
    assert found["freedom"] == (1000 * p**8 > 1).sum() - 1 == 5

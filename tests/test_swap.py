import numpy as np
import pytest
from scipy import stats

from mirage_jax import metric_swap
from sims.processes import counts_law

P = np.linspace(0.3, 0.97, 9)
N = 4000


@pytest.mark.parametrize("length", [3, 10])
def test_independent_tokens_are_predicted_by_p_to_the_length(length):
    found = metric_swap(P, P**length, N, length=length)
    np.testing.assert_allclose(found.independent, P**length)
    assert found.p > 0.9 and found.p_independent > 0.9
    np.testing.assert_allclose(found.predicted, P**length, atol=2e-4)
    big = N * P**length > 100
    np.testing.assert_allclose(found.independence_ratio[big], 1, atol=0.01)
    assert np.all(
        (found.independence_low <= found.independence_ratio) & (found.independence_ratio <= found.independence_high)
    )


@pytest.mark.parametrize(
    ("process", "strength", "link"), [("markov", 0.6, "markov"), ("beta_mixed", 0.2, "beta_binomial")]
)
def test_dependent_tokens_are_predicted_by_their_own_link(process, strength, link):
    exact = counts_law(process, 8, 1 - P, np.full_like(P, strength))[..., 0]
    found = metric_swap(P, exact, 10**6, length=8)
    assert found.link == link
    assert found.parameter == pytest.approx(strength, abs=2e-3)
    np.testing.assert_allclose(found.predicted, exact, atol=2e-4)
    assert found.p > 0.01 > found.p_independent
    assert np.all(found.independence_ratio[:-1] > 1)


def test_a_jump_of_dependence_is_no_consequence_of_the_rate():
    tied = np.where(np.arange(9) > 4, 0.92, 0.0)
    exact = counts_law("markov", 8, 1 - P, tied)[..., 0]
    assert metric_swap(P, exact, 1000, length=8).p < 1e-6


def test_guesses_and_unknown_lengths():
    exact = 0.25 + 0.75 * P**5
    told = metric_swap(P, exact, 10**5, length=5, chance=0.25)
    np.testing.assert_allclose(told.predicted, exact, atol=1e-4)
    blind = metric_swap(P, P**5, 10**5)
    assert np.isnan(blind.p_independent) and np.isnan(blind.independence_ratio).all()
    np.testing.assert_allclose(blind.predicted, P**5, atol=1e-4)


def test_choices_take_a_probit_relation():
    exact = stats.norm.cdf(0.5 + 1.7 * stats.norm.ppf(P))
    found = metric_swap(P, exact, 10**6, tokens=False)
    assert found.link == "probit" and found.parameter == pytest.approx(1.7, abs=0.01)
    np.testing.assert_allclose(found.predicted, exact, atol=1e-3)


@pytest.mark.parametrize(
    ("linear", "sharp", "n", "options", "message"),
    [
        ([0.1, 0.2], [0.1, 0.2], 10, {}, "at least 3"),
        ([0.1, 0.2, 0.3], [0.1, 0.2], 10, {}, "one length"),
        ([0.1, 0.2, 1.3], [0.1, 0.2, 0.3], 10, {}, r"\[0, 1\]"),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], 0, {}, "n >= 1"),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], 10, {"length": 0.5}, "length >= 1"),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], 10, {"chance": 1.0}, "chance"),
    ],
)
def test_bad_input(linear, sharp, n, options, message):
    with pytest.raises(ValueError, match=message):
        metric_swap(linear, sharp, n, **options)

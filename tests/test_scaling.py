"""The toy model's laws: the table of science 1.3, and identities."""

import math

import alarms
import numpy as np
import pytest

from mirage_jax import scaling

TABLE = np.array(
    [  # science 1.3: N, CE, p, p^2, p^3, p^4, p^5, edit distance at L=5, (1-p)^2
        [3.5e8, 0.6867, 0.5032, 0.2532, 0.1274, 0.0641, 0.0323, 2.4839, 0.2468],
        [1.3e9, 0.4633, 0.6292, 0.3959, 0.2491, 0.1568, 0.0986, 1.8538, 0.1375],
        [6.7e9, 0.2833, 0.7533, 0.5675, 0.4275, 0.3221, 0.2426, 1.2334, 0.0608],
        [1.75e11, 0.1064, 0.8990, 0.8083, 0.7267, 0.6533, 0.5873, 0.5048, 0.0102],
    ]
)


def test_toy_table():
    loss = scaling.cross_entropy(TABLE[:, 0])
    p = scaling.token_success(loss)
    found = [
        loss,
        p,
        *(scaling.exact_match(p, L) for L in (2, 3, 4, 5)),
        scaling.token_edit_distance(p, 5),
        scaling.brier_target(p),
    ]
    np.testing.assert_allclose(np.stack(found, 1), TABLE[:, 1:], atol=5.001e-5)  # four digits


def test_edit_distance_is_affine_in_p_and_exact_match_geometric_in_length():
    p = scaling.token_success(scaling.cross_entropy(np.logspace(7, 12, 20)))
    np.testing.assert_allclose(scaling.token_edit_distance(p, 5) + 5 * p, 5, rtol=1e-15)
    np.testing.assert_allclose(np.log(scaling.exact_match(p, 5)) / np.log(p), 5, rtol=1e-12)
    np.testing.assert_array_equal(scaling.token_accuracy(p, 5), p)


def test_irreducible_loss_and_vocabulary():
    assert scaling.cross_entropy(1e8, irreducible=0.5) == 1.5
    assert scaling.token_success(np.inf, vocabulary=10) == pytest.approx(0.1)  # a floor of 1/V
    assert scaling.token_success(0.0, vocabulary=10) == 1
    assert scaling.token_success(math.log(2), vocabulary=2) == pytest.approx(0.75)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.999999, 1.0])
def test_prefix_match_is_a_mean_of_powers(p):
    assert scaling.prefix_match(p, 5) == pytest.approx(sum(p**i for i in range(1, 6)) / 5, rel=1e-9)


def test_two_option_grades():
    p = np.array([0.1, 0.49, 0.5, 0.9])
    np.testing.assert_array_equal(scaling.multiple_choice_grade(p), [0, 0, 1, 1])  # one step at 1/2
    spread = scaling.multiple_choice_grade(p, spread=1.0)
    assert spread[2] == 0.5 and (np.diff(spread) > 0).all()
    np.testing.assert_allclose(scaling.brier_target(p), (1 - p) ** 2, rtol=1e-12)
    rng = np.random.default_rng(0)
    margin = math.log(0.7 / 0.3) + rng.normal(size=200_000)
    shortfall = (1 - 1 / (1 + np.exp(-margin))) ** 2
    for law, sample in (
        (scaling.brier_target(0.7, 1.0), shortfall),
        (scaling.multiple_choice_grade(0.7, 1.0), margin > 0),
    ):
        assert abs(float(law) - sample.mean()) <= alarms.sigmas() * sample.std() / math.sqrt(sample.size)


def test_resolution_and_flops():
    np.testing.assert_allclose(scaling.round_to_resolution(np.array([0.004, 0.006, 0.5]), 100), [0, 0.01, 0.5])
    assert scaling.round_to_resolution(scaling.exact_match(0.3, 5), 100) == 0  # the smallest models print 0
    assert scaling.training_flops(1e9, 2e10) == 1.2e20


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scaling.cross_entropy(1e9, alpha=0.3), "alpha must be negative, got 0.3"),
        (lambda: scaling.cross_entropy(1e9, c=0.0), "c must be positive, got 0.0"),
        (lambda: scaling.cross_entropy(1e9, irreducible=-1.0), "irreducible loss must be >= 0, got -1.0"),
        (lambda: scaling.token_success(1.0, vocabulary=0), "vocabulary must be >= 1, got 0"),
        (lambda: scaling.multiple_choice_grade(0.5, -1.0), "spread must be >= 0, got -1.0"),
        (lambda: scaling.brier_target(0.5, -1.0), "spread must be >= 0, got -1.0"),
        (lambda: scaling.round_to_resolution(0.5, 0), "n must be >= 1, got 0"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""The emergence score: published vectors, every degenerate case, and what it must not see."""

import inspect
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mirage_jax import emergence
from mirage_jax.scaling import cross_entropy, token_success


def on_arrays(function):
    """The annotations ask for arrays (jaxtyping's ArrayLike holds no lists): the tests write lists."""

    def call(*args, **options):
        options = {k: np.array(v) if isinstance(v, list) else v for k, v in options.items()}
        return function(*(np.array(a, float) for a in args), **options)

    return call


emergence_score, linearity, rank_correlation = map(
    on_arrays, (emergence.emergence_score, emergence.linearity, emergence.rank_correlation)
)
SPIKE = [0.0, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("scores", "score", "line"),
    [  # science 4.1
        ([0, 1, 2, 3, 4], 4, 4),
        ([0.1, 0.11, 0.12, 0.13, 0.9], 80, 2.0774),
        ([0.9, 0.13, 0.12, 0.11, 0.1], -80, -2.0774),
        ([0.5, 0.5, 0.5], 0, 0),
        (SPIKE, math.inf, 2.0),
        ([0.5, 0.9, 0.1], -0.8 / math.sqrt((0.16 + 0.64) / 2), -0.8 / math.sqrt((0.16 + 0.64) / 2)),  # two steps
    ],
)
def test_vectors(scores, score, line):
    assert emergence_score(scores) == pytest.approx(score, rel=1e-9)
    assert linearity(scores) == pytest.approx(line, abs=5e-5)


def test_toy_model_over_eight_sizes():
    p = token_success(cross_entropy(np.logspace(7, 12, 8)))  # science 4.3, two digits there
    found = [
        emergence_score(p),
        emergence_score(5 * (1 - p), direction="lower"),
        emergence_score(p**5),
        emergence_score(p**10),
    ]
    assert found == pytest.approx([6.54, 6.54, 5.49, 10.26], abs=0.005)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, math.inf),
        ({"zero_median": "inf"}, math.inf),
        ({"zero_median": "clip"}, 100),
        ({"zero_median": "clip", "clip": 7.0}, 7),
        ({"n": 100}, 1 / math.sqrt(2 * 0.2 * 0.8 / 100)),
        ({"n": [100, 100, 25, 100, 100]}, 1 / math.sqrt(2 * 0.2 * 0.8 / 25)),
        ({"se": [0.1, 0.1, 0.2, 0.3, 0.4]}, 1 / (math.sqrt(2) * 0.2)),
        ({"n": 100, "zero_median": "inf"}, math.inf),
        ({"n": 100, "normalise": "n"}, 1 / math.sqrt(2 * 0.2 * 0.8 / 100) / 5),
        ({"n": 100, "normalise": "sqrt_n"}, 1 / math.sqrt(2 * 0.2 * 0.8 / 100) / math.sqrt(5)),
        ({"zero_median": "drop"}, math.nan),
    ],
)
def test_a_zero_median_has_a_policy(options, expected):
    assert emergence_score(SPIKE, **options) == pytest.approx(expected, nan_ok=True)
    assert emergence_score(SPIKE[::-1], **options) == pytest.approx(-expected, nan_ok=True)


def test_the_floor_leaves_a_larger_step_alone():
    assert emergence_score([0, 0.25, 0.5, 0.75, 1], n=10_000) == pytest.approx(4)


@pytest.mark.parametrize("function", [emergence_score, linearity, rank_correlation])
@pytest.mark.parametrize("scores", [[], [1.0], [0.0, 1.0], [0.0, math.nan, 1.0]])
def test_fewer_than_three_scales_is_nan(function, scores):
    assert math.isnan(function(np.array(scores, float)))


def test_flat_is_zero_and_has_no_rank_correlation():
    for options in ({}, {"n": 10}, {"zero_median": "drop"}, {"zero_median": "inf"}):
        assert emergence_score([0.5] * 4, **options) == 0
    assert math.isnan(rank_correlation([0.5] * 4))


def test_of_equal_extremes_the_first_counts():
    assert emergence_score([1, 0, 1, 0]) == -1  # first greatest at 0, first least at 1
    assert emergence_score([0, 1, 0, 1]) == 1


def test_equal_scales_are_averaged_and_order_does_not_matter():
    assert emergence_score([3, 0, 2, 1, 0], [4, 1, 3, 2, 1]) == pytest.approx(3)
    assert emergence_score([0, 1, 3, 2, 3], [1, 2, 3, 3, 4]) == pytest.approx(emergence_score([0, 1, 2.5, 3]))


def test_missing_scores_are_dropped():
    assert emergence_score([0, 0.25, math.nan, 0.5, 0.75], n=[900, 900, 1, 900, 900]) == pytest.approx(3)
    assert linearity([0, 1, math.nan, 2, 3], [1, 2, 3, 4, 5]) == pytest.approx(3)


def test_lower_is_better_negates_first():
    scores = [0.9, 0.8, 0.4, 0.1]
    for function in (emergence_score, linearity, rank_correlation):
        assert function(scores, direction="lower") == pytest.approx(-function(scores))
    assert emergence_score(scores, direction="lower") > 0


def test_rank_correlation_by_hand():
    assert rank_correlation([0.5, 0.9, 0.1]) == pytest.approx(-0.5)  # 1 - 6 (1 + 1 + 4) / (3 * 8)
    assert rank_correlation([0, 1, 8, 27], [1, 2, 3, 9]) == pytest.approx(1)


curves = st.lists(st.integers(-50, 50), min_size=3, max_size=12)


@given(curves, st.integers(1, 64), st.integers(-100, 100))
def test_an_affine_rescale_changes_nothing(scores, slope, shift):
    y = np.array(scores, float)
    for function in (emergence_score, linearity):
        assert function(slope * y + shift) == pytest.approx(function(y), rel=1e-9)


@given(curves)
def test_negation_flips_the_sign(scores):
    y = np.array(scores, float)
    assume(np.ptp(y) > 0)
    # argmax and argmin swap places; ties keep the first of each
    assert emergence_score(-y) == -emergence_score(y)
    assert linearity(-y) == -linearity(y)
    assert abs(linearity(y)) <= (y.size - 1) * (1 + 1e-12)


@given(curves, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(scores, random):
    order = list(range(len(scores)))
    random.shuffle(order)
    y = np.array(scores, float)
    assert emergence_score(y[order], np.array(order, float)) == emergence_score(y)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (([0, 1, 2], [1, 2]), {}, r"vectors of one length, got \(3,\) and \(2,\)"),
        (([[0, 1, 2]],), {}, "vectors of one length"),
        (([0, 1, math.inf],), {}, "scores must be finite or NaN, scales finite"),
        (([0, 1, 2], [1, 2, math.nan]), {}, "scales finite"),
        (([0, 1, 2],), {"n": 10}, r"success rates in \[0, 1\]"),
        (([0, 0.5, 1],), {"n": 0}, "n >= 1"),
        (([0, 0.5, 1],), {"n": 10, "se": 0.1}, "not both"),
        (([0, 0.5, 1],), {"se": -0.1}, "se must be >= 0"),
        (([0, 0.5, 1],), {"se": math.nan}, "se must be >= 0"),
        (([0, 0.5, 1],), {"zero_median": "none"}, "zero_median must be floor, inf, clip or drop, got 'none'"),
        (([0, 0.5, 1],), {"normalise": "M"}, "normalise must be none, n or sqrt_n, got 'M'"),
        (([0, 0.5, 1],), {"direction": "up"}, "direction must be higher or lower, got 'up'"),
    ],
)
def test_refusals(args, options, message):
    plain = inspect.unwrap(emergence.emergence_score)  # past the type hook of the tests
    with pytest.raises(ValueError, match=message):
        plain(*map(np.array, args), **options)

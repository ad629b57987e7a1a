"""The emergence score: published vectors, every degenerate case, and what it must not see."""

import inspect
import math

import numpy as np
import pytest
from alarms import counts
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from mirage_jax import emergence
from mirage_jax.emergence import emergence_scores, linearities, rank_correlations, score_interval
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


def padded(rows):
    width = max(map(len, rows), default=0)
    return np.array([[*row, *[math.nan] * (width - len(row))] for row in rows], float).reshape(len(rows), width)


def test_vectors_side_by_side():
    rows = [[0, 1, 2, 3, 4], [0.1, 0.11, 0.12, 0.13, 0.9], [0.5] * 3, SPIKE, [0.5, 0.9, 0.1], [0, 1], [], [2, 0, 1]]
    two = -0.8 / math.sqrt((0.16 + 0.64) / 2)
    assert emergence_scores(padded(rows)) == pytest.approx(
        [4, 80, 0, math.inf, two, math.nan, math.nan, -2 / math.sqrt(2.5)], nan_ok=True
    )
    lines = [4, 2.0774, 0, 2, two, math.nan, math.nan, -2 / math.sqrt(2.5)]
    assert linearities(padded(rows)) == pytest.approx(lines, abs=5e-5, nan_ok=True)
    ranks = [1, 1, math.nan, 0.5**0.5, -0.5, math.nan, math.nan, -0.5]
    assert rank_correlations(padded(rows)) == pytest.approx(ranks, nan_ok=True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, math.inf),
        ({"zero_median": "clip"}, 100),
        ({"zero_median": "clip", "clip": 7.0}, 7),
        ({"zero_median": "drop"}, math.nan),
        ({"n": 100}, 1 / math.sqrt(2 * 0.2 * 0.8 / 100)),
        ({"n": np.array([100, 100, 25, 100, 100])}, 1 / math.sqrt(2 * 0.2 * 0.8 / 25)),
        ({"n": np.array([[100], [100]])}, 1 / math.sqrt(2 * 0.2 * 0.8 / 100)),
        ({"n": 100, "zero_median": "inf"}, math.inf),
        ({"se": np.array([0.1, 0.1, 0.2, 0.3, 0.4])}, 1 / (math.sqrt(2) * 0.2)),
        ({"n": 100, "normalise": "n"}, 1 / math.sqrt(2 * 0.2 * 0.8 / 100) / 5),
        ({"n": 100, "normalise": "sqrt_n"}, 1 / math.sqrt(2 * 0.2 * 0.8 / 100) / math.sqrt(5)),
    ],
)
def test_policies_side_by_side(options, expected):
    both = np.array([SPIKE, SPIKE[::-1]])
    assert emergence_scores(both, **options) == pytest.approx([expected, -expected], nan_ok=True)
    assert emergence_scores(both, direction="lower", **options) == pytest.approx([-expected, expected], nan_ok=True)


def test_no_curves_have_no_scores():
    for none in (np.empty((0, 5)), np.empty((0, 0))):
        for function in (emergence_scores, linearities, rank_correlations):
            assert function(none).shape == (0,)
        assert emergence_scores(none, 10).shape == score_interval(none, 10).low.shape == (0,)


def test_each_curve_has_its_own_items():
    curves = np.array([[*SPIKE, math.nan], [*SPIKE[:2], math.nan, *SPIKE[2:]]])
    items = np.array(
        [[100] * 5 + [0], [25, 25, math.nan, 25, 25, 25]]
    )  # what stands beside a missing score is not read
    assert emergence_scores(curves, items) == pytest.approx([1 / math.sqrt(0.32 / n) for n in (100, 25)])
    assert emergence_scores(curves, se=1 / items[:, :1]) == pytest.approx([100 / math.sqrt(2), 25 / math.sqrt(2)])


ragged = st.lists(st.lists(st.sampled_from([0, 1, 2, 3, 7, 20, math.nan]), max_size=9), min_size=1, max_size=5)


@given(ragged, st.sampled_from(["floor", "inf", "clip", "drop"]), st.sampled_from(["higher", "lower"]))
def test_many_curves_are_each_curve(rows, policy, direction):
    curves = padded(rows) / 20
    options = {"zero_median": policy, "direction": direction}
    for given_n in ({}, {"n": 20}, {"se": 0.1}):
        each = [emergence_score(np.array(y, float) / 20, **options, **given_n) for y in rows]
        assert emergence_scores(curves, **options, **given_n) == pytest.approx(each, nan_ok=True)
    for many, one in ((linearities, linearity), (rank_correlations, rank_correlation)):
        each = [one(np.array(y, float) / 20, direction=direction) for y in rows]
        assert many(curves, direction=direction) == pytest.approx(each, nan_ok=True, abs=1e-12)


@given(st.lists(st.integers(-5, 5), min_size=3, max_size=10).filter(lambda y: len(set(y)) > 1))
def test_rank_correlations_are_scipys(scores):
    law = stats.spearmanr(np.arange(len(scores)), scores).statistic
    assert rank_correlations(np.array([[*scores, math.nan]], float))[0] == pytest.approx(law)


@pytest.mark.parametrize(
    ("curves", "options", "message"),
    [
        ([0, 1, 2], {}, r"curves must be \[curves, scales\], got shape \(3,\)"),
        ([[0, 1, math.inf]], {}, "scores must be finite or NaN"),
        ([[0, 0.5, 1]], {"n": [10, 10]}, r"n must broadcast to the shape of the curves \(1, 3\), got \(2,\)"),
        ([[0, 0.5, 1]], {"n": [10, 10, 0]}, "n >= 1"),
        ([[0, 0.5, 1]], {"n": [10, 10, math.nan]}, "n >= 1"),
        ([[0, 0.5, 1.1]], {"n": 10}, r"success rates in \[0, 1\]"),
        ([[0, 0.5, 1]], {"se": [[0.1, 0.1, -0.1]]}, "se must be >= 0"),
        ([[0, 0.5, 1]], {"n": 10, "se": 0.1}, "not both"),
    ],
)
def test_refusals_of_many(curves, options, message):
    options = {k: np.array(v) for k, v in options.items()}
    with pytest.raises(ValueError, match=message):
        emergence_scores(np.array(curves), **options)


TRUTH = np.array([0.1, 0.2, 0.33, 0.5, 0.8, 0.85])


def test_intervals_draw_within_a_scale_only():
    equal = np.repeat(TRUTH[None, :, None], 4, axis=2)  # repeats that agree: nothing else is drawn again
    found = score_interval(equal)
    assert found.by[0] == "repeats"
    assert [found.low[0], found.high[0]] == pytest.approx([emergence_score(TRUTH)] * 2)
    two = np.array([[[0.0, 0.0], [0.1, 0.2], [1.0, 1.0]]])  # the middle scale is .1, .15 or .2
    found = score_interval(two, level=0.99)
    assert found.low[0] == pytest.approx(1 / math.sqrt((0.01 + 0.81) / 2))
    assert found.high[0] == pytest.approx(1 / math.sqrt((0.04 + 0.64) / 2))


def test_intervals_by_what_is_known():
    repeats = np.tile(TRUTH[:, None], (3, 1, 2))
    repeats[1, 2, 1] = math.nan  # one repeat there
    repeats[2, :4] = math.nan
    assert score_interval(repeats).by.tolist() == ["repeats", "", ""]
    assert score_interval(repeats, 50).by.tolist() == ["repeats", "items", ""]
    found = score_interval(repeats, se=0.02)
    assert found.by.tolist() == ["repeats", "errors", ""]
    assert np.isnan(found.low).tolist() == np.isnan(found.high).tolist() == [False, False, True]
    assert np.isnan(score_interval(repeats[:, :, 0]).low).all()


def test_a_curve_keeps_its_interval_in_any_company():
    curves = np.random.default_rng(0).binomial(40, TRUTH, size=(5, 6)) / 40
    together = score_interval(curves, 40, resamples=200)
    for i in (0, 4):
        alone = score_interval(curves[i : i + 1], 40, resamples=200)
        assert (alone.low[0], alone.high[0]) == (together.low[i], together.high[i])
    lower = score_interval(curves, 40, resamples=200, direction="lower")
    assert lower.low[0] < 0 < together.high[0]


def test_no_successes_are_no_certainty():
    found = score_interval(np.array([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]), 20)
    assert found.low[0] < 0 < found.high[0] and found.low[1] < found.high[1]


def test_intervals_cover(count):
    curves = count(3000)
    score = emergence_score(TRUTH, n=20_000)
    tests = np.random.default_rng(1).binomial(20_000, TRUTH, size=(curves, 6)) / 20_000
    found = score_interval(tests, 20_000, resamples=500)
    assert counts(np.sum((found.low <= score) & (score <= found.high)), curves, 0.93, 0.97)


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ([0, 0.5, 1], {}, r"scores must be \[curves, scales\] or \[curves, scales, repeats\], got shape \(3,\)"),
        ([[0, 0.5, 1]], {"level": 1.0}, "level must lie in"),
        ([[0, 0.5, 1]], {"resamples": 0}, "resamples be >= 1"),
        ([[0, 0.5, 1]], {"n": 10.5}, "n must be whole"),
        ([[0, 0.5, 1.5]], {"n": 10}, "success rates"),
        ([[0, 0.5, 1]], {"n": 10, "se": 0.1}, "not both"),
        ([[0, 0.5, math.inf]], {}, "finite or NaN"),
    ],
)
def test_refusals_of_intervals(scores, options, message):
    with pytest.raises(ValueError, match=message):
        score_interval(np.array(scores), **options)

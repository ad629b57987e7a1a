"""What the emergence score makes of noise: closed forms, the published quantiles, and p-values that are uniform."""

import inspect
import math

import numpy as np
import pytest
from alarms import counts
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mirage_jax import null
from mirage_jax.emergence import emergence_scores, rank_correlations
from mirage_jax.null import (
    benjamini_hochberg,
    constant_null,
    emergence_score_null,
    emergence_test,
    p_constant,
    p_smooth,
)

DRAWS = null.DRAWS


def families(seed: int, curves: int, items: tuple[int, int] = (20, 2000)):
    """Families of 3 to 12 models that do not improve, each at its own rate and test size."""
    draw = np.random.default_rng(seed)
    scales = draw.integers(3, 13, curves)
    n = np.rint(np.exp(draw.uniform(*np.log(items), curves))).astype(int)
    y = draw.binomial(n[:, None], draw.uniform(0.02, 0.98, curves)[:, None], size=(curves, 12)) / n[:, None]
    return np.where(np.arange(12) < scales[:, None], y, np.nan), n


@pytest.mark.parametrize(
    ("scales", "q95", "q99"),
    [(4, (4.0, 4.2), (6, 9)), (5, (3.6, 3.8), (5.7, 5.8)), (8, (5.0, 5.0), (8.0, 8.0)), (12, (5.4, 5.5), (7.6, 9))],
)
@pytest.mark.parametrize("n", [200, 1000])
def test_quantiles_at_chance(scales, n, q95, q99):
    found = emergence_score_null(np.full(scales, 0.25), n=n, zero_median="inf").quantile(np.array([0.95, 0.99]))
    for value, (low, high) in zip(found, (q95, q99), strict=True):  # science 4.3, within 10%
        assert 0.9 * low <= value <= 1.1 * high


def test_infinite_scores_at_chance():
    for n, share in ((50, 0.012), (1000, 0.001)):  # science 4.3, to the digits printed there
        infinite = np.isposinf(constant_null(4, n, 0.25, zero_median="inf", draws=50_000)).sum()
        assert counts(infinite, 50_000, share - 0.0005, share + 0.001)
    assert np.isfinite(constant_null(4, 50, 0.25)).all()


def test_the_floor_takes_the_tail_away():
    assert constant_null(8, 200, 0.25)[int(0.99 * DRAWS)] == pytest.approx(3.1, abs=0.1)
    assert constant_null(8, 200, 0.25, zero_median="inf")[int(0.99 * DRAWS)] == pytest.approx(8, rel=0.1)


def test_a_constant_null_is_kept_sorted_and_cannot_be_written():
    drawn = constant_null(5, 100, 0.3)
    assert drawn is constant_null(5, 100, 0.3)
    assert drawn.shape == (DRAWS,) and np.all(np.diff(drawn) >= 0)
    with pytest.raises(ValueError, match="read-only"):
        drawn[0] = 0
    assert not np.array_equal(drawn, constant_null(5, 100, 0.3, seed=1))
    assert np.array_equal(drawn, emergence_score_null(np.full(5, 0.3), n=100).scores)


def test_quantiles_and_p_values_of_draws_by_hand():
    drawn = null.EmergenceNull(np.array([-2.0, 0.0, 0.0, 1.0, math.inf]))
    assert drawn.quantile(np.array([0.2, 0.5, 0.8, 0.81, 1.0])).tolist() == [-2, 0, 1, math.inf, math.inf]
    p = drawn.p_value(np.array([-3, -2, 0, 1, 2, math.inf, math.nan]))
    assert p == pytest.approx(np.array([6, 6, 5, 3, 2, 2, math.nan]) / 6, nan_ok=True)


@pytest.mark.parametrize("base", [0.2, 0.8, 0.5, 0.05])
def test_three_models_of_one_item_by_hand(base):
    # 001 and 011 score sqrt 2, 010 scores 1, and their mirror images the negative; 000 and 111 score 0
    one = base * (1 - base) ** 2
    law = {math.sqrt(2): base * (1 - base), 1.0: base * (1 - base) + one}
    law |= {0.0: 1 - base * (1 - base) - base * one / (1 - base)}
    law |= {-1.0: 1 - base * (1 - base), -3.0: 1.0, 1.5: 0.0}
    for score, expected in law.items():
        p = p_constant(score, 3, 1, base)
        assert counts(np.rint(p * (1 + DRAWS) - 1), DRAWS, expected)


@pytest.mark.parametrize(
    ("scales", "n", "base"), [(3, 50, 0.1), (5, 200, 0.5), (8, 100, 0.25), (8, 60, 0.98), (12, 1000, 0.01)]
)
@pytest.mark.parametrize("policy", ["floor", "inf"])
def test_p_values_are_those_of_direct_simulation(scales, n, base, policy):
    draw = np.random.default_rng(3)
    direct = emergence_scores(draw.binomial(n, base, size=(50_000, scales)) / n, n, zero_median=policy)
    for share in (0.2, 0.05, 0.02):
        score = np.quantile(direct, 1 - share, method="inverted_cdf")
        if np.isfinite(score) and score > 0:
            p = p_constant(score, scales, n, base, zero_median=policy)
            assert counts(np.sum(direct >= score - 1e-9), direct.size, 0.85 * p, min(1.15 * p, 1))


def test_gaussian_scores_by_the_studentised_range():
    # the denominator is at least sqrt 2 standard errors, so P(E >= e) <= P(range >= sqrt 2 e) / 2; half are above 0
    for scales, least in ((4, 0.2), (12, 0.6)):
        assert counts(np.rint(p_constant(1e-6, scales, None) * (1 + 2 * DRAWS) - 1), 2 * DRAWS, 0.5)
        bound = stats.studentized_range.sf(math.sqrt(2) * 2.5, scales, np.inf) / 2
        at_or_above = np.rint(p_constant(2.5, scales, None) * (1 + 2 * DRAWS) - 1)
        assert counts(at_or_above, 2 * DRAWS, least * bound, bound)
    many = p_constant(np.array([1.0, 2, 3]), 6, 10**9, 0.3)
    assert many == pytest.approx(p_constant(np.array([1.0, 2, 3]), 6, None), rel=1e-12)


@pytest.mark.parametrize("policy", ["floor", "inf"])
def test_p_values_are_uniform_where_nothing_improves(policy):
    y, n = families(5, 6000)
    found = emergence_test(y, n[:, None], zero_median=policy)
    for level in (0.5, 0.2, 0.05, 0.01):
        # scores that tie make fewer small p-values, interpolation a few more or less
        assert counts(np.sum(found.p <= level), len(y), (0.9 if policy == "floor" else 0.6) * level, 1.1 * level)


def test_few_items_are_never_called_too_often():
    y, n = families(6, 4000, items=(2, 30))
    p = emergence_test(y[:, :6], n[:, None]).p
    for level in (0.05, 0.01):
        assert counts(np.sum(p <= level), len(y), 0, 1.2 * level)


def test_chance_and_its_complement_are_mirror_images():
    y, n = families(7, 300, items=(15, 500))
    ours, mirrored = emergence_test(y, n[:, None]), emergence_test(1 - y, n[:, None], direction="lower")
    assert ours.score == pytest.approx(mirrored.score)
    assert ours.p == pytest.approx(mirrored.p, rel=1e-9)
    # the same base from both sides: few successes tie, and of equal extremes the first counts
    assert p_constant(2.0, 8, 100, 0.01) > 1.5 * p_constant(2.0, 8, 100, 0.99)
    even = p_constant(np.array([0.5, 2.0, 3.0]), 8, 1000, np.array([[0.3], [0.7]]))
    assert even[0] == pytest.approx(even[1], rel=0.15)


@pytest.mark.parametrize("policy", ["floor", "inf"])
def test_a_higher_score_never_has_a_higher_p_value(policy):
    scores = np.append(np.linspace(-8, 12, 401), math.inf)
    for n, base in ((2, 0.4), (30, 0.02), (30, 0.3), (100, 0.9), (10_000, 0.5), (None, 0.5)):
        p = p_constant(scores, 7, n, base, zero_median=policy)
        assert np.all(np.diff(p) <= 1e-15) and p.min() > 0 and p.max() <= 1
    assert p_constant(math.inf, 7, 100, 0.5) == pytest.approx(1 / (1 + DRAWS), rel=2)


def test_no_p_value_from_nothing():
    assert np.isnan(
        p_constant(np.array([math.nan, 1.0, 1.0]), np.array([5, 2, 5]), 10, np.array([0.5, 0.5, math.nan]))
    ).all()
    assert p_constant(np.array([0.0, 1.0]), 5, 10, np.array([[0.0], [1.0]])) == pytest.approx(
        np.array([[1, 1 / (1 + DRAWS)]] * 2)
    )
    assert emergence_test(np.empty((0, 4)), 10).p.shape == benjamini_hochberg(np.empty(0)).shape == (0,)
    found = emergence_test(np.array([[0.5, math.nan, 0.6], [0.5, 0.5, 0.5]]), 10)
    assert np.isnan(found.p[0]) and found.p[1] > 0.4 and np.isnan(found.rank_correlation).all()


def test_a_curve_keeps_its_p_value_in_any_company():
    y, n = families(8, 200)
    together = emergence_test(y, n[:, None])
    null._rare_curves.cache_clear(), null._common_scores.cache_clear()
    alone = [emergence_test(y[i : i + 1], n[i]).p[0] for i in (0, 57, 199)]
    assert alone == pytest.approx(together.p[[0, 57, 199]], rel=1e-12)
    assert np.array_equal(together.rank_correlation, rank_correlations(y), equal_nan=True)


def test_without_items_and_errors_there_is_no_floor():
    y = np.random.default_rng(9).normal(size=(2000, 6))
    bare, known = emergence_test(y), emergence_test(y, se=1.0)
    assert np.array_equal(bare.score, emergence_scores(y, zero_median="inf"))
    assert np.array_equal(known.score, emergence_scores(y, se=1.0))
    for found in (bare, known):
        assert counts(np.sum(found.p <= 0.1), len(y), 0.09, 0.11)


def test_p_values_against_a_smooth_curve_are_uniform_if_it_is_the_truth(count):
    curves = count(3000)
    truth = np.array([0.05, 0.1, 0.22, 0.45, 0.7, 0.85, math.nan])
    y = np.random.default_rng(10).binomial(150, np.nan_to_num(truth), size=(curves, 7)) / 150
    y[:, -1] = math.nan
    score = emergence_scores(y, 150)
    p = p_smooth(score, np.tile(truth, (curves, 1)), n=150, draws=1000)
    for level in (0.5, 0.1):
        assert counts(np.sum(p <= level), curves, 0.85 * level, 1.15 * level)
    assert np.all(p_constant(score, 6, 150, np.nanmean(y, axis=1)) < 0.02)  # it is no constant
    again = p_smooth(score[3:4], truth[None], n=150, draws=1000)
    assert again[0] == p[3]


def test_smooth_curves_of_other_scores():
    truth = np.array([[1.0, 2.0, 2.5, 4.0], [math.nan, 2.0, math.nan, 3.0]])
    p = p_smooth(np.array([2.0, 2.0]), truth, se=0.5, draws=500)
    direct = emergence_score_null(truth[0], se=0.5, draws=500)
    assert p[0] == direct.p_value(2.0) and np.isnan(p[1])
    exact = emergence_score_null(truth[0], se=0.0, draws=5)
    assert exact.scores == pytest.approx([3.0] * 5)  # range 3 over the median step 1


tests = st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12)


@given(tests)
def test_benjamini_hochberg_is_scipys(values):
    p = np.array(values, float)
    q = benjamini_hochberg(p)
    assert np.array_equal(np.isnan(q), np.isnan(p))
    if (~np.isnan(p)).any():
        assert q[~np.isnan(p)] == pytest.approx(stats.false_discovery_control(p[~np.isnan(p)]), rel=1e-12)


def test_benjamini_hochberg_by_hand():
    assert benjamini_hochberg(np.array([0.04, math.nan, 0.01, 0.03])) == pytest.approx(
        [0.04, math.nan, 0.03, 0.04], nan_ok=True
    )
    for wrong in ([0.1, 1.1], [-0.1], [[0.1]]):
        with pytest.raises(ValueError, match="p-values must be a vector"):
            benjamini_hochberg(np.array(wrong))


@pytest.mark.parametrize(
    ("function", "arguments", "options", "message"),
    [
        (p_constant, (1.0, 5, 10, 1.5), {}, "base in"),
        (p_constant, (1.0, 5, 0, 0.5), {}, "n >= 1"),
        (p_constant, (1.0, 5, 2.5, 0.5), {}, "whole n >= 1"),
        (p_constant, (1.0, 4.5, 10, 0.5), {}, "scales must be whole"),
        (p_constant, ([1.0, 2], [5, 5, 5], 10, 0.5), {}, "must broadcast"),
        (p_constant, (1.0, 5, 10, 0.5), {"zero_median": "clip"}, "zero_median floor or inf, got 'clip'"),
        (p_constant, (1.0, 5, 10, 0.5), {"draws": 0}, "draws must be >= 1"),
        (emergence_score_null, ([0.5, 0.5],), {"n": 5}, "3 scales"),
        (emergence_score_null, ([[0.5, 0.5, 0.5]],), {"n": 5}, r"means must be \[scales\]"),
        (emergence_score_null, ([0.5, 0.5, math.inf],), {"se": 1.0}, "finite"),
        (emergence_score_null, ([0.5, 0.5, 1.5],), {"n": 5}, r"rates in \[0, 1\]"),
        (emergence_score_null, ([0.5, 0.5, 0.5],), {"n": 5.5}, "whole n"),
        (emergence_score_null, ([0.5, 0.5, 0.5],), {"se": -1.0}, "se must be finite and >= 0"),
        (emergence_score_null, ([0.5, 0.5, 0.5],), {}, "give either n"),
        (emergence_score_null, ([0.5, 0.5, 0.5],), {"n": 5, "se": 1.0}, "give either n"),
        (p_smooth, ([1.0], [[0.5] * 3] * 2), {"n": 5}, r"got \(1,\) and \(2, 3\)"),
        (emergence_test, ([0.5] * 3,), {"n": 5}, "curves must be"),
    ],
)
def test_refusals(function, arguments, options, message):
    plain = inspect.unwrap(function)  # past the type hook of the tests
    with pytest.raises(ValueError, match=message):
        plain(*map(np.array, arguments), **options)


def test_refusals_of_quantiles():
    with pytest.raises(ValueError, match="level must lie in"):
        emergence_score_null(np.full(3, 0.5), n=5, draws=10).quantile(0.0)

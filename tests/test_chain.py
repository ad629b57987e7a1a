"""Correlations against scipy, scores by hand, and the loss of predictability where it was put."""

import math

import alarms
import jax
import numpy as np
import pytest
from scipy import stats  # scipy 1.17.1

from mirage_jax import Choices
from mirage_jax.chain import LINKS, chain

SCALE = np.geomspace(1e8, 1e11, 7)


def outcome(log_prob):
    """The right answer is the first option."""
    weight = np.zeros(log_prob.shape)
    weight[..., 0] = 1.0
    return Choices(log_prob, np.ones(log_prob.shape, dtype=bool), weight)


def family(rng, drift, items=400, models=SCALE.size):
    """Log p of the right answer rises steadily with log scale; the mass of the three wrong ones rises less and wanders."""
    t = np.linspace(0, 1, models)[:, None]
    base = rng.uniform(-12, -9, items)
    right = base + 2.5 * t + rng.normal(0, 0.1, (models, items))
    wrong = base[:, None] + 1.5 * t[..., None] + rng.normal(0, drift, (models, items, 3))
    return outcome(np.concatenate([right[..., None], wrong], -1))


def test_links_by_hand():
    log_prob = np.log(np.array([[[0.1, 0.3]], [[0.2, 0.2]], [[0.3, 0.1]]]))  # 3 models, 1 item, 2 options
    found = chain(outcome(log_prob), [1.0, 10.0, 100.0])
    p = np.array([0.25, 0.5, 0.75])  # among the options
    expected = [np.log([0.1, 0.2, 0.3]), [0.1, 0.2, 0.3], p, -2 * (1 - p) ** 2, [0, 1, 1]]
    np.testing.assert_allclose(found.score[:, :, 0], expected, rtol=1e-14)
    np.testing.assert_allclose(found.correlation[1:3, :, 0], 1.0)  # steps of .1 and .25 in equal steps of log scale
    # accuracy 0 1 1: pearson of (-1, 0, 1) with it sqrt(3)/2; tau-b 2 of 3 pairs untied, both concordant: 2 / sqrt(6)
    np.testing.assert_allclose(found.correlation[4, :, 0], [math.sqrt(3) / 2, math.sqrt(3) / 2, 2 / math.sqrt(6)])


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(1)
    scale = np.array([1e9, 1e8, 1e9, 3e9, 1e10, 1e11, 2e8])  # in any order, two of one size
    found = chain(family(rng, 1.0, items=30), scale)
    x = np.log(scale)
    for link in range(len(LINKS)):
        for item in range(30):
            y = found.score[link, :, item]
            if np.ptp(y) == 0:
                assert np.isnan(found.correlation[link, :, item]).all()
                continue
            expected = [f(x, y).statistic for f in (stats.pearsonr, stats.spearmanr, stats.kendalltau)]
            np.testing.assert_allclose(found.correlation[link, :, item], expected, atol=1e-9)


def test_summaries_are_what_they_say():
    found = chain(family(np.random.default_rng(2), 1.0), SCALE)
    for link in range(len(LINKS)):
        for way in range(3):
            r = found.correlation[link, way]
            assert found.undefined[link, way] == pytest.approx(np.isnan(r).mean())
            r = r[~np.isnan(r)]
            assert found.mean[link, way] == pytest.approx(r.mean())
            assert found.median[link, way] == pytest.approx(np.median(r))
            t = np.linspace(-1, 1, 20_001)
            above = 1 - np.searchsorted(np.sort(r), t, side="right") / r.size
            assert found.area[link, way] == pytest.approx(np.trapezoid(above, t), abs=1e-4)
            ends = [stats.wasserstein_distance(r, [end]) for end in (-1.0, 1.0)]
            assert found.nearness[link, way] == pytest.approx(-min(ends))


def test_items_that_never_change_are_undefined_and_counted():
    log_prob = np.log(np.full((3, 2, 2), 0.25))
    log_prob[:, 1, 0] = np.log([0.1, 0.2, 0.3])
    found = chain(outcome(log_prob), [1.0, 10.0, 100.0])
    assert np.isnan(found.correlation[:, :, 0]).all() and not np.isnan(found.correlation[:, :, 1]).any()
    np.testing.assert_array_equal(found.undefined, 0.5)
    steady = chain(outcome(np.log(np.full((3, 2, 2), 0.25))), [1.0, 10.0, 100.0])
    np.testing.assert_array_equal(steady.undefined, 1.0)
    assert np.isnan([steady.mean, steady.median, steady.area, steady.nearness]).all()


def test_an_impossible_answer_has_no_log_but_a_probability():
    log_prob = np.log(np.array([[[0.1, 0.3]], [[0.2, 0.2]], [[0.3, 0.1]]]))
    log_prob[0, 0, 0] = -math.inf
    found = chain(outcome(log_prob), [1.0, 10.0, 100.0])
    assert np.isnan(found.correlation[0]).all() and not np.isnan(found.correlation[1:]).any()


def test_wrong_mass_at_random_breaks_the_chain_where_it_enters():
    found = chain(family(np.random.default_rng(3), 1.0, items=2000), SCALE)
    r = found.correlation[:, 1]  # rank correlation: log p and p are one order
    np.testing.assert_allclose(r[0], r[1], atol=1e-12)
    assert found.mean[0, 1] > 0.95
    for before, after in ((1, 2), (3, 4)):  # p to p among the options, Brier to accuracy
        both = ~np.isnan(r[before]) & ~np.isnan(r[after])
        fall = r[before, both] - r[after, both]
        assert fall.mean() > alarms.sigmas() * fall.std(ddof=1) / math.sqrt(both.sum())
    pearson = found.mean[:, 0]
    assert pearson[0] > pearson[1] > pearson[2] > pearson[4]
    # the wrong mass held still, nothing is lost on the way to the options
    still = family(np.random.default_rng(4), 1.0)
    still.log_prob[..., 1:] = still.log_prob[:1, :, 1:]
    kept = chain(still, SCALE).mean[:, 1]
    assert kept[2] == pytest.approx(kept[1], abs=1e-9)


def test_same_numbers_whatever_the_flag():
    drawn = family(np.random.default_rng(5), 0.5, items=20)
    plain = chain(drawn, SCALE)
    with jax.enable_x64(True):
        wide = chain(drawn, SCALE)
    for one, other in zip(plain, wide, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("shape", "scale", "message"),
    [
        ((3, 2), [1.0, 2.0, 3.0], r"\[models, items, choices\]"),
        ((3, 2, 2), [1.0, 2.0], "a scale each"),
        ((3, 0, 2), [1.0, 2.0, 3.0], r"got \(3, 0, 2\)"),
        ((3, 2, 2), [1.0, 2.0, 2.0], "at least 3 different scales"),
        ((3, 2, 2), [0.0, 1.0, 2.0], "scales > 0"),
    ],
)
def test_refusals(shape, scale, message):
    with pytest.raises(ValueError, match=message):
        chain(outcome(np.zeros(shape)), scale)

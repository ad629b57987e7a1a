"""Difficulty groups by hand; bends of known depth; regression to the mean in one and not in the other."""

import alarms
import jax
import numpy as np
import pytest
from scipy import stats  # scipy 1.17.1

from mirage_jax.slices import difficulty_slices

SCALE = np.geomspace(1e7, 1e12, 9)
BELOW = 1e10  # models 0 to 4 lie below, model 5 at 1.3e10


def test_groups_and_curves_by_hand():
    brier = np.array(
        [  # two models below the threshold, two above; items 0 to 5
            [0.0, 0.1, 0.4, 0.5, 0.9, 0.8],
            [0.2, 0.1, 0.6, 0.5, 0.7, 1.0],
            [0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
            [0.0, 0.2, 0.0, 0.2, 0.0, 0.2],
        ]
    )
    found, control = difficulty_slices(1 - np.sqrt(brier), [1.0, 10.0, 100.0, 1000.0], 50.0, split=None)
    assert control is None
    np.testing.assert_array_equal(found.group, [0, 0, 1, 1, 2, 2])
    np.testing.assert_allclose(
        found.brier, [[0.05, 0.15, 0.1, 0.1], [0.45, 0.55, 0.1, 0.1], [0.85, 0.85, 0.1, 0.1]], atol=1e-12
    )
    # mean .15, two values .1 and .2: s / sqrt(2) = .05, t(.975, 1) = 12.7062 (printed tables)
    assert found.high[0, 1] == pytest.approx(0.15 + 12.7062 * 0.05, rel=1e-5)
    assert np.isnan(found.low[0, 2])  # all equal: no interval
    # contrast of a parabola at t = -1, -1/3, 1/3, 1: (9/16) (1, -1, -1, 1), here of -brier
    np.testing.assert_allclose(found.bend, -9 / 16 * np.array([0.05 - 0.15, 0.45 - 0.55, 0.85 - 0.85]), atol=1e-12)
    assert np.isnan(found.bend_below).all()  # two models


def test_the_bend_is_the_depth_of_a_parabola():
    t = np.linspace(-1, 1, 9)
    brier = 0.5 - 0.2 * t[:, None] ** 2 + 0.1 * t[:, None] + np.linspace(-0.1, 0.1, 12)  # -brier falls, then rises
    found = difficulty_slices(1 - np.sqrt(brier), SCALE, BELOW, groups=2, split=None).naive
    np.testing.assert_allclose(found.bend, 0.2, atol=1e-12)
    # below the threshold t runs over half the range: a quarter of the depth
    np.testing.assert_allclose(found.bend_below, 0.05, atol=1e-12)
    mirrored = difficulty_slices(1 - np.sqrt(1 - brier), SCALE, BELOW, groups=2, split=None).naive
    np.testing.assert_allclose(mirrored.bend, -0.2, atol=1e-12)


def test_the_control_groups_on_models_that_it_does_not_measure():
    rng = np.random.default_rng(1)
    p = rng.random((9, 12))
    order = rng.permutation(9)
    naive, control = difficulty_slices(p[order], SCALE[order], BELOW)
    np.testing.assert_array_equal(naive.scale, SCALE)
    np.testing.assert_array_equal(control.scale, SCALE[[1, 3, 5, 6, 7, 8]])  # 0, 2, 4 made the groups
    hardness = ((1 - p[[0, 2, 4]]) ** 2).mean(0)
    np.testing.assert_array_equal(control.group, stats.rankdata(hardness, method="ordinal").astype(int) - 1 >> 2)
    drawn = difficulty_slices(p, SCALE, BELOW, key=jax.random.key(3)).control
    assert len(drawn.scale) == 6 and set(drawn.scale) > set(SCALE[5:])


def test_regression_to_the_mean_bends_the_naive_groups_alone():
    rng = np.random.default_rng(2)
    p = np.clip(0.4 + rng.normal(0, 0.15, (9, 3000)), 0, 1)  # no item is harder than another, no model better
    naive, control = difficulty_slices(p, SCALE, 1e11)  # models 0 to 6 below
    assert (naive.bend_low[2] > 0) and (naive.bend_high[0] < 0)  # a U for the "hard", an inverted U for the "easy"
    half = (control.bend_high - control.bend_low) / 2 / stats.t.isf(0.025, 999)
    assert (np.abs(control.bend) < alarms.sigmas(3) * half).all()


def test_true_shapes_survive_the_control():
    rng = np.random.default_rng(3)
    hard = np.arange(900) % 2 == 1
    t = np.linspace(-1, 1, 9)[:, None]
    p = np.where(hard, 0.15 + 0.2 * t**2, 0.7 - 0.2 * t**2) + rng.normal(0, 0.03, (9, 900))
    naive, control = difficulty_slices(np.clip(p, 0, 1), SCALE, BELOW, groups=2)
    for found in (naive, control):
        np.testing.assert_array_equal(found.group, hard)
        assert found.bend_high[0] < 0 < found.bend_low[1]


@pytest.mark.parametrize(
    ("p", "scale", "options", "message"),
    [
        (np.zeros((3, 6)), [1.0, 2.0], {}, "a scale > 0 each"),
        (np.zeros((3, 6)), [0.0, 1.0, 2.0], {}, "a scale > 0 each"),
        (np.full((3, 6), np.nan), [1.0, 2.0, 3.0], {}, "leave out items not answered"),
        (np.zeros((3, 5)), [1.0, 2.0, 3.0], {}, "got 3 of 5 items"),
        (np.zeros((3, 6)), [5.0, 6.0, 7.0], {}, "needs models below the threshold 2.5, got 0"),
        (np.zeros((3, 6)), [1.0, 6.0, 7.0], {}, "threshold 2.5, got 1"),
    ],
)
def test_refusals(p, scale, options, message):
    with pytest.raises(ValueError, match=message):
        difficulty_slices(p, scale, 2.5, **options)

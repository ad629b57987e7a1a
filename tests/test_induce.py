"""Search for the sharpest metric: widths by hand and by closed form, what counts as tried, and what chance makes."""

import alarms
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mirage_jax import Attempts, Errors, Tokens, emergence_score, induce, induce_metric, transition_width

DECADES = np.array([1.0, 10.0, 100.0, 1000.0])


# --- one curve ---


@pytest.mark.parametrize(
    ("y", "width", "location", "inside"),
    [  # straight between the points: 10% and 90% of the change by hand
        ([0, 0, 1, 1], 0.8, 10**1.5, 0),
        ([0, 0.5, 1, 1], 1.8 - 0.2, 10, 1),
        ([0, 0.2, 0.8, 1], 2.5 - 0.5, 10**1.5, 2),
        ([0.4, 0.4, 0.4, 0.5], 0.8, 10**2.5, 0),
        ([0, 1.5, 0, 1], 0.8 / 1.5, 10 ** (1 / 3), 0),  # up and down again: the first crossing counts
        ([0, np.nan, 1, 1], 1.6, 10, 0),  # no score at 10, which is then no scale within
    ],
)
def test_widths_by_hand(y, width, location, inside):
    found = induce({"this": y}, DECADES)
    row = found.table.iloc[0]
    assert (found.sharpest, found.smoothest, found.tried, found.with_width) == ("this", "this", 1, 1)
    assert (row["width"], row["location"], row["inside"]) == pytest.approx((width, location, inside), rel=1e-12)
    assert row["emergence_score"] == emergence_score(y) and row["scales"] == np.sum(~np.isnan(y))


def test_the_same_width_inside_a_jitted_program():
    x, y = np.log10(DECADES), np.random.default_rng(0).random((20, 4))
    traced = jax.jit(jax.vmap(lambda curve: transition_width(jnp.asarray(x), curve)))(jnp.asarray(y))
    # a float32 progress is off by 1e-7 over the smaller of step and change, both of which are above 1e-2 here
    assert min(np.abs(np.diff(y)).min(), np.abs(y[:, -1] - y[:, 0]).min()) > 1e-3
    np.testing.assert_allclose(traced, transition_width(x, y), rtol=1e-3)


def test_order_direction_and_container_do_not_matter():
    y = np.array([[0, 0.1, 0.7, 1], [0, 0.3, 0.6, 1]])
    of = induce(y, DECADES)
    assert (of.sharpest, of.smoothest) == (0, 1)
    turned = [2, 0, 3, 1]
    for other in (
        induce(y[:, turned], DECADES[turned]),
        induce({0: y[0], 1: y[1]}, DECADES),
        induce(1 - y, DECADES, direction="lower"),
    ):
        assert other[:6] == pytest.approx(of[:6], nan_ok=True)
        np.testing.assert_allclose(other.table["width"], of.table["width"], rtol=1e-12)


def test_of_equal_widths_the_clearer_then_the_first():
    rise = np.array([0, 0, 0.1, 0.1])
    assert induce({"small": rise, "large": 5 * rise, "again": 5 * rise}, DECADES, n=1000).sharpest == "large"
    assert induce({"small": rise, "large": 5 * rise}, DECADES).sharpest == "small"  # nothing says which is clearer


def test_nearest_to_a_width_that_is_asked_for():
    curves = {"sharp": [0, 0, 1, 1], "middle": [0, 0.5, 1, 1], "smooth": [0, 0.2, 0.8, 1]}  # .8, 1.6, 2
    assert [induce(curves, DECADES, width=w).nearest for w in (0.1, 1.5, 1.9, 9)] == [
        "sharp",
        "middle",
        "smooth",
        "smooth",
    ]


# --- families with a law ---


def test_powers_of_a_logistic():
    slope, x = 3.0, np.linspace(-8, 8, 801)
    curves = {f"K={K}": special.expit(slope * x) ** K for K in range(1, 6)}
    found = induce(curves, 10**x)
    law = [np.diff(special.logit(np.array([0.1, 0.9]) ** (1 / K)))[0] / slope for K in range(1, 6)]
    # straight between points .02 apart: off by at most h^2 max|y''| / 8 = 9 h^2 / 8 of a y that rises by .27 (K = 1) or more
    np.testing.assert_allclose(found.table["width"], law, atol=2 * 9 * 0.02**2 / 8 / 0.27)
    assert (found.sharpest, found.smoothest, found.tried, found.with_width) == ("K=5", "K=1", 5, 5)


def test_subset_accuracy_of_test_sets():
    sizes, n = 10 ** np.linspace(0, 4, 9), 1000
    right = np.rint(n * special.expit(4 * (np.log10(sizes) - 2))).astype(int)
    outcomes = {h: Attempts(np.array(n), np.array(k)) for h, k in zip(sizes, right, strict=True)}
    found = induce_metric(outcomes, "subset_accuracy", K=[1, 2, 5])
    exact = {f"K={K}": special.comb(right, K) / special.comb(n, K) for K in (1, 2, 5)}
    expected = induce(exact, sizes)
    assert found[:5] == expected[:5] == ("K=5", "K=1", None, 3, 3)
    np.testing.assert_allclose(found.table["width"], expected.table["width"], rtol=1e-5)  # float32 scores
    assert np.isnan(found.by_chance)  # one score per scale has no standard error


def test_reconstruction_is_the_distribution_of_the_errors():
    """Errors at h are N(h^-1/2, .05): Reconstruction_c = Phi((c - h^-1/2) / .05), wide or narrow by choice of c."""
    spread, n, x = 0.05, 2000, np.linspace(-0.5, 3, 71)
    normal = stats.norm.ppf((np.arange(n) + 0.5) / n) * spread
    errors = {float(h): Errors(np.maximum(h**-0.5 + normal, 0)) for h in 10**x}
    found = induce_metric(errors, "reconstruction", c=[0.2, 0.4, 0.8], width=0.6)
    ends = spread * stats.norm.ppf([0.9, 0.1])
    law = [np.diff(-2 * np.log10(c - ends))[0] * -1 for c in (0.2, 0.4, 0.8)]
    # F in steps of 1/n; straight between points: both move a crossing by (1/n + h^2 max|F''| / 8) / F' at it, and
    # F' = phi(1.28) / spread dmu/dx, mu = c -+ 1.28 spread, dmu/dx = mu ln(10) / 2
    for c, width, expected in zip((0.2, 0.4, 0.8), found.table["width"], law, strict=True):
        rate = (c - ends) * np.log(10) / 2
        bend = (
            0.242 * ((c + 2 * spread) * np.log(10) / 2 / spread) ** 2
            + 0.4 * (c + 2 * spread) * np.log(10) ** 2 / 4 / spread
        )
        off = (1 / n + 0.05**2 * bend / 8) / (stats.norm.pdf(1.2816) / spread * rate)
        assert width == pytest.approx(expected, abs=off.sum())
    assert (found.sharpest, found.smoothest, found.nearest) == ("c=0.8", "c=0.2", "c=0.2")
    assert found.tried == found.with_width == 3 and (found.table["z"] > 20).all() and found.by_chance == 0


def test_samples_of_several_seeds_and_of_any_score():
    rng = np.random.default_rng(1)
    squared = {h: h**-0.5 * rng.gamma(2, size=(4, 50)) for h in (1.0, 4.0, 16.0, 64.0)}
    seeds = induce_metric({h: Errors(v) for h, v in squared.items()}, "reconstruction", c=[1.0])
    curve = np.stack([(v < 1).mean(1) for v in squared.values()], 1)
    expected = induce({"c=1.0": curve}, list(squared))
    assert seeds.table["width"].item() == pytest.approx(expected.table["width"].item(), rel=1e-6)
    assert seeds.table["z"].item() == pytest.approx(expected.table["z"].item(), rel=1e-5)
    assert seeds.table["seeds"].item() == 4


# --- noise ---


def test_what_does_not_improve_has_no_width():
    curves = {
        "flat": [0.5, 0.5, 0.5, 0.5],
        "worse": [0.9, 0.5, 0.3, 0.1],
        "less than two errors": [0.5, 0.5, 0.5, 0.59],  # sqrt(2 m (1 - m) / 200) = .05
        "there and back": [0.1, 0.9, 0.9, 0.1],
        "two scores": [0.1, np.nan, np.nan, 0.9],
        "none": [np.nan] * 4,
        "rounding": [1 - 2e-16, 1, 1, 1],  # with no error left to compare it with
    }
    found = induce(curves, DECADES, n=200)
    assert found[:5] == (None, None, None, 7, 0) and found.table["width"].isna().all()
    assert str(found) == "none of 7 choices tried has a width"
    found = induce(curves | {"more": [0.5, 0.5, 0.5, 0.61]}, DECADES, n=200, width=1)
    assert found[:5] == ("more", "more", "more", 8, 1)
    assert str(found).startswith(
        "sharpest more (0.8 decades), smoothest more (0.8 decades), of 8 choices tried, 1 with a"
    )
    assert induce({"none": curves["none"]}, DECADES, n=200)[:5] == (None, None, None, 1, 0)
    assert induce(curves, DECADES).with_width == 1  # without n the third one improves


def test_spread_over_seeds():
    # variance over two seeds at the four scales: .02, .02, 0, 0; pooled .01, standard error of a mean sqrt(.005) = .0707
    two = np.array([[0.0, 0.1, 0.8, 1.0], [0.2, 0.3, 0.8, 1.0]])
    row = induce({"a": two}, DECADES).table.iloc[0]
    assert (row["change"], row["z"], row["seeds"]) == pytest.approx((0.9, 0.9 / (np.sqrt(2) * np.sqrt(0.005)), 2))
    lost = two.copy()
    lost[1, 0] = np.nan  # a diverged seed: pooled .02 / 3, known at a scale of one seed too
    row = induce({"a": lost}, DECADES).table.iloc[0]
    errors = np.sqrt(np.array([1, 1 / 2, 1 / 2, 1 / 2]) * 0.02 / 3)
    assert (row["z"], row["seeds"]) == pytest.approx((1 / (np.sqrt(2) * np.median(errors)), 1))
    assert np.isnan(induce({"a": two[:1]}, DECADES).table["z"].item())


def test_by_chance_is_an_expected_count():
    """Two items, three scales: only (0, 0, 1) and (0, 1, 1) rise by more than two errors, z = 2.12, in .8 decades.

    At a mean of 1/3, P(0) = 4/9 and P(1) = 1/9: (4/9)^2 (1/9) + (4/9) (1/9)^2 = 20/729. At 1/2: 2 (1/4)^3 = 1/32.
    """
    curves = {"a": [0.0, 0.0, 1.0], "b": [0.0, 0.5, 1.0]}
    draws = 40_000
    found = induce(curves, DECADES[:3], n=2, draws=draws)
    expected = 20 / 729 + 1 / 32
    assert (found.sharpest, found.tried, found.with_width) == ("a", 2, 1)  # b: z = 2, no more
    assert found.by_chance == pytest.approx(expected, abs=alarms.sigmas() * np.sqrt(expected / draws))
    ten = {f"{name}{i}": curve for i in range(5) for name, curve in curves.items()}
    many = induce(ten, DECADES[:3], n=2, draws=draws)
    fives = 5 * expected
    assert many.by_chance == pytest.approx(fives, abs=alarms.sigmas() * np.sqrt(fives / draws))


def test_standard_errors():
    found = induce({"a": [1.0, 2.0, 3.0]}, DECADES[:3], se=[0.1, 0.2, 0.3])
    assert found.table["z"].item() == pytest.approx(2 / (np.sqrt(2) * 0.2))


# --- what is refused ---


@pytest.mark.parametrize(
    ("arguments", "more", "message"),
    [
        (([[0, 1]], [1, 10]), {}, r"at least 3 scales, positive and distinct, got \[1.0, 10.0\]"),
        (([[0, 1, 2]], [0, 1, 10]), {}, "positive"),
        (([[0, 1, 2]], [1, 1, 10]), {}, "distinct"),
        (([[0, 1, 2]], [1, np.nan, 10]), {}, "positive"),
        (({}, [1, 2, 3]), {}, r"got shapes \[\]"),
        ((0.5, [1, 2, 3]), {}, r"got shapes \[\(\)\]"),
        (({"a": [1, 2, 3], "b": [1, 2]}, [1, 2, 3]), {}, r"got shapes \[\(2,\), \(3,\)\]"),
        ((np.zeros((2, 0, 3)), [1, 2, 3]), {}, "shapes"),
        (([[0, 1, np.inf]], [1, 2, 3]), {}, "finite or NaN"),
        ((np.zeros((1, 1, 3)), [1, 2, 3]), {"n": 5}, "neither n nor se"),
        (([[0, 1, 1]], [1, 2, 3]), {"n": 5, "se": 1}, "not both"),
        (([[0, 1, 1]], [1, 2, 3]), {"n": 5.5}, "n must be whole"),
        (([[0, 1, 1]], [1, 2, 3]), {"n": 0}, "n >= 1"),
        (([[0, 1, 2]], [1, 2, 3]), {"n": 5}, r"success rates in \[0, 1\]"),
        (([[0, 1, 1]], [1, 2, 3]), {"direction": "lower", "se": -1}, "se must be >= 0"),
    ],
)
def test_refusals(arguments, more, message):
    with pytest.raises(ValueError, match=message):
        induce(*arguments, **more)


def test_refusals_of_outcomes():
    errors = {float(h): Errors(np.ones(3) / h) for h in (1, 2, 4)}
    with pytest.raises(ValueError, match=r"name an option of reconstruction to search"):
        induce_metric(errors, "reconstruction")
    with pytest.raises(ValueError, match=r"no named metric takes the option K"):
        induce_metric(errors, "reconstruction", c=[1.0], K=[1])
    with pytest.raises(ValueError, match=r"all be \[item\] or all \[seed, item\], got shapes \[\(2, 3\), \(3,\)\]"):
        induce_metric(errors | {8.0: Errors(np.ones((2, 3)))}, "reconstruction", c=[1.0])
    with pytest.raises(ValueError, match=r"reconstruction reads Errors, got Tokens"):
        one = np.ones((1, 1), np.int32)
        induce_metric({1.0: Tokens(one, one[0], one, one[0])}, "reconstruction", c=[1.0])

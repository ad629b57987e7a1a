"""Width classes: shapes by their definition, closed-form fits against scipy 1.17.1, and nothing from beyond the real scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import verdict_twin as twin
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from mirage_jax.decide import rule, shapes
from mirage_jax.decide.shapes import FAMILIES, NARROW, STEP, fit_shapes, isotonic

COMPILED = jax.jit(isotonic)
# A shape is one if it moves, or bends, by 1e-9 of the weights: double precision leaves it 2e-16 / 1e-9 of what it explains.
SHAPED = 1e-6


@pytest.fixture(autouse=True, scope="module")
def double():
    with jax.enable_x64(True):
        yield


def fitted(x, y, se, *, scatter=0.0, sharp=np.inf, width=12, beyond=(1.0, 0.5, 1.0)):
    """`fit_shapes` of one curve, padded to `width` scales: what a step of x, what score and error stand beyond."""
    m = len(x)
    ahead = np.arange(1, width - m + 1) * beyond[0]
    full = [np.r_[x, x[-1] + ahead], np.r_[y, np.full(width - m, beyond[1])], np.r_[se, np.full(width - m, beyond[2])]]
    given = [np.tile(row, (rule.CHUNK, 1)) for row in full] + [np.full(rule.CHUNK, v) for v in (m, scatter, sharp)]
    found = fit_shapes(*given, batch=rule.BATCH)
    return {name: np.asarray(value)[0] for name, value in found._asdict().items()}


def drawn(seed, m):
    draw = np.random.default_rng(seed)
    x = np.cumsum(draw.uniform(0.2, 1.5, m))
    return x, np.sort(draw.random(m)) * 0.6 + draw.normal(0, 0.05, m) + 0.2, draw.uniform(0.005, 0.05, m)


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_are_half_at_0_and_rise_from_10_to_90_percent_over_1(family):
    at = [optimize.brentq(lambda z, q=q: float(family(jnp.array(z))) - q, -3, 3, xtol=1e-14) for q in (0.1, 0.5, 0.9)]
    assert at[1] == pytest.approx(0, abs=1e-12)
    assert at[2] - at[0] == pytest.approx(1, abs=1e-12)
    rising = np.asarray(family(jnp.linspace(-5, 5, 1001)))
    assert (np.diff(rising) >= 0).all() and 0 <= rising[0] < 0.01 and 0.99 < rising[-1] <= 1


def test_the_four_families_are_laws_of_scipy():
    z = np.linspace(-4, 4, 81)
    for family, law in zip(FAMILIES, twin.LAWS, strict=True):
        scale = 1 / (law.ppf(0.9) - law.ppf(0.1))
        np.testing.assert_allclose(family(jnp.asarray(z)), law.cdf(z, -law.ppf(0.5) * scale, scale), atol=1e-12)


def test_two_gompertz_lean_opposite_ways():
    floor, ceiling = (float(FAMILIES[i](jnp.array(-1.0))) for i in (1, 2))
    assert floor < 1e-6 < 0.01 < ceiling  # the first leaves the floor late and fast


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0.01, 100)), min_size=1, max_size=12))
def test_isotonic_is_that_of_scipy(points):
    """Scores of weight 0 stand beyond the last one, as they do in the padded fits."""
    y, w = np.pad(np.array(points).T, ((0, 0), (0, 12 - len(points))))
    m = len(points)
    np.testing.assert_allclose(COMPILED(y, w)[:m], optimize.isotonic_regression(y[:m], weights=w[:m]).x, atol=1e-10)


def test_isotonic_by_hand():
    np.testing.assert_allclose(isotonic(jnp.array([1.0, 3, 2, 4]), jnp.array([1.0, 1, 3, 1])), [1, 2.25, 2.25, 4])


@pytest.mark.parametrize(("seed", "m"), [(0, 3), (1, 5), (2, 8), (3, 12)])
def test_cubic_is_that_of_polyfit(seed, m):
    x, y, se = drawn(seed, m)
    u, w = (x - x[0]) / np.ptp(x), se**-2.0
    error = y - np.polyval(np.polyfit(u, y, min(3, m - 1), w=1 / se), u)
    constant = (w * (y - np.average(y, weights=w)) ** 2).sum()
    gain = float(shapes._cubic_gain(*map(jnp.asarray, (u, y, w))))
    assert constant - gain == pytest.approx((w * error**2).sum(), abs=1e-8 * constant)


@pytest.mark.parametrize("seed", range(4))
def test_fits_in_closed_form_are_those_of_nnls(seed):
    x, y, se = drawn(seed, 8)
    if seed == 3:
        y = y[::-1].copy()  # a fall: every rise is 0
    u, w, phi = (x - x[0]) / np.ptp(x), se**-2.0, twin.every_shape(tuple(x.tolist())).phi[::7]
    phi = np.vstack([phi, np.ones(8), u])  # neither a constant nor the slope itself is told apart
    found, constant = shapes._gains(*map(jnp.asarray, (phi, u, y, w)))
    for peer in (twin.by_nnls(phi, u, y, w), twin.by_hand(phi, u, y, w)):
        for ours, theirs in ((constant - found.plain, peer.plain), (constant - found.sloped, peer.sloped)):
            np.testing.assert_allclose(ours, theirs, atol=SHAPED * float(constant), rtol=0)
        drawn_by = [np.asarray(of.rise)[:, None] * phi + np.asarray(of.slope)[:, None] * u for of in (found, peer)]
        ours, theirs = (curve - (curve @ w / w.sum())[:, None] for curve in drawn_by)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        at = (np.asarray(found.slope) > 0) & (peer.slope > 0) & (0 < peer.rise) & (peer.rise < 10)
        assert at.sum() > 30 or seed == 3
        np.testing.assert_allclose(np.asarray(found.rise_se)[at], peer.rise_se[at], rtol=1e-5)


def test_a_step_is_found_with_its_height_and_its_standard_error():
    x, se = np.linspace(0, 5, 10), np.full(10, 0.01)
    found = fitted(x, 0.2 + 0.3 * (np.arange(10) >= 6), np.sqrt(se**2 - shapes.FLOOR**2))
    np.testing.assert_allclose(found["error"][:10], 0.01, rtol=1e-12)
    for name in ("narrow", "narrow_slope", "step", "step_slope", "isotonic"):
        assert found[name] == pytest.approx(0, abs=1e-8)
    assert found["jump"] == pytest.approx(0.3, abs=1e-9)
    assert found["jump_se"] == pytest.approx(0.01 * np.sqrt(1 / 6 + 1 / 4))  # difference of two means
    assert found["below"] == 6 and x[5] < found["centre"] < x[6] and found["gap"] == pytest.approx(x[1])
    assert found["constant"] == pytest.approx(10 * 0.3**2 * 0.6 * 0.4 / 0.01**2)
    assert found["profile"][0] == pytest.approx(0, abs=1e-8) and found["width_at"][0] == 0
    assert found["wide"] > 90
    np.testing.assert_allclose(found["sharp"][:10], 0.2 + 0.3 * (np.arange(10) >= 6), atol=1e-9)


def test_a_straight_line_is_wide_and_needs_no_shape():
    x = np.linspace(0, 5, 12)
    found = fitted(x, 0.1 + 0.15 * x, np.full(12, 0.01))
    assert found["wide"] == pytest.approx(0, abs=1e-7) and found["wide_slope"] == pytest.approx(0, abs=1e-7)
    np.testing.assert_allclose(found["smooth"], 0.1 + 0.15 * x, atol=1e-7)
    assert found["narrow"] > 100
    assert found["narrow_slope"] == pytest.approx(0, abs=1e-7)  # the slope alone


def test_widths_count_in_gaps_but_never_beyond_what_is_sharp():
    """A step of scales far apart is narrow in gaps; in decades it may be wide as soon as it has any width."""
    x, y = np.linspace(0, 30, 10), 0.2 + 0.3 / (1 + 81.0 ** -((np.linspace(0, 30, 10) - 14) / 4))
    loose, strict = (fitted(x, y, np.full(10, 0.01), sharp=sharp) for sharp in (np.inf, 1.5))
    assert loose["narrow"] < 1 < strict["narrow"]
    assert strict["wide"] == pytest.approx(loose["narrow"], abs=1e-9) and NARROW * x[1] > 4 > STEP * x[1]


def test_scatter_is_the_least_under_which_something_fits():
    x, y = np.linspace(0, 5, 12), 0.5 + 0.05 * (-1.0) ** np.arange(12)
    found = fitted(x, y, np.full(12, 0.01), scatter=np.nan)
    sd = float(found["scatter"])
    assert 0.02 <= sd < 0.5 and sd in shapes.SCATTERS
    enough = 12 - 5

    def best(sd):
        again = fitted(x, y, np.full(12, 0.01), scatter=sd)
        return min(again[name] for name in ("narrow_slope", "wide_slope", "cubic"))

    assert best(sd) <= enough < best(sd - 0.02)
    np.testing.assert_allclose(found["error"], np.sqrt(0.01**2 + shapes.FLOOR**2 + (sd * y * (1 - y)) ** 2))


@pytest.mark.parametrize("m", [3, 5, 12])
def test_padding_changes_nothing(m):
    x, y, se = drawn(m, m)
    near, far = (fitted(x, y, se, scatter=np.nan, width=width) for width in (12, 24))
    for name, value in near.items():
        other = far[name]
        if name in ("profile", "width_at", "gap_at"):
            known = np.isfinite(near["profile"])
            value, other = value[known], other[: len(known)][known]
            assert not np.isfinite(far["profile"][len(known) :]).any() or m == 12
        elif value.ndim:
            value, other = value[:m], other[:m]
        if name in ("jump", "jump_se", "centre", "below", "gap", "width_at", "gap_at", "sharp", "smooth") and m == 3:
            continue  # three scales fit many shapes alike
        np.testing.assert_allclose(value, other, rtol=1e-6, atol=1e-7 * float(near["constant"]), err_msg=name)


def test_what_lies_beyond_the_real_scales_is_not_read():
    x, y, se = drawn(1, 7)
    plain = fitted(x, y, se, scatter=np.nan)
    for beyond in ((0.01, 0.0, 1e-3), (1e3, 1.0, 50.0), (7.0, -3.0, 0.0)):
        other = fitted(x, y, se, scatter=np.nan, beyond=beyond)
        for name, value in plain.items():
            cut = slice(0, 7) if name in ("smooth", "sharp", "error") else slice(None)
            np.testing.assert_array_equal(np.atleast_1d(value)[cut], np.atleast_1d(other[name])[cut], err_msg=name)


def test_a_jump_is_what_rises_within_the_scales():
    """Only the last scale is off the line: the best narrow shape may have its centre beyond, and J without bound."""
    x = np.linspace(0, 5, 8)
    y = np.where(np.arange(8) < 7, 0.5, 0.52)
    found = fitted(x, y, np.full(8, 0.001))
    assert found["jump"] == pytest.approx(0.02, abs=1e-6)
    assert found["step_slope"] == np.inf  # less than JUMP

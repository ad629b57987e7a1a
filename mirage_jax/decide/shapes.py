"""Width classes: how narrow, or how wide, a rise between scales must be, from closed-form fits over a grid of shapes.

A curve is fitted by weighted least squares with lo + J phi(x), and with lo + s u(x) + J phi(x), J and s >= 0, for every
phi in a grid: four families of rising shapes, each at many centres and 10-90 widths, and exponential trends. Nothing is
iterated and nothing can fail to converge; a class of widths is judged by its best member.

Widths are counted in gaps: the distance between the two scales around the centre, so that unequal spacing is no special
case. A shape is narrow if its 10-90 width is at most NARROW gaps and at most `sharp` units of the axis (decades).
"""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

WIDTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0)  # in gaps
WIDER = 1.5  # ratio of the widths beyond, up to so many times the whole range
NARROW = 1.5  # gaps
STEP = 0.5  # gaps: a shape that no more scales of this spacing could tell from a step
JUMP, SHARE = 0.05, 0.35  # a jump is at least so high, and at least this share of the curve's range
RATES = (0.1, 0.2, 0.4, 0.7, 1.0, 1.4)  # of exponential trends, per mean gap; all wider than NARROW gaps
SCATTERS = np.arange(26) * 0.02  # standard deviations of logit(score) between models that are tried
FLOOR = 0.005  # no mean score is known better than this


class Shapes(NamedTuple):
    """What the grid says of one curve. chi2 are weighted sums of squared residuals; widths are 10-90."""

    scatter: Float[Array, ""]  # sd of logit(score) between models beyond item noise, given or estimated
    constant: Float[Array, ""]  # chi2 of a constant
    isotonic: Float[Array, ""]  # chi2 of the best non-decreasing curve
    falling: Float[Array, ""]  # chi2 of the best non-increasing curve
    cubic: Float[Array, ""]
    narrow: Float[Array, ""]  # best narrow shape
    narrow_slope: Float[Array, ""]  # the same, with or without a background slope
    step: Float[Array, ""]  # best shape of width <= STEP gaps
    step_slope: Float[Array, ""]  # the same with or without a background slope, of those whose rise is a jump
    wide: Float[Array, ""]  # best wide shape or trend
    wide_slope: Float[Array, ""]  # the same, with or without a background slope
    profile: Float[Array, " widths"]  # chi2 by width, with or without slope
    width_at: Float[Array, " widths"]  # the width, and the gap at its best centre, in units of the axis
    gap_at: Float[Array, " widths"]
    jump: Float[Array, ""]  # J of the best narrow shape, a slope beside it
    jump_se: Float[Array, ""]
    centre: Float[Array, ""]  # of the best narrow shape, on the axis
    below: Int[Array, ""]  # scales below that centre
    gap: Float[Array, ""]  # at that centre
    smooth: Float[Array, " scales"]  # the best wide curve at the scales
    sharp: Float[Array, " scales"]  # the best narrow curve at the scales
    error: Float[Array, " scales"]  # standard errors used, scatter included


class Grid(NamedTuple):
    """Widths and centres of the shapes for one number of scales, the same in each family; ordered by width."""

    widths: tuple[float, ...]  # without the steps' 0
    width: np.ndarray  # in gaps
    centre: np.ndarray  # in units of the scales' index
    local: np.ndarray  # whether the gap is that at the centre, else the mean one
    of_width: np.ndarray  # [widths, most] which shapes have a width, the last of them repeated


@cache
def grid(scales: int) -> Grid:
    """Shapes for `scales` scales: at each width centres a tenth of it apart, or a sixth of a gap, and beyond both ends.

    Widths up to NARROW are counted in gaps at their centre, wider ones in mean gaps and up to the whole range and more.
    """
    widths = list(WIDTHS[1:])
    while widths[-1] < WIDER * (scales - 1):
        widths.append(WIDER * widths[-1])
    centres = [np.arange(-k, scales - 1 + k + 1e-9, max(1 / 6, k / 10)) for k in widths]
    ends = np.cumsum([len(of) for of in centres])
    starts, most = np.r_[0, ends[:-1]], max(map(len, centres))
    width = np.repeat(widths, np.diff(np.r_[0, ends]))
    of_width = np.minimum(starts[:, None] + np.arange(most), ends[:, None] - 1)
    return Grid(tuple(widths), width, np.concatenate(centres), width <= NARROW, of_width)


def logistic(z: Array) -> Array:
    """10-90 width 1, half at 0."""
    return jax.nn.sigmoid(2 * np.log(9) * z)


def gompertz(z: Array) -> Array:
    """exp(-exp(-z)) at 10-90 width 1, half at 0: fast off the floor, slow to the ceiling."""
    width = np.log(np.log(10) / -np.log(0.9))
    return jnp.exp(-np.log(2) * jnp.exp(-width * z))


def ramp(z: Array) -> Array:
    """A straight rise between two plateaus, 10-90 width 1, half at 0."""
    return jnp.clip(0.5 + 0.8 * z, 0, 1)


FAMILIES = (logistic, gompertz, lambda z: 1 - gompertz(-z), ramp)  # in this order in the grid


class Bases(NamedTuple):
    """Every shape at the scales: steps, then the families, then exponential trends. Positions in units of the axis."""

    phi: Float[Array, "bases scales"]
    centre: Float[Array, " bases"]
    width: Float[Array, " bases"]  # inf for trends
    gap: Float[Array, " bases"]  # between the scales on either side of the centre, 0 for trends
    inside: Bool[Array, " bases"]  # whether the curve's own scales reach it


def bases(x: Float[Array, " scales"], size: Int[Array, ""]) -> Bases:
    """The shapes for one curve, of which `size` scales are real."""
    shapes, scales = grid(x.size), x.size
    even, gaps = (x[size - 1] - x[0]) / (size - 1), jnp.diff(x)
    at = jnp.clip(jnp.floor(shapes.centre).astype(int), 0, size - 2)
    centre = jnp.where(shapes.local, x[at] + (shapes.centre - at) * gaps[at], x[0] + shapes.centre * even)
    gap = gaps[jnp.clip(jnp.searchsorted(x, centre) - 1, 0, size - 2)]
    width = shapes.width * jnp.where(shapes.local, gap, even)
    z = (x - centre[:, None]) / width[:, None]
    step = jnp.where(np.arange(scales) > np.arange(scales - 1)[:, None], 1.0, 0.0)
    u = jnp.minimum((x - x[0]) / (x[size - 1] - x[0]), 1)  # beyond the real scales an exponential would overflow
    rates = np.array(RATES)[:, None] * (size - 1)
    slowing = jnp.expm1(-rates * u) / jnp.expm1(-rates)
    trends = jnp.concatenate([u[None], jnp.exp(rates * (u - 1)) * slowing, slowing])
    far, near, none = jnp.full(len(trends), jnp.inf), jnp.zeros(len(trends)), jnp.zeros(scales - 1)
    needed = (shapes.width <= WIDTHS[-1]) | (
        shapes.width < WIDER**2 * (size - 1)
    )  # no more than the curve's own grid has
    reached = needed & (shapes.centre <= size - 1 + shapes.width)
    return Bases(
        jnp.concatenate([step, *(family(z) for family in FAMILIES), trends]),
        jnp.concatenate([x[:-1] + gaps / 2, *[centre] * len(FAMILIES), far]),
        jnp.concatenate([none, *[width] * len(FAMILIES), far]),
        jnp.concatenate([gaps, *[gap] * len(FAMILIES), near]),
        jnp.concatenate([np.arange(scales - 1) < size - 1, *[reached] * len(FAMILIES), jnp.ones(len(trends), bool)]),
    )


def isotonic(y: Float[Array, " scales"], weight: Float[Array, " scales"]) -> Float[Array, " scales"]:
    """Best non-decreasing curve by weighted least squares: max over j <= i of min over k >= i of the mean of y_j..y_k.

    References:
        Robertson, Wright, Dykstra (1988), Order Restricted Statistical Inference, theorem 1.4.4.
    """
    total = jnp.concatenate([jnp.zeros(1), jnp.cumsum(weight)])
    summed = jnp.concatenate([jnp.zeros(1), jnp.cumsum(weight * y)])
    j, k = jnp.arange(y.size)[:, None], jnp.arange(y.size)
    mass = total[1:][k] - total[j]
    mean = jnp.where((j <= k) & (mass > 0), (summed[1:][k] - summed[j]) / jnp.where(mass > 0, mass, 1), jnp.inf)
    least = jax.lax.cummin(mean, axis=1, reverse=True)
    return jnp.diagonal(jax.lax.cummax(jnp.where(j <= k, least, -jnp.inf), axis=0))


class _Best(NamedTuple):
    """Gains over a constant, J and its standard error, for every basis."""

    plain: Array
    sloped: Array
    jump: Array  # of the plain fit
    rise: Array  # J and s of the sloped fit
    slope: Array
    rise_se: Array


def _gains(phi: Array, u: Array, y: Array, w: Array) -> tuple[_Best, Array]:
    """How much each basis takes off the chi2 of a constant, without and with a slope; and that chi2."""
    total = w.sum()
    mean_y, mean_u = (w * y).sum() / total, (w * u).sum() / total
    dy, du = y - mean_y, u - mean_u
    sums = jnp.stack([w, w * dy, w * du], -1)  # [scales, 3]
    f, fy, fu = jnp.moveaxis(phi @ sums, -1, 0)
    ff = jnp.square(phi) @ w - jnp.square(f) / total
    yy, uu, uy = (w * dy * dy).sum(), (w * du * du).sum(), (w * du * dy).sum()
    moves = ff > 1e-9 * total
    ff = jnp.where(moves, ff, 1.0)
    jump = jnp.where(moves, fy, 0) / ff
    plain = jnp.maximum(jump, 0) * jnp.maximum(fy, 0)
    det = uu * ff - fu * fu
    apart = moves & (det > 1e-9 * uu * ff)
    det = jnp.where(apart, det, 1.0)
    slope, rise = (uy * ff - fy * fu) / det, (fy * uu - uy * fu) / det
    alone = jnp.maximum(uy, 0) ** 2 / uu  # the slope without the shape
    both = apart & (slope > 0) & (rise > 0)
    straight = ~both & (alone > plain)
    sloped = jnp.where(both, slope * uy + rise * fy, jnp.maximum(plain, alone))
    slope = jnp.where(both, slope, jnp.where(straight, jnp.maximum(uy, 0) / uu, 0))
    rise = jnp.where(both, rise, jnp.where(straight, 0, jnp.maximum(jump, 0)))
    return _Best(plain, sloped, jnp.maximum(jump, 0), rise, slope, jnp.sqrt(jnp.where(both, uu / det, 1 / ff))), yy


def _cubic_gain(u: Array, y: Array, w: Array) -> Array:
    """What the best cubic takes off the chi2 of a constant: polynomials made orthonormal under the weights."""
    found, gain = [jnp.ones_like(u) / jnp.sqrt(w.sum())], 0.0
    for _ in range(3):
        p = found[-1] * (2 * u - 1)
        for _ in range(2):  # twice is enough
            for q in found:
                p = p - (w * p * q).sum() * q
        norm = (w * p * p).sum()
        p = jnp.where(norm > 1e-18, p / jnp.sqrt(jnp.where(norm > 1e-18, norm, 1)), 0)
        found.append(p)
        gain += (w * p * y).sum() ** 2
    return jnp.asarray(gain)


def _profile(chi2: Array, width: Array, gap: Array, scales: int) -> tuple[Array, Array, Array]:
    """Least chi2 at each width, over centres and families, with the width and the gap of the best; the steps first."""
    of, steps = grid(scales), scales - 1
    families = chi2[steps : steps + len(FAMILIES) * len(of.width)].reshape(len(FAMILIES), -1).min(0)
    found = families[of.of_width]
    at = jnp.take_along_axis(jnp.asarray(of.of_width), jnp.argmin(found, axis=1)[:, None], 1)[:, 0] + steps
    best = jnp.argmin(chi2[:steps])
    return jnp.r_[chi2[best], found.min(1)], jnp.r_[0.0, width[at]], jnp.r_[gap[best], gap[at]]


def shapes(
    x: Float[Array, " scales"],
    y: Float[Array, " scales"],
    se: Float[Array, " scales"],
    size: Int[Array, ""],
    scatter: Float[Array, ""],
    sharp: Float[Array, ""],
) -> Shapes:
    """Fit every shape to one curve.

    Args:
        x: positions of the scales, ascending, in decades (or nats of loss); beyond `size` anything ascending.
        y: scores in [0, 1], improvement upwards; beyond `size` finite.
        se: standard errors of the scores from their items; FLOOR is added in quadrature.
        size: how many of the scales are real, at least 3.
        scatter: sd of logit(score) between models, NaN to take the least of SCATTERS under which the best of all
            shapes and a cubic fits, chi2 <= max(1, size - 5).
        sharp: widest 10-90 width, in units of x, that counts as narrow.
    """
    phi, centre, width, gap, inside = bases(x, size)
    real = jnp.arange(x.size) < size
    u = (x - x[0]) / (x[size - 1] - x[0])
    y = jnp.where(real, y, 0)

    def error(sd: Array) -> Array:
        return jnp.sqrt(se**2 + FLOOR**2 + (sd * y * (1 - y)) ** 2)

    def weight(sd: Array) -> Array:
        return jnp.where(real, error(sd) ** -2, 0)

    def fits(sd: Array) -> Array:
        w = weight(sd)
        best, yy = _gains(phi, u, y, w)
        gain = jnp.maximum(jnp.where(inside, best.sloped, 0).max(), _cubic_gain(u, y, w))
        return yy - gain <= jnp.maximum(1.0, size - 5.0)

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds  # the least that fits is in (low, high]
        middle = (low + high + 1) // 2
        good = fits(jnp.asarray(SCATTERS)[middle])
        return jnp.where(good, low, middle), jnp.where(good, middle, high)

    steps = int(np.ceil(np.log2(len(SCATTERS))))
    _, least = jax.lax.fori_loop(0, steps, halve, (jnp.array(-1), jnp.array(len(SCATTERS) - 1)))
    scatter = jnp.where(jnp.isnan(scatter), jnp.asarray(SCATTERS)[least], scatter)

    w = weight(scatter)
    best, yy = _gains(phi, u, y, w)
    plain = yy - jnp.where(inside, best.plain, 0)
    sloped = yy - jnp.where(inside, best.sloped, 0)
    thin = width <= jnp.minimum(NARROW * gap, sharp)
    narrow, narrow_slope = jnp.where(thin, plain, jnp.inf), jnp.where(thin, sloped, jnp.inf)
    wide, wide_slope = jnp.where(thin, jnp.inf, plain), jnp.where(thin, jnp.inf, sloped)
    reach = jnp.where(real, y, -jnp.inf).max() - jnp.where(real, y, jnp.inf).min()
    within = phi[:, size - 1] - phi[:, 0]  # of a shape centred beyond the ends only a tail, and J without bound
    thinnest, material = width <= STEP * gap, best.rise * within >= jnp.maximum(JUMP, SHARE * reach)
    at, broad = jnp.argmin(narrow_slope), jnp.argmin(wide_slope)
    profile, width_at, gap_at = _profile(jnp.where(inside, sloped, jnp.inf), width, gap, x.size)

    def curve(i: Array) -> Array:
        shape = best.rise[i] * phi[i] + best.slope[i] * u
        return shape + (w * (y - shape)).sum() / w.sum()

    rise, fall = (jnp.where(real, fit, y) for fit in (isotonic(y, w), -isotonic(-y, w)))
    return Shapes(
        scatter=scatter,
        constant=yy,
        isotonic=(w * (y - rise) ** 2).sum(),
        falling=(w * (y - fall) ** 2).sum(),
        cubic=yy - _cubic_gain(u, y, w),
        narrow=narrow.min(),
        narrow_slope=narrow_slope[at],
        step=jnp.where(thinnest, plain, jnp.inf).min(),
        step_slope=jnp.where(thinnest & material, sloped, jnp.inf).min(),
        wide=wide.min(),
        wide_slope=wide_slope[broad],
        profile=profile,
        width_at=width_at,
        gap_at=gap_at,
        jump=best.rise[at] * within[at],
        jump_se=best.rise_se[at] * within[at],
        centre=centre[at],
        below=(real & (x <= centre[at])).sum(),
        gap=gap[at],
        smooth=curve(broad),
        sharp=curve(at),
        error=error(scatter),
    )


@partial(jax.jit, static_argnames="batch")
def fit_shapes(
    x: Float[Array, "curves scales"],
    y: Float[Array, "curves scales"],
    se: Float[Array, "curves scales"],
    size: Int[Array, " curves"],
    scatter: Float[Array, " curves"],
    sharp: Float[Array, " curves"],
    *,
    batch: int,
) -> Shapes:
    """`shapes` of many curves, `batch` at a time; compiled once for each padded number of scales and of curves."""
    return jax.lax.map(lambda one: shapes(*one), (x, y, se, size, scatter, sharp), batch_size=batch)

"""Maximum likelihood search of the curve models: one compiled program for many curves at once, in float64.

Levenberg-Marquardt on the log likelihood within a box, from every start of the model; parameters at a bound that the slope
pushes outward rest until it turns.

References:
    Marquardt (1963), "An Algorithm for Least-Squares Estimation of Nonlinear Parameters".
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln, xlog1py, xlogy

from mirage_jax.curve_models import MODELS, Model

Likelihood = Literal["binomial", "beta_binomial", "gaussian"]


class Curves(NamedTuple):
    """[curves, scales], and rho and chance [curves]; size is n for counts, else the standard error."""

    x: Any
    y: Any
    size: Any
    seen: Any
    rho: Any
    chance: Any


def log_density(likelihood: Likelihood, y: Any, mean: Any, size: Any, rho: Any = 0.0) -> Any:
    """Log density of each observed y, any shapes that broadcast; JAX arrays.

        binomial        k = n y of n at rate `mean`; k need not be whole (the coefficient goes on by the gamma function)
        beta_binomial   the same at a rate drawn from Beta(mean phi, (1 - mean) phi), phi = 1 / rho - 1, so that two items
                        correlate by rho and the variance is n mean (1 - mean) (1 + (n - 1) rho)
        gaussian        y about `mean` with standard error `size`

    A rate outside [0, 1] has -inf, as a count that the rate 0 or 1 rules out.
    """
    if likelihood == "gaussian":
        return -0.5 * ((y - mean) / size) ** 2 - jnp.log(size * math.sqrt(2 * math.pi))
    k, rest = y * size, (1 - y) * size
    ways = gammaln(size + 1) - gammaln(k + 1) - gammaln(rest + 1)
    rate = jnp.clip(mean, 0, 1)
    if likelihood == "binomial":
        value = xlogy(k, rate) + xlog1py(rest, -rate)
    else:
        phi = 1 / rho - 1
        value = _rising(rate * phi, k) + _rising((1 - rate) * phi, rest) - _rising(phi, size)
    return jnp.where((mean >= 0) & (mean <= 1), value + ways, -jnp.inf)


def _rising(a: Any, k: Any) -> Any:
    """log Gamma(a + k) / Gamma(a), k >= 0: 0 for k = 0, -inf for a = 0 < k."""
    safe = jnp.where(a > 0, a, 1.0)
    return jnp.where(k > 0, jnp.where(a > 0, gammaln(safe + k) - gammaln(safe), -jnp.inf), 0.0)


def _slopes(likelihood: Likelihood, y: Any, mean: Any, size: Any, rho: Any) -> tuple[Any, Any]:
    """First derivative of the log density by the mean, and minus the second.

    The observed second derivative, kept within reach of the expected one: at a rate near 0 that the data belie the observed
    one is so large that a step only doubles the rate.
    """
    if likelihood == "gaussian":
        return (y - mean) / size**2, 1 / size**2 + 0 * mean
    rate = jnp.clip(mean, 1e-12, 1 - 1e-12)
    information = size / (rate * (1 - rate))
    if likelihood == "binomial":
        observed = size * (y / rate**2 + (1 - y) / (1 - rate) ** 2)
        return (y - mean) * information, jnp.clip(observed, 0.5 * information, 50 * information)
    phi = 1 / rho - 1
    a, b = rate * phi, (1 - rate) * phi
    k, rest = y * size, (1 - y) * size
    score = phi * (digamma(a + k) - digamma(a) - digamma(b + rest) + digamma(b))
    curvature = phi**2 * (_trigamma(a) - _trigamma(a + k) + _trigamma(b) - _trigamma(b + rest))
    expected = phi * jnp.log1p(size / phi) / (rate * (1 - rate))  # of the beta-binomial near 0 and 1
    return score, jnp.clip(curvature, 1e-3 * expected, 50 * expected)


def _trigamma(z: Any) -> Any:
    """To one percent, which is enough for a step."""
    w = z + 1
    return 1 / z**2 + 1 / w + 1 / (2 * w**2) + 1 / (6 * w**3) - 1 / (30 * w**5)


def _eliminated(matrix: Any, right: Any) -> Any:
    """Solution of a small positive definite system, written out: a batched library call is many times slower at this size."""
    rows, right = [matrix[i] for i in range(len(right))], [right[i] for i in range(len(right))]
    for i, pivot in enumerate(rows):
        for j in range(i + 1, len(rows)):
            factor = rows[j][i] / pivot[i]
            rows[j], right[j] = rows[j] - factor * pivot, right[j] - factor * right[i]
    for i in reversed(range(len(rows))):
        for j in range(i + 1, len(rows)):
            right[i] = right[i] - rows[i][j] * right[j]
        right[i] = right[i] / rows[i][i]
    return jnp.stack(right)


@lru_cache(128)
def _program(name: str, likelihood: Likelihood) -> Callable[[Curves, Any], Any]:
    """Search of one model: (curves, held) -> what `search` gives. `held` pins v where it is not NaN."""
    model = MODELS[name]

    def one(curve: Curves, held: Any) -> tuple:
        x, x0, x1 = curve.x, curve.x[0], jnp.where(curve.x[-1] > curve.x[0], curve.x[-1], curve.x[0] + 1)
        low, high = jnp.moveaxis(jnp.concatenate([_ends(model, likelihood, curve), model.box(x0, x1)]), 1, 0)
        pinned = ~jnp.isnan(held)
        low, high = jnp.where(pinned, held, low), jnp.where(pinned, held, high)

        def mean(v: Any) -> Any:
            return model.mean(model.natural(v, x0, x1), x)

        def total(v: Any) -> Any:
            return jnp.where(curve.seen, log_density(likelihood, curve.y, mean(v), curve.size, curve.rho), 0.0).sum()

        def start(shape: Any, low: Any, high: Any) -> Any:
            """Ends by weighted least squares for a given shape, then one given the other, so that bounds are heeded."""
            shape = jnp.clip(shape, low[2:], high[2:])
            basis = mean(jnp.concatenate([jnp.array([0.0, 1.0]), shape]))
            weight = jnp.where(curve.seen, curve.size if likelihood != "gaussian" else curve.size**-2.0, 0.0)
            weight = weight / weight.max()
            other = 1 - basis
            along, across, cross = ((weight * part).sum() for part in (basis**2, other**2, basis * other))
            right, left = ((weight * part * curve.y).sum() for part in (basis, other))
            tiny = 1e-12 * weight.sum()
            first = (left * along - right * cross) / jnp.maximum(along * across - cross**2, tiny**2)
            first = jnp.clip(jnp.where(along > tiny, first, left / jnp.maximum(across, tiny)), low[0], high[0])
            second = jnp.where(along > tiny, (right - first * cross) / jnp.maximum(along, tiny), first)
            second = jnp.clip(second, low[1], high[1])
            return jnp.concatenate([jnp.stack([first, second]), shape])

        def move(state: tuple, low: Any, high: Any) -> tuple:
            """Levenberg-Marquardt within the box."""
            v, value, damping = state
            slope = jax.jacfwd(mean)(v)
            parts = _slopes(likelihood, curve.y, mean(v), curve.size, curve.rho)
            score, weight = (jnp.where(curve.seen, part, 0.0) for part in parts)
            gradient = (score[:, None] * slope).sum(0)
            matrix = (weight[:, None, None] * slope[:, :, None] * slope[:, None, :]).sum(0)
            size = jnp.sqrt(jnp.diagonal(matrix))
            free = (size > 0) & ~((v <= low) & (gradient <= 0)) & ~((v >= high) & (gradient >= 0))
            size = jnp.where(free, size, 1.0)
            matrix = jnp.where(free[:, None] & free, matrix / size[:, None] / size, 0.0)
            matrix = matrix + jnp.diag(jnp.where(free, damping, 1.0))
            step = _eliminated(matrix, jnp.where(free, gradient / size, 0.0)) / size
            there = jnp.clip(v + step, low, high)
            then = total(there)
            rounding = 1e-13 * (1 + jnp.abs(value))  # near the top the sum is rounded, its slope still good
            better = then >= value - rounding
            damping = jnp.clip(jnp.where(better, damping / 5, damping * 4), 1e-14, 1e14)
            return (jnp.where(better, there, v), jnp.where(better, then, value), damping), value

        def climb(shapes: Any, low: Any, high: Any) -> tuple:
            begin = jax.vmap(start, (0, None, None))(shapes, low, high)
            values = jnp.nan_to_num(jax.vmap(total)(begin), nan=-jnp.inf, neginf=-jnp.inf)
            best = jnp.argmax(values)
            state = (begin[best], values[best], jnp.asarray(1e-3))
            (v, value, _), path = jax.lax.scan(lambda state, _: move(state, low, high), state, None, length=model.steps)
            return v, value, path[model.steps * 3 // 4]

        shapes = model.starts(x, x0, x1)
        lows, highs = (jnp.broadcast_to(end, (shapes.shape[0], end.size)) for end in (low, high))
        if model.by_gap:
            just_below = x[1:] - 1e-6 * jnp.diff(x)  # at the scale itself the slope is that of the next gap
            highs = highs.at[:, 2].min(jnp.where(pinned[2], jnp.inf, just_below))
            lows = jnp.minimum(lows.at[:, 2].max(jnp.where(pinned[2], -jnp.inf, x[:-1])), highs)
        found, values, before = jax.vmap(climb)(shapes, lows, highs)
        best = jnp.argmax(values)
        small = 1e-8 * jnp.maximum(jnp.abs(values[best]), 1)
        converged = ((values >= values[best] - small) & (values - before <= small)).any()
        v = found[best]
        searched = ~pinned & (low < high) & (jnp.arange(v.size) >= (0 if likelihood == "gaussian" else 2))
        edge = 1e-9 * (high - low)
        at_bound = (searched & ((v <= low + edge) | (v >= high - edge))).any()
        params, box = jnp.stack(model.natural(v, x0, x1)), jnp.stack([low, high], 1)
        return v, params, values[best], converged, at_bound, box

    return jax.jit(jax.vmap(one))


def _ends(model: Model, likelihood: Likelihood, curve: Curves) -> Any:
    """Bounds of the two ends: rates for counts, ten ranges beyond the data otherwise."""
    if not model.ends:
        return jnp.stack([jnp.full(2, curve.chance), jnp.ones(2)])
    if likelihood != "gaussian":
        return jnp.array([[0.0, 1.0], [0.0, 1.0]])
    low, high = jnp.where(curve.seen, curve.y, jnp.inf).min(), jnp.where(curve.seen, curve.y, -jnp.inf).max()
    reach = 10 * jnp.maximum(high - low, jnp.where(curve.seen, curve.size, 0.0).max())
    return jnp.stack([jnp.stack([low - reach, high + reach])] * 2)


def ascending(curves: Curves) -> Curves:
    """Points in order of scale, those not seen last at the largest x, up to a multiple of four."""
    width = -(-curves.y.shape[1] // 4) * 4
    order = np.argsort(np.where(curves.seen, curves.x, np.inf), axis=1, kind="stable")
    x, y, size, seen = (np.pad(np.take_along_axis(a, order, 1), ((0, 0), (0, width - a.shape[1]))) for a in curves[:4])
    last = np.take_along_axis(x, np.maximum(seen.sum(1, keepdims=True) - 1, 0), 1)
    return Curves(np.where(seen, x, last), np.where(seen, y, 0.0), np.where(seen, size, 1.0), seen, *curves[4:])


def search(name: str, likelihood: Likelihood, curves: Curves, held: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """`_program` on any number of curves: v, params, log likelihood, converged, at_bound, box; NaN where nothing is to fit."""
    model = MODELS[name]
    total, k = curves.y.shape[0], len(model.coordinates)
    held = np.full((total, k), np.nan) if held is None else held
    found = [np.full((total, *more), np.nan) for more in ((k,), (len(model.parameters),), (), (), (), (k, 2))]
    found[3], found[4] = np.zeros(total, bool), np.zeros(total, bool)
    some = curves.seen.any(1) & ~np.isnan(curves.rho)
    several = (curves.rho > 0) & (likelihood == "beta_binomial")
    without: Likelihood = "binomial" if likelihood == "beta_binomial" else likelihood
    for kind, rows in ((without, some & ~several), (likelihood, some & several)):
        rows = np.flatnonzero(rows)
        for start in range(0, rows.size, model.batch):
            part = rows[start : start + model.batch]
            filled = np.resize(part, model.batch)
            with jax.enable_x64(True):
                out = _program(name, kind)(Curves(*(a[filled] for a in curves)), held[filled])
            for whole, piece in zip(found, out, strict=True):
                whole[part] = np.asarray(piece)[: part.size]
    return tuple(found)

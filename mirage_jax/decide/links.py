"""Links: can the sharp metric's whole curve be computed from the linear one's, with one free dependence parameter?

Exact match of L tokens under a rate p per token, beyond the chance c of guessing, is c + (1 - c) q(p) with

    power           q = p^kappa                                   kappa = L where errors are independent
    markov          q = p (p + r (1 - p))^(L - 1)                 a right token makes the next one right more often
    beta_binomial   q = prod_(j < L) (p (1 - rho) + j rho) / (1 - rho + j rho)    items differ in difficulty
    probit          q = Phi(a + b Phi^-1(p)), b >= 0              for any other pair, above all choices: two parameters

The parameter is fitted on all scales at once. A link that is refused says that the sharp metric's jump is not a
consequence of the linear metric's curve; p^L alone would test independence, which no real answer passes.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri, xlogy
from jaxtyping import Array, Bool, Float, Int

LINKS = ("power", "markov", "beta_binomial", "probit")
LENGTHS = (2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 35.0)  # tried where the length is unknown
POINTS = 33  # of the parameter, then as many again around the best
MODEL = 0.01  # a link is believed to this relative error, less where q is near 0 or 1


class Link(NamedTuple):
    """The best link of one curve and how well it goes with the counts."""

    family: Int[Array, ""]  # index into LINKS
    parameter: Float[Array, ""]  # kappa, r, rho or b
    length: Float[Array, ""]  # given, or the best of LENGTHS
    deviance: Float[Array, ""]
    freedom: Int[Array, ""]
    p: Float[Array, ""]  # p-value of the deviance, 1 where no freedom is left
    predicted: Float[Array, " scales"]  # rate of the sharp metric


def _beta_binomial(p: Array, rho: Array, length: Array, most: int) -> Array:
    j = jnp.arange(most)
    factor = (p[..., None] * (1 - rho) + j * rho) / (1 - rho + j * rho)
    return jnp.exp(jnp.where(j < length, jnp.log(jnp.maximum(factor, 1e-300)), 0).sum(-1))


def _rates(p: Float[Array, " scales"], length: Array, most: int, t: Array, family: int) -> Array:
    """q at the scales for the parameter at t in [0, 1] of its range."""
    if family == 0:
        return p ** _kappa(t, length)
    if family == 1:
        return p * (p + t * 0.999 * (1 - p)) ** (length - 1)
    return _beta_binomial(p, t * 0.999, length, most)


def _kappa(t: Array, length: Array) -> Array:
    """From 0.3 to twice the length, in equal ratios."""
    return 0.3 * (2 * length / 0.3) ** t


def deviance(rate: Array, n: Array, q: Array, inflation: Array | float) -> Array:
    """Twice the binomial log likelihood ratio of the observed rates against q, each divided by its variance inflation."""
    q = jnp.clip(q, 1e-12, 1 - 1e-12)
    return 2 * n * (xlogy(rate, rate / q) + xlogy(1 - rate, (1 - rate) / (1 - q))) / inflation


def link(
    p: Float[Array, " scales"],
    rate: Float[Array, " scales"],
    n: Float[Array, " scales"],
    spread: Float[Array, " scales"],
    real: Bool[Array, " scales"],
    length: Float[Array, ""],
    chance: Float[Array, ""],
    tokens: Bool[Array, ""],
    *,
    most: int,
) -> Link:
    """Fit every link to one pair of curves and keep the best.

    Args:
        p: linear metric per scale; rate: sharp metric; both in [0, 1], improvement upwards.
        n: items, 0 beyond the real scales. spread: standard errors of a sharp metric that is not a rate of successes,
            NaN where it is one (judged by the binomial deviance).
        length: tokens of an answer, NaN if unknown or mixed.
        chance: rate of guessing.
        tokens: whether the sharp metric asks for every token; else only the probit link is fitted.
        most: no length is above this.
    """
    p = jnp.clip(p, 1e-6, 1 - 1e-6)
    lengths = jnp.where(jnp.isnan(length), jnp.array(LENGTHS), length)

    def misfit(q: Array) -> Array:
        q = chance + (1 - chance) * q
        model = MODEL * jnp.minimum(1.0, 4 * q * (1 - q) + 0.1)
        inflation = 1 + n * model**2 / jnp.maximum(q * (1 - q), model)
        of_rate = deviance(rate, n, q, inflation)
        of_score = (rate - q) ** 2 / (spread**2 + model**2)
        return jnp.maximum(jnp.where(real, jnp.where(jnp.isnan(spread), of_rate, of_score), 0).sum(-1), 0)

    found, values, at, places = [], [], [], []
    for family in range(3):
        one = jax.vmap(lambda t, size, f=family: misfit(_rates(p, size, most, t, f)), (0, None))
        each = jax.vmap(one, (None, 0))  # lengths x points
        coarse = jnp.linspace(0, 1, POINTS)
        grid = each(coarse, lengths)
        best = jnp.argmin(grid)
        size, t, chi2 = lengths[best // POINTS], coarse[best % POINTS], grid
        for _ in range(2):
            fine = jnp.clip(
                t + jnp.linspace(-1, 1, POINTS) / (POINTS - 1) * (1.0 if _ == 0 else 2 / (POINTS - 1)), 0, 1
            )
            chi2 = one(fine, size)
            t = fine[jnp.argmin(chi2)]
        found.append(chi2.min())
        values.append(_kappa(t, size) if family == 0 else t * 0.999)
        at.append(size)
        places.append(_rates(p, size, most, t, family))
    above = ((rate * n + 0.5) / (n + 1) - chance) / (1 - chance)
    z, target = ndtri(p), ndtri(jnp.clip(above, 1e-6, 1 - 1e-6))
    w = jnp.where(real, n * jnp.exp(-(target**2)), 0) + 1e-12 * real
    centre_z, centre_t = (w * z).sum() / w.sum(), (w * target).sum() / w.sum()
    b0 = jnp.maximum((w * (z - centre_z) * (target - centre_t)).sum() / (w * (z - centre_z) ** 2).sum(), 0.05)
    theta = _probit(z, jnp.stack([centre_t - b0 * centre_z, b0]), rate, n, real, chance)
    found.append(misfit(ndtr(theta[0] + theta[1] * z)))
    values.append(theta[1])
    at.append(length)
    places.append(ndtr(theta[0] + theta[1] * z))
    allowed = jnp.array([True, True, True, False]) == tokens
    best = jnp.argmin(jnp.where(allowed, jnp.stack(found), jnp.inf))
    predicted = chance + (1 - chance) * jnp.stack(places)[best]
    spent = jnp.where(tokens, 1 + jnp.isnan(length), 2)
    freedom = (real & (n * predicted > 1)).sum() - spent
    chi2 = jnp.stack(found)[best]
    return Link(
        best, jnp.stack(values)[best], jnp.stack(at)[best], chi2, freedom,
        jnp.where(freedom > 0, _chi2_sf(chi2, jnp.maximum(freedom, 1)), 1.0), predicted,
    )  # fmt: skip


def _probit(z: Array, start: Array, rate: Array, n: Array, real: Array, chance: Array) -> Array:
    """Maximum-likelihood probit regression by Fisher scoring, b >= 0."""
    design = jnp.stack([jnp.ones_like(z), z], -1)

    def step(_: Any, theta: Array) -> Array:
        eta = jnp.clip(design @ theta, -6, 6)
        q = jnp.clip(chance + (1 - chance) * ndtr(eta), 1e-9, 1 - 1e-9)
        density = (1 - chance) * jnp.exp(-0.5 * eta**2) / np.sqrt(2 * np.pi)
        weight = jnp.where(real, n * density**2 / (q * (1 - q)), 0)
        gradient = design.T @ jnp.where(real, n * (rate - q) * density / (q * (1 - q)), 0)
        information = design.T @ (weight[:, None] * design) + 1e-6 * jnp.eye(2)
        move = jnp.clip(jnp.linalg.solve(information, gradient), -1, 1)
        new = theta + move
        return jnp.stack([new[0], jnp.maximum(new[1], 0)])

    return jax.lax.fori_loop(0, 25, step, start)


def _chi2_sf(chi2: Array, freedom: Array) -> Array:
    return jax.scipy.special.gammaincc(freedom / 2.0, chi2 / 2)


@partial(jax.jit, static_argnames=("batch", "most"))
def fit_links(
    p: Array, rate: Array, n: Array, spread: Array, real: Array, length: Array, chance: Array, tokens: Array,
    *, batch: int, most: int,
) -> Link:  # fmt: skip
    """`link` of many pairs of curves, `batch` at a time."""
    one = partial(link, most=most)
    return jax.lax.map(lambda pair: one(*pair), (p, rate, n, spread, real, length, chance, tokens), batch_size=batch)


def link_names(index: np.ndarray) -> np.ndarray:
    """Names of links by their index; empty where there is no pair."""
    return np.array([LINKS[int(i)] if np.isfinite(i) else "" for i in index], dtype=object)

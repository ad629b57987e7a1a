"""Metric swap: predict a sharp metric's curve from a linear metric's, given the same outputs, and test the prediction.

Independent tokens predict p^L, and the independence ratio rate / p^L says how far they are off. The links of the verdict
add one parameter for how the tokens hang together, fitted on all scales at once: what they refuse is no consequence of
the linear metric's curve.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from mirage_jax.arrays import Numbers
from mirage_jax.decide.links import LINKS, fit_links
from mirage_jax.decide.rule import BATCH, in_chunks, longest, padded_to
from mirage_jax.estimators import clopper_pearson


class Swap(NamedTuple):
    """A prediction of the sharp metric, [scales], and how well it goes with what was measured."""

    predicted: np.ndarray
    link: str
    parameter: float  # kappa, r, rho, or the slope of the probit link
    length: float  # given, or the one that fits best
    p: float  # p-value of the link
    independent: np.ndarray  # c + (1 - c) p^L, NaN where the length is unknown
    p_independent: float  # p-value of p^L, NaN where the length is unknown
    independence_ratio: np.ndarray  # what is measured beyond chance over p^L
    independence_low: np.ndarray  # 95%, from the counts of the sharp metric; p is taken as known
    independence_high: np.ndarray


def metric_swap(
    linear: Numbers,
    sharp: Numbers,
    n: Numbers,
    *,
    length: float | None = None,
    chance: float = 0.0,
    tokens: bool = True,
) -> Swap:
    """Predict a share of successes from the rate per token of the same outputs.

        power c + (1 - c) p^kappa, Markov and beta-binomial dependence; where `tokens` is false a probit relation

    Args:
        linear: token accuracy (or the probability of the right option) at each scale, in [0, 1].
        sharp: share of n items right, at each scale.
        n: items of each score.
        length: tokens of an answer; None if unknown or mixed.
        chance: share of right answers by guessing.
        tokens: whether an item is right where all of its tokens are; false for a choice among options.

    Returns:
        Swap; its p-value is of the deviance, with as many degrees of freedom as scales with an expected success, less the
        parameters that were fitted.

    Raises:
        ValueError: shapes that differ, fewer than 3 scales, rates outside [0, 1], n < 1 or length < 1.
    """
    p, rate = np.asarray(linear, dtype=float), np.asarray(sharp, dtype=float)
    items = np.broadcast_to(np.asarray(n, dtype=float), p.shape)
    if p.ndim != 1 or p.shape != rate.shape or p.size < 3:
        raise ValueError(f"linear and sharp must be vectors of one length, at least 3, got {p.shape} and {rate.shape}")
    if not (np.all((p >= 0) & (p <= 1)) and np.all((rate >= 0) & (rate <= 1))):
        raise ValueError("linear and sharp must lie in [0, 1]")
    if not np.all(items >= 1) or not 0 <= chance < 1 or (length is not None and not length >= 1):
        raise ValueError(f"needs n >= 1, length >= 1 and chance in [0, 1), got n {n}, length {length}, chance {chance}")
    rate = np.rint(rate * items) / items
    width = int(padded_to(np.array([p.size]))[0])

    def padded(values: Any, fill: float = 0.5) -> np.ndarray:
        return np.pad(np.asarray(values, dtype=float), (0, width - p.size), constant_values=fill)[None]

    size = np.array([np.nan if length is None else float(length)])
    given = (
        padded(p), padded(rate), padded(items, 0), np.full((1, width), np.nan), np.arange(width)[None] < p.size, size,
        np.array([chance]), np.array([tokens]),
    )  # fmt: skip
    found = in_chunks(partial(fit_links, batch=BATCH, most=longest(size)), given)
    family, parameter, fitted, _, _, p_value, predicted = (field[0] for field in found)
    independent = chance + (1 - chance) * p ** size[0]
    expected = np.clip(independent, 1e-12, 1 - 1e-12)
    seen = items * expected > 1
    with np.errstate(divide="ignore", invalid="ignore"):
        chi2 = np.where(seen, items * (rate - expected) ** 2 / (expected * (1 - expected)), 0).sum()
        low, high = clopper_pearson(np.rint(rate * items).astype(int), items.astype(int))
        ratio, below, above = (
            (of - chance) / (independent - chance) for of in (rate, np.asarray(low), np.asarray(high))
        )
    unknown = length is None
    return Swap(
        predicted[: p.size], LINKS[int(family)], float(parameter), float(fitted), float(p_value), independent,
        float("nan") if unknown else float(stats.chi2.sf(chi2, max(int(seen.sum()), 1))), ratio, below, above,
    )  # fmt: skip

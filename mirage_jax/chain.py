"""Where predictability is lost between the log-probability of the right answer and accuracy.

References:
    Schaeffer et al. (2024), "Why Has Predicting Downstream Capabilities of Frontier AI Models with Scale Remained Elusive?".
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy import stats

from mirage_jax.arrays import Numbers
from mirage_jax.metrics import choices as metrics
from mirage_jax.outcomes import Choices, check

LINKS = ("target_log_prob", "vocab_prob", "choice_prob", "brier_sum", "multiple_choice_grade")
COEFFICIENTS = ("pearson", "spearman", "kendall")
_PAIRS = 1 << 24  # signs of pairs of models held at a time


class Chain(NamedTuple):
    """Correlation of each item's score with log scale over the models, at every link, and its distribution over items.

    Axes: links as in LINKS, coefficients as in COEFFICIENTS. Brier scores are negated first: 1 is always steady progress.
    The summaries leave out items whose correlation is undefined, a score that never changes, say; `undefined` is their
    share, and where it is 1 the rest is NaN.
    """

    score: np.ndarray  # [links, models, items]
    correlation: np.ndarray  # [links, coefficients, items]
    mean: np.ndarray  # [links, coefficients]
    median: np.ndarray
    area: np.ndarray  # under the complementary distribution function over [-1, 1]
    nearness: np.ndarray  # minus the smaller Wasserstein distance to all -1 or all 1
    undefined: np.ndarray


def chain(outcome: Choices, scale: Numbers) -> Chain:
    """Follow every item from log p(right answer) over p, p among the options and the Brier score to accuracy.

    Of correlations r in [-1, 1] with mean m, the area is the integral of P(r > t), m + 1, and the nearness is
    -min(1 - m, 1 + m) = |m| - 1. Where some model held the right answer impossible, log p is not finite and has no
    correlation. Checkpoints of one run are not independent models.

    Args:
        outcome: multiple-choice outcome of [models, items, choices].
        scale: of each model, > 0: compute, parameters or tokens.

    Raises:
        ValueError: an outcome that no model can have given, or without the two axes, fewer than 3 different scales, or one
            not above 0.
    """
    x = np.asarray(scale, dtype=float)
    if outcome.log_prob.ndim != 3 or x.shape != outcome.log_prob.shape[:1] or not outcome.log_prob.size:
        raise ValueError(
            f"needs log_prob of [models, items, choices] and a scale each, got {outcome.log_prob.shape} and {x.shape}"
        )
    if not np.all((x > 0) & np.isfinite(x)) or np.unique(x).size < 3:
        raise ValueError(f"a correlation with scale needs at least 3 different scales > 0, got {np.unique(x).tolist()}")
    check(outcome)
    score = _scores(outcome)
    ways = (_pearson, _spearman, _kendall)
    correlation = np.array([[correlate(np.log(x), link) for correlate in ways] for link in score])
    there = ~np.isnan(correlation)
    n = there.sum(-1)
    mean = np.where(n > 0, np.where(there, correlation, 0.0).sum(-1) / np.maximum(n, 1), np.nan)
    median = np.array(
        [[np.median(r[~np.isnan(r)]) if (r == r).any() else np.nan for r in link] for link in correlation]
    )
    return Chain(score, correlation, mean, median, mean + 1, np.abs(mean) - 1, 1 - n / correlation.shape[-1])


def _scores(outcome: Choices) -> np.ndarray:
    """Each link of every model and item, higher is better, [links, models, items], in float64."""
    with jax.enable_x64(True):
        log_prob, weight = (np.asarray(part, dtype=float) for part in (outcome.log_prob, outcome.weight))
        return np.asarray(_links(log_prob, np.asarray(outcome.real), weight))


@jax.jit
def _links(log_prob: Array, real: Array, weight: Array) -> Array:
    right = jnp.where(real, weight, 0.0)
    target = right / right.sum(-1, keepdims=True)
    links = [
        metrics.target_log_prob(log_prob, real, weight),
        metrics.vocab_prob(log_prob, real, weight),
        metrics.choice_prob(log_prob, real, weight),
        -metrics.brier_sum(metrics.choice_probabilities(log_prob, real), target, real),
        metrics.multiple_choice_grade(log_prob, real, weight),
    ]
    return jnp.stack(links)


def _steady(y: np.ndarray) -> np.ndarray:
    """Items that are not finite, or do not change beyond rounding."""
    finite = np.isfinite(y).all(0)
    safe = np.where(finite, y, 0.0)
    return ~finite | (np.ptp(safe, axis=0) <= 8 * np.finfo(float).eps * np.abs(safe).max(0))


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Correlation of x [models] with every column of y [models, items]; NaN where y is steady."""
    steady = _steady(y)
    y = np.where(steady, x[:, None], y)
    dx, dy = x - x.mean(), y - y.mean(0)
    r = (dx @ dy) / np.sqrt((dx**2).sum() * (dy**2).sum(0))
    return np.where(steady, np.nan, np.clip(r, -1, 1))


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the ranks, equal values sharing theirs."""
    ranks = np.where(_steady(y), np.nan, stats.rankdata(y, axis=0))
    return _pearson(stats.rankdata(x), ranks)


def _kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b: concordant less discordant pairs of models over the root of the pairs untied in x and in y."""
    steady = _steady(y)
    a, b = np.triu_indices(x.size, 1)
    sx = np.sign(x[a] - x[b])
    out = np.full(y.shape[1], np.nan)
    items = np.flatnonzero(~steady)
    width = max(_PAIRS // a.size, 1)
    for block in (items[i : i + width] for i in range(0, items.size, width)):
        sy = np.sign(y[a][:, block] - y[b][:, block])
        out[block] = (sx @ sy) / np.sqrt(np.abs(sx).sum() * np.abs(sy).sum(0))
    return out

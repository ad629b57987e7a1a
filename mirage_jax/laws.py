"""Scaling laws of the loss: a straight line in log-log, a power law above a floor, and the law of parameters and tokens.

    log_log       log10 loss = intercept + slope log10 scale
    irreducible   loss = E + (scale / c)^alpha
    chinchilla    loss = E + A / params^alpha + B / tokens^beta

Host functions in float64.

References:
    Kaplan et al. (2020); Hoffmann et al. (2022), approach 3; Besiroglu et al. (2024), "Chinchilla Scaling: A Replication
    Attempt": the mean of tiny Huber losses ends an optimiser at once, so that the objective is a sum here, over delta^2.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from mirage_jax.arrays import Numbers

STARTS = 12  # best points of the grid that are followed down


class LogLog(NamedTuple):
    """Slope and intercept of log10 loss on log10 scale, their standard errors (NaN below 3 points), and the points."""

    slope: float
    intercept: float
    slope_se: float
    intercept_se: float
    n: int


class Irreducible(NamedTuple):
    """loss = E + (scale / c)^alpha, alpha < 0; the Huber objective reached; the share of starts that reached it."""

    E: float
    c: float
    alpha: float
    objective: float
    converged: float


class Chinchilla(NamedTuple):
    """loss = E + A / params^alpha + B / tokens^beta; the Huber objective reached; the share of starts that reached it."""

    A: float
    B: float
    E: float
    alpha: float
    beta: float
    objective: float
    converged: float


def log_log(scale: Numbers, loss: Numbers) -> LogLog:
    """Ordinary least squares of log10 loss on log10 scale; a loss of NaN is missing.

    Standard errors are those of the residuals about the line, s^2 = sum r^2 / (n - 2).

    Raises:
        ValueError: see `_logs`, fewer than 2 different scales.
    """
    x, y = (a / np.log(10) for a in _logs(loss, scale=scale))
    if np.unique(x).size < 2:
        raise ValueError(f"a line needs at least 2 different scales, got {np.unique(x).size}")
    n, spread = x.size, float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    intercept = float(y.mean() - slope * x.mean())
    variance = float(((y - intercept - slope * x) ** 2).sum()) / (n - 2) if n > 2 else np.nan
    slope_se, intercept_se = np.sqrt(variance / spread), np.sqrt(variance * (1 / n + x.mean() ** 2 / spread))
    return LogLog(slope, intercept, float(slope_se), float(intercept_se), n)


def irreducible(scale: Numbers, loss: Numbers, delta: float = 1e-3) -> Irreducible:
    """Power law above a floor: E + (scale / c)^alpha, in the convention of `scaling.cross_entropy`.

    Fitted as `chinchilla` with one term. Where the loss is not yet bending, E is not determined: it may come out near 0.

    Raises:
        ValueError: see `_logs`, fewer than 3 points, delta <= 0.
    """
    x, y = _logs(loss, scale=scale)
    starts = itertools.product(
        np.linspace(0, 25, 6), np.linspace(0.05, 2, 8), [y.min() - 3, y.min() - 1, y.min() - 0.1]
    )
    (a, exponent, e), objective, converged = _descend(x[None], y, np.array(list(starts)), delta)
    return Irreducible(float(np.exp(e)), float(np.exp(a / exponent)), -exponent, objective, converged)


def chinchilla(params: Numbers, tokens: Numbers, loss: Numbers, delta: float = 1e-3) -> Chinchilla:
    """The parametric law of Hoffmann et al. (2022), in their parametrisation.

        log loss = LSE(a - alpha log params, b - beta log tokens, e),  A = exp a, B = exp b, E = exp e

    minimises the Huber loss of log loss summed over the runs, by BFGS from the best 12 points of their grid of 4500 starts
    (five numbers need no limited memory).

    Args:
        params: parameters of each run.
        tokens: training tokens of each run.
        loss: final loss of each run in nats per token; NaN where missing.
        delta: width of the Huber loss; below it squares, beyond it absolute values.

    Returns:
        Chinchilla. `converged` is the share of the starts that came within 1e-4 of the best objective.

    Raises:
        ValueError: see `_logs`, fewer than 5 points, delta <= 0.
    """
    log_params, log_tokens, y = _logs(loss, params=params, tokens=tokens)
    grid = itertools.product(
        range(0, 26, 5), np.arange(0, 2.1, 0.5), range(0, 26, 5), np.arange(0, 2.1, 0.5), np.arange(-1, 1.1, 0.5)
    )
    found, objective, converged = _descend(
        np.stack([log_params, log_tokens]), y, np.array(list(grid), dtype=float), delta
    )
    a, alpha, b, beta, e = found
    A, B, E = np.exp([a, b, e])
    return Chinchilla(float(A), float(B), float(E), alpha, beta, objective, converged)


def _logs(loss: Numbers, **scales: Numbers) -> list[np.ndarray]:
    """Natural logarithms of the scales, then of the loss, without the runs of no loss.

    Raises:
        ValueError: not vectors of one length, a scale or loss that is not positive and finite.
    """
    named = {**scales, "loss": loss}
    arrays = [np.asarray(a, dtype=float) for a in named.values()]
    if any(a.ndim != 1 or a.shape != arrays[-1].shape for a in arrays):
        raise ValueError(f"{', '.join(named)} must be vectors of one length, got {[a.shape for a in arrays]}")
    kept = [a[~np.isnan(arrays[-1])] for a in arrays]
    for name, a in zip(named, kept, strict=True):
        if not np.all((a > 0) & np.isfinite(a)):
            raise ValueError(f"{name} must be positive and finite, got {a[~((a > 0) & np.isfinite(a))][0]}")
    return [np.log(a) for a in kept]


def _descend(x: np.ndarray, y: np.ndarray, starts: np.ndarray, delta: float) -> tuple[list[float], float, float]:
    """Best (a_1, exponent_1, ..., e), its objective, and the share of starts that came to it. x: [terms, runs]."""
    if y.size < starts.shape[1]:
        raise ValueError(f"a law of {starts.shape[1]} parameters needs as many points, got {y.size}")
    if not delta > 0:
        raise ValueError(f"delta must be positive, got {delta}")

    def parts(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log of each term [..., terms + 1, runs], and of their sum less log loss [..., runs]."""
        power = v[..., 0:-1:2, None] - v[..., 1:-1:2, None] * x
        each = np.concatenate([power, np.broadcast_to(v[..., -1:, None], (*power.shape[:-2], 1, y.size))], -2)
        return each, np.logaddexp.reduce(each, -2) - y

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        each, residual = parts(v)
        share = np.exp(each - residual - y) * np.clip(residual, -delta, delta) / delta**2
        by = np.empty_like(v)
        by[0:-1:2], by[1:-1:2], by[-1] = share[:-1].sum(1), -(share[:-1] * x).sum(1), share[-1].sum()
        return float(special.huber(delta, residual).sum()) / delta**2, by

    values = np.concatenate([special.huber(delta, parts(v)[1]).sum(-1) for v in np.array_split(starts, 20)])
    options = {"maxiter": 2000, "gtol": 1e-6}
    ends = [
        optimize.minimize(objective, start, jac=True, method="BFGS", options=options)
        for start in starts[np.argsort(values, kind="stable")[:STARTS]]
    ]
    best = min(ends, key=lambda end: end.fun)
    share = np.mean([end.fun <= best.fun + 1e-4 * max(best.fun, 1) for end in ends])
    return best.x.tolist(), float(best.fun) * delta**2, float(share)

"""How often a correct program may fail a stochastic test: declared here, and nowhere else.

A run of the whole suite makes at most COMPARISONS comparisons of something drawn with something known. Each may fail with
probability ALPHA, so one or more of them fails with at most SUITE. The seeds in the tests are fixed: a run that passed
passes again, and the rate speaks of a change of seed, of the generator, or of what is drawn.

Every comparison is charged to the budget when it is made; a process that makes more than COMPARISONS stops with an error.
(Under `pytest -n` each worker counts its own share, so the full check is the run in one process.)

Which to use:

    counts      successes of n independent trials: exact, at any rate and n
    histogram   counts of several outcomes: a bound that holds at any n and any expectation
    sigmas      a mean of many scores: rests on the normal law, whose tail at z is off by a factor of about
                exp(skewness z^3 / (6 sqrt(n))); fine for thousands of bounded scores, wrong for a handful of successes
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

SUITE = 1e-3
COMPARISONS = 2000
ALPHA = SUITE / COMPARISONS

_made = 0


def _charge(comparisons: int) -> None:
    global _made
    _made += comparisons
    if _made > COMPARISONS:
        raise RuntimeError(f"more than {COMPARISONS} stochastic comparisons in one run: raise alarms.COMPARISONS")


def sigmas(comparisons: int = 1) -> float:
    """Standard errors by which each of so many means may miss: 5.03."""
    _charge(comparisons)
    return float(stats.norm.isf(ALPHA / 2))


def counts(k: ArrayLike, n: ArrayLike, low: ArrayLike, high: ArrayLike | None = None) -> bool:
    """Whether k successes of n go with a rate in [low, high] (`high` is `low` unless given), for every one of them.

    Exact: refused if P(X <= k | low) or P(X >= k | high) is below ALPHA / 2.
    """
    k, n, low, high = np.broadcast_arrays(k, n, low, low if high is None else high)
    if not np.all((k >= 0) & (k <= n) & (low <= high) & (k == np.round(k))):
        raise ValueError("needs whole 0 <= k <= n and low <= high")
    _charge(k.size)
    return bool(np.all((stats.binom.cdf(k, n, low) >= ALPHA / 2) & (stats.binom.sf(k - 1, n, high) >= ALPHA / 2)))


def histogram(observed: ArrayLike, pmf: ArrayLike) -> bool:
    """Whether counts of m outcomes go with their probabilities: the G-test under a bound that holds for finite samples.

        G / 2 = sum observed ln(observed / expected) = x        P(x or more) <= (e x / (m - 1))^(m - 1) exp(-x)

    No pooling: at an ALPHA this small the chi-square law is too generous to cells of small expectation (a cell of
    expectation 10 alone raises the alarm 35 times too often). An outcome of probability 0 must not occur.

    References:
        Agrawal (2020), "Finite-Sample Concentration of the Multinomial in Relative Entropy".
    """
    observed, pmf = np.asarray(observed, dtype=float), np.asarray(pmf, dtype=float)
    if observed.shape != pmf.shape or observed.ndim != 1 or (observed < 0).any() or (pmf < 0).any():
        raise ValueError(f"needs two vectors of one length, none below 0, got shapes {observed.shape} and {pmf.shape}")
    if abs(pmf.sum() - 1) > 1e-9:
        raise ValueError(f"the probabilities must add up to 1, got {pmf.sum()}; give the tail a cell of its own")
    _charge(1)
    if observed[pmf == 0].any():
        return False
    seen = observed > 0
    x = float((observed[seen] * np.log(observed[seen] / (observed.sum() * pmf[seen]))).sum())
    free = int((pmf > 0).sum()) - 1
    if x <= free or free == 0:
        return True
    return free * (1 + math.log(x / free)) - x >= math.log(ALPHA)

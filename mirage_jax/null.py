"""What the emergence score makes of noise: quantiles and p-values against a constant and against a smooth curve.

All p-values are one-sided, P(null >= score): how often models that did not improve, or only smoothly, look at least as much
like a leap upwards. They belong in the evidence, never in the decision.

Scores are those of `mirage_jax.emergence.emergence_scores`, not divided by the number of scales (`normalise="none"`), under
the same `zero_median`. Every number is a function of its arguments and the seed alone: what stands beside a curve in a batch
does not change its p-value.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import stats

from mirage_jax.arrays import Numbers
from mirage_jax.emergence import (
    Direction,
    as_curves,
    emergence_scores,
    rank_correlations,
    signed_ranges,
    signed_scores,
    typical_steps,
)

Policy = Literal["floor", "inf"]
DRAWS = 20_000
# Where one success more or less matters (variance below LATTICE, or few items), tests of FEW items and of infinitely many
# are drawn at these mean counts; elsewhere, symmetric and Poisson counts of these variances.
FEW = 20
RARE = np.array([0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4])
LATTICE = 4.0
VARIANCES = np.array([LATTICE, 8.0, 16.0, 64.0, 256.0, np.inf])
_LOG_VARIANCES = np.log(np.append(VARIANCES[:-1], 1024.0))  # from there on the counts are as good as Gaussian


class EmergenceNull(NamedTuple):
    """Scores of curves without a leap, in ascending order."""

    scores: np.ndarray  # [draws]

    def quantile(self, level: Numbers) -> np.ndarray:
        """The smallest drawn score that a share `level` of the scores lies at or below."""
        q = np.asarray(level, dtype=float)
        if not np.all((q > 0) & (q <= 1)):
            raise ValueError(f"level must lie in (0, 1], got {level}")
        return np.asarray(self.scores[np.ceil(q * self.scores.size - 1e-9).astype(int) - 1])

    def p_value(self, score: Numbers) -> np.ndarray:
        """(1 + draws at or above the score) / (1 + draws), never 0; NaN for a NaN score."""
        e = np.asarray(score, dtype=float)
        return np.where(np.isnan(e), np.nan, _tail(self.scores, e))


def emergence_score_null(
    means: Numbers,
    *,
    n: Numbers | None = None,
    se: Numbers | None = None,
    zero_median: Policy = "floor",
    draws: int = DRAWS,
    seed: int = 0,
) -> EmergenceNull:
    """What the emergence score makes of a given curve when only the noise of the test is added to it.

    `np.full(8, 0.25)` for models that never improve, a fitted smooth curve for models that improve smoothly:

        y_i = Binomial(n_i, means_i) / n_i        or, given se,        y_i = means_i + se_i N(0, 1)

    Args:
        means: [scales], in ascending order of scale, improvement upwards; NaN where there is no score.
        n: test items, whole, one number or [scales]; the means are then success rates.
        se: standard errors, likewise. Exactly one of the two is needed.
        zero_median: as in `emergence_score`; `floor` or `inf`. With `inf`, models at .25 on 50 items reach +inf in 1.2% of
            families of 4.
        draws: how many.
        seed: of numpy's Philox.

    Raises:
        ValueError: fewer than 3 means, rates outside [0, 1], n not whole or below 1, se below 0, both or neither.
    """
    mean = np.asarray(means, dtype=float)
    if mean.ndim != 1:
        raise ValueError(f"means must be [scales], got shape {mean.shape}")
    mean, n, se = (None if v is None else np.broadcast_to(v, mean.shape)[~np.isnan(mean)] for v in (mean, n, se))
    if mean is None or mean.size < 3 or not np.isfinite(mean).all():
        raise ValueError("means must be finite at 3 scales at least")
    _sampling(zero_median, draws)
    generator = np.random.Generator(np.random.Philox(seed))
    if n is not None and se is None:
        if not (np.all((mean >= 0) & (mean <= 1)) and np.all((n >= 1) & (n == np.round(n)))):
            raise ValueError("n needs success rates in [0, 1] and whole n >= 1")
        curves = generator.binomial(n.astype(np.int64), mean, size=(draws, mean.size)) / n
    elif se is not None and n is None:
        if not np.all((se >= 0) & np.isfinite(se)):
            raise ValueError("se must be finite and >= 0")
        curves = mean + se * generator.standard_normal((draws, mean.size))
    else:
        raise ValueError("give either n (success rates) or se (any other score)")
    return EmergenceNull(np.sort(emergence_scores(curves, n, se=se, zero_median=zero_median)))


@lru_cache(256)
def constant_null(
    scales: int,
    n: int | None,
    base: float = 0.5,
    *,
    zero_median: Policy = "floor",
    draws: int = DRAWS,
    seed: int = 0,
) -> np.ndarray:
    """Sorted emergence scores [draws] of families whose models all score `base` on n items; n None: Gaussian scores.

    `emergence_score_null` of a constant, kept: the array is not to be written to. Quantiles at base .25, n = 50 to 1000:

        scales   floor: 95%   99%       inf: 95%   99%
        4        1.96-1.99    2.45      4.0-4.2    8.8-9 (+inf at n = 50)
        5        2.13         2.6       3.7-3.8    5.9-6
        8        2.6          3.1       5.0        8-9
        12       2.9          3.4       5.3-5.5    7.7-9
    """
    means = np.full(scales, float(base))
    null = emergence_score_null(
        means, n=n, se=1.0 if n is None else None, zero_median=zero_median, draws=draws, seed=seed
    )
    null.scores.flags.writeable = False
    return null.scores


def p_constant(
    score: Numbers,
    scales: Numbers,
    n: Numbers | None,
    base: Numbers = 0.5,
    *,
    zero_median: Policy = "floor",
    draws: int = DRAWS,
    seed: int = 0,
) -> np.ndarray:
    """P(E >= score) for families of models that all have the same ability: [curves], one-sided, never 0.

    Exact in the number of scales. In n and base, log p is interpolated between simulated families (once per number of
    scales, then kept). At 1 - base the null is the one at base, mirrored: E(1 - y) = -E(y); not the same, since of equal
    extremes the first counts, and few successes tie.

    Measured against 200,000 direct draws at p >= .01 (3 to 12 scales, n from 20 to 1000, base from .01 to .97): relative
    error 4% in the median and at most 10% in nine of ten cases under `floor`, 2% and 8% under `inf` (the 20,000 draws alone
    make 7% at p = .01). Worst, 42%: 4 < n base (1 - base) < 16 at base .5, where scores take few values. Over families of
    3 to 12 models on 20 to 2000 items, each at its own mean, 5.1% of p-values are below .05 and 1.0% below .01.

    Args:
        score: emergence scores by the same `zero_median`, n and base; NaN gives NaN, +inf is a score like any other.
        scales: how many scales each curve has; below 3 gives NaN.
        n: test items behind each score of the curve, whole (the smallest, if they differ); None for Gaussian scores (any score
            with standard errors), whose null knows no base.
        base: the common success rate; the curve's own mean, where it is not known. NaN gives NaN.
        zero_median: the policy that the scores were computed under; `inf` where neither n nor se was given for the scores.
        draws: for each simulated family.
        seed: of numpy's Philox.

    Raises:
        ValueError: shapes that do not broadcast, n < 1, a base outside [0, 1], or scales that are not whole.
    """
    _sampling(zero_median, draws)
    given = [np.asarray(v, dtype=float) for v in (score, scales, np.inf if n is None else n, base)]
    try:
        e, m, items, rate = np.broadcast_arrays(*given)
    except ValueError:
        raise ValueError(f"score, scales, n and base must broadcast, got {[v.shape for v in given]}") from None
    if not np.all((m == np.round(m)) & (m >= 0)):
        raise ValueError("scales must be whole numbers >= 0")
    p, known = np.full(e.shape, np.nan), ~(np.isnan(e) | np.isnan(rate)) & (m >= 3)
    if np.any(known & ~((items >= 1) & (items == np.round(items)) & (rate >= 0) & (rate <= 1))):
        raise ValueError("p_constant needs whole n >= 1 and base in [0, 1]")
    still = known & ((rate == 0) | (rate == 1)) & np.isfinite(items)  # never a range: the score is 0
    p[still] = np.where(e[still] <= 0, 1.0, 1 / (1 + draws))
    variance = np.where(np.isinf(items), np.inf, items * np.maximum(rate * (1 - rate), np.finfo(float).tiny))
    rare = (variance < LATTICE) | (items <= FEW)
    for scale in np.unique(m[known & ~still]):
        mine = known & ~still & (m == scale)
        which = _Drawn(int(scale), draws, seed), zero_median == "floor"
        p[mine & rare] = _p_rare(*which, *(v[mine & rare] for v in (e, items, rate)))
        p[mine & ~rare] = _p_common(*which, *(v[mine & ~rare] for v in (e, variance, rate)))
    return p


def p_smooth(
    score: Numbers,
    means: Numbers,
    *,
    n: Numbers | None = None,
    se: Numbers | None = None,
    zero_median: Policy = "floor",
    draws: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """P(E >= score) where each curve is a given smooth one plus the noise of the test: [curves], never 0.

    A parametric bootstrap of `emergence_score_null` at the caller's fitted means; that the fit itself was estimated is not
    part of it. Evidence, never a decision: with a quadratic for the smooth curve, smooth truths are rejected at 5% in 21% to
    41% of cases, because no smooth family is the true one. A curve's p-value depends on its own row and the seed alone.

    Args:
        score: [curves], emergence scores under the same policy; NaN gives NaN.
        means: [curves, scales], improvement upwards; NaN where the curve has no score. Fewer than 3 give NaN.
        n: test items; one number, [scales], [curves, 1] or [curves, scales].
        se: standard errors, likewise; exactly one of the two.
        zero_median: the policy that the scores were computed under.
        draws: for each curve.
        seed: of numpy's Philox.
    """
    e, fitted = np.asarray(score, dtype=float), as_curves(means)
    if e.shape != fitted.shape[:1]:
        raise ValueError(f"score and means must be [curves] and [curves, scales], got {e.shape} and {fitted.shape}")
    n, se = (None if v is None else np.broadcast_to(v, fitted.shape) for v in (n, se))
    p = np.full(e.shape, np.nan)
    for i in np.flatnonzero(~np.isnan(e) & (np.sum(~np.isnan(fitted), axis=1) >= 3)):
        noise = {"n": None if n is None else n[i], "se": None if se is None else se[i]}
        p[i] = emergence_score_null(fitted[i], **noise, zero_median=zero_median, draws=draws, seed=seed).p_value(e[i])
    return p


class EmergenceTest(NamedTuple):
    """Emergence scores [curves], the rank correlation to be read beside their sign, and p-values against a constant."""

    score: np.ndarray
    rank_correlation: np.ndarray
    p: np.ndarray


def emergence_test(
    curves: Numbers,
    n: Numbers | None = None,
    *,
    se: Numbers | None = None,
    direction: Direction = "higher",
    zero_median: Policy = "floor",
    draws: int = DRAWS,
    seed: int = 0,
) -> EmergenceTest:
    """`emergence_scores` of curves [curves, scales] with `p_constant` of each, at its own mean and its smallest n.

    The sign of the score sees two positions only, those of the first maximum and the first minimum: where the rank
    correlation has the other sign, the curve rose and fell. Without n the null is Gaussian, of equal standard errors;
    without either there is no floor in scores or null, as under `zero_median="inf"`. Arguments as there.
    """
    _sampling(zero_median, draws)
    y = as_curves(curves)
    score = emergence_scores(y, n, se=se, direction=direction, zero_median=zero_median)
    there = ~np.isnan(y)
    least, base = None, 0.5
    if n is not None:
        least = np.where(there, np.broadcast_to(n, y.shape), np.inf).min(1, initial=np.inf)
        mean = np.where(there, y, 0.0).sum(1) / np.maximum(there.sum(1), 1)
        base = mean if direction == "higher" else 1 - mean
    policy = "inf" if n is None and se is None else zero_median
    p = p_constant(score, there.sum(1), least, base, zero_median=policy, draws=draws, seed=seed)
    return EmergenceTest(score, rank_correlations(y, direction=direction), p)


def benjamini_hochberg(p: Numbers) -> np.ndarray:
    """Benjamini-Hochberg adjusted p-values, q_(i) = min_{j >= i} m p_(j) / j: [tests]; NaN is left out and stays NaN.

    Calling every q <= f a discovery keeps the expected share of false ones at f or below, for independent or positively
    dependent tests.

    References:
        Benjamini, Hochberg (1995).
    """
    p = np.asarray(p, dtype=float)
    if p.ndim != 1 or np.any((p < 0) | (p > 1)):
        raise ValueError(f"p-values must be a vector of numbers in [0, 1] or NaN, got shape {p.shape}")
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * (order.size / np.arange(1, order.size + 1))
    q = np.full(p.shape, np.nan)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


class _Drawn(NamedTuple):
    """Which simulated families."""

    scales: int
    draws: int
    seed: int


def _p_rare(drawn: _Drawn, floored: bool, e: np.ndarray, n: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Few successes (or failures): the draws are counts, scored with each query's own n, so that equal curves tie."""
    log_p, mean = np.zeros(e.shape), n * np.minimum(base, 1 - base)
    own = np.where(n <= FEW, n, 0)  # so few items have families of their own
    for items in np.unique(own):
        mine = np.flatnonzero(own == items)
        grid = RARE if items == 0 else np.append(RARE[RARE < items / 2], items / 2)
        few = FEW / n[mine] if items == 0 else np.ones(mine.size)
        for node, near, weight in _nodes(np.log(mean[mine]), np.log(grid)):
            q = mine[near]
            for size, share in ((items or FEW, few[near]), (np.inf, 1 - few[near])):
                if share.any():
                    tail = _rare_tail(drawn, floored, grid[node], size, e[q], n[q], np.where(base[q] <= 0.5, 1.0, -1.0))
                    log_p[q] += weight * share * np.log(tail)
    return np.exp(log_p)


def _rare_tail(
    drawn: _Drawn, floored: bool, mean: float, size: float, e: np.ndarray, n: np.ndarray, sign: np.ndarray
) -> np.ndarray:
    """(1 + draws at or above e) / (1 + draws), the floor being that of n items."""
    reach, step, successes, times = _rare_curves(drawn, mean, size)
    tail = np.empty(e.shape)
    for block in np.array_split(np.arange(e.size), 1 + e.size * reach.size // (1 << 20)):
        variance = successes * np.maximum(1 - successes / n[block, None], 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = sign[block, None] * reach / np.maximum(step, np.sqrt(2 * variance) * floored)
        tail[block] = (np.where(reach == 0, 0.0, scores) >= _just_below(e[block, None])) @ times
    return (1 + tail) / (1 + drawn.draws)


@lru_cache(512)
def _rare_curves(drawn: _Drawn, mean: float, size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The kinds of drawn curves of counts: signed range, typical step, successes per scale, and how many of each."""
    k = _counts(stats.poisson(mean) if np.isinf(size) else stats.binom(int(size), mean / size), _uniform(drawn))
    whole = np.stack([signed_ranges(k), 2 * typical_steps(k) ** 2, k.sum(1)]).round().astype(int)
    low, span = whole.min(1), np.ptp(whole, axis=1) + 1
    kinds, times = np.unique(np.ravel_multi_index(tuple(whole - low[:, None]), tuple(span)), return_counts=True)
    reach, twice, total = np.stack(np.unravel_index(kinds, tuple(span))) + low[:, None]
    return reach.astype(float), np.sqrt(twice / 2), total / drawn.scales, times


def _p_common(drawn: _Drawn, floored: bool, e: np.ndarray, variance: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Many successes and failures: the law of the counts is known by its variance and, less so, by its skew."""
    log_p, skew = np.zeros(e.shape), np.abs(1 - 2 * base)
    for node, q, weight in _nodes(np.log(variance), _LOG_VARIANCES):
        even, skewed, mirrored = _common_scores(drawn, floored, VARIANCES[node])
        tail = np.where(base[q] <= 0.5, _tail(skewed, e[q]), _tail(mirrored, e[q]))
        log_p[q] += weight * (skew[q] * np.log(tail) + (1 - skew[q]) * np.log(_tail(even, e[q])))
    return np.exp(log_p)


@lru_cache(128)
def _common_scores(drawn: _Drawn, floored: bool, variance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted scores of counts of one variance: symmetric (base .5), Poisson (base near 0), and those mirrored (near 1)."""
    u = _uniform(drawn)
    if np.isinf(variance):
        even = signed_scores(stats.norm.ppf(u), floored * np.full(drawn.draws, np.sqrt(2)))
        symmetric = np.sort(np.concatenate([even, -even]))  # E has the law of -E
        return symmetric, symmetric, symmetric
    n = round(4 * variance)
    k = _counts(stats.binom(n, 0.5), u)
    even = signed_scores(k, floored * np.sqrt(2 * k.mean(1) * (1 - k.mean(1) / n)))
    k = _counts(stats.poisson(variance), u)
    skewed = signed_scores(k, floored * np.sqrt(2 * k.mean(1)))
    return np.sort(np.concatenate([even, -even])), np.sort(skewed), np.sort(-skewed)


@lru_cache(2)
def _uniform(drawn: _Drawn) -> np.ndarray:
    """The same for all families of as many scales, so that what is interpolated differs by its law alone."""
    return np.random.Generator(np.random.Philox(drawn.seed)).random((drawn.draws, drawn.scales))


def _counts(law: Any, u: np.ndarray) -> np.ndarray:
    """Counts of a law by its inverse; beyond 1e-12 of its upper tail nothing is drawn."""
    return np.searchsorted(law.cdf(np.arange(int(law.isf(1e-12)) + 1)), u).astype(float)


def _nodes(x: np.ndarray, grid: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Linear interpolation, constant beyond the ends: each node that is needed, by which x, with which weight."""
    x = np.clip(x, grid[0], grid[-1])
    at = np.clip(np.searchsorted(grid, x, side="right") - 1, 0, grid.size - 2)
    right = (x - grid[at]) / (grid[at + 1] - grid[at])
    for node in range(grid.size):
        weight = np.where(at == node, 1 - right, np.where(at + 1 == node, right, 0.0))
        if weight.any():
            near = np.flatnonzero(weight)
            yield node, near, weight[near]


def _tail(ascending: np.ndarray, e: np.ndarray) -> np.ndarray:
    """(1 + numbers at or above e) / (1 + numbers)."""
    return np.asarray((1 + ascending.size - np.searchsorted(ascending, _just_below(e))) / (1 + ascending.size))


def _just_below(e: np.ndarray) -> np.ndarray:
    """Scores that are equal but for their last digits are equal."""
    return np.asarray(e * np.where(e > 0, 1 - 1e-9, 1 + 1e-9))


def _sampling(zero_median: str, draws: int) -> None:
    if zero_median not in ("floor", "inf"):
        raise ValueError(f"the null knows zero_median floor or inf, got {zero_median!r}")
    if draws < 1:
        raise ValueError(f"draws must be >= 1, got {draws}")

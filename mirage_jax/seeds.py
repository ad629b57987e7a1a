"""Bimodality over training seeds: does one scale hold two kinds of models, those that have the ability and those that lack it?

A mean over seeds hides it: the share of the upper mode moves gradually with scale although no seed does. On the host, float64.

References:
    Zhao et al. (2025), "Distributional Scaling for Emergent Capabilities"; Hartigan, Hartigan (1985), "The Dip Test of
    Unimodality".
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from mirage_jax.arrays import Numbers

SEEDS = 10  # seeds at one scale from which that scale can be judged alone
POOLED_SEEDS, POOLED_SCALES, POOLED_GAP = 5, 3, 0.4  # fewer seeds: pooled over transition scales, for wide gaps only
SEPARATION = 3.0  # gap between the modes, in standard deviations within a mode
MINOR_SEEDS, MINOR_SHARE = 2, 0.15
# Level of the dip test: a loose one where seeds are few, 1.5 / seeds where a flat spread would pass for two Gaussians
DIP_LEVEL, DIP_SEEDS = 0.15, 1.5
DRAWS, DIP_DRAWS = 10_000, 4000  # of the null distributions
NULL_SPREAD, NULL_NOISE = 0.15, 0.0158  # the unimodal null: sd over seeds, and that of 1000 items at a rate of 1/2
# Counts of seeds with a simulated null. Critical values fall with the count: the next lower one errs towards unimodal.
ANCHORS = (5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 50)
# The sd within a mode is at least a tenth of the spread, as in the null, so that less noise than there cannot
# raise the likelihood of a chance cluster above what the null has seen.
_FLOOR = 0.01
_STEPS = 12  # of EM: the likelihood ratio is then within .03 of its limit
_ROWS = 500  # at a time, as many as a processor's cache holds


class Bimodality(NamedTuple):
    """The verdict on one curve, with the evidence of its scale `where` (the summed one where scales were pooled).

    `gap` is the distance of the two modes, `share` [scales] the share of seeds above the midpoint between them (NaN at a
    scale without seeds). `reason` says why not, and is empty where `bimodal`. The dip is looked at last: NaN where another
    condition failed. Not eligible: numbers NaN, `where` -1.
    """

    bimodal: bool
    where: int
    statistic: float
    critical: float
    gap: float
    share: np.ndarray
    dip: float
    dip_p: float
    reason: str


class Mixture(NamedTuple):
    """Two Gaussians of one common spread against one, per scale [scales]; NaN where fewer than 4 seeds or no spread."""

    statistic: np.ndarray  # twice the log likelihood ratio
    low: np.ndarray  # mean of the lower mode
    high: np.ndarray
    within: np.ndarray  # sd of the scores within a mode, item noise included
    upper: np.ndarray  # seeds nearer the upper mode
    seeds: np.ndarray


def bimodal(scores: Numbers, noise: Numbers, *, level: float = 0.01, seed: int = 0) -> Bimodality:
    """Whether the seeds of some scale of one curve fall in two modes. See `bimodal_many`."""
    y = np.asarray(scores, dtype=float)
    error = np.broadcast_to(np.asarray(noise, dtype=float), y.shape)
    return bimodal_many(y[None], error[None], level=level, seed=seed)[0]


def bimodal_many(scores: Numbers, noise: Numbers, *, level: float = 0.01, seed: int = 0) -> list[Bimodality]:
    """Whether the seeds of some scale fall in two modes, for many curves at once.

    A scale of at least 10 seeds is bimodal if all of these hold:

    - likelihood ratio of two Gaussians (one common, free spread, known item noise) to one, beyond the `level` point, shared
      equally among the scales judged, simulated from unimodal seeds of sd .15
    - modes at least 3 within-mode sd apart
    - at least 2 seeds, and 15% of the seeds, in the minor mode
    - Hartigan's dip test at 15% for 10 seeds, 5% for 30, 1.5 / seeds in general: a flat spread passes the other three

    With 5 to 9 seeds the ratios (and the dips) are added over the transition scales, those whose mean lies 10% to 90% of
    the way between the extreme means; it takes 3 of them and a gap of .4 at the best. Fewer seeds never decide.

    Args:
        scores: [curves, scales, seeds], NaN where a seed is absent.
        noise: standard error from the items of each score, same shape (or one that broadcasts).
        level: of the likelihood ratio, for a whole curve.
        seed: of the simulated null distributions, which are kept for the process.

    Raises:
        ValueError: wrong shape, an infinite score, noise negative or missing beside a score, or level outside (0, .5].
    """
    y = np.asarray(scores, dtype=float)
    if y.ndim != 3 or 0 in y.shape[1:]:
        raise ValueError(f"seeds need scores of [scales, seeds], got shape {y.shape[1:] if y.ndim else y.shape}")
    noise = np.broadcast_to(np.asarray(noise, dtype=float), y.shape)
    if np.isinf(y).any() or not np.all((noise >= 0) & (noise < np.inf) | np.isnan(y)):
        raise ValueError("seeds need scores that are finite or NaN, each with a finite item noise >= 0")
    if not 0 < level <= 0.5:
        raise ValueError(f"level must lie in (0, .5], got {level}")
    flat = mixture(y.reshape(-1, y.shape[2]), noise.reshape(-1, y.shape[2]))
    parts = [part.reshape(y.shape[:2]) for part in flat]
    return [_judge(y[i], Mixture._make(part[i] for part in parts), level, seed) for i in range(len(y))]


def _judge(y: np.ndarray, fit: Mixture, level: float, seed: int) -> Bimodality:
    """Alone where a scale has enough seeds, else pooled."""
    alone = np.flatnonzero(fit.seeds >= SEEDS)
    groups = [[int(i)] for i in alone] if alone.size else [_transition(y, fit.seeds)]
    if not alone.size and len(groups[0]) < POOLED_SCALES:
        most = int(fit.seeds.max())
        pooled = f"{POOLED_SEEDS} at {POOLED_SCALES} transition scales"
        reason = f"{most} seeds at the best scale; needs {SEEDS}, or {pooled}"
        nothing = np.full(len(y), math.nan)
        return Bimodality(False, -1, math.nan, math.nan, math.nan, nothing, math.nan, math.nan, reason)
    found = [_evidence(y, fit, group, level / len(groups), seed) for group in groups]
    return max(found, key=lambda one: (one.bimodal, one.statistic - one.critical))


def _transition(y: np.ndarray, seeds: np.ndarray) -> list[int]:
    enough = np.flatnonzero(seeds >= POOLED_SEEDS)
    if not enough.size:
        return []
    mean = np.nanmean(y[enough], axis=1)
    way = (mean - mean.min()) / (np.ptp(mean) or 1.0)
    return [int(i) for i in enough[(way >= 0.1) & (way <= 0.9)]]


def _evidence(y: np.ndarray, fit: Mixture, scales: list[int], level: float, seed: int) -> Bimodality:
    statistic = float(np.nan_to_num(fit.statistic[scales]).sum())
    critical = critical_value(tuple(sorted(int(fit.seeds[i]) for i in scales)), level, seed)
    minors = np.minimum(fit.upper, fit.seeds - fit.upper)
    both = (minors >= MINOR_SEEDS) & (minors >= MINOR_SHARE * fit.seeds)  # an outlier alone is no mode
    where = max(scales, key=lambda i: (both[i], np.nan_to_num(fit.statistic[i])))
    gap = float(fit.high[where] - fit.low[where])
    reason = ""
    if not statistic > critical:
        reason = f"one mode is enough: likelihood ratio {statistic:.1f}, critical {critical:.1f}"
    elif not gap >= SEPARATION * fit.within[where]:
        reason = f"modes {gap / fit.within[where]:.1f} within-mode sd apart, needs {SEPARATION:g}"
    elif not both[where]:
        reason = f"minor mode of {int(minors[where])} of {int(fit.seeds[where])} seeds, needs {MINOR_SEEDS}, {MINOR_SHARE:.0%}"
    elif len(scales) > 1 and not gap >= POOLED_GAP:
        reason = f"modes {gap:.2f} apart, needs {POOLED_GAP:g} where scales are pooled"
    dips, p = math.nan, math.nan
    if not reason:  # the slow part, on the few that come so far
        dips = sum(dip(y[i]) for i in scales)
        p = _dip_p(dips, tuple(int(fit.seeds[i]) for i in scales), seed)
        if not p <= min(DIP_LEVEL, DIP_SEEDS / fit.seeds[where]):
            reason = f"a flat spread would do: dip test p = {p:.2f}"
    share = np.full(len(y), math.nan) if math.isnan(gap) else mode_shares(y, (fit.low[where] + fit.high[where]) / 2)
    return Bimodality(not reason, where, statistic, critical, gap, share, dips, p, reason)


def mixture(scores: np.ndarray, noise: np.ndarray) -> Mixture:
    """Fit one and two modes to the seeds of each row.

        one   y ~ N(m, v + e^2)
        two   y ~ (1 - q) N(a, v + e^2) + q N(b, v + e^2),   q in [.15, .85]

    by EM from every split of the sorted seeds (nine of them where there are more), e the known item noise, v free but not
    below a hundredth of the variance of the row.

    Args:
        scores: [rows, seeds], NaN where absent.
        noise: [rows, seeds], standard errors.
    """
    order = np.argsort(scores, axis=1)  # NaN last
    y, e2 = np.take_along_axis(scores, order, 1), np.take_along_axis(noise, order, 1) ** 2
    there = ~np.isnan(y)
    seeds = there.sum(1)
    zeroed = np.where(there, y, 0.0)
    spread = np.where(there, y, -np.inf).max(1) - np.where(there, y, np.inf).min(1)
    # less than that is rounding
    fits = (seeds >= 2 * MINOR_SEEDS) & (spread > np.maximum(1e-12 * np.abs(zeroed).max(1), 1e-100))
    out = np.full((5, len(y)), np.nan)
    rows = np.flatnonzero(fits)
    for block in (rows[i : i + _ROWS] for i in range(0, rows.size, _ROWS)):
        here = there[block]
        out[:, block] = _em(zeroed[block], np.where(here, e2[block], 0.0), here.astype(float))
    return Mixture(out[0], out[1], out[2], out[3], out[4], seeds)


def _em(y: np.ndarray, e2: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, ...]:
    """The fields of Mixture but the last, for rows of seeds in ascending order; `there` is 0 where `y` is not a seed."""
    n = there.sum(1, keepdims=True)
    mean = (y * there).sum(1, keepdims=True) / n
    v = spread = ((y - mean) ** 2 * there).sum(1, keepdims=True) / n
    for _ in range(_STEPS):
        mean = _weighted(y, there / (v + e2))
        v = _variance(v, (y - mean) ** 2, e2, there, _FLOOR * spread)
    one = -0.5 * (there * (np.log(v + e2) + (y - mean) ** 2 / (v + e2))).sum(1)

    y, e2, there, n, floor = (part[:, None] for part in (y, e2, there, n, _FLOOR * spread))  # [rows, starts, seeds]
    starts = min(max(int(n.max()) - 2 * MINOR_SEEDS + 1, 1), 9)
    split = MINOR_SEEDS + np.round(np.linspace(0, 1, starts)[:, None] * (n - 2 * MINOR_SEEDS))
    r = (np.arange(y.shape[2]) >= split) * there  # chance of belonging to the upper mode

    def step(r: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, ...]:
        """New parameters from the chances r, and the log odds of the upper mode that they give."""
        w = there / (v + e2)
        share = np.clip(r.sum(-1, keepdims=True) / n, MINOR_SHARE, 1 - MINOR_SHARE)
        low, high = _weighted(y, (there - r) * w), _weighted(y, r * w)
        far_low, far_high = (y - low) ** 2, (y - high) ** 2
        v = _variance(v, far_low + r * (far_high - far_low), e2, there, floor)
        return share, low, high, v, far_low, special.logit(share) + (far_low - far_high) / (2 * (v + e2))

    share, low, high, v, far_low, odds = step(r, floor + 0 * split)
    for _ in range(_STEPS - 1):
        share, low, high, v, far_low, odds = step(special.expit(odds) * there, v)
    # log((1 - q) f_low + q f_high) = log((1 - q) f_low) + log(1 + odds)
    log_density = np.log1p(-share) - 0.5 * (np.log(v + e2) + far_low / (v + e2)) + np.logaddexp(0, odds)
    two = (there * log_density).sum(-1)
    within = np.sqrt(v + (e2 * there).sum(-1, keepdims=True) / n)[..., 0]
    upper = ((odds > 0) & (there > 0)).sum(-1)
    best = two.argmax(1)[:, None]
    found = [np.take_along_axis(part, best, 1)[:, 0] for part in (two, low[..., 0], high[..., 0], within, upper)]
    return np.maximum(2 * (found[0] - one), 0.0), *found[1:]


def _weighted(y: np.ndarray, w: np.ndarray) -> np.ndarray:
    return (w * y).sum(-1, keepdims=True) / np.maximum(w.sum(-1, keepdims=True), 1e-300)


def _variance(v: np.ndarray, squares: np.ndarray, e2: np.ndarray, there: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """One Fisher scoring step to the free variance, given the squared distances from the means."""
    w2 = there / (v + e2) ** 2
    return np.maximum(floor, (w2 * (squares - e2)).sum(-1, keepdims=True) / w2.sum(-1, keepdims=True))


@lru_cache(256)
def critical_value(seeds: tuple[int, ...], level: float = 0.01, seed: int = 0) -> float:
    """The `level` point of the likelihood ratio on unimodal seeds, summed over scales of so many seeds each.

    Simulated: below 1 / DRAWS it is the largest value drawn.
    """
    rng = np.random.default_rng((seed, 1, *seeds))
    total = sum(rng.permutation(_null(max(a for a in ANCHORS if a <= count), seed)) for count in seeds)
    return float(np.quantile(total, 1 - level, method="higher"))


@lru_cache(64)
def _null(seeds: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng((seed, 2, seeds))
    y = rng.normal(0.0, math.hypot(NULL_SPREAD, NULL_NOISE), (DRAWS, seeds))
    return mixture(y, np.full_like(y, NULL_NOISE)).statistic


@lru_cache(64)
def _null_dips(seeds: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng((seed, 3, seeds))
    return np.array([dip(x) for x in rng.random((DIP_DRAWS, seeds))])


def _dip_p(total: float, seeds: tuple[int, ...], seed: int) -> float:
    """Share of uniform samples, of the same sizes, whose dips add up to at least as much."""
    rng = np.random.default_rng((seed, 4, *seeds))
    null = sum(
        rng.permutation(_null_dips(min(count, 100), seed)) * math.sqrt(min(count, 100) / count) for count in seeds
    )
    return float((1 + np.sum(null >= total)) / (1 + np.size(null)))


def dip(values: Numbers) -> float:
    """Hartigan's dip: the smallest sup-distance of the empirical distribution function from any unimodal one.

    NaN are left out. At least 1 / (2n) where two values differ; 0 where all are equal, NaN where there is none.

    References:
        Hartigan, Hartigan (1985), section 4: the modal interval shrinks to where the greatest convex minorant (left of it)
        and the least concave majorant (right of it) are furthest apart.
    """
    x = np.asarray(values, dtype=float).ravel()
    x = np.sort(x[~np.isnan(x)])
    if not x.size or x[0] == x[-1]:
        return 0.0 if x.size else math.nan
    left, right, found = 0, x.size - 1, 1.0
    while True:
        inside = x[left : right + 1]
        i = np.arange(inside.size)
        convex, concave = _hull(inside, 1), _hull(inside, -1)  # of the points (x_i, i); the curves lie 1 apart
        under, over = _chords(inside, convex), _chords(inside, concave)
        apart = over - under + 1
        at_convex, at_concave = convex[apart[convex].argmax()], concave[apart[concave].argmax()]
        if apart[[at_convex, at_concave]].max() <= found:
            break
        if apart[at_convex] > apart[at_concave]:
            low, high = at_convex, concave[np.searchsorted(concave, at_convex)]
        else:
            low, high = convex[np.searchsorted(convex, at_concave, side="right") - 1], at_concave
        found = max(found, (i - under)[: low + 1].max() + 1, (over - i)[high:].max() + 1)
        if (low, high) == (0, right - left):
            break
        left, right = left + int(low), left + int(high)
    return float(found) / (2 * x.size)


def _hull(x: np.ndarray, sign: int) -> np.ndarray:
    """Corners of the greatest convex minorant (sign 1) or least concave majorant (-1) of the points (x_i, i), x ascending."""
    kept: list[int] = []
    at = x.tolist()
    for i in range(len(at)):
        while len(kept) > 1:
            a, b = kept[-2], kept[-1]
            if sign * (b - a) * (at[i] - at[b]) < sign * (i - b) * (at[b] - at[a]):
                break
            kept.pop()
        kept.append(i)
    return np.array(kept)


def _chords(x: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Height of a hull at every x_i; at equal x, where it rises upright, that of the point itself."""
    i = np.arange(x.size)
    piece = np.clip(np.searchsorted(corners, i, side="right") - 1, 0, max(corners.size - 2, 0))
    a, b = corners[piece], corners[np.minimum(piece + 1, corners.size - 1)]
    run = x[b] - x[a]
    return np.where(run > 0, a + (b - a) * (x - x[a]) / np.where(run > 0, run, 1.0), i)


def mode_shares(scores: Numbers, cut: float | None = None) -> np.ndarray:
    """Share of seeds above `cut` at each scale, [scales]; NaN at a scale without seeds.

    Without a cut: the midpoint of the two groups that split all scores together with the least squares within them.

    Args:
        scores: [scales, seeds], NaN where absent.
        cut: between the modes.
    """
    y = np.asarray(scores, dtype=float)
    if y.ndim != 2:
        raise ValueError(f"mode shares need scores of [scales, seeds], got shape {y.shape}")
    there = ~np.isnan(y)
    if cut is None:
        x = np.sort(y[there])
        if x.size < 2:
            raise ValueError(f"mode shares need a cut or at least 2 scores, got {x.size}")
        k, total = np.arange(1, x.size), np.cumsum(x)
        means = total[:-1] / k, (total[-1] - total[:-1]) / (x.size - k)
        best = (k * (x.size - k) * (means[1] - means[0]) ** 2).argmax()
        cut = float(means[0][best] + means[1][best]) / 2
    seeds = there.sum(1)
    return np.where(seeds > 0, (there & (y > cut)).sum(1) / np.maximum(seeds, 1), np.nan)


def wasserstein(a: Numbers, b: Numbers) -> float:
    """Distance of two scales' distributions over seeds, the mean |difference| of their quantiles; NaN are left out."""
    samples = [np.asarray(one, dtype=float).ravel() for one in (a, b)]
    kept = [one[~np.isnan(one)] for one in samples]
    if not all(one.size for one in kept):
        return math.nan
    return float(stats.wasserstein_distance(*kept))

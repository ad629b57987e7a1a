"""How sharply a score falls with the error rate per token: one index for any metric, with a band for measured curves.

    S = max |dM / d epsilon| / (|M(0) - M(1/2)| / (1/2))

1 for a straight line, (L / 2) / (1 - 2^-L) for (1 - epsilon)^L. Slopes are secants between neighbouring rates of a grid. The
curve is somewhere as steep as its secant, so a coarse grid gives too small an S, never too large a one.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Sharpness(NamedTuple):
    """What is said of one curve; the ends of a band are NaN where the curve is a law, or its fall is not known."""

    sharpness: float  # S
    sharpness_low: float
    sharpness_high: float
    steepest_from: float  # the steepest step
    steepest_to: float
    fall: float  # M(0) - M(1/2), in the units of the metric; below 0 where the score rises
    share: float  # of the fall, between two given rates
    share_low: float
    share_high: float
    elasticity: float  # d log M / d log(1 - epsilon)
    elasticity_se: float
    elasticity_to: float  # rate up to which it was measured


class Errors(NamedTuple):
    """Standard errors of a measured curve, those of differences from the same draws at both rates."""

    score: Sequence[float]  # of each score
    steps: Sequence[float]  # of the difference between each two neighbours
    fall: float  # of M(0) - M(1/2)
    part: float  # of the difference between the two given rates


def sharpness(
    rates: Sequence[float],
    score: Sequence[float],
    errors: Errors | None = None,
    between: tuple[float, float] = (0.05, 0.1),
    level: float = 0.95,
) -> Sharpness:
    """Sharpness of a curve, where it falls most, and its elasticity.

    The bands take differences to be normal; that of S asks for all secants and the fall at once (Bonferroni), that of the
    share for its two. They need no resampling. The elasticity is the chord from 0 to the largest rate at which the score
    is within a factor 2 of that at 0 (to the first rate if it is so at none), log(M / M(0)) / log(1 - epsilon); NaN where
    M(0) = 0.

    Args:
        rates: error rates, rising from 0 to 1/2.
        score: mean score at each.
        errors: of a measured curve; None for a law.
        between: rates whose share of the fall is asked for; both stand in `rates`.
        level: of the bands.

    Raises:
        ValueError: rates that do not rise from 0 to 1/2, or scores or errors of other lengths.
    """
    x, y = np.asarray(rates, dtype=float), np.asarray(score, dtype=float)
    unknown = Errors(np.full(x.shape, math.nan).tolist(), [math.nan] * (x.size - 1), math.nan, math.nan)
    error, steps, fall_error, part_error = errors or unknown
    if y.shape != x.shape or len(error) != x.size or len(steps) != x.size - 1:
        raise ValueError(
            f"expected one score for each of {x.size} rates, and errors of them and of the steps, got {y.shape}"
        )
    if x.size < 2 or x[0] != 0 or x[-1] != 0.5 or (np.diff(x) <= 0).any() or not set(between) <= set(x.tolist()):
        raise ValueError(
            f"expected rates rising from 0 to 0.5, {between[0]} and {between[1]} among them, got {x.tolist()}"
        )
    elasticity = _elasticity(x, y, np.asarray(error, dtype=float))
    fall = float(y[0] - y[-1])
    if fall == 0:
        nan = math.nan
        return Sharpness(nan, nan, nan, nan, nan, 0.0, nan, nan, nan, *elasticity)
    slope, at = np.abs(np.diff(y)) / np.diff(x), int(np.argmax(np.abs(np.diff(y)) / np.diff(x)))
    z = float(stats.norm.isf((1 - level) / 2 / x.size))
    margin = z * np.asarray(steps, dtype=float) / np.diff(x)
    ends = [_over(float((slope + sign * margin).max()) / 2, abs(fall), z * fall_error) for sign in (-1, 1)]
    first, last = (x.tolist().index(rate) for rate in between)
    part, z = float(y[first] - y[last]) * float(np.sign(fall)), float(stats.norm.isf((1 - level) / 4))
    shares = [_over(part + sign * z * part_error, abs(fall), z * fall_error) for sign in (-1, 1)]
    return Sharpness(
        float(slope[at]) / 2 / abs(fall), min(ends[0]), max(ends[1]), float(x[at]), float(x[at + 1]), fall,
        part / abs(fall), min(shares[0]), max(shares[1]), *elasticity,
    )  # fmt: skip


def _over(top: float, bottom: float, margin: float) -> tuple[float, float]:
    """A quotient at both ends of its denominator; NaN where that may be 0."""
    return (top / (bottom - margin), top / (bottom + margin)) if bottom > margin else (math.nan, math.nan)


def _elasticity(x: np.ndarray, y: np.ndarray, error: np.ndarray) -> tuple[float, float, float]:
    if not y[0] > 0:
        return math.nan, math.nan, math.nan
    at = max(int(np.flatnonzero((y >= y[0] / 2) & (y <= 2 * y[0]))[-1]), 1)
    if not y[at] > 0:
        return math.nan, math.nan, math.nan
    log = math.log1p(-x[at])
    return math.log(y[at] / y[0]) / log, math.hypot(error[at] / y[at], error[0] / y[0]) / -log, float(x[at])

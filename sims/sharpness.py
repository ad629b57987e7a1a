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


def sharpness(
    rates: Sequence[float],
    score: Sequence[float],
    se: Sequence[float] | None = None,
    step_se: Sequence[float] | None = None,
    between: tuple[float, float] = (0.05, 0.1),
    level: float = 0.95,
) -> Sharpness:
    """Sharpness of a curve, where it falls most, and its elasticity.

    The band takes the secants and the whole fall to be normal and asks for all of them at once (Bonferroni). It needs no
    resampling, since the errors of the steps are those of paired differences. The elasticity is the chord from 0 to the
    largest rate at which the score is within a factor 2 of that at 0 (to the first rate if it is so at none),
    log(M / M(0)) / log(1 - epsilon); NaN where M(0) = 0.

    Args:
        rates: error rates, rising from 0 to 1/2.
        score: mean score at each.
        se: standard error of each; None for a law.
        step_se: standard error of the difference between each two neighbours; None for a law.
        between: rates whose share of the fall is asked for; both stand in `rates`.
        level: of the bands.

    Raises:
        ValueError: rates that do not rise from 0 to 1/2, or arguments of other lengths.
    """
    x, y = np.asarray(rates, dtype=float), np.asarray(score, dtype=float)
    error = np.full(x.shape, math.nan) if se is None else np.asarray(se, dtype=float)
    step_error = np.full(max(x.size - 1, 0), math.nan) if step_se is None else np.asarray(step_se, dtype=float)
    if y.shape != x.shape or error.shape != x.shape or step_error.shape != (x.size - 1,):
        raise ValueError(f"expected one score for each of {x.size} rates, and a step fewer, got {y.shape}")
    if x.size < 2 or x[0] != 0 or x[-1] != 0.5 or (np.diff(x) <= 0).any() or not set(between) <= set(x.tolist()):
        raise ValueError(
            f"expected rates rising from 0 to 0.5, {between[0]} and {between[1]} among them, got {x.tolist()}"
        )
    elasticity = _elasticity(x, y, error)
    fall = float(y[0] - y[-1])
    if fall == 0:
        return Sharpness(*[math.nan] * 5, 0.0, *[math.nan] * 3, *elasticity)
    z = float(stats.norm.isf((1 - level) / 2 / x.size))  # the steps, and the fall
    # both ends of the fall share their draws, so it is known better than this
    whole = (abs(fall) - z * math.hypot(error[0], error[-1]), abs(fall) + z * math.hypot(error[0], error[-1]))
    slope, slope_error = np.abs(np.diff(y)) / np.diff(x), z * step_error / np.diff(x)
    at = int(slope.argmax())
    first, last = (x.tolist().index(rate) for rate in between)
    part, part_error = float(y[first] - y[last]) * np.sign(fall), z * float(step_error[first:last].sum())
    low, high = (_ends(float((slope + sign * slope_error).max()) / 2, whole) for sign in (-1, 1))
    share = [_ends(part + sign * part_error, whole) for sign in (-1, 1)]
    return Sharpness(
        slope[at] / 2 / abs(fall), min(low), max(high), x[at], x[at + 1], fall, part / abs(fall), min(share[0]), max(share[1]),
        *elasticity,
    )  # fmt: skip


def _ends(top: float, bottom: tuple[float, float]) -> tuple[float, float]:
    """A quotient at both ends of its denominator; NaN where that may be 0."""
    return (top / bottom[0], top / bottom[1]) if bottom[0] > 0 else (math.nan, math.nan)


def _elasticity(x: np.ndarray, y: np.ndarray, error: np.ndarray) -> tuple[float, float, float]:
    if not y[0] > 0:
        return math.nan, math.nan, math.nan
    at = max(int(np.flatnonzero((y >= y[0] / 2) & (y <= 2 * y[0]))[-1]), 1)
    if not y[at] > 0:
        return math.nan, math.nan, math.nan
    log = math.log1p(-x[at])
    return math.log(y[at] / y[0]) / log, math.hypot(error[at] / y[at], error[0] / y[0]) / -log, float(x[at])

"""The emergence score (breakthroughness) and its companion, linearity, with every degenerate case a named policy.

References:
    Srivastava et al. (2022), BIG-bench, appendix; Schaeffer, Miranda, Koyejo (2023), equation 1.
"""

from typing import Literal

import numpy as np
from scipy import stats

from mirage_jax.arrays import Numbers

ZeroMedian = Literal["floor", "inf", "clip", "drop"]


def emergence_score(
    scores: Numbers,
    scales: Numbers | None = None,
    *,
    direction: Literal["higher", "lower"] = "higher",
    n: Numbers | None = None,
    se: Numbers | None = None,
    zero_median: ZeroMedian = "floor",
    clip: float = 100.0,
    normalise: Literal["none", "n", "sqrt_n"] = "none",
) -> float:
    """Signed range of a curve over its typical step between neighbouring scales.

        E = sign(argmax y - argmin y) (max y - min y) / sqrt(median_i (y_i - y_{i-1})^2)

    A straight line over M scales scores M - 1. The score sees the order of the scales, never their spacing, and noise
    scores high: at chance over 12 scales one curve in twenty is above 5.4. The sign uses positions only:
    [.5, .9, .1] is negative although scale helped first.

    Args:
        scores: one score per model, NaN where missing (dropped).
        scales: the models' scales; None if the scores are in order. Equal scales are averaged first.
        direction: `lower` negates the scores, so that improvement is positive.
        n: test items of each score, for scores that are success rates: the floor is then the standard error of a
            difference, sqrt(2 m (1 - m) / n), m the mean score, n the smallest.
        se: standard errors of the scores, for any other score: the floor is sqrt(2) times their median.
        zero_median: what to do where the typical step is below what the test could resolve.
            `floor` raises the denominator to the floor that n or se gives (without them there is nothing to raise it to,
            and a zero median gives inf); `inf` divides by zero; `clip` bounds |E| by `clip`; `drop` gives NaN.
        clip: bound of |E| under `zero_median="clip"`.
        normalise: divide E by the number of scales M (`n`) or by its root (`sqrt_n`).

    Returns:
        The score; 0 for a flat curve, NaN for fewer than 3 scales. Of equal extremes the first counts.

    Raises:
        ValueError: shapes that differ, an infinite score, n < 1, or a success rate outside [0, 1] where n is given.
    """
    y, floor = _curve(scores, scales, direction, n, se)
    if zero_median not in ("floor", "inf", "clip", "drop"):
        raise ValueError(f"zero_median must be floor, inf, clip or drop, got {zero_median!r}")
    if normalise not in ("none", "n", "sqrt_n"):
        raise ValueError(f"normalise must be none, n or sqrt_n, got {normalise!r}")
    if y.size < 3:
        return float("nan")
    if _flat(y):
        return 0.0
    step = float(np.sqrt(np.median(np.diff(y) ** 2)))
    if zero_median == "floor":
        step = max(step, floor)
    if step == 0 and zero_median == "drop":
        return float("nan")
    score = _signed_range(y) / step if step > 0 else np.sign(_signed_range(y)) * np.inf
    if zero_median == "clip":
        score = np.clip(score, -clip, clip)
    return float(score / {"none": 1.0, "n": y.size, "sqrt_n": y.size**0.5}[normalise])


def linearity(
    scores: Numbers, scales: Numbers | None = None, *, direction: Literal["higher", "lower"] = "higher"
) -> float:
    """Signed range over the root-mean-square step, L = I(y) / sqrt(mean_i (y_i - y_{i-1})^2); at most M - 1.

    0 for a flat curve, NaN for fewer than 3 scales. Arguments as in `emergence_score`.
    """
    y, _ = _curve(scores, scales, direction, None, None)
    if y.size < 3:
        return float("nan")
    if _flat(y):
        return 0.0
    return float(_signed_range(y) / np.sqrt(np.mean(np.diff(y) ** 2)))


def rank_correlation(
    scores: Numbers, scales: Numbers | None = None, *, direction: Literal["higher", "lower"] = "higher"
) -> float:
    """Spearman correlation of score and scale, to be read beside the emergence score, whose sign sees two points only.

    NaN for a flat curve or fewer than 3 scales.
    """
    y, _ = _curve(scores, scales, direction, None, None)
    if y.size < 3 or _flat(y):
        return float("nan")
    return float(np.corrcoef(np.arange(y.size), stats.rankdata(y))[0, 1])


def _flat(y: np.ndarray) -> bool:
    """No range beyond the rounding of the averages over repeats."""
    return bool(np.ptp(y) <= 4 * np.finfo(float).eps * np.abs(y).max())


def _signed_range(y: np.ndarray) -> float:
    return float(np.sign(int(np.argmax(y)) - int(np.argmin(y))) * np.ptp(y))


def _curve(
    scores: Numbers, scales: Numbers | None, direction: str, n: Numbers | None, se: Numbers | None
) -> tuple[np.ndarray, float]:
    """Scores in ascending order of scale, improvement positive, repeats averaged; and the floor under the typical step."""
    y = np.asarray(scores, dtype=float)
    x = np.arange(y.size, dtype=float) if scales is None else np.asarray(scales, dtype=float)
    if y.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"scores and scales must be vectors of one length, got {y.shape} and {x.shape}")
    if direction not in ("higher", "lower"):
        raise ValueError(f"direction must be higher or lower, got {direction!r}")
    if np.isinf(y).any() or not np.isfinite(x).all():
        raise ValueError("scores must be finite or NaN, scales finite")
    keep = ~np.isnan(y)
    x, y = x[keep], y[keep]
    floor = _floor(y, keep, n, se)
    unique, group = np.unique(x, return_inverse=True)
    y = np.bincount(group, weights=y, minlength=unique.size) / np.maximum(np.bincount(group), 1)
    return (y if direction == "higher" else -y), floor


def _floor(y: np.ndarray, keep: np.ndarray, n: Numbers | None, se: Numbers | None) -> float:
    if n is not None and se is not None:
        raise ValueError("give n (success rates) or se (any other score), not both")
    if y.size == 0:
        return 0.0
    if n is not None:
        items = np.broadcast_to(np.asarray(n), keep.shape)[keep]
        if np.any(items < 1) or np.any((y < 0) | (y > 1)):
            raise ValueError("n needs success rates in [0, 1] and n >= 1; for other scores give se")
        mean = y.mean()
        return float(np.sqrt(2 * mean * (1 - mean) / items.min()))
    if se is not None:
        errors = np.broadcast_to(np.asarray(se, dtype=float), keep.shape)[keep]
        if not np.all(errors >= 0):
            raise ValueError("se must be >= 0")
        return float(np.sqrt(2) * np.median(errors))
    return 0.0

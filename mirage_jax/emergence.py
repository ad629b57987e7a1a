"""The emergence score (breakthroughness) and its companions, linearity and rank correlation: of one curve or of many.

`emergence_score`, `linearity` and `rank_correlation` take one curve, with repeats and in any order; `emergence_scores`,
`linearities` and `rank_correlations` take curves [curves, scales] in ascending order of scale. What noise alone scores is
in `mirage_jax.null`.

References:
    Srivastava et al. (2022), BIG-bench, appendix; Schaeffer, Miranda, Koyejo (2023), equation 1.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from mirage_jax.arrays import Numbers

ZeroMedian = Literal["floor", "inf", "clip", "drop"]
Direction = Literal["higher", "lower"]
Normalise = Literal["none", "n", "sqrt_n"]


def emergence_score(
    scores: Numbers,
    scales: Numbers | None = None,
    *,
    direction: Direction = "higher",
    n: Numbers | None = None,
    se: Numbers | None = None,
    zero_median: ZeroMedian = "floor",
    clip: float = 100.0,
    normalise: Normalise = "none",
) -> float:
    """Signed range of a curve over its typical step between neighbouring scales.

        E = sign(argmax y - argmin y) (max y - min y) / sqrt(median_i (y_i - y_{i-1})^2)

    A straight line over M scales scores M - 1. The score sees the order of the scales, never their spacing, and noise
    scores high: at chance over 12 scales one curve in twenty is above 5.4 (`zero_median="inf"`; `mirage_jax.null` knows
    the rest). The sign uses positions only, of the first maximum and the first minimum: [.5, .9, .1] is negative although
    scale helped first. Read `rank_correlation`, which sees all points, beside it.

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
    x, y, keep = _curve(scores, scales)
    floor = floors(y[None], *(None if v is None else np.broadcast_to(v, keep.shape)[None, keep] for v in (n, se)))
    return float(signed_scores(_averaged(x, y), floor, direction, zero_median, clip, normalise)[0])


def emergence_scores(
    curves: Numbers,
    n: Numbers | None = None,
    *,
    se: Numbers | None = None,
    direction: Direction = "higher",
    zero_median: ZeroMedian = "floor",
    clip: float = 100.0,
    normalise: Normalise = "none",
) -> np.ndarray:
    """`emergence_score` of each of many curves: [curves, scales] -> [curves].

    Args:
        curves: in ascending order of scale, one score per scale; NaN where a curve has none, at its end or within it:
            such points are dropped, and the curves may have different numbers of scales.
        n: items, of any shape that broadcasts to the curves': one number, [scales], [curves, 1] or [curves, scales];
            what it says where a score is missing is not read. The floor is as in `emergence_score`.
        se: standard errors, likewise.
        direction: of all curves.
        zero_median: as in `emergence_score`.
        clip: bound of |E|.
        normalise: by the scales that each curve has.

    Raises:
        ValueError: as `emergence_score`, or curves that are not [curves, scales].
    """
    y = as_curves(curves)
    return signed_scores(y, floors(y, n, se), direction, zero_median, clip, normalise)


def linearity(scores: Numbers, scales: Numbers | None = None, *, direction: Direction = "higher") -> float:
    """Signed range over the root-mean-square step, L = I(y) / sqrt(mean_i (y_i - y_{i-1})^2); at most M - 1.

    0 for a flat curve, NaN for fewer than 3 scales. Arguments as in `emergence_score`.
    """
    x, y, _ = _curve(scores, scales)
    return float(linearities(_averaged(x, y), direction=direction)[0])


def linearities(curves: Numbers, *, direction: Direction = "higher") -> np.ndarray:
    """`linearity` of each of many curves, [curves, scales] -> [curves]; NaN marks a missing score."""
    sign = _sign(direction)
    y, m = _packed(as_curves(curves))
    reach, flat = _reach(y, m)
    with np.errstate(divide="ignore", invalid="ignore"):
        lines = reach / np.sqrt(np.nansum(np.diff(y) ** 2, axis=1) / (m - 1))
    return np.where(m < 3, np.nan, np.where(flat, 0.0, sign * lines))


def rank_correlation(scores: Numbers, scales: Numbers | None = None, *, direction: Direction = "higher") -> float:
    """Spearman correlation of score and scale, to be read beside the emergence score, whose sign sees two points only.

    NaN for a flat curve or fewer than 3 scales.
    """
    x, y, _ = _curve(scores, scales)
    return float(rank_correlations(_averaged(x, y), direction=direction)[0])


def rank_correlations(curves: Numbers, *, direction: Direction = "higher") -> np.ndarray:
    """`rank_correlation` of each of many curves, [curves, scales] -> [curves]; NaN marks a missing score."""
    sign = _sign(direction)
    y, m = _packed(as_curves(curves))
    flat = _reach(y, m)[1]
    middle = (m[:, None] - 1) / 2  # mean of the positions 0 .. m - 1, and of the ranks less 1
    there = np.arange(y.shape[1]) < m[:, None]
    ranks = np.where(there, stats.rankdata(np.where(there, y, np.inf), axis=1) - 1 - middle, 0.0)
    places = np.where(there, np.arange(y.shape[1]) - middle, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (ranks * places).sum(1) / np.sqrt((ranks**2).sum(1) * (places**2).sum(1))
    return np.where((m < 3) | flat, np.nan, sign * np.clip(found, -1, 1))


class ScoreInterval(NamedTuple):
    """Ends of intervals of emergence scores [curves], and what was drawn again for each."""

    low: np.ndarray
    high: np.ndarray
    by: np.ndarray  # "repeats", "items", "errors"; "" where nothing could be, the ends then being NaN


def score_interval(
    scores: Numbers,
    n: Numbers | None = None,
    *,
    se: Numbers | None = None,
    direction: Direction = "higher",
    zero_median: ZeroMedian = "floor",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> ScoreInterval:
    """Percentile intervals of emergence scores: what is drawn again are the scores within each scale, never the scales.

        repeats  a curve with at least two repeats (seeds) at every scale it has: repeats with replacement, within a scale
        items    else, with n: every score anew from Binomial(n, (n y + 1/2) / (n + 1)) / n, so that 0 of n is no certainty
        errors   else, with se: every score anew from y + se N(0, 1)

    Repeats at a scale are averaged, as in `emergence_score`; items are drawn as if every score had a test of its own. A
    curve's interval depends on its own row and the seed alone.
    Nominal 95% was 95% to 100% for six rates on 200 to 20,000 items, 93% from 20 repeats and 85% from 5. The median step is
    no smooth function of the scores, and noise adds to range and steps: 78% to 92% where two steps tie at the median.

    Args:
        scores: [curves, scales] or [curves, scales, repeats], NaN where missing.
        n: test items, whole, of any shape that broadcasts to the scores; also the floor, as in `emergence_scores`.
        se: standard errors, likewise.
        direction: as in `emergence_score`.
        zero_median: likewise; scores that are NaN under `drop` are left out.
        level: of the interval.
        resamples: how many for each curve.
        seed: of numpy's Philox.

    Returns:
        Low, high and what was resampled. NaN and "" for fewer than 3 scales, and for a curve with neither repeats at every
        scale nor n nor se.

    Raises:
        ValueError: as `emergence_scores`; n that is not whole, a level outside (0, 1), or no resamples.
    """
    y = np.asarray(scores, dtype=float)
    if y.ndim not in (2, 3):
        raise ValueError(f"scores must be [curves, scales] or [curves, scales, repeats], got shape {y.shape}")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"level must lie in (0, 1) and resamples be >= 1, got {level} and {resamples}")
    one = (*y.shape, 1)[:3]
    items, errors = (None if v is None else _beside(name, v, y).reshape(one) for name, v in (("n", n), ("se", se)))
    y = y.reshape(one)
    _repeats_scored(y, items, errors, direction=direction, zero_median=zero_median)  # refuses what cannot be scored
    if items is not None and np.any(~np.isnan(y) & (items != np.round(items))):
        raise ValueError("n must be whole")
    low, high, by = np.full(len(y), np.nan), np.full(len(y), np.nan), np.full(len(y), "", dtype="<U7")
    for i, curve in enumerate(y):
        held = ~np.isnan(curve).all(1)
        if held.sum() < 3:
            continue
        given = (None if v is None else v[i, held] for v in (items, errors))
        by[i], again, *noise = _drawn_again(np.random.Generator(np.random.Philox(seed)), resamples, curve[held], *given)
        found = _repeats_scored(again, *noise, direction=direction, zero_median=zero_median)
        found = found[~np.isnan(found)]
        if by[i] and found.size:
            low[i], high[i] = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return ScoreInterval(low, high, by)


def _drawn_again(
    generator: np.random.Generator, resamples: int, y: np.ndarray, n: np.ndarray | None, se: np.ndarray | None
) -> tuple[str, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """What a curve [scales, repeats] is drawn from, and scores, n and se of its resamples [resamples, scales, repeats]."""
    shape, held = (resamples, *y.shape), np.sum(~np.isnan(y), axis=1)
    if held.size and held.min() >= 2:
        front = np.argsort(np.isnan(y), axis=1, kind="stable")
        rows, kept = np.arange(len(y))[:, None], np.arange(y.shape[1]) < held[:, None]
        pick = front[rows, (generator.random(shape) * held[:, None]).astype(int)]
        n, se = (None if v is None else v[rows, pick] for v in (n, se))
        return "repeats", np.where(kept, y[rows, pick], np.nan), n, se
    if n is not None:
        n = np.where(np.isnan(y), 1, n)
        k = generator.binomial(n.astype(np.int64), np.nan_to_num((n * y + 0.5) / (n + 1)), shape)
        return "items", np.where(np.isnan(y), np.nan, k / n), np.broadcast_to(n, shape), None
    if se is not None:
        return "errors", y + se * generator.standard_normal(shape), None, np.broadcast_to(se, shape)
    return "", y[None], None, None


def _repeats_scored(
    y: np.ndarray, n: np.ndarray | None, se: np.ndarray | None, *, direction: Direction, zero_median: ZeroMedian
) -> np.ndarray:
    """Emergence scores of curves [curves, scales, repeats], repeats averaged."""
    flat = (len(y), y.shape[1] * y.shape[2])
    floor = floors(as_curves(y.reshape(flat)), *(None if v is None else v.reshape(flat) for v in (n, se)))
    held = np.sum(~np.isnan(y), axis=2)
    means = np.where(held > 0, np.nansum(y, axis=2) / np.maximum(held, 1), np.nan)
    return signed_scores(means, floor, direction, zero_median)


def signed_scores(
    curves: np.ndarray,
    floor: np.ndarray | None,
    direction: str = "higher",
    zero_median: str = "floor",
    clip: float = 100.0,
    normalise: str = "none",
) -> np.ndarray:
    """Emergence scores of curves [curves, scales] over a given floor [curves] under their typical steps, None for none."""
    if zero_median not in ("floor", "inf", "clip", "drop"):
        raise ValueError(f"zero_median must be floor, inf, clip or drop, got {zero_median!r}")
    if normalise not in ("none", "n", "sqrt_n"):
        raise ValueError(f"normalise must be none, n or sqrt_n, got {normalise!r}")
    sign = _sign(direction)
    m = np.sum(~np.isnan(curves), axis=1)
    reach, steps = signed_ranges(curves), typical_steps(curves)
    if zero_median == "floor" and floor is not None:
        steps = np.maximum(steps, floor)
    if zero_median == "drop":
        steps = np.where(steps == 0, np.nan, steps)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = sign * reach / steps
    if zero_median == "clip":
        score = np.clip(score, -clip, clip)
    score = np.where(m < 3, np.nan, np.where(reach == 0, 0.0, score))
    return score / {"none": 1.0, "n": np.maximum(m, 1), "sqrt_n": np.maximum(m, 1) ** 0.5}[normalise]


def floors(y: np.ndarray, n: Numbers | None, se: Numbers | None) -> np.ndarray | None:
    """Standard error of a difference between two scores of each row [rows, scores]; None where neither n nor se is given."""
    if n is not None and se is not None:
        raise ValueError("give n (success rates) or se (any other score), not both")
    there = ~np.isnan(y)
    if n is not None:
        items = _beside("n", n, y)
        if np.any(there & ~(items >= 1)) or np.any((y < 0) | (y > 1)):
            raise ValueError("n needs success rates in [0, 1] and n >= 1; for other scores give se")
        mean = np.where(there, y, 0.0).sum(1) / np.maximum(there.sum(1), 1)
        least = np.where(there, items, np.inf).min(1, initial=np.inf)
        return np.sqrt(2 * mean * (1 - mean) / least)
    if se is not None:
        errors = np.where(there, _beside("se", se, y), np.nan)
        if np.any(there & ~(errors >= 0)):
            raise ValueError("se must be >= 0")
        return np.sqrt(2) * _medians(errors, there.sum(1))
    return None


def signed_ranges(curves: np.ndarray) -> np.ndarray:
    """Numerator of the emergence score of curves [curves, scales]; 0 for a flat one."""
    reach, flat = _reach(*_packed(curves))
    return np.where(flat, 0.0, reach)


def typical_steps(curves: np.ndarray) -> np.ndarray:
    """Its denominator, without a floor: the root of the median squared step; NaN for fewer than 2 scales."""
    y, m = _packed(curves)
    return np.sqrt(_medians(np.diff(y) ** 2, np.maximum(m - 1, 0)))


def as_curves(curves: Numbers) -> np.ndarray:
    """Curves [curves, scales] as float64, checked."""
    y = np.asarray(curves, dtype=float)
    if y.ndim != 2:
        raise ValueError(f"curves must be [curves, scales], got shape {y.shape}")
    if np.isinf(y).any():
        raise ValueError("scores must be finite or NaN")
    return y


def _beside(name: str, given: Numbers, y: np.ndarray) -> np.ndarray:
    values = np.asarray(given, dtype=float)
    try:
        return np.broadcast_to(values, y.shape)
    except ValueError:
        raise ValueError(f"{name} must broadcast to the shape of the curves {y.shape}, got {values.shape}") from None


def _sign(direction: str) -> float:
    """Negation swaps the extremes, whose firsts stay the firsts: E(-y) = -E(y), and so the companions."""
    if direction not in ("higher", "lower"):
        raise ValueError(f"direction must be higher or lower, got {direction!r}")
    return 1.0 if direction == "higher" else -1.0


def _packed(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is there moved to the front in its order, NaN behind it; and how much there is [curves]."""
    missing = np.isnan(y)
    m = y.shape[1] - missing.sum(1)
    if missing.any():
        y = np.take_along_axis(y, np.argsort(missing, axis=1, kind="stable"), axis=1)
    return y, m


def _reach(y: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed range of packed curves, and whether there is none beyond the rounding of averages over repeats."""
    if y.shape[1] == 0:
        return np.zeros(len(y)), np.ones(len(y), bool)
    there = np.arange(y.shape[1]) < m[:, None]
    high, low = np.where(there, y, -np.inf), np.where(there, y, np.inf)
    top, bottom = high.max(1), low.min(1)
    reach = np.where(m > 0, top - bottom, 0.0)
    flat = reach <= 4 * np.finfo(float).eps * np.maximum(np.abs(top), np.abs(bottom))
    return np.where(high.argmax(1) >= low.argmin(1), reach, -reach), flat


def _medians(values: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Median of the m numbers of each row, the rest of which is NaN; NaN where there is none."""
    if values.shape[1] == 0:
        return np.full(len(values), np.nan)
    ascending = np.sort(values, axis=1)  # NaN last
    rows = np.arange(len(values))
    return (ascending[rows, np.maximum(m - 1, 0) // 2] + ascending[rows, np.minimum(m // 2, values.shape[1] - 1)]) / 2


def _curve(scores: Numbers, scales: Numbers | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales and scores of the models that have one, and which those are."""
    y = np.asarray(scores, dtype=float)
    x = np.arange(y.size, dtype=float) if scales is None else np.asarray(scales, dtype=float)
    if y.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"scores and scales must be vectors of one length, got {y.shape} and {x.shape}")
    if np.isinf(y).any() or not np.isfinite(x).all():
        raise ValueError("scores must be finite or NaN, scales finite")
    keep = ~np.isnan(y)
    return x[keep], y[keep], keep


def _averaged(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[1, scales]: scores in ascending order of scale, repeats averaged."""
    unique, group = np.unique(x, return_inverse=True)
    return (np.bincount(group, weights=y, minlength=unique.size) / np.maximum(np.bincount(group), 1))[None]

"""Induced emergence: which setting of a metric makes the sharpest curve of the same outputs, and out of how many tried.

Reconstruction_c of scale h is F_h(c), the distribution of its errors, and subset accuracy over K items is p^K: by the choice
of c or K alone the same models improve suddenly or slowly. The sharpest of many curves is a chosen one, so what was tried
is told beside it.

References:
    Schaeffer, Miranda, Koyejo (2023), section 5 and appendix B.1 (the metrics); the search and its counts are ours.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mirage_jax.arrays import Numbers
from mirage_jax.emergence import Direction, emergence_scores, floors
from mirage_jax.metrics.facts import METRICS, evaluate
from mirage_jax.outcomes import AnyArray, Outcome
from mirage_jax.table import setting

RESOLVED = 2.0  # standard errors of a difference by which a curve must improve to have a width


class Induced(NamedTuple):
    """The sharpest and the smoothest of the choices tried, None where no curve has a width; and all of them."""

    sharpest: Any
    smoothest: Any
    nearest: Any  # in width to the one asked for; None if none was
    tried: int
    with_width: int
    by_chance: float  # choices expected to look as sharp as the sharpest if all models were alike; NaN without n or se
    table: pd.DataFrame  # a row for each choice, in the order given

    def __str__(self) -> str:
        if self.sharpest is None:
            return f"none of {self.tried} choices tried has a width"
        width = self.table.set_index("choice")["width"]
        ends = (
            f"{name} {one} ({width[one]:.3g} decades)" for name, one in zip(self._fields[:2], self[:2], strict=True)
        )
        chance = "" if np.isnan(self.by_chance) else f"; {self.by_chance:.2g} as sharp expected by chance"
        return f"{', '.join(ends)}, of {self.tried} choices tried, {self.with_width} with a width{chance}"


def crossing(x: AnyArray, y: AnyArray, share: float) -> AnyArray:
    """Where curves y [..., scales], straight between the points x [scales], first went `share` of the way first to last.

    In numpy or in JAX, whichever y is. NaN where the last score is the first.
    """
    xp: Any = y.__array_namespace__()
    progress = (y - y[..., :1]) / (y[..., -1:] - y[..., :1])
    at = xp.clip(xp.argmax(progress >= share, axis=-1, keepdims=True), 1, None)
    below, above = (xp.take_along_axis(progress, i, axis=-1) for i in (at - 1, at))
    left, right = xp.take(xp.asarray(x), at - 1), xp.take(xp.asarray(x), at)
    return (left + (right - left) * (share - below) / (above - below))[..., 0]


def transition_width(x: AnyArray, y: AnyArray) -> AnyArray:
    """`crossing` at 90% less that at 10%: the decades of scale that the change takes, where x is log10 of the scales."""
    return crossing(x, y, 0.9) - crossing(x, y, 0.1)


def induce(
    scores: Mapping[Any, Numbers] | Numbers,
    scales: Numbers,
    *,
    width: float | None = None,
    direction: Direction = "higher",
    n: Numbers | None = None,
    se: Numbers | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Induced:
    """Search the settings of a metric for the curve that improves over the fewest and over the most decades of scale.

        width_k = crossing_k(90%) - crossing_k(10%) in log10 scale        (`transition_width`)
        by_chance = sum_k P0(width_k <= w and z_k >= z),    w and z of the sharpest

    z is the improvement from the first score to the last over the standard error of a difference (the floor of
    `emergence_score`: from n, from se, or from the spread over seeds, pooled over the scales). A curve has a width if it
    improves by more than RESOLVED = 2 of them (without any: at all) over at least 3 scales. P0 draws each choice with no
    model better than another, at the choice's own mean, by Binomial(n) / n or normal noise. The sum is an expected count of
    such curves, which needs no independence of the choices; w and z having been picked, it is no p-value.

    A jump between neighbouring scales is .8 of their gap wide whatever lies between: `inside`, the scales strictly within
    the transition, is then 0 and the width a bound. Of equal widths the larger z counts as the sharper, then the first.

    Args:
        scores: choice -> curve [scale] or [seed, scale], or an array [choice, scale] or [choice, seed, scale]; NaN where
            missing: the curve is then straight between its other scores. Seeds are averaged.
        scales: [scale], positive, distinct, in any order.
        width: if given, also find the choice whose width is nearest to it, in decades.
        direction: `lower` where an improvement is a fall.
        n: test items, whole, of curves [scale] that are success rates: one number, [scale] or [choice, scale].
        se: standard errors of any other curves [scale], likewise. Curves [seed, scale] bring their own, and take neither.
        draws: of each choice under P0.
        seed: of numpy's Philox.

    Returns:
        `Induced`. Columns of its table: choice, width, location (scale at half the change), inside, change (improvement),
        z, emergence_score, scales and seeds (how many the curve has; of seeds the fewest at any of its scales).

    Raises:
        ValueError: fewer than 3 scales, scales that are not positive and distinct, no choices, curves of other shapes,
            infinite scores, n that is not whole, n or se beside seeds, or as `emergence_scores`.
    """
    names, x, each, items, errors = _checked(scores, scales, n, se)
    held = np.sum(~np.isnan(each), axis=1)
    y = np.where(held > 0, np.nansum(each, axis=1) / np.maximum(held, 1), np.nan)
    spare = np.maximum(held - 1, 0).sum(1, keepdims=True)
    if each.shape[1] > 1 and np.all((spare > 0) | (held.sum(1, keepdims=True) == 0)):
        pooled = np.nansum((each - y[:, None]) ** 2, axis=(1, 2))[:, None] / np.maximum(spare, 1)
        errors = np.sqrt(pooled / np.maximum(held, 1))
    scored = emergence_scores(y, items, se=errors, direction=direction)  # refuses what it cannot score
    noise = [tuple(None if v is None else v[k, own] for v in (items, errors)) for k, own in enumerate(held > 0)]
    curves = [(x[own], y[k, own], *noise[k]) for k, own in enumerate(held > 0)]
    found = [_transitions(x, y[None], direction, n, se) for x, y, n, se in curves]
    columns = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    columns |= {"emergence_score": scored, "scales": np.sum(held > 0, axis=1)}
    columns["seeds"] = np.where(held > 0, held, each.shape[1]).min(1)
    table = pd.DataFrame({"choice": pd.Series(names, dtype=object)} | columns)
    widths, z = columns["width"], columns["z"]
    ranked = np.lexsort((-z, widths.round(9)))[: np.sum(~np.isnan(widths))]  # NaN stands last
    if not ranked.size:
        return Induced(None, None, None, len(names), 0, np.nan, table)
    first, last = ranked[0], ranked[-1]
    near = None if width is None else names[np.nanargmin(np.abs(widths - width))]
    by_chance = np.nan
    if not np.isnan(z[first]):
        generator = np.random.Generator(np.random.Philox(seed))
        limits = float(widths[first]), float(z[first])
        by_chance = sum(_as_sharp(generator, draws, *limits, direction, *one) for one in curves)
    return Induced(names[first], names[last], near, len(names), ranked.size, by_chance, table)


def _checked(
    scores: Mapping[Any, Numbers] | Numbers, scales: Numbers, n: Numbers | None, se: Numbers | None
) -> tuple[list[Any], np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Choices, log10 of the scales in ascending order, scores [choice, seed, scale], and n and se [choice, scale]."""
    given = scores if isinstance(scores, Mapping) else dict(enumerate(np.atleast_1d(np.asarray(scores, dtype=float))))
    size, curves = np.asarray(scales, dtype=float), [np.asarray(y, dtype=float) for y in given.values()]
    if (
        size.ndim != 1
        or size.size < 3
        or not np.all((size > 0) & np.isfinite(size))
        or np.unique(size).size < size.size
    ):
        raise ValueError(f"needs at least 3 scales, positive and distinct, got {size.tolist()}")
    shapes = sorted({y.shape for y in curves})
    if len(shapes) != 1 or shapes[0][-1:] != size.shape or len(shapes[0]) > 2 or 0 in shapes[0]:
        raise ValueError(f"curves must all be [scale] or all [seed, scale] at {size.size} scales, got shapes {shapes}")
    if len(shapes[0]) == 2 and not (n is None and se is None):
        raise ValueError("curves [seed, scale] bring their own standard errors: give neither n nor se")
    if n is not None and not np.all(np.isfinite(n) & (np.asarray(n) == np.round(n))):
        raise ValueError(f"n must be whole, got {n}")
    order = np.argsort(size)
    each = np.stack(curves).reshape(len(curves), -1, size.size)[..., order]
    if np.isinf(each).any():
        raise ValueError("scores must be finite or NaN")
    items, errors = (
        None if v is None else np.broadcast_to(np.asarray(v, float), each[:, 0].shape)[:, order] for v in (n, se)
    )
    return list(given), np.log10(size[order]), each, items, errors


def _transitions(
    x: np.ndarray, y: np.ndarray, direction: str, n: np.ndarray | None, se: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The table's columns of curves [curves, scales] that miss no score; NaN where a curve has no width."""
    names = ("width", "location", "inside", "change", "z")
    if x.size < 3:
        return dict.fromkeys(names, np.full(len(y), np.nan))
    change = (y[:, -1] - y[:, 0]) * (1 if direction == "higher" else -1)
    error, rounding = floors(y, n, se), 4 * np.finfo(float).eps * np.abs(y).max(1)
    least = rounding if error is None else np.maximum(rounding, RESOLVED * error)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.full(len(y), np.nan) if error is None else np.where(change == 0, 0.0, change / error)
        low, half, high = (crossing(x, y, share) for share in (0.1, 0.5, 0.9))
        location = 10**half
    inside = np.sum((x > low[:, None]) & (x < high[:, None]), axis=1)
    there = (np.where(change > least, value, np.nan) for value in (high - low, location, inside))
    return dict(zip(names, (*there, change, z), strict=True))


def _as_sharp(
    draw: np.random.Generator, draws: int, width: float, z: float, direction: str,
    x: np.ndarray, y: np.ndarray, n: np.ndarray | None, se: np.ndarray | None,
) -> float:  # fmt: skip
    """Share of curves of models that all score the mean of y [scales] whose improvement is as narrow and as clear."""
    if x.size < 3:
        return 0.0
    mean, shape = y.mean(), (draws, x.size)
    if n is not None:
        alike = draw.binomial(n.astype(np.int64), mean, shape) / n
    else:
        alike = mean + np.asarray(se) * draw.standard_normal(shape)
    found = _transitions(x, alike, direction, n, se)
    return float(np.mean((found["width"] <= width + 1e-9) & (found["z"] >= z - 1e-9)))


def induce_metric(
    outcomes: Mapping[float, Outcome], metric: str, *, width: float | None = None, **grid: Sequence[Any]
) -> Induced:
    """`induce` on what a family did, scale -> outcome, under a metric with every combination of the options in the grid.

        induce_metric({h: Errors(squared[h]) for h in sizes}, "reconstruction", c=[1.0, 2.0, 4.0])

    A choice is named as in the table's `setting` ("c=1.0"). Samples [item] make a curve with n where every score is 0 or 1,
    else with standard errors over the items; samples [seed, item] a curve for each seed; a single score makes neither.

    Raises:
        ValueError: no options to search, samples of other shapes, or as `evaluate` and `induce`.
    """
    if not grid:
        raise ValueError(f"name an option of {metric} to search, such as c=[1.0, 2.0]")
    samples: dict[str, list[np.ndarray]] = {}
    for values in product(*grid.values()):
        one = dict(zip(grid, values, strict=True))
        samples[setting(**one)] = [np.asarray(evaluate(o, metric, **one)[metric], float) for o in outcomes.values()]
    each = [v for of in samples.values() for v in of]
    if len({v.shape[:-1] for v in each}) != 1 or len({v.ndim for v in each}) != 1 or each[0].ndim > 2:
        raise ValueError(
            f"samples must all be [item] or all [seed, item], got shapes {sorted({v.shape for v in each})}"
        )
    about: dict[str, Any] = {"width": width, "direction": METRICS[metric].direction}
    counts = np.array([[np.sum(~np.isnan(v), axis=-1) for v in of] for of in samples.values()])  # [choice, scale, ...]
    totals = np.array([[np.nansum(v, axis=-1) for v in of] for of in samples.values()])
    means = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
    if each[0].ndim == 1 and all(np.isin(v[~np.isnan(v)], (0, 1)).all() for v in each):
        about["n"] = counts
    elif each[0].ndim == 1 and np.all(counts > 1):
        spread = np.array([[np.nanstd(v, ddof=1) for v in of] for of in samples.values()])
        about["se"] = spread / np.sqrt(counts)
    return induce(dict(zip(samples, np.moveaxis(means, 1, -1), strict=True)), list(outcomes), **about)

"""Scores by difficulty: items that are easy and items that are hard for small models, each with a curve of its own.

Hard items can get worse before they get better while easy ones do the opposite; their mean is then flat. Groups made on
the models that are measured show such shapes by selection alone, so the grouping is repeated on models held out.

References:
    Wu, Lo (2024), "U-shaped and Inverted-U Scaling behind Emergent Abilities of Large Language Models".
"""

from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from mirage_jax.arrays import Numbers
from mirage_jax.estimators import student_t


class Slice(NamedTuple):
    """Curves of the groups, easiest first, on the models measured.

    `bend` [groups] is the depth of the parabola fitted to -brier against log scale, end to middle: above 0 a U (falls,
    then rises), below 0 an inverted U; `bend_below` the same over the models below the threshold (NaN for fewer than 3).
    """

    group: np.ndarray  # [items]
    scale: np.ndarray  # [models]
    brier: np.ndarray  # [groups, models], lower is better
    low: np.ndarray
    high: np.ndarray
    bend: np.ndarray
    bend_low: np.ndarray
    bend_high: np.ndarray
    bend_below: np.ndarray
    bend_below_low: np.ndarray
    bend_below_high: np.ndarray


class Slices(NamedTuple):
    """Groups made on all models below the threshold, and on half of them, measured on the rest (None if not asked for)."""

    naive: Slice
    control: Slice | None


def difficulty_slices(
    p_correct: Numbers,
    scale: Numbers,
    threshold: float,
    *,
    groups: int = 3,
    split: Literal["half"] | None = "half",
    key: Key[Array, ""] | None = None,
    level: float = 0.95,
) -> Slices:
    """Group items by their mean Brier score (1 - p)^2 over the models below the threshold; a curve for each group.

    The control groups on every second model below the threshold, from the smallest on (a random half if a key is given),
    and measures on all others. Where a group bends in `naive` alone, regression to the mean made the bend. Neighbouring
    models that share their errors (checkpoints of one run) weaken the control.

    Args:
        p_correct: probability of the correct option among the options, [models, items].
        scale: of each model, > 0, in any order; several models may share one.
        threshold: scale from which models count as above.
        groups: of (nearly) equal size.
        split: None for no control.
        key: of a random split.
        level: of the intervals, Student t over the items of a group; NaN where those are all equal.

    Raises:
        ValueError: shapes that do not fit, probabilities outside [0, 1] or missing, scales not above 0, fewer than 2 items
            a group, no model below the threshold (2 for the control) or fewer than 3 scales measured.
    """
    p, x = np.asarray(p_correct, dtype=float), np.asarray(scale, dtype=float)
    if p.ndim != 2 or x.shape != p.shape[:1] or not np.all((x > 0) & np.isfinite(x)):
        raise ValueError(f"needs p_correct of [models, items] and a scale > 0 each, got shapes {p.shape} and {x.shape}")
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError("p_correct must lie in [0, 1] for every model and item; leave out items not answered by all")
    if groups < 2 or p.shape[1] < 2 * groups:
        raise ValueError(f"needs at least 2 groups of at least 2 items, got {groups} of {p.shape[1]} items")
    order = np.argsort(x, kind="stable")
    x, brier = x[order], (1 - p[order]) ** 2
    below = np.flatnonzero(x < threshold)
    if below.size < (1 if split is None else 2):
        raise ValueError(f"needs models below the threshold {threshold:g}, got {below.size}")
    naive = _slice(brier, x, threshold, below, np.arange(x.size), groups, level)
    if split is None:
        return Slices(naive, None)
    if split != "half":
        raise ValueError(f"split must be half or None, got {split!r}")
    shuffled = below if key is None else below[np.asarray(jax.random.permutation(key, below.size))]
    held = shuffled[::2]
    measured = np.setdiff1d(np.arange(x.size), held)
    return Slices(naive, _slice(brier, x, threshold, held, measured, groups, level))


def _slice(
    brier: np.ndarray,
    x: np.ndarray,
    threshold: float,
    grouped_on: np.ndarray,
    measured: np.ndarray,
    groups: int,
    level: float,
) -> Slice:
    order = np.argsort(brier[grouped_on].mean(0), kind="stable")
    members = np.array_split(order, groups)
    group = np.empty(order.size, dtype=int)
    for g, one in enumerate(members):
        group[one] = g
    brier, x = brier[measured], x[measured]
    means = np.array([brier[:, one].mean(1) for one in members])
    ends = np.array([[student_t(row[one], level) for row in brier] for one in members])
    small = x < threshold
    bends = [_bend(-brier, x, members, level), _bend(-brier[small], x[small], members, level)]
    return Slice(group, x, means, ends[..., 0], ends[..., 1], *bends[0], *bends[1])


def _bend(y: np.ndarray, x: np.ndarray, members: list[np.ndarray], level: float) -> np.ndarray:
    """Depth of each group's parabola and its interval, [3, groups], from the depth of each item."""
    if np.unique(x).size < 3:
        return np.full((3, len(members)), np.nan)
    t = np.log(x / x.min())
    t = 2 * t / t.max() - 1  # the ends at -1 and 1: the coefficient of t^2 is the depth
    depth = np.linalg.pinv(np.vander(t, 3))[0] @ y
    return np.array([[depth[one].mean(), *student_t(depth[one], level)] for one in members]).T

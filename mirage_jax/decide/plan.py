"""Before the money is spent: how many items and scales tell a threshold from a smooth rise, by the very rule that will judge.

For each number of scales, equally spaced on the range, two truths are simulated under a linear metric alone: a step of
height J, and a logistic rise of the same height over W decades (10-90), each at a random place in the middle of the range.
A design is good if the step is called THRESHOLD_SURVIVES, the rise SMOOTH, and the rise hardly ever a threshold.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from mirage_jax.decide.rule import JUMP, SCALES_JUMP, SHARP, Cases, judge
from mirage_jax.decide.shapes import NARROW
from mirage_jax.decide.words import CERTIFY
from mirage_jax.errors import InputError
from mirage_jax.estimators import clopper_pearson

FALSE = 0.01  # of smooth rises, at most, called a threshold
MIDDLE = (0.3, 0.7)  # of the range: where a step or the centre of a rise lies
MOST = 100_000  # items
STEPS = 12  # numbers of items tried in a decade
SEARCH, CONFIRM = 100, 400  # curves of each truth while searching, and at the end

GRID = tuple(
    sorted({int(float(f"{10 ** (1 + k / STEPS):.2g}")) for k in range(round(STEPS * (math.log10(MOST) - 1)) + 1)})
)


class Design(NamedTuple):
    """What is planned, and the truths it must tell apart. Scores in [0, 1], widths in decades."""

    jump: float
    width: float
    decades: float
    level: float
    length: int
    scatter: float


def plan(
    jump: float,
    width: float,
    decades: float,
    *,
    level: float = 0.3,
    length: int = 1,
    scatter: float = 0.0,
    power: float = 0.9,
    scales: Sequence[int] = (8, 12, 16, 24, 32),
    seed: int = 0,
) -> pd.DataFrame:
    """For each number of scales, the least items a scale that tell a step from a smooth rise.

    Args:
        jump: height of the step and of the rise, as a share of the metric's range.
        width: 10-90 width of the smooth rise, in decades.
        decades: range of the scales.
        level: score below the jump.
        length: tokens scored in an item, their errors independent of each other.
        scatter: standard deviation of logit(score) between models, which the rule has to estimate.
        power: with which each truth must get its label.
        scales: numbers of scales, at least 3 each.
        seed: of the simulation; equal arguments give equal tables.

    Returns:
        A row for each number of scales: `items` (one of GRID, null if none up to MOST does) and `reason` where null; the
        shares `threshold` (steps called THRESHOLD_SURVIVES), `smooth` (rises called SMOOTH) and `false` (rises called
        THRESHOLD_SURVIVES) of `simulated` curves each, with 95% Clopper-Pearson ends `_low` and `_high`, at `items`, or
        at MOST where there is none; the closed-form `items_rule` = 225 mu (1 - mu) / (J^2 length), mu = level + J / 2,
        and `scales_rule` = 1 + 1.5 decades / width (that many for a rise of up to 1.5 decades, and at least 8). NaN where
        nothing was simulated.

    Raises:
        InputError: an argument outside its range.
    """
    design = Design(jump, width, decades, level, length, scatter)
    _check(design, power, scales, seed)
    middle = level + jump / 2
    rules = {
        "items_rule": math.ceil(CERTIFY * middle * (1 - middle) / jump**2 / length),
        "scales_rule": max(SCALES_JUMP, math.ceil(1 + NARROW * decades / width - 1e-9) if width <= SHARP else 0),
    }
    rows = [{"scales": m, **_planned(design, m, power, seed, rules["scales_rule"]), **rules} for m in scales]
    return pd.DataFrame(rows).astype({"items": "Int64"})


def _check(design: Design, power: float, scales: Sequence[int], seed: int) -> None:
    def refuse(good: bool, name: str, expected: str, got: object) -> None:
        if not good:
            raise InputError(f"{name}: expected {expected}, got {got}")

    refuse(0 < design.jump <= 1, "jump", "a share of the metric's range in (0, 1]", design.jump)
    refuse(0 < design.width < math.inf, "width", "decades above 0", design.width)
    refuse(0 < design.decades < math.inf, "decades", "a range above 0", design.decades)
    top = f"a score in [0, {1 - design.jump:.3g}], so that level + jump is at most 1"
    refuse(0 <= design.level <= 1 - design.jump + 1e-9, "level", top, design.level)
    refuse(design.length >= 1, "length", "at least one token", design.length)
    refuse(0 <= design.scatter < 10, "scatter", "a standard deviation in [0, 10)", design.scatter)
    refuse(0 < power < 1, "power", "a probability in (0, 1)", power)
    refuse(len(scales) > 0 and all(m >= 3 for m in scales), "scales", "numbers from 3 on", list(scales))
    refuse(seed >= 0, "seed", "a whole number from 0 on", seed)


def _planned(design: Design, scales: int, power: float, seed: int, needed: int) -> dict[str, Any]:
    """The row of one number of scales."""
    gap = design.decades / (scales - 1)
    blank = {f"{name}{end}": math.nan for name in ("threshold", "smooth", "false") for end in ("", "_low", "_high")}
    if design.jump < JUMP:
        return {"items": None, "reason": f"no rise below {JUMP:g} of the range is called a threshold", **blank}
    if scales < SCALES_JUMP:
        return {"items": None, "reason": f"more scales: fewer than {SCALES_JUMP} decide no jump", **blank}
    if design.width <= min(NARROW * gap, SHARP) * (1 + 1e-9):
        narrow = f"a rise of {design.width:g} decades is within {NARROW:g} gaps of {gap:.2g}, narrow by definition"
        return {"items": None, "reason": f"more scales: {narrow}; at least {needed} are needed", **blank}

    def shares(items: int, curves: int, turn: int) -> tuple[float, float, float]:
        return simulated(design, scales, items, curves, (seed, scales, items, turn))

    def good(found: tuple[float, float, float]) -> bool:
        threshold, smooth, false = found
        return threshold >= power and smooth >= power and false <= FALSE

    low, high, step = -1, len(GRID) - 1, 1  # the least good one is in (low, high], if any is
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(shares(GRID[middle], SEARCH, 0)) else (middle, high)
    while not (reached := good(found := shares(GRID[high], CONFIRM, 1))) and high < len(GRID) - 1:
        high, step = min(high + step, len(GRID) - 1), 2 * step  # the search was lucky: fresh curves must agree
    row: dict[str, Any] = {"items": GRID[high] if reached else None, "reason": "" if reached else _why(found, power)}
    for name, share in zip(("threshold", "smooth", "false"), found, strict=True):
        low_end, high_end = clopper_pearson(round(share * CONFIRM), CONFIRM)
        row |= {name: share, f"{name}_low": float(low_end), f"{name}_high": float(high_end)}
    return row | {"simulated": CONFIRM}


def _why(found: tuple[float, float, float], power: float) -> str:
    """What even the largest number of items does not reach."""
    threshold, smooth, false = found
    missed = [f"a step is found in {threshold:.1%}"] if threshold < power else []
    missed += [f"a smooth rise in {smooth:.1%}"] if smooth < power else []
    missed += [f"a smooth rise is called a threshold in {false:.1%}"] if false > FALSE else []
    return f"with {MOST:,} items {' and '.join(missed)}: more scales, or less scatter"


def simulated(
    design: Design, scales: int, items: int, curves: int, seed: Sequence[int]
) -> tuple[float, float, float]:  # fmt: skip
    """Shares of steps called THRESHOLD_SURVIVES, of rises called SMOOTH, and of rises called THRESHOLD_SURVIVES."""
    draw = np.random.default_rng(seed)
    x = np.tile(np.linspace(0, design.decades, scales), (2 * curves, 1))
    z = x - draw.uniform(*MIDDLE, (2 * curves, 1)) * design.decades
    step, rise = z[:curves] > 0, special.expit(2 * math.log(9) * z[curves:] / design.width)
    p = np.clip(design.level + design.jump * np.concatenate([step, rise]), 0, 1)
    p = special.expit(special.logit(p) + design.scatter * draw.standard_normal(p.shape))
    tokens = items * design.length
    y = draw.binomial(tokens, p) / tokens
    # as a table's own rows get it: no score is certain, one more item of unlike outcome stands beside them
    se = np.sqrt(y * (1 - y) / tokens + 0.25 / design.length / (items * (items + 1)))
    none, unknown = np.zeros(2 * curves, bool), np.full(2 * curves, np.nan)
    label = judge(
        Cases(
            x=x,
            rate=y,
            n=np.full(x.shape, float(items)),
            se=se,
            linear=y,
            linear_se=se,
            size=np.full(2 * curves, scales),
            counted=none,
            paired=none,
            tokens=none,
            proper=~none,
            length=unknown,
            chance=np.zeros(2 * curves),
            scatter=unknown,
            sharp=np.full(2 * curves, SHARP),
            bimodal=none,
        )  # fmt: skip
    ).label
    threshold = label == "THRESHOLD_SURVIVES"
    return (
        float(threshold[:curves].mean()), float((label[curves:] == "SMOOTH").mean()), float(threshold[curves:].mean()),
    )  # fmt: skip

"""What tests and families of finite size make of a smooth curve: measured curves, and facts of many curves at once.

Curves are [curves, scales], in ascending order of scale, improvement upwards. Everything is numpy on the host: a million
tests of 16 models take seconds.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mirage_jax.emergence import emergence_scores
from mirage_jax.estimators import clopper_pearson

BLOCK = 1 << 14  # tests at once
MOST = 100.0  # emergence scores beyond it count as it, as `emergence_score(zero_median="clip")` has it
NODE = 0.1  # emergence scores are counted to the nearest of these
QUANTILES = (5, 50, 95)
SHARES = 100  # steps are counted to the nearest percent of the range


def measured(draw: np.random.Generator, ability: np.ndarray, n: int, tests: int) -> np.ndarray:
    """Scores of whole tests of n items, k / n with k ~ Binomial(n, ability) at every scale: [tests, scales]."""
    return draw.binomial(n, ability, size=(tests, len(ability))) / n


def zero_law(ability: Any, n: Any) -> np.ndarray:
    """P(a test of n items shows exactly 0) = (1 - a)^n."""
    with np.errstate(divide="ignore"):  # an ability of 1 never shows 0
        return np.exp(n * np.log1p(-np.asarray(ability, dtype=float)))


def onset_law(ability: np.ndarray, n: int) -> np.ndarray:
    """P(the first score that is not 0 stands at scale i), and last P(none does): [scales + 1].

    P(i) = [1 - (1 - a_i)^n] prod_{j < i} (1 - a_j)^n, the tests of different models being independent.
    """
    zero = zero_law(ability, n)
    before = np.concatenate([[1.0], np.cumprod(zero)])
    return np.append(before[:-1] * (1 - zero), before[-1])


def largest_steps(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest step between neighbouring scales as a share of the range, NaN for a flat curve; and where it leads to."""
    steps = np.abs(np.diff(curves))
    reach = np.ptp(curves, axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(reach > 0, steps.max(1) / np.where(reach > 0, reach, 1.0), np.nan), steps.argmax(1) + 1


def onsets(curves: np.ndarray) -> np.ndarray:
    """Index of the first score that is not 0, the number of scales where all are."""
    seen = curves > 0
    return np.where(seen.any(1), seen.argmax(1), curves.shape[1])


class Tally(NamedTuple):
    """What is counted of many curves, in whole numbers that add up."""

    curves: np.ndarray  # [1]
    flat: np.ndarray  # [1], without any range
    jumps: np.ndarray  # [1], whose largest step is above a given share of the range
    last: np.ndarray  # [1], whose largest step is the last one
    zero: np.ndarray  # [scales], that show 0 there
    onset: np.ndarray  # [scales + 1], by `onsets`
    step: np.ndarray  # [SHARES + 1], by the largest step in percent of the range, flat ones left out
    floored: np.ndarray  # by emergence score with its floor, in NODEs from -MOST to MOST
    plain: np.ndarray  # by emergence score without


def tally(curves: np.ndarray, n: int | None, jump: float) -> Tally:
    """Count curves; n is the number of test items behind each score, None where the scores are exact."""
    step, leads_to = largest_steps(curves)
    moves = ~np.isnan(step)
    nodes = round(MOST / NODE)

    def by_score(scores: np.ndarray) -> np.ndarray:
        return np.bincount(np.rint(np.clip(scores, -MOST, MOST) / NODE).astype(int) + nodes, minlength=2 * nodes + 1)

    return Tally(
        np.array([len(curves)]),
        np.array([np.sum(~moves)]),
        np.array([np.sum(step > jump)]),
        np.array([np.sum(moves & (leads_to == curves.shape[1] - 1))]),
        (curves == 0).sum(0),
        np.bincount(onsets(curves), minlength=curves.shape[1] + 1),
        np.bincount(np.rint(step[moves] * SHARES).astype(int), minlength=SHARES + 1),
        by_score(emergence_scores(curves, n)),
        by_score(emergence_scores(curves)),
    )


def read(counts: np.ndarray, scales: int) -> Tally:
    """The tally in a row of counts, `np.concatenate(tally)`."""
    widths = (1, 1, 1, 1, scales, scales + 1, SHARES + 1)
    *parts, scores = np.split(counts, np.cumsum(widths))
    return Tally(*parts, *np.split(scores, 2))


def count_tests(key: np.ndarray, cell: tuple[np.ndarray], tests: int, n: int, jump: float) -> np.ndarray:
    """Count whole tests of n items of a family whose abilities are the cell: a `Tally` in one row."""
    counted = [np.concatenate(tally(measured(draw, cell[0], n, m), n, jump)) for draw, m in blocks(key, tests)]
    return np.sum(counted, axis=0)


def blocks(key: np.ndarray, tests: int) -> Iterator[tuple[np.random.Generator, int]]:
    """One generator for a cell, and how many tests to draw from it at a time."""
    draw = np.random.Generator(np.random.Philox(key=key.astype(np.uint64)))
    for start in range(0, tests, BLOCK):
        yield draw, min(BLOCK, tests - start)


def looks(found: Tally) -> dict[str, float]:
    """Shares of the curves, with the 95% interval of the jumps, and quantiles; of flat curves no step is known."""
    curves = int(found.curves[0])
    low, high = clopper_pearson(found.jumps[0], curves)
    shares = {name: getattr(found, name)[0] / curves for name in ("jumps", "last", "flat")}
    ends = {"jumps_low": float(low), "jumps_high": float(high), "infinite": found.plain[-1] / curves}
    nodes = round(MOST / NODE)
    scores = np.arange(-nodes, nodes + 1) * NODE
    spread = {"emergence": (found.floored, scores), "plain": (found.plain, scores)}
    spread |= {"step": (found.step, np.arange(SHARES + 1) / SHARES)}
    return shares | ends | {k: v for name, of in spread.items() for k, v in quantiles(name, *of).items()}


def quantiles(name: str, counts: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """The smallest value that at least 5%, half and 95% of the counted lie at or below; NaN where nothing was counted."""
    total, below = int(counts.sum()), np.cumsum(counts)
    at = [float(values[np.searchsorted(below, max(q / 100 * total, 1))]) if total else np.nan for q in QUANTILES]
    return {f"{name}_q{q:02d}": value for q, value in zip(QUANTILES, at, strict=True)}

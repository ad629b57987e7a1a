"""Tests of the size that would have shown an ability: how many items, and what counts as shown."""

import itertools
import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from mirage_jax.estimators import plan_test_size
from sims.measured import blocks

KINDS = ("seen", "above_chance", "precise")
LEVEL = 0.95  # of the test against chance
CLEAR = 1.2  # a per-token success below this multiple of chance is not planned for
LONGEST = 5  # tokens: beyond, chance^L is too small for the search of an exact test


class Plan(NamedTuple):
    """A test planned for one ability, and the successes that then count as a hit."""

    kind: (
        str  # seen: one success; above_chance: significantly above; precise: within two of the planned standard errors
    )
    length: int
    model: int
    ability: float
    items: int
    least: int
    most: int

    @property
    def power(self) -> float:
        """P(hit), exact."""
        n, a = self.items, self.ability
        return float(stats.binom.cdf(self.most, n, a) - stats.binom.cdf(self.least - 1, n, a))


@cache
def plans(
    p: tuple[float, ...], lengths: tuple[int, ...], power: float, relative_error: float, chance: float
) -> tuple[Plan, ...]:
    """The tests that would have shown exact match p^L of each model at each length; chance is that of one token."""
    found = []
    for length, (model, success) in itertools.product(lengths, enumerate(p)):
        ability = success**length
        items = plan_test_size(success, length, power)
        found.append(Plan("seen", length, model, ability, items, 1, items))
        items = plan_test_size(success, length, relative_error=relative_error)
        middle, two = items * ability, 2 * relative_error
        within = math.ceil(middle * (1 - two)), math.floor(middle * (1 + two))
        found.append(Plan("precise", length, model, ability, items, *within))
        if length <= LONGEST and success >= CLEAR * chance:
            items = plan_test_size(success, length, power, chance=chance**length, level=LEVEL)
            critical = int(stats.binom.isf(1 - LEVEL, items, chance**length)) + 1
            found.append(Plan("above_chance", length, model, ability, items, critical, items))
    return tuple(found)


def log_seen(length: int, n: int, power: float) -> float:
    """ln p of the least per-token success that n items show with this power: p^L = 1 - (1 - power)^(1/n)."""
    return math.log(-math.expm1(math.log1p(-power) / n)) / length


def count(key: np.ndarray, cell: tuple[Any, ...], tests: int) -> np.ndarray:
    """Count tests of one plan, (ability, items, least, most): hits, all successes, and their squares."""
    ability, items, least, most = cell
    drawn = (draw.binomial(items, ability, m) for draw, m in blocks(key, tests))
    return np.sum([(np.sum((least <= k) & (k <= most)), k.sum(), (k**2).sum()) for k in drawn], axis=0)

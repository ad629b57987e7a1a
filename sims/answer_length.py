"""What "target string length" may mean for arithmetic, and what the choice does to scores.

    answer_length   answers of L digits, scored whole
    prefix, suffix  the first or last L digits of answers that have as many

Shares of lengths, and what guessing earns, are exact, by enumeration of all pairs of operands. Scores are simulated: answers
of each stratum, equally many for every length, whose digits go wrong independently at rates 1 - exp(-w (N/c)^alpha). The
weights w are equal, or grow with the operand digits that a digit of the answer depends on, counted from the last digit (as
written arithmetic has it) or from the first (as rough estimates have it). They average 1 over every answer, so that whole
answers score p^L whatever the profile: what differs then differs by the slice alone.

References:
    Schaeffer, Miranda, Koyejo (2023), section 3 and figure 3, which sweeps lengths 1 to 5 and does not say of what.
    Real answers by length: `scripts.studies.instructgpt`.
"""

import dataclasses
import itertools
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from mirage_jax import scaling, sweep
from mirage_jax.estimators import columns, estimate_sums
from mirage_jax.metrics.facts import evaluate
from mirage_jax.outcomes import Tokens
from mirage_jax.study import Output, main
from mirage_jax.table import config_hash, setting, signature
from sims.families import evenly
from sims.measured import blocks

NAME = "answer_length"
DATA = ()
MODES = ("answer_length", "prefix", "suffix")
PROFILES = ("equal", "last_easy", "first_easy")
SHOWN = ("exact_match", "token_edit_distance")
WIDTH, BASE = 5, 10  # digits of the longest answer; of each digit
COST = 64  # of a digit that is drawn and scored, against a token that is only counted
LENGTHS = tuple(range(1, WIDTH + 1))


class Task(NamedTuple):
    """Two operands of a range, added or multiplied."""

    low: int
    high: int
    product: bool

    @property
    def digits(self) -> int:
        """Digits of the largest operand."""
        return len(str(self.high))


TASKS: Mapping[str, Task] = {
    "products_0_99": Task(0, 99, True),
    "products_10_99": Task(10, 99, True),
    "sums_1000_9999": Task(1000, 9999, False),
}


@dataclass(frozen=True)
class Config:
    """Grid of the simulation."""

    seed: int = 0
    """Seed of every random draw."""
    samples: int = 1024
    """Answers per model, slice, length and profile: equally many for every length."""
    scales: int = 8
    """Model sizes, evenly spaced in log N from 1e7 to 1e12 parameters."""
    lengths: tuple[int, ...] = LENGTHS
    """Lengths L, those of 1 to 5 that are looked at."""
    c: float = 1e8
    """Scale constant of the loss law, in parameters."""
    alpha: float = -0.3
    """Exponent of the loss law."""

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        if not (math.isfinite(self.c) and math.isfinite(self.alpha)):
            raise ValueError(f"expected finite c and alpha, got {self.c} and {self.alpha}")
        scaling.cross_entropy(1.0, self.c, self.alpha)
        if self.samples < 1 or self.scales < 2:
            raise ValueError(f"expected samples >= 1 and scales >= 2: {self}")
        if not self.lengths or not set(self.lengths) <= set(LENGTHS):
            raise ValueError(f"expected lengths from 1 to {WIDTH}, got {self.lengths}")


PRESETS = {"quick": Config(), "full": Config(samples=65_536, scales=16)}


class Answers(NamedTuple):
    """All true answers of a task, ascending."""

    value: np.ndarray  # [answers]
    pairs: np.ndarray  # [answers], ordered pairs of operands that have it
    size: np.ndarray  # [answers], digits
    digits: np.ndarray  # [answers, WIDTH], from the first; 0 beyond the last


@cache
def answers(name: str) -> Answers:
    """The answers of a task, by enumeration; sums by convolution of the operands' ranges."""
    task = TASKS[name]
    operands = np.arange(task.low, task.high + 1)
    if task.product:
        pairs = np.bincount(np.multiply.outer(operands, operands).ravel())
    else:
        each = np.bincount(operands)
        pairs = np.convolve(each, each)
    value = np.flatnonzero(pairs)
    size = np.searchsorted(BASE ** np.arange(1, WIDTH), value, side="right") + 1
    shift = size[:, None] - 1 - np.arange(WIDTH)
    digits = np.where(shift >= 0, value[:, None] // BASE ** np.maximum(shift, 0) % BASE, 0)
    return Answers(value, pairs[value], size, digits)


def stratum(of: Answers, mode: str, length: int) -> np.ndarray:
    """[answers]: which are scored at this length."""
    return of.size == length if mode == "answer_length" else of.size >= length


def scored(of: Answers, mode: str, length: int) -> np.ndarray:
    """[answers in the stratum]: the scored digits, read as one number."""
    own = stratum(of, mode, length)
    cut = BASE ** (of.size[own] - length) if mode != "suffix" else 1
    return of.value[own] // cut % BASE**length


def strata(config: Config) -> list[tuple[str, str, int]]:
    """(task, mode, length) of every slice for which there are answers."""
    every = itertools.product(TASKS, MODES, config.lengths)
    return [(task, mode, length) for task, mode, length in every if stratum(answers(task), mode, length).any()]


def weights(profile: str, task: Task, size: int) -> np.ndarray:
    """What the loss of each digit of an answer of `size` digits is multiplied by, [size], mean 1.

    The k-th digit from the end depends on the last k digits of both operands: on min(k, digits) of each.
    """
    if profile == "equal":
        return np.ones(size)
    depends = np.minimum(np.arange(1, size + 1), task.digits).astype(float)
    return (depends if profile == "first_easy" else depends[::-1]) / depends.mean()


def success(profile: str, task: Task, size: int, loss: np.ndarray) -> np.ndarray:
    """Success of each digit, exp(-w loss): [*loss, size]."""
    return np.exp(-np.asarray(loss)[..., None] * weights(profile, task, size))


def laws(name: str, mode: str, length: int, profile: str, loss: np.ndarray) -> dict[str, np.ndarray]:
    """Expected exact match and mismatches of a slice, [*loss]: a mean over the lengths of the answers it is cut from."""
    of, task = answers(name), TASKS[name]
    own = stratum(of, mode, length)
    sizes, where = np.unique(of.size[own], return_inverse=True)
    shares = np.bincount(where, weights=of.pairs[own]) / of.pairs[own].sum()
    right, wrong = 0.0, 0.0
    for size, share in zip(sizes, shares, strict=True):
        p = success(profile, task, size, loss)
        p = p[..., size - length :] if mode == "suffix" else p[..., :length]
        right, wrong = right + share * p.prod(-1), wrong + share * (1 - p).sum(-1)
    return {"exact_match": np.asarray(right), "token_edit_distance": np.asarray(wrong)}


@cache
def guesses(name: str, mode: str, length: int) -> dict[str, float]:
    """Exact match without any skill: random digits, the commonest digit at each place, the commonest string; and the
    commonest string for the answer's last digit, were that one known."""
    of = answers(name)
    own, text = stratum(of, mode, length), scored(of, mode, length)
    pairs, last = of.pairs[own], of.value[own] % BASE
    total = pairs.sum()
    places = (np.bincount(text // BASE**k % BASE, weights=pairs).max() / total for k in range(length))
    known = (np.bincount(text[last == d], weights=pairs[last == d]).max() for d in np.unique(last))
    return {
        "uniform": float(BASE) ** -length,
        "by_place": math.prod(places),
        "constant": np.bincount(text, weights=pairs).max() / total,
        "knows_last": sum(known) / total,
    }


def lengths_of(name: str) -> Iterator[dict[str, Any]]:
    """Shares of the lengths of a task's answers, and of their lengths were a separator a token too."""
    of = answers(name)
    for counted, size in {
        "digits": of.size,
        "digits and an end token": of.size + 1,
        "digits and thousands commas": of.size + (of.size - 1) // 3,
    }.items():
        for length in np.unique(size):
            share = of.pairs[size == length].sum() / of.pairs.sum()
            yield {"task": name, "counted": counted, "length": int(length), "share": float(share)}


def _grid(config: Config) -> tuple[np.ndarray, np.ndarray]:
    params = evenly(config.scales)
    return params, scaling.cross_entropy(params, config.c, config.alpha)


def _cells(config: Config) -> list[tuple[tuple[str, str, int], str, int]]:
    """(slice, profile, model) of every cell."""
    return list(itertools.product(strata(config), PROFILES, range(config.scales)))


def jobs(config: Config) -> list[sweep.Job]:
    """Equally many answers for every model, profile and slice."""
    loss = _grid(config)[1]
    paths = np.array(
        [
            (list(TASKS).index(name), MODES.index(mode), length, PROFILES.index(profile), model)
            for (name, mode, length), profile, model in _cells(config)
        ]
    )
    keys = jnp.broadcast_to(jax.random.key(config.seed), (len(paths),))
    for values in paths.T:  # by value: other lengths in the config leave these draws as they are
        keys = jax.vmap(jax.random.fold_in)(keys, values.astype(np.uint32))
    cells = (*paths.T[:-1], loss[paths.T[-1]])
    return [sweep.Job("answers", _count, keys, cells, config.samples, config.samples * WIDTH, COST, host=True)]


def _count(key: np.ndarray, cell: tuple[Any, ...], samples: int) -> np.ndarray:
    """Count items of one slice: how many match, the sum of their edit distances and of the squares."""
    task, mode, length, profile, loss = cell
    of = list(TASKS)[task], MODES[mode], int(length), PROFILES[profile]
    found = [evaluate(items(draw, m, *of, loss), SHOWN) for draw, m in blocks(key, samples)]
    match, edits = (np.concatenate([np.asarray(scores[name]) for scores in found]).astype(int) for name in SHOWN)
    return np.array([match.sum(), edits.sum(), (edits**2).sum()])


def items(
    draw: np.random.Generator, samples: int, name: str, mode: str, length: int, profile: str, loss: float
) -> Tokens:
    """Pairs of operands of the stratum, the scored digits of their right answers, and those that a model gives."""
    of = answers(name)
    ends, own = np.cumsum(of.pairs), np.flatnonzero(stratum(of, mode, length))
    # sizes ascend with values, so a stratum is one range of pairs
    at = np.searchsorted(ends, draw.integers(ends[own[0]] - of.pairs[own[0]], ends[own[-1]], samples), side="right")
    right = np.zeros((WIDTH + 1, WIDTH))
    for size in LENGTHS:
        right[size, :size] = success(profile, TASKS[name], size, np.asarray(loss))
    digits, size = of.digits[at], of.size[at]
    other = (digits + draw.integers(1, BASE, digits.shape)) % BASE
    given = np.where(draw.random(digits.shape) < right[size], digits, other)
    place = np.arange(length) + (size - length)[:, None] * (mode == "suffix")
    target, given = (np.take_along_axis(side, place, 1).astype(np.int32) for side in (digits, given))
    lengths = np.full(samples, length, np.int32)
    return Tokens(target, lengths, given, lengths)  # pyright: ignore[reportArgumentType]


def rows(config: Config, counts: Mapping[str, np.ndarray]) -> Output:
    """Scores of every slice by law and in simulation; lengths of answers, and what guesses earn."""
    guess = [
        {"task": name, "mode": mode, "length": length, "guess": kind, "score": score}
        for name, mode, length in strata(config)
        for kind, score in guesses(name, mode, length).items()
    ]
    lengths = [row for name in TASKS for row in lengths_of(name)]
    return Output(
        list(_rows(config, counts["answers"])), {"guesses": pd.DataFrame(guess), "lengths": pd.DataFrame(lengths)}
    )


def _rows(config: Config, counts: np.ndarray) -> Iterator[dict[str, Any]]:
    params, loss = _grid(config)
    about = config_hash(NAME, dataclasses.asdict(config))[:8]
    for ((name, mode, length), profile, model), row in zip(_cells(config), counts, strict=True):
        options = {"mode": mode, "profile": profile}
        where = {
            "family": "toy", "model": f"N={params[model]:.3e}", "setting": setting(**options), "scale_kind": "params",
            "scale": float(params[model]), "task": name, "length": length,
        }  # fmt: skip
        law = laws(name, mode, length, profile, loss[model])
        match, edits, squares = row.tolist()
        found = {
            "exact_match": columns(estimate_sums(config.samples, match, match, "exact_match")),
            "token_edit_distance": columns(estimate_sums(config.samples, edits, squares, "token_edit_distance")),
        }
        for metric in SHOWN:
            chance = guesses(name, mode, length)["constant"] if metric == "exact_match" else None
            both = where | {"metric": metric, "chance": chance}
            how = {
                kind: signature(metric, config=about, engine=kind, **options) for kind in ("closed_form", "simulated")
            }
            yield both | {"source": "closed_form", "score": float(law[metric]), "signature": how["closed_form"]}
            yield both | found[metric] | {
                "source": "simulated", "seed": config.seed, "unparsed": 0, "signature": how["simulated"],
            }  # fmt: skip


if __name__ == "__main__":
    main(sys.modules[__name__])

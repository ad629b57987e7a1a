"""The paper's other two causes of apparent emergence: too few test items, and too few (large) models.

The toy law p(N) = exp(-(N/c)^alpha) and exact match p^L, seen through whole simulated tests of n items and through families
of few models: how often a test shows exactly 0, where the ability seems to begin, how large the largest step and the
emergence score look, and how many items would have shown the ability. Tests of different models are independent.

References:
    Schaeffer, Miranda, Koyejo (2023), section 2: resolution "1 / test-set size", and too few large models.
"""

import dataclasses
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from mirage_jax import scaling, sweep
from mirage_jax.estimators import clopper_pearson
from mirage_jax.metrics.facts import METRICS
from mirage_jax.study import Output, main
from mirage_jax.table import config_hash, setting, signature
from sims import engines, families, planned
from sims.families import RANGE, evenly
from sims.measured import (
    Tally,
    blocks,
    count_tests,
    emergence_scores,
    largest_steps,
    looks,
    quantiles,
    read,
    tally,
    zero_law,
)

NAME = "resolution"
DATA = ()
SHOWN = ("exact_match", "token_accuracy")
COST = 32  # of one test of one model, against a token that is only counted
FAINT = 1e-12  # abilities below it are out of reach of any test


@dataclass(frozen=True)
class Config:
    """Tests and families of the study, and the thresholds set before looking."""

    seed: int = 0
    """Seed of every random draw."""
    tests: int = 20_000
    """Whole tests simulated for each kind of test."""
    scales: int = 16
    """Models of the family whose tests are looked at closely, evenly spaced in log N from 1e7 to 1e12 parameters."""
    families: tuple[int, ...] = (4, 8, 16, 32)
    """Other numbers of models over the same range, evenly spaced and at random."""
    lengths: tuple[int, ...] = (1, 5, 10)
    """Target lengths L in tokens."""
    test_sizes: tuple[int, ...] = (20, 100, 1000, 10_000)
    """Items of a test of one model."""
    small: int = 9
    """Models from 1e7 up to the boundary, in the families of few large models."""
    large: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    """Numbers of models above the boundary, in those families."""
    boundary: float = 1e9
    """Parameters from which on a model counts as large."""
    jump: float = 0.25
    """Share of the range above which a step between neighbouring models looks like a jump."""
    power: float = 0.95
    """Probability with which a planned test is to show the ability."""
    relative_error: float = 0.1
    """Standard error of a planned precise test, as a share of the ability."""
    chance: float = 0.1
    """Per-token success of guessing, which a planned test is to exclude."""
    c: float = 1e8
    """Scale constant of the loss law, in parameters."""
    alpha: float = -0.3
    """Exponent of the loss law."""

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated or planned."""
        if not (math.isfinite(self.c) and math.isfinite(self.alpha)):
            raise ValueError(f"expected finite c and alpha, got {self.c} and {self.alpha}")
        scaling.cross_entropy(1.0, self.c, self.alpha)
        if self.tests < 1 or min((1, *self.test_sizes)) < 1 or not self.test_sizes:
            raise ValueError(f"expected tests >= 1 and test sizes >= 1: {self}")
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError(f"expected lengths >= 1: {self}")
        if min((self.scales, *self.families)) < 3 or self.small < 3 or min((1, *self.large)) < 1 or not self.large:
            raise ValueError(f"expected families of at least 3 models, 3 of them small, and 1 large: {self}")
        for name, least in (("jump", 0), ("power", 0), ("chance", 0), ("relative_error", 1e-3)):
            if not least < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in ({least:g}, 1), got {getattr(self, name)}")
        if not RANGE[0] < self.boundary < RANGE[1]:
            raise ValueError(f"boundary must lie in (1e7, 1e12), got {self.boundary}")
        p = self.success(np.array(RANGE))
        if not (np.all((p > 0) & (p < 1)) and p[0] ** max(self.lengths) >= FAINT):
            raise ValueError(f"expected abilities p^L in [1e-12, 1) for every model and length: {self}")

    def success(self, params: np.ndarray) -> np.ndarray:
        """Per-token success of models of these sizes."""
        return scaling.token_success(scaling.cross_entropy(params, self.c, self.alpha))

    @property
    def all_families(self) -> tuple[int, ...]:
        """Every number of models over the whole range."""
        return tuple(sorted({self.scales, *self.families}))


PRESETS = {
    "quick": Config(),
    "full": Config(
        tests=1_000_000, families=(4, 6, 8, 12, 16, 24, 32), test_sizes=(20, 50, 100, 300, 1000, 3000, 10_000)
    ),
}  # fmt: skip


def seen_from(config: Config, length: int, n: int) -> float:
    """Parameters from which on a test of n items shows the ability with probability `power`: N = c (-ln p)^(1/alpha)."""
    return config.c * (-planned.log_seen(length, n, config.power)) ** (1 / config.alpha)


def plans(config: Config) -> tuple[planned.Plan, ...]:
    """The tests that would have shown the ability of each model at each length."""
    p = tuple(config.success(evenly(config.scales)).tolist())
    return planned.plans(p, config.lengths, config.power, config.relative_error, config.chance)


def jobs(config: Config) -> list[sweep.Job]:
    """One test of every model, many whole tests of every family, families at random places, and tests as planned."""
    p, lengths = config.success(evenly(config.scales)), config.lengths
    found = []
    for n, length in itertools.product(config.test_sizes, lengths):
        keys = _keys(config, [(0, n, length, model) for model in range(config.scales)])
        found.append(engines.job(f"one/{n}/{length}", "independent", length, keys, (1 - p,), n, prefix=False))
    for models in config.all_families:
        ability = config.success(evenly(models)) ** np.array(lengths)[:, None]
        for n in config.test_sizes:
            keys = _keys(config, [(1, n, models, length) for length in lengths])
            count = partial(count_tests, n=n, jump=config.jump)
            found.append(_job(f"tests/{models}/{n}", count, keys, (ability,), config.tests, models))
        keys = _keys(config, [(2, models, length) for length in lengths])
        count = partial(_count_families, models=models, config=config)
        found.append(_job(f"random/{models}", count, keys, (np.array(lengths),), config.tests, models))
    wanted = plans(config)
    keys = _keys(config, [(3, planned.KINDS.index(plan.kind), plan.length, plan.model) for plan in wanted])
    cells = tuple(np.array(values) for values in zip(*(plan[3:] for plan in wanted), strict=True))
    return [*found, _job("plans", planned.count, keys, cells, config.tests, 1)]


def _keys(config: Config, paths: Sequence[tuple[int, ...]]) -> Any:
    """A key for each cell, folded by value: another length or test size in the config leaves its draws as they are."""
    keys = jnp.broadcast_to(jax.random.key(config.seed), (len(paths),))
    for values in zip(*paths, strict=True):
        keys = jax.vmap(jax.random.fold_in)(keys, np.array(values, np.uint32))
    return keys


def _job(name: str, count: Callable[..., np.ndarray], keys: Any, cells: Any, tests: int, models: int) -> sweep.Job:
    return sweep.Job(name, count, keys, cells, tests, tests * models, COST, host=True)


def _count_families(key: np.ndarray, cell: tuple[int], tests: int, models: int, config: Config) -> np.ndarray:
    """Tally of the exact curves of families whose sizes lie anywhere."""
    ability = (config.success(families.anywhere(draw, m, models)) ** cell[0] for draw, m in blocks(key, tests))
    return np.sum([np.concatenate(tally(curves, None, config.jump)) for curves in ability], axis=0)


def rows(config: Config, counts: Mapping[str, np.ndarray]) -> Output:
    """One test of each size beside its law, and what many tests and families show."""
    return Output(
        list(_scores(config, counts)),
        {
            "zeros": pd.DataFrame(_zeros(config, counts)),
            "tests": pd.DataFrame(_tests(config, counts)),
            "plans": pd.DataFrame(_planned(config, counts["plans"])),
            "families": pd.DataFrame(_families(config, counts)),
            "curves": pd.DataFrame(_curves(config)),
        },
    )


def _scores(config: Config, counts: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Rows of the one table: the law, and one test of each model at each size."""
    params = evenly(config.scales)
    about = config_hash(NAME, dataclasses.asdict(config))[:8]
    for (model, scale), length, metric in itertools.product(enumerate(params), config.lengths, SHOWN):
        where = {
            "family": "toy", "model": f"N={scale:.3e}", "scale_kind": "params", "scale": float(scale), "task": "tokens",
            "length": length, "metric": metric,
        }  # fmt: skip
        law = METRICS[metric].closed_form(float(config.success(scale)), length)
        how = signature(metric, config=about, engine="closed_form")
        yield where | {"source": "closed_form", "score": float(law), "signature": how}
        for n in config.test_sizes:
            found = engines.scores(counts[f"one/{n}/{length}"][model], length, n)[metric]
            how = signature(metric, config=about, engine="exact_law", test_size=n)
            yield where | found | {
                "source": "simulated", "setting": setting(test_size=n), "seed": config.seed, "unparsed": 0, "signature": how,
            }  # fmt: skip


def _tallies(config: Config, counts: Mapping[str, np.ndarray]) -> Iterator[tuple[int, int, int, Tally]]:
    for models, n in itertools.product(config.all_families, config.test_sizes):
        for length, row in zip(config.lengths, counts[f"tests/{models}/{n}"], strict=True):
            yield models, n, length, read(row, models)


def _zeros(config: Config, counts: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """How often a test shows exactly 0, by law and in simulation, at each model of the family looked at closely."""
    params = evenly(config.scales)
    for models, n, length, found in _tallies(config, counts):
        if models != config.scales:
            continue
        ability = config.success(params) ** length
        ends = clopper_pearson(found.zero, config.tests)
        for i, law in enumerate(zero_law(ability, n)):
            yield {
                "length": length, "n": n, "scale": params[i], "ability": ability[i], "law": law,
                "share": found.zero[i] / config.tests, "low": ends.low[i], "high": ends.high[i], "tests": config.tests,
            }  # fmt: skip


def _tests(config: Config, counts: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """What whole tests of a family look like: jumps, emergence scores, and where the ability seems to begin."""
    for models, n, length, found in _tallies(config, counts):
        params = evenly(models)
        law = config.success(params)[None] ** length
        yield {
            "models": models, "n": n, "length": length, "tests": config.tests,
            "seen_from": seen_from(config, length, n), "never": found.onset[-1] / config.tests,
            "emergence_law": emergence_scores(law)[0], "step_law": largest_steps(law)[0][0],
        } | quantiles("onset", found.onset, np.append(params, np.nan)) | looks(found)  # fmt: skip


def _planned(config: Config, counts: np.ndarray) -> Iterator[dict[str, Any]]:
    """Items of each planned test, how often it hits by law and in simulation, and the error of its score."""
    params = evenly(config.scales)
    for plan, (hits, total, squares) in zip(plans(config), counts.tolist(), strict=True):
        middle = plan.items * plan.ability
        low, high = clopper_pearson(hits, config.tests)
        spread = squares / config.tests - 2 * middle * total / config.tests + middle**2
        yield {
            "kind": plan.kind, "length": plan.length, "scale": params[plan.model], "ability": plan.ability,
            "items": plan.items, "law": plan.power, "share": hits / config.tests, "low": float(low), "high": float(high),
            "relative_error": math.sqrt(max(spread, 0)) / middle, "tests": config.tests,
        }  # fmt: skip


def _designs(config: Config) -> Iterator[tuple[str, int, np.ndarray]]:
    return families.designs(config.all_families, config.scales, config.small, config.boundary, config.large)


def _curves(config: Config) -> Iterator[dict[str, Any]]:
    """Exact scores of the families of few large models."""
    for (design, number, params), length in itertools.product(_designs(config), config.lengths):
        if design == "few_large":
            for scale, ability in zip(params, config.success(params) ** length, strict=True):
                yield {"number": number, "length": length, "scale": scale, "score": ability}


def _families(config: Config, counts: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """The same law through families of few models, exact scores: largest and last step, and emergence score.

    Beside them what a score that is straight in log N would have. Design `random` stands for many families whose sizes lie
    anywhere: its step and emergence score are medians.
    """
    for (design, number, params), length in itertools.product(_designs(config), config.lengths):
        law, gaps = config.success(params) ** length, np.diff(np.log(params)) / np.log(params[-1] / params[0])
        (step,), (leads_to,) = largest_steps(law[None])
        yield {
            "design": design, "number": number, "models": len(params), "length": length, "top": law[-1],
            "emergence": emergence_scores(law[None])[0], "step": step, "step_to": params[leads_to],
            "last_step": (law[-1] - law[-2]) / (law[-1] - law[0]), "jumps": float(step > config.jump),
            "step_of_line": gaps.max(), "last_step_of_line": gaps[-1],
        }  # fmt: skip
    for models in config.all_families:
        for length, row in zip(config.lengths, counts[f"random/{models}"], strict=True):
            seen = looks(read(row, models))
            middle = {"emergence": seen["emergence_q50"], "step": seen["step_q50"]}
            yield {"design": "random", "number": models, "models": models, "length": length} | seen | middle


if __name__ == "__main__":
    main(sys.modules[__name__])

"""What independence hides: the same error rate at every token, and exact match anything but p^L.

Errors of one answer hang together in three ways: neighbours (a Markov chain), items of unequal difficulty (all tokens alike:
beta-mixed), and one error that leads to the next (a cascade). For each, over the toy model's scales:

    independence ratio  IR = P(all right) / prod_l P(token l right), 1 for independent tokens
    effective length    log P(all right) / log P(first token right), L for independent tokens
    width               decades of scale in which exact match goes from .1 to .9

In small error rates the effective length is the slope of exact match, its sharpness. A cascade leaves exact match as it is
and makes the later tokens worse: its ratio is large, its effective length L. So the ratio alone says little of sharpness.
In decades of scale the width of p^L does not depend on L at all: a longer answer moves the curve, it does not steepen it.
"""

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import pandas as pd

from mirage_jax import scaling, sweep
from mirage_jax.study import Output, main
from mirage_jax.table import config_hash, setting, signature
from sims import engines, processes

NAME = "correlated"
DATA = ()
DEPENDENCE = {"markov": "correlation", "beta_mixed": "overdispersion", "cascade": "after"}


@dataclass(frozen=True)
class Config:
    """Processes over the toy model's scales."""

    seed: int = 0
    """Seed of every random draw."""
    samples: int = 100_000
    """Simulated answers per cell."""
    scales: int = 21
    """Model sizes, evenly spaced in log N from 1e6 to 1e13 parameters; widths come from a finer grid of their own."""
    lengths: tuple[int, ...] = (2, 5, 10, 20)
    """Answer lengths L in tokens."""
    correlations: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    """Lag-1 correlation of the Markov chain, and overdispersion of the beta-mixed items (the correlation of any two tokens)."""
    after: tuple[float, ...] = (0.5, 0.9)
    """Error rate after the first error of a cascade, where it is above the rate before."""
    engine: engines.Engine = "auto"
    """auto and exact_law draw counts from their law; token and token_fast draw every token."""

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        if self.scales < 2 or self.samples < 1 or not self.lengths:
            raise ValueError(f"expected scales >= 2, samples >= 1 and at least one length: {self}")
        for name, value, length in itertools.product(("markov", "beta_mixed"), self.correlations, self.lengths):
            processes.check(name, length, 0.5, value)
        for value, length in itertools.product(self.after, self.lengths):
            processes.check("cascade", length, 0.5, value)


PRESETS = {"quick": Config(), "full": Config(samples=10**9, scales=71)}


def grid(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Model sizes, and the per-token error rate of each: 1 - exp(-(N/c)^alpha) with the toy model's constants."""
    params = np.logspace(6, 13, config.scales)
    return params, _error_rate(params)


def _error_rate(params: np.ndarray) -> np.ndarray:
    return 1 - scaling.token_success(scaling.cross_entropy(params))


FINE = np.logspace(3, 20, 1701)  # model sizes, for widths


def settings(config: Config) -> Iterator[tuple[str, float | None]]:
    """(process, strength of the dependence) of each curve."""
    yield "independent", None
    yield from itertools.product(("markov", "beta_mixed"), config.correlations)
    yield from itertools.product(("cascade",), config.after)


def parameters(process: str, strength: float | None, error_rate: np.ndarray) -> list[np.ndarray]:
    """Parameters of each scale; a cascade never gets better after an error."""
    if strength is None:
        return [error_rate]
    return [
        error_rate,
        np.maximum(strength, error_rate) if process == "cascade" else np.full_like(error_rate, strength),
    ]


def jobs(config: Config) -> list[sweep.Job]:
    """One job a curve."""
    key, (_, error_rate) = jax.random.key(config.seed), grid(config)
    found = []
    for (process, strength), length in itertools.product(settings(config), config.lengths):
        # by value, not by place: another strength or length in the config leaves these draws as they are
        role = list(DEPENDENCE).index(process) + 1 if strength is not None else 0
        key_curve = jax.random.fold_in(jax.random.fold_in(key, role), round((strength or 0) * 10**6))
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key_curve, length)))(np.arange(config.scales))
        given = parameters(process, strength, error_rate)
        found.append(
            engines.job(f"{process}/{strength}/{length}", process, length, keys, given, config.samples, config.engine)
        )
    return found


def rows(config: Config, counts: Mapping[str, np.ndarray]) -> Output:
    """Laws and simulated scores of every curve; ratios, effective lengths and widths as results."""
    params, error_rate = grid(config)
    found, ratios, widths = [], [], []
    for (process, strength), length in itertools.product(settings(config), config.lengths):
        given = parameters(process, strength, error_rate)
        law = laws(process, length, *given)
        what = {"process": process, "strength": strength, "length": length}
        ratios.append(
            pd.DataFrame(what | {"scale": params, "error_rate": error_rate} | dependence(process, length, *given))
        )
        fine = parameters(process, strength, _error_rate(FINE))
        widths.append(what | {"width": width(FINE, processes.prefix_law(process, length, *fine)[..., -1])})
        for at, (size, cell) in enumerate(zip(params, counts[f"{process}/{strength}/{length}"], strict=True)):
            where = partial(_row, config, size, process, strength, length)
            found += [where("closed_form", metric) | {"score": float(law[metric][at])} for metric in law]
            for metric, score in engines.scores(cell, length, config.samples).items():
                found.append(where("simulated", metric) | score | {"seed": config.seed, "unparsed": 0})
    return Output(found, {"ratios": pd.concat(ratios, ignore_index=True), "widths": pd.DataFrame(widths)})


def laws(process: str, length: int, *given: np.ndarray) -> dict[str, np.ndarray]:
    """Expected exact match, token accuracy and prefix match of each scale."""
    prefix = processes.prefix_law(process, length, *given)
    return {
        "exact_match": prefix[..., -1],
        "token_accuracy": 1 - processes.rates(process, length, *given).mean(-1),
        "prefix_match": prefix @ np.arange(length + 1) / length,
    }


def dependence(process: str, length: int, *given: np.ndarray) -> dict[str, np.ndarray]:
    """Independence ratio and effective length of each scale; NaN where nothing is ever right, or everything is."""
    joint, right = processes.prefix_law(process, length, *given)[..., -1], 1 - processes.rates(process, length, *given)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, effective = joint / right.prod(-1), np.log(joint) / np.log(right[..., 0])
    return {"independence_ratio": ratio, "effective_length": effective}


def width(scale: np.ndarray, score: np.ndarray, low: float = 0.1, high: float = 0.9) -> float:
    """Decades of scale between scores of `low` and `high`, by interpolation in log scale; NaN if the curve spans less."""
    if not (score.min() <= low and score.max() >= high):
        return float("nan")
    ends = np.interp([low, high], score, np.log10(scale))
    return float(ends[1] - ends[0])


def _row(
    config: Config, params: float, process: str, strength: float | None, length: int, source: str, metric: str
) -> dict[str, Any]:
    options = {"process": process} | ({} if strength is None else {DEPENDENCE[process]: strength})
    engine = source if source == "closed_form" else config.engine
    how = signature(metric, config=config_hash(NAME, dataclasses.asdict(config))[:8], engine=engine, **options)
    return {
        "source": source, "family": "toy", "model": f"N={params:.3e}", "setting": setting(**options),
        "scale_kind": "params", "scale": float(params), "task": "tokens", "length": length, "metric": metric,
        "signature": how,
    }  # fmt: skip


if __name__ == "__main__":
    main(sys.modules[__name__])

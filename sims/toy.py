"""The paper's toy model (figure 2): a smooth per-token law seen through sharp and through smooth metrics.

Models of N parameters get each token right with p = exp(-(N/c)^alpha), independently. Every score stands twice in the
table: as its closed form, and from simulated outputs scored by the same metrics that score real models, at several test
sizes. The paper prints no c, alpha or grid of sizes: the defaults here are ours.
"""

import dataclasses
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mirage_jax import scaling, sweep
from mirage_jax.metrics.facts import METRICS
from mirage_jax.outcomes import Tokens
from mirage_jax.study import Output, main
from mirage_jax.table import config_hash, setting, signature
from sims import engines, processes

NAME = "toy"
DATA = ()
TEXT = ("exact_match", "token_accuracy", "token_edit_distance")
CHOICE = ("multiple_choice_grade", "brier_target")
CHUNK, COST = 1 << 10, 32


@dataclass(frozen=True)
class Config:
    """Grid of the toy model."""

    seed: int = 0
    """Seed of every random draw."""
    samples: int = 4096
    """Simulated test items per model and length."""
    scales: int = 16
    """Model sizes, evenly spaced in log N from 1e7 to 1e12 parameters."""
    lengths: tuple[int, ...] = (1, 2, 3, 4, 5, 10, 20)
    """Target lengths L in tokens."""
    vocabularies: tuple[int, ...] = (1000, 10)
    """Vocabulary sizes: the paper's law for edit distance is close for large ones, an upper bound for small ones."""
    test_sizes: tuple[int, ...] = (20, 100)
    """Smaller tests: the first items of the same draws."""
    spread: float = 1.0
    """Standard deviation of the margin between multiple-choice questions, in logits; 0 is shown too."""
    c: float = 1e8
    """Scale constant of the loss law, in parameters."""
    alpha: float = -0.3
    """Exponent of the loss law."""

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        scaling.cross_entropy(1.0, self.c, self.alpha)
        scaling.brier_target(0.5, self.spread)
        if (
            not all(map(math.isfinite, (self.c, self.alpha, self.spread)))
            or max(self.vocabularies, default=2) >= 1 << 31
        ):
            raise ValueError(f"expected finite c, alpha and spread, and vocabularies below 2^31: {self}")
        least = max((1, *self.test_sizes))
        if self.scales < 2 or self.samples < least or min((1, *self.test_sizes)) < 1:
            raise ValueError(f"expected scales >= 2, test sizes >= 1, samples >= {least}: {self}")
        if not self.lengths or min(self.lengths) < 1 or not self.vocabularies or min(self.vocabularies) < 2:
            raise ValueError(f"expected lengths >= 1 and vocabularies >= 2: {self}")


PRESETS = {"quick": Config(), "full": Config(samples=1 << 20, scales=32)}


def _tokens(
    key: Key[Array, ""], p: Float[Array, ""], length: Int[Array, ""], vocabulary: Int[Array, ""], width: int
) -> Tokens:
    return processes.tokens(key, "independent", length, width, vocabulary, 1 - p)


@cache
def _counting(width: int) -> Callable[..., Array]:
    return engines.scored(partial(_tokens, width=width), TEXT)


def _grid(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Model sizes, and the per-token success of each."""
    params = np.logspace(7, 12, config.scales)
    return params, scaling.token_success(scaling.cross_entropy(params, config.c, config.alpha))


def _cells(config: Config) -> dict[str, list[tuple[int, int, float]]]:
    """Cells of each job: (model, length, vocabulary) of texts, (model, 1, spread) of questions."""
    models = range(config.scales)
    return {
        "tokens": list(itertools.product(models, config.lengths, config.vocabularies)),
        "choices": list(itertools.product(models, (1,), sorted({0.0, config.spread}))),
    }


def jobs(config: Config) -> list[sweep.Job]:
    """Texts and questions at every test size; the small tests are the first items of the large one."""
    p, width = _grid(config)[1].astype(np.float32), max(config.lengths)
    of_model = jax.vmap(partial(jax.random.fold_in, jax.random.key(config.seed)))(np.arange(config.scales))
    key_tokens, key_choices = jnp.moveaxis(jax.vmap(jax.random.split)(of_model), 1, 0)
    fold = jax.vmap(jax.random.fold_in)
    cells = _cells(config)
    model, length, vocabulary = (np.array(values) for values in zip(*cells["tokens"], strict=True))
    # by value, not by place: another length or vocabulary in the config leaves these draws as they are
    keys = fold(fold(key_tokens[model], vocabulary), length)
    texts = _counting(width), keys, (p[model], length.astype(np.int32), vocabulary.astype(np.int32))
    model, _, spread = (np.array(values) for values in zip(*cells["choices"], strict=True))
    questions = engines.scored(processes.margins, CHOICE), key_choices[model], (p[model], spread.astype(np.float32))
    return [
        sweep.Job(f"{kind}/{n}", *job, n, tokens, COST, CHUNK)
        for kind, job, tokens in (("tokens", texts, width), ("choices", questions, 1))
        for n in (*config.test_sizes, config.samples)
    ]


def rows(config: Config, counts: Mapping[str, np.ndarray]) -> Output:
    """Closed forms and simulated scores of every model, length and metric."""
    params, p = _grid(config)
    found = [row for n, success in zip(params, p, strict=True) for row in _closed(config, n, success)]
    for job, counted in counts.items():
        kind, n = job.split("/")
        metrics, option = (TEXT, "vocabulary") if kind == "tokens" else (CHOICE, "spread")
        for (model, length, value), cell in zip(_cells(config)[kind], counted, strict=True):
            options = {option: value, "test_size": int(n)}
            for metric, score in engines.scored_scores(cell, metrics, int(n)).items():
                where = _row(config, params[model], "simulated", metric, length, options)
                found.append(where | score | {"seed": config.seed, "unparsed": 0})
    return Output(found)


def _closed(config: Config, params: float, p: float) -> Iterator[dict[str, Any]]:
    def row(metric: str, score: Any, length: int = 1, **options: Any) -> dict[str, Any]:
        return _row(config, params, "closed_form", metric, length, options) | {"score": float(score)}

    yield row("nll", scaling.nll(p, 1))
    for length in config.lengths:
        for metric in TEXT:
            yield row(metric, METRICS[metric].closed_form(p, length), length)
    for spread in sorted({0.0, config.spread}):
        yield row("multiple_choice_grade", scaling.multiple_choice_grade(p, spread), spread=spread)
        yield row("brier_target", scaling.brier_target(p, spread), spread=spread)


def _row(
    config: Config, params: float, source: str, metric: str, length: int, options: dict[str, Any]
) -> dict[str, Any]:
    how = signature(metric, config=config_hash(NAME, dataclasses.asdict(config))[:8], engine=source, **options)
    return {
        "source": source, "family": "toy", "model": f"N={params:.3e}", "setting": setting(**options) or None,
        "scale_kind": "params", "scale": float(params), "task": "tokens" if "spread" not in options else "two_options",
        "length": length, "metric": metric, "signature": how,
    }  # fmt: skip


if __name__ == "__main__":
    main(sys.modules[__name__])

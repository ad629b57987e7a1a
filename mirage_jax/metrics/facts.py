"""METRICS: every metric's facts as data, and `evaluate`, the one door through which outcomes are scored.

The paper's hypothesis lives in the facts: whether a metric is linear in the per-token probability, and whether it is
continuous in what the model did. Figures colour by them and tests hold them against random inputs.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mirage_jax import outcomes, scaling
from mirage_jax.metrics import attempts, choices, text, vision
from mirage_jax.outcomes import Attempts, Choices, Errors, Outcome, Tokens

Fact = bool | Callable[..., bool]
REQUIRED = object()


class Metric(NamedTuple):
    """What is known of a metric before anything is scored."""

    score: Callable[..., Array]  # (outcome, **options) -> one number per sample
    outcome: type
    direction: Literal["higher", "lower"]
    bounds: tuple[float, float]
    linear: Fact  # its mean is linear in the per-token (or per-option, per-item) probability of success
    continuous: Fact  # one token, one item or a little probability moves it by a little
    options: Mapping[str, Any] = {}  # name -> default, REQUIRED where there is none
    closed_form: Any = None  # (p, length, **options) under independent errors
    interval: Literal["clopper_pearson", "student_t"] = "student_t"  # of a mean over samples
    unit: Literal["sample", "set"] = "sample"
    needs: tuple[str, ...] = ()  # optional fields of the outcome that it reads

    def fact(self, name: Literal["linear", "continuous"], **options: Any) -> bool:
        """A fact that may depend on the options: `METRICS["subset_accuracy"].fact("linear", K=1)`."""
        value = getattr(self, name)
        return bool(value(**options) if callable(value) else value)


def _tokens(function: Callable[..., Array]) -> Callable[[Tokens], Array]:
    return lambda o: function(o.target, o.target_length, o.predicted, o.predicted_length)


def _grade(o: Choices, normalise: str) -> Array:
    return choices.multiple_choice_grade(*o, normalise=normalise)  # pyright: ignore[reportArgumentType]


def _brier(function: Callable[..., Array]) -> Callable[[Any], Array]:
    def score(o: Any) -> Array:
        return function(choices.choice_probabilities(o.log_prob, o.real), choices._one_hot(o.real, o.weight), o.real)

    return score


def _brier_target(p: Array, y: Array, real: Array) -> Array:
    # with several right options, p_correct is the mass on all of them
    return choices.brier_target((p * jnp.where(jnp.isnan(y), y, y > 0)).sum(-1))


def _one(**options: Any) -> bool:
    return next(iter(options.values())) == 1


METRICS: Mapping[str, Metric] = {
    "exact_match": Metric(
        _tokens(text.exact_match), Tokens, "higher", (0, 1), linear=False, continuous=False,
        closed_form=scaling.exact_match, interval="clopper_pearson",
    ),
    "prefix_match": Metric(
        _tokens(text.prefix_match), Tokens, "higher", (0, 1), linear=False, continuous=False,
        closed_form=scaling.prefix_match,
    ),
    "token_accuracy": Metric(
        _tokens(text.token_accuracy), Tokens, "higher", (0, 1), linear=True, continuous=True,
        closed_form=scaling.token_accuracy,
    ),
    "token_edit_distance": Metric(
        _tokens(text.token_edit_distance), Tokens, "lower", (0, math.inf), linear=False, continuous=True,
        closed_form=scaling.token_edit_distance,
    ),
    "token_edit_distance_normalised": Metric(
        _tokens(text.token_edit_distance_normalised), Tokens, "lower", (0, 1), linear=False, continuous=True,
        closed_form=scaling.token_edit_distance_normalised,
    ),
    "nll": Metric(
        lambda o: text.nll(o.target_log_prob, o.target_length), Tokens, "lower", (0, math.inf), linear=False,
        continuous=True, needs=("target_log_prob",), closed_form=scaling.nll,
    ),
    "multiple_choice_grade": Metric(
        _grade, Choices, "higher", (0, 1), linear=False, continuous=False, options={"normalise": "none"},
        interval="clopper_pearson", closed_form=lambda p, length, normalise="none": scaling.multiple_choice_grade(p),
    ),
    "brier_sum": Metric(_brier(choices.brier_sum), Choices, "lower", (0, 2), linear=False, continuous=True),
    "brier_half": Metric(_brier(choices.brier_half), Choices, "lower", (0, 1), linear=False, continuous=True),
    "brier_mean": Metric(_brier(choices.brier_mean), Choices, "lower", (0, 1), linear=False, continuous=True),
    "brier_target": Metric(
        _brier(_brier_target), Choices, "lower", (0, 1), linear=False, continuous=True,
        closed_form=lambda p, length: scaling.brier_target(p),
    ),
    "squared_error": Metric(
        lambda o: vision.squared_error(o.squared), Errors, "lower", (0, math.inf), linear=True, continuous=True,
    ),
    "reconstruction": Metric(
        lambda o, c: vision.reconstruction(o.squared, c), Errors, "higher", (0, 1), linear=False, continuous=False,
        options={"c": REQUIRED}, interval="clopper_pearson",
    ),
    "subset_accuracy": Metric(
        lambda o, K: attempts.subset_accuracy(o.n, o.correct, K), Attempts, "higher", (0, 1), linear=_one,
        continuous=True, options={"K": REQUIRED}, closed_form=lambda p, length, K: p**K,
    ),
    "pass_at_k": Metric(
        lambda o, k: attempts.pass_at_k(o.n, o.correct, k), Attempts, "higher", (0, 1), linear=_one,
        continuous=True, options={"k": REQUIRED}, closed_form=lambda p, length, k: 1 - (1 - p) ** k,
    ),
}  # fmt: skip


def evaluate(
    outcome: Outcome, names: str | tuple[str, ...] | list[str], *, vocabulary: int | None = None, **options: Any
) -> dict[str, Array]:
    """Score an outcome under each named metric: one float32 per sample, in one jitted program.

    Args:
        outcome: `Tokens`, `Choices`, `Errors` or `Attempts`, any batch shape. Values are checked here, once.
        names: keys of METRICS that read this kind of outcome.
        vocabulary: if given, token ids must lie below it.
        options: static options (K, c, k, normalise); each goes to every named metric that takes it.

    Raises:
        ValueError: an unknown metric or option, a metric of another outcome, or values no model can have produced.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    if not isinstance(outcome, get_args(Outcome)):
        raise ValueError(f"expected Tokens, Choices, Errors or Attempts, got {type(outcome).__name__}")
    if not names:
        raise ValueError(f"no metric named; for {type(outcome).__name__}: {', '.join(for_outcome(outcome))}")
    taken = tuple((name, tuple(_options_of(name, outcome, options).items())) for name in names)
    unused = set(options) - {option for _, given in taken for option, _ in given}
    if unused:
        raise ValueError(f"no named metric takes the option {', '.join(sorted(unused))} (metrics: {', '.join(names)})")
    fields = outcome._asdict().items()
    outcome = outcome._replace(**{k: v if v is None or isinstance(v, jax.Array) else np.asarray(v) for k, v in fields})
    outcomes.check(outcome, vocabulary)
    return _evaluate(outcome, taken)


def for_outcome(outcome: Outcome) -> tuple[str, ...]:
    """Every metric that this outcome allows without an option: of its kind, with the optional fields it needs."""
    return tuple(
        name
        for name, metric in METRICS.items()
        if isinstance(outcome, metric.outcome)
        and REQUIRED not in metric.options.values()
        and all(getattr(outcome, field) is not None for field in metric.needs)
    )


def _options_of(name: str, outcome: Outcome, options: Mapping[str, Any]) -> dict[str, Any]:
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(METRICS)}")
    metric = METRICS[name]
    if not isinstance(outcome, metric.outcome):
        raise ValueError(f"{name} reads {metric.outcome.__name__}, got {type(outcome).__name__}")
    for field in metric.needs:
        if getattr(outcome, field) is None:
            raise ValueError(f"{name} needs {type(outcome).__name__}.{field}")
    merged = {option: options.get(option, default) for option, default in metric.options.items()}
    for option in set(merged) & {"K", "k"}:
        if merged[option] is not REQUIRED and (isinstance(merged[option], bool) or not isinstance(merged[option], int)):
            raise ValueError(f"{name} needs a whole number {option}, got {merged[option]!r}")
    absent = [option for option, value in merged.items() if value is REQUIRED]
    if absent:
        raise ValueError(f"{name} needs the option {', '.join(absent)}")
    return merged


@partial(jax.jit, static_argnames=("taken",))
def _evaluate(outcome: Outcome, taken: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]) -> dict[str, Array]:
    return {name: METRICS[name].score(outcome, **dict(options)).astype(jnp.float32) for name, options in taken}

"""Processes of per-token errors, each one function of the past, and other ways of going wrong.

A chain is told by the probability that token t is wrong, given how many were wrong before it and whether the last one was. The
token engine compares that number with random bits, and the exact laws follow from the same number by dynamic programming,
so the two cannot drift apart. Rates are plain arithmetic: they run on floats, numpy (laws) and JAX (draws) alike.

References:
    Schaeffer, Miranda, Koyejo (2023), appendix A: independent errors, the only process the paper has.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key
from scipy import special, stats

from mirage_jax.outcomes import Choices, Tokens

Values = Any  # a number, or a numpy or JAX array, of any shape
Size = int | Int[Array, ""]


class Chain(NamedTuple):
    """A process of errors along one answer."""

    parameters: tuple[str, ...]
    rate: Callable[..., Values]  # (t, errors before t, 1 if token t - 1 was wrong, *parameters) -> P(token t is wrong)
    check: Callable[..., None]  # (*parameters), floats: raises ValueError
    counts: Callable[..., np.ndarray] | None = None  # (length, *parameters) -> P(K = 0..L), where it has a closed form


def independent(t: Values, errors: Values, last: Values, error_rate: Values) -> Values:
    """Every token wrong with probability epsilon: the paper's process; counts are binomial."""
    return error_rate


def markov(t: Values, errors: Values, last: Values, error_rate: Values, correlation: Values) -> Values:
    """Two-state chain of marginal rate epsilon and lag-1 correlation rho.

    P(wrong | right before) = epsilon (1 - rho);   P(wrong | wrong before) = epsilon (1 - rho) + rho
    P(all right) = (1 - epsilon) [1 - epsilon (1 - rho)]^(L - 1), which is 1 - epsilon for every L at rho = 1.
    """
    return error_rate * (1 - correlation) + correlation * (last + (t == 0) * error_rate)


def beta_mixed(t: Values, errors: Values, last: Values, error_rate: Values, overdispersion: Values) -> Values:
    """Items of unequal difficulty: each has its own rate, Beta(a, b) with mean epsilon and 1 / (a + b + 1) = overdispersion.

    Drawn with the item's rate integrated out, as Polya's urn: (a + errors) / (a + b + t). The overdispersion is also the
    correlation between any two tokens of an item. Counts are beta-binomial.
    """
    mass = 1 / overdispersion - 1  # a + b
    return (error_rate * mass + errors) / (mass + t)


def cascade(t: Values, errors: Values, last: Values, error_rate: Values, after: Values) -> Values:
    """Wrong with probability epsilon until the first error, then with probability q (what comes after builds on it).

    With q = 1 the expected errors are sum_{l=1..L} 1 - (1 - epsilon)^l, not linear in epsilon.
    """
    return error_rate + (errors > 0) * (after - error_rate)


def by_position(t: Values, errors: Values, last: Values, rates: Values) -> Values:
    """Token t wrong with probability rates[t], independently; rates are [L, ...]. Counts are Poisson-binomial."""
    return rates[t]


def _binomial(length: int, error_rate: np.ndarray) -> np.ndarray:
    k, p = np.arange(length + 1), np.asarray(error_rate)[..., None]
    ways = special.gammaln(length + 1) - special.gammaln(k + 1) - special.gammaln(length - k + 1)
    return np.exp(ways + special.xlogy(k, p) + special.xlog1py(length - k, -p))


def _beta_binomial(length: int, error_rate: np.ndarray, overdispersion: np.ndarray) -> np.ndarray:
    p, mass = np.asarray(error_rate)[..., None], 1 / np.asarray(overdispersion)[..., None] - 1
    inside = np.clip(p, 1e-300, 1 - 1e-16)
    found = stats.betabinom.pmf(np.arange(length + 1), length, inside * mass, (1 - inside) * mass)
    return np.where(p <= 0, np.arange(length + 1) == 0, np.where(p >= 1, np.arange(length + 1) == length, found))


def _rates(**rates: float) -> None:
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {rate}")


def _check_markov(error_rate: float, correlation: float) -> None:
    _rates(error_rate=error_rate)
    if not -1 <= correlation <= 1:
        raise ValueError(f"correlation must lie in [-1, 1], got {correlation}")
    after_right = error_rate * (1 - correlation)
    if not (after_right <= 1 and after_right + correlation >= 0):
        raise ValueError(
            f"no chain has error_rate {error_rate} and correlation {correlation}: a rate would leave [0, 1]"
        )


def _check_beta(error_rate: float, overdispersion: float) -> None:
    _rates(error_rate=error_rate)
    if not 0 < overdispersion < 1:
        raise ValueError(f"overdispersion must lie in (0, 1), got {overdispersion}")


CHAINS: Mapping[str, Chain] = {
    "independent": Chain(("error_rate",), independent, lambda error_rate: _rates(error_rate=error_rate), _binomial),
    "beta_mixed": Chain(("error_rate", "overdispersion"), beta_mixed, _check_beta, _beta_binomial),
    "markov": Chain(("error_rate", "correlation"), markov, _check_markov),
    "cascade": Chain(
        ("error_rate", "after"), cascade, lambda error_rate, after: _rates(error_rate=error_rate, after=after)
    ),
    "by_position": Chain(
        ("rates",), by_position, lambda rates: _rates(**{f"rates[{t}]": rate for t, rate in enumerate(rates)})
    ),
}


def check(name: str, length: int, *parameters: Any) -> None:
    """Raise `ValueError` for an unknown process, a length below 1, or one cell's parameters outside their range."""
    if name not in CHAINS:
        raise ValueError(f"expected a process, one of {', '.join(CHAINS)}, got {name!r}")
    wanted = CHAINS[name].parameters
    if length < 1:
        raise ValueError(f"length must be >= 1, got {length}")
    if len(parameters) != len(wanted):
        raise ValueError(f"{name} takes {', '.join(wanted)}, got {len(parameters)} parameters")
    for parameter, value in zip(wanted, parameters, strict=True):
        if np.shape(value) != (() if parameter != "rates" else (length,)):
            raise ValueError(
                f"{parameter} must be one number{' a token' * (parameter == 'rates')}, got {np.shape(value)}"
            )
    CHAINS[name].check(*parameters)


def counts_law(name: str, length: int, *parameters: Values) -> np.ndarray:
    """P(K errors in L tokens), [*cells, L + 1] in float64, from parameters of shape [*cells] (`rates`: [L, *cells]).

    The closed form where the process has one, else dynamic programming over (errors, last).
    """
    closed = CHAINS[name].counts
    return closed(length, *parameters) if closed else counts_by_steps(name, length, *parameters)


def counts_by_steps(name: str, length: int, *parameters: Values) -> np.ndarray:
    """The law of `counts_law` by dynamic programming, for any process: O(L^2) a cell."""
    *_, (law, _) = _steps(name, length, *parameters)
    return law.sum(-1)[..., :-1]


def rates(name: str, length: int, *parameters: Values) -> np.ndarray:
    """P(token t is wrong) for t = 0..L-1, whatever came before it, [*cells, L] in float64."""
    return np.stack([wrong.sum((-1, -2)) for _, wrong in _steps(name, length, *parameters)], -1)


def _steps(name: str, length: int, *parameters: Values) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """After each token: P(errors so far, last one wrong), and what of it came by this token being wrong."""
    given = [np.asarray(p, dtype=float)[..., None, None] for p in parameters]
    errors, last = np.arange(length + 2)[:, None], np.arange(2)  # a row to spare for the step beyond L
    cells = np.shape(CHAINS[name].rate(0, errors, last, *given))[:-2]
    law = np.zeros((*cells, length + 2, 2))
    law[..., 0, 0] = 1.0
    for t in range(length):
        wrong = law * np.clip(CHAINS[name].rate(t, errors, last, *given), 0.0, 1.0)
        law = np.stack([(law - wrong).sum(-1), np.roll(wrong.sum(-1), 1, -1)], -1)
        yield law, wrong


def prefix_law(name: str, length: int, *parameters: Values) -> np.ndarray:
    """P(exactly f leading tokens are right), f = 0..L, [*cells, L + 1] in float64."""
    given = [np.asarray(p, dtype=float) for p in parameters]
    rates = np.stack([CHAINS[name].rate(t, 0, 0, *given) for t in range(length)], -1)
    alive = np.concatenate([np.ones((*rates.shape[:-1], 1)), np.cumprod(1 - rates, -1)], -1)
    return np.concatenate([alive[..., :-1] * rates, alive[..., -1:]], -1)


def errors(key: Key[Array, ""], name: str, width: int, *parameters: Float[Array, ""]) -> Bool[Array, " width"]:
    """One answer of `width` tokens: which are wrong. Token t compares `jax.random.bits(key, (width,))[t]` with its rate."""

    def step(state: tuple[Array, Array], at: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        t, word = at
        wrong = hit(word, CHAINS[name].rate(t, *state, *parameters))
        return (state[0] + wrong, wrong.astype(jnp.int32)), wrong

    words = jax.random.bits(key, (width,))
    start = (jnp.int32(0), jnp.int32(0))
    return jax.lax.scan(step, start, (jnp.arange(width), words))[1]


def hit(word: Array, rate: Array) -> Array:
    """Whether 32 random bits fall below a rate: P = floor(2^31 rate) / 2^31, exactly 0 and 1 at the ends."""
    return (word >> np.uint32(1)) < (jnp.float32(1 << 31) * rate).astype(jnp.uint32)


def substitute(
    key: Key[Array, ""],
    target: Int[Array, " width"],
    wrong: Bool[Array, " width"],
    vocabulary: Size,
    self_hits: bool = False,
) -> Int[Array, " width"]:
    """The target with its wrong tokens replaced by uniform others; with self-hits the right one may be drawn again.

    With self-hits the rate of wrong tokens is epsilon (V - 1) / V.
    """
    shift = jax.random.randint(key, target.shape, 0 if self_hits else 1, vocabulary)
    return jnp.where(wrong, (target + shift) % vocabulary, target)


def insert_delete_substitute(
    key: Key[Array, ""],
    target: Int[Array, " width"],
    length: Int[Array, ""],
    vocabulary: Size,
    inserted: Float[Array, ""],
    deleted: Float[Array, ""],
    substituted: Float[Array, ""],
) -> tuple[Int[Array, " two_widths"], Int[Array, ""]]:
    """Edit each target token independently; the predicted ids, of twice the width, and their length.

    Before each token a uniform one is inserted with probability i; the token itself is dropped with probability d, else
    replaced by another with probability s. The predicted length is Binomial(L, i) + Binomial(L, 1 - d).
    P(no edit) = [(1 - i)(1 - d)(1 - s)]^L bounds exact match from below, since edits may cancel.
    """
    key_insert, key_delete, key_wrong, key_token, key_other = jax.random.split(key, 5)
    real = jnp.arange(target.size) < length
    inserts = real & jax.random.bernoulli(key_insert, inserted, target.shape)
    keeps = real & ~jax.random.bernoulli(key_delete, deleted, target.shape)
    wrong = jax.random.bernoulli(key_wrong, substituted, target.shape)
    here = substitute(key_other, target, wrong, vocabulary)
    noise = jax.random.randint(key_token, target.shape, 0, vocabulary)
    slots = jnp.stack([noise, here], -1).ravel()
    used = jnp.stack([inserts, keeps], -1).ravel()
    place = jnp.where(used, jnp.cumsum(used) - 1, slots.size)
    return jnp.zeros_like(slots).at[place].set(slots, mode="drop"), used.sum(dtype=jnp.int32)


def tokens(
    key: Key[Array, ""], name: str, length: Int[Array, ""], width: int, vocabulary: Size, *parameters: Float[Array, ""]
) -> Tokens:
    """One test item: a uniform target of `length` tokens, each wrong one replaced by another token."""
    key_target, key_errors, key_wrong = jax.random.split(key, 3)
    target = jax.random.randint(key_target, (width,), 0, vocabulary)
    wrong = errors(key_errors, name, width, *parameters)
    return Tokens(target, length, substitute(key_wrong, target, wrong, vocabulary), length)


def margins(key: Key[Array, ""], p: Float[Array, ""], spread: Float[Array, ""]) -> Choices:
    """One two-option question of margin logit(p) + spread z, z standard normal; the right option stands first.

    Spread 0 makes all questions equal. The laws of grade and Brier score stand in `mirage_jax.scaling`.
    """
    margin = jnp.log(p) - jnp.log1p(-p) + spread * jax.random.normal(key)
    log_prob = jax.nn.log_sigmoid(jnp.stack([margin, -margin]))
    return Choices(log_prob, jnp.ones(2, bool), jnp.array([1.0, 0.0]))

"""Two ways to count errors of a chain over many answers, behind one interface.

    token       every token drawn, with the very bits of `jax.random.bits`
    token_fast  every token drawn, with both words of each Threefry block: half the work
    exact_law   no token drawn: one multinomial over the exact law of the counts, whatever the number of answers
    auto        exact_law

All count the same integers, from which `scores` makes estimates. Metrics that need the tokens themselves (edit distance,
ROUGE, BLEU) are scored from drawn `Tokens`: see `scored`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key, UInt32

from mirage_jax import sweep
from mirage_jax.estimators import columns, estimate_sums
from mirage_jax.kernels import threefry
from mirage_jax.metrics.facts import evaluate
from mirage_jax.outcomes import Outcome
from sims import processes

Columns = dict[str, float | int | None]
Engine = Literal["auto", "token", "token_fast", "exact_law"]
GROUP = 16  # tokens of one unrolled step
BITS = 15  # of the packed state: errors, leading right tokens, last one wrong
FIELD = (1 << BITS) - 1


def job(
    name: str,
    process: str,
    length: int,
    keys: Key[Array, " cells"],
    parameters: Sequence[Any],
    n: int,
    engine: Engine = "auto",
    prefix: bool = True,
) -> sweep.Job:
    """Count n answers of `length` tokens in each cell; `parameters` of the process are arrays of [cells, ...], or one number.

    Counts: answers without error, sum of errors, of their squares, and with `prefix` the same of leading right tokens.

    Raises:
        ValueError: an unknown process or engine, a length below 1, parameters outside their range, sums that would not fit.
    """
    exact = engine in ("auto", "exact_law")
    if engine not in get_args(Engine):
        raise ValueError(f"expected an engine, one of {', '.join(get_args(Engine))}, got {engine!r}")
    if not exact and length > FIELD:
        raise ValueError(f"the token engines count up to {FIELD} tokens, got {length}")
    if n * length**2 >= 1 << 63:
        raise ValueError(f"sums of squares must stay below 2^63, got {n} answers of {length} tokens")
    given = tuple(np.full(len(keys), p, float) if np.ndim(p) == 0 else np.asarray(p, float) for p in parameters)
    for cell in range(len(keys)):
        processes.check(process, length, *(p[cell] for p in given))
    if exact:
        return sweep.Job(name, _law(process, length, prefix), keys, given, n, length, host=True)
    most = min(sweep.CHUNK, ((1 << 32) - 1) // length**2)  # sums of squares stay below 2^32
    count, cells = _tokens(process, length, prefix, engine == "token_fast"), tuple(p.astype(np.float32) for p in given)
    return sweep.Job(name, count, keys, cells, n, length, chunk=most)


def scores(counts: np.ndarray, length: int, n: int) -> dict[str, Columns]:
    """Columns of exact match, token accuracy and (if counted) prefix match for one cell of `job`."""
    right, wrong, squares, *prefix = (int(count) for count in counts)
    hits = n * length - wrong  # sum of L - K, and of its square
    squared = n * length**2 - 2 * length * wrong + squares
    found = {
        "exact_match": estimate_sums(n, right, right, "exact_match"),
        "token_accuracy": estimate_sums(n, hits, squared, "token_accuracy", unit=length),
    }
    if prefix:
        found["prefix_match"] = estimate_sums(n, prefix[0], prefix[1], "prefix_match", unit=length)
    return {metric: columns(estimate) for metric, estimate in found.items()}


@cache
def _law(process: str, length: int, prefix: bool) -> Callable[..., np.ndarray]:
    """Count a cell by its exact law: integers from float64 probabilities, on the host."""

    def count(key: np.ndarray, cell: tuple[float, ...], n: int) -> np.ndarray:
        draw = np.random.Generator(np.random.Philox(key=key.astype(np.uint64)))
        values = np.arange(length + 1)
        errors = draw.multinomial(n, _whole(processes.counts_law(process, length, *cell)))
        found = [errors[0], errors @ values, errors @ values**2]
        if prefix:  # the answers with an error, by where it stands; the others are right to the end
            law = processes.prefix_law(process, length, *cell)[:-1]
            first = draw.multinomial(n - errors[0], _whole(law)) if errors[0] < n else np.zeros(length, np.int64)
            found += [first @ values[:-1] + errors[0] * length, first @ values[:-1] ** 2 + errors[0] * length**2]
        return np.array(found, np.int64)

    return count


def _whole(law: np.ndarray) -> np.ndarray:
    return law / law.sum()


@cache
def _tokens(process: str, length: int, prefix: bool, fast: bool) -> Callable[..., Array]:
    """Count a chunk token by token. Random words stay in registers: nothing of [chunk, length] is ever in memory."""
    groups = -(-length // GROUP)
    size = -(-length // groups)
    size += size % 2
    rate = processes.CHAINS[process].rate

    def count(
        key: Key[Array, ""], cell: tuple[Array, ...], ids: UInt32[Array, " chunk"], real: Bool[Array, " chunk"]
    ) -> UInt32[Array, " counts"]:
        k0, k1 = jax.random.key_data(key)
        own = (k0, k1) if fast else threefry.block(k0, k1, np.uint32(0), ids)

        def words(t: Any) -> tuple[Array, Array]:
            """Random words of tokens t and t + 1, t even."""
            if fast:
                return threefry.block(*own, jnp.uint32(t) // np.uint32(2), ids)
            a, b = (threefry.block(*own, np.uint32(0), jnp.uint32(t) + np.uint32(i)) for i in range(2))
            return a[0] ^ a[1], b[0] ^ b[1]

        def group(g: Array, packed: Array) -> Array:
            errors, leading, last = packed & FIELD, packed >> BITS & FIELD, packed >> 2 * BITS
            begin = g * size
            for i in range(0, size, 2):
                for t, word in zip((begin + i, begin + i + 1), words(begin + i), strict=True):
                    wrong = processes.hit(word, rate(t, errors, last, *cell))
                    if groups * size > length:
                        wrong = wrong & (t < length)
                    errors, last = errors + wrong, wrong.astype(jnp.int32)
                    if prefix:
                        leading = leading + ((errors == 0) & (t < length))
            return errors | leading << BITS | last << 2 * BITS

        # The state is one array and the number of steps unknown to the compiler (0 where a chunk is empty): XLA would else
        # draw all the tokens again for every array that a step gives and for every sum below.
        packed = jax.lax.fori_loop(0, jnp.where(real[0], groups, 0), group, jnp.zeros(ids.shape, jnp.int32))
        errors, leading = packed & FIELD, packed >> BITS & FIELD
        sums = [errors == 0, errors, errors * errors, *([leading, leading * leading] if prefix else [])]
        return jnp.stack([jnp.where(real, x, 0).sum(dtype=jnp.uint32) for x in sums])

    return count


@cache
def scored(draw: Callable[..., Outcome], metrics: tuple[str, ...], **options: Any) -> Callable[..., Array]:
    """Count drawn outcomes under any metrics of samples: `sweep.moments` of each, one after the other.

    `draw` makes one sample, (key, *cell) -> outcome, the key being that of its replicate. It must be hashable (a function
    of a module), since programs are kept by it. Chunks hold at most 2^16 replicates.
    """

    def count(key: Key[Array, ""], cell: Any, ids: UInt32[Array, " chunk"], real: Bool[Array, " chunk"]) -> Array:
        outcome = jax.vmap(lambda i: draw(jax.random.fold_in(key, i), *cell))(ids)
        found = evaluate(outcome, metrics, **options)
        return jnp.concatenate([sweep.moments(found[metric], real) for metric in metrics])

    return count


def scored_scores(counts: np.ndarray, metrics: Sequence[str], samples: int) -> dict[str, Columns]:
    """Columns of each metric for one cell of `scored`; samples whose score is not defined are missing."""
    found = {}
    for metric, each in zip(metrics, np.split(counts, len(metrics)), strict=True):
        n, total, squares = sweep.of_moments(each)
        missing = {"missing": samples - n}
        sums = (n, total, squares, metric)
        found[metric] = (
            {"n": 0} | missing if n == 0 else columns(estimate_sums(*sums, unit=sweep.ONE, missing=samples - n))
        )
    return found

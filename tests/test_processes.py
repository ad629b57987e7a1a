"""Processes of errors: their laws by enumeration, by closed form and by other libraries; draws that follow them."""

import itertools
import math

import alarms
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mirage_jax import evaluate, scaling
from mirage_jax.outcomes import Tokens
from sims import processes

RATES = np.array([0.0, 0.02, 0.5, 0.3, 1.0, 0.1])
CELLS = {
    "independent": (0.15,),
    "beta_mixed": (0.15, 0.2),
    "markov": (0.15, 0.6),
    "cascade": (0.15, 0.8),
    "by_position": (RATES,),
}


def strings(name, length, parameters):
    """P of every string of errors, by the chain rule in words of its own."""
    for string in itertools.product((0, 1), repeat=length):
        p = 1.0
        for t, wrong in enumerate(string):
            errors, before = sum(string[:t]), string[t - 1] if t else None
            if name == "independent":
                rate = parameters[0]
            elif name == "beta_mixed":
                a, b = (x * (1 / parameters[1] - 1) for x in (parameters[0], 1 - parameters[0]))
                rate = (a + errors) / (a + b + t)
            elif name == "markov":
                epsilon, rho = parameters
                rate = epsilon if before is None else epsilon * (1 - rho) + rho * before
            elif name == "cascade":
                rate = parameters[1] if errors else parameters[0]
            else:
                rate = parameters[0][t]
            p *= rate if wrong else 1 - rate
        yield string, p


@pytest.mark.parametrize("name", CELLS)
def test_laws_by_enumeration(name):
    length = 6
    counts, prefix, rates = np.zeros(length + 1), np.zeros(length + 1), np.zeros(length)
    for string, p in strings(name, length, CELLS[name]):
        counts[sum(string)] += p
        prefix[string.index(1) if 1 in string else length] += p
        rates += p * np.array(string)
    for law in (processes.counts_law, processes.counts_by_steps):
        assert law(name, length, *CELLS[name]) == pytest.approx(counts, abs=1e-14)
    assert processes.prefix_law(name, length, *CELLS[name]) == pytest.approx(prefix, abs=1e-14)
    assert processes.rates(name, length, *CELLS[name]) == pytest.approx(rates, abs=1e-14)


@pytest.mark.parametrize("length", [1, 2, 10, 100])
def test_closed_forms(length):
    epsilon, rho = np.meshgrid([0.0, 1e-6, 0.05, 0.5, 0.999, 1.0], [0.0, 0.1, 0.7, 1.0])
    k = np.arange(length + 1)
    markov = processes.counts_law("markov", length, epsilon, rho)
    assert markov[..., 0] == pytest.approx((1 - epsilon) * (1 - epsilon * (1 - rho)) ** (length - 1), abs=1e-12)
    assert markov @ k == pytest.approx(length * epsilon, abs=1e-10)
    assert markov[0] == pytest.approx(stats.binom.pmf(k, length, epsilon[0][:, None]), abs=1e-12)  # rho = 0
    assert markov[3][:, 0] == pytest.approx(1 - epsilon[0], abs=1e-12)  # rho = 1: no sharpness at any length
    cascade = processes.counts_law("cascade", length, epsilon[0], np.ones(6))
    expected = sum(1 - (1 - epsilon[0]) ** l for l in range(1, length + 1))
    assert cascade @ k == pytest.approx(expected, abs=1e-10)
    inside, over = epsilon[0][1:-1], 0.2
    a, b = (x * (1 / over - 1) for x in (inside, 1 - inside))
    mixed = processes.counts_law("beta_mixed", length, inside, np.full(4, over))
    assert mixed == pytest.approx(stats.betabinom.pmf(k, length, a[:, None], b[:, None]), abs=1e-12)
    assert mixed == pytest.approx(processes.counts_by_steps("beta_mixed", length, inside, np.full(4, over)), abs=1e-11)
    # E[p^L] = B(a' + L, b') / B(a', b') of the rate of right tokens, never below the homogeneous p^L (Jensen)
    jensen = [math.exp(math.lgamma(y + length) - math.lgamma(y) - math.lgamma(x + y + length) + math.lgamma(x + y))
              for x, y in zip(a, b, strict=True)]  # fmt: skip
    assert mixed[:, 0] == pytest.approx(jensen, rel=1e-6)
    assert np.all(mixed[:, 0] >= (1 - inside) ** length - 1e-12)
    assert processes.counts_law("beta_mixed", length, np.array([0.0, 1.0]), np.full(2, over))[:, [0, -1]].tolist() == [
        [1.0, 0.0],
        [0.0, 1.0],
    ]


def test_laws_add_up_over_many_cells():
    epsilon = np.linspace(0, 1, 41)
    for name, more in (("independent", ()), ("markov", (0.3,)), ("cascade", (0.9,)), ("beta_mixed", (0.4,))):
        given = [epsilon, *(np.full(41, value) for value in more)]
        for law in (processes.counts_law, processes.prefix_law):
            assert law(name, 50, *given).sum(-1) == pytest.approx(np.ones(41), abs=1e-12)


def test_the_paper_s_errata():
    """Science 2.2: the expected edit count is L epsilon, not L (1 - epsilon); Levenshtein is at most Hamming."""
    law = processes.counts_law("independent", 5, np.array([0.1]))
    assert law @ np.arange(6) == pytest.approx([0.5])
    assert float(scaling.token_edit_distance(0.9, 5)) == pytest.approx(0.5)
    one, two = np.array([1, 2, 3, 4]), np.array([2, 3, 4, 1])
    found = evaluate(Tokens(one, np.array(4), two, np.array(4)), ("token_edit_distance", "token_accuracy"))
    assert found["token_edit_distance"] == 2 and found["token_accuracy"] == 0


@pytest.mark.parametrize(
    ("length", "vocabulary", "expected"), [(20, 10, (0.827, 0.899)), (5, 10, (0.883, 0.900)), (5, 1000, (0.900, 0.900))]
)
def test_the_gap_between_levenshtein_and_hamming(length, vocabulary, expected):
    """Science 2.2, epsilon = .9: the listed means have three digits."""

    @jax.jit
    def drawn(key):
        draw = jax.vmap(lambda k: processes.tokens(k, "independent", length, length, vocabulary, jnp.float32(0.9)))
        return draw(jax.random.split(key, 20_000))

    found = evaluate(drawn(jax.random.key(0)), ("token_edit_distance", "token_accuracy"))
    edits, right = (np.asarray(found[name], float) for name in ("token_edit_distance", "token_accuracy"))
    for values, listed in zip((edits / length, 1 - right), expected, strict=True):
        assert abs(values.mean() - listed) <= alarms.sigmas() * values.std() / math.sqrt(values.size) + 1.5e-3


@pytest.mark.parametrize("name", CELLS)
def test_one_answer_compares_jax_s_bits_with_the_rates(name):
    length, key = 6, jax.random.key(3)
    bits = np.asarray(jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(key, i), (length,)))(jnp.arange(200)))
    parameters = tuple(jnp.float32(p) for p in CELLS[name])
    draw = jax.vmap(lambda i: processes.errors(jax.random.fold_in(key, i), name, length, *parameters))
    found = np.asarray(draw(jnp.arange(200)))
    for row, wrong in zip(bits, found, strict=True):
        for t in range(length):
            state = wrong[:t].sum(), int(wrong[t - 1]) if t else 0
            rate = float(processes.CHAINS[name].rate(t, *state, *parameters))
            assert wrong[t] == (row[t] >> 1 < int(rate * 2**31))


def test_rates_of_0_and_1_are_certain():
    words = jnp.array([0, 1, 2**31, 2**32 - 1], jnp.uint32)
    assert not processes.hit(words, jnp.float32(0.0)).any()
    assert processes.hit(words, jnp.float32(1.0)).all()
    assert processes.hit(words, jnp.float32(0.5)).tolist() == [True, True, False, False]


@pytest.mark.parametrize(("self_hits", "rate"), [(False, 0.0), (True, 0.25)])
def test_substitutes_are_uniform_among_the_others(self_hits, rate):
    target = jnp.full(40_000, 2)
    drawn = processes.substitute(jax.random.key(1), target, jnp.ones(40_000, bool), 4, self_hits)
    law = np.full(4, (1 - rate) / 3)
    law[2] = rate
    assert alarms.histogram(np.bincount(np.asarray(drawn), minlength=4), law)
    kept = processes.substitute(jax.random.key(1), target, jnp.zeros(40_000, bool), 4, self_hits)
    assert jnp.array_equal(kept, target)


def edited(key, n, length, vocabulary, *rates):
    target = jnp.arange(1, length + 1) % vocabulary
    return target, _edit(jax.random.split(key, n), target, vocabulary, *map(jnp.float32, rates))


@jax.jit
def _edit(keys, target, vocabulary, *rates):
    return jax.vmap(lambda k: processes.insert_delete_substitute(k, target, target.size, vocabulary, *rates))(keys)


def test_inserted_deleted_substituted():
    key = jax.random.key(0)
    target, (ids, size) = edited(key, 3, 5, 100, 0.0, 0.0, 0.0)
    assert jnp.array_equal(ids[:, :5], jnp.stack([target] * 3)) and size.tolist() == [5, 5, 5]
    assert edited(key, 3, 5, 100, 0.0, 1.0, 0.0)[1][1].tolist() == [0, 0, 0]
    _, (ids, size) = edited(key, 3, 5, 100, 1.0, 0.0, 0.0)
    assert size.tolist() == [10, 10, 10] and jnp.array_equal(ids[:, 1::2], jnp.stack([target] * 3))
    _, (ids, _) = edited(key, 3, 5, 100, 0.0, 0.0, 1.0)
    assert not (ids[:, :5] == target).any()
    n, length, rates = 20_000, 8, (0.2, 0.3, 0.1)
    target, (ids, size) = edited(key, n, length, 1000, *rates)
    law = np.convolve(stats.binom.pmf(range(9), 8, 0.2), stats.binom.pmf(range(9), 8, 0.7))
    assert alarms.histogram(np.bincount(np.asarray(size), minlength=17), law)
    same = (np.asarray(size) == length) & (np.asarray(ids[:, :length]) == np.asarray(target)).all(1)
    untouched = math.prod(1 - rate for rate in rates) ** length
    assert alarms.counts(int(same.sum()), n, untouched, untouched + length * 0.2 * 0.3 / 1000)


@pytest.mark.parametrize("spread", [0.0, 1.5])
def test_margins(spread):
    p, n = 0.7, 20_000
    draw = jax.vmap(lambda k: processes.margins(k, jnp.float32(p), jnp.float32(spread)))
    found = evaluate(draw(jax.random.split(jax.random.key(2), n)), ("multiple_choice_grade", "brier_target"))
    grade, brier = (np.asarray(found[name], float) for name in ("multiple_choice_grade", "brier_target"))
    assert alarms.counts(int(grade.sum()), n, float(scaling.multiple_choice_grade(p, spread)))
    law = float(scaling.brier_target(p, spread))
    assert abs(brier.mean() - law) <= alarms.sigmas() * brier.std() / math.sqrt(n) + 1e-6


@pytest.mark.parametrize(
    ("name", "length", "parameters", "words"),
    [
        ("lucky", 5, (0.1,), "expected a process, one of independent"),
        ("independent", 0, (0.1,), "length must be >= 1, got 0"),
        ("independent", 5, (1.5,), r"error_rate must lie in \[0, 1\], got 1.5"),
        ("independent", 5, (math.nan,), r"error_rate must lie in \[0, 1\], got nan"),
        ("independent", 5, (0.1, 0.2), "independent takes error_rate, got 2 parameters"),
        ("markov", 5, (0.1, 1.5), r"correlation must lie in \[-1, 1\], got 1.5"),
        ("markov", 5, (0.1, -0.5), "no chain has error_rate 0.1 and correlation -0.5"),
        ("beta_mixed", 5, (0.1, 0.0), r"overdispersion must lie in \(0, 1\), got 0.0"),
        ("cascade", 5, (0.1, -0.1), r"after must lie in \[0, 1\], got -0.1"),
        ("by_position", 5, ([0.1] * 4,), "rates must be one number a token"),
        ("by_position", 2, ([0.1, 1.1],), r"rates\[1\] must lie in \[0, 1\], got 1.1"),
    ],
)
def test_refusals(name, length, parameters, words):
    with pytest.raises(ValueError, match=words):
        processes.check(name, length, *parameters)

"""Two engines count the same things: bit by bit where they claim the same bits, by exact tests where they do not."""

import alarms
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_processes import CELLS

from mirage_jax import estimate, sweep
from mirage_jax.kernels import threefry
from sims import engines, processes

pytestmark = pytest.mark.usefixtures("quick_compile")

N = 20_000


def counted(process, length, engine, n=N, parameters=None, **how):
    given = [np.asarray(p)[None] for p in (parameters or CELLS[process])]
    job = engines.job("x", process, length, jax.random.split(jax.random.key(7), 1), given, n, engine, **how)
    return sweep.run([job])["x"][0]


def answers(process, length, n, parameters):
    """Errors of each answer by the plain per-sample function, [n, length]."""
    key = jax.random.split(jax.random.key(7), 1)[0]
    given = tuple(jnp.float32(p) for p in parameters)
    draw = jax.vmap(lambda i: processes.errors(jax.random.fold_in(key, i), process, length, *given))
    return np.asarray(jax.jit(draw)(jnp.arange(n)))


def sums(wrong):
    errors, length = wrong.sum(1), wrong.shape[1]
    leading = np.where(wrong.any(1), wrong.argmax(1), length)
    return [(errors == 0).sum(), errors.sum(), (errors**2).sum(), leading.sum(), (leading**2).sum()]


@pytest.mark.parametrize("process", CELLS)
def test_the_token_engine_counts_the_very_answers_of_the_process(process):
    assert counted(process, 6, "token", 3001).tolist() == sums(answers(process, 6, 3001, CELLS[process]))


@pytest.mark.parametrize("length", [1, 16, 17, 50])
def test_lengths_around_the_group(length):
    assert counted("markov", length, "token", 500).tolist() == sums(answers("markov", length, 500, CELLS["markov"]))


def test_the_fast_stream_is_jax_s_with_both_words():
    """Token t of answer i is word t mod 2 of the block that jax.random.bits folds into element (t // 2) 2^32 + i."""
    key = jax.random.split(jax.random.key(7), 1)[0]
    k0, k1 = jax.random.key_data(key)
    length, n, rate = 21, 400, 0.3
    blocks, ids = jnp.arange(11, dtype=jnp.uint32)[:, None], jnp.arange(n, dtype=jnp.uint32)
    words = jnp.stack(jnp.broadcast_arrays(*threefry.block(k0, k1, blocks, ids)), 1).reshape(22, n)[:length]
    assert jnp.array_equal((words[0] ^ words[1])[:n], jax.random.bits(key, (n,)))
    wrong = np.asarray(processes.hit(words, jnp.float32(rate))).T
    assert counted("independent", length, "token_fast", n, (rate,)).tolist() == sums(wrong)


@pytest.mark.parametrize("engine", ["token", "token_fast", "exact_law"])
@pytest.mark.parametrize("process", CELLS)
def test_engines_follow_the_law(process, engine):
    """How many errors 40 sets of 500 answers make, and where the first one stands, against the exact laws."""
    length, sets, n = 6, 40, 500
    given = [np.stack([np.asarray(p)] * sets) for p in CELLS[process]]
    keys = jax.random.split(jax.random.key(11), sets)
    found = sweep.run([engines.job("x", process, length, keys, given, n, engine)])["x"]
    k = np.arange(length + 1)
    errors, prefix = (law(process, length, *CELLS[process]) for law in (processes.counts_law, processes.prefix_law))
    assert alarms.counts(int(found[:, 0].sum()), sets * n, errors[0])
    for column, values in ((1, k), (2, k**2)):
        mean, spread = errors @ values, np.sqrt(errors @ values**2 - (errors @ values) ** 2)
        assert abs(found[:, column].sum() / (sets * n) - mean) <= alarms.sigmas() * spread / np.sqrt(sets * n)
    for column, values in ((3, k), (4, k**2)):
        mean, spread = prefix @ values, np.sqrt(prefix @ values**2 - (prefix @ values) ** 2)
        assert abs(found[:, column].sum() / (sets * n) - mean) <= alarms.sigmas() * spread / np.sqrt(sets * n)
    # independence from set to set: counts of right answers spread as binomial ones
    chi = ((found[:, 0] - n * errors[0]) ** 2 / (n * errors[0] * (1 - errors[0]))).sum() if 0 < errors[0] < 1 else sets
    assert abs(chi - sets) <= alarms.sigmas() * np.sqrt(2 * sets) + 10


def test_the_exact_law_draws_whole_histograms():
    """One answer a cell: the errors of 10,000 cells are draws from the law itself."""
    cells, length = 10_000, 6
    keys = jax.random.split(jax.random.key(1), cells)
    job = engines.job("x", "markov", length, keys, [np.full(cells, p) for p in CELLS["markov"]], 1)
    found = sweep.run([job])["x"]
    assert alarms.histogram(np.bincount(found[:, 1], minlength=7), processes.counts_law("markov", 6, *CELLS["markov"]))
    assert alarms.histogram(np.bincount(found[:, 3], minlength=7), processes.prefix_law("markov", 6, *CELLS["markov"]))
    assert np.array_equal(found[:, 0] == 1, found[:, 3] == 6) and np.array_equal(found[:, 0] == 1, found[:, 1] == 0)


def test_more_answers_keep_the_earlier_ones_and_chunks_change_nothing():
    job = [engines.job("x", "markov", 9, jax.random.split(jax.random.key(2), 3), CELLS["markov"], 5000, "token_fast")]
    whole = sweep.run(job)["x"]
    assert np.array_equal(sweep.run(job, chunk=333)["x"], whole)
    ids = jnp.arange(5000, dtype=jnp.uint32)
    count, cell = job[0].count, tuple(jnp.float32(p) for p in CELLS["markov"])
    first = count(job[0].keys[1], cell, ids, ids < 1700)  # the real ones come first, by contract
    rest = count(job[0].keys[1], cell, ids[1700:], ids[1700:] > 0)
    assert np.array_equal(first + rest, whole[1])


def test_auto_prefers_the_exact_law_and_counts_beyond_32_bits():
    assert np.array_equal(counted("independent", 5, "auto", 10**12), counted("independent", 5, "exact_law", 10**12))
    right = counted("independent", 5, "auto", 10**12, (0.5,))[0]
    assert alarms.counts(int(right), 10**12, 0.5**5)


def test_scores_are_those_of_the_answers_one_by_one():
    wrong = answers("markov", 6, 2000, CELLS["markov"])
    leading = np.where(wrong.any(1), wrong.argmax(1), 6)
    scores = {"exact_match": ~wrong.any(1), "token_accuracy": 1 - wrong.mean(1), "prefix_match": leading / 6}
    found = engines.scores(np.array(sums(wrong)), 6, 2000)
    for metric, values in scores.items():
        one = estimate(values.astype(float), metric)
        assert found[metric] == pytest.approx(one._asdict(), rel=1e-12)


def test_scores_without_an_error_have_an_interval():
    found = engines.scores(np.array([100, 0, 0, 400, 1600]), 4, 100)
    assert found["exact_match"]["low"] == pytest.approx(0.9638, abs=1e-4) and found["exact_match"]["high"] == 1.0
    assert found["token_accuracy"]["score"] == 1.0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("independent", 0, "auto"), "length must be >= 1"),
        (("independent", 5, "quantum"), "expected an engine, one of auto, token, token_fast, exact_law, got 'quantum'"),
        (("by_position", 5, "token"), "rates must be one number a token"),
    ],
)
def test_refusals(args, words):
    with pytest.raises(ValueError, match=words):
        counted(*args)
    with pytest.raises(ValueError, match=r"error_rate must lie in \[0, 1\], got -0.1"):
        counted("independent", 5, "token", parameters=(-0.1,))
    with pytest.raises(ValueError, match="up to 32767 tokens, got 40000"):
        counted("independent", 40_000, "token", parameters=(0.1,))
    with pytest.raises(ValueError, match=r"below 2\^63"):
        counted("independent", 1000, "exact_law", n=10**13, parameters=(0.1,))
    with pytest.raises(ValueError, match="got 0"):
        counted("independent", 5, "exact_law", n=0)

"""The generator: its words are JAX's, and the stream that uses both words of a block passes a battery of its own."""

import alarms
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirage_jax.kernels import threefry

u32 = np.uint32
SEEDS = (0, 1, 2**31 + 7)


def words(seed, blocks, samples):
    """Words of the fast stream as the engine draws them: [2, blocks, samples] for counters (block, sample)."""
    k0, k1 = np.asarray(jax.random.key_data(jax.random.key(seed)))
    blocks, samples = np.asarray(blocks, u32)[:, None], np.asarray(samples, u32)
    with np.errstate(over="ignore"):
        return np.stack(np.broadcast_arrays(*threefry.block(u32(k0), u32(k1), blocks, samples)))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_block_is_jax_s_own(seed):
    key = jax.random.key(seed)
    k0, k1 = jax.random.key_data(key)
    zero, i = jnp.zeros(1000, jnp.uint32), jnp.arange(1000, dtype=jnp.uint32)
    first, second = threefry.block(k0, k1, zero, i)
    assert jnp.array_equal(first ^ second, jax.random.bits(key, (1000,)))
    folded = jax.random.key_data(jax.vmap(jax.random.fold_in, (None, 0))(key, i))
    assert jnp.array_equal(jnp.stack([first, second], 1), folded)
    jitted = jax.jit(threefry.block)(k0, k1, zero, i)
    assert jnp.array_equal(jitted[0], first) and jnp.array_equal(jitted[1], second)
    # counters above 2^32 are the upper words of jax's 64-bit ones
    wide = jax.random.bits(key, (3, 1 << 20)).ravel()
    assert jnp.array_equal(
        wide[-5:], jnp.bitwise_xor(*threefry.block(k0, k1, zero[:5], jnp.arange(3 << 20)[-5:].astype(u32)))
    )


def test_known_answers():
    """Random123's vectors for threefry2x32 with 20 rounds: zeros, ones, and the digits of pi."""
    vectors = (
        ((0, 0, 0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 4, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344, 0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    )
    for given, expected in vectors:
        assert [int(w) for w in threefry.block(*(jnp.uint32(x) for x in given))] == list(expected)


def ranks(matrices):
    """Ranks over GF(2) of 32 x 32 matrices, a row an integer: [n, 32] -> [n]."""
    rows, rank = matrices.astype(np.uint64), np.zeros(len(matrices), int)
    for bit in range(32):
        has = (rows >> np.uint64(bit)) & np.uint64(1) == 1
        pivot, there = has.argmax(1), has.any(1)
        row = rows[np.arange(len(rows)), pivot]
        hit = has & there[:, None]
        rows = np.where(hit, rows ^ row[:, None], rows)  # the pivot row becomes 0 and is out of the game
        rank += there
    return rank


def rank_law(size=32):
    """P(rank = size), P(size - 1), P(less) of a random square matrix over GF(2)."""
    odds = 1 - 0.5 ** np.arange(1, size + 1)
    full, one_less = odds.prod(), odds[1:].prod() ** 2 / odds[:-1].prod() / 2
    return np.array([full, one_less, 1 - full - one_less])


@pytest.mark.parametrize("seed", SEEDS)
def test_battery(seed, count):
    blocks, samples = 16, count(1 << 17)
    drawn = words(seed, range(blocks), range(samples))
    flat = drawn.ravel()
    n = flat.size
    # each bit of each word is balanced
    ones = np.array([[(drawn[w] >> u32(bit) & u32(1)).sum() for bit in range(32)] for w in range(2)])
    assert alarms.counts(ones, n // 2, 0.5)
    # bytes are uniform
    for byte in range(4):
        assert alarms.histogram(np.bincount(flat >> u32(8 * byte) & u32(255), minlength=256), np.full(256, 1 / 256))
    # neighbours are independent: the two words of a block, tokens of a sample, samples, and keys one apart
    tokens = drawn.transpose(1, 0, 2).reshape(2 * blocks, samples)  # in the order of tokens
    other = words(seed + 1, range(blocks), range(samples)).ravel()
    pairs = {
        "block": (drawn[0], drawn[1]), "token": (tokens[1:-1:2], tokens[2::2]), "sample": (tokens[:, :-1:2], tokens[:, 1::2]),
        "key": (flat, other),
    }  # fmt: skip
    for name, (a, b) in pairs.items():
        a, b = a.ravel(), b.ravel()
        for shift in (28, 0):  # the highest and the lowest four bits
            joint = (a >> u32(shift) & u32(15)) * u32(16) + (b >> u32(shift) & u32(15))
            assert alarms.histogram(np.bincount(joint, minlength=256), np.full(256, 1 / 256)), name
        x, y = (v / 2**32 - 0.5 for v in (a, b))
        assert abs((x * y).mean()) <= alarms.sigmas() / 12 / np.sqrt(x.size), name
    # values are uniform: Dvoretzky, Kiefer and Wolfowitz's bound on the largest distance between distributions
    values = np.sort(flat) / 2**32
    distance = np.abs(values - (np.arange(n) + 0.5) / n).max()
    assert 2 * np.exp(-2 * n * distance**2) > alarms.ALPHA
    # rows of random bits are independent over GF(2)
    found = ranks(flat[: n // 32 * 32].reshape(-1, 32)[: count(40_000)])
    assert alarms.histogram([(found == 32).sum(), (found == 31).sum(), (found < 31).sum()], rank_law())


def test_rank_law_and_ranks_by_hand():
    assert ranks(np.array([1 << np.arange(32), np.zeros(32, int), np.full(32, 5)])).tolist() == [32, 0, 1]
    assert rank_law() == pytest.approx([0.2887880951, 0.5775761902, 0.1336357147], abs=1e-9)


def test_birthday_spacings(count):
    """Equal spacings among 4,096 words of 2^32 days: Poisson with mean n^3 / (4 m) = 4 in each of many years."""
    years, days = count(4000), 4096
    drawn = words(5, range(2), range(years * days // 4)).ravel().reshape(years, days).astype(np.int64)
    spacings = np.sort(np.diff(np.sort(drawn, 1), axis=1), 1)
    equal = (np.diff(spacings, axis=1) == 0).sum()
    mean = years * days**3 / 2**34
    # the law's own error is of order n^2 / m = .4%
    assert abs(equal - mean) <= alarms.sigmas() * np.sqrt(mean) + 0.004 * mean


def test_avalanche(count):
    """A flip of any bit of key or counter flips each output bit half of the time."""
    n = count(20_000)
    rng = np.random.default_rng(0)
    given = [rng.integers(0, 1 << 32, n, dtype=u32) for _ in range(4)]
    with np.errstate(over="ignore"):
        before = threefry.block(*given)
        flips = []
        for place in range(4):
            for bit in range(32):
                other = [x ^ u32(1 << bit) if at == place else x for at, x in enumerate(given)]
                for a, b in zip(before, threefry.block(*other), strict=True):
                    flips.append((a ^ b)[:, None] >> np.arange(32, dtype=u32) & u32(1))
    changed = np.stack([flip.sum(0) for flip in flips])
    # 8,192 cells: one charge for the worst of them, by Bonferroni's bound
    assert abs(changed - n / 2).max() <= np.sqrt(n * np.log(2 * changed.size / alarms.ALPHA) / 2)

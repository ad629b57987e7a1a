"""Alignment kernels, held against plain dynamic programs and rapidfuzz."""

import subprocess
import sys
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rapidfuzz import process
from rapidfuzz.distance import LCSseq, Levenshtein

from mirage_jax.kernels import alignment, bit_planes, host
from mirage_jax.kernels.alignment import edit_distance, form, lcs_length

pytestmark = pytest.mark.usefixtures("quick_compile")

LARGEST = 2**31 - 1
KERNELS = {"edit_distance": edit_distance, "lcs_length": lcs_length}
PEERS = {"edit_distance": Levenshtein.distance, "lcs_length": LCSseq.similarity}


def edit_distance_plainly(target: Sequence[int], predicted: Sequence[int]) -> int:
    row = list(range(len(predicted) + 1))
    for i, token in enumerate(target):
        before, row[0] = row[0], i + 1
        for j, other in enumerate(predicted):
            before, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, before + (token != other))
    return row[-1]


def lcs_length_plainly(target: Sequence[int], predicted: Sequence[int]) -> int:
    row = [0] * (len(predicted) + 1)
    for token in target:
        before = 0
        for j, other in enumerate(predicted):
            before, row[j + 1] = row[j + 1], before + 1 if token == other else max(row[j + 1], row[j])
    return row[-1]


PLAIN = {"edit_distance": edit_distance_plainly, "lcs_length": lcs_length_plainly}


def pairs(seed: int, batch: int, width: int, other: int, vocabulary: int, errors: float) -> tuple[np.ndarray, ...]:
    """Ragged pairs: some equal, some substituted, some with a token inserted or lost, some with nothing in common."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, vocabulary, (batch, width), dtype=np.int64)
    predicted = rng.integers(0, vocabulary, (batch, other), dtype=np.int64)
    shared = min(width, other)
    n, m = rng.integers(0, width + 1, batch), rng.integers(0, other + 1, batch)
    n[: batch // 2], m[: batch // 2] = shared, shared
    keep = rng.random((batch, shared)) >= errors
    keep[batch - batch // 4 :] = False
    predicted[:, :shared] = np.where(keep, target[:, :shared], predicted[:, :shared])
    for i in range(batch // 8, batch // 4):
        predicted[i] = np.roll(predicted[i], 1)
    predicted[batch // 4 : batch // 3, :shared] = target[batch // 4 : batch // 3, :shared]
    return tuple(side.astype(np.int32) for side in (target, n, predicted, m))


def rows(ids: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    return [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)]


def peer(name: str, target: np.ndarray, n: np.ndarray, predicted: np.ndarray, m: np.ndarray) -> np.ndarray:
    return process.cpdist(rows(target, n), rows(predicted, m), scorer=PEERS[name], dtype=np.int32)


def scrambled(sides: tuple[np.ndarray, ...], seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    target, n, predicted, m = sides
    garbage = [rng.integers(-(2**31), 2**31, ids.shape).astype(np.int32) for ids in (target, predicted)]
    real = [np.arange(ids.shape[1]) < length[:, None] for ids, length in ((target, n), (predicted, m))]
    return np.where(real[0], target, garbage[0]), n, np.where(real[1], predicted, garbage[1]), m


@pytest.mark.parametrize("name", KERNELS)
def test_by_hand(name: str):
    def call(target: list[int], predicted: list[int]) -> int:
        sides = (jnp.array(target, jnp.int32), jnp.int32(len(target)), jnp.array(predicted, jnp.int32))
        score = KERNELS[name](*sides, jnp.int32(len(predicted)))
        assert score.shape == () and score.dtype == jnp.int32
        return int(score)

    kitten, sitting = [10, 8, 19, 19, 4, 13], [18, 8, 19, 19, 8, 13, 6]
    assert call(kitten, sitting) == {"edit_distance": 3, "lcs_length": 4}[name]
    assert call([0, 0, 0], [0]) == {"edit_distance": 2, "lcs_length": 1}[name]
    assert call([1, 2, 3], [2, 3, 1]) == 2
    assert call([LARGEST], [0]) == {"edit_distance": 1, "lcs_length": 0}[name]
    assert call([], [1, 2]) == {"edit_distance": 2, "lcs_length": 0}[name]
    assert call([], []) == 0


@pytest.mark.parametrize("name", KERNELS)
def test_plain_twins_agree_with_rapidfuzz(name: str):
    sides = pairs(0, 60, 12, 9, 4, 0.3)
    plain = [PLAIN[name](t, p) for t, p in zip(rows(*sides[:2]), rows(*sides[2:]), strict=True)]
    assert plain == peer(name, *sides).tolist()


@pytest.mark.parametrize("vocabulary", [2, 50_000, 2**31 - 1])
@pytest.mark.parametrize(("width", "other"), [(5, 5), (32, 7), (40, 64), (5, 60), (130, 200)])
@pytest.mark.parametrize("name", KERNELS)
def test_ragged_pairs_of_known_values(name: str, width: int, other: int, vocabulary: int, count: Callable[[int], int]):
    for seed in range(count(20)):
        for errors in (0.02, 0.5):
            sides = pairs(seed, 64, width, other, vocabulary, errors)
            expected = peer(name, *sides)
            assert np.array_equal(KERNELS[name](*sides), expected)
            assert np.array_equal(KERNELS[name](*scrambled(sides, seed)), expected)


@pytest.mark.parametrize("vocabulary", [250, None])
@pytest.mark.parametrize(("width", "other"), [(9, 20), (70, 30), (20, 70)])
@pytest.mark.parametrize("name", KERNELS)
def test_eager_jit_and_vmap_are_one(
    name: str, width: int, other: int, vocabulary: int | None, count: Callable[[int], int]
):
    def call(*sides: jax.Array) -> jax.Array:
        return KERNELS[name](*sides, vocabulary=vocabulary)

    jitted, mapped = jax.jit(call), jax.jit(jax.vmap(call))
    for seed in range(count(20)):
        sides = pairs(seed, 64, width, other, vocabulary or 2**31 - 1, 0.3)
        expected = peer(name, *sides)
        assert expected.tolist() == [
            PLAIN[name](*both) for both in zip(rows(*sides[:2]), rows(*sides[2:]), strict=True)
        ]
        inputs = tuple(jnp.asarray(side) for side in scrambled(sides, seed))
        for how in (call, jitted, mapped):
            found = how(*inputs)
            assert found.dtype == jnp.int32
            assert np.array_equal(found, expected)


@pytest.mark.parametrize("vocabulary", [4, 70_000])
@pytest.mark.parametrize(("width", "chosen"), [(16, "word"), (64, "double_word"), (64, "blocks"), (64, "host")])
@pytest.mark.parametrize("name", KERNELS)
def test_every_form(name: str, width: int, chosen: str, vocabulary: int):
    target, n, predicted, m = pairs(1, 64, width, width, vocabulary, 0.3)
    expected = peer(name, target, n, predicted, m)
    if chosen == "host":
        # the loosest of bounds
        bound = np.maximum(n, m) if name == "edit_distance" else np.zeros_like(n)
        found = getattr(host, name)(target, n, predicted, m, bound)
    else:
        wide = chosen == "double_word"
        with jax.enable_x64(wide):
            words = [bit_planes.planes(jnp.asarray(ids), 17) for ids in (target, predicted)]
            kernel = jax.jit(getattr(bit_planes, name), static_argnames=("width", "wide"))
            found = kernel(words[0], jnp.asarray(n), words[1], jnp.asarray(m), width=width, wide=wide)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("largest", [0xD7FE, 0xD800, 0xDFFF, 0x10FFFD, 0x10FFFE, 0x10FFFF, LARGEST])
@pytest.mark.parametrize("name", KERNELS)
def test_ids_that_are_no_characters(name: str, largest: int):
    rng = np.random.default_rng(2)
    target, predicted = rng.integers(largest - 3, largest + 1, (2, 20, 70)).astype(np.int32)
    full = np.full(20, 70, np.int32)
    assert np.array_equal(KERNELS[name](target, full, predicted, full), peer(name, target, full, predicted, full))


@pytest.mark.parametrize("name", KERNELS)
def test_long(name: str, count: Callable[[int], int]):
    sides = pairs(3, count(160), 2048, 2048, 50, 0.2)
    expected = peer(name, *sides)
    assert np.array_equal(KERNELS[name](*sides), expected)
    assert np.array_equal(jax.jit(KERNELS[name], static_argnames="vocabulary")(*sides, vocabulary=50), expected)


@pytest.mark.parametrize("name", KERNELS)
def test_chunks_and_batch_shapes(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alignment, "CHUNK", 64 * 8)
    sides = pairs(4, 6 * 35, 8, 8, 4, 0.6)
    expected = peer(name, *sides)
    shaped = [side.reshape(6, 35, *side.shape[1:]) for side in sides]
    assert np.array_equal(KERNELS[name](*shaped), expected.reshape(6, 35))
    assert KERNELS[name](*(side[:0] for side in shaped)).shape == (0, 35)


@pytest.mark.parametrize("name", KERNELS)
def test_known_values_inside_a_jit(name: str):
    for width in (20, 70):
        sides = pairs(5, 64, width, width, 9, 0.5)
        assert np.array_equal(jax.jit(lambda: KERNELS[name](*sides))(), peer(name, *sides))  # noqa: B023


@pytest.mark.parametrize("name", KERNELS)
def test_the_64_bit_flag_changes_nothing(name: str):
    for width in (20, 64):
        sides = pairs(5, 64, width, width, 9, 0.5)
        with jax.enable_x64(True):
            found = KERNELS[name](*sides), jax.jit(KERNELS[name])(*sides)
            assert jax.config.jax_enable_x64
        assert not jax.config.jax_enable_x64
        for score in found:
            assert score.dtype == jnp.int32
            assert np.array_equal(score, peer(name, *sides))


def test_form_names_the_choice():
    assert [form(length, "cpu") for length in (0, 32, 33, 64, 65, 2048)] == ["word"] * 2 + ["double_word"] * 2 + [
        "host"
    ] * 2
    assert [form(length, "cpu", known=False) for length in (32, 33)] == ["word", "blocks"]
    assert [form(length, "gpu") for length in (32, 33)] == ["word", "blocks"]


def test_importing_sets_no_flag():
    probe = (
        "import jax; before = dict(jax.config.values); import mirage_jax.kernels.alignment; "
        "assert dict(jax.config.values) == before"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr

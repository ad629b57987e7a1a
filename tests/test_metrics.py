"""Metrics against hand-computed cases, rapidfuzz, exact fractions, and the facts that METRICS declares of them."""

import inspect
import itertools
import math
from fractions import Fraction

import alarms
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein  # rapidfuzz 3.14.6

from mirage_jax import METRICS, Attempts, Characters, Choices, Errors, Tokens, evaluate, tokenize
from mirage_jax.metrics import attempts, choices, facts, ngrams, text, vision
from mirage_jax.outcomes import check

EPS = float(np.finfo(np.float32).eps)
TOKEN_METRICS = (
    "exact_match",
    "prefix_match",
    "token_accuracy",
    "token_edit_distance",
    "token_edit_distance_normalised",
)


def padded(sequences, width=None, fill=0):
    """[samples, width] ids and [samples] lengths; `fill` lies under the padding."""
    length = np.array([len(s) for s in sequences], np.int32)
    out = np.full((len(sequences), int(length.max()) if width is None else width), fill, np.int32)
    for row, sequence in zip(out, sequences, strict=True):
        row[: len(sequence)] = sequence
    return out, length


def random_sequences(rng, samples, longest, vocabulary):
    return [rng.integers(0, vocabulary, rng.integers(0, longest + 1)).tolist() for _ in range(samples)]


# --- token sequences, by hand ---


@pytest.mark.parametrize(
    ("target", "predicted", "exact", "prefix", "accuracy", "edits", "normalised"),
    [
        ("1234", "1234", 1, 1, 1, 0, 0),
        ("1234", "2341", 0, 0, 0, 2, 2 / 4),  # four mismatched positions, two edits: Levenshtein <= Hamming
        ("1234", "", 0, 0, 0, 4, 1),
        ("1234", "124", 0, 2 / 4, 2 / 4, 1, 1 / 4),
        ("1234", "12345", 0, 1, 1, 1, 1 / 5),
        ("1234", "1934", 0, 1 / 4, 3 / 4, 1, 1 / 4),
        ("kitten", "sitting", 0, 0, 4 / 6, 3, 3 / 7),
        ("1", "2", 0, 0, 0, 1, 1),
        ("", "", 1, math.nan, math.nan, 0, 0),
        ("", "12", 0, math.nan, math.nan, 2, 1),
    ],
)
def test_token_metrics_by_hand(target, predicted, exact, prefix, accuracy, edits, normalised):
    found = evaluate(tokenize([target], [predicted]), TOKEN_METRICS)
    expected = dict(zip(TOKEN_METRICS, (exact, prefix, accuracy, edits, normalised), strict=True))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value], rtol=EPS, err_msg=name)  # one division of small integers


def test_nll_by_hand():
    log_prob = np.log(np.array([[0.5, 0.25, 0.9], [0.5, 0.1, 0.1], [0.1, 0.1, 0.1]], np.float32))
    ids = np.zeros((3, 3), np.int32)
    outcome = Tokens(ids, np.array([2, 1, 0], np.int32), ids, np.array([0, 0, 0], np.int32), log_prob)
    np.testing.assert_allclose(evaluate(outcome, "nll")["nll"], [math.log(8), math.log(2), 0.0], rtol=4 * EPS)


# --- token edit distance against rapidfuzz ---


@pytest.mark.parametrize(("longest", "other"), [(0, 4), (4, 0), (1, 1), (8, 5), (5, 8), (33, 40)])
@pytest.mark.parametrize("vocabulary", [2, 10])
def test_edit_distance_equals_rapidfuzz(longest, other, vocabulary, count):
    rng = np.random.default_rng([longest, other, vocabulary])
    pairs = count(2000)
    target, predicted = (
        random_sequences(rng, pairs, longest, vocabulary),
        random_sequences(rng, pairs, other, vocabulary),
    )
    outcome = Tokens(*padded(target, longest), *padded(predicted, other))
    found = evaluate(outcome, ("token_edit_distance", "token_edit_distance_normalised"))
    both = list(zip(target, predicted, strict=True))
    np.testing.assert_array_equal(found["token_edit_distance"], [Levenshtein.distance(*pair) for pair in both])
    expected = np.array([Levenshtein.normalized_distance(*pair) for pair in both])
    np.testing.assert_allclose(found["token_edit_distance_normalised"], expected, rtol=EPS)


@given(st.lists(st.tuples(st.text(max_size=16), st.text(max_size=16)), min_size=1, max_size=4))
def test_edit_distance_of_any_text_equals_rapidfuzz(pairs):
    pairs = pairs + [("x" * 16, "y" * 16)] * (5 - len(pairs))  # one shape, one compilation
    found = evaluate(tokenize(*zip(*pairs, strict=True)), "token_edit_distance")["token_edit_distance"]
    np.testing.assert_array_equal(found, [Levenshtein.distance(*map(list, pair)) for pair in pairs])


def test_levenshtein_is_at_most_hamming_and_equal_at_few_errors():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, (500, 12)).astype(np.int32)
    predicted = np.where(rng.random(target.shape) < 0.6, target, rng.integers(0, 3, target.shape)).astype(np.int32)
    length = np.full(500, 12, np.int32)
    edits = np.asarray(
        evaluate(Tokens(target, length, predicted, length), "token_edit_distance")["token_edit_distance"]
    )
    hamming = (target != predicted).sum(1)
    assert (edits <= hamming).all()
    assert (edits < hamming).any()  # the paper's appendix (equation 6) has the inequality the other way round
    one = hamming <= 1
    np.testing.assert_array_equal(edits[one], hamming[one])


# --- forms of calling ---

LEAVES = {name: getattr(text, name) for name in TOKEN_METRICS}


@pytest.fixture(scope="module")
def ragged():
    rng = np.random.default_rng(1)
    arrays = (*padded(random_sequences(rng, 6, 5, 3), 5), *padded(random_sequences(rng, 6, 7, 3), 7))
    return tuple(jnp.asarray(a) for a in arrays)


@pytest.mark.parametrize("name", TOKEN_METRICS)
def test_eager_jitted_and_vmapped_are_equal(name, ragged):
    leaf = LEAVES[name]
    eager = np.asarray(leaf(*ragged))
    np.testing.assert_array_equal(eager, jax.jit(leaf)(*ragged))
    np.testing.assert_array_equal(eager, jax.vmap(leaf)(*ragged))
    np.testing.assert_array_equal(eager, evaluate(Tokens(*ragged), name)[name])
    grid = leaf(*(a.reshape(2, 3, *a.shape[1:]) for a in ragged))
    np.testing.assert_array_equal(eager.reshape(2, 3), grid)
    np.testing.assert_array_equal(eager[0], leaf(*(a[0] for a in ragged)))


@pytest.mark.parametrize("scramble", [-7, 2, 10**9])
def test_what_lies_under_the_padding_changes_nothing(scramble):
    rng = np.random.default_rng(2)
    target, predicted = random_sequences(rng, 40, 6, 3), random_sequences(rng, 40, 6, 3)
    names = (*TOKEN_METRICS, "nll")
    log_prob = np.log(rng.random((40, 6), np.float32) + 1e-3).clip(max=0)
    plain = Tokens(*padded(target, 6), *padded(predicted, 6), log_prob)
    under = np.arange(6) >= plain.target_length[:, None]
    other = Tokens(*padded(target, 6, scramble), *padded(predicted, 6, scramble), np.where(under, np.nan, log_prob))
    for name, value in evaluate(plain, names).items():
        np.testing.assert_array_equal(value, evaluate(other, names)[name], err_msg=name)


def test_options_that_do_not_exist_change_nothing():
    rng = np.random.default_rng(3)
    log_prob = np.log(rng.dirichlet(np.ones(3), 20)).astype(np.float32)
    weight, real = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 20)], np.ones((20, 3), bool)
    wide = [
        np.concatenate([a, np.full((20, 2), fill, a.dtype)], 1) for a, fill in ((log_prob, 5), (real, 0), (weight, 9))
    ]
    names = facts.for_outcome(Choices(log_prob, real, weight))
    plain, padded_ = evaluate(Choices(log_prob, real, weight), names), evaluate(Choices(*wide), names)
    for name in names:
        np.testing.assert_allclose(plain[name], padded_[name], rtol=8 * EPS, atol=8 * EPS, err_msg=name)


# --- multiple choice, by hand ---


def one_item(p, right=0, **more):
    p = np.atleast_2d(np.asarray(p, np.float32))
    weight = np.zeros_like(p)
    weight[:, right] = 1
    with np.errstate(divide="ignore"):
        return Choices(np.log(p), np.ones(p.shape, bool), weight, **more)


@pytest.mark.parametrize(
    ("p", "right", "grade", "total", "target"),
    [
        ([0.25, 0.25, 0.25, 0.25], 0, 1, 0.75, 0.5625),  # uniform over 4: 9/16 + 3/16; of equal options the first
        ([0.25, 0.25, 0.25, 0.25], 1, 0, 0.75, 0.5625),
        ([0.7, 0.2, 0.1], 0, 1, 0.14, 0.09),
        ([0.7, 0.2, 0.1], 2, 0, 0.49 + 0.04 + 0.81, 0.81),
        ([1.0, 0.0], 0, 1, 0, 0),
        ([1.0, 0.0], 1, 0, 2, 1),
        ([0.07, 0.02, 0.01], 0, 1, 0.14, 0.09),  # mass outside the options is renormalised away
    ],
)
def test_choice_metrics_by_hand(p, right, grade, total, target):
    found = evaluate(
        one_item(p, right), ("multiple_choice_grade", "brier_sum", "brier_half", "brier_mean", "brier_target")
    )
    expected = {
        "multiple_choice_grade": grade,
        "brier_sum": total,
        "brier_half": total / 2,
        "brier_mean": total / len(p),
    }
    for name, value in {**expected, "brier_target": target}.items():
        np.testing.assert_allclose(found[name], [value], rtol=16 * EPS, atol=16 * EPS, err_msg=name)


def test_two_options_brier_half_is_brier_target():
    p = np.linspace(0.01, 0.99, 50, dtype=np.float32)
    found = evaluate(one_item(np.stack([p, 1 - p], 1)), ("brier_half", "brier_target"))
    np.testing.assert_allclose(found["brier_half"], found["brier_target"], rtol=1e-4, atol=4 * EPS)
    np.testing.assert_allclose(found["brier_target"], (1 - p) ** 2, rtol=1e-4, atol=4 * EPS)


def test_grade_normalisations_by_hand():
    item = Choices(
        np.array([[-4.0, -3.0, -6.0]], np.float32), np.ones((1, 3), bool), np.array([[1.0, 0.5, 0.25]], np.float32),
        length=np.array([[2, 1, 6]], np.int32), prior_log_prob=np.array([[-3.0, -1.0, -5.5]], np.float32),
    )  # fmt: skip
    # raw: -3 is largest (.5); per token: -2, -3, -1 (.25); less the prior: -1, -2, -.5 (.25)
    for normalise, weight in (("none", 0.5), ("length", 0.25), ("pmi", 0.25)):
        assert evaluate(item, "multiple_choice_grade", normalise=normalise)["multiple_choice_grade"] == weight


def test_several_right_options():
    item = Choices(
        np.log(np.array([[0.5, 0.3, 0.2]], np.float32)), np.ones((1, 3), bool), np.array([[1.0, 1.0, 0.0]], np.float32)
    )
    found = evaluate(item, ("brier_sum", "brier_target"))
    np.testing.assert_allclose(found["brier_sum"], [0 + 0.04 + 0.04], rtol=32 * EPS, atol=8 * EPS)  # y = (.5, .5, 0)
    np.testing.assert_allclose(found["brier_target"], [0.04], rtol=32 * EPS, atol=8 * EPS)  # 1 - .8


@pytest.mark.parametrize("name", ["brier_sum", "brier_half", "brier_mean", "brier_target"])
def test_brier_of_an_item_without_a_right_option_is_nan(name):
    item = Choices(np.log(np.full((1, 2), 0.5, np.float32)), np.ones((1, 2), bool), np.zeros((1, 2), np.float32))
    assert np.isnan(evaluate(item, name)[name]).all()


def test_pmi_never_prefers_an_impossible_option():
    item = Choices(
        np.array([[-1.0, -np.inf]], np.float32), np.ones((1, 2), bool), np.array([[1.0, 0.0]], np.float32),
        prior_log_prob=np.array([[-1.0, -np.inf]], np.float32),
    )  # fmt: skip
    assert evaluate(item, "multiple_choice_grade", normalise="pmi")["multiple_choice_grade"] == 1


def test_reconstruction_is_strict():
    squared = np.array([0.0, 0.5, 1.0, 2.0], np.float32)
    np.testing.assert_array_equal(evaluate(Errors(squared), "reconstruction", c=1.0)["reconstruction"], [1, 1, 0, 0])
    np.testing.assert_array_equal(evaluate(Errors(squared), "squared_error")["squared_error"], squared)


# --- repeated attempts ---

GRID = [(n, c, k) for n in (1, 2, 5, 10, 37) for c in range(n + 1) for k in (1, 2, 3, 5, 10)]


def test_pass_at_k_vectors():
    np.testing.assert_allclose(attempts.pass_at_k(jnp.array(10), jnp.array(3), 5), 0.916667, atol=5e-7)
    np.testing.assert_allclose(attempts.pass_at_k(jnp.array(5), jnp.array(2), 3), 0.9, rtol=24 * EPS)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("name", ["pass_at_k", "subset_accuracy"])
def test_attempts_equal_exact_fractions(name, k):
    n, c = np.array([(n, c) for n, c, j in GRID if j == k], np.int32).T

    def exact(n, c):
        if n < k:
            return math.nan
        wrong = Fraction(math.comb(n - c, k), math.comb(n, k))
        return float(1 - wrong if name == "pass_at_k" else Fraction(math.comb(c, k), math.comb(n, k)))

    found = evaluate(Attempts(n, c), name, **{"k" if name == "pass_at_k" else "K": k})[name]
    # k roundings of half an eps in the product (or the sum of logarithms), doubled, and a few for log1p and expm1
    expected = [exact(int(i), int(j)) for i, j in zip(n, c, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=(2 * k + 8) * EPS)


def test_pass_at_k_keeps_the_digits_of_small_rates():
    found = attempts.pass_at_k(jnp.array(10**6), jnp.array(1), 10)  # 1 - C(n-1, 10)/C(n, 10) = 10/n
    np.testing.assert_allclose(found, 1e-5, rtol=28 * EPS)


@pytest.mark.parametrize("p", [0.02, 0.5, 0.97])
@pytest.mark.parametrize(("n", "k"), [(3, 3), (7, 2), (30, 6)])
def test_attempts_are_unbiased(n, k, p):
    c = np.arange(n + 1)
    weight = np.array([math.comb(n, int(i)) * p**i * (1 - p) ** (n - i) for i in c])
    items = Attempts(np.full(c.shape, n, np.int32), c.astype(np.int32))
    passed, subset = evaluate(items, "pass_at_k", k=k)["pass_at_k"], evaluate(items, "subset_accuracy", K=k)
    assert weight @ np.asarray(passed, float) == pytest.approx(1 - (1 - p) ** k, abs=(2 * k + 8) * EPS)
    assert weight @ np.asarray(subset["subset_accuracy"], float) == pytest.approx(p**k, abs=(2 * k + 8) * EPS)


# --- the facts of METRICS, against inputs ---

VARIANTS = [(name, {}) for name, metric in METRICS.items() if facts.REQUIRED not in metric.options.values()] + [
    ("reconstruction", {"c": 0.5}),
    ("subset_accuracy", {"K": 1}),
    ("subset_accuracy", {"K": 3}),
    ("pass_at_k", {"k": 1}),
    ("pass_at_k", {"k": 3}),
    *((f"bleu_{n}", {"level": "sentence", "smooth": smooth}) for n, smooth in ((1, "none"), (3, "exp"), (4, "none"))),
    ("perplexity", {"level": "corpus"}),
    ("bits_per_byte", {"level": "corpus"}),
    ("expected_calibration_error", {"binning": "adaptive"}),
]
FIRST = {name: options for name, options in reversed(VARIANTS)}  # one variant of each metric
DIGIT = ord("0")


def score_of(outcome, name, options):
    return np.asarray(evaluate(outcome, name, **options)[name], float)


def sequences(name, target, target_length, predicted, predicted_length, log_prob=None):
    """Small ids as the outcome that a metric reads: as they are, or as the characters 0, 1, 2, ..."""
    kind = METRICS[name].outcome
    shift = DIGIT if kind is Characters else 0
    one = [np.zeros(side.shape, np.int32) for side in (target, predicted)]
    size = target_length * 2
    return kind(target + shift, target_length, predicted + shift, predicted_length, log_prob, *one, size)


def random_outcome(name, rng, samples=300):
    kind = METRICS[name].outcome
    if issubclass(kind, Tokens):
        target, predicted = random_sequences(rng, samples, 6, 3), random_sequences(rng, samples, 6, 3)
        target = [t or [0] for t in target]
        log_prob = np.log(rng.random((samples, 6)) + 1e-6).clip(max=0).astype(np.float32)
        return sequences(name, *padded(target, 6), *padded(predicted, 6), log_prob)
    if kind is Choices:
        p = rng.dirichlet(np.ones(4), samples)
        weight = np.eye(4, dtype=np.float32)[rng.integers(0, 4, samples)]
        return Choices(np.log(p).astype(np.float32), np.ones((samples, 4), bool), weight)
    if kind is Errors:
        return Errors(rng.exponential(1.0, samples).astype(np.float32))
    n = rng.integers(3, 20, samples).astype(np.int32)
    return Attempts(n, rng.integers(1, n + 1).astype(np.int32))


def perfect_outcome(name):
    kind = METRICS[name].outcome
    if issubclass(kind, Tokens):
        width = 6 if name == "lcs_length" else 4  # a subsequence of the longest random sequence, and a 4-gram
        ids, length = padded([[1, 0, 2, 1, 0, 2][:width]])
        return sequences(name, ids, length, ids, length, np.zeros((1, width), np.float32))
    if kind is Choices:
        return one_item([1.0, 0.0, 0.0])
    return Errors(np.zeros(1, np.float32)) if kind is Errors else Attempts(np.array([9]), np.array([9]))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_bounds_and_direction(name, options):
    metric = METRICS[name]
    score = score_of(random_outcome(name, np.random.default_rng(5)), name, options)
    low, high = metric.bounds
    assert np.isfinite(score).all()
    assert low <= score.min() and score.max() <= high * (1 + 4 * EPS)
    assert score.shape == (() if metric.fact("unit", **options) == "set" else (300,))
    assert score.ndim == 0 or score.min() < score.max()
    best = float(score_of(perfect_outcome(name), name, options).max())
    end = high if metric.direction == "higher" else low
    assert best == (6 if end == math.inf else pytest.approx(end, abs=2 * EPS))  # 6: lcs_length of six tokens
    assert (score <= best).all() if metric.direction == "higher" else (score >= best).all()


L = 4
P = np.array([0.1, 0.3, 0.5, 0.7, 0.9])


def expected_scores(name, options):
    """Expected score at each p of P, exactly: over all error patterns, or at a probability, or over all counts."""
    metric = METRICS[name]
    kind, of_set = metric.outcome, metric.fact("unit", **options) == "set"
    if "target_log_prob" in metric.needs:
        ids = np.tile(np.arange(L, dtype=np.int32), (5, 1))
        log_prob = np.repeat(np.log(P)[:, None], L, 1).astype(np.float32)
        outcome = sequences(name, ids, np.full(5, L, np.int32), ids, np.full(5, L, np.int32), log_prob)
        return per_row(outcome, name, options, of_set)
    if issubclass(kind, Tokens):
        right = np.array(list(itertools.product([0, 1], repeat=L)), bool)
        target = np.tile(np.array([0, 1, 0, 1], np.int32), (len(right), 1))
        predicted = np.where(right, target, 1 - target).astype(np.int32)
        weight = np.where(right, P[:, None, None], 1 - P[:, None, None]).prod(-1)
        size = np.full(len(right), L, np.int32)
        if not of_set:
            return weight @ score_of(sequences(name, target, size, predicted, size), name, options)
        copies = np.round(weight * 10**L).astype(int)  # a corpus that holds each pattern as often as it is expected
        assert (copies.sum(1) == 10**L).all()
        some = (np.repeat(np.arange(len(right)), many) for many in copies)
        return np.array(
            [
                score_of(sequences(name, target[i], size[0] + 0 * i, predicted[i], size[0] + 0 * i), name, options)
                for i in some
            ]
        )
    if kind is Choices:
        return per_row(one_item(np.stack([P, 0.9 * (1 - P), 0.1 * (1 - P)], 1)), name, options, of_set)
    if kind is Errors:
        return score_of(Errors(P.astype(np.float32)), name, options)
    n = 8
    c = np.arange(n + 1)
    weight = np.array([[math.comb(n, int(i)) * p**i * (1 - p) ** (n - i) for i in c] for p in P])
    if name == "pass_until":  # until r = 2 successes, at most n attempts: the last attempt of a run that stops is right
        options, r = {"r": 2}, 2
        stop = [(k, r, math.comb(k - 1, r - 1)) for k in range(r, n + 1)]
        capped = [(n, c, math.comb(n, c)) for c in range(r)]
        runs = stop + capped
        weight = np.array([[ways * p**c * (1 - p) ** (k - c) for k, c, ways in runs] for p in P])
        np.testing.assert_allclose(weight.sum(1), 1)
        return weight @ score_of(Attempts(*np.array(runs, np.int32).T[:2]), name, options)
    return weight @ score_of(Attempts(np.full(n + 1, n, np.int32), c.astype(np.int32)), name, options)


def per_row(outcome, name, options, of_set):
    """The score of each sample; of a metric of sets, of each sample as a set of its own."""
    if not of_set:
        return score_of(outcome, name, options)
    rows = (jax.tree.map(lambda field: field[i : i + 1], outcome) for i in range(len(P)))  # noqa: B023
    return np.array([score_of(row, name, options) for row in rows])


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_declared_linear_is_linear_and_nothing_else_is(name, options):
    curve = expected_scores(name, options)
    bend = np.abs(np.diff(curve, 2)).max()  # P is evenly spaced: 0 for a line, up to float32 rounding of the scores
    assert (bend < 32 * EPS * max(1.0, np.abs(curve).max())) == METRICS[name].fact("linear", **options)


def smallest_change(name, options):
    """Largest move of a score, as a share of its range, over the smallest changes there are, and what is small."""
    metric, step = METRICS[name], 1e-3
    kind, of_set = metric.outcome, metric.fact("unit", **options) == "set"
    if "target_log_prob" in metric.needs:
        ids, length = padded([list(range(L))] * 2)
        log_prob = np.log(np.full((2, L), 0.5, np.float32))
        log_prob[1, 0] += step
        outcome = sequences(name, ids, length, ids, length, log_prob)
        if of_set:
            one, other = (jax.tree.map(lambda x: x[i : i + 1], outcome) for i in (0, 1))  # noqa: B023
            return abs(score_of(one, name, options) - score_of(other, name, options)), 2 * step
        score = score_of(outcome, name, options)
        return abs(float(score[1] - score[0])), 2 * step
    if issubclass(kind, Tokens):
        rng = np.random.default_rng(6)
        width = 40  # one token is then in a small part of the n-grams
        target = rng.integers(0, 2, (400, width)).astype(np.int32)
        before = np.where(rng.random((400, width)) < 0.5, target, 1 - target).astype(np.int32)
        before[0] = target[0]
        after, where = before.copy(), rng.integers(0, width, 400)
        after[np.arange(400), where] ^= 1
        if of_set:  # one token of one sample
            after[1:] = before[1:]
        elif "bleu" in name:  # a sentence with many n-grams of every lower order, that gains its first of this one
            order = int(name[-1])
            target[1], before[1] = 0, np.resize([0] * (order - 1) + [1], width)
            before[1, order] = 1
            after[1] = before[1]
            after[1, order - 1] = 0
        length = np.full(400, width, np.int32)
        move = [score_of(sequences(name, target, length, side, length), name, options) for side in (before, after)]
        scale = width if metric.bounds[1] == math.inf else 1
        share = (400 if of_set else 1) * width
        # a token stands in up to n n-grams of each order n, and in F1 counts once on either side
        return np.abs(move[0] - move[1]).max() / scale, (6 if name == "chrf" else 4) / share + 4 * EPS
    if kind is Choices:
        p = np.array([0.4 - step / 2, 0.4 + step / 2], np.float32)
        items = [one_item([[x, 0.8 - x, 0.2]]) for x in p]
        score = [score_of(item, name, options).item() for item in items]
        return abs(score[1] - score[0]), 4 * step
    if kind is Errors:
        score = score_of(Errors(np.array([0.5 - step / 2, 0.5 + step / 2], np.float32)), name, options)
        return abs(float(score[1] - score[0])), 2 * step
    n = 300  # one attempt of many more; each of k drawn ones may be it
    c = np.arange(1, n + 1, dtype=np.int32)
    score = score_of(Attempts(np.full(n, n, np.int32), c), name, options)
    return np.abs(np.diff(score)).max(), max(1, *options.values(), 1) / (n - 1) + 8 * EPS


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_declared_continuous_gives_partial_credit_and_nothing_else_does(name, options):
    move, small = smallest_change(name, options)
    assert (move <= small) == METRICS[name].fact("continuous", **options)


CLOSED = [(name, options) for name, options in VARIANTS if METRICS[name].closed_form is not None]


@pytest.mark.parametrize("p", [0.3, 0.8])
@pytest.mark.parametrize(("name", "options"), CLOSED)
def test_closed_form_against_simulated_independent_errors(name, options, p):
    rng = np.random.default_rng([7, int(10 * p)])
    metric = METRICS[name]
    samples, length = 20_000, 5
    taken = facts.options_of(name, **options)
    law = float(metric.closed_form(p, length, **taken))
    if issubclass(metric.outcome, Tokens):
        # wrong tokens are seen nowhere else, except for the distances, whose law counts mismatched positions
        distances = name.startswith("token_edit_distance")
        target = rng.integers(0, 10, (samples, length))
        wrong = (target + rng.integers(1, 10, target.shape)) % 10 if distances else 10 + np.arange(length)
        predicted = np.where(rng.random(target.shape) < p, target, wrong)
        size = np.full(samples, length, np.int32)
        log_prob = np.full(target.shape, math.log(p), np.float32)
        if not distances:
            target = target * 0 + np.arange(length)  # no token twice
            predicted = np.where(predicted < 10, target, predicted)
        outcome = sequences(name, target.astype(np.int32), size, predicted.astype(np.int32), size, log_prob)
    elif metric.outcome is Choices:
        outcome = one_item(np.tile([p, 1 - p], (2, 1)))
    elif name == "pass_until":
        n = rng.negative_binomial(3, p, samples) + 3
        outcome = Attempts(n.astype(np.int32), np.full(samples, 3, np.int32))
    else:
        outcome = Attempts(np.full(samples, 12, np.int32), rng.binomial(12, p, samples).astype(np.int32))
    score = score_of(outcome, name, options)
    if metric.fact("unit", **options) == "set":
        # delta method: the score moves by at most (order + 1) / 2 times the relative error of a precision
        assert abs(score - law) <= (
            alarms.sigmas() * law * 2.5 * math.sqrt(max(1 - p**4, 0) / (p**4 * samples)) + 32 * EPS * max(1, law)
        )
        return
    slack = alarms.sigmas() * score.std(ddof=1) / math.sqrt(score.size) + 32 * EPS * max(1, abs(law))
    if name.startswith("token_edit_distance"):  # counts mismatched positions: an upper bound, and near it
        assert score.mean() <= law + slack
        assert score.mean() >= 0.95 * law - slack  # science 2.2: .883/.900 at V=10, L=5, error .9, the worst of these
    elif "bleu" in name:  # of one sentence it is no ratio of means; its law is the corpus's
        return
    elif np.isin(score, (0.0, 1.0)).all():
        assert alarms.counts(int(score.sum()), score.size, law)
    else:
        assert abs(score.mean() - law) <= slack


# --- refusals ---

IDS, LENGTH = np.zeros((2, 3), np.int32), np.array([3, 3], np.int32)
GOOD = Tokens(IDS, LENGTH, IDS, LENGTH)
ITEM = one_item([0.5, 0.5])
PAIR = Attempts(np.array([5, 5]), np.array([2, 3]))
LETTERS = Characters(*GOOD)
UNTYPED_BLEU, UNTYPED_CALIBRATION = map(inspect.unwrap, (ngrams.bleu, choices.expected_calibration_error))
SEVERAL = GOOD._replace(
    target=np.stack([IDS, IDS]), target_length=np.stack([LENGTH, LENGTH]), target_log_prob=np.zeros((2, 2, 3))
)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluate(GOOD, "exact"), r"unknown metric 'exact'; known: exact_match, "),
        (lambda: evaluate(GOOD, ()), r"no metric named; for Tokens: exact_match"),
        (lambda: evaluate(GOOD, "brier_sum"), r"brier_sum reads Choices, got Tokens"),
        (lambda: evaluate(GOOD, "nll"), r"nll needs Tokens\.target_log_prob"),
        (lambda: evaluate(GOOD, "exact_match", K=3), r"no named metric takes the option K"),
        (lambda: evaluate(GOOD, "exact_match", vocabulary=0), r"vocabulary must be >= 1, got 0"),
        (lambda: evaluate(GOOD, "chrf"), r"chrf reads Characters \(ids that are code points: see tokenize\), got Tokens"),
        (lambda: evaluate(GOOD, "rouge_l_sum"), r"rouge_l_sum needs Tokens\.target_sentence"),
        (lambda: evaluate(GOOD, "bleu_4", level="item"), r"level must be corpus or sentence, got 'item'"),
        (lambda: UNTYPED_BLEU(jnp.ones(4), smooth="laplace"), r"smooth must be none, floor, add-k, exp, got 'laplace'"),
        (lambda: evaluate(GOOD, "bleu_4", smooth_value=1.0), r"goes with floor or add-k, got 1\.0 with exp"),
        (lambda: evaluate(LETTERS, "chrf", order=0), r"order >= 1 and beta > 0, got 0"),
        (lambda: evaluate(LETTERS, "chrf", beta=0.0), r"order >= 1 and beta > 0, got 6 and 0"),
        (lambda: evaluate(LETTERS, "chrf", order=2.5), r"chrf needs a whole number order, got 2\.5"),
        (lambda: evaluate(LETTERS, "numeric_match", relative_error=-1.0), r"relative_error >= 0, got -1\.0"),
        (lambda: evaluate(ITEM, "expected_calibration_error", bins=0), r"bins >= 1 .* got 0"),
        (lambda: UNTYPED_CALIBRATION(*jnp.ones((2, 2)), 5, "mass"), r"binning width or adaptive, .* 'mass'"),
        (lambda: evaluate(PAIR, "pass_until", r=0), r"pass_until needs r >= 1, got 0"),
        (lambda: evaluate(SEVERAL, "nll"), r"nll reads one target per item, got 2 references"),
        (lambda: check(SEVERAL._replace(target_length=np.full((3, 2), 3))), r"same references \(>= 1\) in each target field"),
        (lambda: check(SEVERAL._replace(target_length=np.full((2, 3), 3))), r"must share their batch shape"),
        (lambda: check(LETTERS._replace(target=IDS + 0x110000)), r"target must be < vocabulary = 1114112"),
        (lambda: check(GOOD._replace(target_sentence=np.array([[0, 1, 0]] * 2))), r"never falling .* got 0 at \[0, 2\]"),
        (lambda: check(GOOD._replace(target_bytes=np.array([-1, 0]))), r"target_bytes must be >= 0, got -1"),
        (lambda: evaluate(PAIR, "subset_accuracy"), r"subset_accuracy needs the option K"),
        (lambda: evaluate(PAIR, "subset_accuracy", K=0), r"needs K >= 1, got 0"),
        (lambda: evaluate(PAIR, "pass_at_k", k=0), r"needs k >= 1, got 0"),
        (lambda: evaluate(Errors(np.ones(2)), "reconstruction", c=0.0), r"needs c > 0, got 0"),
        (lambda: inspect.unwrap(choices.multiple_choice_grade)(*ITEM, normalise="mean"), r"length or pmi, got 'mean'"),
        (lambda: evaluate(ITEM, "multiple_choice_grade", normalise="length"), r"needs Choices\.length"),
        (lambda: evaluate(ITEM, "multiple_choice_grade", normalise="pmi"), r"needs Choices\.prior_log_prob"),
        (lambda: check(GOOD._replace(target=np.int32(1))), r"needs a trailing token or choice axis"),
        (lambda: check(GOOD._replace(target_length=LENGTH[:1])), r"must share their batch shape"),
        (lambda: check(ITEM._replace(weight=np.ones((1, 3)))), r"Choices fields must have one shape"),
        (lambda: check(GOOD._replace(target_log_prob=np.zeros((2, 2)))), r"must have one shape"),
        (lambda: check(Errors(np.zeros(0))), r"Errors holds no samples"),
        (lambda: check(Tokens(IDS[:0], LENGTH[:0], IDS[:0], LENGTH[:0])), r"Tokens holds no samples"),
        (lambda: check(GOOD._replace(target=np.zeros((2, 3)))), r"Tokens\.target must hold integers, got float64"),
        (lambda: check(PAIR._replace(n=np.array([5.0, 5.0]))), r"Attempts\.n must hold integers"),
        (lambda: check(GOOD._replace(target_length=np.array([3, 4]))), r"target_length must be in \[0, 3\], got 4 at \[1\]"),
        (lambda: check(GOOD._replace(predicted_length=np.array([-1, 3]))), r"predicted_length .* got -1 at \[0\]"),
        (lambda: check(GOOD._replace(predicted=np.array([[0, 0, 0], [0, -2, 0]]))), r"predicted .* >= 0, got -2 at \[1, 1\]"),
        (lambda: check(GOOD._replace(target=np.full((2, 3), 9)), 9), r"target must be < vocabulary = 9, got 9 at \[0, 0\]"),
        (lambda: check(GOOD._replace(target_log_prob=np.full((2, 3), 0.1))), r"target_log_prob must be a log-probability"),
        (lambda: check(GOOD._replace(target_log_prob=np.full((2, 3), np.nan))), r"target_log_prob .* got nan"),
        (lambda: check(ITEM._replace(real=np.zeros((1, 2), bool))), r"item \[0\] has no option"),
        (lambda: check(ITEM._replace(log_prob=np.array([[0.5, -1.0]]))), r"log_prob must be .* got 0\.5 at \[0, 0\]"),
        (lambda: check(ITEM._replace(log_prob=np.full((1, 2), -np.inf))), r"no option of finite log-probability"),
        (lambda: check(ITEM._replace(weight=np.array([[1.5, 0.0]]))), r"weight must be in \[0, 1\], got 1\.5"),
        (lambda: check(ITEM._replace(length=np.array([[0, 1]]))), r"length must be >= 1, got 0"),
        (lambda: check(ITEM._replace(prior_log_prob=np.ones((1, 2)))), r"prior_log_prob must be a log-probability"),
        (lambda: check(Errors(np.array([1.0, -1.0]))), r"squared must be >= 0, got -1\.0 at \[1\]"),
        (lambda: check(Errors(np.array([1.0, np.nan]))), r"squared must be >= 0, got nan at \[1\]"),
        (lambda: check(PAIR._replace(n=np.array([0, 5]))), r"n must be >= 1, got 0 at \[0\]"),
        (lambda: check(PAIR._replace(correct=np.array([6, 0]))), r"correct must be in \[0, n\], got 6"),
        (lambda: check(PAIR._replace(correct=np.array([0, -1]))), r"correct must be in \[0, n\], got -1 at \[1\]"),
    ],
)  # fmt: skip
def test_refusals_say_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_outcome_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="expected Tokens, Choices, Errors or Attempts, got tuple"):
        inspect.unwrap(evaluate)((1, 2), "exact_match")  # past the type hook of the tests


def test_inside_a_callers_jit_only_shapes_are_checked():
    score = jax.jit(lambda squared: evaluate(Errors(squared), "squared_error")["squared_error"])
    assert float(score(jnp.array([-1.0]))[0]) == -1.0
    with pytest.raises(ValueError, match="holds no samples"):
        score(jnp.zeros(0))


def test_for_outcome_names_what_needs_no_option():
    of_tokens = facts.for_outcome(GOOD)
    assert set(TOKEN_METRICS) | {"lcs_length", "rouge_1", "rouge_2", "rouge_l", "bleu_4", "token_f1"} < set(of_tokens)
    assert {"nll", "rouge_l_sum", "chrf", "numeric_match"}.isdisjoint(of_tokens)
    assert "nll" in facts.for_outcome(GOOD._replace(target_log_prob=np.zeros((2, 3))))
    assert {"chrf", "numeric_match", "exact_match_caseless"} < set(facts.for_outcome(Characters(*GOOD)))
    several = GOOD._replace(target=IDS[None], target_length=LENGTH[None], target_log_prob=np.zeros((1, 2, 3)))
    assert facts.for_outcome(several) == of_tokens  # likelihoods read one target
    assert facts.for_outcome(PAIR) == ("pass_until",)


@pytest.mark.parametrize("leaf", [vision.squared_error, choices.brier_target])
def test_leaf_functions_keep_the_batch_shape(leaf):
    assert leaf(jnp.zeros((2, 3))).shape == (2, 3)

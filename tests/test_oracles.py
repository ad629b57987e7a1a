"""Metrics against independent implementations on random cases: 100,000 for each metric under `--soak`, 2,000 in a plain run.

The oracles are rapidfuzz 3.14.6, rouge_score 0.1.2, sacrebleu 2.6.0, scikit-learn 1.9.1, and plain Python (exact fractions)
or float64 twins where no package defines the quantity. Scores that are counts agree exactly, others to 10^-6.
"""

import math
import re
import string
from collections import Counter
from fractions import Fraction
from functools import partial
from itertools import chain, combinations

import alarms
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rapidfuzz.distance import LCSseq, Levenshtein
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import BLEU, CHRF
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from mirage_jax import METRICS, Attempts, Characters, Choices, Errors, Tokens, evaluate, table, tokenize
from mirage_jax.metrics import characters, choices, facts, ngrams, rouge, text

pytestmark = pytest.mark.usefixtures("quick_compile")

EPS = float(np.finfo(np.float32).eps)
BLOCKS = ((32, 1, 79_200), (32, 4, 19_800), (128, 1, 950), (2048, 1, 50))  # longest, references, cases: 100,000 in all
VOCABULARIES = np.array([2, 3, 5, 10, 100, 1000, 50_000])
BLANKS = "".join(chr(code) for code in range(0x110000) if chr(code).isspace())
HOSTILE = (
    "aAbBiIkKsSzZ09.,-'\x00\x07\x1b\x7f\xad" + BLANKS
    + "e\u0301\u0308\u0345\u20dd\u093f\u0ba8\u0bbf"  # combining marks
    + "ıİſKÅßẞσςΣµμΐΐﬁǅǄǆᾈᾀꭰᎠ\U00010400\U00010428\U0001e900"  # letters whose case is not one for one, or far away
    + "אבעربي\u200e\u200f\u202e\u2066\u2069"  # right to left
    + "\u200b\u200c\u200d\ufeff\ufe0f\U0001f468\U0001f469\U0001f3fd\U0001f1e9\U0001f1ea\U000e0067"  # emoji sequences
    + "日本語한글\u1112\u1161\u11ab\U0001d49c\U00020000\ufffd\uffff\U0010ffff\ud800\udbff\udc00\udfff"  # lone surrogates
)  # fmt: skip
ALPHABETS = ("ab", "abcdeABCDE019 .-\n", HOSTILE, None)  # None: every code point there is
SIZES = np.array([0x110000 if alphabet is None else len(alphabet) for alphabet in ALPHABETS])


@pytest.fixture(scope="session")
def share(request):
    """The full count under `--soak`, a fiftieth otherwise: 2,000 of 100,000 cases."""
    return (lambda full: full) if request.config.getoption("--soak") else (lambda full: max(full // 50, 1))


# --- random cases ---


def sizes(rows):
    return np.fromiter(map(len, rows), np.int64, len(rows))


def joined(rows):
    return np.fromiter(chain.from_iterable(rows), np.int64, sum(map(len, rows)))


def parted(flat, length):
    tokens, stops = flat.tolist(), np.cumsum(length).tolist()
    return [tokens[stop - size : stop] for stop, size in zip(stops, length.tolist(), strict=True)]


def random_rows(rng, vocabulary, longest):
    """A row for each vocabulary; some are empty, some as long as can be (the first one always)."""
    length = rng.integers(0, longest + 1, vocabulary.size)
    kind = rng.random(length.size)
    length = np.where(kind < 0.03, 0, np.where(kind > 0.97, longest, length))
    length[0] = longest
    return parted((rng.random(length.sum()) * np.repeat(vocabulary, length)).astype(int), length)


def corrupted(rng, rows, vocabulary, longest):
    """Rows with 5 to 20% of their tokens replaced, dropped, or followed by a new one."""
    length, flat = sizes(rows), joined(rows)
    row = np.repeat(np.arange(len(rows)), length)
    hit = rng.random(flat.size) < rng.uniform(0.05, 0.2, len(rows))[row]
    times = np.where(hit, rng.integers(0, 3, flat.size), 1)  # dropped, replaced, or doubled and then replaced
    at = np.repeat(np.arange(flat.size), times)
    new = hit[at] & ((times[at] == 1) | (np.diff(at, prepend=-1) == 0))
    random = (rng.random(at.size) * vocabulary[row[at]]).astype(int)
    out = parted(np.where(new, random, flat[at]), np.bincount(row[at], minlength=len(rows)))
    return [tokens[:longest] for tokens in out]


def either(rng, one, other):
    first = rng.random(len(one)) < 0.5
    return [a if pick else b for pick, a, b in zip(first, one, other, strict=True)]


def pairs(rng, samples, longest, references=1, vocabulary=None):
    """1..references target rows for each case, and a predicted row: the first target with few errors, or unrelated."""
    vocabulary = rng.choice(VOCABULARIES, samples) if vocabulary is None else np.broadcast_to(vocabulary, samples)
    first = random_rows(rng, vocabulary, longest)

    def near_or_far():
        return either(rng, corrupted(rng, first, vocabulary, longest), random_rows(rng, vocabulary, longest))

    sides, predicted = [first, *(near_or_far() for _ in range(references - 1))], near_or_far()
    held = rng.integers(1, references + 1, samples)
    held[0] = references
    return [list(of_one[:n]) for of_one, n in zip(zip(*sides, strict=True), held, strict=True)], predicted


def padded(rng, rows, width):
    """[rows, width] ids, with anything under the padding, and their lengths."""
    length = sizes(rows)
    out = rng.integers(-(2**31), 2**31, (len(rows), width)).astype(np.int32)
    out[np.arange(width) < length[:, None]] = joined(rows)
    return out, length.astype(np.int32)


def outcome(rng, targets, predicted, width, kind=Tokens):
    most = max(map(len, targets))
    sides = [padded(rng, [rows[r] if r < len(rows) else rows[0] for rows in targets], width) for r in range(most)]
    target, length = (np.stack(side) for side in zip(*sides, strict=True))
    return kind(*((target, length) if most > 1 else (target[0], length[0])), *padded(rng, predicted, width))


def text_pairs(rng, samples, longest, references=1, alphabets=(0, 1, 2, 3)):
    kind = rng.choice(alphabets, samples)
    targets, predicted = pairs(rng, samples, longest, references, SIZES[kind])

    def write(row, which):
        return "".join(map(chr if ALPHABETS[which] is None else ALPHABETS[which].__getitem__, row))

    texts = [[write(row, which) for row in rows] for rows, which in zip(targets, kind, strict=True)]
    return texts, [write(row, which) for row, which in zip(predicted, kind, strict=True)]


def agree(found, expected, rtol=1e-6, atol=1e-7):
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=rtol, atol=atol)


def best(function, targets, predicted, choose=max):
    return [
        choose((function(target, guess) for target in several), default=math.nan)
        for several, guess in zip(targets, predicted, strict=True)
    ]


def seed(*parts):
    return np.random.default_rng([sum(map(ord, str(part))) for part in parts])


# --- alignment: rapidfuzz ---


@pytest.mark.parametrize("vocabulary", [None, 2, 26, 50_000])
@pytest.mark.parametrize(("longest", "references", "full"), BLOCKS)
def test_alignments_equal_rapidfuzz(longest, references, full, vocabulary, share):
    rng = seed("alignment", longest, references, vocabulary)
    targets, predicted = pairs(rng, share(-(-full // 4)), longest, references, vocabulary)
    names = ("token_edit_distance", "token_edit_distance_normalised", "lcs_length")
    found = evaluate(outcome(rng, targets, predicted, longest), names, vocabulary=vocabulary)
    edits, normalised = best(Levenshtein.distance, targets, predicted, min), Levenshtein.normalized_distance
    np.testing.assert_array_equal(found["token_edit_distance"], edits)
    agree(found["token_edit_distance_normalised"], best(normalised, targets, predicted, min))
    np.testing.assert_array_equal(found["lcs_length"], best(LCSseq.similarity, targets, predicted))


@pytest.mark.parametrize("vocabulary", [None, 26])
@pytest.mark.parametrize(("longest", "full"), [(32, 10_000), (128, 950), (2048, 50)])
def test_alignments_inside_a_jit_equal_rapidfuzz(longest, full, vocabulary, share):
    rng = seed("jitted", longest, vocabulary)
    targets, predicted = pairs(rng, share(full), longest, 1, vocabulary)
    given = outcome(rng, targets, predicted, longest)[:4]
    leaves = ((text.token_edit_distance, Levenshtein.distance), (text.lcs_length, LCSseq.similarity))
    for leaf, oracle in leaves:
        found = jax.jit(partial(leaf, vocabulary=vocabulary))(*given)
        np.testing.assert_array_equal(found, best(oracle, targets, predicted))


# --- ROUGE: rouge_score ---


class Splitter:
    """A rouge_score tokenizer: rows of ids as they are, text at blanks."""

    def tokenize(self, text):
        return text.split() if isinstance(text, str) else text


ROUGES = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


def equal_rouge(found, names, scorer, targets, predicted):
    expected = [scorer.score_multi(several, guess) for several, guess in zip(targets, predicted, strict=True)]
    for ours, theirs in names.items():
        agree(found[ours], [score[theirs].fmeasure for score in expected])


@pytest.mark.parametrize(("longest", "references", "full"), BLOCKS)
def test_rouge_of_ids_equals_rouge_score(longest, references, full, share):
    rng = seed("rouge", longest, references)
    targets, predicted = pairs(rng, share(full), longest, references)
    found = evaluate(outcome(rng, targets, predicted, longest), tuple(ROUGES))
    equal_rouge(found, ROUGES, RougeScorer([*ROUGES.values()], tokenizer=Splitter()), targets, predicted)


@pytest.mark.parametrize("references", [1, 3])
def test_rouge_of_any_text_equals_rouge_score(references, share):
    names = ROUGES | {"rouge_l_sum": "rougeLsum"}
    targets, predicted = text_pairs(seed("rouge text", references), share(20_000), 64, references)
    found = evaluate(tokenize(targets, predicted, "rouge"), tuple(names))
    equal_rouge(found, names, RougeScorer([*names.values()]), targets, predicted)


SUMMARIES = (*BLOCKS[:3], (512, 1, 10))


@pytest.mark.parametrize(("longest", "references", "full"), SUMMARIES)
def test_rouge_l_sum_equals_rouge_score(longest, references, full, share):
    rng = seed("summary", longest, references)
    targets, predicted = pairs(rng, share(full), longest, references)
    gaps = (" ", " ", " ", " \r\x0b", "\n", " \n", "\n\n \n")

    def write(row):
        return "".join(chain.from_iterable(zip(map(str, row), (gaps[i] for i in rng.integers(0, 7, len(row))))))  # noqa: B905

    targets, predicted = [[write(row) for row in rows] for rows in targets], [write(row) for row in predicted]
    found = evaluate(tokenize(targets, predicted, "whitespace"), "rouge_l_sum")
    scorer = RougeScorer(["rougeLsum"], tokenizer=Splitter())
    equal_rouge(found, {"rouge_l_sum": "rougeLsum"}, scorer, targets, predicted)


# --- BLEU, chrF: sacrebleu ---

SMOOTHS = (("exp", None), ("floor", 0.5), ("add-k", 0.3), ("none", None), ("floor", None), ("add-k", None))
BLEUS = [  # level, smoothing, value, effective order, block
    (level, *smooth, effective, block)
    for level, other in (("sentence", False), ("corpus", True))
    for block, some in enumerate((6, 2, 1, 1))
    for smooth in SMOOTHS[:some]
    for effective in ((None,) if block else (None, other) if smooth != SMOOTHS[0] else (None, other, not other))
]


def pytest_generate_tests(metafunc):
    """A plain run, most of which is compiling, takes every other configuration of BLEU, and one order of each."""
    if "bleus" in metafunc.fixturenames:
        soak = metafunc.config.getoption("--soak")
        chosen = BLEUS if soak else BLEUS[::2]
        metafunc.parametrize(
            "bleus",
            [(i, chosen, (1, 2, 3, 4) if soak else (4 - i % 4,)) for i in range(len(chosen))],
            ids=lambda bleu: "-".join(map(str, bleu[1][bleu[0]])),
        )


def test_bleu_equals_sacrebleu(bleus, share):
    index, chosen, orders = bleus
    level, smooth, value, effective, block = chosen[index]
    longest, references, full = BLOCKS[block]
    rng = seed("bleu", index)
    alike = sum(config[0] == level and config[-1] == block for config in chosen)
    samples = share(-(-full // alike)) * (1 if len(orders) == 4 else min(4, alike))
    targets, predicted = pairs(rng, samples, longest, references)
    words = [[" ".join(map(str, row)) for row in rows] for rows in targets]
    guesses = [" ".join(map(str, row)) for row in predicted]
    oracles = {
        f"bleu_{n}": BLEU(
            tokenize="none", max_ngram_order=n, smooth_method=smooth, smooth_value=value, force=True,
            effective_order=level == "sentence" if effective is None else effective,
        )
        for n in orders
    }  # fmt: skip
    options = {"level": level, "smooth": smooth, "smooth_value": value, "effective_order": effective}

    def theirs(oracle, start, stop):
        lines = [[rows[r] if r < len(rows) else None for rows in words[start:stop]] for r in range(references)]
        return oracle.corpus_score(guesses[start:stop], lines).score / 100

    if level == "sentence":
        given = outcome(rng, targets, predicted, longest)
        found = evaluate(given, tuple(oracles), **options)
        for name, oracle in oracles.items():
            agree(found[name], [theirs(oracle, i, i + 1) for i in range(samples)])
        return
    start, widest = 0, max(1024 // longest, 2)
    empty = [[]] * references
    while start < samples:
        stop = min(start + int(rng.integers(1, widest + 1)), samples)
        more = widest - (stop - start)  # items without a token on any side add nothing, and keep one shape
        batch = outcome(rng, targets[start:stop] + [empty] * more, predicted[start:stop] + [[]] * more, longest)
        found = evaluate(batch, tuple(oracles), **options)
        for name, oracle in oracles.items():
            agree(found[name], theirs(oracle, start, stop))
        start = stop


def equal_chrf(targets, predicted, order=6, beta=2):
    found = evaluate(tokenize(targets, predicted), "chrf", order=order, beta=float(beta))["chrf"]
    oracle = CHRF(char_order=order, beta=beta)
    both = zip(targets, predicted, strict=True)
    agree(found, [oracle.sentence_score(guess, several).score / 100 for several, guess in both])


@pytest.mark.parametrize(("longest", "references", "full"), BLOCKS)
def test_chrf_equals_sacrebleu(longest, references, full, share):
    equal_chrf(*text_pairs(seed("chrf", longest, references), share(full), longest, references))


@pytest.mark.parametrize(("order", "beta"), [(1, 1), (3, 0.5), (8, 3)])
def test_chrf_of_other_orders_equals_sacrebleu(order, beta, share):
    equal_chrf(*text_pairs(seed("chrf", order), share(10_000), 32), order, beta)


# --- bags, prefixes, case: plain Python ---


def bag_f1(target, guess):
    if not target or not guess:
        return float(target == guess)
    common = (Counter(target) & Counter(guess)).total()
    if not common:
        return 0.0
    precision, recall = common / len(guess), common / len(target)
    return 2 * precision * recall / (precision + recall)


def shared_prefix(target, guess):
    same = 0
    for a, b in zip(target, guess):  # noqa: B905
        if a != b:
            break
        same += 1
    return same / len(target) if target else math.nan


def shared_places(target, guess):
    return sum(a == b for a, b in zip(target, guess)) / len(target) if target else math.nan  # noqa: B905


TWINS = {
    "token_f1": bag_f1,
    "exact_match": lambda target, guess: float(target == guess),
    "prefix_match": shared_prefix,
    "token_accuracy": shared_places,
}


@pytest.mark.parametrize(("longest", "references", "full"), BLOCKS)
def test_bags_and_prefixes_equal_plain_python(longest, references, full, share):
    rng = seed("bags", longest, references)
    targets, predicted = pairs(rng, share(full), longest, references)
    found = evaluate(outcome(rng, targets, predicted, longest), tuple(TWINS))
    for name, twin in TWINS.items():
        scores = [
            [twin(target, guess) for target in several] for several, guess in zip(targets, predicted, strict=True)
        ]
        agree(found[name], [max((x for x in row if x == x), default=math.nan) for row in scores])


def folded(text):
    """Simple case folding, one code point for one: the full folding where it is one, else lower case where that is."""
    return "".join(next(f for f in (c.casefold(), c.lower(), c) if len(f) == 1) for c in text)


@pytest.mark.parametrize(("longest", "references", "full"), BLOCKS)
def test_caseless_match_equals_plain_python(longest, references, full, share):
    rng = seed("caseless", longest, references)
    targets, predicted = text_pairs(rng, share(full), longest, references)
    change = (str.upper, str.lower, str.swapcase, str.casefold, str)

    def other_case(text):
        return "".join(
            f if len(f := change[i](c)) == 1 else c for c, i in zip(text, rng.integers(0, 5, len(text)), strict=True)
        )

    predicted = either(rng, predicted, [other_case(several[-1]) for several in targets])
    found = evaluate(tokenize(targets, predicted), "exact_match_caseless")["exact_match_caseless"]
    expected = best(lambda target, guess: float(folded(target) == folded(guess)), targets, predicted)
    np.testing.assert_array_equal(found, expected)


def test_every_code_point_folds_as_plain_python_has_it():
    every = "".join(map(chr, range(0x110000)))
    ids = np.arange(0x110000, dtype=np.int32)
    np.testing.assert_array_equal(characters.fold_case(jnp.asarray(ids)), [*map(ord, folded(every))])


def test_every_blank_is_known():
    assert len(BLANKS) == 29
    assert "".join(map(chr, characters.BLANKS)) == BLANKS


# --- numbers: exact fractions ---

NUMBER = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?", re.ASCII)


def read_number(text):
    """(sign, integer of at most 18 digits, exponent of ten), or None. Zero has exponent 0."""
    found = NUMBER.fullmatch(text.strip())
    if not found or not (found[2] or found[3]) or abs(int(found[4] or 0)) >= 10**9:  # nine digits, as documented
        return None
    digits = (found[2] + (found[3] or "")).lstrip("0")
    exponent = int(found[4] or 0) - len(found[3] or "") + max(len(digits) - 18, 0)
    value = int(digits[:18] or 0)
    return (-1 if found[1] == "-" else 1, value, exponent) if value else (1, 0, 0)


def near(target, guess, relative_error):
    """The score, and whether it may be compared: not within 2 parts in 10^6 of the bound, but for the bound itself."""
    x, y = read_number(target), read_number(guess)
    if x is None:
        return math.nan, True
    if y is None or not x[1]:
        return float(y is not None and not y[1]), True
    apart = y[2] - x[2] if y[1] else 0
    if abs(apart) > 40:  # beyond all digits: y is nothing beside x, or x beside y (relative_error < 1)
        return 0.0, True
    ratio = Fraction(y[0] * y[1], x[0] * x[1]) * Fraction(10) ** apart
    gap, bound = abs(ratio - 1), Fraction(str(relative_error))
    return float(gap <= bound), gap == bound or abs(gap - bound) > bound * Fraction(2, 10**6)


SPOILS = (".", "e", "-", "+", " ", ",", "x", "_", "٣", "²", "−", "\x00", "inf", "nan", "")


def number_pairs(rng, samples):
    """Number texts, their near misses, and what is no number."""

    def digits(most):
        return "".join(map(str, rng.integers(0, 10, int(rng.integers(1, most + 1)))))

    def number():
        whole, places = digits(rng.choice([1, 3, 9, 18])), digits(rng.choice([1, 3, 9]))
        body = (whole, f"{whole}.", f"{whole}.{places}", f".{places}", "0" * int(rng.integers(0, 5)) + whole)[
            rng.integers(5)
        ]
        power = str(rng.choice(["0", "1", "7", "007", "30", "99", "400", "100000", "999000"]))
        tail = rng.choice(["e", "E"]) + rng.choice(["", "+", "-"]) + power if rng.random() < 0.3 else ""
        return rng.choice(["", "", "+", "-"]) + body + tail

    def beside(text):
        """The same number written otherwise, or one that differs in its last digit or by about a tenth or a half."""
        kind = int(rng.integers(7))
        if kind == 0:
            at = [i for i, c in enumerate(text) if c.isdigit()][-1]
            return text[:at] + str(rng.integers(0, 10)) + text[at + 1 :]
        if kind == 1:
            return f"{'-' if text[:1] == '-' else ''}000{text.lstrip('+-')}"
        if kind == 2:
            return text.upper() if "e" in text.lower() else f"{text}e0"
        if kind == 3:
            sign, value, exponent = read_number(text)
            scale = int(rng.choice([9, 10, 11, 5, 15, 20, 0, 100, 1]))
            return f"{'-' if sign < 0 else '+'}{value * scale}e{exponent - 1}"
        if kind == 4:
            sign, value, exponent = read_number(text)
            more = 18 - len(str(value))
            return f"{'-' if sign < 0 else ''}{value * 10**more + int(rng.integers(-1, 2))}e{exponent - more}"
        return text if kind == 5 else number()

    def spoil(text):
        kind = rng.random()
        if kind < 0.7:
            return text
        if kind < 0.85:
            return "".join(rng.choice([*BLANKS], 2)) + text + "".join(rng.choice([*BLANKS], 2))
        at = int(rng.integers(0, len(text) + 1))
        return text[:at] + str(rng.choice(SPOILS)) + text[at:]

    targets = [number() for _ in range(samples)]
    guesses = [beside(text) for text in targets]
    return [spoil(text) for text in targets], [spoil(text) for text in guesses]


@pytest.mark.parametrize("relative_error", [0.0, 0.1, 0.5])
def test_numeric_match_equals_fractions(relative_error, share):
    targets, guesses = number_pairs(seed("numbers", relative_error), share(40_000))
    targets[0] = targets[0].rjust(64)
    found = evaluate(tokenize(targets, guesses), "numeric_match", relative_error=relative_error)["numeric_match"]
    scores, sure = np.array([near(*pair, relative_error) for pair in zip(targets, guesses, strict=True)]).T
    sure = sure == 1
    assert sure.mean() > 0.98
    wrong = np.flatnonzero(sure & ~((scores == found) | (np.isnan(scores) & np.isnan(found))))
    assert not [(targets[i], guesses[i], float(found[i]), scores[i]) for i in wrong[:5]]


NUMBERS_BY_HAND = [
    ("100", "110", 1), ("100", "111", 0), ("-100", "-90", 1), ("100", "-100", 0), ("0", "0.000", 1), ("0", "1e-400", 0),
    ("123456789012345678", "123456789012345678", 1), ("1e999", "1E+999", 1), ("1e999", "1e998", 0),
    ("5" * 2000, "5" * 1999, 0), ("0." + "0" * 2000 + "1", "1e-2001", 1), ("1", "1e" + "9" * 2000, 0),
    ("1e" + "9" * 4000, "1", math.nan), ("1e-" + "9" * 4000, "1", math.nan), ("1", "1e-" + "9" * 4000, 0),
    ("", "1", math.nan), (".", "1", math.nan), ("1", ".", 0), ("1", "1 0", 0), ("1", "", 0), ("1", "--1", 0),
]  # fmt: skip


def test_numeric_match_by_hand():
    targets, guesses, scores = zip(*NUMBERS_BY_HAND, strict=True)
    np.testing.assert_array_equal(evaluate(tokenize(targets, guesses), "numeric_match")["numeric_match"], scores)


HUGE = [
    ("1e1000000", "1e999999", 0), ("1e1000001", "1e1000000", 0), ("40e1000000", "4e1000001", 1),
    ("1e999999999", "1e999999998", 0), ("1e-999999999", "0", 0), ("0e999999999", "0e-999999999", 1),
    ("1e0000000000000000002", "100", 1), ("1", "1e1000000000", 0), ("1e1000000000", "1e1000001", math.nan),
    ("7e-555555555555", "7e-555555555556", math.nan), ("1", "1e" + "9" * 4294 + "967296", 0),
]  # fmt: skip


def test_huge_exponents_are_told_apart():
    targets, guesses, scores = zip(*HUGE, strict=True)
    found = evaluate(tokenize(targets, guesses), "numeric_match", relative_error=0.0)["numeric_match"]
    np.testing.assert_array_equal(found, scores)


def test_numbers_that_differ_in_the_last_of_18_digits_are_not_equal():
    pair = tokenize(["123456789012345678", "0.00123456789012345678"], ["123456789012345679", "1.23456789012345678e-3"])
    np.testing.assert_array_equal(evaluate(pair, "numeric_match", relative_error=0.0)["numeric_match"], [0, 1])


# --- likelihoods: float64 ---


@pytest.mark.parametrize(("longest", "references", "full"), [block for block in BLOCKS if block[1] == 1])
def test_likelihoods_equal_float64(longest, references, full, share):
    rng = seed("likelihood", longest)
    samples = share(full if longest > 32 else 99_000)
    length = rng.integers(0, longest + 1, samples).astype(np.int32)
    scale = rng.choice([0.01, 0.3, 1, 4], (samples, 1))
    log_prob = -(scale * rng.exponential(1.0, (samples, longest))).astype(np.float32)
    real = np.arange(longest) < length[:, None]
    log_prob[~real] = rng.choice([np.nan, np.inf, -np.inf, 5], (~real).sum())
    ids, size = np.zeros((samples, longest), np.int32), rng.integers(0, 4 * longest, samples).astype(np.int32)
    given = Tokens(ids, length, ids, length, log_prob, target_bytes=size)
    total = -np.where(real, log_prob, 0).astype(np.float64).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, bits = total / length, total / math.log(2) / size
    found = evaluate(given, ("nll", "perplexity", "bits_per_byte"))
    agree(found["nll"], total)
    agree(found["bits_per_byte"], bits)
    # exp turns an absolute error of the mean into a relative one: a sum and a quotient round, each by a share of the mean
    kept = length > 0
    error = np.abs(np.asarray(found["perplexity"], np.float64)[kept] / np.exp(mean[kept]) - 1)
    assert (error <= np.maximum(1e-6, 1.5 * EPS * (1 + mean[kept]))).all()
    assert np.isnan(found["perplexity"][~kept]).all()
    found = evaluate(given, ("perplexity", "bits_per_byte"), level="corpus")
    agree(found["perplexity"], np.exp(total.sum() / length.sum()))
    agree(found["bits_per_byte"], total.sum() / math.log(2) / size.sum())


def test_corpus_likelihoods_equal_float64(share):
    rng = seed("corpus likelihood")
    for _ in range(share(2000)):
        items = int(rng.integers(1, 65))
        length = np.where(np.arange(64) < items, rng.integers(1, 33, 64), 0).astype(np.int32)
        log_prob = -rng.exponential(rng.choice([0.1, 1, 3]), (64, 32)).astype(np.float32)
        size, ids = (length * rng.integers(1, 5, 64)).astype(np.int32), np.zeros((64, 32), np.int32)
        given = Tokens(ids, length, ids, length, log_prob, target_bytes=size)
        total = -np.where(np.arange(32) < length[:, None], log_prob, 0).astype(np.float64).sum()
        found = evaluate(given, ("perplexity", "bits_per_byte"), level="corpus")
        agree(found["perplexity"], np.exp(total / length.sum()), 1e-6)
        agree(found["bits_per_byte"], total / math.log(2) / size.sum())


# --- multiple choice: scikit-learn and float64 ---


def random_choices(rng, samples, right="one", options=None):
    """2 to 8 options at any of 8 places, of any spread and of any mass in all; nonsense where there is no option."""
    real = rng.random((samples, 8)).argsort(1) < (rng.integers(2, 9, (samples, 1)) if options is None else options)
    raw = rng.choice([0.3, 1, 5], (samples, 1)) * rng.normal(size=(samples, 8))
    raw = np.where(rng.random((samples, 1)) < 0.1, np.round(raw), raw)  # equal options
    mass = np.log(np.where(real, np.exp(raw), 0).sum(1, keepdims=True))
    log_prob = (raw - mass - rng.choice([0.0, 1e-3, 1, 6], (samples, 1))).clip(max=0)
    order = np.where(real, rng.random((samples, 8)), -1).argsort(1)[:, ::-1]
    weight = np.zeros((samples, 8))
    np.put_along_axis(weight, order[:, :1], 1.0, 1)
    if right == "some":
        weight = np.where(real & (rng.random((samples, 8)) < 0.3), rng.choice([1, 0.5, 0.25], (samples, 8)), weight)
    log_prob = np.where(real, log_prob, rng.choice([np.nan, np.inf, 7], (samples, 8)))
    weight = np.where(real, weight, rng.choice([np.nan, 9, -1], (samples, 8)))
    return Choices(
        log_prob.astype(np.float32), real, weight.astype(np.float32),
        np.where(real, rng.integers(1, 20, (samples, 8)), 0).astype(np.int32),
        np.where(real, -rng.exponential(3.0, (samples, 8)), np.nan).astype(np.float32),
    )  # fmt: skip


def softmax(item):
    log_prob = np.where(item.real, item.log_prob.astype(np.float64), -np.inf)
    p = np.exp(log_prob - log_prob.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


BRIERS = ("brier_sum", "brier_half", "brier_mean", "brier_target")
PROBABILITIES = ("choice_prob", "vocab_prob", "target_log_prob")


@pytest.mark.parametrize("right", ["one", "some"])
def test_choices_equal_float64(right, share):
    item = random_choices(seed("choices", right), share(50_000), right)
    found = evaluate(item, (*BRIERS, *PROBABILITIES))
    p, weight = softmax(item), np.where(item.real, item.weight, 0).astype(np.float64)
    square = np.where(item.real, np.square(p - weight / weight.sum(1, keepdims=True)), 0).sum(1)
    agree(found["brier_sum"], square)
    agree(found["brier_half"], square / 2)
    agree(found["brier_mean"], square / item.real.sum(1))
    correct = np.where(weight > 0, p, 0).sum(1)
    agree(found["choice_prob"], correct)
    agree(found["brier_target"], np.square(1 - correct))
    mass = np.where(weight > 0, np.exp(np.where(weight > 0, item.log_prob, 0).astype(np.float64)), 0).sum(1)
    agree(found["vocab_prob"], np.minimum(mass, 1), 1e-6)
    # the log of several options' mass: their sum, its log and the largest of them, added again, round at about 1 each
    agree(found["target_log_prob"], np.minimum(np.log(mass), 0), atol=1e-7 if right == "one" else 2 * EPS)


@pytest.mark.parametrize("options", range(2, 9))
def test_brier_equals_scikit_learn(options, share):
    item = random_choices(seed("brier", options), share(15_000), options=options)
    found = evaluate(item, ("brier_sum", "brier_half"))
    order = np.argsort(~item.real, 1, kind="stable")[:, :options]
    p, right = np.take_along_axis(softmax(item), order, 1), np.take_along_axis(item.weight, order, 1).argmax(1)
    for name, half in (("brier_sum", False), ("brier_half", True)):
        loss = partial(brier_score_loss, labels=range(options), scale_by_half=half)
        agree(np.asarray(found[name], np.float64).mean(), loss(right, p))
        agree(found[name][:50], [loss(right[i : i + 1], p[i : i + 1]) for i in range(50)])


@pytest.mark.parametrize("normalise", ["none", "length", "pmi"])
def test_grade_equals_float64(normalise, share):
    item = random_choices(seed("grade", normalise), share(33_400), "some")
    found = np.asarray(evaluate(item, "multiple_choice_grade", normalise=normalise)["multiple_choice_grade"])
    score = np.where(item.real, item.log_prob, -np.inf).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        score = {"none": score, "length": score / item.length, "pmi": score - item.prior_log_prob}[normalise]
    score = np.where(item.real, score, -np.inf)
    expected = np.take_along_axis(item.weight, score.argmax(1)[:, None], 1)[:, 0]
    first, second = np.sort(score, 1)[:, :-3:-1].T
    sure = (first - second > 1e-6 * np.abs(first) + 1e-6) | (normalise == "none")  # rounding may tie or part the others
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(found[sure], expected[sure])


@pytest.mark.parametrize("binning", ["width", "adaptive"])
@pytest.mark.parametrize(
    ("items", "bins", "sets"), [(1, 10, 500), (3, 2, 500), (8, 3, 1000), (50, 10, 900), (399, 15, 125)]
)
def test_calibration_error_equals_scikit_learn(items, bins, sets, binning, share):
    rng = seed("calibration", items, binning)
    total = share(sets)
    item = random_choices(rng, total * items)
    again = np.where(
        rng.random(total * items) < 0.2, np.arange(total * items) // items * items, np.arange(total * items)
    )
    item = Choices(*(field[again].reshape(total, items, 8) for field in item[:3]))  # some items of a set are the same
    sure = 0
    for i in range(total):
        one = Choices(*(field[i] for field in item[:3]))
        p = softmax(one)
        confidence, right = p.max(1), np.take_along_axis(one.weight, p.argmax(1)[:, None], 1)[:, 0]
        shares = np.linspace(0, 1, bins + 1)
        edges = shares if binning == "width" else np.percentile(confidence, 100 * shares)
        gap, top = np.abs(confidence[:, None] - edges[1:-1]), np.sort(p, 1)[:, -2:]
        # a float32 confidence falls on either side of an edge this near, and either of two such options is preferred
        if ((gap > 0) & (gap < 1e-6)).any() or ((np.diff(top) > 0) & (np.diff(top) < 1e-6)).any():
            continue
        sure += 1
        strategy = {"width": "uniform", "adaptive": "quantile"}[binning]
        accuracy, mean = calibration_curve(right, confidence, n_bins=bins, strategy=strategy, pos_label=1)
        held = np.bincount(np.searchsorted(edges[1:-1], confidence))
        expected = held[held > 0] @ np.abs(accuracy - mean) / items
        found = evaluate(one, "expected_calibration_error", bins=bins, binning=binning)["expected_calibration_error"]
        agree(found, expected, atol=2 * EPS)  # 1 - p at p near 1, where a sum and a quotient near 1 have rounded
    assert sure > 0.9 * total


def test_confidences_on_an_edge_belong_to_the_bin_below():
    log_prob = np.log(np.array([[0.5, 0.5], [0.4, 0.6]], np.float32))
    item = Choices(log_prob, np.ones((2, 2), bool), np.array([[1, 0], [1, 0]], np.float32))
    found = evaluate(item, "expected_calibration_error", bins=2)["expected_calibration_error"]
    agree(found, (0.5 + 0.6) / 2, 4 * EPS)  # (0, .5] is right and half sure, (.5, 1] wrong and .6 sure


def test_calibration_and_grade_prefer_the_same_option():
    log_prob = np.array([[-2e-8, -1e-8, -2e-8]], np.float32)  # probabilities that float32 cannot tell apart
    item = Choices(log_prob, np.ones((1, 3), bool), np.array([[0, 1, 0]], np.float32))
    found = evaluate(item, ("expected_calibration_error", "multiple_choice_grade"))
    assert found["multiple_choice_grade"].tolist() == [1]
    agree(found["expected_calibration_error"], 1 - 1 / 3, 4 * EPS)


# --- attempts until r successes: exact enumeration ---


@pytest.mark.parametrize("r", [1, 2, 5])
@pytest.mark.parametrize("cap", [1, 2, 5, 12])
def test_pass_until_is_unbiased(r, cap):
    stopped = [(n, r, math.comb(n - 1, r - 1)) for n in range(r, cap + 1)]
    capped = [(cap, c, math.comb(cap, c)) for c in range(min(r, cap + 1))]
    n, correct, paths = np.array(stopped + capped).T
    found = np.asarray(evaluate(Attempts(n, correct), "pass_until", r=r)["pass_until"]).tolist()
    exact = [Fraction(r - 1, k - 1) if k > 1 else Fraction(1) for k, _, _ in stopped]
    exact += [Fraction(c, k) for k, c, _ in capped]
    np.testing.assert_allclose(found, [*map(float, exact)], rtol=EPS)  # one division
    for p in (Fraction(1, 50), Fraction(1, 2), Fraction(97, 100)):
        weight = [int(w) * p ** int(c) * (1 - p) ** int(k - c) for k, c, w in zip(n, correct, paths, strict=True)]
        assert sum(weight) == 1
        assert sum(w * x for w, x in zip(weight, exact, strict=True)) == p


def test_pass_until_without_r_takes_the_last_attempt_for_a_success():
    given = Attempts(np.array([1, 4, 4, 4, 7]), np.array([1, 1, 4, 0, 3]))
    found = evaluate(given, "pass_until")["pass_until"]
    np.testing.assert_allclose(found, [1, 0, 1, math.nan, 2 / 6], rtol=EPS)
    np.testing.assert_allclose(
        evaluate(given, "pass_until", r=3)["pass_until"], [1, 1 / 4, math.nan, 0, 2 / 6], rtol=EPS
    )


# --- tokenize ---


def rows_of(side, length):
    return [row[:size].tolist() for row, size in zip(side, length, strict=True)]


def test_characters_are_code_points_and_come_back(share):
    texts, predicted = text_pairs(seed("characters"), share(50_000), 64)
    found = tokenize(texts, predicted)
    assert type(found) is Characters
    assert found.target_sentence is None
    assert ["".join(map(chr, row)) for row in rows_of(found.target, found.target_length)] == [t for (t,) in texts]
    assert rows_of(found.predicted, found.predicted_length) == [[*map(ord, text)] for text in predicted]


def by_hand(text, keep):
    """Tokens as a loop over characters has them: `keep` gives a character's kind, 0 for none, 1 for a token of its own."""
    tokens, last = [], 0
    for character in text:
        kind = keep(character)
        if kind == 1 or (kind and kind != last):
            tokens.append(character)
        elif kind:
            tokens[-1] += character
        last = kind
    return tokens


def digit_kind(c):
    return 1 if c in string.digits else 0 if c.isspace() else 2


def rouge_kind(c):
    return 2 if c in string.ascii_lowercase + string.digits else 0


@pytest.mark.parametrize(
    ("tokenizer", "split"),
    [
        ("digits", lambda text: by_hand(text, digit_kind)),
        ("whitespace", lambda text: by_hand(text, lambda c: 0 if c.isspace() else 2)),
        ("rouge", lambda text: by_hand(text.lower(), rouge_kind)),
        (lambda text: [text[i : i + 2] for i in range(0, len(text), 2)], lambda text: re.findall("(?s)..?", text)),
    ],
)
def test_named_tokenizers_do_what_they_say(tokenizer, split, share):
    texts, predicted = text_pairs(seed("tokenizer", tokenizer), share(10_000), 64)
    found = tokenize(texts, predicted, tokenizer)
    assert type(found) is Tokens
    ids = rows_of(found.target, found.target_length) + rows_of(found.predicted, found.predicted_length)
    tokens = [split(text) for text in [*(t for (t,) in texts), *predicted]]
    assert [*map(len, ids)] == [*map(len, tokens)]
    flat, words = [*chain.from_iterable(ids)], [*chain.from_iterable(tokens)]
    assert len(set(zip(flat, words, strict=True))) == len(set(flat)) == len(set(words))  # one number for one token
    assert [*dict.fromkeys(flat)] == [*range(len(set(flat)))]  # by first appearance


def test_sentences_are_numbered_along_the_text():
    found = tokenize(["a b\n\nc", ""], ["\na", "b b"], "whitespace")
    assert rows_of(found.target_sentence, found.target_length) == [[0, 0, 2], []]
    assert rows_of(found.predicted_sentence, found.predicted_length) == [[1], [0, 0]]
    found = tokenize(["ab.c"], ["a.b"], sentences=lambda text: text.split("."))
    assert rows_of(found.target, found.target_length) == [[*map(ord, "abc")]]
    assert rows_of(found.target_sentence, found.target_length) == [[0, 0, 1]]


def test_references_are_a_leading_axis_and_the_first_stands_in_for_those_missing():
    found = tokenize([["ab", "c", ""], ["d"], "ef"], ["x", "y", "z"])
    assert found.target.shape == (3, 3, 2)
    assert found.target_length.tolist() == [[2, 1, 2], [1, 1, 2], [0, 1, 2]]
    assert found.target[2, 1, 0] == ord("d")
    assert tokenize([["ab"], ["c"]], ["x", "y"]).target.shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], ["a"], "words"), r"unknown tokenizer 'words'; known: characters, digits, whitespace, rouge"),
        (("a", ["a"]), r"expected a list of texts, got one text"),
        ((["a"], "a"), r"expected a list of texts, got one text"),
        (([], []), r"one at least, got 0 and 0"),
        ((["a"], ["a", "b"]), r"as many targets as predictions, one at least, got 1 and 2"),
        (([["a"], []], ["a", "b"]), r"item 1 has no reference"),
    ],
)
def test_tokenize_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        tokenize(*arguments)


# --- known values ---


def test_union_of_two_sentences_covers_four_of_five():
    target, predicted = jnp.arange(1, 6), jnp.array([1, 2, 6, 7, 8, 1, 3, 8, 9, 5])
    sentence = jnp.repeat(jnp.arange(2), 5)
    covered = jax.jit(rouge.union_lcs)(target, jnp.array(5), jnp.zeros(5, int), predicted, jnp.array(10), sentence)
    assert covered.tolist() == [True, True, True, False, True]


def substituted(rng, ids, rate):
    return np.where(rng.random(ids.shape) < rate, rng.integers(0, 1000, ids.shape), ids).astype(np.int32)


@pytest.mark.parametrize(("rate", "law"), [(0.01, 0.993), (0.05, 0.950), (0.1, 0.902), (0.2, 0.806), (0.4, 0.612)])
def test_rouge_l_sum_is_linear_in_the_error_rate_and_exact_match_is_not(rate, law):
    rng, samples, length = seed("law", rate), 4000, 20
    target, size = rng.integers(0, 1000, (samples, length)).astype(np.int32), np.full(samples, length, np.int32)
    sentence = np.zeros_like(target)
    given = Tokens(
        target, size, substituted(rng, target, rate), size, target_sentence=sentence, predicted_sentence=sentence
    )
    found = {k: np.asarray(v, np.float64) for k, v in evaluate(given, ("rouge_l_sum", "exact_match")).items()}
    error = alarms.sigmas() * found["rouge_l_sum"].std() / math.sqrt(samples)
    assert abs(found["rouge_l_sum"].mean() - law) < error + 0.002  # printed digits, and their own error
    right = 1 - rate * 999 / 1000
    assert alarms.counts(int(found["exact_match"].sum()), samples, right**length)


@pytest.mark.parametrize(
    ("references", "laws"), [(5, (0.966, 0.932, 0.872, 0.788, 0.594)), (1, (0.508, 0.487, 0.473, 0.391, 0.288))]
)
def test_noisy_references_stitched_together_cover_a_share(references, laws):
    rng, samples, length = seed("stitch", references), 2000, 20
    truth = rng.integers(0, 1000, (samples, length))
    noisy = substituted(rng, np.repeat(truth[:, None], references, 1), 0.5).reshape(samples, -1)
    sentence = np.broadcast_to(np.repeat(np.arange(references), length), noisy.shape)
    size, wide = np.full(samples, length), np.full(samples, noisy.shape[1])
    cover = jax.jit(rouge.union_lcs)
    for rate, law in zip((0, 0.05, 0.1, 0.2, 0.4), laws, strict=True):
        candidate = substituted(rng, truth, rate)
        covered = float(np.mean(cover(candidate, size, np.zeros_like(candidate), noisy, wide, sentence)))
        assert abs(covered - law) < 0.03  # the values come from a modest simulation
        right = (1 - rate) * (1 - 0.5**references)  # at the right places alone; a few more stand elsewhere by chance
        error = alarms.sigmas() * math.sqrt(0.25 / candidate.size)
        assert right - error < covered < right + 0.025


# --- options, forms, padding ---

LEGAL = {
    "level": ("sentence", "corpus"), "smooth": ("exp", "none", "floor", "add-k"), "smooth_value": (None, 0.1, 0.5),
    "effective_order": (None, True, False), "order": (6, 3), "beta": (2.0, 1.0), "relative_error": (0.1, 0.0, 0.5),
    "normalise": ("none", "length", "pmi"), "bins": (10, 3, 1), "binning": ("width", "adaptive"), "c": (0.5, 1.0),
    "K": (1, 2), "k": (1, 2), "r": (None, 1, 2),
}  # fmt: skip
FLIPS = [
    (name, option) for name in METRICS for option in METRICS[name].options if name not in ("bleu_1", "bleu_3", "bleu_4")
]


def random_outcome(kind, rng, samples=12, width=6):
    if kind is Choices:
        return random_choices(rng, samples, "some")
    if kind is Errors:
        return Errors(rng.exponential(1.0, samples).astype(np.float32))
    if kind is Attempts:
        n = rng.integers(3, 9, samples)
        return Attempts(n, rng.integers(0, 3, samples))
    base = ord("1") if kind is Characters else 0
    targets, predicted = pairs(rng, samples, width, 1, 3)
    targets, predicted = ([[base + i for i in row] for row in side] for side in ([t for (t,) in targets], predicted))
    if kind is Characters:  # numbers alike enough for a relative error to matter
        targets, predicted = (
            [[ord("1"), *row][:width] for row in targets],
            [[ord("1"), *row][:width] for row in predicted],
        )
    given = outcome(rng, [[row] for row in targets], predicted, width, kind)

    def rising():
        return np.sort(rng.integers(0, 3, (samples, width)), 1).astype(np.int32)

    return given._replace(
        target_log_prob=-rng.exponential(1.0, (samples, width)).astype(np.float32), target_sentence=rising(),
        predicted_sentence=rising(), target_bytes=rng.integers(1, 30, samples).astype(np.int32),
    )  # fmt: skip


@pytest.mark.parametrize(("name", "option"), FLIPS)
def test_options_that_change_a_score_change_its_signature(name, option):
    metric = METRICS[name]
    base = {other: LEGAL[other][0] for other, default in metric.options.items() if default is facts.REQUIRED}
    base |= {"level": "sentence"} if "smooth" in metric.options and option != "level" else {}
    base |= {"smooth": "floor"} if option == "smooth_value" else {}
    given = random_outcome(metric.outcome, seed("flip", name))
    seen = []
    for value in LEGAL[option]:
        options = {**base, option: value}
        score = np.asarray(evaluate(given, name, **options)[name])
        seen.append((score, table.signature(name, **facts.options_of(name, **options))))
    changed = [(a, b) for (x, a), (y, b) in combinations(seen, 2) if not np.array_equal(x, y, equal_nan=True)]
    assert changed  # the data tell these values apart
    assert all(a != b for a, b in changed)


def test_all_bleus_have_the_same_options():
    assert len({tuple(METRICS[f"bleu_{n}"].options.items()) for n in (1, 2, 3, 4)}) == 1


def bleu_2(target, length, *predicted):
    return ngrams.bleu(ngrams.bleu_counts(target[None], length[None], *predicted, 2), effective_order=True)


def likelihood(leaf):
    return lambda log_prob, length, *size: leaf(text.nll(log_prob, length), *(size or (length,)))


SEQUENCES = {
    "token_edit_distance": text.token_edit_distance,
    "token_edit_distance_normalised": text.token_edit_distance_normalised,
    "lcs_length": text.lcs_length,
    "rouge_1": partial(rouge.rouge_n, n=1),
    "rouge_2": partial(rouge.rouge_n, n=2),
    "rouge_l": rouge.rouge_l,
    "token_f1": ngrams.token_f1,
    "bleu_2": bleu_2,
    "chrf": ngrams.chrf,
    "numeric_match": characters.numeric_match,
}
FORMS = {
    **{name: (leaf, ("target", "target_length", "predicted", "predicted_length")) for name, leaf in SEQUENCES.items()},
    "rouge_l_sum": (
        rouge.rouge_l_sum,
        ("target", "target_length", "target_sentence", "predicted", "predicted_length", "predicted_sentence"),
    ),
    "perplexity": (likelihood(text.perplexity), ("target_log_prob", "target_length")),
    "bits_per_byte": (likelihood(text.bits_per_byte), ("target_log_prob", "target_length", "target_bytes")),
    "choice_prob": (choices.choice_prob, ("log_prob", "real", "weight")),
    "vocab_prob": (choices.vocab_prob, ("log_prob", "real", "weight")),
    "target_log_prob": (choices.target_log_prob, ("log_prob", "real", "weight")),
}


@pytest.fixture(scope="module", params=[Characters, Choices])
def scored(request):
    """A random outcome and its scores, all from one program."""
    given = random_outcome(request.param, seed("scored"))
    names = [name for name in facts.for_outcome(given) if name not in ("bleu_1", "bleu_3", "bleu_4")]
    return given, evaluate(given, names, **({"level": "sentence"} if request.param is Characters else {}))


def test_eager_jitted_vmapped_and_evaluated_are_equal(scored):
    given, scores = scored
    for name in set(FORMS) & set(scores):
        leaf, fields = FORMS[name]
        arrays = [jnp.asarray(getattr(given, field)) for field in fields]
        if name == "chrf":
            arrays = [*characters.without_blanks(*arrays[:2]), *characters.without_blanks(*arrays[2:])]
        eager = np.asarray(leaf(*arrays))
        for other in (*jax.jit(lambda *a, leaf=leaf: (leaf(*a), jax.vmap(leaf)(*a)))(*arrays), scores[name]):
            # a compiler may fuse, and so round, what is not an integer in another way
            np.testing.assert_allclose(other, eager, rtol=4 * EPS, atol=0, err_msg=name)


NOTHING = {  # scores of two empty texts
    "token_edit_distance": 0, "lcs_length": 0, "rouge_1": 0, "rouge_l": 0, "rouge_l_sum": 0, "token_f1": 1, "bleu_1": 0,
    "chrf": 0, "numeric_match": math.nan,
}  # fmt: skip


@pytest.mark.parametrize("widths", [(0, 0), (0, 3), (3, 0)])
def test_no_room_for_a_token_is_an_empty_text(widths):
    none, (target, predicted) = np.zeros(2, np.int32), (np.zeros((2, width), np.int32) for width in widths)
    given = Characters(target, none, predicted, none, target_sentence=target, predicted_sentence=predicted)
    for name, score in NOTHING.items():
        options = {"level": "sentence"} if name == "bleu_1" else {"order": 1} if name == "chrf" else {}
        np.testing.assert_array_equal(evaluate(given, name, **options)[name], [score, score], err_msg=name)


def test_padding_changes_nothing_and_64_bits_little(scored):
    given, plain = scored
    level = {"level": "sentence"} if isinstance(given, Characters) else {}
    if isinstance(given, Characters):
        rng, under = seed("scramble"), {}
        for side in ("target", "predicted"):
            beyond = np.arange(6) >= getattr(given, f"{side}_length")[:, None]
            for field in (side, f"{side}_sentence"):
                junk = rng.integers(-(2**31), 2**31, beyond.shape).astype(np.int32)
                under[field] = np.where(beyond, junk, getattr(given, field))
        for name, score in evaluate(given._replace(**under), list(plain), **level).items():
            np.testing.assert_array_equal(score, plain[name], err_msg=name)
    with jax.enable_x64(True):
        wide = evaluate(given, list(plain), **level)
    for name, score in plain.items():
        assert score.dtype == wide[name].dtype == np.float32
        np.testing.assert_allclose(wide[name], score, rtol=16 * EPS, atol=16 * EPS, err_msg=name)

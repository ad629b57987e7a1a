"""Answers drawn at every error rate from the same random bits, their scores and their laws (see `sims.sequence_metrics`)."""

import string
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from mirage_jax import sweep
from mirage_jax.metrics import ngrams, rouge
from mirage_jax.metrics.facts import METRICS, evaluate, options_of
from mirage_jax.outcomes import Characters, Tokens
from sims import processes
from sims.correlated import laws

EDITS = "insert_delete_substitute"
# each with the name of its strength; independent errors are a Markov chain of correlation 0
PROCESSES = {
    "independent": None, "markov": "correlation", "beta_mixed": "overdispersion", "cascade": "after", EDITS: None,
}  # fmt: skip
PLAIN = (
    "exact_match", "prefix_match", "token_accuracy", "token_edit_distance", "token_edit_distance_normalised", "lcs_length",
    "rouge_1", "rouge_2", "rouge_l", "token_f1",
)  # fmt: skip
BLEU = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
SMOOTHED = ((BLEU, "exp"), (BLEU[1:], "none"))  # at order 1 smoothing changes nothing
CHARACTERS = ("exact_match_caseless", "chrf", "numeric_match")  # letters are no number: NaN
DIGITS, LETTERS = 10, 52  # sizes of the two alphabets
VOCABULARY = 1000  # no id of a text is above
MOMENTS = 9  # counts of `sweep.moments`
SHIFT = 2  # the difference of two scores, over the metric's unit, is in [-2, 2]


class Item(NamedTuple):
    """What is drawn for one cell and error rate."""

    rate: Float[Array, ""]
    length: Int[Array, ""]
    vocabulary: Int[Array, ""]
    process: Int[Array, ""]  # its number among those of the job
    strength: Float[Array, ""]
    sentences: Int[Array, ""]
    deviation: Float[Array, ""]  # of references from the truth


def _answer(
    key: Key[Array, ""],
    target: Int[Array, " width"],
    sentence: Int[Array, " width"] | None,
    item: Item,
    names: tuple[str, ...],
) -> tuple[Array, Array, Array | None]:
    """Predicted ids, their length and their sentences; edits may make an answer twice as long as its target."""
    key_errors, key_wrong = jax.random.split(key)

    def chain(name: str) -> tuple[Array, Array, Array | None]:
        wrong = processes.errors(key_errors, name, target.size, item.rate, item.strength)
        return processes.substitute(key_wrong, target, wrong, item.vocabulary), item.length, sentence

    def edited(ids: Array, vocabulary: Any, substituted: Any) -> tuple[Array, Array]:
        rates = item.rate / 3, item.rate / 3, substituted
        return processes.insert_delete_substitute(key_errors, ids[: ids.size // 2], item.length, vocabulary, *rates)

    def edits() -> tuple[Array, Array, Array | None]:
        ids, length = edited(target, item.vocabulary, item.rate / 3)
        if sentence is None:
            return ids, length, None
        # the same edits of the sentence numbers: an inserted 0 takes the number of the token before it
        return ids, length, jax.lax.cummax(edited(sentence, 1, jnp.float32(0))[0])

    return jax.lax.switch(item.process, [edits if name == EDITS else partial(chain, name) for name in names])


def _tokens(key: Key[Array, ""], item: Item, width: int, names: tuple[str, ...]) -> Tokens:
    """A uniform target and its answer."""
    key_target, key_answer = jax.random.split(key)
    target = jax.random.randint(key_target, (width,), 0, item.vocabulary)
    predicted, length, _ = _answer(key_answer, target, None, item, names)
    return Tokens(target, item.length, predicted, length)


def _referenced(key: Key[Array, ""], item: Item, width: int, names: tuple[str, ...], references: int) -> Tokens:
    """One answer in sentences, beside the truth and so many references that deviate from it, on a leading axis."""
    key_truth, key_answer, key_references = jax.random.split(key, 3)
    truth = jax.random.randint(key_truth, (width,), 0, item.vocabulary)
    sentence = jnp.arange(width) * item.sentences // item.length
    answer = _answer(key_answer, truth, sentence, item, names)

    def reference(i: Array) -> Array:
        key_deviates, key_other = jax.random.split(jax.random.fold_in(key_references, i))
        deviates = jax.random.bernoulli(key_deviates, item.deviation, (width,))
        return processes.substitute(key_other, truth, deviates, item.vocabulary)

    def all_alike(x: Array) -> Array:
        return jnp.broadcast_to(x, (1 + references, *x.shape))

    target = jnp.concatenate([truth[None], jax.vmap(reference)(jnp.arange(references))])[:, : width // 2]
    predicted, length, numbers = jax.tree.map(all_alike, answer)
    return Tokens(
        target, all_alike(item.length), predicted, length, target_sentence=all_alike(sentence[: width // 2]),
        predicted_sentence=numbers,
    )  # fmt: skip


def _characters(key: Key[Array, ""], item: Item, width: int, names: tuple[str, ...]) -> Tokens:
    """The same ids as characters: digits, or letters of both cases."""
    drawn = _tokens(key, item, width, names)
    spelled = jnp.array([ord(c) for c in string.digits + string.ascii_letters], jnp.int32)
    first = jnp.where(item.vocabulary == LETTERS, DIGITS, 0)
    return Characters(spelled[first + drawn.target], *drawn[1:2], spelled[first + drawn.predicted], *drawn[3:4])


def scored(kind: str, references: Sequence[int], deviation: float) -> list[tuple[str, dict[str, Any]]]:
    """Metric and options of each score of a kind of cell, in the order in which they are counted."""
    if kind == "text":
        plain = [(metric, {}) for metric in PLAIN]
        return plain + [(name, {"level": "sentence", "smooth": how}) for names, how in SMOOTHED for name in names]
    if kind == "characters":
        return [(metric, {}) for metric in CHARACTERS]
    among = [(1, 0.0), *((count, deviation) for count in references)]
    of = [{"several": how, "references": count, "deviation": d} for how in ("best", "stitched") for count, d in among]
    return [("rouge_l_sum", options) for options in of]


def _score_text(outcome: Tokens) -> list[Array]:
    plain = evaluate(outcome, PLAIN, vocabulary=VOCABULARY)
    bleu = [evaluate(outcome, names, level="sentence", smooth=how) for names, how in SMOOTHED]
    return [score for found in (plain, *bleu) for score in found.values()]


def _score_characters(outcome: Tokens) -> list[Array]:
    return list(evaluate(outcome, CHARACTERS).values())


def _score_references(outcome: Any, several: tuple[int, ...]) -> list[Array]:
    """ROUGE-L-Sum against the truth, and against the first of so many references: the best, then all stitched together.

    Stitched: F1 of the answer's tokens that lie on a longest common subsequence of their sentence and any sentence of any
    reference (`union_lcs`, answer and references changing places), as many as a reference has tokens at most.
    """
    best, o = evaluate(outcome, "rouge_l_sum")["rouge_l_sum"], outcome
    covered = rouge.union_lcs(
        o.predicted, o.predicted_length, o.predicted_sentence, o.target, o.target_length, o.target_sentence
    )

    def stitched(by: Array) -> Array:
        length = o.target_length[..., 0]
        return ngrams.f1(jnp.minimum(by.sum(-1), length), length, o.predicted_length[..., 0])

    of_best = [best[..., 0], *(best[..., 1 : 1 + count].max(-1) for count in several)]
    return [*of_best, stitched(covered[..., 0, :]), *(stitched(covered[..., 1 : 1 + n, :].any(-2)) for n in several)]


def number(names: tuple[str, ...], process: str) -> int:
    """Where a process stands among those of a job."""
    return names.index("markov" if process == "independent" else process)


@cache
def counting(kind: str, width: int, names: tuple[str, ...], references: tuple[int, ...] = ()) -> Callable[..., Array]:
    """Moments of every score at every error rate, [score, rate], then of its falls between pairs of rates, [score, pair].

    A cell is (rates, pairs of their numbers, the other fields of Item). Answers at all rates share their key.

    Args:
        kind: text, characters or references.
        width: tokens of the longest answer.
        names: the processes of these cells, chains by name; `number` tells which is a cell's.
        references: how many, for that kind.
    """
    of: tuple[Callable[..., Tokens], Callable[[Tokens], list[Array]]]
    if kind == "references":
        of = partial(_referenced, references=max(references)), partial(_score_references, several=references)
    else:
        of = (_tokens, _score_text) if kind == "text" else (_characters, _score_characters)
    draw, score = of
    long = np.array([np.isinf(METRICS[metric].bounds[1]) for metric in PLAIN])  # scores that grow with the length

    def count(key: Key[Array, ""], cell: Any, ids: UInt32[Array, " chunk"], real: Bool[Array, " chunk"]) -> Array:
        rates, pairs, *rest = cell

        def answers(i: Array) -> Tokens:
            return jax.vmap(lambda rate: draw(jax.random.fold_in(key, i), Item(rate, *rest), width, names))(rates)

        def all_scores() -> Array:
            return jnp.stack(score(jax.vmap(answers)(ids)))  # [score, chunk, rate]

        # XLA would draw and score anew for each sum taken below: it cannot look through a condition
        nothing = jnp.zeros((len(scored(kind, references, 0.0)), ids.size, rates.size))
        found = jax.lax.cond(real[0], all_scores, lambda: nothing)
        unit = jnp.ones(len(found)).at[: len(long)].set(jnp.where(long, rest[0], 1)) if kind == "text" else 1.0
        falls = (found[..., pairs[:, 0]] - found[..., pairs[:, 1]]) / jnp.reshape(unit, (-1, 1, 1)) + SHIFT
        moments = jax.vmap(jax.vmap(lambda one: sweep.moments(one, real), 1))
        return jnp.concatenate([moments(found).ravel(), moments(falls).ravel()])

    return jax.jit(count)  # traced once, however often a sweep asks for it


def metric_law(metric: str, length: int, rate: np.ndarray) -> np.ndarray:
    """Of independent errors, by wrong tokens seen nowhere else; BLEU's is of a corpus."""
    return METRICS[metric].closed_form(1 - rate, length, **options_of(metric, level="corpus"))


def caseless_law(length: int, rate: np.ndarray) -> np.ndarray:
    """Exact match without case: of the 51 wrong letters one is the right one in the other case."""
    return (1 - rate * (LETTERS - 2) / (LETTERS - 1)) ** length


def chain_law(process: str, strength: float, metric: str, length: int, rate: np.ndarray) -> np.ndarray:
    """Of another process: exact for whole answers and tokens; its mismatches are an upper bound on edits."""
    found = laws(process, length, rate, np.full_like(rate, strength))
    wrong = 1 - found["token_accuracy"]
    return (found | {"token_edit_distance": length * wrong, "token_edit_distance_normalised": wrong})[metric]

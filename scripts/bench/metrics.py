"""Metrics against rapidfuzz, rouge_score, sacrebleu and scikit-learn.

Both sides of a row score the same pairs, and the row is refused unless they agree. Edit distance and LCS start from int32
arrays on either side, the peer through its fastest conversion (bytes where ids fit, else text whose characters are ids).
The other peers get their own kind of input, made before the clock starts; where they are too slow for the whole batch
they score `peer_batch` of it, and the ratio is of seconds per pair.
"""

import importlib
import importlib.metadata
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from mirage_jax import Choices, Tokens, evaluate
from mirage_jax.kernels import alignment
from mirage_jax.progress import echo
from scripts.bench.timing import in_turns

BATCH = {5: 65_536, 32: 65_536, 64: 65_536, 128: 16_384, 1024: 1_024}  # pairs, by length
VOCABULARY = (10, 250, 50_000)
ERROR_RATE = (0.01, 0.2)
WORKERS = 2


def rows(quick: bool) -> Iterator[dict[str, Any]]:
    """Every row of the comparison, as it is measured; `quick` has small batches and two repeats."""
    repeats = 2 if quick else 9
    for peer, of in {
        "rapidfuzz": _alignment, "rouge_score": _rouge, "sacrebleu": _bleu, "sklearn": _calibration,
    }.items():  # fmt: skip
        try:
            module = importlib.import_module(peer)
        except ImportError:
            echo(f"{peer} is not installed: no row against it")
            continue
        name = {"rouge_score": "rouge-score", "sklearn": "scikit-learn"}.get(peer, peer)
        named = f"{name} {importlib.metadata.version(name)}"
        yield from of(module, named, 64 if quick else 1, repeats)


def pairs(batch: int, length: int, vocabulary: int, error_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and predictions in which tokens are redrawn at the error rate; int32 [batch, length]."""
    rng = np.random.default_rng([batch, length, vocabulary, int(1000 * error_rate)])
    target = rng.integers(0, vocabulary, (batch, length), dtype=np.int32)
    wrong = rng.integers(0, vocabulary, (batch, length), dtype=np.int32)
    return target, np.where(rng.random((batch, length)) < error_rate, wrong, target)


def _row(
    about: dict[str, Any], batch: int, peer: str, ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int,
    peer_batch: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    ours_s, peer_s = in_turns((lambda: jax.block_until_ready(ours()), theirs), repeats)
    ratio = (peer_s / (peer_batch or batch)) / (ours_s / batch)
    row = about | {"batch": batch, "peer": peer, "ratio": ratio, "ours_s": ours_s, "peer_s": peer_s}
    return row | ({"peer_batch": peer_batch} if peer_batch else {})


def _agree(ours: Any, theirs: Any, about: dict[str, Any]) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7, err_msg=str(about))


def _text(ids: np.ndarray) -> list[str] | list[bytes]:
    """Rows as strings that rapidfuzz reads without looking at a token (0 would end one, so ids move up by 1)."""
    kind, letter = (np.uint8, "S") if ids.max() < 255 else (np.int32, "U")
    return (ids + 1).astype(kind).view(f"{letter}{ids.shape[1]}")[:, 0].tolist()


def _alignment(rapidfuzz: Any, peer: str, shrink: int, repeats: int) -> Iterator[dict[str, Any]]:
    from rapidfuzz import process
    from rapidfuzz.distance import LCSseq, Levenshtein

    scorers = {
        "token_edit_distance": (alignment.edit_distance, Levenshtein.distance),
        "lcs_length": (alignment.lcs_length, LCSseq.similarity),
    }
    few = repeats < 3  # quick
    cells = itertools.product(scorers.items(), BATCH.items(), VOCABULARY[-1:] if few else VOCABULARY, ERROR_RATE)
    for (metric, (kernel, scorer)), (length, batch), vocabulary, error_rate in cells:
        target, predicted = pairs(max(batch // shrink, 16), length, vocabulary, error_rate)
        size = np.full(len(target), length, np.int32)

        def ours(kernel: Any = kernel, sides: Any = (target, size, predicted, size)) -> Any:
            return kernel(*sides)

        def theirs(scorer: Any = scorer, target: np.ndarray = target, predicted: np.ndarray = predicted) -> Any:
            return process.cpdist(_text(target), _text(predicted), scorer=scorer, workers=WORKERS, dtype=np.int32)

        about = {"metric": metric, "length": length, "vocabulary": vocabulary, "error_rate": error_rate}
        np.testing.assert_array_equal(ours(), theirs(), err_msg=str(about))
        about["form"] = alignment.form(length, jax.default_backend())
        yield _row(about, len(target), peer, ours, theirs, repeats)


def _words(ids: np.ndarray) -> list[str]:
    return [" ".join(map(str, row)) for row in ids.tolist()]


def _scored(target: np.ndarray, predicted: np.ndarray, metric: str, **options: Any) -> Callable[[], Any]:
    size = np.full(len(target), target.shape[1], np.int32)
    outcome = Tokens(*(jax.numpy.asarray(x) for x in (target, size, predicted, size)))
    return lambda: evaluate(outcome, metric, **options)[metric]


def _rouge(module: Any, peer: str, shrink: int, repeats: int) -> Iterator[dict[str, Any]]:
    from rouge_score.rouge_scorer import RougeScorer

    class Split:
        def tokenize(self, text: str) -> list[str]:
            return text.split()

    batch, few, length = 65_536 // shrink, 256 // min(shrink, 16), 32
    target, predicted = pairs(batch, length, 250, 0.2)
    texts = list(zip(_words(target[:few]), _words(predicted[:few]), strict=True))
    for metric, key in (("rouge_l", "rougeL"), ("rouge_1", "rouge1"), ("rouge_2", "rouge2")):
        scorer, ours = RougeScorer([key], tokenizer=Split()), _scored(target, predicted, metric)

        def theirs(scorer: Any = scorer, key: str = key) -> list[float]:
            return [scorer.score(*pair)[key].fmeasure for pair in texts]

        about = {"metric": metric, "length": length, "vocabulary": 250, "error_rate": 0.2}
        _agree(ours()[:few], theirs(), about)
        yield _row(about, batch, peer, ours, theirs, repeats, few)


def _bleu(sacrebleu: Any, peer: str, shrink: int, repeats: int) -> Iterator[dict[str, Any]]:
    batch, length = 16_384 // shrink, 32
    target, predicted = pairs(batch, length, 250, 0.2)
    said, right = _words(predicted), _words(target)
    for level in ("corpus", "sentence"):
        few = batch if level == "corpus" else max(batch // 8, 16)
        scorer = sacrebleu.BLEU(tokenize="none", effective_order=level == "sentence")
        ours = _scored(target, predicted, "bleu_4", level=level)

        def theirs(level: str = level, scorer: Any = scorer, few: int = few) -> Any:
            if level == "corpus":
                return scorer.corpus_score(said, [right]).score / 100
            return [scorer.sentence_score(a, [b]).score / 100 for a, b in zip(said[:few], right[:few], strict=True)]

        about = {"metric": "bleu_4", "level": level, "length": length, "vocabulary": 250, "error_rate": 0.2}
        _agree(ours() if level == "corpus" else ours()[:few], theirs(), about)
        yield _row(about, batch, peer, ours, theirs, repeats, None if few == batch else few)


def _calibration(sklearn: Any, peer: str, shrink: int, repeats: int) -> Iterator[dict[str, Any]]:
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss

    rng, batch, options = np.random.default_rng(0), 65_536 // shrink, 4
    log_prob = np.log(rng.dirichlet(np.ones(options), batch)).astype(np.float32)
    right = rng.integers(0, options, batch)
    weight = np.eye(options, dtype=np.float32)[right]
    outcome = Choices(*(jax.numpy.asarray(x) for x in (log_prob, np.ones(log_prob.shape, bool), weight)))
    p = np.exp(log_prob.astype(float))
    p /= p.sum(1, keepdims=True)
    labels = np.arange(options)

    def brier() -> float:
        return brier_score_loss(right, p, labels=labels, scale_by_half=False)  # pyright: ignore[reportArgumentType]

    def calibration() -> float:
        confidence, hit = p.max(1), p.argmax(1) == right
        accuracy, mean = calibration_curve(hit, confidence, n_bins=10)
        count = np.bincount(np.searchsorted(np.linspace(0, 1, 11)[1:-1], confidence), minlength=10)
        return (np.abs(accuracy - mean) * count[count > 0]).sum() / batch

    def ours(metric: str) -> Callable[[], Any]:
        return lambda: evaluate(outcome, metric)[metric].mean()

    for metric, theirs in (("brier_sum", brier), ("expected_calibration_error", calibration)):
        about = {"metric": metric, "length": None, "vocabulary": options, "error_rate": None}
        _agree(ours(metric)(), theirs(), about)
        yield _row(about, batch, peer, ours(metric), theirs, repeats)

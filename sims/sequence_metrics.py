"""Metrics of text against the error rate per token: which of them fall sharply, and where (appendix A of the paper).

Targets are uniform tokens; the answers go wrong at rate epsilon, by each of several processes. One answer is drawn at every
epsilon from the same random bits and scored under every metric: the curves differ by the metric alone, and the fall between
two error rates has its own standard error, much smaller than that of either end. Laws stand beside the draws, as rows of
source `closed_form`: those of the metrics (independent errors, wrong tokens seen nowhere else), and those of the processes.

ROUGE-L-Sum has a sweep of its own (figure 9 of the paper, which does not print its setup): answers of several sentences
against one reference or several, each of which deviates from the truth. Of several references either the best counts, or
their subsequences are stitched together, as in appendix A.4.
"""

import dataclasses
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from mirage_jax import sweep
from mirage_jax.metrics.facts import METRICS, options_of
from mirage_jax.study import Output, main
from mirage_jax.table import config_hash, setting, signature
from sims import engines, processes
from sims.correlated import laws
from sims.sequences import (
    BLEU,
    CHARACTERS,
    DIGITS,
    EDITS,
    LETTERS,
    MOMENTS,
    PLAIN,
    PROCESSES,
    VOCABULARY,
    counting,
    number,
)
from sims.sharpness import Sharpness, sharpness

NAME = "sequence_metrics"
DATA = ()
KINDS = ("text", "characters", "references")
LIKELIHOOD = ("nll", "perplexity")  # laws alone: the model gives each right token 1 - epsilon
SHORT, LONG = 20, 100  # widths of the programs
CHUNK, COST = 1 << 8, 32
FINE = np.unique([0.0, 0.05, 0.1, *np.geomspace(1e-5, 0.5, 400)])  # error rates at which a law shows its own slope


@dataclass(frozen=True)
class Config:
    """Grid of the sweep."""

    seed: int = 0
    """Seed of every random draw."""
    samples: int = 1024
    """Answers per cell of at most 20 tokens; those of characters too."""
    long_samples: int = 256
    """Answers per cell of more tokens."""
    rouge_samples: int = 64
    """Answers per cell of the ROUGE-L-Sum sweep."""
    rates: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
    """Error rates per token, rising from 0 to .5, with .05 and .1."""
    lengths: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)
    """Target lengths L in tokens, at most 100."""
    chain_lengths: tuple[int, ...] = (5, 20)
    """Lengths at which the errors of an answer hang together: Markov, beta-mixed, cascade."""
    edit_lengths: tuple[int, ...] = (5, 10)
    """Lengths, at most 50, at which tokens are inserted and deleted too, which may double them."""
    character_lengths: tuple[int, ...] = (1, 2, 5, 10, 20)
    """Lengths of digits and letters."""
    vocabularies: tuple[int, ...] = (1000, 10)
    """Vocabulary sizes under independent errors; the other processes take the first."""
    correlation: float = 0.5
    """Lag-1 correlation of Markov errors."""
    overdispersion: float = 0.3
    """Of beta-mixed items: the correlation of any two tokens of an item."""
    after: float = 1.0
    """Error rate after the first error of a cascade."""
    rouge_length: int = 20
    """Tokens of the truth in the ROUGE-L-Sum sweep."""
    sentences: tuple[int, ...] = (1, 4)
    """Sentences that they make."""
    references: tuple[int, ...] = (1, 2, 5)
    """References that deviate from the truth; one that does not is there in any case."""
    deviation: float = 0.5
    """Rate at which a reference's tokens differ from the truth."""

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        if min(self.samples, self.long_samples, self.rouge_samples) < 2:
            raise ValueError(f"expected samples >= 2, got {self.samples}, {self.long_samples}, {self.rouge_samples}")
        rising = all(a < b for a, b in itertools.pairwise(self.rates))
        if not rising or {0.0, 0.05, 0.1, 0.5} - set(self.rates) or self.rates[0] < 0 or self.rates[-1] > 0.5:
            raise ValueError(f"expected rates that rise from 0 to 0.5, with 0.05 and 0.1, got {self.rates}")
        lengths = (*self.lengths, *self.chain_lengths, *self.edit_lengths, *self.character_lengths, self.rouge_length)
        if not self.lengths or not all(1 <= length <= 100 for length in lengths):
            raise ValueError(f"expected lengths from 1 to 100, got {lengths}")
        if 2 * max(*self.edit_lengths, self.rouge_length) > 100:
            raise ValueError(f"expected lengths of at most 50 where tokens are inserted, got {self.edit_lengths}")
        if not self.vocabularies or not all(2 <= size <= VOCABULARY for size in self.vocabularies):
            raise ValueError(f"expected vocabularies from 2 to 1000, got {self.vocabularies}")
        if min(self.sentences, default=0) < 1 or max(self.sentences) > self.rouge_length:
            raise ValueError(f"expected from 1 sentence to one a token, got {self.sentences}")
        if min(self.references, default=0) < 1 or not 0 <= self.deviation <= 1:
            raise ValueError(f"expected references >= 1, deviating at a rate: {self.references}, {self.deviation}")
        for process, name in PROCESSES.items():
            if name:
                processes.check(process, 1, 0.5, getattr(self, name))


PRESETS = {
    "quick": Config(),
    "full": Config(
        samples=1 << 16, long_samples=1 << 14, rouge_samples=1 << 13,
        chain_lengths=(2, 5, 10, 20, 50, 100), edit_lengths=(2, 5, 10, 20, 50), character_lengths=(1, 2, 5, 10, 20, 50, 100),
        rates=(
            0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5,
        ),
    ),
}  # fmt: skip


class Cell(NamedTuple):
    """One curve: what is drawn, at every error rate."""

    process: str
    vocabulary: int
    length: int
    strength: float = 0.0  # of the process, where it has one
    sentences: int = 1


class Score(NamedTuple):
    """A score that cells of a kind are given."""

    metric: str
    options: tuple[tuple[str, Any], ...] = ()


def scores(config: Config, kind: str) -> list[Score]:
    """Every score of a kind of cell, in the order of `sims.sequences`."""
    if kind == "text":
        bleu = [Score(metric, (("smooth", "exp"),)) for metric in BLEU]
        return [*map(Score, PLAIN), *bleu, *(Score(metric, (("smooth", "none"),)) for metric in BLEU[1:])]
    if kind == "characters":
        return [*map(Score, CHARACTERS)]
    among = [(1, 0.0), *((count, config.deviation) for count in config.references)]
    options = [
        (("several", how), ("references", r), ("deviation", d)) for how in ("best", "stitched") for r, d in among
    ]
    return [Score("rouge_l_sum", of) for of in options]


def cells(config: Config) -> dict[str, list[Cell]]:
    """Cells of each job, by its name KIND/WIDTH."""
    strength = {process: float(getattr(config, name)) if name else 0.0 for process, name in PROCESSES.items()}
    most, *_ = config.vocabularies
    texts = [Cell("independent", size, length) for size in config.vocabularies for length in config.lengths]
    chains = [(process, strength[process]) for process, name in PROCESSES.items() if name]
    texts += [Cell(process, most, length, own) for process, own in chains for length in config.chain_lengths]
    texts += [Cell(EDITS, most, length) for length in config.edit_lengths]
    characters = [Cell("independent", size, n) for size in (DIGITS, LETTERS) for n in config.character_lengths]
    found: dict[str, list[Cell]] = {}
    for kind, group in (("text", texts), ("characters", characters)):
        for cell in group:
            width = cell.length * (2 if cell.process == EDITS else 1)
            found.setdefault(f"{kind}/{SHORT if width <= SHORT else LONG}", []).append(cell)
    found[f"references/{2 * config.rouge_length}"] = [
        Cell(process, size, config.rouge_length, strength[process], count)
        for process in ("independent", "cascade", EDITS)
        for size in config.vocabularies
        for count in config.sentences
    ]
    return found


def samples(config: Config, job: str) -> int:
    """Answers per cell of a job."""
    kind, width = job.split("/")
    return (
        config.rouge_samples if kind == "references" else config.samples if int(width) == SHORT else config.long_samples
    )


def jobs(config: Config) -> list[sweep.Job]:
    """One job for each kind and width of answers."""
    found, rates = [], np.asarray(config.rates, np.float32)
    for name, group in cells(config).items():
        kind, width = name.split("/")
        names = tuple(p for p in PROCESSES if p in {*(cell.process for cell in group), "markov"} and p != "independent")
        place = [(KINDS.index(kind), list(PROCESSES).index(cell.process), round(cell.strength * 1e6)) for cell in group]
        # by value, not by place: another length or vocabulary in the config leaves these draws as they are
        path = [(*at, cell.vocabulary, cell.length, cell.sentences) for at, cell in zip(place, group, strict=True)]
        fold = jax.vmap(lambda at: reduce(jax.random.fold_in, at, jax.random.key(config.seed)))
        process = np.array([number(names, cell.process) for cell in group], np.int32)
        size, length, sentences = (np.array(x, np.int32) for x in zip(*(c[1:3] + c[4:] for c in group), strict=True))
        strength, deviation = np.array([(c.strength, config.deviation) for c in group], np.float32).T
        given = np.tile(rates, (len(group), 1)), length, size, process, strength, sentences, deviation
        count = counting(kind, int(width), names, config.references if kind == "references" else ())
        n, tokens = samples(config, name), int(width) * rates.size
        found.append(sweep.Job(name, count, fold(np.array(path, np.uint32)), given, n, tokens, COST, CHUNK))
    return found


def rows(config: Config, counts: Mapping[str, np.ndarray]) -> Output:
    """Laws and simulated scores at every error rate, and the sharpness of each curve."""
    which = config_hash(NAME, dataclasses.asdict(config))[:8]
    found, sharp = [], []
    for curve in itertools.chain(_laws(config), _drawn(config, counts)):
        options = curve.process | dict(curve.score.options)
        what = {
            "source": curve.source, "task": curve.task, "setting": setting(**options), "length": curve.length,
            "metric": curve.score.metric,
        }  # fmt: skip
        how = signature(curve.score.metric, config=which, engine=curve.source, **curve.level, **options)
        of_all = what | {"family": "tokens", "scale_kind": "error_rate", "signature": how}
        of_all |= {"seed": config.seed, "unparsed": 0} if curve.source == "simulated" else {}
        for rate, score in zip(config.rates, curve.scores, strict=True):
            found.append(of_all | {"model": f"error={rate:g}", "scale": rate} | score)
        sharp.append(what | {"n": curve.scores[0].get("n")} | curve.sharpness._asdict() | {"limit": curve.limit})
    return Output(found, {"sharpness": pd.DataFrame(sharp).convert_dtypes()})


class Curve(NamedTuple):
    """A metric's scores at all error rates, as columns of the table, and what is said of their fall."""

    source: str
    task: str
    process: dict[str, Any]
    length: int
    score: Score
    level: dict[str, Any]  # the metric's options that are the same for all
    scores: list[dict[str, Any]]
    sharpness: Sharpness
    limit: float = math.nan  # S of a law at all rates, not only those of the grid


def _laws(config: Config) -> Iterator[Curve]:
    """Laws of the metrics under independent errors; and of whole answers, tokens and mismatches by the other processes."""
    for length, metric in itertools.product(config.lengths, (*PLAIN, *BLEU, "chrf", *LIKELIHOOD)):
        yield _law(config, {"process": "independent"}, metric, length, partial(_independent, metric, length))
    for length in config.character_lengths:
        yield _law(config, {"process": "independent"}, "exact_match_caseless", length, partial(_caseless, length))
    for process, name in PROCESSES.items():
        for length in config.chain_lengths if name else ():
            strength = float(getattr(config, str(name)))
            law = partial(_dependent, process, strength, length)
            for metric in PLAIN[:5]:
                yield _law(config, {"process": process, name: strength}, metric, length, partial(law, metric))


def _independent(metric: str, length: int, rate: np.ndarray) -> np.ndarray:
    return METRICS[metric].closed_form(1 - rate, length, **options_of(metric, level="corpus"))


def _caseless(length: int, rate: np.ndarray) -> np.ndarray:
    return (
        1 - rate * (LETTERS - 2) / (LETTERS - 1)
    ) ** length  # one wrong letter in 51 is the right one in the other case


def _dependent(process: str, strength: float, length: int, metric: str, rate: np.ndarray) -> np.ndarray:
    """Exact for whole answers and tokens; mismatches are an upper bound on edits, as under independent errors."""
    found = laws(process, length, rate, np.full_like(rate, strength))
    wrong = 1 - found["token_accuracy"]
    return (found | {"token_edit_distance": length * wrong, "token_edit_distance_normalised": wrong})[metric]


def _law(config: Config, process: dict[str, Any], metric: str, length: int, law: Callable[..., np.ndarray]) -> Curve:
    values, limit = law(np.asarray(config.rates)), sharpness(FINE.tolist(), law(FINE).tolist()).sharpness
    level = {"level": "corpus" if metric in BLEU else "sentence"} if "level" in METRICS[metric].options else {}
    task = "letters" if metric == "exact_match_caseless" else "tokens"
    found = [{"score": float(value)} for value in values]
    of = sharpness(config.rates, values.tolist())
    return Curve("closed_form", task, process, length, Score(metric), level, found, of, limit)


def _drawn(config: Config, counts: Mapping[str, np.ndarray]) -> Iterator[Curve]:
    """Simulated scores, and the standard errors of their falls."""
    rates = len(config.rates)
    for name, group in cells(config).items():
        n, kind = samples(config, name), name.split("/")[0]
        tried = scores(config, kind)
        for cell, counted in zip(group, counts[name], strict=True):
            ends, falls = np.split(counted.reshape(-1, MOMENTS), [len(tried) * rates])
            each = zip(tried, ends.reshape(-1, rates, MOMENTS), falls.reshape(-1, rates - 1, MOMENTS), strict=True)
            for score, end, fall in each:
                if not end[0][0]:  # letters are no number
                    continue
                found = [engines.scored_scores(one, (score.metric,), n)[score.metric] for one in end]
                yield _curve(config, kind, cell, score, found, fall)


def _curve(
    config: Config, kind: str, cell: Cell, score: Score, found: list[dict[str, Any]], falls: np.ndarray
) -> Curve:
    """One simulated curve from its scores and the moments of its falls."""
    unit = cell.length if math.isinf(METRICS[score.metric].bounds[1]) else 1
    # no spread was seen: at rate 0 there is none, elsewhere as if two answers had differed by the whole unit
    unseen = 2 * unit / found[0]["n"]
    se = [one["se"] or (unseen if rate else 0.0) for rate, one in zip(config.rates, found, strict=True)]
    step_se = [_error(fall) * unit or unseen for fall in falls]
    sharp = sharpness(config.rates, [one["score"] for one in found], se, step_se)
    task = {"text": "tokens", "references": "sentences"}.get(kind) or {DIGITS: "digits", LETTERS: "letters"}[
        cell.vocabulary
    ]
    name = PROCESSES[cell.process]
    process = {"process": cell.process, "vocabulary": cell.vocabulary} | ({name: cell.strength} if name else {})
    process |= {"sentences": cell.sentences} if kind == "references" else {}
    level = {"level": "sentence"} if "level" in METRICS[score.metric].options else {}
    return Curve("simulated", task, process, cell.length, score, level, found, sharp)


def _error(moments: np.ndarray) -> float:
    """Standard error of the mean of which these are the moments."""
    n, total, squares = sweep.of_moments(moments)
    return math.sqrt((n * squares - total**2) / (n - 1)) / n / sweep.ONE


if __name__ == "__main__":
    main(sys.modules[__name__])

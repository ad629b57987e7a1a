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
from mirage_jax.metrics.facts import METRICS
from mirage_jax.study import Output, main
from mirage_jax.table import config_hash, setting, signature
from sims import engines, processes, sequences
from sims.sequences import BLEU, DIGITS, EDITS, LETTERS, PLAIN, PROCESSES
from sims.sharpness import Errors, Sharpness, sharpness

NAME = "sequence_metrics"
DATA = ()
KINDS = ("text", "characters", "references")
LIKELIHOOD = ("nll", "perplexity")  # laws alone: the model gives each right token 1 - epsilon
SHORT, LONG = 20, 100  # widths of the programs
CHUNK, COST = 1 << 8, 32
BETWEEN = (0.05, 0.1)  # where ROUGE-L-Sum falls in figure 9
FINE = np.unique([0.0, *BETWEEN, *np.geomspace(1e-5, 0.5, 400)]).tolist()  # where a law shows its own slope


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
        if not rising or {0.0, *BETWEEN, 0.5} - set(self.rates) or self.rates[0] < 0 or self.rates[-1] > 0.5:
            raise ValueError(f"expected rates that rise from 0 to 0.5, with 0.05 and 0.1, got {self.rates}")
        lengths = (*self.lengths, *self.chain_lengths, *self.edit_lengths, *self.character_lengths, self.rouge_length)
        if not self.lengths or not all(1 <= length <= 100 for length in lengths):
            raise ValueError(f"expected lengths from 1 to 100, got {lengths}")
        if 2 * max(*self.edit_lengths, self.rouge_length) > 100:
            raise ValueError(f"expected lengths of at most 50 where tokens are inserted, got {self.edit_lengths}")
        if not self.vocabularies or not all(2 <= size <= sequences.VOCABULARY for size in self.vocabularies):
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
    if kind == "references":
        return config.rouge_samples
    return config.samples if int(width) == SHORT else config.long_samples


def jobs(config: Config) -> list[sweep.Job]:
    """One job for each kind and width of answers."""
    found, rates, groups = [], np.asarray(config.rates, np.float32), cells(config)
    keys = _keys(config.seed, groups)
    for name, group in groups.items():
        kind, width = name.split("/")
        names = tuple(p for p in PROCESSES if p in {*(cell.process for cell in group), "markov"} and p != "independent")
        of = [(cell.length, cell.vocabulary, sequences.number(names, cell.process), cell.sentences) for cell in group]
        length, vocabulary, process, sentences = (np.array(values, np.int32) for values in zip(*of, strict=True))
        strength, deviation = np.array([(cell.strength, config.deviation) for cell in group], np.float32).T
        all_alike = (np.stack([values] * len(group)) for values in (rates, _pairs(config)))
        given = (*all_alike, length, vocabulary, process, strength, sentences, deviation)
        count = sequences.counting(kind, int(width), names, config.references if kind == "references" else ())
        n, tokens = samples(config, name), int(width) * rates.size
        found.append(sweep.Job(name, count, keys[name], given, n, tokens, COST, min(n, CHUNK)))
    return found


def _pairs(config: Config) -> np.ndarray:
    """Numbers of the rates between which a fall is measured: each two neighbours, the ends, and where the paper looks."""
    last, where = len(config.rates) - 1, [config.rates.index(rate) for rate in BETWEEN]
    return np.array([*itertools.pairwise(range(last + 1)), (0, last), where], np.int32)


def _keys(seed: int, groups: Mapping[str, list[Cell]]) -> dict[str, Any]:
    """Keys of the cells, by value, not by place: another length or vocabulary in the config leaves these draws as they are."""

    def path(kind: str, c: Cell) -> tuple[int, ...]:
        where = KINDS.index(kind), list(PROCESSES).index(c.process), round(c.strength * 1e6)
        return *where, c.vocabulary, c.length, c.sentences

    paths = [path(name.split("/")[0], cell) for name, group in groups.items() for cell in group]
    fold = jax.jit(jax.vmap(lambda at: reduce(jax.random.fold_in, at, jax.random.key(seed))))
    keys, ends = fold(np.array(paths, np.uint32)), np.cumsum([len(group) for group in groups.values()])
    return {name: keys[end - len(groups[name]) : end] for name, end in zip(groups, ends, strict=True)}


def rows(config: Config, counts: Mapping[str, np.ndarray]) -> Output:
    """Laws and simulated scores at every error rate, and the sharpness of each curve."""
    which = config_hash(NAME, dataclasses.asdict(config))[:8]
    found, sharp = [], []
    for curve in itertools.chain(_laws(config), _drawn(config, counts)):
        what = {"source": curve.source, "task": curve.task, "setting": setting(**curve.options)}
        what |= {"metric": curve.metric, "length": curve.length}
        how = signature(curve.metric, config=which, engine=curve.source, **curve.options)
        of_all = what | {"family": "tokens", "scale_kind": "error_rate", "signature": how}
        of_all |= {"seed": config.seed, "unparsed": 0} if curve.source == "simulated" else {}
        for rate, score in zip(config.rates, curve.scores, strict=True):
            found.append(of_all | {"model": f"error={rate:g}", "scale": rate} | score)
        sharp.append(what | {"n": curve.scores[0].get("n")} | curve.sharpness._asdict() | {"limit": curve.limit})
    return Output(found, {"sharpness": pd.DataFrame(sharp)})


class Curve(NamedTuple):
    """A metric's scores at all error rates, as columns of the table, and what is said of their fall."""

    source: str
    task: str
    metric: str
    length: int
    options: Mapping[str, Any]
    scores: list[dict[str, Any]]
    sharpness: Sharpness
    limit: float = math.nan  # S of a law at all rates, not only those of the grid


def _laws(config: Config) -> Iterator[Curve]:
    """Laws of the metrics under independent errors; and of whole answers, tokens and mismatches by the other processes."""
    for length, metric in itertools.product(config.lengths, (*PLAIN, *BLEU, "chrf", *LIKELIHOOD)):
        options = {"level": "corpus"} if metric in BLEU else {}
        law = partial(sequences.metric_law, metric, length)
        yield _law(config, "tokens", metric, length, {"process": "independent"} | options, law)
    for length in config.character_lengths:
        options = {"process": "independent", "vocabulary": LETTERS}
        yield _law(config, "letters", "exact_match_caseless", length, options, partial(sequences.caseless_law, length))
    for process, name in PROCESSES.items():
        for length, metric in itertools.product(config.chain_lengths if name else (), PLAIN[:5]):
            strength = float(getattr(config, str(name)))
            law = partial(sequences.chain_law, process, strength, metric, length)
            yield _law(config, "tokens", metric, length, {"process": process, str(name): strength}, law)


def _law(
    config: Config, task: str, metric: str, length: int, options: dict[str, Any], law: Callable[..., np.ndarray]
) -> Curve:
    values, limit = law(np.asarray(config.rates)).tolist(), sharpness(FINE, law(np.asarray(FINE)).tolist()).sharpness
    scores = [{"score": value} for value in values]
    return Curve("closed_form", task, metric, length, options, scores, sharpness(config.rates, values), limit)


def _drawn(config: Config, counts: Mapping[str, np.ndarray]) -> Iterator[Curve]:
    """Simulated scores, and the standard errors of their falls."""
    rates = len(config.rates)
    for name, group in cells(config).items():
        kind, scores = name.split("/")[0], sequences.scored(name.split("/")[0], config.references, config.deviation)
        for cell, counted in zip(group, counts[name], strict=True):
            ends, falls = np.split(counted.reshape(-1, sequences.MOMENTS), [len(scores) * rates])
            of_each = ends.reshape(-1, rates, sequences.MOMENTS), falls.reshape(len(scores), -1, sequences.MOMENTS)
            for (metric, options), end, fall in zip(scores, *of_each, strict=True):
                if end[0][0]:  # letters are no number
                    found = [engines.scored_scores(one, (metric,), samples(config, name))[metric] for one in end]
                    of = _measured(config, metric, cell.length, found, fall)
                    what = _options(kind, cell) | options
                    yield Curve("simulated", _task(kind, cell), metric, cell.length, what, found, of)


def _task(kind: str, cell: Cell) -> str:
    alphabet = "digits" if cell.vocabulary == DIGITS else "letters"
    return {"text": "tokens", "characters": alphabet, "references": "sentences"}[kind]


def _options(kind: str, cell: Cell) -> dict[str, Any]:
    name = PROCESSES[cell.process]
    found = {"process": cell.process, "vocabulary": cell.vocabulary} | ({name: cell.strength} if name else {})
    return found | ({"sentences": cell.sentences} if kind == "references" else {})


def _measured(config: Config, metric: str, length: int, scores: list[dict[str, Any]], falls: np.ndarray) -> Sharpness:
    """Sharpness of a simulated curve, from its scores and the moments of its falls."""
    unit = length if math.isinf(METRICS[metric].bounds[1]) else 1
    # where no spread was seen: none at rate 0, elsewhere as if two answers had differed by the whole unit
    unseen = 2 * unit / scores[0]["n"]
    se = [one["se"] or (unseen if rate else 0.0) for rate, one in zip(config.rates, scores, strict=True)]
    *steps, whole, part = [_error(fall) * unit or unseen for fall in falls]
    return sharpness(config.rates, [one["score"] for one in scores], Errors(se, steps, whole, part), BETWEEN)


def _error(moments: np.ndarray) -> float:
    """Standard error of the mean of which these are the moments."""
    n, total, squares = sweep.of_moments(moments)
    return math.sqrt((n * squares - total**2) / (n - 1)) / n / sweep.ONE


if __name__ == "__main__":
    main(sys.modules[__name__])

"""The paper's arithmetic experiment on real outputs: InstructGPT's answers to every product of two numbers below 100.

Accuracy and token edit distance of the same answers, by model size and target length (figure 3 of the paper), on all items
and on small samples of them (figure 4), and the three predictions of section 3 as tests. The four models are not one clean
family: davinci is text-davinci-003, the others are -001. Their sizes are the ones commonly given for these engines.
"""

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from mirage_jax.adapters import completions
from mirage_jax.adapters.completions import Answers
from mirage_jax.estimators import Interval, bootstrap_items
from mirage_jax.metrics.facts import setting
from mirage_jax.progress import track
from mirage_jax.study import Output, main
from mirage_jax.table import config_hash, signature

NAME = "instructgpt"
DATA = ("gpt3_multiplication",)
MODELS = {"text-ada-001": 350e6, "text-babbage-001": 1.3e9, "text-curie-001": 6.7e9, "text-davinci-003": 175e9}
METRICS = ("exact_match", "token_accuracy", "token_edit_distance")


@dataclass(frozen=True)
class Config:
    """Samples and resamples of the study."""

    seed: int = 0
    """Seed of the samples of items and of the bootstraps."""
    small: tuple[int, ...] = (20, 200)
    """Items per target length in the small tests; every length gets equally many."""
    resamples: int = 2000
    """Bootstrap resamples of each interval."""
    examples: int = 4
    """Answers per model shown in the report."""


PRESETS = {"quick": Config(), "full": Config(resamples=20_000)}


def run(config: Config, gpt3_multiplication: Path) -> Output:
    """Scores of each model by target length and test size, the tests of the three predictions, and some answers."""
    answers = [_read(gpt3_multiplication, model) for model in MODELS]
    scored = [completions.score_items(a, METRICS) for a in track(answers, "instructgpt: scoring")]
    length = np.array([len(target) for target in answers[0].target])
    chance = _chance(answers[0].target, length)
    key_sample, key_test = jax.random.split(jax.random.key(config.seed))
    samples = {"all": np.ones(length.size, bool)} | {str(n): _sample(key_sample, length, n) for n in config.small}
    how = {"config": config_hash(NAME, dataclasses.asdict(config))[:8]}
    rows = [
        row
        for model, (scores, unparsed) in zip(answers, scored, strict=True)
        for row in _rows(model, scores, unparsed, length, samples, chance, how)
    ]
    tests = pd.DataFrame(_tests(config, key_test, answers, [scores for scores, _ in scored], length))
    return Output(rows, {"tests": tests, "examples": pd.DataFrame(_examples(config, answers, scored))})


def _read(folder: Path, model: str) -> Answers:
    (found,) = completions.read(folder / f"multiplication_data_GPT3-{model}_0_100.csv", encoding="latin-1")
    return found._replace(model=model)


def _sample(key: Array, length: np.ndarray, n: int) -> np.ndarray:
    """n items of each target length, the same ones for every model, so that lengths differ in nothing but length."""
    chosen = np.zeros(length.size, bool)
    for at in np.unique(length):
        items = np.flatnonzero(length == at)
        order = jax.random.permutation(jax.random.fold_in(key, int(at)), items.size)
        chosen[items[np.asarray(order)[:n]]] = True
    return chosen


def _chance(targets: list[str], length: np.ndarray) -> dict[tuple[int, str], float]:
    """What guessing the commonest digit at every position earns, by target length.

    Leading digits of products are not uniform, so this is a higher bar than 10^-L.
    """
    chance = {}
    for at in np.unique(length):
        digits = np.array([list(t) for t, n in zip(targets, length, strict=True) if n == at])
        best = np.array([max(np.unique(column, return_counts=True)[1]) / len(digits) for column in digits.T])
        chance[int(at), "exact_match"] = float(best.prod())
        chance[int(at), "token_accuracy"] = float(best.mean())
        chance[int(at), "token_edit_distance"] = float((1 - best).sum())
    return chance


def _rows(
    answers: Answers,
    scores: dict[str, np.ndarray],
    unparsed: np.ndarray,
    length: np.ndarray,
    samples: dict[str, np.ndarray],
    chance: dict[tuple[int, str], float],
    how: dict[str, str],
) -> Iterator[dict[str, Any]]:
    share = {int(at): float(np.mean(length == at)) for at in np.unique(length)}
    for metric, values in scores.items():
        sig = signature(
            metric, data=answers.data[:8], encoding=answers.encoding, reader=answers.reader, tokens="characters", **how
        )
        for items, chosen in samples.items():
            strata = [(at, chosen & (length == at)) for at in share] + ([(None, chosen)] if items == "all" else [])
            for at, picked in strata:
                of = chance[at, metric] if at else sum(share[n] * chance[n, metric] for n in share)
                yield completions.statistics(values[picked], metric) | {
                    "source": "api", "family": "InstructGPT", "model": answers.model, "task": "multiplication",
                    "setting": setting(items=items, shots=3), "scale_kind": "params", "scale": MODELS[answers.model],
                    "length": at, "metric": metric, "unparsed": int(unparsed[picked].sum()), "chance": of,
                    "signature": sig,
                }  # fmt: skip


def _tests(
    config: Config, key: Array, answers: list[Answers], scores: list[dict[str, np.ndarray]], length: np.ndarray
) -> Iterator[dict[str, Any]]:
    """The paper's three predictions, and what independence of the digits would imply, with intervals over items."""
    key_width, key_ratio = jax.random.split(key)
    yield from _widths(config, key_width, scores)
    yield from _ratios(config, key_ratio, answers, length)
    for of, s in zip(answers, scores, strict=True):
        yield from _slopes(of.model, s["exact_match"], s["token_edit_distance"], length)


def _widths(config: Config, key: Array, scores: list[dict[str, np.ndarray]]) -> Iterator[dict[str, Any]]:
    """First prediction: the same answers change over more decades of scale under edit distance than under accuracy."""
    x = jnp.log10(jnp.array(list(MODELS.values())))
    both = np.stack([[s[m] for s in scores] for m in ("exact_match", "token_edit_distance")]).transpose(2, 0, 1)

    def widths(items: Float[Array, "items two models"]) -> Float[Array, " three"]:
        sharp, smooth = (transition_width(x, curve) for curve in items.mean(0))
        return jnp.stack([sharp, smooth, smooth / sharp])

    ends = bootstrap_items(key, both.astype(np.float32), widths, config.resamples)
    names = ("width_exact_match", "width_token_edit_distance", "width_ratio")
    for i, (name, value) in enumerate(zip(names, np.asarray(widths(jnp.asarray(both))), strict=True)):
        yield _result(name, None, None, value, Interval(ends.low[i], ends.high[i]), len(both))


def _ratios(config: Config, key: Array, answers: list[Answers], length: np.ndarray) -> Iterator[dict[str, Any]]:
    """Independence ratio: the rate of all digits right over the product of the rates of each; 1 if independent."""
    lengths = np.unique(length)
    right = np.stack([_right_by_position(of) for of in answers], 1)
    stratum = length[:, None] == lengths
    # a position beyond an answer's length counts as right: it leaves both the joint rate and the product as they are
    beyond = np.arange(right.shape[2]) >= length[:, None]
    packed = np.concatenate([stratum, (right | beyond[:, None]).reshape(len(length), -1)], 1).astype(np.float32)

    def ratios(items: Float[Array, "items columns"]) -> Float[Array, "models lengths"]:
        of, x = items[:, : len(lengths)], items[:, len(lengths) :].reshape(-1, *right.shape[1:])
        n = of.sum(0)
        joint = jnp.einsum("im,il->ml", x.prod(-1), of) / n
        each = jnp.einsum("imp,il->mlp", x, of) / n[:, None]
        return joint / each.prod(-1)

    values = np.asarray(ratios(jnp.asarray(packed)))
    ends = bootstrap_items(key, packed, ratios, config.resamples)
    for m, of in enumerate(answers):
        for i, at in enumerate(lengths):
            if at == 1:
                continue  # one digit is always independent of itself
            inside = right[stratum[:, i], m, :at]
            whole = int(inside.all(-1).sum())
            # from fewer than five successes, or failures, resampling shows little of the spread
            known = 5 <= whole <= len(inside) - 5
            interval = Interval(ends.low[m, i], ends.high[m, i]) if known else None
            yield _result("independence_ratio", of.model, int(at), values[m, i], interval, len(inside))


def _slopes(model: str, exact: np.ndarray, edits: np.ndarray, length: np.ndarray) -> Iterator[dict[str, Any]]:
    """Third prediction: log accuracy and edit distance both grow in proportion to length, at the rate of length 1.

    Lines through the origin, by least squares over the lengths (for the logarithm, those with any success).
    """
    at = np.unique(length)
    rate, distance = (np.array([values[length == n].mean() for n in at]) for values in (exact, edits))
    seen = rate > 0
    slope = at[seen] @ np.log(rate[seen]) / (at[seen] @ at[seen])
    yield _result("log_slope", model, None, slope, None, int(np.isin(length, at[seen]).sum()))
    yield _result(
        "log_slope_predicted", model, None, np.log(rate[0]) if rate[0] else np.nan, None, int((length == 1).sum())
    )
    slope = at @ distance / (at @ at)
    yield _result("edit_slope", model, None, slope, None, length.size)
    yield _result("edit_slope_predicted", model, None, distance[0], None, int((length == 1).sum()))


def transition_width(x: Float[Array, " models"], y: Float[Array, " models"]) -> Float[Array, ""]:
    """Decades of scale between 10 % and 90 % of the way from the first score to the last, interpolated linearly.

    Where a curve crosses a level more than once the first crossing counts.
    """
    progress = (y - y[0]) / (y[-1] - y[0])
    crossed = []
    for share in (0.1, 0.9):
        at = jnp.clip(jnp.argmax(progress >= share), 1, None)
        below, above = progress[at - 1], progress[at]
        crossed.append(x[at - 1] + (x[at] - x[at - 1]) * (share - below) / (above - below))
    return crossed[1] - crossed[0]


def _right_by_position(answers: Answers) -> np.ndarray:
    """[items, longest target]: whether the answer has the right digit at that position of the target."""
    pairs = list(zip(answers.target, answers.parsed(), strict=True))
    width = max(len(target) for target, _ in pairs)
    return np.array([[i < len(t) and (a or "")[i : i + 1] == t[i] for i in range(width)] for t, a in pairs])


def _result(
    test: str, model: str | None, length: int | None, value: Any, ends: Interval | None, n: int | None
) -> dict[str, Any]:
    low, high = (float(ends.low), float(ends.high)) if ends else (np.nan, np.nan)
    return {"test": test, "model": model, "length": length, "value": float(value), "low": low, "high": high, "n": n}


def _examples(config: Config, answers: list[Answers], scored: list[tuple[Any, Any]]) -> Iterator[dict[str, Any]]:
    """Some answers as they came, evenly spread over the wrong ones of four digits: what the scores are made of."""
    for of, (scores, _) in zip(answers, scored, strict=True):
        four = np.array([len(target) == 4 for target in of.target])
        wrong = np.flatnonzero((scores["exact_match"] == 0) & four)
        for i in wrong[np.linspace(0, wrong.size - 1, min(config.examples, wrong.size)).astype(int)]:
            yield {
                "model": of.model, "right answer": of.target[i], "completion": of.completion[i],
                "read as": of.parsed()[i], "exact match": scores["exact_match"][i],
                "edit distance": scores["token_edit_distance"][i],
            }  # fmt: skip


if __name__ == "__main__":
    main(sys.modules[__name__])

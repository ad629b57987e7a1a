"""Families of models whose truth is known: what each does at every scale, and the label that a perfect judge would give.

A truth draws, for many curves at once, the rate p per token at every scale, how the tokens of an answer hang together,
and the answer's length. Exact match and token accuracy then come from the same simulated answers. DESIGNED are the
truths that the rule was made on (a jump on a trend came late and changed it); UNSEEN came afterwards and changed nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mirage_jax.decide.curves import NARROW_SEEDS, between_repeats
from mirage_jax.decide.rule import SHARP, Cases
from sims.processes import counts_law

LENGTHS = (2, 3, 5, 8, 10, 15, 20)
RANGE = 5.0  # decades between the smallest and the largest model
GREY = "grey"  # the definition does not settle the label: not scored


class Truth(NamedTuple):
    """Curves drawn from one truth, [curves, scales] or [curves]."""

    x: np.ndarray  # decades
    p: np.ndarray  # rate per token
    label: np.ndarray  # of the perfect judge; None: by outcome
    length: np.ndarray  # tokens of an answer; of mixed lengths the longer, the other being half of it
    correlation: np.ndarray  # lag-1 correlation of errors, [curves, scales]
    overdispersion: np.ndarray  # of items, 0: none
    mixed: bool = False
    chance: float = 0.0


Draw = np.random.Generator


def _spaced(draw: Draw, curves: int, scales: int) -> np.ndarray:
    return np.tile(np.linspace(0, RANGE, scales), (curves, 1))


def _ragged(draw: Draw, curves: int, scales: int) -> np.ndarray:
    """Unequal spacing: gaps between a third and three times the mean one, the range kept."""
    gaps = np.exp(draw.uniform(-np.log(3), np.log(3), (curves, scales - 1)))
    return np.cumsum(np.column_stack([np.zeros(curves), gaps / gaps.sum(1, keepdims=True) * RANGE]), axis=1)


def _of(draw: Draw, x: np.ndarray, p: np.ndarray, label: str | None, **more: Any) -> Truth:
    curves = len(x)
    plain = {
        "length": draw.choice(LENGTHS, curves), "correlation": np.zeros_like(p), "overdispersion": np.zeros(curves),
    }  # fmt: skip
    return Truth(x, np.clip(p, 1e-6, 1 - 1e-6), np.full(curves, label, dtype=object), **(plain | more))


def _u(draw: Draw, x: np.ndarray, low: float, high: float) -> np.ndarray:
    return draw.uniform(low, high, (len(x), 1))


def _toy(draw: Draw, x: np.ndarray) -> np.ndarray:
    return np.exp(np.log(_u(draw, x, 0.85, 0.985)) * 10 ** (_u(draw, x, 0.2, 0.6) * (RANGE - x)))


def toy(draw: Draw, x: np.ndarray) -> Truth:
    """The paper's model: cross-entropy per token a power law of the scale."""
    return _of(draw, x, _toy(draw, x), None)


def sig(draw: Draw, x: np.ndarray) -> Truth:
    """Logistic rate of 10-90 width 2.5 to 6 decades."""
    z = (x - _u(draw, x, 0.3, 0.8) * RANGE) / _u(draw, x, 2.5, 6)
    return _of(draw, x, _u(draw, x, 0.9, 0.99) / (1 + 81.0**-z), None)


def power(draw: Draw, x: np.ndarray) -> Truth:
    """Error rate a power law of the scale."""
    return _of(draw, x, 1 - _u(draw, x, 0.015, 0.15) * 10 ** (_u(draw, x, 0.05, 0.2) * (RANGE - x)), None)


def markov(draw: Draw, x: np.ndarray) -> Truth:
    """The paper's model with errors that persist from token to token."""
    return _of(draw, x, _toy(draw, x), None, correlation=np.broadcast_to(_u(draw, x, 0.4, 0.8), x.shape))


def het(draw: Draw, x: np.ndarray) -> Truth:
    """The paper's model with items of unequal difficulty, Beta with a + b = 6."""
    return _of(draw, x, _toy(draw, x), None, overdispersion=np.full(len(x), 1 / 7))


def quanta(draw: Draw, x: np.ndarray) -> Truth:
    """Sixty equal quanta learned at random places: lumpy, yet no threshold."""
    at = draw.uniform(0, RANGE, (len(x), 60, 1))
    return _of(draw, x, 0.05 + _u(draw, x, 0.8, 0.93) * (x[:, None] > at).mean(1), None)


def _middle(draw: Draw, x: np.ndarray, low: float = 0.3, high: float = 0.7) -> np.ndarray:
    """A place inside a gap between scales, `low` to `high` of the way."""
    scales = x.shape[1]
    return _u(draw, x, low, high) * (scales - 1)


def _index(x: np.ndarray) -> np.ndarray:
    return np.arange(x.shape[1])


def step(jump: float, low: float = 0.3, high: float = 0.7, trend: float = 0.03) -> Callable[[Draw, np.ndarray], Truth]:
    """A jump of the rate itself between two scales, on a slow trend."""

    def drawn(draw: Draw, x: np.ndarray) -> Truth:
        base, slope = _u(draw, x, 0.15, 0.9 - jump - trend), _u(draw, x, 0, trend)
        p = base + slope * x / RANGE + jump * (_index(x) > _middle(draw, x, low, high))
        return _of(draw, x, p, "THRESHOLD_SURVIVES")

    return drawn


def dominant(draw: Draw, x: np.ndarray) -> Truth:
    """Forty small quanta, .25 in all, and one of .35."""
    at = draw.uniform(0, RANGE, (len(x), 40, 1))
    p = 0.15 + 0.25 * (x[:, None] > at).mean(1) + 0.35 * (_index(x) > _middle(draw, x))
    return _of(draw, x, p, "THRESHOLD_SURVIVES")


def hinge(jump: float) -> Callable[[Draw, np.ndarray], Truth]:
    """A rate that is flat, then rises in a straight line of log scale."""

    def drawn(draw: Draw, x: np.ndarray) -> Truth:
        onset = _u(draw, x, 0.3, 0.7) * RANGE
        return _of(draw, x, _u(draw, x, 0.2, 0.9 - jump) + jump * np.maximum(0, (x - onset) / (RANGE - onset)), "HINGE")

    return drawn


def joint(draw: Draw, x: np.ndarray) -> Truth:
    """A smooth rate, but the tokens of an answer suddenly go right together: a jump that is not the metric's."""
    z = (x - _u(draw, x, 0.3, 0.6) * RANGE) / _u(draw, x, 3, 6)
    after = _index(x) > _middle(draw, x)
    p = 0.3 + 0.5 / (1 + 81.0**-z)
    length = draw.choice([5, 8, 10, 15, 20], len(x))
    return _of(draw, x, p, "UNEXPLAINED_JUMP", correlation=np.where(after, 0.92, 0.0), length=length)


def dip(draw: Draw, x: np.ndarray) -> Truth:
    """Worse in the middle: U-shaped."""
    z = (x / RANGE - _u(draw, x, 0.35, 0.65)) ** 2
    return _of(draw, x, _u(draw, x, 0.4, 0.6) + _u(draw, x, 1, 1.5) * z, "NON_MONOTONE")


def constant(draw: Draw, x: np.ndarray) -> Truth:
    """Nothing changes."""
    return _of(draw, x, np.broadcast_to(_u(draw, x, 0.1, 0.9), x.shape).copy(), "NO_CHANGE")


def mixed(draw: Draw, x: np.ndarray) -> Truth:
    """The paper's model on answers of two lengths, half as many tokens in half of the items; the length is not told."""
    return _of(draw, x, _toy(draw, x), None, mixed=True, length=draw.choice([4, 6, 10, 16, 20], len(x)))


def guessing(draw: Draw, x: np.ndarray) -> Truth:
    """The paper's model where one answer in four is right by luck."""
    return _of(draw, x, _toy(draw, x), None, chance=0.25)


def brisk(draw: Draw, x: np.ndarray) -> Truth:
    """Smooth, but brisker than the rule was made for: Gompertz rates of 10-90 width 1.8 to 2.4 decades."""
    z = (x - _u(draw, x, 0.3, 0.7) * RANGE) / _u(draw, x, 1.8, 2.4)
    return _of(draw, x, 0.03 + _u(draw, x, 0.5, 0.9) * np.exp(-np.log(2) * np.exp(-3.084 * z)), None)


TRUTHS: Mapping[str, Callable[[Draw, np.ndarray], Truth]] = {
    "toy": toy, "sig": sig, "power": power, "markov": markov, "het": het, "quanta": quanta,
    "step.1": step(0.1), "step.3": step(0.3), "step.5": step(0.5), "dominant": dominant,
    "hinge.3": hinge(0.3), "hinge.5": hinge(0.5), "joint": joint, "dip": dip, "constant": constant,
    "mixed": mixed, "guessing": guessing, "brisk": brisk,
    "early.3": step(0.3, 0.15, 0.3), "late.3": step(0.3, 0.7, 0.85), "trend.3": step(0.3, trend=0.2),
}  # fmt: skip
UNSEEN = ("mixed", "guessing", "brisk", "early.3", "late.3")
DESIGNED = tuple(name for name in TRUTHS if name not in UNSEEN)


def draw_truth(draw: Draw, name: str, curves: int, scales: int, ragged: bool = False) -> Truth:
    """Curves of one truth, labelled by outcome where the truth does not fix the label."""
    x = (_ragged if ragged else _spaced)(draw, curves, scales)
    truth = TRUTHS[name](draw, x)
    return truth._replace(label=np.where(truth.label == None, _by_outcome(truth), truth.label))  # noqa: E711


def _laws(truth: Truth, p: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """By length: which curves have it, and P(K wrong), [curves, scales, length + 1]."""
    out = {}
    sizes = np.unique(np.concatenate([truth.length, truth.length // 2])) if truth.mixed else np.unique(truth.length)
    for length in sizes.tolist():
        at = np.flatnonzero((truth.length == length) | (truth.mixed & (truth.length // 2 == length)))
        if len(at):
            law = counts_law("markov", length, 1 - p[at], truth.correlation[at])
            het = truth.overdispersion[at] > 0
            if het.any():
                mass = np.broadcast_to(truth.overdispersion[at][het][:, None], p[at][het].shape)
                law[het] = counts_law("beta_mixed", length, 1 - p[at][het], mass)
            out[length] = at, np.clip(law, 0, 1)
    return out


def _exact(truth: Truth) -> np.ndarray:
    """The exact match of infinitely many items, guesses included."""
    found = np.zeros_like(truth.p)
    for at, law in _laws(truth, truth.p).values():
        found[at] += law[..., 0] / (2 if truth.mixed else 1)
    return truth.chance + (1 - truth.chance) * found


def _by_outcome(truth: Truth) -> np.ndarray:
    """What the noiseless curves show, in this order: shared plateau, metric-induced, smooth; else grey."""
    exact = _exact(truth) - truth.chance
    off = exact[:, -1] > 0.15
    shared = (np.ptp(truth.p[:, :3], axis=1) < 0.01) & off
    induced = (exact[:, :2] < 0.02).all(1) & off
    smooth = exact[:, 1] > 0.05
    return np.select([shared, induced, smooth], ["SHARED_PLATEAU", "METRIC_INDUCED", "SMOOTH"], GREY)


def cases(
    draw: Draw, truth: Truth, n: int, between: float = 0.0, tau: float = np.nan, *, drift: float = 0.0, repeats: int = 1,
    known: bool = True,
) -> Cases:  # fmt: skip
    """Measure curves with n items each: exact match and token accuracy of the same answers.

    Args:
        between: sd of logit(p) between models; drift: correlation of neighbouring ones, as in checkpoints of a run.
        tau: what the rule is told of the scatter, NaN for nothing.
        repeats: models at each scale; from 3 on their scatter is measured.
        known: whether the rule is told the length.
    """
    logit = np.log(truth.p / (1 - truth.p))
    drawn = [_measured(draw, truth, n, logit + between * _scatter(draw, truth.p.shape, drift)) for _ in range(repeats)]
    right, asked, mean, error = (np.stack(part, -1) for part in zip(*drawn, strict=True))
    curves, scales = truth.p.shape
    scatter = np.full(curves, tau)
    if repeats >= NARROW_SEEDS:
        scatter = np.array([between_repeats(m, e) for m, e in zip(mean, error, strict=True)])
    k, asked = right.sum(-1), asked.sum(-1)
    smoothed = (k + 0.5) / (asked + 1)
    flags = {"counted": True, "paired": True, "tokens": True, "proper": False, "bimodal": False}
    return Cases(
        x=truth.x,
        rate=k / asked,
        n=asked,
        se=np.sqrt(smoothed * (1 - smoothed) / asked),
        linear=mean.mean(-1),
        linear_se=np.sqrt((error**2).sum(-1)) / repeats,
        size=np.full(curves, scales),
        length=truth.length.astype(float) if known and not truth.mixed else np.full(curves, np.nan),
        chance=np.full(curves, truth.chance),
        scatter=scatter,
        sharp=np.full(curves, SHARP),
        **{name: np.full(curves, value) for name, value in flags.items()},
    )


def _scatter(draw: Draw, shape: tuple[int, ...], drift: float) -> np.ndarray:
    """Standard normal deviations of the models, each correlated with the one before."""
    fresh = draw.standard_normal(shape)
    for j in range(1, shape[1]):
        fresh[:, j] = drift * fresh[:, j - 1] + np.sqrt(1 - drift**2) * fresh[:, j]
    return fresh


def _measured(draw: Draw, truth: Truth, n: int, logit: np.ndarray) -> tuple[np.ndarray, ...]:
    """Right answers, items, token accuracy and its standard error of one model at each scale."""
    p = 1 / (1 + np.exp(-logit))
    right, tokens, squares, asked = (np.zeros(p.shape) for _ in range(4))
    for length, (at, law) in _laws(truth, p).items():
        items = n // 2 if truth.mixed else n
        counts = draw.multinomial(items, law / law.sum(-1, keepdims=True))  # [curves, scales, wrong]
        share = 1 - np.arange(length + 1) / length
        right[at] += counts[..., 0] + draw.binomial(items - counts[..., 0], truth.chance)
        tokens[at] += counts @ share
        squares[at] += counts @ share**2
        asked[at] += items
    mean = tokens / asked
    variance = np.maximum(squares / asked - mean**2, 0) + 0.25 / truth.length[:, None] / (asked + 1)
    return right, asked, mean, np.sqrt(variance / asked)


def alone(pair: Cases, linear: bool) -> Cases:
    """One of the two metrics, the other unknown."""
    score, error = (pair.linear, pair.linear_se) if linear else (pair.rate, pair.se)
    none = np.zeros(len(pair.size), bool)
    return pair._replace(
        rate=score,
        se=error,
        linear=score,
        linear_se=error,
        paired=none,
        proper=none | linear,
        counted=none | (not linear),
    )

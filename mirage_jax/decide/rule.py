"""The rule: from curves to labels, in the order in which the questions must be asked.

What may be claimed follows from what is known. Of one metric alone: that nothing changed, that it is not monotone, that
it rises smoothly, that it jumps. With a linear metric of the same outputs beside it also whether the jump is the
metric's. Every threshold below was set on simulated families of known truth; `sims/calibration.py` measures the error
rates that they give.
"""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import special, stats

from mirage_jax.decide.links import LENGTHS, Link, fit_links
from mirage_jax.decide.shapes import FLOOR, JUMP, SHARE, Shapes, fit_shapes

LABELS = (
    "NO_CHANGE",
    "NON_MONOTONE",
    "SMOOTH",
    "METRIC_INDUCED",
    "THRESHOLD_SURVIVES",
    "UNEXPLAINED_JUMP",
    "SHARED_PLATEAU",
    "SEED_BIMODAL",
    "INSUFFICIENT_SCALES",
    "INSUFFICIENT_RESOLUTION",
)
SCALES = 5  # fewer decide nothing
SCALES_JUMP = 8  # fewer decide no jump
SHARP = 1.5  # decades: a wider rise is no threshold, however coarse the scales are
BESIDE = 2  # scales wanted on either side of a jump
ALPHA = 0.01  # of the tests of homogeneity, of monotony and of the link
CLEAR = 10.0  # chi2 by which narrow shapes must beat wide ones
CLEAR_SLOPE = 6.63  # and wide ones with a background slope; also a cubic a monotone curve
OPEN = 3.84  # chi2 within which a shape is not excluded
OPEN_SLOPE = 0.01  # the same of a step beside a slope: it must do no worse than the best wide shape
DETECTABLE = 0.05  # no change: a change so large would have been seen
BARELY = 0.02  # a plateau of the sharp metric: at most this above chance
TAKEN_OFF = 0.05  # above chance at the largest scale
PLATEAU = 3  # scales: a shared plateau has at least so many
LEVEL = 0.04  # a shared plateau rises by less
PROGRESS = 0.03  # of the linear metric on the sharp one's plateau
INFORMATIVE = 3.0  # successes and failures expected at a scale that says something of the link
LONGEST = 4096  # tokens of an answer that a link counts; beyond, every link is a power law
CHUNK, BATCH = 64, 4  # curves in a call of a compiled program, and at once within it
PADDED = 12  # scales; longer curves are padded to twice as many, and so on: few programs, each some seconds to compile


class Cases(NamedTuple):
    """What is judged: a metric alone, or a sharp metric with its linear companion. Padded to one number of scales.

    Scores are in [0, 1], improvement upwards; [cases, scales] up to `linear_se`, [cases] from `size`.
    """

    x: np.ndarray  # ascending positions: decades, or nats of loss
    rate: np.ndarray  # the metric's score
    n: np.ndarray  # its items, 0 beyond the real scales
    se: np.ndarray  # its standard error from the items
    linear: np.ndarray  # the linear companion's score; the metric's own where there is none
    linear_se: np.ndarray
    size: np.ndarray  # real scales
    counted: np.ndarray  # whether the rate is a share of successes in n items
    paired: np.ndarray
    tokens: np.ndarray  # whether the pair is of tokens, so that the link's form is known
    proper: np.ndarray  # whether the metric itself is linear
    length: np.ndarray  # tokens of an answer, NaN if unknown or mixed
    chance: np.ndarray
    scatter: np.ndarray  # sd of logit(linear score) between models; NaN: estimated
    sharp: np.ndarray  # widest jump, in units of x
    bimodal: np.ndarray  # whether the seeds fall into two groups


class Found(NamedTuple):
    """Labels, the step of the rule that gave them, and what they rest on, [cases] or [cases, scales]."""

    label: np.ndarray
    step: np.ndarray
    evidence: dict[str, np.ndarray]
    smooth: np.ndarray  # the best wide curve of the linear score
    sharp: np.ndarray  # the best narrow one
    error: np.ndarray  # standard errors used, scatter included
    predicted: np.ndarray  # the sharp metric as the link has it, NaN where there is no pair


STEPS = {
    "few scales": "INSUFFICIENT_SCALES",
    "seeds": "SEED_BIMODAL",
    "flat": "NO_CHANGE",
    "flat unresolved": "INSUFFICIENT_RESOLUTION",
    "not monotone": "NON_MONOTONE",
    "jump on few scales": "INSUFFICIENT_SCALES",
    "jump at the edge": "INSUFFICIENT_SCALES",
    "jump": "THRESHOLD_SURVIVES",
    "jump of one metric": "UNEXPLAINED_JUMP",
    "step not excluded, few scales": "INSUFFICIENT_SCALES",
    "step not excluded": "INSUFFICIENT_RESOLUTION",
    "smooth alone": "SMOOTH",
    "link refused": "UNEXPLAINED_JUMP",
    "link of choices refused": "INSUFFICIENT_RESOLUTION",
    "never off the ground": "INSUFFICIENT_RESOLUTION",
    "no plateau": "SMOOTH",
    "shared plateau": "SHARED_PLATEAU",
    "plateau unresolved": "INSUFFICIENT_RESOLUTION",
    "metric": "METRIC_INDUCED",
    "progress unresolved": "INSUFFICIENT_RESOLUTION",
}


def judge(cases: Cases) -> Found:
    """Label every case. One program for each padded number of scales; nothing is compiled per curve."""
    label, step = (np.full(len(cases.size), "", dtype=object) for _ in range(2))
    evidence: dict[str, np.ndarray] = {}
    curves = np.full((4, *cases.x.shape), np.nan)
    bucket = padded_to(cases.size)
    for width in np.unique(bucket):
        at = np.flatnonzero(bucket == width)
        part = _padded(cases, at, int(width))
        shapes = _shapes(part)
        of, predicted = _evidence(part, shapes, _links(part))
        step[at] = _step(part, of)
        for name, values in of.items():
            evidence.setdefault(name, np.full(len(label), np.nan))[at] = values
        seen = min(int(width), cases.x.shape[1])
        for out, values in zip(curves, (shapes.smooth, shapes.sharp, shapes.error, predicted), strict=True):
            out[at, :seen] = values[:, :seen]
    label[:] = [STEPS[name] for name in step]
    return Found(label, step, evidence, *curves)


def _padded(cases: Cases, at: np.ndarray, width: int) -> Cases:
    """Some cases, padded to a number of scales: positions go on rising, nothing else beyond the real scales is read."""
    out = {}
    for name, values in cases._asdict().items():
        part = values[at]
        if part.ndim == 2:
            fill = {"n": 0.0, "se": 1.0, "linear_se": 1.0}.get(name, 0.5)
            real = np.arange(min(width, part.shape[1])) < cases.size[at][:, None]
            part = np.where(real, part[:, :width], fill)
            part = np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=fill)
        out[name] = part
    last = out["size"] - 1
    ahead = np.maximum(np.arange(width) - last[:, None], 0)
    end = out["x"][np.arange(len(at)), last][:, None]
    return Cases(**out | {"x": np.where(ahead > 0, end + ahead, out["x"])})


def _shapes(cases: Cases) -> Any:
    """`Shapes` of every case, as numpy arrays. Fewer than 3 scales have no shape: their numbers say nothing."""
    size = np.maximum(cases.size, 3)
    given = (cases.x, cases.linear, cases.linear_se, size, cases.scatter, cases.sharp)
    return Shapes(*in_chunks(partial(fit_shapes, batch=max(1, BATCH * PADDED // cases.x.shape[1])), given))


def padded_to(scales: np.ndarray) -> np.ndarray:
    """PADDED times the power of two that holds so many scales."""
    return PADDED << np.ceil(np.log2(np.maximum(scales, PADDED) / PADDED)).astype(int)


def longest(length: np.ndarray) -> int:
    """A bound on answers' lengths that few tables differ in, since each is another program: the next power of two."""
    known = length[np.isfinite(length)]
    return 1 << int(np.ceil(np.log2(max(LENGTHS[-1], known.max(initial=0)))))


def in_chunks(fit: Any, given: tuple[np.ndarray, ...]) -> list[Any]:
    """Fit CHUNK curves at a time (fewer of long ones), the last chunk filled up: one program, whatever their number."""
    found, chunk = [], max(1, CHUNK * PADDED**2 // given[0].shape[1] ** 2)
    with jax.enable_x64(True):
        for start in range(0, len(given[0]), chunk):
            at = np.minimum(np.arange(start, start + chunk), len(given[0]) - 1)
            found.append(fit(*(field[at] for field in given)))
        return [np.concatenate(part)[: len(given[0])] for part in zip(*found, strict=True)]


def _links(cases: Cases) -> dict[str, np.ndarray]:
    """The link of every pair, NaN elsewhere; nothing if there is no pair."""
    at = np.flatnonzero(cases.paired)
    if not len(at):
        return {}
    real = np.arange(cases.x.shape[1]) < cases.size[:, None]
    spread = np.where(cases.counted[:, None], np.nan, np.maximum(cases.se, FLOOR))
    given = (
        cases.linear,
        cases.rate,
        cases.n,
        spread,
        real,
        np.minimum(cases.length, LONGEST),
        cases.chance,
        cases.tokens,
    )
    found = Link(
        *in_chunks(partial(fit_links, batch=BATCH, most=longest(cases.length)), tuple(field[at] for field in given))
    )
    out = {}
    for name, field in found._asdict().items():
        value = np.asarray(field, dtype=float)
        out[name] = np.full((len(cases.size), *value.shape[1:]), np.nan)
        out[name][at] = value
    return out


def _evidence(cases: Cases, shapes: Any, links: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    real = np.arange(cases.x.shape[1]) < cases.size[:, None]
    m = cases.size
    y, error = cases.linear, shapes.error
    low, high, low_gaps, high_gaps = _width(shapes)
    above = m - shapes.below
    evidence: dict[str, np.ndarray] = {
        "scatter": shapes.scatter,
        "p_flat": stats.chi2.sf(shapes.constant, m - 1),
        "p_monotone": p_monotone(shapes.isotonic, m),
        "drop": _drop(y, error, real),
        "falls": p_monotone(shapes.falling, m) > ALPHA,
        "hump": shapes.isotonic - shapes.cubic,
        "range": np.ptp(np.where(real, y, y[:, :1]), axis=1),
        "median_se": np.nanmedian(np.where(real, error, np.nan), axis=1),
        "width_low": low, "width_high": high, "width_low_gaps": low_gaps, "width_high_gaps": high_gaps,
        "jump": shapes.jump, "jump_se": shapes.jump_se, "jump_at": shapes.centre, "gap": shapes.gap,
        "beside": np.minimum(shapes.below, above),
        "wide_over_narrow": shapes.wide - shapes.narrow_slope,
        "wide_slope_over_narrow": shapes.wide_slope - shapes.narrow_slope,
        "step_over_wide": shapes.step - shapes.wide_slope,
        "step_slope_over_wide": shapes.step_slope - shapes.wide_slope,
    }  # fmt: skip
    blank = np.full(len(m), np.nan)
    evidence |= {name: blank for name in ("link", "link_parameter", "link_length", "p_link")}
    predicted = np.full(y.shape, np.nan)
    if links:
        evidence |= {"link": links["family"], "link_parameter": links["parameter"], "link_length": links["length"]}
        evidence |= {"p_link": links["p"]}
        predicted = np.where(real, links["predicted"], np.nan)
    evidence["p_flat_metric"] = _p_flat_rate(cases, real, shapes.scatter)
    evidence["plateau"] = _plateau(cases, real)
    evidence["top_low"] = _top(cases)
    evidence["informative"] = (
        (cases.n * np.nan_to_num(predicted) > INFORMATIVE) & (cases.n * (1 - np.nan_to_num(predicted)) > INFORMATIVE)
    ).sum(1)
    evidence["plateau_linear"], evidence["plateau_rise_high"] = _plateau_linear(y, error, m)
    last = np.maximum(evidence["plateau"] - 1, 0)
    rows = np.arange(len(m))
    evidence["progress"] = y[rows, last] - y[:, 0]
    evidence["progress_se"] = np.hypot(error[rows, last], error[:, 0])
    return evidence, predicted


def _step(cases: Cases, e: dict[str, np.ndarray]) -> np.ndarray:
    """The first step of the rule that applies."""
    paired, m = cases.paired, cases.size
    top = cases.rate[np.arange(len(m)), m - 1]
    items = cases.n[np.arange(len(m)), m - 1]
    flat = (e["p_flat"] > ALPHA) & (~paired | (e["p_flat_metric"] > ALPHA))
    bumpy = (e["p_monotone"] < ALPHA) & (e["drop"] > BARELY)
    bumpy &= np.isfinite(cases.scatter) | (e["hump"] > CLEAR_SLOPE)
    jump = (e["wide_over_narrow"] > CLEAR) & (e["wide_slope_over_narrow"] > CLEAR_SLOPE)
    jump &= (e["jump"] >= JUMP) & (e["jump"] > SHARE * e["range"])
    unclear = (e["step_over_wide"] <= OPEN) | (e["step_slope_over_wide"] <= OPEN_SLOPE)
    unclear &= e["range"] > JUMP
    refused = paired & (e["p_link"] < ALPHA)
    takes_off = (e["plateau"] >= 2) & (e["top_low"] > cases.chance + TAKEN_OFF)
    shared = e["plateau_linear"] >= PLATEAU
    progress = (e["progress"] > PROGRESS) & (e["progress"] > stats.norm.isf(ALPHA) * e["progress_se"])
    few = m < SCALES_JUMP
    conditions = {
        "few scales": m < SCALES,
        "seeds": cases.bimodal,
        "flat": flat & (2 * np.sqrt(2) * e["median_se"] < DETECTABLE),
        "flat unresolved": flat,
        "not monotone": bumpy,
        "jump on few scales": jump & few,
        "jump at the edge": (jump | (unclear & ~few)) & (e["beside"] < BESIDE),
        "jump": jump & (paired | cases.proper),
        "jump of one metric": jump,
        "step not excluded, few scales": unclear & few,
        "step not excluded": unclear,
        "smooth alone": ~paired,
        "link refused": refused & cases.tokens,
        "link of choices refused": refused,
        "never off the ground": ~takes_off & (top < cases.chance + TAKEN_OFF) & (top * items < 10),
        "no plateau": ~takes_off,
        "shared plateau": shared & (e["plateau_rise_high"] < LEVEL),
        "plateau unresolved": shared,
        "metric": (e["informative"] >= 2) & progress,
    }
    return np.select(list(conditions.values()), list(conditions), "progress unresolved").astype(object)


def _width(shapes: Any) -> tuple[np.ndarray, ...]:
    """95% interval of the 10-90 width, in units of the axis and in gaps: where the profile is within OPEN of its least.

    Between two widths of the grid the profile is taken as straight; beyond the last one the width is open, inf.
    """
    excess = shapes.profile - shapes.profile.min(1, keepdims=True)
    allowed, last = excess <= OPEN, np.isfinite(excess).sum(1) - 1
    rows = np.arange(len(excess))
    inner = allowed.argmax(1), excess.shape[1] - 1 - allowed[:, ::-1].argmax(1)
    outer = np.maximum(inner[0] - 1, 0), np.minimum(inner[1] + 1, last)

    def edge(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b = excess[rows, inside], excess[rows, outside]
        share = np.where(b > a, (OPEN - a) / np.where(b > a, b - a, 1), 0)
        of = shapes.width_at[rows, inside]
        width = of + share * (shapes.width_at[rows, outside] - of)
        return width, width / shapes.gap_at[rows, inside]

    low, low_gaps = edge(inner[0], outer[0])
    high, high_gaps = edge(inner[1], outer[1])
    high, high_gaps = (np.where(inner[1] < last, value, np.inf) for value in (high, high_gaps))
    return low, high, low_gaps, high_gaps


def _drop(y: np.ndarray, error: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Largest fall from a scale to a later one, less two standard errors of the difference."""
    falls = y[:, :, None] - y[:, None, :] - 2 * np.hypot(error[:, :, None], error[:, None, :])
    later = np.triu(np.ones((y.shape[1],) * 2, bool), 1)
    return np.where(later & real[:, :, None] & real[:, None, :], falls, -np.inf).max((1, 2))


@cache
def _levels(m: int) -> np.ndarray:
    """P(the isotonic fit of m equal scores of equal weight has l = 1..m levels): cycles of a random permutation.

    References:
        Robertson, Wright, Dykstra (1988), Order Restricted Statistical Inference, section 2.4.
    """
    p = np.array([1.0])
    for i in range(1, m):
        p = (np.append(p, 0) * i + np.insert(p, 0, 0)) / (i + 1)
    return p


def p_monotone(misfit: np.ndarray, m: np.ndarray) -> np.ndarray:
    """P-value of the misfit of the best non-decreasing curve, under a constant, where it is least favourable.

    The misfit is a mixture of chi-squares with m - l degrees of freedom by the number of levels l, exact for equal weights.
    """
    out = np.ones(len(m))
    for size in np.unique(m):
        at, p = m == size, _levels(int(size))
        tails = [p[l - 1] * stats.chi2.sf(misfit[at], size - l) for l in range(1, size)]
        out[at] = sum(tails) + p[size - 1] * (misfit[at] <= 0)
    return out


def _p_flat_rate(cases: Cases, real: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """P-value of the homogeneity of the sharp metric: deviance of its counts, or chi2 of its scores."""
    n = np.where(real, cases.n, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(cases.counted[:, None], n, np.where(real, np.maximum(cases.se, FLOOR) ** -2, 0))
        pooled = ((weight * cases.rate).sum(1) / weight.sum(1))[:, None]
        mean = np.where(real, cases.linear, 0).sum(1) / cases.size
        # the scatter of models, carried over to the rate by the power law through both means
        power = np.log(np.clip(pooled[:, 0], 1e-9, 1 - 1e-9)) / np.log(np.clip(mean, 1e-9, 1 - 1e-9))
        between = ((power * (1 - mean) * scatter)[:, None] * pooled) ** 2
        binomial = 2 * (
            special.xlogy(n * cases.rate, cases.rate / pooled)
            + special.xlogy(n * (1 - cases.rate), (1 - cases.rate) / (1 - pooled))
        ) / (1 + n * between / np.maximum(pooled * (1 - pooled), 1e-12))  # fmt: skip
        gaussian = (cases.rate - pooled) ** 2 / (1 / weight + between)
    total = np.where(real, np.where(cases.counted[:, None], np.nan_to_num(binomial), gaussian), 0).sum(1)
    return stats.chi2.sf(total, cases.size - 1)


def _plateau(cases: Cases, real: np.ndarray) -> np.ndarray:
    """Scales from the smallest on at which the sharp metric is compatible (one-sided 5%) with BARELY above chance."""
    level = np.minimum(cases.chance + BARELY, 1)[:, None]
    k = np.rint(cases.rate * cases.n)
    with np.errstate(invalid="ignore", divide="ignore"):
        of_counts = np.where(k > 0, special.betainc(np.maximum(k, 1), np.maximum(cases.n - k + 1, 1e-9), level), 1)
        of_scores = special.ndtr((level - cases.rate) / np.maximum(cases.se, FLOOR))
    inside = (np.where(cases.counted[:, None], of_counts, of_scores) > 0.05) & real
    return np.cumprod(inside, axis=1).sum(1)


def _top(cases: Cases) -> np.ndarray:
    """95% lower limit of the sharp metric at the largest scale: Clopper-Pearson, or two standard errors."""
    rows, at = np.arange(len(cases.size)), cases.size - 1
    rate, n = cases.rate[rows, at], cases.n[rows, at]
    k = np.rint(rate * n)
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, special.betaincinv(np.maximum(k, 1), np.maximum(n - k + 1, 1e-9), 0.025), 0)
    return np.where(cases.counted, low, rate - 1.96 * cases.se[rows, at])


def _plateau_linear(y: np.ndarray, error: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales of the linear metric's plateau, homogeneous at 5% and not risen, and the 95% upper limit of its rise."""
    w = error**-2
    sw, sy, syy = (np.cumsum(part, axis=1) for part in (w, w * y, w * y * y))
    count = np.arange(1, y.shape[1] + 1)
    level = stats.chi2.sf(np.maximum(syy - sy**2 / sw, 0), np.maximum(count - 1, 1)) > 0.05
    rise, spread = y - y[:, :1], np.hypot(error, error[:, :1])
    same = (level & (rise < 1.645 * spread)) | (count == 1)
    length = np.cumprod(same & (count <= m[:, None]), axis=1).sum(1)
    last = (np.arange(len(m)), length - 1)
    return length, rise[last] + 1.645 * spread[last]

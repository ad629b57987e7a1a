"""The verdict on a table: a row for each task, metric and family, with a label, its evidence, and what would change it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mirage_jax import seeds
from mirage_jax.decide import curves as door
from mirage_jax.decide import words
from mirage_jax.decide.curves import Curves, Facts
from mirage_jax.decide.fitted import fitted
from mirage_jax.decide.links import link_names
from mirage_jax.decide.rule import BESIDE, DETECTABLE, SCALES, Cases, Found, judge
from mirage_jax.emergence import emergence_scores, linearities, rank_correlations
from mirage_jax.null import benjamini_hochberg, p_constant


class Judged(NamedTuple):
    """A verdict with what a page draws: the curves, the pair of each, and what was found."""

    frame: pd.DataFrame
    curves: Curves
    linear: np.ndarray  # index of the pair's curve, -1 where there is none
    found: Found  # rows as the curves


def verdict(
    table: Any,
    *,
    n: Mapping[str, int] | None = None,
    facts: Mapping[str, str | Facts] | None = None,
    tau: float | None = None,
    fits: Sequence[str] = (),
) -> pd.DataFrame:
    """Judge every curve of a table of scores.

    Args:
        table: columns task, metric, family, model, scale, score and n, and any others of `mirage_jax.table`; a
            DataFrame, or anything with `to_pandas`.
        n: items of a task where the table has none.
        facts: of metrics without a key in METRICS, or against it: name -> "linear|nonlinear|discontinuous,higher|lower,LO..HI".
        tau: standard deviation of logit(score) between models of one scale, beyond item noise; None to measure it on
            repeats where there are 3 a scale, else to take the least under which some shape fits.
        fits: what to add as evidence, which decides nothing: names of `mirage_jax.fits.MODELS`, see `decide.fitted`.

    Returns:
        One row per curve: its key, `label` (one of ten), `pair` (the linear metric of the same outputs), `flips` (whether
        counting the missing items all right or all wrong changes the label), `sentence`, `change`, then the evidence.
        Rows that could not be judged are told in `attrs["left_out"]`.

    Raises:
        InputError: a column, a row or a fact that cannot be what it should; the row is named, counted from 0.
    """
    return judged(table, n=n, facts=facts, tau=tau, fits=fits).frame


def judged(
    table: Any,
    *,
    n: Mapping[str, int] | None = None,
    facts: Mapping[str, str | Facts] | None = None,
    tau: float | None = None,
    fits: Sequence[str] = (),
) -> Judged:
    """As `verdict`, with the curves and the fits that a page draws."""
    if tau is not None and not 0 <= tau < 10:
        raise ValueError(f"tau must be a standard deviation of logit(score), at least 0, got {tau}")
    found = door.curves(table, n, facts)
    linear, beside, unpaired = door.pairs(found)
    bimodal, modes = _modes(found, linear)
    labels, steps, out = _labels(found, linear, beside, tau, bimodal)
    loose = np.equal(steps, "link of choices refused") & ~np.array([fact.counted for fact in found.facts])
    if loose.any():  # of a continuous metric no law of the link is known: it speaks for itself
        for i in np.flatnonzero(loose):
            unpaired[i] = f"no single relation takes {found.key['metric'].iloc[linear[i]]} to it"
        linear = np.where(loose, -1, linear)
        labels, steps, out = _labels(found, linear, beside, tau, bimodal)
    flips = _flips(found, linear, beside, tau, bimodal, labels)
    frame = _frame(found, linear, beside, unpaired, labels, flips, steps, out.evidence, modes)
    if fits:
        frame = frame.join(fitted(found, fits))
    frame.attrs["left_out"] = found.left_out
    return Judged(frame, found, linear, out)


def _cases(
    found: Curves, linear: np.ndarray, tau: float | None, bimodal: np.ndarray, only: np.ndarray | None = None
) -> Cases:
    """What the rule judges: every curve (or `only` some), its linear metric beside it."""
    own = np.arange(len(linear))
    pair = np.where(linear >= 0, linear, own)
    every = Cases(
        x=found.x,
        rate=found.score,
        n=found.n,
        se=np.nan_to_num(found.se, nan=1.0),
        linear=found.score[pair],
        linear_se=np.nan_to_num(found.se[pair], nan=1.0),
        size=found.size,
        counted=np.array([fact.counted for fact in found.facts]),
        paired=linear >= 0,
        tokens=np.array([fact.every for fact in found.facts]),
        proper=np.array([fact.linear for fact in found.facts]),
        length=found.key["length"].astype("float64").to_numpy(),
        chance=found.chance,
        scatter=found.scatter[pair] if tau is None else np.full(len(pair), float(tau)),
        sharp=door.sharp_within(found),
        bimodal=bimodal,
    )
    return every if only is None else Cases(*(field[only] for field in every))


def _labels(
    found: Curves, linear: np.ndarray, beside: np.ndarray, tau: float | None, bimodal: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Found]:
    """Label and step of every curve: the rule's, unless nothing tells the noise, or a companion speaks against a threshold."""
    out = judge(_cases(found, linear, tau, bimodal))
    labels, steps = out.label.copy(), out.step.copy()
    pair = np.where(linear >= 0, linear, np.arange(len(linear)))
    real = np.arange(found.se.shape[1]) < found.size[:, None]
    dark = np.isnan(np.where(real, found.se, 0)).max(axis=1)
    dark = (dark | dark[pair]) & np.not_equal(steps, "few scales")
    labels[dark], steps[dark] = "INSUFFICIENT_RESOLUTION", "unknown n"
    at = np.flatnonzero((labels == "THRESHOLD_SURVIVES") & (beside >= 0))
    if len(at):  # a threshold shows under every continuous metric: judged by itself, not by its pair
        alone = judge(_cases(found, np.full(len(pair), -1), tau, bimodal, beside[at])).label
        at = at[np.isin(alone.astype(str), ("SMOOTH", "NO_CHANGE"))]
        steps[at], labels[at] = "companion smooth", "UNEXPLAINED_JUMP"
    return labels, steps, out


def _modes(found: Curves, linear: np.ndarray) -> tuple[np.ndarray, dict[int, seeds.Bimodality]]:
    """Whether the seeds of a curve, or of its linear metric, fall into two groups at some scale."""
    modes = {}
    for i, repeats in enumerate(found.repeats):
        if (
            repeats is not None
            and found.seeds[i] >= seeds.POOLED_SEEDS
            and not np.isnan(repeats[1][~np.isnan(repeats[0])]).any()
        ):
            modes[i] = seeds.bimodal(*repeats)
    pair = np.where(linear >= 0, linear, np.arange(len(linear)))
    return np.array([j in modes and modes[j].bimodal for j in pair], dtype=bool), modes


def _flips(
    found: Curves, linear: np.ndarray, beside: np.ndarray, tau: float | None, bimodal: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Whether the label is another one where the missing items are counted all right, or all wrong."""
    flips = np.zeros(len(labels), bool)
    involved = found.missing.sum(1) > 0
    if not involved.any():
        return flips
    for credit in (0.0, 1.0):
        with np.errstate(invalid="ignore"):
            total = np.where(found.n > 0, found.n + found.missing, 0)  # of unknown items no share is missing
            score = np.where(
                total > 0, (found.score * found.n + credit * found.missing) / np.maximum(total, 1), found.score
            )
        flips |= _labels(found._replace(score=score, n=total), linear, beside, tau, bimodal)[0] != labels
    return flips


def _frame(
    found: Curves, linear: np.ndarray, beside: np.ndarray, unpaired: list[str], labels: np.ndarray, flips: np.ndarray,
    steps: np.ndarray, tested: Mapping[str, np.ndarray], modes: Mapping[int, seeds.Bimodality],
) -> pd.DataFrame:  # fmt: skip
    """The rows of the verdict."""
    blank = len(labels)
    real = np.arange(found.x.shape[1]) < found.size[:, None]
    n = np.where(real & (found.n > 0), found.n, np.nan)
    n[:, 0] = np.where(np.isnan(n).all(1), 0, n[:, 0])  # no number known
    lowest, highest = (np.where(end > 0, end, np.nan) for end in (np.nanmin(n, axis=1), np.nanmax(n, axis=1)))
    with np.errstate(all="ignore"):
        base = {
            "reason": steps, "scales": found.size,
            "scale_low": found.scale[:, 0], "scale_high": found.scale[np.arange(blank), found.size - 1],
            "score_low": found.worst + found.unit * found.score[:, 0],
            "score_high": found.worst + found.unit * found.score[np.arange(blank), found.size - 1],
            "n_low": lowest, "n_high": highest, "missing": found.missing.sum(1),
            "unparsed": found.unparsed, "flagged": found.flagged, "merged": found.merged, "averaged": found.averaged,
            "se_from": found.se_from,
            "chance": found.worst + found.unit * found.chance, "unpaired": unpaired, "seeds": found.seeds,
        }  # fmt: skip
    base |= _emergence(found, real)
    evidence: dict[str, Any] = base | dict(tested) | {"link": link_names(tested["link"])}
    evidence |= {f"q_{test}": benjamini_hochberg(tested[f"p_{test}"]) for test in ("flat", "link")}
    evidence |= _brackets(found, evidence)
    names = _names(found)
    known = evidence | {"kind": found.key["scale_kind"].to_numpy(dtype=object)}
    told = [_told(i, found, names, linear, beside, known, modes) for i in range(blank)]
    changes: list[tuple[str, float, float]] = [words.change(step, e) for step, e in zip(steps, told, strict=True)]
    frame = found.key.copy()
    frame["label"] = labels
    frame["pair"] = np.where(linear >= 0, names[linear], "")
    frame["flips"] = flips
    said = [words.sentence(step, e) for step, e in zip(steps, told, strict=True)]
    frame["sentence"] = [text + words.FLIPS * bool(flip) for text, flip in zip(said, flips, strict=True)]
    frame["change"] = [c[0] for c in changes]
    frame[["needs_items", "needs_scales"]] = [c[1:] for c in changes]
    alone = linear < 0
    frame["continuous_pair"] = np.where((beside >= 0) & alone, names[beside], "")
    frame["continuous_label"] = np.where((beside >= 0) & alone, labels[beside], "")
    return frame.join(pd.DataFrame(evidence))


def _names(found: Curves) -> np.ndarray:
    """Each curve's metric with the options that make it another: subset_accuracy K=1."""
    out = []
    for metric, text, fact in zip(found.key["metric"], found.key["setting"], found.facts, strict=True):
        options = [f"{k}={v}" for k, v in door.table.read_setting(text).items() if k in fact.options]
        out.append(" ".join([metric, *options]))
    return np.array(out, dtype=object)


def _emergence(found: Curves, real: np.ndarray) -> dict[str, np.ndarray]:
    """Emergence score with its p-value under no change, and its companions, for every curve."""
    curves = np.where(real, found.score, np.nan)
    counted = np.array([f.counted for f in found.facts])
    n = np.where(real & (found.n > 0), found.n, np.nan)
    least = np.nanmin(np.where(np.isnan(n), np.inf, n), axis=1)
    usable = counted & np.isfinite(least)
    se = np.where(real, found.se, np.nan)
    score = np.full(len(curves), np.nan)
    if usable.any():
        score[usable] = emergence_scores(curves[usable], n=np.where(np.isnan(n), 1, n)[usable])
    rest = ~usable & ~np.isnan(np.where(real, se, 0)).any(1)
    if rest.any():
        score[rest] = emergence_scores(curves[rest], se=np.nan_to_num(se[rest]))
    bare = ~usable & ~rest
    if bare.any():
        score[bare] = emergence_scores(curves[bare])
    p = np.full(len(curves), np.nan)
    base = np.clip(np.nanmean(curves, axis=1), 0.001, 0.999)
    judged = (found.size >= 3) & np.isfinite(least) & ~np.isnan(score)
    if judged.any():
        p[judged] = p_constant(score[judged], found.size[judged], least[judged], base[judged])
    return {
        "emergence": score, "emergence_p": p, "emergence_q": benjamini_hochberg(p),
        "linearity": linearities(curves), "rank_correlation": rank_correlations(curves),
    }  # fmt: skip


def _brackets(found: Curves, evidence: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The two scales between which the best narrow shape has its centre."""
    centre = evidence["jump_at"]
    last = found.size - 1  # a centre beyond an end is in the gap there
    above = np.clip(
        [np.searchsorted(found.x[i, : m + 1], centre[i]) for i, m in enumerate(last)], np.minimum(1, last), last
    )
    rows = np.arange(len(above))
    low, high = found.scale[rows, np.maximum(above - 1, 0)], found.scale[rows, above]
    return {
        "jump_from": np.where(np.isnan(centre), np.nan, low),
        "jump_to": np.where(np.isnan(centre), np.nan, high),
    }


def _told(
    i: int, found: Curves, names: np.ndarray, linear: np.ndarray, beside: np.ndarray, evidence: Mapping[str, np.ndarray],
    modes: Mapping[int, seeds.Bimodality],
) -> dict[str, Any]:  # fmt: skip
    """The numbers that the words of one verdict use."""
    e = {name: values[i] for name, values in evidence.items()}
    kind = evidence["kind"][i]
    unit = "nats" if kind == "loss" else "decades"
    judged = linear[i] if linear[i] >= 0 else i
    low, high, mode = e["width_low"], e["width_high"], modes.get(judged)
    whole = ("plateau", "plateau_linear", "informative", "beside")
    return e | {name: int(np.nan_to_num(e[name])) for name in whole} | {
        "metric": names[i], "pair": names[judged], "of": names[judged],
        "companion": names[beside[i]] if beside[i] >= 0 else "",
        "least": SCALES, "asked": BESIDE, "detectable": DETECTABLE, "tell": 2,
        "visible": min(2 * np.sqrt(2) * e["median_se"], 1.0),
        "n": e["n_low"], "level": float(found.score[i, found.size[i] // 2]),
        "rises": "improves" if found.facts[i].direction == "lower" else "rises",
        "pair_rises": "improves" if found.facts[judged].direction == "lower" else "rises",
        "falls": "gets worse with scale" if e["falls"] else "gets worse somewhere",
        "at": f"{words.size(e['jump_from'], kind)} to {words.size(e['jump_to'], kind)}",
        "gap": f"{e['gap']:.2g} {unit}", "width": f"{high:.2g} {unit}" if np.isfinite(high) else "no bound",
        "wide": _wide(low, high, unit),
        "noise": f"{e['median_se']:.3f} a score", "floor": f"{e['chance']:.2g}",
        "p_value": _p_value(e["p_link"]),
        "mode_scale": words.size(found.scale[i, mode.where], kind) if mode and mode.where >= 0 else "",
        "mode_gap": mode.gap if mode else np.nan,
    }  # fmt: skip


def _wide(low: float, high: float, unit: str) -> str:
    """A 95% interval of the width of a rise, in words."""
    if low > 0:
        return f"{low:.2g} {unit} or more (95%)" if np.isinf(high) else f"{low:.2g} to {high:.2g} {unit} (95%)"
    return (
        f"at most {high:.2g} {unit} (95%)" if np.isfinite(high) else "a width that the scales and the noise leave open"
    )


def _p_value(p: float) -> str:
    """A p-value in words, to as many digits as it is worth."""
    return "< 1e-10" if p < 1e-10 else f"= {p:.1g}" if p < 0.001 else f"= {p:.2g}"

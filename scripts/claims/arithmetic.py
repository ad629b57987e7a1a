"""Claims of the arithmetic experiment (section 3 of the paper), on stored InstructGPT answers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mirage_jax import published, table
from scripts.claims.record import Claim, Found, Status

DATA = f"InstructGPT completions, {published.DATASETS['gpt3_multiplication'].origin.partition(' @')[0]}"
FEW = 5  # right answers below which a rate says little


def _exact(instructgpt: pd.DataFrame, metric: str = "exact_match") -> pd.DataFrame:
    """Rows of all items, one a model and length."""
    rows = table.select(instructgpt[instructgpt["metric"] == metric], items="all")
    rows = rows[rows["length"].notna()].sort_values(["scale", "length"], ignore_index=True)
    return rows.assign(length=rows["length"].astype(float))


def _swap(instructgpt: pd.DataFrame, tests: pd.DataFrame) -> Found:
    ratio = tests[tests["test"] == "width_ratio"].iloc[0]
    rows = instructgpt[instructgpt["length"].isna() & (instructgpt["metric"] == "token_edit_distance")].sort_values(
        "scale"
    )
    y, x = rows["score"].to_numpy(), np.log(rows["scale"].to_numpy())
    if y[-1] == y[0]:
        return Found("not testable here", note="Edit distance does not change with scale.")
    last, line = (float((v[-1] - v[-2]) / (v[-1] - v[0])) for v in (y, x))
    status: Status = "fails" if not ratio["low"] > 1 else "mixed" if last > line else "holds"
    note = f"The last step, to davinci, makes {last:.0%} of the change over {line:.0%} of the range."
    return Found(status, *(float(ratio[end]) for end in ("value", "low", "high")), n=int(ratio["n"]), note=note)


def _above(instructgpt: pd.DataFrame, guess: Callable[[pd.DataFrame], pd.Series]) -> Found:
    rows = _exact(instructgpt)
    above = rows["low"] > guess(rows)
    below = ", ".join(f"{row.model} L = {row.length:.0f}" for row in rows[~above].itertuples())
    status: Status = "holds" if above.all() else "mixed" if above.any() else "fails"
    return Found(status, float(above.mean()), n=len(rows), note=f"Not above: {below}." if below else "")


def _above_chance(instructgpt: pd.DataFrame) -> Found:
    return _above(instructgpt, lambda rows: 10.0 ** -rows["length"])


def _above_constant(instructgpt: pd.DataFrame) -> Found:
    return _above(instructgpt, lambda rows: rows["chance"])


def _small_tests(instructgpt: pd.DataFrame) -> Found:
    rows = _exact(instructgpt)
    n = rows["n"].astype(int)
    right = (rows["score"] * n).round().astype(int)
    hidden = stats.hypergeom.pmf(0, n, right, 20) * (right > 0)
    likely = int((hidden > 0.5).sum())
    return Found(
        "holds" if likely else "fails", float(hidden.mean()), n=len(rows), note=f"More likely than not in {likely}."
    )


def _geometric(instructgpt: pd.DataFrame, tests: pd.DataFrame) -> Found:
    rows = _exact(instructgpt)
    rows = rows[rows["score"] * rows["n"].astype(float) >= FEW]
    fits = {m: _r2(of["length"], np.log(of["score"])) for m, of in rows.groupby("model", sort=False) if len(of) >= 3}
    if not fits:
        return Found("not testable here", note="No model has three such lengths.")
    slopes = tests[(tests["test"] == "log_slope_ratio") & tests["low"].notna()]
    apart = int(((slopes["low"] > 1) | (slopes["high"] < 1)).sum())
    note = (
        f"{', '.join(f'{m} {v:.2f}' for m, v in fits.items())}. The slope over the one that the rate at one digit implies "
        f"differs from 1 in {apart} of {len(slopes)} models ({', '.join(f'{v:.2g}' for v in slopes['value'])}); 90% of the "
        "one-digit products are 0."
    )
    good = [v > 0.95 for v in fits.values()]
    status: Status = "holds" if all(good) and not apart else "mixed" if any(good) else "fails"
    return Found(status, min(fits.values()), n=len(fits), note=note)


def _r2(x: Any, y: Any) -> float:
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def _independent(tests: pd.DataFrame) -> Found:
    every = tests[tests["test"] == "independence_ratio"]
    rows = every[every["low"].notna()]
    if rows.empty:
        return Found("not testable here", note=f"No cell has {FEW} right and {FEW} wrong answers.")
    apart = int(((rows["low"] > 1) | (rows["high"] < 1)).sum())
    note = f"{len(every) - len(rows)} cells with fewer than {FEW} right or wrong answers are left out."
    return Found(
        "holds" if apart == 0 else "fails", float(rows["value"].max()), n=len(rows), note=f"{apart} do not. {note}"
    )


def _linear(instructgpt: pd.DataFrame) -> Found:
    off = {}
    for model, rows in _exact(instructgpt, "token_edit_distance").groupby("model", sort=False):
        if len(rows) < 3 or rows["score"].max() == 0:
            continue  # no line to be off
        line = np.polyval(np.polyfit(rows["length"], rows["score"], 1), rows["length"])
        off[model] = float(np.abs(rows["score"] - line).max() / rows["score"].max())
    if not off:
        return Found("not testable here", note="No model has three lengths.")
    good = [v < 0.1 for v in off.values()]
    note = f"{', '.join(f'{model} {v:.2f}' for model, v in off.items())}."
    return Found("holds" if all(good) else "mixed" if any(good) else "fails", max(off.values()), n=len(off), note=note)


CLAIMS = (
    Claim(
        "arithmetic_metric_swap",
        "Replacing accuracy by edit distance on the same answers turns a sharp change with scale into a smooth one.",
        "section 3, first prediction; figure 3",
        "Decades of scale between 10% and 90% of the change, edit distance over accuracy; bootstrap over items, not over "
        "models; holds if above 1 and no step makes more of the change than of the range of log N, mixed if only wider.",
        ("instructgpt", "instructgpt_tests"), _swap, DATA, "arithmetic",
    ),
    Claim(
        "arithmetic_above_chance",
        "Given enough test items, every model is above chance at every answer length.",
        "section 3, second prediction; figure 4",
        "Share of (model, length) cells whose 95% lower end is above 10^-L, the chance of a random string of digits.",
        ("instructgpt",), _above_chance, DATA, "arithmetic_resolution",
    ),
    Claim(
        "arithmetic_above_constant",
        "Every model is also above a stricter guess: always the commonest right answer of that length.",
        "section 3, second prediction, with our chance level",
        "Share of (model, length) cells whose 95% lower end is above the score of that one answer; at one digit it is .90, "
        "since most such products are 0.",
        ("instructgpt",), _above_constant, DATA, "arithmetic_resolution", True,
    ),
    Claim(
        "arithmetic_small_tests",
        "On small tests, abilities that larger tests reveal look absent.",
        "section 3, figure 4",
        "Chance of 0 right on 20 items drawn from all, mean over (model, length) cells, those with none right at all counted "
        "as 0; holds if above one half in any.",
        ("instructgpt",), _small_tests, DATA, "arithmetic_resolution",
    ),
    Claim(
        "arithmetic_geometric",
        "Accuracy falls geometrically with answer length.",
        "section 3, third prediction",
        "R² of a straight line through log accuracy against length, worst model (lengths with 5 right answers and more, models "
        "with 3 such lengths); holds if all are above .95 and slopes agree with the rate at one digit, mixed if some R² are.",
        ("instructgpt", "instructgpt_tests"), _geometric, DATA, "arithmetic_length",
    ),
    Claim(
        "arithmetic_independent",
        "Digits are right or wrong independently of each other, as the toy model has it.",
        "sections 2 and 3, the assumption behind the third prediction",
        "Largest independence ratio: exact match over the product of each digit's rate, by model and length; holds if every "
        "95% interval (bootstrap over items) holds 1.",
        ("instructgpt_tests",), _independent, DATA, "arithmetic_length", True,
    ),
    Claim(
        "arithmetic_linear",
        "Edit distance grows about linearly with answer length.",
        "section 3, third prediction",
        "Largest distance from a straight line as a share of the model's largest score, worst model; holds below .1 for every "
        "model, mixed if for some.",
        ("instructgpt",), _linear, DATA, "arithmetic_length",
    ),
    Claim(
        "addition",
        "Four-digit addition shows the same two pictures as multiplication.",
        "section 3, figure 3",
        "Needs stored completions of 4-digit additions by a family of models.",
    ),
)  # fmt: skip

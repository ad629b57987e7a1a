"""Claims about transformers on sequences of Omniglot images (section 5 of the paper)."""

import numpy as np
import pandas as pd

from scripts.claims.record import Claim, Found, Status

DATA = "Omniglot"
LENGTH = 5


def _induced(means: pd.DataFrame, scores: pd.DataFrame) -> Found:
    chance = scores.loc[scores["metric"] == "token_accuracy", "chance"].iloc[0]
    image, whole = (_curve(means, metric) for metric in ("token_accuracy", "exact_match"))
    unable = int(((image > 10 * chance) & (whole < 0.05)).sum())
    top = f"{whole.iloc[-1]:.2f}"
    note = f"Over the sizes, accuracy per image goes from {image.iloc[0]:.2f} to {image.iloc[-1]:.2f}, all five from "
    status: Status = "holds" if unable >= 2 and whole.iloc[-1] > 0.25 else "mixed" if unable else "fails"
    return Found(status, float(unable), n=len(image), note=f"{note}{whole.iloc[0]:.3f} to {top}.")


def _independent(ratios: pd.DataFrame) -> Found:
    cells = ratios[ratios["seed"].isna() & ratios["ratio"].notna()]
    if cells.empty:
        return Found("not testable here", note="No size has enough whole sequences.")
    inside = (cells["low"] <= 1) & (1 <= cells["high"])
    near = cells["ratio"].min(), cells["ratio"].max()
    note = (
        f"Ratios lie between {near[0]:.2f} and {near[1]:.2f}; different characters in a sequence, by themselves, imply "
        f"{cells['implied'].min():.2f} to {cells['implied'].max():.2f}. The cells share drawings, so they are no independent "
        "tests."
    )
    value = float(inside.mean())
    status: Status = "holds" if value >= 0.9 else "mixed" if value >= 0.5 else "fails"
    return Found(status, value, n=len(cells), note=note)


def _power(scores: pd.DataFrame) -> Found:
    of = scores[(scores["length"] == LENGTH) & scores["score"].notna()]
    members = of.pivot(index=["scale", "seed"], columns="metric", values="score")
    off = (members["exact_match"] - members["token_accuracy"] ** LENGTH).abs()
    return Found("holds" if off.max() <= 0.05 else "fails", float(off.max()), n=len(off))


def _jump(means: pd.DataFrame) -> Found:
    image, whole = (_factor(_curve(means, metric)) for metric in ("token_accuracy", "exact_match"))
    note = f"Accuracy per image needs a factor of {image:.1f}."
    status: Status = "fails" if min(image, whole) <= 2 else "holds" if whole < image else "mixed"
    return Found(status, whole, n=int(means["params"].nunique()), note=note)


def _curve(means: pd.DataFrame, metric: str) -> pd.Series:
    """Mean over seeds of five images, by parameters."""
    of = means[(means["metric"] == metric) & (means["length"] == LENGTH)]
    return of.dropna(subset="mean").set_index("params")["mean"].sort_index()


def _factor(curve: pd.Series) -> float:
    """Parameters at nine tenths of the way from the first score to the last over those at one tenth, between sizes on a log
    axis; a curve that falls back counts as far as it had come."""
    way = np.maximum.accumulate((curve - curve.iloc[0]) / (curve.iloc[-1] - curve.iloc[0]))
    low, high = np.interp([0.1, 0.9], way, np.log(curve.index.to_numpy(dtype=float)))
    return float(np.exp(high - low))


CLAIMS = (
    Claim(
        "omniglot",
        "Small transformers seem to learn to classify whole sequences of Omniglot images at a certain size.",
        "section 5, figure 8",
        "Number of sizes with accuracy per image above ten times chance whose share of sequences with all five images right is "
        "below .05; holds from two sizes on if the largest network's share is above .25. Sizes and thresholds are ours: the "
        "paper prints none.",
        ("omniglot_transformer_curve", "omniglot_transformer"), _induced, DATA, "omniglot_transformer",
    ),
    Claim(
        "omniglot_independent",
        "Errors within a sequence are independent where characters are fixed and come once in it.",
        "section 5, figure 8",
        "Share of (size, L = 2..5) cells, all seeds together, whose independence ratio has 1 in its 95% interval over held-out "
        "drawings; holds from .9 on. Cells with fewer than 5 whole sequences are left out.",
        ("omniglot_transformer_independence",), _independent, DATA, "omniglot_transformer", ours=True,
    ),
    Claim(
        "omniglot_power",
        "The share of sequences with all five images right is accuracy per image to the fifth power, so the apparent ability "
        "adds nothing to accuracy per image.",
        "section 5, figure 8",
        "Largest distance between the two over all networks; holds up to .05.",
        ("omniglot_transformer",), _power, DATA, "omniglot_transformer", ours=True,
    ),
    Claim(
        "omniglot_no_jump",
        "Neither curve jumps: the rise is steep on a log axis, later and steeper for whole sequences.",
        "section 5, figure 8",
        "Factor of parameters from a tenth to nine tenths of the way between the smallest and largest network, all five images "
        "right; holds if it is above 2, and larger still per image.",
        ("omniglot_transformer_curve",), _jump, DATA, "omniglot_transformer", ours=True,
    ),
)  # fmt: skip

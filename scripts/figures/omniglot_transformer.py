"""Emergence induced in transformers that read sequences of images and labels (figure 8 of the paper)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, level, log_axis, panels, text

TABLES = ("omniglot_transformer", "omniglot_transformer_curve", "omniglot_transformer_independence")
DATA = "Omniglot"
TITLE = "Induced emergence: transformers of growing size on sequences of Omniglot images"
CAPTION = (
    "Decoder-only transformers with a convolutional embedder read image, label, image, label, ...; 50 characters, a test of "
    "1,000 sequences of 5 different ones made from 250 held-out drawings, 3 seeds a size (in the full preset all "
    "characters there are, 4,000 sequences, 5 seeds). A: accuracy per image, each seed a point. B: share of sequences whose "
    "first L images are all right. Bars are 95% intervals over drawings and seeds, not over sequences, which share drawings. "
    "C: all five right against accuracy per image, each network a point with its interval over drawings; "
    "line: accuracy to the fifth power. D: independence "
    "ratio, the share of whole sequences over the product of the shares at each place, all seeds together, 95% intervals over "
    "drawings; left out from fewer than 5 whole sequences. Labels are layers x width. Sizes and thresholds are ours: the paper "
    "prints none."
)
LENGTHS = range(1, 6)


def draw(omniglot_transformer: pd.DataFrame, means: pd.DataFrame, independence: pd.DataFrame) -> Figure:
    """Panels A and B over parameters, C over accuracy, D over parameters again."""
    figure, (a, b, c, d) = panels(2, 2, height=2.9)
    rows = omniglot_transformer[omniglot_transformer["length"] == max(LENGTHS)].sort_values(["scale", "seed"])
    image, whole = (rows[rows["metric"] == metric] for metric in ("token_accuracy", "exact_match"))
    curve(a, image["scale"], image["score"], label="one seed", kind=0, line=False)
    of = means[(means["metric"] == "token_accuracy") & (means["length"] == max(LENGTHS))].sort_values("params")
    curve(a, of["params"], of["mean"], of["low"], of["high"], label="mean over seeds", kind=1, marker=False)
    for model, params, top in zip(of["model"], of["params"], of["high"].fillna(of["mean"]), strict=True):
        name = text(model.removeprefix("transformer-"))
        a.annotate(name, (params, top), (0, 3), textcoords="offset points", ha="center", fontsize=6.5)
    for kind, length in enumerate(LENGTHS):
        of = means[(means["metric"] == "exact_match") & (means["length"] == length)].sort_values("params")
        curve(b, of["params"], of["mean"], of["low"], of["high"], label=f"L = {length}", kind=kind)
    curve(c, image["score"], whole["score"], whole["low"], whole["high"], label="one network", kind=0, line=False)
    p = np.linspace(0, 1, 101)
    curve(c, p, p ** max(LENGTHS), label="accuracy to the 5th power", kind=1, marker=False)
    together = independence[independence["seed"].isna() & independence["ratio"].notna()]
    for kind, length in enumerate(LENGTHS[1:], 1):
        of = together[together["length"] == length].sort_values("params")
        apart = 1.03 ** (kind - 2.5)  # so that bars do not cover each other
        curve(d, of["params"] * apart, of["ratio"], of["low"], of["high"], label=f"L = {length}", kind=kind)
    told = (
        (a, "A accuracy per image", "parameters", "share right"),
        (b, "B the same networks, whole sequences", "parameters", "first L images all right"),
        (c, "C whole sequences against images", "accuracy per image", "all 5 images right"),
        (d, "D independence ratio", "parameters", "joint share / product"),
    )
    for ax, title, x, y in told:
        ax.set(title=title, xlabel=x, ylabel=y)
    for ax in (a, b, d):
        log_axis(ax)
    for ax in (a, b):
        ax.set_ylim(-0.03, 1.0)
    log_axis(d, "y", (0.5, 0.7, 1, 1.4, 2))
    level(a, image["chance"].iloc[0], "chance")
    level(d, 1.0, "independent")
    for ax in (a, b, c):
        ax.legend(loc="upper left")
    d.legend(loc="upper right", ncols=2)
    figure.supxlabel(text(means["data"].iloc[0], 120), fontsize=7)
    return figure

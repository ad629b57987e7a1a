"""Checkpoints of all sizes against a loss in place of a size, and along training."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels
from scripts.figures.arithmetic_transformer import over_runs

TABLES = ("arithmetic_transformer_checkpoints",)
DATA = "trained here: products and sums of two numbers below 100"
TITLE = "Scores against loss: do transformers of all sizes fall on one curve?"
CAPTION = (
    "The runs of the two tasks at checkpoints from early to last, scored on 1,002 pairs held out. A, B, D, E: a mark for "
    "each run and checkpoint, its colour the size; the loss falls to the right. A, D: loss per token on the training pairs, "
    "mean over the block of steps before the checkpoint; B, E: negative log-likelihood per answer on the pairs held out. "
    "C, F: exact match against optimiser steps, small marks the runs, lines their means with 95% Student t intervals. "
    "Checkpoints of one run are not independent. Where there are more than seven sizes, seven are drawn."
)
MOST = 7  # sizes drawn, as many as there are colours
TASKS = (("mul2", "products"), ("add2rev", "sums"))


def draw(checkpoints: pd.DataFrame) -> Figure:
    """A row for each task: exact match against training loss, token accuracy against held-out NLL, exact match by step."""
    figure, axes = panels(2, 3, height=2.7)
    for row, (task, name) in enumerate(TASKS):
        points = checkpoints[checkpoints["task"] == task]
        a, b, c = axes[3 * row : 3 * row + 3]
        models = list(points["model"].unique())
        shown = (
            [models[i] for i in np.unique(np.linspace(0, len(models) - 1, MOST).round().astype(int))] if models else []
        )
        for kind, model in enumerate(shown):
            one = points[points["model"] == model]
            label = str(model).rpartition("-")[2]
            for ax, x, y in ((a, "loss", "exact_match"), (b, "nll", "token_accuracy")):
                at = one.sort_values(x)
                curve(ax, at[x], at[y], label=label, kind=kind, line=False, markersize=2.5, markerfacecolor="none")
            alive = one[one["exact_match"].notna()]
            means, low, high = over_runs(alive["exact_match"].groupby(alive["step"]), "exact_match")
            curve(c, alive["step"], alive["exact_match"], label=f"{label}, runs", kind=kind, line=False, named=False,
                  markersize=1.5, alpha=0.4)  # fmt: skip
            curve(c, means.index, means, low, high, label=label, kind=kind, markersize=3)
        letters = "ABC" if row == 0 else "DEF"
        a.set(title=f"{letters[0]} {name}, training loss", xlabel="nats per token", ylabel="exact match")
        b.set(title=f"{letters[1]} {name}, held-out loss", xlabel="nats per answer", ylabel="token accuracy")
        c.set(title=f"{letters[2]} {name}, steps", xlabel="optimiser steps", ylabel="exact match")
        a.invert_xaxis()
        b.invert_xaxis()
        log_axis(c)
        c.legend(loc="upper left", fontsize=7)
    return figure

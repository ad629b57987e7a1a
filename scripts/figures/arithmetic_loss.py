"""Checkpoints of all sizes against a loss in place of a size, and along training."""

import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels

TABLES = ("arithmetic_transformer_checkpoints",)
DATA = "trained here: products and sums of two numbers below 100"
TITLE = "Scores against loss: do transformers of all sizes fall on one curve?"
CAPTION = (
    "The runs of the two tasks at checkpoints from early to last, scored on 1,002 pairs held out. A, B, D, E: a mark for "
    "each run and checkpoint, its colour the size; the loss falls to the right. A, D: loss per token on the training pairs, "
    "mean over the block of steps before the checkpoint; B, E: negative log-likelihood per answer on the pairs held out. "
    "C, F: mean exact match of the runs against optimiser steps. Checkpoints of one run are not independent."
)
TASKS = (("mul2", "products"), ("add2rev", "sums"))


def draw(checkpoints: pd.DataFrame) -> Figure:
    """A row for each task: exact match against training loss, token accuracy against held-out NLL, exact match by step."""
    figure, axes = panels(2, 3, height=2.7)
    for row, (task, name) in enumerate(TASKS):
        points = checkpoints[checkpoints["task"] == task]
        a, b, c = axes[3 * row : 3 * row + 3]
        for kind, (model, one) in enumerate(points.groupby("model", sort=False)):
            label = str(model).rpartition("-")[2]
            for ax, x, y in ((a, "loss", "exact_match"), (b, "nll", "token_accuracy")):
                at = one.sort_values(x)
                curve(ax, at[x], at[y], label=label, kind=kind, line=False, markersize=2.5, markerfacecolor="none")
            means = one.groupby("step")["exact_match"].mean()
            curve(c, means.index, means, label=label, kind=kind, markersize=3)
        letters = "ABC" if row == 0 else "DEF"
        a.set(title=f"{letters[0]} {name}, training loss", xlabel="nats per token", ylabel="exact match")
        b.set(title=f"{letters[1]} {name}, held-out loss", xlabel="nats per answer", ylabel="token accuracy")
        c.set(title=f"{letters[2]} {name}, steps", xlabel="optimiser steps", ylabel="exact match")
        a.invert_xaxis()
        b.invert_xaxis()
        log_axis(c)
        c.legend(loc="upper left", fontsize=7)
    return figure

"""Transformers that add: single runs learn a digit or they do not, under every metric."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, level, panels
from mirage_jax.table import select
from scripts.figures.arithmetic_transformer import over_runs, size_axis, sizes

TABLES = ("arithmetic_transformer", "arithmetic_transformer_seeds")
DATA = "trained here: all sums of two numbers below 100, units first"
TITLE = "Trained transformers add: runs of one size fall into groups, whatever the metric"
CAPTION = (
    "Small transformers trained on sums of two numbers below 100, written units first, 12 runs a size (64 in the full preset), "
    "scored on 1,002 pairs held out. A to C: every run a mark, moved a little to the side so that all can be seen; line: the "
    "mean over runs, which no run need resemble, with 95% Student t intervals. In C dashed lines stand where one or both of "
    "the digits for units and tens are guessed, at ln 10 nats each: the likelihood, too, stands on steps. D: share of runs "
    "with more than half of the answers right, our threshold, with 95% Clopper-Pearson intervals. The 1,200 steps are ours: "
    "what a size learns depends on them."
)
SPREAD = 0.06  # width over which the runs of a size are spread, in log units


def draw(arithmetic_transformer: pd.DataFrame, seeds: pd.DataFrame) -> Figure:
    """Exact match, edit distance and NLL of every run; the share of runs that succeed."""
    every = arithmetic_transformer[
        (arithmetic_transformer["task"] == "add2rev") & (arithmetic_transformer["scale_kind"] == "params")
    ]
    rows = select(every, split="held_out", slice=None)
    figure, axes = panels(2, 2, height=2.6)
    names = sizes(rows)
    for ax, metric, title, label in (
        (axes[0], "exact_match", "A exact match", "share right"),
        (axes[1], "token_edit_distance", "B edit distance", "edits per answer"),
        (axes[2], "nll", "C negative log-likelihood", "nats per answer"),
    ):
        one = rows[(rows["metric"] == metric) & rows["score"].notna()].sort_values(["scale", "score"])
        place = one.groupby("scale").cumcount() / one.groupby("scale")["score"].transform("size").clip(lower=2)
        moved = one["scale"] * np.exp(SPREAD * (2 * place - 1))
        curve(ax, moved, one["score"], label="one run", kind=0, line=False, markersize=3, markerfacecolor="none")
        means, low, high = over_runs(one["score"].groupby(one["scale"]), metric)
        curve(ax, means.index, means, low, high, label="mean of the runs", kind=1, marker=False)
        ax.set(title=title, ylabel=label)
        size_axis(ax, names)
    for k in (1, 2):
        level(axes[2], k * math.log(10), f"{k} ln 10" if k > 1 else "ln 10", kind=k)
    found = seeds[(seeds["task"] == "add2rev") & (seeds["metric"] == "exact_match") & seeds["params"].notna()]
    curve(
        axes[3], found["params"], found["success"], found["success_low"], found["success_high"],
        label="runs above one half", kind=2,
    )  # fmt: skip
    axes[3].set(title="D runs that succeed", ylabel="share of runs", ylim=(-0.05, 1.05))
    size_axis(axes[3], names)
    axes[0].legend(loc="upper left")
    axes[2].legend(loc="lower left")
    return figure

"""Transformers that multiply: the same answers under four metrics, by prefix, held out and seen (figures 3, 4 of the paper)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mirage_jax.estimators import student_t
from mirage_jax.metrics.facts import METRICS
from mirage_jax.plotting import curve, level, log_axis, panels
from mirage_jax.table import select

if TYPE_CHECKING:
    from pandas.core.groupby import SeriesGroupBy

TABLES = ("arithmetic_transformer",)
DATA = "trained here: all products of two numbers below 100"
TITLE = "Trained transformers multiply: the same answers under four metrics"
CAPTION = (
    "Small transformers trained from scratch on products of two numbers below 100, four digits with zeros before them, "
    "5 runs a size (10 in the full preset), layers x units below each size. 1,002 of the 10,000 pairs are held out, commuted "
    "pairs together; seen: 2,000 of those trained on. Small marks: single runs; lines: their means with 95% intervals "
    "(Student t over runs). A, B: the first L tokens of greedy answers, held out. C: as A on a log axis, with short lines at "
    "the left for what the commonest digit at each place earns. D to F: whole answers. The widths and the number of steps "
    "are ours: with other steps the same sizes score otherwise."
)
CROWDED = 6  # sizes from which their labels are turned


def draw(arithmetic_transformer: pd.DataFrame) -> Figure:
    """Exact match and edit distance by prefix, exact match on a log axis; then accuracy, exact match and NLL by split."""
    rows = arithmetic_transformer[
        (arithmetic_transformer["task"] == "mul2") & (arithmetic_transformer["scale_kind"] == "params")
    ]
    figure, axes = panels(3, 2, height=2.5)
    names = sizes(rows)
    prefixes = select(rows, slice="prefix", split="held_out")
    first = ("A exact match, first L tokens", "B edit distance, first L tokens", "C exact match, log axis")
    for ax, metric, title in zip(axes, ("exact_match", "token_edit_distance", "exact_match"), first, strict=False):
        for kind, length in enumerate(sorted(prefixes["length"].unique())):
            one = prefixes[(prefixes["metric"] == metric) & (prefixes["length"] == length)]
            runs(ax, one, f"L = {length}", kind)
            if title[0] == "C":
                ends, guess = np.array([0.6, 0.8]) * min(names, default=1), one["chance"].iloc[0]
                curve(ax, ends, [guess] * 2, label=f"chance, L = {length}", kind=kind, marker=False, named=False)
        size_axis(ax, names)
        ax.set(title=title, ylabel="edits" if metric == "token_edit_distance" else "share right")
    log_axis(axes[2], "y")
    for ax, metric, title, label in (
        (axes[3], "exact_match", "D exact match", "share right"),
        (axes[4], "token_accuracy", "E token accuracy", "share of tokens right"),
        (axes[5], "nll", "F negative log-likelihood", "nats per answer"),
    ):
        for kind, (split, name) in enumerate((("held_out", "held out"), ("seen", "seen in training"))):
            runs(ax, select(rows[rows["metric"] == metric], split=split, slice=None), name, kind)
        ax.set(title=title, ylabel=label)
        size_axis(ax, names)
        level(
            ax, rows[(rows["metric"] == metric) & (rows["length"] == rows["length"].max())]["chance"].iloc[0], "chance"
        )
    axes[1].legend(loc="upper right", ncols=2)
    axes[3].legend(loc="upper left")
    return figure


def runs(ax: Axes, rows: pd.DataFrame, label: str, kind: int) -> None:
    """Every run of each size as a small mark, and their mean with a 95% interval over runs."""
    scored = rows[rows["score"].notna()].sort_values(["scale", "seed"])
    means, low, high = over_runs(scored["score"].groupby(scored["scale"]), rows["metric"].iloc[0])
    curve(ax, scored["scale"], scored["score"], label=f"{label}, runs", kind=kind, line=False, named=False,
          markersize=2.2, alpha=0.5)  # fmt: skip
    curve(ax, means.index, means, low, high, label=label, kind=kind, markersize=3.5)


def over_runs(scores: "SeriesGroupBy", metric: str) -> tuple[pd.Series, np.ndarray, np.ndarray]:
    """Mean over the runs of each group, with the ends of its 95% Student t interval, cut at the metric's bounds."""
    ends = [student_t(one.to_numpy(dtype=float)) for _, one in scores]
    low, high = (np.clip([float(end[side]) for end in ends], *METRICS[metric].bounds) for side in (0, 1))
    return scores.mean(), low, high


def sizes(rows: pd.DataFrame) -> dict[float, str]:
    """Layers x units of the models at each number of parameters."""
    models = rows.drop_duplicates("scale").sort_values("scale")
    return {float(scale): name.rpartition("-")[2] for scale, name in zip(models["scale"], models["model"], strict=True)}


def size_axis(ax: Axes, names: Mapping[float, str]) -> None:
    """A log axis of parameters, labelled with the sizes."""
    log_axis(ax, ticks=list(names))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: names.get(float(value), "")))
    ax.tick_params(axis="x", labelsize=7.5, rotation=45 if len(names) > CROWDED else 0)
    ax.set_xlabel("layers x units, by number of parameters")

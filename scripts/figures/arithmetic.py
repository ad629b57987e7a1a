"""Accuracy and edit distance of the same answers (figure 3 of the paper)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels
from mirage_jax.table import select

TABLES = ("toy", "instructgpt")
DATA = "simulated; InstructGPT completions, mukobi/GPT-3-Multiplication-Tables (MIT)"
TITLE = "InstructGPT multiplies: the same answers under two metrics"
CAPTION = (
    "Left: the toy model. Right: answers of four InstructGPT models to all 10,000 products of two numbers below 100, "
    "by number of digits of the right answer (222, 450, 2,718 and 6,610 items for 1 to 4); the first integer of the "
    "completion is read, digits are the tokens. Bars: 95% intervals (Clopper-Pearson, Student t); none where all "
    "items score alike (davinci, 1 and 2 digits, edit distance). The 1-digit products are 90% zeros, on which curie "
    "does worse than babbage. davinci is text-davinci-003, the others -001: not one clean family. 584 answers of ada "
    "hold no integer and count as the empty string; in 591 answers, 532 of them curie's, a thousands separator ends "
    "the integer."
)


def draw(toy: pd.DataFrame, instructgpt: pd.DataFrame) -> Figure:
    """Columns: toy model, real answers. Rows: exact match, token edit distance."""
    figure, (a, b, c, d) = panels(2, 2, height=2.5, sharey="row")
    closed = toy[toy["source"] == "closed_form"]
    real = select(instructgpt, items="all")
    for ax, metric in ((a, "exact_match"), (c, "token_edit_distance")):
        _curves(ax, closed[closed["metric"] == metric], marker=False)
    for ax, metric in ((b, "exact_match"), (d, "token_edit_distance")):
        _curves(ax, real[real["metric"] == metric], marker=True)
    scales = sorted(real["scale"].unique())
    titles = (
        "A toy model, exact match",
        "B real answers, exact match",
        "C toy model, edit distance",
        "D real answers, edit distance",
    )
    for ax, title in zip((a, b, c, d), titles, strict=True):
        ax.set(xlabel="parameters", title=title)
        log_axis(ax, ticks=scales)
        ax.set_xlim(2e8, 3e11)
        ax.set_ylabel("share right" if ax in (a, b) else "edits per answer")
    d.legend(loc="upper right", title="digits", title_fontsize=8)
    return figure


def _curves(ax: Axes, rows: pd.DataFrame, marker: bool) -> None:
    for kind, length in enumerate((1, 2, 3, 4)):
        shown = rows[rows["length"] == length].sort_values("scale")
        curve(
            ax, shown["scale"], shown["score"], shown["low"], shown["high"], label=f"{length}", kind=kind, marker=marker
        )

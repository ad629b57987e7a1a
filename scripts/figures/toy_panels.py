"""Six views of one smooth law (figure 2 of the paper)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels
from mirage_jax.table import read_setting, select

TABLES = ("toy",)
DATA = "simulated"
TITLE = "One smooth law, sharp or smooth by choice of metric"
CAPTION = (
    "The paper's toy model: loss falls as a power of scale (A), so the chance of a right token rises smoothly (B). "
    "Whole answers right (C) turn that into a late rise, and the option with the most mass (D) into a step if all "
    "questions are equal; if their difficulty is spread the grade is smooth. Edit distance (E) and the Brier score "
    "(F), lower is better, stay smooth. Lines: closed forms. Points in B to F: simulated outputs (4,096 items each, "
    "a million in the full preset) scored by the metrics that score real models, vocabulary 1000; 95% intervals are "
    "mostly smaller than the points, and none is drawn where all questions are equal. The constants are ours; the "
    "paper prints none."
)
LENGTHS = (1, 2, 3, 5, 10)


def draw(toy: pd.DataFrame) -> Figure:
    """Panels A to F: closed forms as lines, simulated means as points."""
    figure, (a, b, c, d, e, f) = panels(2, 3)
    _pair(a, toy, "nll", 1, "loss -log p", 0)
    _pair(b, toy, "token_accuracy", 1, "token right", 0, vocabulary=1000)
    for kind, length in enumerate(LENGTHS):
        _pair(c, toy, "exact_match", length, f"L = {length}", kind, vocabulary=1000)
        _pair(e, toy, "token_edit_distance", length, f"L = {length}", kind, vocabulary=1000)
    spreads = sorted(_spreads(toy))
    for kind, spread in enumerate(spreads):
        name = f"spread {spread:g} logits" if spread else "equal questions"
        _pair(d, toy, "multiple_choice_grade", 1, name, kind, spread=spread)
        _pair(f, toy, "brier_target", 1, name, kind, spread=spread)
    titles = (
        "A cross-entropy",
        "B token success",
        "C exact match",
        "D multiple choice",
        "E edit distance",
        "F Brier score",
    )
    units = ("nats per token", "probability", "share right", "share right", "tokens", "(1 - p)²")
    for ax, title, unit in zip((a, b, c, d, e, f), titles, units, strict=True):
        ax.set(xlabel="parameters", ylabel=unit, title=title)
        log_axis(ax)
    e.legend(loc="upper right", title="target length, C and E", title_fontsize=8)
    f.legend(loc="upper right", title="D and F", title_fontsize=8)
    return figure


def _spreads(toy: pd.DataFrame) -> set[float]:
    held = (read_setting(text) for text in toy["setting"].dropna())
    return {float(options["spread"]) for options in held if set(options) == {"spread"}}


def _pair(ax: Axes, toy: pd.DataFrame, metric: str, length: int, label: str, kind: int, **options: float) -> None:
    rows = toy[(toy["metric"] == metric) & (toy["length"] == length)].sort_values("scale")
    closed = select(rows[rows["source"] == "closed_form"], **{k: v for k, v in options.items() if k == "spread"})
    step = metric == "multiple_choice_grade" and options["spread"] == 0
    curve(
        ax,
        closed["scale"],
        closed["score"],
        label=label,
        kind=kind,
        marker=False,
        drawstyle="steps-post" if step else "default",
    )
    shown = select(rows[(rows["source"] == "simulated") & (rows["n"] == rows["n"].max())], **options)
    name = f"{label}, simulated"
    curve(
        ax, shown["scale"], shown["score"], shown["low"], shown["high"], label=name, kind=kind, line=False, named=False
    )

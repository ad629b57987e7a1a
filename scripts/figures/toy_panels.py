"""Six views of one smooth law (figure 2 of the paper)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels

TABLES = ("toy",)
DATA = "simulated"
TITLE = "One smooth law, sharp or smooth by choice of metric"
CAPTION = (
    "The paper's toy model: loss falls as a power of scale (A), so the chance of a right token rises smoothly (B). Whole "
    "answers right (C) and the option with the most mass (D) turn that into a late rise or a step; edit distance (E) and "
    "the Brier score (F) do not. Lines: closed forms. Points: simulated outputs scored by the metrics that score real "
    "models, with 95% intervals. The constants are ours; the paper prints none."
)
LENGTHS = (1, 2, 3, 5, 10)


def draw(toy: pd.DataFrame) -> Figure:
    """Panels A to F: closed forms as lines, simulated means as points."""
    figure, (a, b, c, d, e, f) = panels(2, 3)
    _pair(a, toy, "nll", 1, "loss -log p", 0)
    _pair(b, toy, "token_accuracy", 1, "token right", 0)
    for kind, length in enumerate(LENGTHS):
        _pair(c, toy, "exact_match", length, f"L = {length}", kind)
        _pair(e, toy, "token_edit_distance", length, f"L = {length}", kind)
    for kind, spread in enumerate(("spread=0.0", "spread=1.0")):
        name = "equal questions" if kind == 0 else "spread questions"
        _pair(d, toy, "multiple_choice_grade", 1, name, kind, spread)
        _pair(f, toy, "brier_target", 1, name, kind, spread)
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
    e.legend(loc="upper right", title="target length", title_fontsize=8)
    d.legend(loc="lower right")
    return figure


def _pair(ax: Axes, toy: pd.DataFrame, metric: str, length: int, label: str, kind: int, spread: str = "") -> None:
    rows = toy[(toy["metric"] == metric) & (toy["length"] == length)].sort_values("scale")
    setting = rows["setting"].fillna("")
    closed = rows[(rows["source"] == "closed_form") & setting.str.startswith(spread)]
    curve(ax, closed["scale"], closed["score"], label=label, kind=kind, marker=False)
    largest = rows["n"].max()
    drawn = (rows["source"] == "simulated") & (rows["n"] == largest) & setting.str.startswith(spread)
    drawn &= ~setting.str.endswith("vocabulary=10")
    shown = rows[drawn.to_numpy()]
    if not shown.empty:
        name = f"{label}, simulated"
        curve(
            ax,
            shown["scale"],
            shown["score"],
            shown["low"],
            shown["high"],
            label=name,
            kind=kind,
            line=False,
            named=False,
        )

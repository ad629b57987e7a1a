"""The same answers under accuracy and under a continuous metric (figure 6 of the paper, on the scores at hand)."""

import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels, text
from scripts.claims.bigbench import BRIER, looks_emergent

TABLES = ("bigg", "bigg_scores")
DATA = "BIG-G scores, derived from wschella/lass"
TITLE = "Tasks that look emergent under accuracy, and their Brier scores"
CAPTION = (
    "Multiple-choice tasks of 100 items and more that score above a straight line (emergence score E above 11, as "
    "printed, without a floor) under accuracy (upper row) or only under the Brier score (lower row) of the model's "
    "confidence in the answer it preferred, renormalised over the choices. Each metric makes tasks of its own look "
    "emergent. This is not the paper's Brier score of the right answer, which these data do not hold. Bars: 95% "
    "Clopper-Pearson from our count of right answers; the Brier scores come without intervals, so none is drawn."
)


def draw(bigg: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """A column for each task, at most two a metric: accuracy above, Brier score below."""
    names = {"multiple_choice_grade": "accuracy", BRIER: "Brier score"}
    tasks = list(dict.fromkeys(task for metric in names for task in looks_emergent(scores, metric)[:2]))
    figure, axes = panels(2, max(len(tasks), 1), height=2.2, sharex=True)
    value = scores.set_index(["task", "metric"])["emergence_inf"]
    for column, task in enumerate(tasks):
        rows = bigg[bigg["task"] == task].sort_values("scale")
        for row, (metric, name) in enumerate(names.items()):
            ax, shown = axes[row * len(tasks) + column], rows[rows["metric"] == metric]
            curve(ax, shown["scale"], shown["score"], shown["low"], shown["high"], label=f"{task}, {name}", kind=row)
            log_axis(ax, ticks=(1e7, 1e9, 1e11))
            ax.set_xlabel("parameters" if row else "")
            ax.set_ylabel(f"{name}{', lower is better' if row else ''}" if column == 0 else "")
            head = f"{text(task, 22)}\nn = {shown['n'].min()}, " if row == 0 else ""
            ax.set_title(f"{head}E = {value[task, metric]:.1f}", fontsize=8)
    return figure

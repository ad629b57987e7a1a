"""The same answers under accuracy and under a continuous metric (figure 6 of the paper, on the scores at hand)."""

import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels, text
from scripts.claims.bigbench import looks_emergent

TABLES = ("bigg", "bigg_scores")
DATA = "BIG-G scores, derived from wschella/lass"
TITLE = "Tasks that look emergent under accuracy, and their Brier scores"
CAPTION = (
    "The multiple-choice tasks of 100 items and more whose accuracy has an emergence score above a straight line's, and on "
    "the same answers the Brier score of the model's confidence in the answer it preferred, renormalised over the choices. "
    "This is not the paper's Brier score of the right answer, which these data do not hold. Bars: 95% Clopper-Pearson; the "
    "Brier scores come without intervals, so none is drawn. E: emergence score as printed."
)


def draw(bigg: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """A column for each task (at most four): accuracy above, Brier score below."""
    tasks = looks_emergent(scores)[:4]
    figure, axes = panels(2, max(len(tasks), 1), height=2.3, sharex=True)
    value = scores.set_index(["task", "metric"])["emergence_inf"]
    for column, task in enumerate(tasks):
        rows = bigg[bigg["task"] == task].sort_values("scale")
        names = (("multiple_choice_grade", "accuracy"), ("lass:conf_normalized_bs", "Brier score, lower is better"))
        for row, (metric, label) in enumerate(names):
            ax, shown = axes[row * len(tasks) + column], rows[rows["metric"] == metric]
            curve(ax, shown["scale"], shown["score"], shown["low"], shown["high"], label=label, kind=row)
            log_axis(ax)
            ax.set(ylabel=label, xlabel="parameters" if row else "")
            ax.set_title(
                text(f"{task}, {'Brier score' if row else 'accuracy'}: E = {value[task, metric]:.1f}", 64), fontsize=8
            )
    return figure

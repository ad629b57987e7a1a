"""The same answers under accuracy and under a continuous metric (figure 6 of the paper, on the scores at hand)."""

import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, panels
from scripts.claims import looks_emergent

TABLES = ("bigg", "bigg_scores", "bigg_noise")
DATA = "BIG-G scores, derived from wschella/lass"
TITLE = "Tasks that look emergent, under accuracy and under a Brier score"
CAPTION = (
    "Multiple-choice tasks whose accuracy scores above what noise does, and the Brier score of the model's confidence in "
    "the answer it preferred, renormalised over the choices. This is not the paper's Brier score of the right answer, "
    "which these data do not hold. Bars: 95% Clopper-Pearson; the Brier scores come without intervals, so none is drawn."
)


def draw(bigg: pd.DataFrame, scores: pd.DataFrame, noise: pd.DataFrame) -> Figure:
    """Left: accuracy. Right: Brier score of the confidence."""
    figure, (a, b) = panels(1, 2, height=3.1)
    for kind, task in enumerate(looks_emergent(scores, noise)[:6]):
        rows = bigg[bigg["task"] == task].sort_values("scale")
        grade = rows[rows["metric"] == "multiple_choice_grade"]
        brier = rows[rows["metric"] == "lass:conf_normalized_bs"]
        curve(a, grade["scale"], grade["score"], grade["low"], grade["high"], label=task, kind=kind)
        curve(b, brier["scale"], brier["score"], label=task, kind=kind)
    a.set(xscale="log", xlabel="parameters", ylabel="multiple choice grade", title="A accuracy")
    b.set(xscale="log", xlabel="parameters", ylabel="Brier score of confidence (lower is better)", title="B the same answers")
    a.legend(loc="upper left", fontsize=7)
    return figure

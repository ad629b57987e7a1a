"""What the verdict says of the 85 tasks of BIG-G, under accuracy and under two Brier scores."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import GREY, curve, log_axis, panels

TABLES = ("bigg_verdicts",)
DATA = "BIG-G scores, derived from wschella/lass"
TITLE = "Verdicts on BIG-G: which of 85 tasks can be decided"
CAPTION = (
    "A: tasks by label, under accuracy (21 tasks by exact match, 64 by multiple choice grade) and under the two Brier scores "
    "of the model's confidence in its own answer; labels that no task has are left out. No linear metric stands beside "
    "these, so none can be told to be metric-induced or a surviving threshold. B: emergence score of the accuracy, with its "
    "noise floor, against the items of a task: what looks sharp is smooth or undecided, and with fewer than 50 items "
    "nearly nothing is decided. C: items that an undecided task would need, as the verdict estimates them, against those it "
    "has (line: as many); tasks on the line need more scales, or repeats of each, rather than items."
)
SHORT = {
    "exact_match": "exact match",
    "multiple_choice_grade": "multiple choice grade",
    "lass:conf_normalized_bs": "Brier, renormalised",
    "lass:conf_absolute_bs": "Brier, absolute",
}
GROUPS = {"SMOOTH": "smooth", "INSUFFICIENT_RESOLUTION": "undecided"}


def draw(verdicts: pd.DataFrame) -> Figure:
    """Panels A to C."""
    figure, (a, b, c) = panels(1, 3, height=3.4)
    labels = list(verdicts["label"].value_counts().index)
    for kind, (metric, name) in enumerate(SHORT.items()):
        own = verdicts.loc[verdicts["metric"] == metric, "label"]
        count = [int((own == label).sum()) for label in labels]
        curve(a, count, np.arange(len(labels)) + 0.15 * (kind - 1.5), label=name, kind=kind, line=False)
    accuracy = verdicts[verdicts["metric"].isin(["exact_match", "multiple_choice_grade"])]
    group = accuracy["label"].map(GROUPS).fillna("other label")
    for kind, name in enumerate([*GROUPS.values(), "other label"]):
        own = accuracy[group == name]
        curve(b, own["n_low"], own["emergence"], label=name, kind=kind + 4, line=False)
    short = accuracy[accuracy["needs_items"].notna()]
    curve(c, short["n_low"], short["needs_items"], label="undecided task", kind=5, line=False)
    ends = np.array([40.0, 250.0])
    curve(c, ends, ends, label="as many as there are", marker=False, color=GREY, linestyle="-", linewidth=0.9)
    for ax in (b, c):
        log_axis(ax, ticks=(2, 5, 20, 50, 200))
        ax.set_xlabel("items of the task")
    log_axis(c, "y")
    a.set_yticks(range(len(labels)), [label.lower().replace("_", "\n") for label in labels])
    a.set(xlabel="tasks", title="A labels", xlim=(-3, 88), ylim=(len(labels) - 0.4, -0.6))
    b.set(ylabel="emergence score, floored", title="B score and label")
    c.set(ylabel="items needed", title="C what it would take", ylim=(40, 2e4))
    a.legend(loc="lower right", fontsize=7)
    b.legend(loc="upper left")
    return figure

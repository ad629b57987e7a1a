"""Which metrics hold the curves that look emergent, by the threshold one sets (figure 5 of the paper and its two lists)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.null import benjamini_hochberg
from mirage_jax.plotting import curve, level, log_axis, panels

TABLES = ("bigg_scores", "obs_scaling_scores", "pythia_scores", "openlm_scores")
DATA = "published scores: BIG-G, ObsScaling, Pythia with OPT and BLOOM, OpenLM"
TITLE = "Emergent curves by metric, as a function of the threshold"
CAPTION = (
    "A: tasks of BIG-G, of 85, whose emergence score as printed is above a threshold, by metric (21 tasks are answered "
    "freely and 64 by choice; infinite scores are above every threshold). B: of the tasks whose accuracy is above it, the "
    "share under multiple choice grade, by the printed score and with its floor. The paper prints no threshold. Of its 67 "
    "hand-annotated tasks 51 stand under multiple choice grade and 11 under exact match, 62 under the two; that is nearly "
    "the share of multiple choice among all 85 tasks here, and the higher the threshold, the more exact match prevails. C: "
    "share of the curves by size in all four tables whose emergence score is above chance at a false discovery rate over "
    "all of them (Benjamini-Hochberg; null: models that do not improve). To beat that null a score must rise, not leap."
)
NAMES = {
    "exact_match": "exact match",
    "multiple_choice_grade": "multiple choice grade",
    "bleu_4": "BLEU",
    "nll": "log-probability",
    "lass:conf_normalized_bs": "Brier, renormalised",
    "lass:conf_absolute_bs": "Brier, absolute",
}
PUBLISHED = 51 / 67  # under multiple choice grade, of the hand-annotated tasks
THRESHOLDS = np.geomspace(1, 100, 41)
RATES = np.geomspace(5e-4, 0.5, 37)


def draw(bigg: pd.DataFrame, *others: pd.DataFrame) -> Figure:
    """Panels A to C."""
    figure, (a, b, c) = panels(1, 3, height=3.2)
    kinds = {metric: kind for kind, metric in enumerate(NAMES)}
    for metric in [m for m in NAMES if (bigg["metric"] == m).any()]:
        score = bigg.loc[bigg["metric"] == metric, "emergence_inf"].to_numpy()
        count = (score[:, None] > THRESHOLDS).sum(0)
        curve(a, THRESHOLDS, count, label=NAMES[metric], kind=kinds[metric], marker=False, named=False)
    accuracy = bigg[bigg["accuracy"]]
    choice = (accuracy["metric"] == "multiple_choice_grade").to_numpy()
    for kind, (policy, name) in enumerate({"inf": "as printed", "floor": "with the floor"}.items()):
        above = accuracy[f"emergence_{policy}"].to_numpy()[:, None] > THRESHOLDS
        share = (above & choice[:, None]).sum(0) / np.where(above.any(0), above.sum(0), np.nan)
        curve(b, THRESHOLDS, share, label=name, kind=kind + 3, marker=False)
    curves = pd.concat([bigg, *others])[["metric", "p"]].assign(q=lambda df: benjamini_hochberg(df["p"]))
    for metric in NAMES:
        q = curves.loc[curves["metric"] == metric, "q"].to_numpy()
        if q.size:
            share = (q[:, None] <= RATES).mean(0)
            curve(c, RATES, share, label=f"{NAMES[metric]} ({q.size})", kind=kinds[metric], marker=False)
    for ax in (a, b):
        log_axis(ax, ticks=(1, 3, 10, 30, 100))
        ax.set_xlabel("threshold of the emergence score")
    log_axis(c, ticks=(1e-3, 0.01, 0.1))
    level(b, PUBLISHED, "51 of 67")
    level(b, float(choice.mean()), "of all tasks", kind=1)
    a.set(ylabel="tasks above it", title="A tasks of BIG-G")
    b.set(ylabel="share of multiple choice", title="B whose tasks they are", ylim=(-0.03, 1))
    c.set(
        ylabel="share of the curves",
        xlabel="false discovery rate",
        title="C all tables, by p-value",
        ylim=(-0.03, 1.03),
    )
    b.legend(loc="center right", fontsize=7, bbox_to_anchor=(1, 0.57))
    figure.legend(*c.get_legend_handles_labels(), loc="outside lower center", ncols=3, title="metric (curves in C)")
    return figure

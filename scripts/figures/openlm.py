"""Six tasks against the loss on C4: models of all sizes and token budgets on one curve?"""

import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import compact, curve, level, panels

TABLES = ("openlm", "openlm_models")
DATA = "OpenLM models, derived from mlfoundations/scaling"
TITLE = "Accuracy against pretraining loss: OpenLM models of six sizes"
CAPTION = (
    "Models trained on RedPajama on a quarter to 32 times 20 tokens a parameter, by their loss on C4 (the axis runs from "
    "high to low). Each size has a colour; lines join the token budgets of a size, of which the largest two sizes have two "
    "and one. Where the colours lie on one line, accuracy follows the loss and not the size. A to D rise over one to three "
    "nats. Squad stays at 0 down to a loss of about 3.4, and cs_algorithms leaps near 4.7, where only the smallest size "
    "has models. Bars: 95% Clopper-Pearson."
)
FAMILY = "OpenLM RedPajama"
TASKS = {
    "hellaswag": "A hellaswag",
    "arc_easy": "B arc_easy",
    "lambada_openai": "C lambada",
    "bigbench_qa_wikidata": "D qa_wikidata",
    "squad": "E squad",
    "bigbench_cs_algorithms": "F cs_algorithms",
}


def draw(openlm: pd.DataFrame, models: pd.DataFrame) -> Figure:
    """A panel for each task."""
    figure, axes = panels(2, 3, height=2.6)
    rows = openlm[(openlm["scale_kind"] == "loss") & (openlm["family"] == FAMILY)]
    rows = rows.merge(models[["model", "params"]], on="model").sort_values("scale")
    for ax, (task, title) in zip(axes, TASKS.items(), strict=True):
        for kind, size in enumerate(sorted(rows["params"].unique())):
            own = rows[(rows["task"] == task) & (rows["params"] == size)]
            curve(ax, own["scale"], own["score"], own["low"], own["high"], label=compact(float(size)), kind=kind)
        chance = rows.loc[rows["task"] == task, "chance"]
        if chance.max() > 0:
            level(ax, float(chance.iloc[0]), "chance")
        ax.invert_xaxis()
        ax.set(title=title, xlabel="loss on C4, nats a token" if ax in axes[3:] else "")
        ax.set_ylabel("accuracy" if ax in (axes[0], axes[3]) else "")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, title="parameters")
    return figure

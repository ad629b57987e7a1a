"""What a small test cannot see."""

import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels
from mirage_jax.table import select

TABLES = ("toy",)
DATA = "simulated"
TITLE = "A small test shows zero where there is ability"
CAPTION = (
    "Exact match of the toy model for targets of 5 and 10 tokens (vocabulary 1000) on tests of three sizes. Lines: "
    "the true rate. Points: what one test of that size shows, with its 95% Clopper-Pearson interval; those of L = 10 "
    "are moved a little to the right so that both can be seen. A zero on 20 items is no evidence of zero ability: its "
    "interval reaches .17."
)
APART = 1.12  # factor between the points of the two lengths


def draw(toy: pd.DataFrame) -> Figure:
    """One panel a test size."""
    rows = toy[(toy["metric"] == "exact_match") & toy["length"].isin([5, 10])].sort_values("scale")
    simulated = select(rows[rows["source"] == "simulated"], vocabulary=1000)
    sizes = sorted(simulated["n"].unique())
    figure, axes = panels(1, len(sizes), height=2.9, sharey=True)
    for ax, n in zip(axes, sizes, strict=True):
        for kind, length in enumerate((5, 10)):
            closed = rows[(rows["source"] == "closed_form") & (rows["length"] == length)]
            curve(ax, closed["scale"], closed["score"], label=f"L = {length}, true rate", kind=kind, marker=False)
            at = simulated[(simulated["n"] == n) & (simulated["length"] == length)]
            x, label = at["scale"] * APART**kind, f"L = {length}, one test"
            curve(ax, x, at["score"], at["low"], at["high"], label=label, kind=kind, line=False)
        log_axis(ax)
        ax.set(xlabel="parameters", title=f"{n:,} test items")
    axes[0].set_ylabel("exact match")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure

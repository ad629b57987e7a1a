"""What a small test cannot see."""

import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import compact, curve, log_axis, panels

TABLES = ("toy",)
DATA = "simulated"
TITLE = "A small test shows zero where there is ability"
CAPTION = (
    "Exact match of the toy model for targets of 5 and 10 tokens on tests of three sizes. Lines: the true rate. Points: "
    "what one test of that size shows, with its 95% Clopper-Pearson interval. A zero on 20 items is no evidence of zero "
    "ability: the interval reaches above .15."
)


def draw(toy: pd.DataFrame) -> Figure:
    """One panel a test size."""
    rows = toy[(toy["metric"] == "exact_match") & toy["length"].isin([5, 10])].sort_values("scale")
    simulated = rows[(rows["source"] == "simulated") & rows["setting"].fillna("").str.endswith("vocabulary=1000")]
    sizes = sorted(simulated["n"].unique())
    figure, axes = panels(1, len(sizes), height=2.6, sharey=True)
    for ax, n in zip(axes, sizes, strict=True):
        for kind, length in enumerate((5, 10)):
            closed = rows[(rows["source"] == "closed_form") & (rows["length"] == length)]
            curve(ax, closed["scale"], closed["score"], label=f"L = {length}, true rate", kind=kind, marker=False)
            shown = simulated[(simulated["n"] == n) & (simulated["length"] == length)]
            label = f"L = {length}, one test"
            curve(ax, shown["scale"], shown["score"], shown["low"], shown["high"], label=label, kind=kind, line=False)
        log_axis(ax)
        ax.set(xlabel="parameters", title=f"{compact(n) if n >= 10_000 else n} test items")
    axes[0].set_ylabel("exact match")
    axes[-1].legend(loc="upper left")
    return figure

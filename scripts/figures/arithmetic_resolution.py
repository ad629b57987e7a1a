"""More test items show that small models are above chance, or not (figure 4 of the paper)."""

import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels
from mirage_jax.table import read_setting, select

TABLES = ("instructgpt",)
DATA = "InstructGPT completions, mukobi/GPT-3-Multiplication-Tables (MIT)"
TITLE = "With more test items, zeros turn into small rates"
CAPTION = (
    "Exact match on a log axis for right answers of 2 to 4 digits, on 20 and 200 items a length and on all of them "
    "(450, 2,718 and 6,610), with 95% Clopper-Pearson intervals. Hollow marks: none right; they stand at the "
    "interval's upper end, moved a little so that all can be seen. Short lines at the left, in the colour of the "
    "length: what always giving the commonest right answer of that length earns, which is above a random string's "
    "10^-L."
)
APART = 1.15  # factor between the hollow marks of two lengths


def draw(instructgpt: pd.DataFrame) -> Figure:
    """One panel a test size; target lengths 2 to 4."""
    rows = instructgpt[(instructgpt["metric"] == "exact_match") & instructgpt["length"].isin([2, 3, 4])]
    sizes = sorted({read_setting(s)["items"] for s in rows["setting"]}, key=lambda n: (n == "all", len(n), n))
    figure, axes = panels(1, max(len(sizes), 1), height=3.2, sharey=True)
    scales = sorted(rows["scale"].unique())
    for ax, items in zip(axes, sizes, strict=False):
        for kind, length in enumerate(sorted(rows["length"].unique())):
            at = select(rows[rows["length"] == length], items=items).sort_values("scale")
            some, none = at[at["score"] > 0], at[at["score"] == 0]
            curve(ax, some["scale"], some["score"], some["low"], some["high"], label=f"{length} digits", kind=kind)
            if not none.empty:
                label, x = f"{length} digits, none right", none["scale"] * APART ** (kind - 1)
                curve(ax, x, none["high"], label=label, kind=kind, line=False, markerfacecolor="none", named=False)
            chance = [float(at["chance"].iloc[0])] * 2
            ends = [scales[0] / 2, scales[0] / 1.3]
            curve(
                ax, ends, chance, label=f"chance, {length} digits", kind=kind, marker=False, linestyle="-", named=False
            )
        ax.set(xlabel="parameters", ylim=(5e-5, 1.6))
        log_axis(ax, ticks=scales)
        log_axis(ax, "y")
        ax.set_title("all items" if items == "all" else f"{items} items a length")
    axes[0].set_ylabel("exact match")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure

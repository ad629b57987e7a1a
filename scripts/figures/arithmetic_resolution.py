"""More test items show that small models are above chance, or not (figure 4 of the paper)."""

import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels

TABLES = ("instructgpt",)
DATA = "InstructGPT completions, mukobi/GPT-3-Multiplication-Tables (MIT)"
TITLE = "With more test items, zeros turn into small rates"
CAPTION = (
    "Exact match on a log axis, on 20 and 200 items per answer length and on all of them, with 95% Clopper-Pearson "
    "intervals. Hollow marks: none right; they stand at the interval's upper end. Short grey lines: chance for that "
    "length, the product over positions of the commonest digit's share, which is above 10^-L since leading digits are "
    "not uniform."
)


def draw(instructgpt: pd.DataFrame) -> Figure:
    """One panel a test size; target lengths 2 to 4."""
    rows = instructgpt[(instructgpt["metric"] == "exact_match") & instructgpt["length"].isin([2, 3, 4])]
    settings = sorted(rows["setting"].unique(), key=lambda s: rows[rows["setting"] == s]["n"].min())
    figure, axes = panels(1, len(settings), height=3.0, sharey=True)
    scales = sorted(rows["scale"].unique())
    for ax, setting in zip(axes, settings, strict=True):
        items = setting.split(";")[0].removeprefix("items=")
        for kind, length in enumerate((2, 3, 4)):
            at = rows[(rows["setting"] == setting) & (rows["length"] == length)].sort_values("scale")
            some, none = at[at["score"] > 0], at[at["score"] == 0]
            curve(ax, some["scale"], some["score"], some["low"], some["high"], label=f"{length} digits", kind=kind)
            if not none.empty:
                label = f"{length} digits, none right"
                curve(ax, none["scale"], none["high"], label=label, kind=kind, line=False, markerfacecolor="none")
            chance = float(at["chance"].iloc[0])
            ends = [scales[0] / 1.6, scales[0] * 1.15]
            curve(
                ax,
                ends,
                [chance, chance],
                label=f"chance, {length} digits",
                kind=4,
                marker=False,
                linestyle="-",
                linewidth=1.0,
                named=False,
            )
        ax.set(xlabel="parameters", ylim=(5e-5, 1.6))
        log_axis(ax, ticks=scales)
        log_axis(ax, "y")
        ax.set_title("all items" if items == "all" else f"{items} items a length")
    axes[0].set_ylabel("exact match")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure

"""Emergence scores of 85 tasks, and what noise alone scores (figure 5 of the paper)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, level, panels

TABLES = ("bigg_scores", "bigg_noise")
DATA = "BIG-G scores, derived from wschella/lass"
TITLE = "Emergence scores of BIG-G on 85 tasks"
CAPTION = (
    "Signed range of a task's accuracy over its typical step between the twelve sizes, 85 tasks of 2 to 205 items. A, "
    "the score as printed in the paper: a zero typical step divides by zero; those tasks stand beyond the largest (or "
    "the smallest) finite score. B: with the step raised to the standard error of a difference of two scores none is "
    "infinite, and small tasks cannot score high. Long dashes: a straight line over twelve sizes, 11. Short dashes: "
    "what one curve in twenty scores at pure chance (rate .25, 200 items). T = 0, 3-shot."
)


def draw(scores: pd.DataFrame, noise: pd.DataFrame) -> Figure:
    """Sorted scores under the two policies."""
    figure, axes = panels(1, 2, height=3.3)
    accuracy = scores[scores["accuracy"]]
    for ax, policy, title in zip(
        axes, ("inf", "floor"), ("A zero median gives infinity", "B floor at the resolution"), strict=True
    ):
        y = np.sort(accuracy[f"emergence_{policy}"].to_numpy())[::-1]
        rank = np.arange(1, y.size + 1)
        finite = np.isfinite(y)
        curve(ax, rank[finite], y[finite], label="finite", kind=0, line=False)
        if not finite.all():
            edge = np.where(y[~finite] > 0, 1.12 * y[finite].max(), 1.3 * y[finite].min())
            curve(ax, rank[~finite], edge, label=f"infinite: {(~finite).sum()} tasks", kind=1, line=False)
        ax.set(xlabel="task, by rank", ylabel="emergence score", title=title)
        level(ax, float(accuracy["scales"].max() - 1), "a straight line", kind=1)
        level(ax, float(noise.loc[noise["quantile"] == 0.95, policy].iloc[0]), "1 in 20 at chance")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure

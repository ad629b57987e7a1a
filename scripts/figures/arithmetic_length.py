"""What the length of the answer does, against what independent digits would imply."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, level, log_axis, panels
from mirage_jax.table import select

TABLES = ("instructgpt", "instructgpt_tests")
DATA = "InstructGPT completions, mukobi/GPT-3-Multiplication-Tables (MIT)"
TITLE = "Digits are not independent: the length law does not hold on real answers"
CAPTION = (
    "A, B: scores by number of digits (points, 95% intervals) against what the score at one digit implies (thin "
    "lines): accuracy to the L-th power, edit distance times L. Of the one-digit products 90% are 0, so that start "
    "says little. C: exact match over the product of the rates of each digit, 1 if they were independent; 95% "
    "bootstrap over items. Hollow marks rest on fewer than five right or wrong answers and get no interval."
)


def draw(instructgpt: pd.DataFrame, tests: pd.DataFrame) -> Figure:
    """Panels: exact match, edit distance, independence ratio."""
    figure, (a, b, c) = panels(1, 3, height=2.9)
    rows = select(instructgpt[instructgpt["length"].notna()], items="all")
    models = list(rows.sort_values("scale")["model"].unique())
    lengths = np.array([1, 2, 3, 4])
    for kind, model in enumerate(models):
        for ax, metric in ((a, "exact_match"), (b, "token_edit_distance")):
            at = rows[(rows["model"] == model) & (rows["metric"] == metric)].sort_values("length")
            x = at["length"].astype(float)
            curve(ax, x, at["score"], at["low"], at["high"], label=model, kind=kind, line=False)
            first = float(at["score"].iloc[0])
            law = first**lengths if metric == "exact_match" else first * lengths
            curve(
                ax, lengths, law, label=f"{model}, from one digit", kind=kind, marker=False, linewidth=1.0, named=False
            )
        at = tests[(tests["test"] == "independence_ratio") & (tests["model"] == model)].sort_values("length")
        known, thin = at[at["low"].notna()], at[at["low"].isna()]
        curve(c, known["length"], known["value"], known["low"], known["high"], label=model, kind=kind)
        label = f"{model}, few answers"
        curve(c, thin["length"], thin["value"], label=label, kind=kind, line=False, markerfacecolor="none", named=False)
    level(c, 1.0, "independent digits")
    log_axis(a, "y")
    log_axis(c, "y", ticks=(1, 2, 5, 10, 20, 40))
    a.set(ylim=(5e-5, 2), title="A exact match", ylabel="share right")
    b.set(title="B edit distance", ylabel="edits per answer")
    c.set(title="C independence ratio", ylabel="joint rate / product")
    for ax in (a, b, c):
        ax.set(xlabel="digits", xticks=lengths)
    figure.legend(*c.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure

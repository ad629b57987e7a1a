"""What tests of few items make of one smooth law."""

import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels

TABLES = ("resolution_zeros", "resolution_tests", "resolution_plans")
DATA = "simulated"
TITLE = "Too few test items: zeros, late onsets and jumps, and how many items it takes"
CAPTION = (
    "Exact match of the toy model, 16 models from 10M to 1T parameters, each with a test of its own. A: share of "
    "tests that show exactly 0, targets of 5 tokens; lines: (1 - p^L)^n, points: 20,000 simulated tests a point (a "
    "million in the full preset), their 95% intervals smaller than the points. B: the smallest model with any right "
    "answer; points: median and 5 to 95% of the tests; lines: from where a model is seen with 95% probability. C: "
    "items for one right answer with 95% probability (points, which simulation confirms) and for a standard error of "
    "10% of the score (thin lines). D: share of tests in which one step between neighbours makes more than a quarter "
    "of the range; the law's own largest steps are .10, .12 and .16. At 20 items one token, scored linearly, jumps "
    "nearly as often as ten: such a jump says nothing of the metric."
)
SHOWN = 5  # tokens of panel A
APART = 1.15  # factor between points of different lengths


def draw(zeros: pd.DataFrame, tests: pd.DataFrame, plans: pd.DataFrame) -> Figure:
    """Panels A to D."""
    figure, (a, b, c, d) = panels(2, 2, height=2.9)
    lengths = sorted(tests["length"].unique())
    models = tests["models"].unique()
    family = tests[tests["models"] == (16 if 16 in models else models.max())].sort_values("n")
    shown = zeros[zeros["length"] == (SHOWN if SHOWN in lengths else lengths[-1])]
    sizes = sorted(shown["n"].unique())
    for kind, n in enumerate([sizes[round(i * (len(sizes) - 1) / 3)] for i in range(4)] if len(sizes) > 4 else sizes):
        at = shown[shown["n"] == n].sort_values("scale")
        curve(a, at["scale"], at["law"], label=f"{n:,} items, law", kind=kind, marker=False, named=False)
        curve(a, at["scale"], at["share"], at["low"], at["high"], label=f"{n:,} items", kind=kind, line=False)
    for kind, length in enumerate(lengths):
        of, name = family[family["length"] == length], f"L = {length}"
        x = of["n"] * APART ** (kind - (len(lengths) - 1) / 2)
        curve(b, of["n"], of["seen_from"], label=f"{name}, seen with 95%", kind=kind, marker=False, named=False)
        curve(b, x, of["onset_q50"], of["onset_q05"], of["onset_q95"], label=name, kind=kind, line=False)
        for goal, look in (("seen", {}), ("precise", {"marker": False, "linewidth": 0.8})):
            at = plans[(plans["kind"] == goal) & (plans["length"] == length)].sort_values("scale")
            curve(c, at["scale"], at["items"], label=f"{name}, {goal}", kind=kind, named=False, **look)
        curve(d, of["n"], of["jumps"], of["jumps_low"], of["jumps_high"], label=name, kind=kind, named=False)
    for ax in (a, b, c, d):
        log_axis(ax)
    for ax in (b, c):
        log_axis(ax, "y")
    low, high = zeros["scale"].min(), zeros["scale"].max()
    a.set(xlabel="parameters", ylabel="share of tests that show 0", title="A tests without a right answer")
    b.set(xlabel="test items", ylabel="parameters", title="B where the ability seems to begin", ylim=(low / 1.6, high))
    c.set(xlabel="parameters", ylabel="test items", title="C items that would have shown it")
    d.set(xlabel="test items", ylabel="share of tests", title="D tests with a jump", ylim=(-0.03, 1.03))
    a.legend(loc="upper right")
    figure.legend(*b.get_legend_handles_labels(), loc="outside lower center", ncols=4, title="target length, B to D")
    return figure

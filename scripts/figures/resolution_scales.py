"""What families of few models make of one smooth law."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import GREY, curve, level, log_axis, panels

TABLES = ("resolution_curves", "resolution_families", "resolution_tests")
DATA = "simulated"
TITLE = "Too few models: the same law jumps at its end, and the emergence score counts the models"
CAPTION = (
    "Exact match of the toy model; no sampling noise but in F; grey: a score that is straight in log N. A: nine "
    "models up to 1B and one, two or eight beyond, targets of 5 tokens, by rank, which is all that the emergence "
    "score sees (against log N they lie on one smooth curve). B: largest step between neighbours in such families. C: "
    "the last step when the largest of 16 models are left out: with 5 tokens and more, wherever the family ends the "
    "score seems to take off there. D: largest step of families over the whole range, evenly spaced (lines) or "
    "anywhere in log N (points: median and 5 to 95% of 20,000 families, a million in the full preset). E: emergence "
    "score of evenly spaced families, that of a straight line being M - 1: it follows the number of models more than "
    "the length. F: emergence score (with its noise floor, targets of 5 tokens) of simulated tests, median and 5 to "
    "95%: over many models small tests hold it down. Without the floor it is infinite in 5% of tests of 20 items over "
    "16 models, and in 62% at 10 tokens."
)
SHOWN = 5  # tokens of panels A and F
LARGE = (1, 2, 8)  # large models of panel A
STRAIGHT: dict[str, Any] = {"marker": False, "color": GREY, "linestyle": "-", "linewidth": 0.9}


def draw(curves: pd.DataFrame, families: pd.DataFrame, tests: pd.DataFrame) -> Figure:
    """Panels A to F."""
    figure, (a, b, c, d, e, f) = panels(2, 3, height=2.7)
    lengths = sorted(families["length"].unique())
    shown = SHOWN if SHOWN in lengths else lengths[-1]
    own = curves[curves["length"] == shown].sort_values("scale")
    numbers = sorted(own["number"].unique())
    for kind, large in enumerate([n for n in LARGE if n in numbers] or numbers[:1]):
        at = own[own["number"] == large]
        curve(a, range(1, len(at) + 1), at["score"], label=f"{large} large", kind=kind + 3)
    for kind, length in enumerate(lengths):
        of, name = families[families["length"] == length].sort_values("number"), f"L = {length}"
        few, cut, even, random = (of[of["design"] == design] for design in ("few_large", "dropped", "even", "random"))
        curve(b, few["number"], few["step"], label=name, kind=kind)
        curve(c, cut["number"], cut["last_step"], label=name, kind=kind, named=False)
        curve(d, even["number"], even["step"], label=f"{name}, even", kind=kind, marker=False, named=False)
        x = random["number"] * 1.06 ** (kind - (len(lengths) - 1) / 2)
        ends = random["step_q05"], random["step_q95"]
        curve(d, x, random["step"], *ends, label=f"{name}, anywhere", kind=kind, line=False, named=False)
        curve(e, even["number"], even["emergence"], label=name, kind=kind, named=False)
    line = families[families["length"] == lengths[0]].sort_values("number")
    for ax, design, column in (
        (b, "few_large", "step_of_line"),
        (c, "dropped", "last_step_of_line"),
        (d, "even", "step_of_line"),
    ):
        of = line[line["design"] == design]
        curve(ax, of["number"], of[column], label="straight in log N", named=ax is b, **STRAIGHT)
    counted = line.loc[line["design"] == "even", "number"]
    curve(e, counted, counted - 1, label="straight in log N", named=False, **STRAIGHT)
    own = tests[tests["length"] == shown].sort_values("models")
    sizes = sorted(own["n"].unique())
    for kind, n in enumerate([sizes[round(i * (len(sizes) - 1) / 3)] for i in range(4)] if len(sizes) > 4 else sizes):
        at = own[own["n"] == n]
        ends = at["emergence_q05"], at["emergence_q95"]
        x = at["models"] * 1.06 ** (kind - (min(len(sizes), 4) - 1) / 2)
        curve(f, x, at["emergence_q50"], *ends, label=f"{n:,} items", kind=kind + 3, line=False)
    for ax in (d, e, f):
        log_axis(ax, "x", ticks=(4, 8, 16, 32))
    for ax in (e, f):
        log_axis(ax, "y", ticks=(2, 5, 10, 20, 50))
        ax.set(xlabel="models M", ylabel="emergence score")
    for ax in (b, d):
        level(ax, 0.25, "a quarter")
    a.set(xlabel="models in order of size", ylabel="exact match", title="A few large models")
    b.set(xlabel="large models", ylabel="share of the range", title="B largest step")
    c.set(xlabel="largest models left out", ylabel="share of the range", title="C last step")
    d.set(xlabel="models M", ylabel="share of the range", title="D largest step")
    e.set(title="E emergence score")
    f.set(title="F the same, measured")
    a.legend(loc="upper left")
    f.set(ylim=(0.5, 60))
    f.legend(loc="lower right")
    figure.legend(*b.get_legend_handles_labels(), loc="outside lower center", ncols=5, title="target length, B to E")
    return figure

"""What independence of the tokens hides."""

import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels
from mirage_jax.table import select
from sims.correlated import DEPENDENCE

TABLES = ("correlated", "correlated_ratios", "correlated_widths")
DATA = "simulated"
TITLE = "The same error rate at every token, and exact match anything but p to the L"
CAPTION = (
    "Answers of 10 tokens whose errors hang together: as a Markov chain of the stated correlation, through items of "
    "unequal difficulty (the same correlation between any two tokens), or in cascades (after a first error each later "
    "token is wrong with the stated rate). A: exact match; lines are exact laws, points 100,000 simulated answers (a "
    "billion in the full preset), intervals smaller than the points; the cascade lies on the independent curve. B: "
    "independence ratio, where exact match is at least .001. C: effective length at the largest scale, the slope of "
    "exact match in small error rates: 10 for independent tokens, 1 where one error means all. D: decades of scale "
    "between exact match .1 and .9: correlation changes it by less than a tenth, and length, for independent tokens "
    "(correlation 0), not at all."
)
LENGTH = 10
SHOWN = (("independent", None), ("markov", 0.3), ("markov", 0.7), ("beta_mixed", 0.3), ("cascade", 0.9))
WORDS = {"independent": "independent", "markov": "Markov", "beta_mixed": "unequal items", "cascade": "cascade"}


def draw(correlated: pd.DataFrame, ratios: pd.DataFrame, widths: pd.DataFrame) -> Figure:
    """Panels A and B over scale, C and D over the strength of the dependence."""
    figure, (a, b, c, d) = panels(2, 2, height=2.7)
    for kind, (process, strength) in enumerate(SHOWN):
        name = WORDS[process] + (f" {strength:g}" if strength else "")
        options = {"process": process} | ({DEPENDENCE[process]: strength} if strength else {})
        rows = correlated[(correlated["metric"] == "exact_match") & (correlated["length"] == LENGTH)]
        rows = select(rows, **options).sort_values("scale")
        law, drawn = (rows[rows["source"] == source] for source in ("closed_form", "simulated"))
        curve(a, law["scale"], law["score"], label=name, kind=kind, marker=False)
        curve(
            a, drawn["scale"], drawn["score"], drawn["low"], drawn["high"], label=f"{name}, simulated", kind=kind,
            line=False, named=False,
        )  # fmt: skip
        of = _of(ratios, process, strength, LENGTH).sort_values("scale")
        of = of[of["scale"].isin(law.loc[law["score"] >= 0.001, "scale"])]
        curve(b, of["scale"], of["independence_ratio"], label=name, kind=kind, marker=False)
    largest = ratios[ratios["scale"] == ratios["scale"].max()]
    for process in ("markov", "beta_mixed"):
        kind = [shown for shown, _ in SHOWN].index(process)
        of = pd.concat([_of(largest, p, s, LENGTH) for p, s in _strengths(largest, process)]).fillna({"strength": 0})
        curve(c, of["strength"], of["effective_length"], label=WORDS[process], kind=kind)
        for shift, length in enumerate((2, 20)):
            of = pd.concat([_of(widths, p, s, length) for p, s in _strengths(widths, process)]).fillna({"strength": 0})
            curve(d, of["strength"], of["width"], label=f"{WORDS[process]}, L = {length}", kind=kind + 3 * shift)
    for ax in (a, b):
        log_axis(ax)
        ax.set_xlabel("parameters")
    log_axis(b, "y")
    for ax in (c, d):
        ax.set_xlabel("correlation of errors")
    a.set(title="A exact match, L = 10", ylabel="share right")
    b.set(title="B independence ratio, L = 10", ylabel="joint rate / product")
    c.set(title="C effective length, L = 10", ylabel="tokens", ylim=(0, None))
    d.set(title="D width of the rise", ylabel="decades", ylim=(0, 6))
    a.legend(loc="upper left")
    c.legend()
    d.legend(loc="lower left")
    return figure


def _of(df: pd.DataFrame, process: str, strength: float | None, length: int) -> pd.DataFrame:
    same = df["strength"].isna() if strength is None else df["strength"] == strength
    return df[(df["process"] == process) & same & (df["length"] == length)]


def _strengths(df: pd.DataFrame, process: str) -> list[tuple[str, float | None]]:
    return [("independent", None), *((process, s) for s in sorted(set(df.loc[df["process"] == process, "strength"])))]
